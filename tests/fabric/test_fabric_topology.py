"""Topologies: the defaults of the cast, what a manifest may say, and how mistakes are reported."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.errors import ManifestError
from kubenet.fabric.graph import from_manifest, three_nodes, two_nodes
from kubenet.sim.clock import EventLoop
from kubenet.units import MSEC
from kubenet.wire.addr import ip4, ip4_text


def test_three_nodes_and_the_client_outside() -> None:
    topo = three_nodes()
    assert {m.name: ip4_text(m.ip) for m in topo.machines} == {
        "node-1": "172.18.0.2", "node-2": "172.18.0.3", "node-3": "172.18.0.4", "outside": "172.18.0.100"}
    assert (topo.seed, topo.pod_cidr, topo.service_cidr, len(two_nodes().nodes)) == (7, "10.48.0.0/16", "10.96.0.0/16", 2)


def test_the_graph_has_a_path_through_the_switch() -> None:
    graph = three_nodes().graph
    assert nx.shortest_path(graph, "node-1", "node-3") == ["node-1", "lan", "node-3"]
    assert {kind for _, kind in graph.nodes(data="kind")} == {"switch", "node", "outside"}


def test_built_machines_have_address_default_route_and_reach_each_other() -> None:
    fabric = three_nodes().build(EventLoop())
    assert list(fabric.machines) == ["node-1", "node-2", "node-3", "outside"]
    machine = fabric.machines["node-1"]
    assert machine.nic.name == "eth0" and machine.nic.ifindex == 2
    assert machine.net.local_addrs[2][ip4("172.18.0.2")] is machine.nic
    from kubenet.kernel.ipv4.route import ip_route_output_key

    assert ip_route_output_key(machine.net, ip4("8.8.8.8")).gateway == ip4("172.18.0.1")


def test_addresses_of_machines_do_not_depend_on_their_order() -> None:
    """MACs are functions of (seed, host, device)."""
    def macs(names: list[str]) -> dict[str, int]:
        topo = from_manifest({"spec": {"nodes": [{"name": n} for n in names]}})
        return {name: m.nic.addr for name, m in topo.build(EventLoop()).machines.items()}

    assert macs(["x", "y", "z"]) == dict(sorted(macs(["z", "x", "y"]).items()))


def test_what_a_manifest_may_say() -> None:
    topo = from_manifest({
        "apiVersion": "kubenet.dev/v1", "kind": "Topology", "metadata": {"name": "wan"},
        "spec": {
            "seed": 42, "network": {"cidr": "10.0.0.0/24", "gateway": "10.0.0.254"},
            "nodes": [{"name": "a", "ip": "10.0.0.7", "labels": {"zone": "x"}, "podCIDR": "10.1.0.0/24"},
                      {"name": "b", "link": {"latency": "5ms"}}],
            "outside": [{"name": "world", "address": "10.0.0.9"}],
            "links": [{"between": ["a", "lan"], "rate": "10mbit", "loss": "1.5%", "mtu": 1400, "offload": "off"},
                      {"node": "world", "latency": "40ms", "jitter": "2ms"}],
            "kubeProxy": {"mode": "ipvs"}}})
    a, b, world = topo.machines
    assert (topo.name, topo.seed, topo.gateway, topo.kube_proxy) == ("wan", 42, ip4("10.0.0.254"), {"mode": "ipvs"})
    assert (a.link.rate, a.link.loss, a.link.mtu, a.link.offload) == (10_000_000, 0.015, 1400, False)
    assert (a.labels, a.pod_cidr, ip4_text(b.ip), b.link.latency) == ({"zone": "x"}, "10.1.0.0/24", "10.0.0.2", 5 * MSEC)
    assert (ip4_text(world.ip), world.link.latency, world.link.jitter, world.is_node) == ("10.0.0.9", 40 * MSEC, 2 * MSEC, False)
    assert topo.build(EventLoop()).machines["a"].nic.mtu == 1400


def test_links_as_one_object_are_defaults_for_all() -> None:
    topo = from_manifest({"spec": {"nodes": [{"name": "a"}, {"name": "b", "link": {"rate": "1gbit"}}],
                                   "links": {"latency": "10us", "offload": {"tso": False}}}})
    assert [(m.link.latency, m.link.rate, m.link.offload) for m in topo.machines] == [(10_000, 0, False), (10_000, 10**9, False)]


@pytest.mark.parametrize("spec, words, field", [
    ({}, "spec.nodes is empty", "spec.nodes"),
    ({"nodes": [{}]}, "spec.nodes[0] has no name", "spec.nodes[0].name"),
    ({"nodes": [{"name": "a"}, {"name": "a"}]}, "a is taken", "spec.nodes[1].name"),
    ({"nodes": [{"name": "lan"}]}, "lan is taken", "spec.nodes[0].name"),
    ({"nodes": [{"name": "a", "ip": "10.0.0.1"}]}, "cannot have 10.0.0.1", "spec.nodes[0].ip"),
    ({"nodes": [{"name": "a", "ip": "172.18.0.1"}]}, "cannot have 172.18.0.1", "spec.nodes[0].ip"),
    ({"nodes": [{"name": "a", "ip": "172.18.0"}]}, "is not an IPv4 address", "spec.nodes[0].ip"),
    ({"nodes": [{"name": "a"}], "links": [{"node": "b"}]}, "names no machine", "spec.links[0]"),
    ({"nodes": [{"name": "a"}], "links": {"latency": "soon"}}, "is not a duration", "spec.links.latency"),
    ({"nodes": [{"name": "a"}], "links": {"rate": "fast"}}, "is not a rate", "spec.links.rate"),
    ({"nodes": [{"name": "a"}], "links": {"loss": "120%"}}, "'120%'", "spec.links.loss"),
    ({"nodes": [{"name": "a"}], "links": {"mtu": 60}}, "60", "spec.links.mtu"),
    ({"nodes": [{"name": "a"}], "links": {"speed": 1}}, "unknown field spec.links.speed", "spec.links.speed"),
    ({"nodes": [{"name": "a"}], "network": {"cidr": "172.18.0.5/16"}}, "not a network", "spec.network.cidr"),
    ({"nodes": [{"name": "a"}], "seed": "x"}, "'x'", "spec.seed"),
])
def test_mistakes_say_what_and_where(spec: dict, words: str, field: str) -> None:
    with pytest.raises(ManifestError) as caught:
        from_manifest({"spec": spec}, "topo.yaml")
    assert words in caught.value.what
    assert caught.value.field == field
    assert caught.value.file == "topo.yaml"


SCALARS = st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats() | st.sampled_from(
    ["", "a", "lan", "10.0.0.1", "172.18.0.9", "10.0.0.0/8", "5ms", "1gbit", "50%", "on", "off", "x y"])
KEYS = st.sampled_from(["name", "ip", "address", "podCIDR", "labels", "link", "links", "latency", "rate", "loss", "mtu", "queue",
                        "jitter", "offload", "tso", "node", "between", "cidr", "gateway", "zzz"])
TREES = st.recursive(SCALARS, lambda kids: st.lists(kids, max_size=3) | st.dictionaries(KEYS, kids, max_size=4), max_leaves=12)
SPECS = st.fixed_dictionaries({}, optional={
    "seed": TREES, "nodes": st.lists(st.dictionaries(KEYS, TREES, max_size=4) | TREES, max_size=3) | TREES, "outside": TREES,
    "network": st.dictionaries(KEYS, TREES, max_size=2) | TREES, "links": st.lists(TREES, max_size=2) | TREES, "podCIDR": TREES,
    "serviceCIDR": TREES, "nodeCIDR": TREES, "kubeProxy": TREES})


@settings(max_examples=400, deadline=None)
@given(st.fixed_dictionaries({}, optional={"spec": SPECS | TREES, "metadata": TREES}))
def test_nonsense_is_a_manifest_error_and_nothing_else(document: dict) -> None:
    try:
        topo = from_manifest(document)
    except ManifestError:
        return
    assert topo.nodes
    topo.build(EventLoop())
