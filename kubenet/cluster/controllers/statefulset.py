"""StatefulSet: pods with names, NAME-0 upwards, one after the other. Kubernetes: pkg/controller/statefulset.

OrderedReady: a pod is made when its predecessors are ready, and taken away from the top. Parallel: all at once. A
rolling update replaces pods from the highest number down to `partition`, each only after the one above it is ready
again. Each pod has hostname NAME-i and subdomain = serviceName, which gives it a DNS name under its headless Service.

simplified: no volumes, hence no claims; revisions are named by the template's hash, without ControllerRevision objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubenet.cluster.controller import Controller
from kubenet.cluster.controllers.common import (
    claim,
    controller_of,
    count_available,
    is_ready,
    is_terminal,
    matching_owners,
    owner_key,
    pod_from_template,
    template_hash,
)
from kubenet.cluster.events import EventRecorder
from kubenet.cluster.store import Event, Key, Store, key_of

Obj = dict[str, Any]

REVISION = "controller-revision-hash"
POD_NAME = "statefulset.kubernetes.io/pod-name"
INDEX = "apps.kubernetes.io/pod-index"


def ordinal(name: str, pod: Obj) -> int:
    """The number of a pod of the set, -1 if it is not one."""
    prefix, _, digits = pod["metadata"]["name"].rpartition("-")
    return int(digits) if prefix == name and digits.isdigit() else -1


class StatefulSetController(Controller):
    """Keeps each StatefulSet's numbered pods."""

    name = "statefulset-controller"
    kinds = ("StatefulSet", "Pod")

    def __init__(self, store: Store, **kwargs: Any) -> None:
        super().__init__(store, **kwargs)
        self.recorder = EventRecorder(store, self.name)

    def keys_for(self, event: Event) -> Iterable[Key]:
        if event.obj["kind"] == "StatefulSet":
            return (key_of(event.obj),)
        key = owner_key(event.obj, "StatefulSet")
        if key is not None:
            return (key,)
        return matching_owners(self.store, "StatefulSet", event.obj) if controller_of(event.obj) is None else ()

    def reconcile(self, key: Key) -> int | None:
        sts = self.store.get("StatefulSet", key)
        if sts is None:
            return None
        pods = {ordinal(key[1], p): p for p in claim(self.store, sts)}
        if "deletionTimestamp" not in sts["metadata"]:
            self._sync(sts, pods)
        return self._status(key)

    def _sync(self, sts: Obj, pods: dict[int, Obj]) -> None:
        """One round of making, removing and replacing; in order unless Parallel."""
        spec = sts["spec"]
        start = (spec.get("ordinals") or {}).get("start", 0)
        wanted = range(start, start + spec.get("replicas", 1))
        parallel = spec.get("podManagementPolicy") == "Parallel"
        for number in wanted:
            pod = pods.get(number)
            if pod is not None and is_terminal(pod) and "deletionTimestamp" not in pod["metadata"]:
                self.store.delete("Pod", key_of(pod))
                pod = self.store.get("Pod", key_of(pod))
            if pod is None:
                pods[number] = pod = self._make(sts, number)
            if not parallel and (not is_ready(pod) or "deletionTimestamp" in pod["metadata"]):
                return                                        # wait for this one before touching the next
        extra = sorted((n for n in pods if n not in wanted and n >= 0), reverse=True)
        for number in extra:
            if "deletionTimestamp" not in pods[number]["metadata"]:
                self._remove(sts, pods[number])
            if not parallel:
                return
        if not extra:
            self._update(sts, pods, list(wanted))

    def _update(self, sts: Obj, pods: dict[int, Obj], wanted: list[int]) -> None:
        """The highest pod with an old template goes, if all above it are ready. Kubernetes: updateStatefulSet()."""
        strategy = sts["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
        revision = self._revision(sts)
        for number in reversed(wanted):
            pod = pods[number]
            if number < partition:
                return
            if pod["metadata"].get("labels", {}).get(REVISION) != revision:
                if "deletionTimestamp" not in pod["metadata"]:
                    self._remove(sts, pod)
                return
            if not is_ready(pod):
                return

    def _revision(self, sts: Obj) -> str:
        return f"{sts['metadata']['name']}-{template_hash(sts['spec']['template'])}"

    def _make(self, sts: Obj, number: int) -> Obj:
        name = f"{sts['metadata']['name']}-{number}"
        labels = {POD_NAME: name, INDEX: str(number), REVISION: self._revision(sts)}
        pod = pod_from_template(self.store, sts, sts["spec"]["template"], name, **labels)
        pod["metadata"]["generateName"] = sts["metadata"]["name"] + "-"
        pod["spec"]["hostname"] = name
        pod["spec"]["subdomain"] = sts["spec"].get("serviceName", "")
        if not pod["spec"]["subdomain"]:
            del pod["spec"]["subdomain"]
        out = self.store.create(pod)
        self.recorder.event(sts, "Normal", "SuccessfulCreate",
                            f"create Pod {name} in StatefulSet {sts['metadata']['name']} successful")
        return out

    def _remove(self, sts: Obj, pod: Obj) -> None:
        self.store.delete("Pod", key_of(pod))
        self.recorder.event(sts, "Normal", "SuccessfulDelete", f"delete Pod {pod['metadata']['name']} in StatefulSet "
                            f"{sts['metadata']['name']} successful")

    def _status(self, key: Key) -> int | None:
        sts = self.store.get("StatefulSet", key)
        if sts is None:
            return None
        pods = [p for p in claim(self.store, sts) if ordinal(key[1], p) >= 0 and not is_terminal(p)]
        revision = self._revision(sts)
        updated = sum(1 for p in pods if p["metadata"].get("labels", {}).get(REVISION) == revision)
        ready = sum(1 for p in pods if is_ready(p))
        available, wait = count_available(pods, sts["spec"].get("minReadySeconds", 0), self.store)
        old = (sts.get("status") or {}).get("currentRevision", revision)
        done = updated == len(pods) == sts["spec"].get("replicas", 1) and ready == len(pods)
        status: Obj = {"observedGeneration": sts["metadata"].get("generation", 1), "replicas": len(pods),
                       "availableReplicas": available, "collisionCount": 0, "updateRevision": revision,
                       "currentRevision": revision if done else old}
        current = sum(1 for p in pods if p["metadata"].get("labels", {}).get(REVISION) == status["currentRevision"])
        for name, value in (("readyReplicas", ready), ("currentReplicas", current), ("updatedReplicas", updated)):
            if value:
                status[name] = value
        self.store.set_status("StatefulSet", key, status)
        return wait
