"""`kubenet doctor`: each thing that can be wrong is provoked as a person would, found, and gone again once it is mended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubenet import Cluster
from kubenet.query.doctor import ERROR, NOTE, WARNING, Finding, findings

SHOP = Path(__file__).resolve().parents[2] / "manifests" / "shop"
SEC = 1_000_000_000
Obj = dict[str, Any]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster.from_manifests(SHOP) as found:
        yield found


def wrong(cluster: Cluster) -> list[tuple[str, str]]:
    return [(f.severity, f.check) for f in findings(cluster)]


def one(cluster: Cluster, check: str) -> Finding:
    (found,) = [f for f in findings(cluster) if f.check == check]
    return found


def service(name: str, port: int = 80, **spec: Any) -> Obj:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": port, **spec.pop("more", {})}], **spec}}


def pod(name: str, *command: str, **spec: Any) -> Obj:
    box = {"name": "c", "image": "nicolaka/netshoot", "command": list(command or ("sleep", "infinity"))}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [box], **spec}}


def test_a_healthy_cluster_has_nothing(cluster: Cluster) -> None:
    assert findings(cluster) == []


def test_looking_changes_nothing(cluster: Cluster) -> None:
    """No observer effect: the same digest with and without."""
    with Cluster.from_manifests(SHOP) as other:
        for each in (cluster, other):
            if each is other:
                findings(each)
            each.exec("client", "curl -s http://web")
            if each is other:
                findings(each)
        assert cluster.digest() == other.digest()


def test_a_service_without_pods(cluster: Cluster) -> None:
    cluster.apply_documents([service("lonely", selector={"app": "nobody"})])
    cluster.settle()
    found = one(cluster, "services")
    assert (found.severity, found.what, found.why) == (ERROR, "service lonely has no endpoints", "no pod has app=nobody")


def test_a_port_where_nobody_listens(cluster: Cluster) -> None:
    cluster.apply_documents([pod("ear", "nc", "-lk", "-p", "9000")])
    cluster.apply_documents([service("ear", selector={"app": "ear"}, more={"targetPort": 9001})])
    cluster.settle()
    assert "does not answer on 9001" in one(cluster, "services").what and "these do: 9000" in one(cluster, "services").why
    cluster.apply_documents([service("ear", selector={"app": "ear"}, more={"targetPort": 9000})])
    cluster.settle()
    assert findings(cluster) == []


def test_a_server_on_the_loopback_only(cluster: Cluster) -> None:
    cluster.apply_documents([pod("shy", "nc", "-lk", "-s", "127.0.0.1", "-p", "9000")])
    cluster.apply_documents([service("shy", 9000, selector={"app": "shy"})])
    cluster.settle()
    assert "127.0.0.1 only" in one(cluster, "services").why


def test_a_port_name_that_no_container_has(cluster: Cluster) -> None:
    cluster.apply_documents([pod("plain")])
    cluster.apply_documents([service("plain", selector={"app": "plain"}, more={"targetPort": "http"})])
    cluster.settle()
    assert "has no port called http" in one(cluster, "services").what


def test_pods_that_do_not_run(cluster: Cluster) -> None:
    waits = pod("waits", volumes=[{"name": "v", "configMap": {"name": "nix"}}])
    waits["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    for each in (pod("homeless", nodeSelector={"disk": "gold"}), pod("broken", "no-such-program"), waits):
        cluster.apply_documents([each])
    cluster.run(30 * SEC)
    found = {f.what: f.why for f in findings(cluster) if f.check == "pods"}
    assert "pod homeless is on no node" in found and "node" in found["pod homeless is on no node"]
    assert any(what.startswith("pod broken does not run: ") for what in found)
    assert 'configmap "nix" not found' in found["pod waits does not start"]


def test_a_frozen_node_and_its_pods(cluster: Cluster) -> None:
    cluster.faults.add({"kind": "freeze", "values": ["node-2"], "options": {}})
    assert (NOTE, "faults") in wrong(cluster)
    cluster.run(60 * SEC)
    assert "node node-2 is not ready" in [f.what for f in findings(cluster)]
    assert [f.severity for f in findings(cluster)] == sorted((f.severity for f in findings(cluster)), key=(ERROR, WARNING, NOTE).index)


@pytest.mark.parametrize(("kind", "what"), [("freeze", "kube-proxy on node-1 hangs"), ("kill", "kube-proxy does not run on node-1")])
def test_a_proxy_that_does_nothing(cluster: Cluster, kind: str, what: str) -> None:
    cluster.faults.add({"kind": kind, "values": ["kube-proxy/node-1"], "options": {}})
    assert one(cluster, "kube-proxy").what == what


@pytest.mark.parametrize(("command", "check", "what"), [
    ("sysctl -w net.ipv4.ip_forward=0", "settings", "node-1 forwards nothing"),
    ("sysctl -w net.bridge.bridge-nf-call-iptables=0", "settings", "on node-1 bridged packets pass no iptables rule"),
    ("iptables -P FORWARD DROP", "settings", "on node-1 the policy of FORWARD is DROP"),
    ("ip route del 10.48.2.0/24", "routes", "node-1 has no route to the pods of node-2"),
    ("ip link set eth0 mtu 1400", "routes", "on node-1 cni0 takes larger packets (1500) than eth0 (1400)"),
    ("ip link set cni0 down", "routes", "cni0 of node-1 is down"),
])
def test_what_a_node_needs(cluster: Cluster, command: str, check: str, what: str) -> None:
    assert cluster.exec("node-1", command).code == 0
    assert what in [f.what for f in findings(cluster) if f.check == check]


def test_what_is_tried_mends(cluster: Cluster) -> None:
    """The command under `try` is one that a person can paste, and afterwards nothing is wrong."""
    for command in ("sysctl -w net.ipv4.ip_forward=0", "ip route del 10.48.2.0/24"):
        cluster.exec("node-1", command)
        (found,) = findings(cluster)
        place, _, fix = found.try_.removeprefix("kubenet exec ").partition(" -- ")
        assert cluster.exec(place, fix).code == 0
        assert findings(cluster) == []


def test_conntrack_that_is_full_or_lost_something(cluster: Cluster) -> None:
    cluster.exec("client", "curl -s http://web")
    node = cluster.nodes[next(p["spec"]["nodeName"] for p in cluster.store.iter("Pod") if p["metadata"]["name"] == "client")]
    node.host.nf_conntrack_max = node.net.ct.count
    assert one(cluster, "conntrack").severity == ERROR and "is full" in one(cluster, "conntrack").what
    node.host.nf_conntrack_max = 0
    node.net.ct.stats["insert_failed"] = 2
    assert "insert_failed is 2" in one(cluster, "conntrack").what


def test_a_policy_that_nobody_enforces(cluster: Cluster) -> None:
    cluster.apply_documents([{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny"}, "spec": {"podSelector": {}}}])
    assert one(cluster, "policies").severity == WARNING
