"""From what a person types to the container that runs it: pod/NAME, node/NAME, deploy/NAME, or a bare name.

A bare name is a pod first, then a node, then an outside client. A service is refused with the pods behind it, and an unknown
name with the nearest known one.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from kubenet.cluster.store import key_of
from kubenet.errors import NotFoundError, UsageError, WrongMomentError
from kubenet.userland.container import Container

if TYPE_CHECKING:
    from kubenet.cluster.cluster import Cluster

Obj = dict[str, Any]


def find_container(cluster: Cluster, target: str, namespace: str, container: str = "") -> Container:
    """The running container that `target` names. NotFoundError, UsageError, WrongMomentError."""
    kind, _, name = target.rpartition("/")
    if kind in ("", "pod", "po", "pods"):
        pod = cluster.store.get("Pod", (namespace, name))
        if pod is not None:
            return pod_container(cluster, pod, container)
        if kind:
            raise _no_such("pod", name, namespace, [p["metadata"]["name"] for p in cluster.store.iter("Pod", namespace)])
    if kind in ("", "node", "no", "nodes"):
        machine = cluster.machines.get(name)
        if machine is not None:
            return machine
        if kind:
            raise _no_such("node", name, "", list(cluster.machines))
    if kind in ("deploy", "deployment", "deployments", "deployment.apps"):
        return pod_container(cluster, _pod_of_deployment(cluster, name, namespace), container)
    if kind:
        raise UsageError(f"cannot run commands in {target!r}", why="commands run in pods, on nodes and in pods of deployments",
                         try_="kubenet get pods")
    _refuse_service(cluster, name, namespace)
    known = [p["metadata"]["name"] for p in cluster.store.iter("Pod", namespace)] + list(cluster.machines)
    raise _no_such("pod or node", name, namespace, known)


def pod_container(cluster: Cluster, pod: Obj, name: str = "") -> Container:
    """The container of a pod, the first one unless named. WrongMomentError while it does not run."""
    names = [c["name"] for c in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]]
    wanted = name or (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container") or names[0]
    pod_name = pod["metadata"]["name"]
    if wanted not in names:
        raise NotFoundError(f"container {wanted} is not valid for pod {pod_name}", why=f"it has: {', '.join(names)}",
                            try_=f"kubenet exec {pod_name} -c {names[0]} -- sh")
    node = cluster.nodes.get(pod["spec"].get("nodeName", ""))
    worker = node.kubelet.workers.get(key_of(pod)) if node is not None and node.kubelet is not None else None
    record = next((r for r in worker.records if r.name == wanted), None) if worker is not None else None
    if record is None or record.container is None or not record.container.running:
        why = record.reason if record is not None else (pod.get("status") or {}).get("phase", "Pending")
        raise WrongMomentError(f'container "{wanted}" in pod "{pod_name}" is not running: {why}',
                               why=(record.message if record is not None else "") or "the pod has not started, or has ended",
                               try_=f"kubenet describe pod {pod_name}")
    return record.container


def running_container(cluster: Cluster, name: str, namespace: str) -> Container:
    """Any container of the pod that runs, for what needs the pod's network only. NotFoundError, WrongMomentError."""
    pod = cluster.store.get("Pod", (namespace, name))
    if pod is None:
        raise _no_such("pod", name, namespace, [p["metadata"]["name"] for p in cluster.store.iter("Pod", namespace)])
    node = cluster.nodes.get(pod["spec"].get("nodeName", ""))
    worker = node.kubelet.workers.get(key_of(pod)) if node is not None and node.kubelet is not None else None
    for record in worker.records if worker is not None else ():
        if record.container is not None and record.container.running:
            return record.container
    phase = (pod.get("status") or {}).get("phase", "Pending")
    raise WrongMomentError(f"unable to forward port because pod is not running. Current status={phase}",
                           try_=f"kubenet describe pod {name}")


def _pod_of_deployment(cluster: Cluster, name: str, namespace: str) -> Obj:
    if cluster.store.get("Deployment", (namespace, name)) is None:
        known = [d["metadata"]["name"] for d in cluster.store.iter("Deployment", namespace)]
        raise _no_such("deployment", name, namespace, known)
    for pod in cluster.store.iter("Pod", namespace):
        owner = next((o for o in pod["metadata"].get("ownerReferences") or [] if o.get("controller")), None)
        replica_set = cluster.store.by_uid(owner["uid"]) if owner else None
        if replica_set is None or pod["metadata"].get("deletionTimestamp"):
            continue
        if any(o.get("name") == name and o.get("kind") == "Deployment" for o in replica_set["metadata"].get("ownerReferences") or []):
            return pod
    raise WrongMomentError(f"deployment {name} has no pods", try_=f"kubenet describe deploy {name}")


def _refuse_service(cluster: Cluster, name: str, namespace: str) -> None:
    if cluster.store.get("Service", (namespace, name)) is None:
        return
    pods = [e["targetRef"]["name"] for s in cluster.store.iter("EndpointSlice", namespace)
            if (s["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == name
            for e in s.get("endpoints") or [] if (e.get("targetRef") or {}).get("kind") == "Pod"]
    behind = f"     (pods behind it: {', '.join(pods)})" if pods else ""
    raise UsageError(f'"{name}" is a service; commands run in pods or on nodes.',
                     try_=f"kubenet exec {pods[0] if pods else 'POD'} -- ss -ltn{behind}")


def _no_such(kind: str, name: str, namespace: str, known: list[str]) -> NotFoundError:
    near = difflib.get_close_matches(name, known, 1)
    where = f" in namespace {namespace}" if namespace else ""
    hint = f" Did you mean {near[0]}?" if near else ""
    return NotFoundError(f'no {kind} "{name}"{where}.{hint}', try_="" if near else "kubenet get pods,nodes")


def address_of(cluster: Cluster, name: str, namespace: str) -> str:
    """The address of a Service, pod or machine of this name; "" if there is none. For those who cannot ask the cluster's DNS."""
    service = cluster.store.get("Service", (namespace, name))
    if service is not None and service["spec"].get("clusterIP", "None") != "None":
        return str(service["spec"]["clusterIP"])
    pod = cluster.store.get("Pod", (namespace, name))
    if pod is not None:
        return str((pod.get("status") or {}).get("podIP", ""))
    node = cluster.nodes.get(name)
    return node.ip if node is not None else ""
