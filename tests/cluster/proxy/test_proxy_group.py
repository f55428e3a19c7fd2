"""Nodes whose rules nobody has looked at: when somebody does, they are what the syncs that took place would have left.

Each story is told twice: once with all tables made at the start, once with them made at the end. Rules, counters, the digest
and the number of the loop's steps are the same.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kubenet.cluster.cluster import Cluster
from kubenet.kernel.netfilter.core import nf_ready
from kubenet.kernel.netfilter.xtables.save import iptables_save
from kubenet.units import SEC

TWO_NODES = {"kind": "Topology", "metadata": {"name": "two"}, "spec": {"nodes": [{"name": "node-1"}, {"name": "node-2"}]}}


def service(name, **spec):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": [{"port": 80, "targetPort": 8080}], **spec}}


def eslice(name, svc, addresses, node="node-1"):
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": svc}},
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [a], "nodeName": node, "conditions": {"ready": True}} for a in addresses]}


def addresses(first, count):
    return [f"10.60.{n >> 8}.{n & 255}" for n in range(first, first + count)]


def services_come_and_go(c):
    c.apply_documents([service("web"), eslice("web-1", "web", addresses(0, 3)), service("db", type="NodePort")])
    c.run(2 * SEC)
    c.apply_documents([eslice("web-1", "web", addresses(1, 3)), eslice("db-1", "db", addresses(9, 1), "node-2")])
    c.run(2 * SEC)
    c.store.delete("Service", ("default", "db"))
    c.run(2 * SEC)


def local_traffic(c):
    c.apply_documents([service("web", internalTrafficPolicy="Local"), eslice("web-1", "web", addresses(0, 2), "node-2")])
    c.run(40 * SEC)
    c.apply_documents([eslice("web-1", "web", addresses(1, 2), "node-1")])
    c.run(2 * SEC)


def large_with_stale_chains(c):
    """Over 1,000 endpoints: chains that nobody needs stay for a sync period (iptables/proxier.go, largeClusterEndpoints)."""
    c.apply_documents([service("web"), *(eslice(f"web-{n}", "web", addresses(100 * n, 100)) for n in range(11))])
    c.run(2 * SEC)
    c.apply_documents([eslice("web-0", "web", addresses(0, 95))])
    c.run(2 * SEC)
    c.apply_documents([eslice("web-1", "web", addresses(100, 95))])
    c.run(2 * SEC)


def becoming_large(c):
    c.apply_documents([service("web"), *(eslice(f"web-{n}", "web", addresses(100 * n, 100)) for n in range(10))])
    c.run(2 * SEC)
    c.apply_documents([eslice("web-0", "web", addresses(2000, 95)), eslice("web-11", "web", addresses(1100, 50))])
    c.run(2 * SEC)


def one_proxy_hangs(c):
    c.apply_documents([service("web"), eslice("web-1", "web", addresses(0, 3))])
    c.run(2 * SEC)
    c.nodes["node-2"].proxy.pause()
    c.apply_documents([eslice("web-1", "web", addresses(1, 3))])
    c.run(2 * SEC)
    c.nodes["node-2"].proxy.resume()
    c.apply_documents([service("db")])
    c.run(2 * SEC)


def tables_flushed(c):
    c.apply_documents([service("web"), eslice("web-1", "web", addresses(0, 3))])
    c.run(2 * SEC)
    for table in ("nat", "filter", "mangle"):
        c.exec("node-1", f"iptables -t {table} -F; iptables -t {table} -X")
    c.run(40 * SEC)


STORIES = (services_come_and_go, local_traffic, large_with_stale_chains, becoming_large, one_proxy_hangs, tables_flushed)


def told(story: Callable[[Cluster], None], early: bool) -> dict[str, object]:
    with Cluster(TWO_NODES) as c:
        if early:
            for node in c.nodes.values():
                nf_ready(node.net)
        c.settle()
        story(c)
        step, digest = c.loop.step, c.digest()
        rules = {name: [line for line in iptables_save(node.net, 2, counters=True).splitlines() if line[:1] != "#"]
                 for name, node in c.nodes.items()}
        assert c.loop.step == step, "a look moves nothing"
        return {"step": step, "digest": digest, **rules}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_late_rules_are_the_early_ones(story):
    early, late = told(story, True), told(story, False)
    assert early == late
    assert any("KUBE-SEP-" in line for line in early["node-1"])


def test_unused_nodes_have_no_tables():
    with Cluster(TWO_NODES) as c:
        c.settle()
        assert all(not node.net.xt for node in c.nodes.values())
        assert "KUBE-SERVICES" in c.exec("node-1", "iptables -t nat -S").out
        assert c.nodes["node-1"].net.xt and not c.nodes["node-2"].net.xt


def test_the_first_packet_meets_the_rules():
    """A packet on a node that nobody has looked at: KUBE-SERVICES refuses what has no endpoints."""
    with Cluster(TWO_NODES) as c:
        c.apply_documents([service("web", clusterIP="10.96.0.99")])
        c.settle()
        result = c.exec("node-2", "nc -v -w 3 10.96.0.99 80")
        assert "refused" in result.err
