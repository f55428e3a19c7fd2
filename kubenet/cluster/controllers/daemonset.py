"""DaemonSet: one pod on every node that will have it. Kubernetes: pkg/controller/daemon.

Each pod is tied to its node by a required node affinity and scheduled by the scheduler, as in Kubernetes; it tolerates
the taints of sick nodes, so it stays. A rolling update replaces at most maxUnavailable pods at a time.

simplified: no maxSurge; revisions are named by the template's hash.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubenet.cluster.controller import Controller
from kubenet.cluster.controllers.common import (
    claim,
    count_available,
    is_active,
    is_ready,
    is_terminal,
    owner_key,
    pod_from_template,
    resolve_percent,
    template_hash,
)
from kubenet.cluster.events import EventRecorder
from kubenet.cluster.scheduler import affinity_fits, untolerated
from kubenet.cluster.store import Event, Key, Store, key_of

Obj = dict[str, Any]

REVISION = "controller-revision-hash"
_SICK = [("node.kubernetes.io/not-ready", "NoExecute"), ("node.kubernetes.io/unreachable", "NoExecute"),
         ("node.kubernetes.io/disk-pressure", "NoSchedule"), ("node.kubernetes.io/memory-pressure", "NoSchedule"),
         ("node.kubernetes.io/pid-pressure", "NoSchedule"), ("node.kubernetes.io/unschedulable", "NoSchedule")]


def daemon_pod(store: Store, ds: Obj, node: str, revision: str) -> Obj:
    """The set's pod for a node, not yet stored."""
    labels = {REVISION: revision, "pod-template-generation": str(ds["metadata"].get("generation", 1))}
    pod = pod_from_template(store, ds, ds["spec"]["template"], **labels)
    spec = pod["spec"]
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [term]}
    spec["tolerations"] = daemon_tolerations(spec)
    return pod


def daemon_tolerations(spec: Obj) -> list[Obj]:
    """The pod's own tolerations, and those for the taints of sick nodes."""
    own = [t for t in spec.get("tolerations") or () if "tolerationSeconds" not in t]
    extra = [{"effect": effect, "key": key, "operator": "Exists"} for key, effect in _SICK]
    if spec.get("hostNetwork"):
        extra.append({"effect": "NoSchedule", "key": "node.kubernetes.io/network-unavailable", "operator": "Exists"})
    return [*own, *(t for t in extra if t not in own)]


def target_node(pod: Obj) -> str:
    """The node a daemon pod is for, bound yet or not."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in affinity.get("nodeSelectorTerms") or ():
        for expr in term.get("matchFields") or ():
            return str(expr["values"][0])
    return ""


class DaemonSetController(Controller):
    """Keeps one pod of each DaemonSet on every eligible node."""

    name = "daemonset-controller"
    kinds = ("DaemonSet", "Pod", "Node")

    def __init__(self, store: Store, **kwargs: Any) -> None:
        super().__init__(store, **kwargs)
        self.recorder = EventRecorder(store, self.name)

    def keys_for(self, event: Event) -> Iterable[Key]:
        obj = event.obj
        if obj["kind"] == "DaemonSet":
            return (key_of(obj),)
        if obj["kind"] == "Node":
            old = event.old or {}
            if old.get("spec") == obj.get("spec") and old.get("metadata", {}).get("labels") == obj["metadata"].get("labels") and (
                    event.type == "MODIFIED"):
                return ()
            return [key_of(ds) for ds in self.store.iter("DaemonSet")]
        key = owner_key(obj, "DaemonSet")
        return (key,) if key else ()

    def _eligible(self, ds: Obj) -> list[str]:
        """Names of the nodes that should run a pod of the set."""
        spec = ds["spec"]["template"].get("spec") or {}
        probe: Obj = {"spec": {**spec, "tolerations": daemon_tolerations(spec)}}
        return [n["metadata"]["name"] for n in self.store.iter("Node")
                if affinity_fits(probe, n) and untolerated(probe, n) is None]

    def reconcile(self, key: Key) -> int | None:
        ds = self.store.get("DaemonSet", key)
        if ds is None:
            return None
        pods = claim(self.store, ds)
        nodes = self._eligible(ds)
        if "deletionTimestamp" not in ds["metadata"]:
            self._sync(ds, pods, nodes)
        return self._status(key, nodes)

    def _sync(self, ds: Obj, pods: list[Obj], nodes: list[str]) -> None:
        revision = template_hash(ds["spec"]["template"])
        have: dict[str, list[Obj]] = {}
        for pod in pods:
            have.setdefault(target_node(pod), []).append(pod)
        for node, found in have.items():
            active = [p for p in found if is_active(p)]
            surplus = active if node not in nodes else active[1:]
            for pod in [*surplus, *(p for p in found if is_terminal(p) and "deletionTimestamp" not in p["metadata"])]:
                self._remove(ds, pod)
        for node in nodes:
            if not any(not is_terminal(p) for p in have.get(node, ())):
                pod = self.store.create(daemon_pod(self.store, ds, node, revision))
                self.recorder.event(ds, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
        self._roll(ds, have, nodes, revision)

    def _roll(self, ds: Obj, have: dict[str, list[Obj]], nodes: list[str], revision: str) -> None:
        strategy = ds["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        allowed = (strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1)
        budget = max(resolve_percent(allowed, len(nodes), up=True), 1)
        down = sum(1 for n in nodes if not any(is_ready(p) and is_active(p) for p in have.get(n, ())))
        for node in nodes:
            for pod in have.get(node, ()):
                if not is_active(pod) or pod["metadata"].get("labels", {}).get(REVISION) == revision:
                    continue
                if is_ready(pod):
                    if down >= budget:
                        continue
                    down += 1
                self._remove(ds, pod)

    def _remove(self, ds: Obj, pod: Obj) -> None:
        self.store.delete("Pod", key_of(pod))
        self.recorder.event(ds, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")

    def _status(self, key: Key, nodes: list[str]) -> int | None:
        ds = self.store.get("DaemonSet", key)
        if ds is None:
            return None
        revision = template_hash(ds["spec"]["template"])
        pods = [p for p in claim(self.store, ds) if is_active(p)]
        on = [p for p in pods if target_node(p) in nodes]
        available, wait = count_available(on, ds["spec"].get("minReadySeconds", 0), self.store)
        status: Obj = {
            "currentNumberScheduled": len({target_node(p): None for p in on}), "numberMisscheduled": len(pods) - len(on),
            "desiredNumberScheduled": len(nodes), "numberReady": sum(1 for p in on if is_ready(p)),
            "observedGeneration": ds["metadata"].get("generation", 1)}
        updated = sum(1 for p in on if p["metadata"].get("labels", {}).get(REVISION) == revision)
        for name, value in (("updatedNumberScheduled", updated), ("numberAvailable", available),
                            ("numberUnavailable", len(nodes) - available)):
            if value:
                status[name] = value
        self.store.set_status("DaemonSet", key, status)
        return wait
