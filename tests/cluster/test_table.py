"""Tables: what `kubectl get` prints. Expected cells from kubectl's own output (Kubernetes pkg/printers tests)."""

from __future__ import annotations

from typing import Any

import pytest
from control_plane import ControlPlane, deployment, service

from kubenet.cluster.api.kinds import KINDS, SERVED
from kubenet.cluster.api.table import columns, pod_status, row, since, table

Obj = dict[str, Any]
NOW = 1_767_225_600 + 3600                                      # an hour after time zero
BORN = "2026-01-01T00:00:00Z"

HEADS = {
    "Pod": "NAME READY STATUS RESTARTS AGE | IP NODE NOMINATED-NODE READINESS-GATES",
    "Service": "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE | SELECTOR",
    "Deployment": "NAME READY UP-TO-DATE AVAILABLE AGE | CONTAINERS IMAGES SELECTOR",
    "ReplicaSet": "NAME DESIRED CURRENT READY AGE | CONTAINERS IMAGES SELECTOR",
    "DaemonSet": "NAME DESIRED CURRENT READY UP-TO-DATE AVAILABLE NODE-SELECTOR AGE | CONTAINERS IMAGES SELECTOR",
    "StatefulSet": "NAME READY AGE | CONTAINERS IMAGES",
    "Job": "NAME STATUS COMPLETIONS DURATION AGE | CONTAINERS IMAGES SELECTOR",
    "Node": "NAME STATUS ROLES AGE VERSION | INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME",
    "Namespace": "NAME STATUS AGE", "ConfigMap": "NAME DATA AGE", "Secret": "NAME TYPE DATA AGE",
    "Endpoints": "NAME ENDPOINTS AGE", "EndpointSlice": "NAME ADDRESSTYPE PORTS ENDPOINTS AGE",
    "NetworkPolicy": "NAME POD-SELECTOR AGE", "Ingress": "NAME CLASS HOSTS ADDRESS PORTS AGE",
    "Event": "LAST-SEEN TYPE REASON OBJECT MESSAGE | SUBOBJECT SOURCE FIRST-SEEN COUNT NAME",
    "ServiceAccount": "NAME SECRETS AGE",
}


@pytest.mark.parametrize("kind", HEADS)
def test_headings_as_kubectl_prints_them(kind: str) -> None:
    narrow = [c["name"].upper().replace(" ", "-") for c in columns(kind) if not c["priority"]]
    wide = [c["name"].upper().replace(" ", "-") for c in columns(kind) if c["priority"]]
    assert " ".join(narrow) + (" | " + " ".join(wide) if wide else "") == HEADS[kind]


@pytest.mark.parametrize("info", SERVED, ids=lambda i: i.kind)
def test_every_kind_renders_as_many_cells_as_columns_even_when_empty(info: Any) -> None:
    obj = {"apiVersion": info.api_version, "kind": info.kind, "metadata": {"name": "x", "creationTimestamp": BORN}, "spec": {}}
    assert len(row(info, obj, NOW, "None")["cells"]) == len(columns(info.kind))


def pod(*states: Obj, phase: str = "Running", init: tuple[Obj, ...] = (), deleted: bool = False, **status: Any) -> Obj:
    """A pod whose containers are in the given states; "ready" in a state makes the container ready."""
    def statuses(items: tuple[Obj, ...]) -> list[Obj]:
        return [{"name": f"c{n}", "ready": s.pop("ready", False), "restartCount": s.pop("restarts", 0),
                 "lastState": s.pop("last", {}), "state": s} for n, s in enumerate([dict(x) for x in items])]

    meta: Obj = {"name": "web-0", "namespace": "default", "creationTimestamp": BORN}
    if deleted:
        meta["deletionTimestamp"] = BORN
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta,
            "spec": {"containers": [{"name": f"c{n}"} for n in range(max(len(states), 1))],
                     "initContainers": [{"name": f"c{n}"} for n in range(len(init))]},
            "status": {"phase": phase, "containerStatuses": statuses(states), "initContainerStatuses": statuses(init), **status}}


RUN: Obj = {"running": {}, "ready": True}
READY = [{"type": "Ready", "status": "True"}]


@pytest.mark.parametrize(
    ("made", "status"),
    [
        (pod(RUN, phase="Running"), "Running"),
        (pod(phase="Pending"), "Pending"),
        (pod({"waiting": {"reason": "ContainerCreating"}}, phase="Pending"), "ContainerCreating"),
        (pod({"waiting": {"reason": "ImagePullBackOff"}}, phase="Pending"), "ImagePullBackOff"),
        (pod({"waiting": {"reason": "CrashLoopBackOff"}}), "CrashLoopBackOff"),
        (pod({"terminated": {"reason": "Completed", "exitCode": 0}}, phase="Succeeded"), "Completed"),
        (pod({"terminated": {"reason": "Error", "exitCode": 1}}, phase="Failed"), "Error"),
        (pod({"terminated": {"reason": "OOMKilled", "exitCode": 137}}, phase="Failed"), "OOMKilled"),
        (pod({"terminated": {"exitCode": 3}}, phase="Failed"), "ExitCode:3"),
        (pod({"terminated": {"signal": 9, "exitCode": 137}}, phase="Failed"), "Signal:9"),
        (pod(RUN, {"terminated": {"reason": "Completed", "exitCode": 0}}, conditions=READY), "Running"),
        (pod(RUN, {"terminated": {"reason": "Completed", "exitCode": 0}}), "NotReady"),
        (pod(phase="Pending", init=({"running": {}},)), "Init:0/1"),
        (pod(phase="Pending", init=({"terminated": {"exitCode": 0}}, {"waiting": {"reason": "PodInitializing"}})), "Init:1/2"),
        (pod(phase="Pending", init=({"terminated": {"reason": "Error", "exitCode": 1}},)), "Init:Error"),
        (pod(phase="Pending", init=({"waiting": {"reason": "CrashLoopBackOff"}},)), "Init:CrashLoopBackOff"),
        (pod(phase="Pending", init=({"terminated": {"exitCode": 5}},)), "Init:ExitCode:5"),
        (pod(RUN, deleted=True), "Terminating"),
        (pod({"terminated": {"reason": "Completed", "exitCode": 0}}, phase="Succeeded", deleted=True), "Completed"),
        (pod(RUN, deleted=True, reason="NodeLost"), "Unknown"),
        (pod(phase="Failed", reason="Evicted"), "Evicted"),
    ],
)
def test_pod_status(made: Obj, status: str) -> None:
    """Kubernetes: TestPrintPod."""
    assert pod_status(made) == status


def cells(kind: str, obj: Obj) -> list[Any]:
    obj.setdefault("metadata", {}).setdefault("name", "x")
    obj["metadata"].setdefault("creationTimestamp", BORN)
    return list(row(KINDS[kind], obj, NOW, "None")["cells"])


def test_pod_row() -> None:
    made = pod(RUN, {"waiting": {"reason": "CrashLoopBackOff"}, "restarts": 3,
                     "last": {"terminated": {"finishedAt": "2026-01-01T00:59:00Z"}}}, podIP="10.48.2.7")
    made["spec"]["nodeName"] = "node-2"
    assert cells("Pod", made) == ["web-0", "1/2", "CrashLoopBackOff", "3 (60s ago)", "60m", "10.48.2.7", "node-2", "<none>",
                                  "<none>"]


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        ({"type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": [{"port": 80}]}, {},
         ["ClusterIP", "10.96.0.1", "<none>", "80/TCP"]),
        ({"type": "ClusterIP", "clusterIP": "None"}, {}, ["ClusterIP", "None", "<none>", "<none>"]),
        ({"type": "NodePort", "clusterIP": "10.96.0.1",
          "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}],
          "externalIPs": ["192.0.2.1", "192.0.2.2"]}, {},
         ["NodePort", "10.96.0.1", "192.0.2.1,192.0.2.2", "80:30080/TCP,53/UDP"]),
        ({"type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{"port": 80, "nodePort": 30080}]}, {},
         ["LoadBalancer", "10.96.0.1", "<pending>", "80:30080/TCP"]),
        ({"type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
         {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}, ["LoadBalancer", "10.96.0.1", "203.0.113.9", "80/TCP"]),
        ({"type": "ExternalName", "externalName": "db.example.com"}, {}, ["ExternalName", "<none>", "db.example.com", "<none>"]),
    ],
)
def test_service_row(spec: Obj, status: Obj, expected: list[str]) -> None:
    assert cells("Service", {"spec": spec, "status": status})[1:5] == expected


def test_addresses_are_cut_after_three() -> None:
    endpoints = [{"addresses": [f"10.0.0.{n}"]} for n in range(1, 6)]
    made = {"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": endpoints}
    assert cells("EndpointSlice", made)[1:4] == ["IPv4", "80", "10.0.0.1,10.0.0.2,10.0.0.3 + 2 more..."]
    assert cells("EndpointSlice", {"addressType": "IPv4", "ports": None, "endpoints": []})[2:4] == ["<unset>", "<unset>"]
    subset = {"addresses": [{"ip": f"10.0.0.{n}"} for n in range(1, 5)], "ports": [{"port": 80}]}
    assert cells("Endpoints", {"subsets": [subset]})[1] == "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 1 more..."
    assert cells("Endpoints", {})[1] == "<none>"


@pytest.mark.parametrize(("conditions", "spec", "status"), [
    ([{"type": "Ready", "status": "True"}], {}, "Ready"),
    ([{"type": "Ready", "status": "True"}], {"unschedulable": True}, "Ready,SchedulingDisabled"),
    ([{"type": "Ready", "status": "False"}], {}, "NotReady"),
    ([{"type": "Ready", "status": "Unknown"}], {}, "NotReady"),
    ([], {}, "Unknown")])
def test_node_status(conditions: list[Obj], spec: Obj, status: str) -> None:
    assert cells("Node", {"spec": spec, "status": {"conditions": conditions}})[1] == status


def test_node_roles() -> None:
    made = {"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/a": ""}}}
    assert cells("Node", made)[2] == "a,control-plane"


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0s"), (119, "119s"), (120, "2m"), (184, "3m4s"), (600, "10m"), (10799, "179m"), (10800, "3h"), (11100, "3h5m"),
    (8 * 3600 + 60, "8h"), (48 * 3600, "2d"), (49 * 3600, "2d1h"), (8 * 86400 + 3600, "8d"), (730 * 86400, "2y")])
def test_ages(seconds: int, text: str) -> None:
    """apimachinery duration.HumanDuration."""
    assert since(BORN, 1_767_225_600 + seconds) == text


def test_object_inclusion() -> None:
    obj = {"metadata": {"name": "a", "creationTimestamp": BORN}, "data": {"x": "1"}}
    info = KINDS["ConfigMap"]
    assert "object" not in table(info, [obj], NOW, "1", "None")["rows"][0]
    assert table(info, [obj], NOW, "1")["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert table(info, [obj], NOW, "1", "Object")["rows"][0]["object"] is obj


def test_from_a_living_cluster(cp: ControlPlane) -> None:
    cp.apply(deployment(replicas=2))
    cp.apply(service())
    cp.run(90)
    assert cp.cells("/apis/apps/v1/namespaces/default/deployments") == [["web", "2/2", 2, 2, "90s", "c", "nginx:1", "app=web"]]
    (first, second) = cp.cells("/api/v1/namespaces/default/pods")
    assert first[1:5] == ["1/1", "Running", "0", "90s"] and {first[6], second[6]} == {"node-1", "node-2"}
