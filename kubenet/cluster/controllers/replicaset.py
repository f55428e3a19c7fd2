"""ReplicaSet: as many pods as asked for. Kubernetes: pkg/controller/replicaset/replica_set.go.

Too few: pods are made from the template. Too many: those that help least go first (ranking below). Pods are claimed by
selector, so a pod whose labels are changed is replaced and left alone.

simplified: no slow start in batches and no expectations; the store is always up to date here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubenet.cluster.api.table import seconds_of
from kubenet.cluster.controller import Controller
from kubenet.cluster.controllers.common import (
    claim,
    controller_of,
    count_available,
    is_active,
    is_ready,
    matching_owners,
    owner_key,
    pod_from_template,
)
from kubenet.cluster.events import EventRecorder
from kubenet.cluster.store import Event, Key, Store, key_of

Obj = dict[str, Any]


def deletion_rank(pod: Obj, on_node: dict[str, int]) -> tuple[int, int, int, int, int, int, int, str]:
    """Sort key: the first to be deleted comes first. Kubernetes: ActivePodsWithRanks.Less()."""
    status = pod.get("status") or {}
    node = pod["spec"].get("nodeName", "")
    ready = is_ready(pod)
    cost = pod["metadata"].get("annotations", {}).get("controller.kubernetes.io/pod-deletion-cost", "0")
    restarts = max((c.get("restartCount", 0) for c in status.get("containerStatuses", ())), default=0)
    since = next((seconds_of(c.get("lastTransitionTime")) or 0 for c in status.get("conditions", ())
                  if c.get("type") == "Ready"), 0)
    return (
        1 if node else 0,
        {"Pending": 0, "Unknown": 1, "Running": 2}.get(status.get("phase", "Pending"), 0),
        1 if ready else 0,
        int(cost) if cost.lstrip("-").isdigit() else 0,
        -on_node.get(node, 0),
        -since if ready else 0,                                  # ready for a shorter time goes first
        -restarts,
        pod["metadata"].get("creationTimestamp", ""),
    )


def victims(pods: list[Obj], count: int) -> list[Obj]:
    """The pods to delete when `count` are too many."""
    on_node: dict[str, int] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName", "")
        on_node[node] = on_node.get(node, 0) + 1
    ranked = sorted(pods, key=lambda p: p["metadata"]["name"])
    ranked.sort(key=lambda p: p["metadata"].get("creationTimestamp", ""), reverse=True)      # newer first among equals
    return sorted(ranked, key=lambda p: deletion_rank(p, on_node)[:-1])[:count]


class ReplicaSetController(Controller):
    """Keeps each ReplicaSet's pods at spec.replicas."""

    name = "replicaset-controller"
    kinds = ("ReplicaSet", "Pod")

    def __init__(self, store: Store, **kwargs: Any) -> None:
        super().__init__(store, **kwargs)
        self.recorder = EventRecorder(store, self.name)

    def keys_for(self, event: Event) -> Iterable[Key]:
        if event.obj["kind"] == "ReplicaSet":
            return (key_of(event.obj),)
        keys = [k for obj in (event.obj, event.old) if obj is not None and (k := owner_key(obj, "ReplicaSet")) is not None]
        if not keys and controller_of(event.obj) is None:
            keys = matching_owners(self.store, "ReplicaSet", event.obj)
        return dict.fromkeys(keys)

    def reconcile(self, key: Key) -> int | None:
        rs = self.store.get("ReplicaSet", key)
        if rs is None:
            return None
        pods = [p for p in claim(self.store, rs) if is_active(p)]
        if "deletionTimestamp" not in rs["metadata"]:
            pods = self._scale(rs, pods)
        return self._status(key, pods)

    def _scale(self, rs: Obj, pods: list[Obj]) -> list[Obj]:
        wanted = rs["spec"].get("replicas", 1)
        for _ in range(wanted - len(pods)):
            pod = self.store.create(pod_from_template(self.store, rs, rs["spec"]["template"]))
            self.recorder.event(rs, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
            pods = [*pods, pod]
        for pod in victims(pods, len(pods) - wanted) if len(pods) > wanted else ():
            self.store.delete("Pod", key_of(pod))
            self.recorder.event(rs, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")
            pods = [p for p in pods if p is not pod]
        return pods

    def _status(self, key: Key, pods: list[Obj]) -> int | None:
        rs = self.store.get("ReplicaSet", key)
        if rs is None:
            return None
        labels = (rs["spec"]["template"].get("metadata") or {}).get("labels") or {}
        full = sum(1 for p in pods if all(p["metadata"].get("labels", {}).get(k) == v for k, v in labels.items()))
        available, wait = count_available(pods, rs["spec"].get("minReadySeconds", 0), self.store)
        status: Obj = {"replicas": len(pods)}
        for name, value in (("fullyLabeledReplicas", full), ("readyReplicas", sum(1 for p in pods if is_ready(p))),
                            ("availableReplicas", available)):
            if value:
                status[name] = value
        status["observedGeneration"] = rs["metadata"].get("generation", 1)
        self.store.set_status("ReplicaSet", key, status)
        return wait
