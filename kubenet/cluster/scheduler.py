"""The scheduler: a node for every pod that has none. Kubernetes: pkg/scheduler, its default plugins in small.

Filters, in the order in which their reasons are counted: unschedulable nodes, taints, node selector and required node
affinity, host ports, readiness being a taint. Score: fewest pods of the same owner, then fewest pods, then the name;
so replicas spread and the same cluster always gives the same placement.

A pod that fits nowhere says why in its PodScheduled condition and in an event, in the scheduler's words, and is tried
again whenever a node or another pod changes. `spec.nodeName` set by hand passes the scheduler by, as it does in
Kubernetes.

simplified: no resources, preferences, inter-pod affinity, volumes, priorities or preemption.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubenet.cluster.controller import Controller
from kubenet.cluster.controllers.common import controller_of, is_terminal, set_condition
from kubenet.cluster.controllers.node import UNSCHEDULABLE, covers
from kubenet.cluster.events import EventRecorder
from kubenet.cluster.store import Event, Key, Store, key_of

Obj = dict[str, Any]


def untolerated(pod: Obj, node: Obj) -> Obj | None:
    """The first taint that keeps the pod off the node, or None."""
    tolerations = pod["spec"].get("tolerations") or []
    for taint in node["spec"].get("taints") or ():
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not any(covers(t, taint) for t in tolerations):
            found: Obj = taint
            return found
    return None


def affinity_fits(pod: Obj, node: Obj) -> bool:
    """nodeSelector and required node affinity. Kubernetes: nodeaffinity.GetRequiredNodeAffinity()."""
    if "nodeSelector" not in pod["spec"] and "affinity" not in pod["spec"]:
        return True
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(k) != v for k, v in (pod["spec"].get("nodeSelector") or {}).items()):
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    name = {"metadata.name": node["metadata"]["name"]}
    return any(
        all(_expression(e, labels) for e in term.get("matchExpressions") or ())
        and all(_expression(e, name) for e in term.get("matchFields") or ())
        for term in required.get("nodeSelectorTerms") or () if term
    )


def _expression(expr: Obj, labels: dict[str, str]) -> bool:
    have, values = labels.get(expr["key"]), expr.get("values") or []
    op = expr.get("operator")
    if op == "In":
        return have in values
    if op == "NotIn":
        return have not in values
    if op == "Exists":
        return have is not None
    if op == "DoesNotExist":
        return have is None
    if have is None or not have.lstrip("-").isdigit() or not values:
        return False
    return int(have) > int(values[0]) if op == "Gt" else int(have) < int(values[0])


def host_ports(pod: Obj) -> list[tuple[str, int]]:
    """(protocol, port) pairs the pod takes on its node."""
    return [(p.get("protocol", "TCP"), p["hostPort"]) for c in pod["spec"].get("containers") or ()
            for p in c.get("ports") or () if p.get("hostPort")]


def reason_against(pod: Obj, wanted: list[tuple[str, int]], node: Obj, taken: Iterable[Obj]) -> str:
    """Why the pod, which wants these host ports, cannot be on this node, in the scheduler's words; "" if it can.

    `taken` are the node's pods.
    """
    taint = untolerated(pod, node)
    if taint is not None and taint["key"] == UNSCHEDULABLE or taint is None and node["spec"].get("unschedulable") and not any(
            covers(t, {"key": UNSCHEDULABLE, "effect": "NoSchedule"}) for t in pod["spec"].get("tolerations") or ()):
        return "node(s) were unschedulable"
    if taint is not None:
        return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    if not affinity_fits(pod, node):
        return "node(s) didn't match Pod's node affinity/selector"
    if wanted and any(port in wanted for other in taken for port in host_ports(other)):
        return "node(s) didn't have free ports for the requested pod ports"
    return ""


class Placement:
    """Who is on which node: what the scheduler looks at for every pod, kept up to date write by write."""

    def __init__(self) -> None:
        self.pods: dict[str, dict[Key, Obj]] = {}
        self.siblings: dict[tuple[str, str], int] = {}               # (node, owner's uid) -> how many
        self._where: dict[Key, tuple[str, str]] = {}

    def note(self, pod: Obj, gone: bool = False) -> None:
        """The pod is where it says, or nowhere if it has ended."""
        key = key_of(pod)
        node = "" if gone or is_terminal(pod) else pod["spec"].get("nodeName", "")
        owner = (controller_of(pod) or {}).get("uid", "")
        before = self._where.pop(key, None)
        if before is not None:
            del self.pods[before[0]][key]
            self.siblings[before] -= 1
        if node:
            self._where[key] = (node, owner)
            self.pods.setdefault(node, {})[key] = pod
            self.siblings[(node, owner)] = self.siblings.get((node, owner), 0) + 1


def choose(pod: Obj, nodes: list[Obj], placement: Placement) -> tuple[str, dict[str, int]]:
    """(the node's name or "", reason -> how many nodes it rules out)."""
    reasons: dict[str, int] = {}
    best: tuple[int, int, str] | None = None
    owner = (controller_of(pod) or {}).get("uid", "")
    wanted = host_ports(pod)
    is_choosy = bool(wanted) or "nodeSelector" in pod["spec"] or "affinity" in pod["spec"]
    for node in nodes:
        name, spec = node["metadata"]["name"], node["spec"]
        taken = placement.pods.get(name, {})
        if is_choosy or "taints" in spec or "unschedulable" in spec:
            reason = reason_against(pod, wanted, node, taken.values())
            if reason:
                reasons[reason] = reasons.get(reason, 0) + 1
                continue
        siblings = placement.siblings.get((name, owner), 0) if owner else 0
        score = (siblings, len(taken), name)
        best = score if best is None or score < best else best
    return (best[2] if best else ""), reasons


def fit_error(nodes: int, reasons: dict[str, int]) -> str:
    """The FailedScheduling message. Kubernetes: FitError.Error()."""
    if not nodes:
        return "no nodes available to schedule pods"
    parts = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return (f"0/{nodes} nodes are available: {parts}. preemption: 0/{nodes} nodes are available: "
            f"{nodes} Preemption is not helpful for scheduling.")


class Scheduler(Controller):
    """Binds pods to nodes."""

    name = "default-scheduler"
    kinds = ("Pod", "Node")

    def __init__(self, store: Store, **kwargs: Any) -> None:
        super().__init__(store, **kwargs)
        self.recorder = EventRecorder(store, self.name)
        self.placement = Placement()
        self._waiting: dict[Key, None] = {}

    def keys_for(self, event: Event) -> Iterable[Key]:
        obj = event.obj
        if obj["kind"] == "Pod":
            self.placement.note(obj, event.type == "DELETED")
        if obj["kind"] == "Pod" and event.type != "DELETED" and not obj["spec"].get("nodeName"):
            return (key_of(obj),)
        frees = obj["kind"] == "Node" or event.type == "DELETED" or is_terminal(obj)
        return list(self._waiting) if frees else ()

    def reconcile(self, key: Key) -> int | None:
        pod = self.store.get("Pod", key)
        self._waiting.pop(key, None)
        if pod is None or pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"] or (
                pod["spec"].get("schedulerName", self.name) != self.name) or pod["spec"].get("schedulingGates"):
            return None
        nodes = self.store.list("Node")
        name, reasons = choose(pod, nodes, self.placement)
        if name:
            self._bind(pod, name)
        else:
            self._fail(pod, fit_error(len(nodes), reasons))
        return None

    def _bind(self, pod: Obj, node: str) -> None:
        status = dict(pod.get("status") or {})
        status["conditions"] = [c for c in status.get("conditions", ()) if c["type"] != "PodScheduled"] + [
            {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": self.store.now_text()}]
        bound = self.store.replace({**pod, "metadata": dict(pod["metadata"]), "spec": {**pod["spec"], "nodeName": node},
                                    "status": status})
        self.placement.note(bound)                                # before the watch says so: the next pod counts it
        self.recorder.event(bound, "Normal", "Scheduled", f"Successfully assigned {'/'.join(key_of(pod))} to {node}")

    def _fail(self, pod: Obj, message: str) -> None:
        self._waiting[key_of(pod)] = None
        status = dict(pod.get("status") or {})
        status["conditions"] = set_condition(list(status.get("conditions", ())), {
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}, self.store.now_text())
        if status != pod.get("status"):
            self.store.set_status("Pod", key_of(pod), status)
            self.recorder.event(pod, "Warning", "FailedScheduling", message)
