"""Services of type LoadBalancer: addresses, the balancer's health checks, and the outside client's way in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kubenet import Cluster
from kubenet.cluster.balancer import UNHEALTHY_THRESHOLD, Announced, NodeCheck
from kubenet.units import SEC

Obj = dict[str, Any]
IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.53"


def web(name: str, node: str) -> Obj:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": IMAGE, "args": ["netexec", "--http-port=8080"]}]}}


def service(name: str = "web", **spec: Any) -> Obj:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {
        "type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], **spec}}


def ingress(cluster: Cluster, name: str = "web") -> list[Obj]:
    found = cluster.store.must_get("Service", ("default", name))["status"].get("loadBalancer") or {}
    return list(found.get("ingress") or [])


def reasons(cluster: Cluster, name: str) -> list[str]:
    return [e["reason"] for e in cluster.store.iter("Event") if e["involvedObject"]["name"] == name]


Make = Callable[..., Cluster]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Cluster] = []

    def build(*docs: Obj) -> Cluster:
        made.append(Cluster())
        made[-1].apply_documents(docs)
        made[-1].settle()
        return made[-1]

    yield build
    for cluster in made:
        cluster.close()


def get(cluster: Cluster, source: str, url: str) -> tuple[int, str]:
    found = cluster.exec(source, ["curl", "-s", "-m", "3", url])
    return found.code, found.out


def test_without_such_a_service_the_gateway_forwards_nothing(make: Make) -> None:
    cluster = make(service("plain", type="ClusterIP"))
    assert cluster.balancer.container is None and "gateway" not in cluster.machines
    assert cluster.exec("outside", ["ping", "-c", "1", "-W", "1", "203.0.113.1"]).code == 1


def test_policy_cluster_is_reached_from_outside_and_inside(make: Make) -> None:
    """One pod, on node-1; with Cluster it does not matter which node the balancer uses. The pod sees a node's address."""
    cluster = make(web("web-1", "node-1"), service())
    assert ingress(cluster) == [{"ip": "203.0.113.1", "ipMode": "VIP"}]
    assert reasons(cluster, "web") == ["EnsuringLoadBalancer", "EnsuredLoadBalancer"]
    assert get(cluster, "outside", "http://203.0.113.1/hostname") == (0, "web-1")
    assert get(cluster, "node-2", "http://203.0.113.1/hostname") == (0, "web-1")
    client = get(cluster, "outside", "http://203.0.113.1/clientip")[1]
    assert client.rpartition(":")[0] != "172.18.0.100"
    assert get(cluster, "outside", "http://203.0.113.2/")[0] == 28  # an address that nobody has: silence


def test_the_address_hash_chooses_the_node(make: Make) -> None:
    """MetalLB's order: sha256 of node#address, the lowest first."""
    cluster = make(web("web-1", "node-1"), service())
    wanted = min(("node-1", "node-2", "node-3"), key=lambda n: hashlib.sha256(f"{n}#203.0.113.1".encode()).hexdigest())
    routes = cluster.exec("gateway", ["ip", "route"]).out
    assert f"203.0.113.1 via {cluster.nodes[wanted].ip} dev eth0" in routes and routes.startswith("blackhole default")


@pytest.mark.parametrize("node", ["node-1", "node-2", "node-3"])
def test_policy_local_goes_where_the_pod_is_and_keeps_the_client(make: Make, node: str) -> None:
    cluster = make(web("web-1", node), service(externalTrafficPolicy="Local"))
    port = cluster.store.must_get("Service", ("default", "web"))["spec"]["healthCheckNodePort"]
    assert get(cluster, "outside", "http://203.0.113.1/clientip")[1].rpartition(":")[0] == "172.18.0.100"
    for other, machine in cluster.nodes.items():
        code, body = get(cluster, "outside", f"http://{machine.ip}:{port}/any/path")
        assert code == 0 and json.loads(body) == {
            "service": {"namespace": "default", "name": "web"}, "localEndpoints": int(other == node), "serviceProxyHealthy": True}
        status = cluster.exec("outside", ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{machine.ip}:{port}/"]).out
        assert status == ("200" if other == node else "503")


def test_policy_local_follows_the_pod_after_three_failed_checks(make: Make) -> None:
    """node-1's pod goes and node-2's comes: the old node is out after the third failure, at most 3 x 8 s and an answer later."""
    cluster = make(web("web-1", "node-1"), service(externalTrafficPolicy="Local"))
    entry = cluster.balancer.announced["default", "web"]
    assert entry.chosen == "node-1"
    cluster.store.delete("Pod", ("default", "web-1"), grace=0)
    cluster.apply_documents([web("web-2", "node-2")])
    cluster.settle()
    cluster.run(25 * SEC)
    assert (entry.nodes["node-1"].healthy, entry.nodes["node-2"].healthy, entry.chosen) == (False, True, "node-2")
    assert get(cluster, "outside", "http://203.0.113.1/hostname") == (0, "web-2")


def test_policy_local_without_an_endpoint_is_silent(make: Make) -> None:
    cluster = make(service(externalTrafficPolicy="Local"))
    assert cluster.balancer.announced["default", "web"].chosen == "" and not cluster.unsettled()
    assert get(cluster, "outside", "http://203.0.113.1/")[0] == 28


def test_source_ranges_shut_the_client_out(make: Make) -> None:
    """The client's address reaches the node unchanged, so the node's rules can tell."""
    cluster = make(web("web-1", "node-1"), service(loadBalancerSourceRanges=["198.51.100.0/24"]),
                   service("open", loadBalancerSourceRanges=["172.18.0.100/32"]))
    assert get(cluster, "outside", "http://203.0.113.1/")[0] == 28
    assert get(cluster, "outside", "http://203.0.113.2/hostname") == (0, "web-1")


def test_addresses_are_asked_for_kept_and_given_back(make: Make) -> None:
    cluster = make(service("a", loadBalancerIP="203.0.113.2"), service("b"), service("c"))
    assert [ingress(cluster, n)[0]["ip"] for n in "abc"] == ["203.0.113.2", "203.0.113.1", "203.0.113.3"]
    cluster.store.delete("Service", ("default", "b"))
    cluster.apply_documents([service("d"), service("taken", loadBalancerIP="203.0.113.2"), service("far", loadBalancerIP="10.0.0.1"),
                             service("theirs", loadBalancerClass="example.com/lb")])
    cluster.settle()
    assert ingress(cluster, "d")[0]["ip"] == "203.0.113.1"
    assert ingress(cluster, "taken") == ingress(cluster, "far") == ingress(cluster, "theirs") == []
    assert reasons(cluster, "far") == ["SyncLoadBalancerFailed"] and reasons(cluster, "theirs") == []
    cluster.store.delete("Service", ("default", "a"))
    cluster.run(6 * SEC)
    assert ingress(cluster, "taken") == [{"ip": "203.0.113.2", "ipMode": "VIP"}]


def test_a_service_that_becomes_another_type_loses_address_route_and_check_port(make: Make) -> None:
    cluster = make(web("web-1", "node-1"), service(externalTrafficPolicy="Local"))
    port = cluster.store.must_get("Service", ("default", "web"))["spec"]["healthCheckNodePort"]
    patch = json.dumps({"spec": {"type": "ClusterIP", "externalTrafficPolicy": None, "healthCheckNodePort": None}}).encode()
    answer = cluster.api.request("PATCH", "/api/v1/namespaces/default/services/web", {}, {"content-type": "application/merge-patch+json"}, patch)
    assert answer.code == 200, answer.body
    cluster.settle()
    cluster.run(2 * SEC)
    assert ingress(cluster) == [] and "203.0.113.1" not in cluster.exec("gateway", ["ip", "route"]).out
    assert get(cluster, "outside", f"http://{cluster.nodes['node-1'].ip}:{port}/")[0] == 7


def test_an_excluded_node_gets_no_traffic(make: Make) -> None:
    cluster = make(web("web-1", "node-1"), service())
    chosen = cluster.balancer.announced["default", "web"].chosen
    patch = json.dumps({"metadata": {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}}}).encode()
    cluster.api.request("PATCH", f"/api/v1/nodes/{chosen}", {}, {"content-type": "application/merge-patch+json"}, patch)
    cluster.run(SEC)
    assert cluster.balancer.announced["default", "web"].chosen not in ("", chosen)
    assert get(cluster, "outside", "http://203.0.113.1/hostname") == (0, "web-1")


def test_another_pool() -> None:
    topology = {"metadata": {"name": "t"}, "spec": {"nodes": [{"name": "node-1"}], "loadBalancerCIDR": "198.51.100.8/30"}}
    with Cluster(topology) as cluster:
        cluster.apply_documents([service(n) for n in ("a", "b", "c")])
        cluster.settle()
        assert [[i["ip"] for i in ingress(cluster, n)] for n in "abc"] == [["198.51.100.9"], ["198.51.100.10"], []]


def test_the_same_run_twice(make: Make) -> None:
    docs = web("web-1", "node-1"), service(externalTrafficPolicy="Local")
    one, other = make(*docs), make(*docs)
    for cluster in (one, other):
        get(cluster, "outside", "http://203.0.113.1/")
        cluster.run(30 * SEC)
    assert one.digest() == other.digest()


def test_thresholds() -> None:
    check = NodeCheck("node-1", "172.18.0.2")
    for _ in range(UNHEALTHY_THRESHOLD - 1):
        check.note(False)
    assert check.healthy is None
    check.note(False)
    assert check.healthy is False
    check.note(True)
    assert check.healthy is True
    check.note(False), check.note(False)
    assert check.healthy is True
    entry = Announced("203.0.113.1", 0)
    assert entry.best() == ""


def test_a_trace_goes_through_the_gateway_and_names_the_address(make: Make) -> None:
    from kubenet.query.names import Directory
    from kubenet.query.trace import probe_json

    cluster = make(web("web-1", "node-1"), service())
    probe = cluster.trace_probe("outside", "203.0.113.1:80")
    found = probe_json(cluster, probe)
    assert found["outcome"] == "delivered" and '"gateway"' in json.dumps(found)
    assert Directory(cluster).words(probe.address) == "service web (load balancer IP: on no interface, only in rules)"
