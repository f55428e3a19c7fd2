"""Nodes: a pod CIDR each, and what happens when one falls silent. Kubernetes: nodeipam, nodelifecycle, tainteviction.

    no Lease renewed for 50 s  ->  conditions Unknown, taint unreachable, its pods not ready (so out of the slices)
    Ready=False                ->  taint not-ready, its pods not ready
    node deleted               ->  its pods are removed 40 s later
    taint NoExecute            ->  pods are deleted after their tolerationSeconds (300 s by default)

A node that never had a Lease is judged by its Ready condition alone. simplified: no zones' eviction rates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubenet.cluster.api.table import seconds_of
from kubenet.cluster.controller import Controller
from kubenet.cluster.controllers.common import condition, is_ready, set_condition
from kubenet.cluster.events import EventRecorder
from kubenet.cluster.ipam import NodeCidrs, PoolFull
from kubenet.cluster.store import Event, Key, Store, key_of
from kubenet.units import SEC

Obj = dict[str, Any]

GRACE = 50 * SEC                                     # --node-monitor-grace-period
QUARANTINE = 40 * SEC                                # how long the pods of a deleted node are kept
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
OURS = (NOT_READY, UNREACHABLE, UNSCHEDULABLE)
LEASES = "kube-node-lease"


def wanted_taints(node: Obj) -> list[tuple[str, str]]:
    """(key, effect) of the taints that follow from a node's conditions and spec."""
    ready = condition(node, "Ready")
    out: list[tuple[str, str]] = []
    if ready is not None and ready.get("status") != "True":
        key = NOT_READY if ready.get("status") == "False" else UNREACHABLE
        out += [(key, "NoSchedule"), (key, "NoExecute")]
    if node["spec"].get("unschedulable"):
        out.append((UNSCHEDULABLE, "NoSchedule"))
    return out


def tolerated(pod: Obj, taint: Obj) -> Obj | None:
    """The toleration that covers a taint, the one with the shortest stay first, or None."""
    fitting = [t for t in pod["spec"].get("tolerations") or () if covers(t, taint)]
    return min(fitting, key=lambda t: t.get("tolerationSeconds", 1 << 40)) if fitting else None


def covers(toleration: Obj, taint: Obj) -> bool:
    """True if the toleration matches the taint. Kubernetes: Toleration.ToleratesTaint()."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


class NodeController(Controller):
    """Gives nodes pod CIDRs, and keeps their taints and their pods' readiness in step with their conditions."""

    name = "node-controller"
    kinds = ("Node", "Lease", "Pod")

    def __init__(self, store: Store, cluster_cidr: str = "10.48.0.0/16", **kwargs: Any) -> None:
        super().__init__(store, **kwargs)
        self.cidrs = NodeCidrs(cluster_cidr)
        self._gone: dict[Key, int] = {}                  # nodes that were deleted, and when
        self.recorder = EventRecorder(store, self.name)

    def keys_for(self, event: Event) -> Iterable[Key]:
        obj = event.obj
        if obj["kind"] == "Node":
            if event.type == "DELETED":
                self.cidrs.release(obj["metadata"]["name"])
                self._gone[key_of(obj)] = self.clock.now
            else:
                self._gone.pop(key_of(obj), None)
            return (key_of(obj),)
        if obj["kind"] == "Lease":
            return (("", obj["metadata"]["name"]),) if obj["metadata"].get("namespace") == LEASES else ()
        node = self.store.get("Node", ("", obj["spec"].get("nodeName", "")))
        return (key_of(node),) if node is not None and node["spec"].get("taints") else ()

    def reconcile(self, key: Key) -> int | None:
        node = self.store.get("Node", key)
        if node is None:
            return self._orphans(key)
        if "deletionTimestamp" in node["metadata"]:
            return None
        node = self._cidr(node)
        node, wait = self._silence(node)
        node = self._taint(node)
        later = self._pods(node)
        waits = [w for w in (wait, later) if w is not None]
        return min(waits) if waits else None

    def _orphans(self, key: Key) -> int | None:
        """Pods bound to a node that does not exist any more go, after a while. Kubernetes: podgc gcOrphaned()."""
        left = self._gone.get(key, self.clock.now) + QUARANTINE - self.clock.now
        if left > 0:
            return left
        self._gone.pop(key, None)
        for pod in self.store.list("Pod"):
            if pod["spec"].get("nodeName") == key[1]:
                self.store.delete("Pod", key_of(pod), grace=0)
        return None

    def _cidr(self, node: Obj) -> Obj:
        name, have = node["metadata"]["name"], node["spec"].get("podCIDR")
        if have:
            self.cidrs.pin(name, have)
            return node
        try:
            cidr = self.cidrs.allocate(name)
        except PoolFull as full:
            self.recorder.event(node, "Normal", "CIDRNotAvailable", f"Node {name} status is now: CIDRNotAvailable ({full})")
            return node
        return self.store.replace({**node, "metadata": dict(node["metadata"]),
                                   "spec": {**node["spec"], "podCIDR": cidr, "podCIDRs": [cidr]}})

    def _silence(self, node: Obj) -> tuple[Obj, int | None]:
        """(the node, ns until its lease runs out); its Ready condition is Unknown if it has."""
        lease = self.store.get("Lease", (LEASES, node["metadata"]["name"]))
        renewed = seconds_of((lease or {}).get("spec", {}).get("renewTime"))
        if renewed is None:
            return node, None
        left = (renewed - self.store.epoch_s) * SEC + GRACE - self.clock.now
        if left > 0:
            return node, left
        ready = condition(node, "Ready")
        if ready is not None and ready.get("status") == "Unknown":
            return node, None
        status = dict(node.get("status") or {})
        status["conditions"] = set_condition(list(status.get("conditions", ())), {
            "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status."}, self.store.now_text())
        self.recorder.event(node, "Normal", "NodeNotReady",
                            f"Node {node['metadata']['name']} status is now: NodeNotReady")
        return self.store.set_status("Node", key_of(node), status), None

    def _taint(self, node: Obj) -> Obj:
        have = node["spec"].get("taints") or []
        wanted = wanted_taints(node)
        kept = [t for t in have if t["key"] not in OURS or (t["key"], t["effect"]) in wanted]
        known = [(t["key"], t["effect"]) for t in kept]
        now = self.store.now_text()
        made: list[Obj] = []
        for taint_key, effect in wanted:
            if (taint_key, effect) not in known:
                made.append({"key": taint_key, "effect": effect, **({"timeAdded": now} if effect == "NoExecute" else {})})
        taints = [*kept, *made]
        if taints == have:
            return node
        spec = {k: v for k, v in node["spec"].items() if k != "taints"}
        if taints:
            spec["taints"] = taints
        return self.store.replace({**node, "metadata": dict(node["metadata"]), "spec": spec})

    def _pods(self, node: Obj) -> int | None:
        """Pods on a node that is not ready are not ready; those whose toleration has run out are deleted."""
        ready = condition(node, "Ready")
        sick = ready is not None and ready.get("status") != "True"
        taints = [t for t in node["spec"].get("taints") or () if t.get("effect") == "NoExecute"]
        if not sick and not taints:
            return None
        waits: list[int] = []
        for pod in self.store.list("Pod"):
            if pod["spec"].get("nodeName") != node["metadata"]["name"]:
                continue
            if sick and is_ready(pod):
                status = dict(pod["status"])
                status["conditions"] = set_condition(list(status["conditions"]), {
                    "type": "Ready", "status": "False"}, self.store.now_text())
                pod = self.store.set_status("Pod", key_of(pod), status)
            wait = self._evict(pod, taints)
            if wait is not None:
                waits.append(wait)
        return min(waits) if waits else None

    def _evict(self, pod: Obj, taints: list[Obj]) -> int | None:
        if "deletionTimestamp" in pod["metadata"]:
            return None
        left: int | None = None
        for taint in taints:
            toleration = tolerated(pod, taint)
            stay = 0 if toleration is None else toleration.get("tolerationSeconds")
            if stay is None:
                continue
            since = seconds_of(taint.get("timeAdded"))
            start = 0 if since is None else since - self.store.epoch_s
            due = (start + stay) * SEC - self.clock.now
            left = due if left is None else min(left, due)
        if left is not None and left <= 0:
            self.recorder.event(pod, "Normal", "TaintManagerEviction",
                                f"Marking for deletion Pod {'/'.join(key_of(pod))}")
            self.store.delete("Pod", key_of(pod))
            return None
        return left
