"""Services through kube-proxy's iptables rules: who answers, whose address the server sees, what each node's conntrack knows.

Sources: the masquerade test of kube-proxy (behaviour matrix for traffic policies) and measurements on Linux 6.18 with the
same rules: TTLs, tuples, errnos.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from kubenet.units import MSEC, SEC
from tests.scenarios.world import (
    ACK,
    AF_INET,
    CLIENT,
    DGRAM,
    ECONNREFUSED,
    EPERM,
    ETIMEDOUT,
    SYN,
    World,
    connect,
    http_get,
    netexec,
    pod,
    service,
    udp_ask,
)

FAR, NEAR = "10.48.2.20", "10.48.1.20"  # the only endpoints of their Services, on node-2 and node-1
FAR_VIP, NEAR_VIP, NONE_VIP = "10.96.0.11", "10.96.0.12", "10.96.0.13"
NODE1, NODE2, OUTSIDE = "172.18.0.2", "172.18.0.3", "172.18.0.100"
HTTP = {"name": "http", "port": 80, "targetPort": 8080}
UDP = {"name": "udp", "port": 81, "targetPort": 8081, "protocol": "UDP"}


def node_port(name: str, app: str, port: int, policy: str = "Cluster", ip: str = "") -> dict[str, Any]:
    ports = [{**HTTP, "nodePort": port}, {**UDP, "nodePort": port + 100}]
    return service(name, ip, {"app": app}, ports, type="NodePort", externalTrafficPolicy=policy)


DOCS = [
    pod("client", "node-1", CLIENT), netexec("far", "node-2", FAR, "far"), netexec("near", "node-1", NEAR, "near"),
    node_port("far", "far", 30011, ip=FAR_VIP), node_port("near", "near", 30012, ip=NEAR_VIP),
    node_port("none", "nobody", 30013, ip=NONE_VIP),
    node_port("far-local", "far", 30021, "Local"), node_port("near-local", "near", 30022, "Local"),
]


@pytest.fixture(scope="module")
def w() -> Iterator[World]:
    with World(docs=DOCS, cast=False) as world:
        # The outside client has a route to ClusterIPs, as a router in front of a cluster may have.
        world.sh("outside", "ip route add 10.96.0.0/16 via 172.18.0.2")
        yield world


@pytest.fixture
def clean(w: World) -> World:
    """The same world, quiet and without a conntrack entry."""
    w.run(1)
    for node in ("node-1", "node-2"):
        w.sh(node, "conntrack -F")
    return w


def source(text: str) -> str:
    return text.rpartition(":")[0]


MATRIX = [
    # who asks, what, and the source address that the server sees
    ("client", (FAR_VIP, 80), CLIENT),                # local pod -> ClusterIP: no SNAT
    ("client", (NEAR_VIP, 80), CLIENT),
    ("far", (FAR_VIP, 80), "10.48.2.1"),              # hairpin: masqueraded to the bridge's address
    ("near", (NEAR_VIP, 80), "10.48.1.1"),
    ("node-1", (FAR_VIP, 80), NODE1),                 # node -> ClusterIP: SNAT
    ("node-1", (NEAR_VIP, 80), "10.48.1.1"),
    ("outside", (FAR_VIP, 80), NODE1),                # outside -> ClusterIP: SNAT
    ("outside", (NEAR_VIP, 80), "10.48.1.1"),
    ("client", (NODE1, 30011), NODE1),                # pod -> nodePort, policy Cluster: SNAT
    ("client", (NODE2, 30011), "10.48.2.1"),
    ("node-1", (NODE1, 30011), NODE1),                # node -> its own nodePort
    ("node-1", ("127.0.0.1", 30011), NODE1),          # through localhost: route_localnet and masquerade
    ("node-1", (NODE2, 30012), NODE2),                # in at node-2, endpoint on node-1: the entry node's uplink address
    ("outside", (NODE1, 30011), NODE1),
    ("outside", (NODE1, 30012), "10.48.1.1"),         # endpoint on the entry node: its cni0 address
    ("outside", (NODE2, 30011), "10.48.2.1"),
    ("outside", (NODE2, 30021), OUTSIDE),             # policy Local: the client's address is kept
    ("outside", (NODE1, 30022), OUTSIDE),
    ("client", (NODE1, 30021), CLIENT),               # a pod is short-circuited: all endpoints, no SNAT
    ("client", (NODE1, 30022), CLIENT),
    ("node-1", (NODE1, 30021), NODE1),                # the node itself: all endpoints, SNAT
]


@pytest.mark.parametrize("who, what, seen", MATRIX)
def test_source_address_that_the_server_sees(w: World, who: str, what: tuple[str, int], seen: str) -> None:
    """kube-proxy behaviour matrix, TCP."""
    assert source(w.get(who, what)) == seen


@pytest.mark.parametrize("who, what, seen", MATRIX)
def test_source_address_of_datagrams(w: World, who: str, what: tuple[str, int], seen: str) -> None:
    """The same for UDP: Services do not differ by protocol."""
    addr, port = what
    assert source(w.do(who, udp_ask, (addr, 81 if port == 80 else port + 100))) == seen


@pytest.mark.parametrize("who, entry", [("outside", (NODE1, 30021)), ("outside", (NODE2, 30022))])
def test_policy_local_without_local_endpoint_is_silence(w: World, who: str, entry: tuple[str, int]) -> None:
    """Measured: SYNs are dropped, the client retries them at 1, 2, 3 s and gives up when its own timeout ends."""
    tap = w.tap(who)
    assert w.errno(who, connect, entry, 3500 * MSEC) in (ETIMEDOUT, 115, 11)
    syns = [f for f in tap.tcp(SYN, out=True) if f.dport == entry[1]]
    assert [round((f.t - syns[0].t) / SEC, 3) for f in syns] == [0, 1, 2, 3]
    assert not [f for f in tap.frames if not f.out and f.proto in (1, 6)]


def test_a_pod_is_short_circuited_at_another_nodes_port_too(w: World) -> None:
    """With detectLocal=ClusterCIDR every pod is a local pod everywhere: node-2, without local endpoint, sends it on to the
    one on node-1 without SNAT. The server therefore answers the client directly, past node-2, and that cannot work."""
    at_server, at_client = w.tap("near"), w.tap("client")
    assert w.errno("client", connect, (NODE2, 30022), 1500 * MSEC) in (ETIMEDOUT, 115, 11)
    assert {f.src for f in at_server.tcp(SYN, out=False)} == {CLIENT}
    assert {f.src for f in at_client.tcp(SYN | ACK, out=False)} == {NEAR}
    assert source(w.get("client", (NODE2, 30021))) == CLIENT  # where the endpoint is, it does


# ---- the tuples


def test_cluster_ip_across_nodes_leaves_dnat_here_and_a_plain_entry_there(clean: World) -> None:
    """Measured: entry with DNAT on the client's node, plain entry on the server's node."""
    port = int(clean.get("client", (FAR_VIP, 80)).rpartition(":")[2])
    assert clean.tuples("node-1", proto=6) == [f"{CLIENT}:{port}>{FAR_VIP}:80 {FAR}:8080>{CLIENT}:{port}"]
    assert clean.tuples("node-2", proto=6) == [f"{CLIENT}:{port}>{FAR}:8080 {FAR}:8080>{CLIENT}:{port}"]


def test_node_port_leaves_both_translations_in_one_entry(clean: World) -> None:
    """nodePort, endpoint elsewhere: destination and source are rewritten on the entry node, the other sees node to pod."""
    port = int(clean.get("outside", (NODE1, 30011)).rpartition(":")[2])
    [entry] = clean.tuples("node-1", proto=6)
    assert re.fullmatch(rf"172\.18\.0\.100:(\d+)>172\.18\.0\.2:30011 {FAR}:8080>172\.18\.0\.2:{port}", entry), entry
    assert clean.tuples("node-2", proto=6) == [f"{NODE1}:{port}>{FAR}:8080 {FAR}:8080>{NODE1}:{port}"]


def test_pods_track_nothing(clean: World) -> None:
    """Conntrack is not active in a namespace without rules: the pods' own stacks have no table."""
    clean.get("client", (FAR_VIP, 80))
    assert clean.net("client").ct is None and clean.net("far").ct is None


# ---- TTL


@pytest.mark.parametrize("vip, server, hops", [(FAR_VIP, "far", 2), (NEAR_VIP, "near", 0)])
def test_ttl_at_the_server(w: World, vip: str, server: str, hops: int) -> None:
    """Measured: 62 across two nodes; on the same node the bridge does the DNAT and nobody routes: 64."""
    tap = w.tap(server)
    w.get("client", (vip, 80))
    assert {f.ttl for f in tap.tcp(out=False)} == {64 - hops}


def test_first_frame_on_the_same_node_leaves_through_the_bridge_device(make: Any) -> None:
    """Measured: the bridge asks ARP for the pod itself (sender 10.48.1.1) and the waiting first frame is seen on cni0;
    later frames never touch it."""
    w = make(docs=DOCS, cast=False)
    cni0 = w.tap("node-1", "cni0")
    near = w.tap("near")
    http = w.get("client", (NEAR_VIP, 80))
    assert source(http) == CLIENT
    asked = [f for f in near.frames if f.proto == 0 and not f.out]
    assert [(f.src, f.dst) for f in asked if f.dst == NEAR][:1] == [("10.48.1.1", NEAR)]
    assert [f.flags for f in cni0.tcp(out=True)] == [SYN]


# ---- bridge-nf-call-iptables = 0


@pytest.fixture(scope="module")
def no_bridge_nf() -> Iterator[World]:
    with World(docs=DOCS, cast=False) as world:
        for node in ("node-1", "node-2"):
            world.sysctl(node, "net.bridge.bridge-nf-call-iptables", 0)
        yield world


def test_without_bridge_nf_the_same_node_does_not_answer(no_bridge_nf: World) -> None:
    """Measured: the request is routed (TTL 63), the answer is bridged past the node with the pod's address; the client
    resets each SYN-ACK; connect() never completes."""
    w = no_bridge_nf
    at_client, at_server = w.tap("client"), w.tap("near")
    assert w.errno("client", connect, (NEAR_VIP, 80), 2500 * MSEC) in (ETIMEDOUT, 115, 11)
    assert {f.ttl for f in at_server.tcp(SYN, out=False)} == {63}
    answers = at_client.tcp(SYN | 16, out=False)
    assert answers and {f.src for f in answers} == {NEAR}
    resets = [f for f in at_client.tcp(out=True) if f.flags & 4]
    assert len(resets) == len(answers) and {f.dst for f in resets} == {NEAR}


def test_without_bridge_nf_no_redirect_reaches_the_client(no_bridge_nf: World) -> None:
    """The routed request leaves by the device it came in on, so the node makes a redirect; but about a translated packet NAT drops
    it (nf_nat_icmp_reply_translation()). Measured on Linux 6.18: IcmpOutRedirects counts each SYN, the client sees no ICMP."""
    w = no_bridge_nf
    tap = w.tap("client")
    before = w.net("node-1").snmp["IcmpOutRedirects"]
    w.errno("client", connect, (NEAR_VIP, 80), 1500 * MSEC)
    assert w.net("node-1").snmp["IcmpOutRedirects"] - before == 2 and tap.icmp() == []


@pytest.mark.parametrize("who, what, seen", [
    ("client", (FAR_VIP, 80), CLIENT), ("far", (FAR_VIP, 80), "10.48.2.1"), ("near", (NEAR_VIP, 80), "10.48.1.1"),
    ("node-1", (NEAR_VIP, 80), "10.48.1.1"), ("outside", (NODE1, 30012), "10.48.1.1"), ("outside", (NODE1, 30022), OUTSIDE),
])
def test_without_bridge_nf_all_that_is_routed_works(no_bridge_nf: World, who: str, what: tuple[str, int], seen: str) -> None:
    """Other nodes' endpoints, hairpin (needs no hairpin_mode then: it leaves through cni0 as routed), nodes, outside."""
    assert source(no_bridge_nf.get(who, what)) == seen


# ---- hairpin


def test_hairpin_needs_the_port_to_send_back(make: Any) -> None:
    """Measured: with bridge-nf=1 the masqueraded frame must leave by the port it came in on, so hairpin_mode off is silence;
    with bridge-nf=0 it is routed and does not need it."""
    w = make(docs=DOCS, cast=False)
    bridge = w.net("node-2").devs["cni0"]
    for port in bridge.ports.values():
        port.hairpin = False
    assert w.errno("far", connect, (FAR_VIP, 80), 1500 * MSEC) in (ETIMEDOUT, 115, 11)
    w.sysctl("node-2", "net.bridge.bridge-nf-call-iptables", 0)
    assert source(w.get("far", (FAR_VIP, 80))) == "10.48.2.1"


# ---- no endpoints


@pytest.mark.parametrize("who, what", [("client", (NONE_VIP, 80)), ("node-1", (NONE_VIP, 80)), ("outside", (NODE1, 30013)),
                                       ("client", (NODE1, 30013)), ("outside", (NONE_VIP, 80))])
def test_no_endpoints_tcp_is_refused_at_once(clean: World, who: str, what: tuple[str, int]) -> None:
    """Measured: REJECT, ICMP port unreachable, ECONNREFUSED in 0.1-0.2 ms; no conntrack entry stays."""
    job = clean.go(who, connect, what)
    with pytest.raises(OSError) as refused:
        clean.wait(job)
    assert refused.value.errno == ECONNREFUSED
    assert job.took < MSEC
    assert clean.tuples("node-1", proto=6) == []


def test_no_endpoints_own_node_port_is_refused_on_the_way_in(clean: World) -> None:
    """The rule stands in INPUT and FORWARD only (KUBE-EXTERNAL-SERVICES), so a node's SYN to itself passes OUTPUT and
    POSTROUTING, where its entry is confirmed, and is refused on its way back in: that entry does stay."""
    assert clean.errno("node-1", connect, (NODE1, 30013)) == ECONNREFUSED
    assert [ct.reply[0] == ct.orig[2] for ct in clean.entries("node-1", proto=6, dport=30013)] == [True]


def udp_send_then_recv(sys: Any, addr: tuple[str, int]) -> list[int]:
    """The errnos of send, recv, recv on a connected socket; 0 for success."""
    fd = sys.socket(AF_INET, DGRAM)
    sys.connect(fd, addr)
    out = []
    for call in (lambda: sys.send(fd, b"x"), lambda: sys.recv(fd, 100, 0, SEC // 10), lambda: sys.recv(fd, 100, 0, SEC // 10)):
        try:
            call()
            out.append(0)
        except OSError as error:
            out.append(error.errno)
    return out


def test_no_endpoints_udp_from_a_pod(clean: World) -> None:
    """Measured: ECONNREFUSED on the next call, once."""
    assert clean.do("client", udp_send_then_recv, (NONE_VIP, 81)) == [0, ECONNREFUSED, 11]
    assert clean.tuples("node-1", proto=17, dport=81) == []


def test_no_endpoints_udp_from_the_node_itself(clean: World) -> None:
    """Measured: send() returns EPERM, because OUTPUT refused it, and recv() ECONNREFUSED, because the ICMP came too."""
    assert clean.do("node-1", udp_send_then_recv, (NONE_VIP, 81)) == [EPERM, ECONNREFUSED, 11]


def test_reject_is_sent_from_the_bridge_address_and_quotes_the_service(w: World) -> None:
    """Measured: the source is the address of the interface towards the receiver, TOS 0xc0, and the quoted packet from
    FORWARD has its TTL already decremented: 63."""
    tap = w.tap("client")
    w.errno("client", connect, (NONE_VIP, 80))
    [error] = [f for f in tap.icmp() if not f.out]
    assert (error.src, error.l4.type, error.l4.code, error.ip.tos) == ("10.48.1.1", 3, 3, 0xC0)
    assert error.quote.ip.ttl in (63, 64) and error.quote.l4.dport == 80
    from kubenet.wire.addr import ip4_text

    assert ip4_text(error.quote.ip.daddr) == NONE_VIP


def test_a_wrong_port_of_a_cluster_ip_wanders_to_the_default_route(w: World) -> None:
    """iptables mode matches address and port; anything else leaves through eth0 to the gateway, where nobody answers."""
    tap = w.tap("node-1")
    assert w.errno("client", connect, (FAR_VIP, 4444), 1500 * MSEC) in (ETIMEDOUT, 115, 11, 113, 101)
    assert [f for f in tap.tcp(SYN, out=True) if (f.dst, f.dport) == (FAR_VIP, 4444)]


# ---- the node's own processes


def test_node_without_default_route_cannot_reach_a_cluster_ip(make: Any) -> None:
    """Measured: connect() looks up the route before any hook sees the packet: ENETUNREACH, although OUTPUT's DNAT would
    have sent it to a pod that is reachable."""
    w = make(docs=DOCS, cast=False)
    w.sh("node-1", "ip route del default")
    assert w.errno("node-1", connect, (NEAR_VIP, 80)) == 101
    assert source(w.get("client", (FAR_VIP, 80))) == CLIENT  # its pods do not care


# ---- headless and balance


def test_headless_service_has_no_rule_and_the_pods_own_addresses(make: Any) -> None:
    """clusterIP: None: DNS answers with the endpoints, kube-proxy does nothing, no translation happens."""
    w = make(docs=[service("direct", selector={"app": "web"}, clusterIP="None")])
    found = sorted(w.sh("client", "dig +short direct.default.svc.cluster.local").split())
    assert found == ["10.48.1.6", "10.48.2.7"]
    assert "direct" not in w.sh("node-1", "iptables-save -t nat")
    w.sh("node-1", "conntrack -F")
    w.get("client", ("10.48.2.7", 8080))
    [entry] = w.entries("node-1", proto=6)
    assert (entry.orig[0], entry.orig[1]) == (entry.reply[2], entry.reply[3])
    assert (entry.orig[2], entry.orig[3]) == (entry.reply[0], entry.reply[1])


def many(sys: Any, addr: tuple[str, int], count: int) -> dict[str, int]:
    seen: dict[str, int] = {}
    for _ in range(count):
        name = http_get(sys, addr, "/hostname")
        seen[name] = seen.get(name, 0) + 1
    return seen


def test_connections_spread_over_the_endpoints(make: Any) -> None:
    """-m statistic: each endpoint has the same probability. 400 draws of five: within five standard deviations (8) of 80."""
    w = make(docs=[*(netexec(f"b-{n}", f"node-{1 + n % 2}", app="b") for n in range(5)), service("b", "10.96.0.50")])
    seen = w.do("client", many, ("10.96.0.50", 80), 400)
    assert len(seen) == 5 and sum(seen.values()) == 400
    assert all(40 <= count <= 120 for count in seen.values()), seen
