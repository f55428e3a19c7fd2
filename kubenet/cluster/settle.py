"""Has the cluster become what was applied? "Settled" is when nothing more will happen by itself, as far as people care.

A pod that cannot run (unknown image, crash loop, nowhere to be scheduled) is settled too: waiting longer would not help; it is
listed where the caller asks what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from kubenet.cluster.controllers.common import is_ready
from kubenet.cluster.store import key_of

if TYPE_CHECKING:
    from kubenet.cluster.cluster import Cluster
    from kubenet.cluster.pod_worker import PodWorker

Obj = dict[str, Any]

STUCK = ("ImagePullBackOff", "ErrImagePull", "CrashLoopBackOff", "CreateContainerConfigError", "RunContainerError", "StartError",
         "PostStartHookError")


def unsettled(cluster: Cluster) -> list[str]:
    """What is still on its way, one line each; [] when settled."""
    for stage in _stages(cluster):
        if out := list(stage):
            return out
    return []


def settled(cluster: Cluster) -> bool:
    """Nothing is on its way. Looks no further than to the first thing that is."""
    return not any(True for stage in _stages(cluster) for _ in stage)


def _stages(cluster: Cluster) -> Iterator[Iterable[str]]:
    """The lines, stage by stage: what comes after waits for what comes before, and is no news while that is under way."""
    yield _objects(cluster)
    yield (f"{c.name or type(c).__name__}: work queued" for c in cluster.controllers if not c.idle)
    yield (f"kube-proxy on {node.name}: rules not written yet" for node in cluster.nodes.values()
           if node.proxy is not None and node.proxy.has_pending)
    yield cluster.balancer.pending()


def _objects(cluster: Cluster) -> Iterator[str]:
    for pod in cluster.store.iter("Pod"):
        if line := _pod(cluster, pod):
            yield line
    for kind in ("Deployment", "ReplicaSet", "StatefulSet"):
        for obj in cluster.store.iter(kind):
            if line := _workload(obj):
                yield line


def _pod(cluster: Cluster, pod: Obj) -> str:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return f"pod/{name}: Terminating"
    phase = status.get("phase", "Pending")
    if is_ready(pod) or phase in ("Succeeded", "Failed") or stuck_reason(pod):
        return ""
    if not pod["spec"].get("nodeName"):
        return f"pod/{name}: not scheduled yet"
    worker = _worker(cluster, pod)
    if worker is not None and (phase == "Running" and worker.failing() or worker.mount_error):
        return ""
    waiting = [s["state"]["waiting"]["reason"] for s in status.get("containerStatuses") or [] if "waiting" in s.get("state", {})]
    return f"pod/{name}: {waiting[0] if waiting else phase}"


def _worker(cluster: Cluster, pod: Obj) -> PodWorker | None:
    """What the kubelet knows of a pod: that a readiness probe has reached its failure threshold, that a volume is missing."""
    node = cluster.nodes.get(pod["spec"]["nodeName"])
    return node.kubelet.workers.get(key_of(pod)) if node is not None and node.kubelet is not None else None


def blocked(cluster: Cluster) -> list[str]:
    """Settled, and yet not running: pods whose volumes cannot be set up, one line each. Their status does not say so, only an Event."""
    return [f"pod/{worker.key[1]}: ContainerCreating: {worker.mount_error}" for node in cluster.nodes.values()
            if node.kubelet is not None for worker in node.kubelet.workers.values() if worker.mount_error and worker.net is None]


def stuck_reason(pod: Obj) -> str:
    """Why the pod will not run by itself, or ""."""
    status = pod.get("status") or {}
    for entry in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = entry.get("state", {})
        reason = state.get("waiting", state.get("terminated", {})).get("reason", "")
        if reason in STUCK:
            return str(reason)
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return "Unschedulable"
    return ""


def _workload(obj: Obj) -> str:
    """A controller that has not looked at the newest spec, or has not made its pods yet."""
    status, meta = obj.get("status") or {}, obj["metadata"]
    name = f"{obj['kind'].lower()}/{meta['name']}"
    if status.get("observedGeneration", 0) < meta.get("generation", 1):
        return f"{name}: not observed yet"
    if status.get("replicas", 0) != obj["spec"].get("replicas", 1):
        return f"{name}: {status.get('replicas', 0)} of {obj['spec'].get('replicas', 1)} pods"
    return ""
