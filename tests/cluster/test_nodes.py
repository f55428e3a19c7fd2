"""Scheduling, node taints and eviction, namespaces, and the controller base itself."""

from __future__ import annotations

from typing import Any

import pytest
from control_plane import ControlPlane, deployment, pod

from kubenet.cluster.api.status import ApiError
from kubenet.cluster.controller import Controller
from kubenet.cluster.controllers.node import covers
from kubenet.cluster.scheduler import Placement, choose, fit_error
from kubenet.cluster.store import Key, Store
from kubenet.sim.clock import EventLoop
from kubenet.units import MSEC, SEC

Obj = dict[str, Any]
MERGE = "application/merge-patch+json"


def node(name: str, taints: list[Obj] | None = None, unschedulable: bool = False, **labels: str) -> Obj:
    spec: Obj = {}
    if taints:
        spec["taints"] = taints
    if unschedulable:
        spec["unschedulable"] = True
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def on(*pods: Obj) -> Placement:
    placement = Placement()
    for made in pods:
        placement.note(made)
    return placement


def placed(name: str, where: str, owner: str = "") -> Obj:
    made = {"metadata": {"name": name}, "spec": {"nodeName": where, "containers": []}, "status": {}}
    if owner:
        made["metadata"]["ownerReferences"] = [{"uid": owner, "controller": True, "kind": "ReplicaSet", "name": "x"}]
    return made


class TestChoice:
    NODES = [node("node-1"), node("node-2"), node("node-3")]

    def test_the_emptiest_then_the_first_name(self) -> None:
        pods = [placed("a", "node-1"), placed("b", "node-2")]
        assert choose(placed("new", ""), self.NODES, on(*pods))[0] == "node-3"
        assert choose(placed("new", ""), self.NODES, on())[0] == "node-1"

    def test_replicas_spread_before_numbers_even_out(self) -> None:
        pods = [placed("a", "node-1", "rs"), placed("b", "node-2"), placed("c", "node-2"), placed("d", "node-3", "rs")]
        assert choose(placed("new", "", "rs"), self.NODES, on(*pods))[0] == "node-2"

    @pytest.mark.parametrize(
        ("nodes", "spec", "reasons"),
        [
            ([node("a", unschedulable=True)], {}, {"node(s) were unschedulable": 1}),
            ([node("a", [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])], {},
             {"node(s) had untolerated taint {gpu: yes}": 1}),
            ([node("a", [{"key": "gpu", "effect": "PreferNoSchedule"}])], {}, {}),
            ([node("a", [{"key": "gpu", "effect": "NoSchedule"}])], {"tolerations": [{"key": "gpu", "operator": "Exists"}]}, {}),
            ([node("a")], {"nodeSelector": {"disk": "ssd"}}, {"node(s) didn't match Pod's node affinity/selector": 1}),
            ([node("a", disk="ssd")], {"nodeSelector": {"disk": "ssd"}}, {}),
        ],
    )
    def test_reasons_against(self, nodes: list[Obj], spec: Obj, reasons: dict[str, int]) -> None:
        wanted: Obj = {"metadata": {"name": "p"}, "spec": {"containers": [], **spec}}
        name, found = choose(wanted, nodes, on())
        assert found == reasons and name == ("" if reasons else "a")

    @pytest.mark.parametrize(("operator", "values", "fits"), [
        ("In", ["ssd"], True), ("In", ["hdd"], False), ("NotIn", ["hdd"], True), ("Exists", None, True),
        ("DoesNotExist", None, False)])
    def test_required_affinity(self, operator: str, values: Any, fits: bool) -> None:
        expr = {"key": "disk", "operator": operator, **({"values": values} if values else {})}
        wanted: Obj = {"metadata": {"name": "p"}, "spec": {"containers": [], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [expr]}]}}}}}
        assert bool(choose(wanted, [node("a", disk="ssd")], on())[0]) is fits

    def test_host_ports_exclude_each_other(self) -> None:
        ports = {"containers": [{"ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]}]}
        here = {"metadata": {"name": "a"}, "spec": {"nodeName": "node-1", **ports}, "status": {}}
        wanted = {"metadata": {"name": "b"}, "spec": ports}
        assert choose(wanted, self.NODES[:1], on(here)) == (
            "", {"node(s) didn't have free ports for the requested pod ports": 1})

    def test_the_message(self) -> None:
        reasons = {"node(s) were unschedulable": 1, "node(s) had untolerated taint {gpu: }": 2}
        assert fit_error(3, reasons) == (
            "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) had untolerated taint {gpu: }. preemption: 0/3 "
            "nodes are available: 3 Preemption is not helpful for scheduling.")
        assert fit_error(0, {}) == "no nodes available to schedule pods"


class TestScheduler:
    def test_an_unschedulable_pod_waits_and_says_why(self, cp: ControlPlane) -> None:
        cp.apply(pod("p", nodeSelector={"disk": "ssd"}))
        cp.run(5)
        (condition,) = cp.get("Pod", "p")["status"]["conditions"]
        assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "Unschedulable")
        assert cp.cells("/api/v1/namespaces/default/pods")[0][2] == "Pending"
        cp.ok("PATCH", "/api/v1/nodes/node-2", {"metadata": {"labels": {"disk": "ssd"}}}, kind=MERGE)
        cp.settle()
        assert cp.get("Pod", "p")["spec"]["nodeName"] == "node-2"

    def test_a_node_name_by_hand_passes_it_by(self, cp: ControlPlane) -> None:
        cp.ok("PATCH", "/api/v1/nodes/node-3", {"spec": {"unschedulable": True}}, kind=MERGE)
        cp.apply(pod("p", nodeName="node-3"))
        cp.run(3)
        assert cp.get("Pod", "p")["status"]["podIP"] == "10.48.3.2"

    def test_binding_by_the_api(self, cp: ControlPlane) -> None:
        cp.apply(pod("p", schedulerName="mine"))
        cp.settle()
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "node-2"}}
        path = "/api/v1/namespaces/default/pods/p/binding"
        assert cp.call("POST", path, body).code == 201 and cp.get("Pod", "p")["spec"]["nodeName"] == "node-2"
        assert cp.call("POST", path, body).code == 409


@pytest.mark.parametrize(("toleration", "taint", "fits"), [
    ({"operator": "Exists"}, {"key": "a", "effect": "NoSchedule"}, True),
    ({"key": "a", "operator": "Exists"}, {"key": "a", "value": "x", "effect": "NoExecute"}, True),
    ({"key": "a", "value": "x"}, {"key": "a", "value": "x", "effect": "NoSchedule"}, True),
    ({"key": "a", "value": "y"}, {"key": "a", "value": "x", "effect": "NoSchedule"}, False),
    ({"key": "a", "operator": "Exists", "effect": "NoExecute"}, {"key": "a", "effect": "NoSchedule"}, False),
    ({"key": "b", "operator": "Exists"}, {"key": "a", "effect": "NoSchedule"}, False)])
def test_tolerations(toleration: Obj, taint: Obj, fits: bool) -> None:
    """Kubernetes: TestTolerationToleratesTaint."""
    assert covers(toleration, taint) is fits


class TestNode:
    def ready(self, cp: ControlPlane, name: str, value: str) -> None:
        cp.store.set_status("Node", ("", name), {"conditions": [{"type": "Ready", "status": value}]})

    def test_node_k_has_the_kth_range(self, cp: ControlPlane) -> None:
        assert [n["spec"]["podCIDR"] for n in cp.store.iter("Node")] == ["10.48.1.0/24", "10.48.2.0/24", "10.48.3.0/24"]

    def test_a_sick_node_is_tainted_and_its_pods_leave_the_slices_and_later_the_node(self, cp: ControlPlane) -> None:
        cp.apply(deployment(replicas=3))
        cp.run(3)
        self.ready(cp, "node-1", "False")
        cp.settle()
        taints = [(t["key"], t["effect"]) for t in cp.store.must_get("Node", ("", "node-1"))["spec"]["taints"]]
        assert taints == [("node.kubernetes.io/not-ready", "NoSchedule"), ("node.kubernetes.io/not-ready", "NoExecute")]
        (sick,) = [p for p in cp.store.iter("Pod") if p["spec"]["nodeName"] == "node-1"]
        assert [c["status"] for c in sick["status"]["conditions"] if c["type"] == "Ready"] == ["False"]
        cp.run(290)
        assert cp.store.by_uid(sick["metadata"]["uid"]) is not None          # tolerated for 300 s
        cp.run(20)
        assert cp.store.by_uid(sick["metadata"]["uid"]) is None
        assert {p["spec"]["nodeName"] for p in cp.store.iter("Pod")} == {"node-2", "node-3"}

    def test_recovery_takes_the_taints_away(self, cp: ControlPlane) -> None:
        self.ready(cp, "node-1", "Unknown")
        cp.settle()
        assert cp.store.must_get("Node", ("", "node-1"))["spec"]["taints"][0]["key"] == "node.kubernetes.io/unreachable"
        self.ready(cp, "node-1", "True")
        cp.settle()
        assert "taints" not in cp.store.must_get("Node", ("", "node-1"))["spec"]

    def test_a_lease_that_is_not_renewed(self, cp: ControlPlane) -> None:
        """50 s after the last renewal the node is Unknown (--node-monitor-grace-period)."""
        cp.store.create({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                         "metadata": {"name": "node-1", "namespace": "kube-node-lease"},
                         "spec": {"holderIdentity": "node-1", "renewTime": cp.store.micro_text()}})
        cp.run(45)
        assert cp.cells("/api/v1/nodes")[0][1] == "Ready"
        cp.run(10)
        assert cp.cells("/api/v1/nodes")[0][1] == "NotReady"

    def test_a_deleted_node_takes_its_pods_along(self, cp: ControlPlane) -> None:
        cp.apply(deployment(replicas=3))
        cp.run(3)
        cp.ok("DELETE", "/api/v1/nodes/node-1")
        cp.run(30)
        assert "node-1" in {p["spec"]["nodeName"] for p in cp.store.iter("Pod")}
        cp.run(15)
        assert {p["spec"]["nodeName"] for p in cp.store.iter("Pod")} == {"node-2", "node-3"} and len(cp.names("Pod")) == 3

    def test_cordon(self, cp: ControlPlane) -> None:
        cp.ok("PATCH", "/api/v1/nodes/node-1", {"spec": {"unschedulable": True}}, kind=MERGE)
        cp.settle()
        assert cp.cells("/api/v1/nodes")[0][1] == "Ready,SchedulingDisabled"
        cp.apply(deployment(replicas=2))
        cp.run(3)
        assert {p["spec"]["nodeName"] for p in cp.store.iter("Pod")} == {"node-2", "node-3"}


class TestNamespace:
    def test_a_service_account_in_each(self, cp: ControlPlane) -> None:
        made = cp.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "shop"}})
        assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "shop"}
        assert made["spec"]["finalizers"] == ["kubernetes"]
        cp.settle()
        assert cp.names("ServiceAccount", "shop") == ["default"]

    def test_deletion_empties_it_first(self, cp: ControlPlane) -> None:
        cp.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "shop"}})
        cp.apply({**deployment(), "metadata": {"name": "web", "namespace": "shop"}})
        cp.run(3)
        out = cp.ok("DELETE", "/api/v1/namespaces/shop")
        assert out["status"]["phase"] == "Terminating"
        cp.settle()
        response = cp.call("POST", "/api/v1/namespaces/shop/configmaps", {"metadata": {"name": "late"}})
        assert response.code == 403 and response.json()["message"] == (
            'configmaps "late" is forbidden: unable to create new content in namespace shop because it is being terminated')
        assert response.json()["details"]["causes"][0]["reason"] == "NamespaceTerminating"
        assert cp.store.get("Namespace", ("", "shop")) is not None           # pods are still ending
        cp.run(5)
        assert cp.store.get("Namespace", ("", "shop")) is None
        assert not [o for kind in ("Pod", "ReplicaSet", "Deployment", "ServiceAccount") for o in cp.store.iter(kind, "shop")]


class Probe(Controller):
    name = "probe"
    kinds = ("ConfigMap",)

    def __init__(self, store: Store, **kwargs: Any) -> None:
        super().__init__(store, **kwargs)
        self.calls: list[tuple[int, str]] = []
        self.failures = 0
        self.again: int | None = None

    def reconcile(self, key: Key) -> int | None:
        self.calls.append((self.clock.now, key[1]))
        if self.failures:
            self.failures -= 1
            raise ApiError(409, "Conflict", "try again")
        return self.again


class TestController:
    @pytest.fixture
    def store(self, loop: EventLoop) -> Store:
        return Store(loop)

    def config(self, store: Store, name: str = "a", **data: str) -> None:
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "d"}, "data": data}
        (store.update if store.get("ConfigMap", ("d", name)) else store.create)(obj)

    def test_many_changes_one_reconcile(self, store: Store, loop: EventLoop) -> None:
        probe = Probe(store)
        probe.start()
        for number in range(5):
            self.config(store, x=str(number))
        loop.run(SEC)
        assert probe.calls == [(MSEC, "a")]

    def test_latency_is_the_lag_behind_the_store(self, store: Store, loop: EventLoop) -> None:
        probe = Probe(store, latency=250 * MSEC)
        probe.start()
        loop.run(SEC)
        self.config(store)
        loop.run(2 * SEC)
        assert probe.calls == [(SEC + 250 * MSEC, "a")]

    def test_failures_back_off_from_5_ms_doubling(self, store: Store, loop: EventLoop) -> None:
        """client-go ItemExponentialFailureRateLimiter(5ms, 1000s)."""
        probe = Probe(store, latency=0)
        probe.failures = 4
        probe.start()
        self.config(store)
        loop.run(SEC)
        times = [t for t, _ in probe.calls]
        assert [b - a for a, b in zip(times, times[1:], strict=False)] == [5 * MSEC, 10 * MSEC, 20 * MSEC, 40 * MSEC]

    def test_come_again(self, store: Store, loop: EventLoop) -> None:
        probe = Probe(store, latency=0)
        probe.again = 100 * MSEC
        probe.start()
        self.config(store)
        loop.run(350 * MSEC)
        assert [t for t, _ in probe.calls] == [0, 100 * MSEC, 200 * MSEC, 300 * MSEC]

    def test_stopped_it_does_nothing(self, store: Store, loop: EventLoop) -> None:
        probe = Probe(store)
        probe.start()
        self.config(store)
        probe.stop()
        loop.run(SEC)
        assert probe.calls == []
