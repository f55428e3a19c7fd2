"""Sockets and netfilter are independent: the socket keeps the ClusterIP, the wire carries the pod, conntrack knows both.

Sources: Linux's hook order (raw, conntrack, mangle, nat at PREROUTING and OUTPUT; nat and confirm last at POSTROUTING and
INPUT), measurements of traced packets on 6.18.
"""

from __future__ import annotations

from typing import Any

import pytest

from kubenet.units import MSEC, SEC
from kubenet.wire.addr import ip4_text
from tests.scenarios.world import (
    ACK,
    AF_INET,
    CLIENT,
    DGRAM,
    ECONNREFUSED,
    RST,
    SYN,
    World,
    connect,
    listener,
    netexec,
    service,
)

FAR_VIP = "10.96.0.11"
FAR = service("far", FAR_VIP, {"app": "far"}, [{"name": "http", "port": 80, "targetPort": 8080},
                                               {"name": "raw", "port": 7000, "targetPort": 7000},
                                               {"name": "udp", "port": 81, "targetPort": 8081, "protocol": "UDP"}])
FAR_IP = "10.48.2.20"


@pytest.fixture
def w(make: Any) -> World:
    world: World = make(docs=[netexec("far", "node-2", FAR_IP, "far"), FAR])
    return world


def names(sys: Any, addr: tuple[str, int]) -> tuple[Any, Any]:
    fd = connect(sys, addr)
    return sys.getsockname(fd), sys.getpeername(fd)


def test_the_socket_sees_the_service_and_the_wire_the_pod(w: World) -> None:
    """getpeername(2) is what connect(2) was told; every frame on node-1's cable has the pod's address and port."""
    at_pod, on_wire = w.tap("client"), w.tap("node-1")
    local, peer = w.do("client", names, (FAR_VIP, 80))
    w.run(1)
    assert peer == (FAR_VIP, 80) and local[0] == CLIENT
    assert {(f.dst, f.dport) for f in at_pod.tcp(out=True)} == {(FAR_VIP, 80)}
    assert {(f.src, f.sport) for f in at_pod.tcp(out=False)} == {(FAR_VIP, 80)}
    assert {(f.dst, f.dport) for f in on_wire.tcp(out=True)} == {(FAR_IP, 8080)}
    assert {(f.src, f.sport) for f in on_wire.tcp(out=False)} == {(FAR_IP, 8080)}


def test_ss_in_the_pod_knows_nothing_of_the_endpoint(w: World) -> None:
    """`ss` reads sockets, and sockets know the Service only."""
    w.do("client", names, (FAR_VIP, 80))
    assert f"{FAR_VIP}:80" in w.sh("client", "ss -tan") and FAR_IP not in w.sh("client", "ss -tan")


def traced(w: World, first: Any) -> list[Any]:
    """The stations of the first packet that `first(head)` accepts."""
    return next(t for t in w.loop.tracer.packets.values() if first(t.head)).stations


def test_where_request_and_reply_are_translated(w: World) -> None:
    """The request's destination changes in PREROUTING (nat, -100). The reply's source is put back in POSTROUTING, where
    source addresses are rewritten (nat, 100): a capture on the way in still shows the pod."""
    w.loop.tracer.arm_all = True
    w.do("client", names, (FAR_VIP, 80))
    syn = traced(w, lambda h: h["flags"] == SYN and h["daddr"] and ip4_text(h["daddr"]) == FAR_VIP)
    answer = traced(w, lambda h: h["flags"] == SYN | ACK and ip4_text(h["saddr"]) == FAR_IP)
    hooks = {0: "PREROUTING", 1: "INPUT", 2: "FORWARD", 3: "OUTPUT", 4: "POSTROUTING"}
    assert [(s.host, hooks[s.hook]) for s in syn if s.func == "nf_nat_manip_pkt"] == [("node-1", "PREROUTING")]
    assert [(s.host, hooks[s.hook]) for s in answer if s.func == "nf_nat_manip_pkt"] == [("node-1", "POSTROUTING")]
    changed = next(i for i, s in enumerate(answer) if s.func == "nf_nat_manip_pkt")
    before = [s for s in answer[:changed] if s.host == "node-1" and s.saddr]
    assert {ip4_text(s.saddr) for s in before} == {FAR_IP}


def test_a_nodes_own_connection_is_translated_at_output_and_input(w: World) -> None:
    """A local process: destination at OUTPUT, source (masqueraded) at POSTROUTING. The reply: destination (un-SNAT) at
    PREROUTING, source (un-DNAT) at INPUT."""
    w.loop.tracer.arm_all = True
    w.do("node-1", names, (FAR_VIP, 80))
    syn = traced(w, lambda h: h["flags"] == SYN and ip4_text(h["daddr"]) == FAR_VIP)
    answer = traced(w, lambda h: h["flags"] == SYN | ACK and ip4_text(h["saddr"]) == FAR_IP)
    assert [s.hook for s in syn if s.func == "nf_nat_manip_pkt"] == [3, 4]
    assert [s.hook for s in answer if s.func == "nf_nat_manip_pkt"] == [0, 1]


def test_only_the_first_packet_visits_the_nat_chains(w: World) -> None:
    """Rule counters of nat chains count connections, not packets."""
    w.sh("node-1", "iptables -t nat -Z")
    for _ in range(3):
        w.get("client", (FAR_VIP, 80))
    line = next(x for x in w.sh("node-1", "iptables-save -c -t nat").splitlines() if f"-d {FAR_VIP}/32" in x and "--dport 80 " in x)
    assert line.startswith("[3:180]"), line  # three SYNs of 60 bytes


def test_hook_order_of_a_forwarded_syn(w: World) -> None:
    """Traced on 6.18: nat PREROUTING; filter FORWARD; nat POSTROUTING. Later packets the same without nat."""
    w.loop.tracer.arm_all = True
    w.get("client", ("10.48.2.20", 8080))
    chains = [(s.table, s.hook) for s in traced(w, lambda h: h["flags"] == SYN) if s.func == "ipt_do_table" and s.host == "node-1"]
    order = [c for i, c in enumerate(chains) if i == 0 or chains[i - 1] != c]
    assert [c for c in order if c[0] == "nat"] == [("nat", 0), ("nat", 4)]
    assert order.index(("nat", 0)) < order.index(("filter", 2)) < order.index(("nat", 4))
    data = traced(w, lambda h: h["plen"] > 0 and ip4_text(h["daddr"]) == FAR_IP)
    assert "nat" not in [s.table for s in data]


# ---- conntrack's life


def test_states_of_an_entry(w: World) -> None:
    """ESTABLISHED with kube-proxy's 86400 s on the node; CLOSE_WAIT 3600 after one side's FIN; TIME_WAIT 120."""
    def server(sys: Any) -> int:
        fd, _ = sys.accept(listener(sys, 7000))
        sys.recv(fd, 10)
        sys.sleep(10 * SEC)
        sys.close(fd)
        return 0

    def client(sys: Any) -> int:
        fd = connect(sys, (FAR_VIP, 7000))
        sys.sleep(SEC)
        sys.shutdown(fd, 1)
        sys.recv(fd, 10)
        sys.close(fd)
        return 0

    w.go("far", server)
    w.run(0.1)
    w.go("client", client)
    w.run(0.5)

    def line() -> list[str]:
        return w.sh("node-1", f"conntrack -L -p tcp --orig-dst {FAR_VIP}").split()

    now = line()
    assert now[3] == "ESTABLISHED" and int(now[2]) in (86399, 86400) and "[ASSURED]" in now
    w.run(2)
    assert line()[3] == "CLOSE_WAIT" and 3590 < int(line()[2]) <= 3600
    w.run(10)
    assert line()[3] == "TIME_WAIT" and 100 < int(line()[2]) <= 120
    w.run(125)
    assert line() == []


def test_reset_answering_the_syn_removes_the_entry(w: World) -> None:
    """Measured: a closed port behind a Service leaves nothing in the table."""
    assert w.errno("client", connect, (FAR_VIP, 7000)) == ECONNREFUSED
    assert w.entries("node-1", proto=6) == [] and w.entries("node-2", proto=6) == []


def echo_server(sys: Any, port: int) -> int:
    fd = listener(sys, port)
    while True:
        conn, _ = sys.accept(fd)
        while data := sys.recv(conn, 65536):
            sys.send_all(conn, data)
        sys.close(conn)


def chat(sys: Any, addr: tuple[str, int], rounds: int, pause: int) -> list[bytes]:
    fd = connect(sys, addr)
    out = []
    for n in range(rounds):
        sys.send_all(fd, b"%d" % n)
        out.append(sys.recv(fd, 100))
        sys.sleep(pause)
    return out


def test_entry_deleted_in_mid_connection_is_picked_up_again(w: World) -> None:
    """Measured, tcp_loose=1: the next client packet makes a new entry, ESTABLISHED with 300 s, and passes the nat chains
    as a new connection would; with one endpoint the connection goes on."""
    w.go("far", echo_server, 7000)
    w.run(0.1)
    job = w.go("client", chat, (FAR_VIP, 7000), 3, 2 * SEC)
    w.run(1)
    assert w.sh("node-1", "conntrack -D -p tcp").count("tcp") == 1
    w.cluster.run_until(lambda: bool(w.entries("node-1", proto=6)))
    [entry] = w.entries("node-1", proto=6)
    assert round((entry.timeout - w.loop.now) / SEC) == 300 and not entry.status & 2
    w.run(1.5)
    assert "ESTABLISHED" in w.sh("node-1", "conntrack -L -p tcp")
    assert w.wait(job) == [b"0", b"1", b"2"]


def test_loose_off_refuses_the_middle_of_a_connection(w: World) -> None:
    """tcp_loose=0: a packet that is no SYN makes no entry, so it leaves untranslated, for nobody; the client retransmits."""
    w.sysctl("node-1", "net.netfilter.nf_conntrack_tcp_loose", 0)
    w.go("far", echo_server, 7000)
    w.run(0.1)
    job = w.go("client", chat, (FAR_VIP, 7000), 3, 2 * SEC)
    w.run(1)
    w.sh("node-1", "conntrack -F")
    w.run(20)
    assert not job.done and w.entries("node-1", proto=6) == []


def test_table_full_evicts_the_unassured_and_then_drops(w: World) -> None:
    """Measured: with nf_conntrack_max reached and every entry ASSURED new packets are dropped, the kernel log says so, and
    connect() just retries its SYN; connections that exist go on."""
    w.go("far", echo_server, 7000)
    w.run(0.1)
    job = w.go("client", chat, (FAR_VIP, 7000), 8, SEC)
    w.run(0.5)
    w.sh("node-1", "conntrack -D -p udp; conntrack -D -p icmp")
    w.net("node-1").host.nf_conntrack_max = w.net("node-1").ct.count
    tap = w.tap("client")
    assert w.errno("client", connect, (FAR_VIP, 80), 2500 * MSEC) in (110, 115, 11)
    assert len([f for f in tap.tcp(SYN, out=True) if f.dport == 80]) == 3
    assert "nf_conntrack: table full" in w.sh("node-1", "dmesg")
    assert w.wait(job) == [b"%d" % n for n in range(8)]


def test_udp_entry_becomes_a_stream_after_two_seconds(w: World) -> None:
    """Measured: 30 s; 120 s and ASSURED only if traffic goes on 2 s after the first packet."""

    def ask_twice(sys: Any, addr: tuple[str, int]) -> int:
        fd = sys.socket(AF_INET, DGRAM)
        sys.connect(fd, addr)
        for wait in (1, 2, 0):
            sys.send(fd, b"echo x")
            sys.recv(fd, 100)
            sys.sleep(wait * SEC)
        return 0

    job = w.go("client", ask_twice, (FAR_VIP, 81))
    w.run(0.5)
    words = w.sh("node-1", f"conntrack -L -p udp --orig-dst {FAR_VIP}").split()
    assert int(words[2]) in (29, 30) and "[ASSURED]" not in words
    w.wait(job)
    words = w.sh("node-1", f"conntrack -L -p udp --orig-dst {FAR_VIP}").split()
    assert int(words[2]) in (119, 120) and "[ASSURED]" in words


# ---- path MTU


def test_fragmentation_needed_comes_back_as_the_services(make: Any) -> None:
    """Measured: the ICMP error for a DNATed connection has the ClusterIP in its quote, translated back; the client then
    uses MSS 1348 for MTU 1400 (with timestamps) and remembers it. The narrow place is node-2's card towards its pods."""
    w: World = make(docs=[netexec("far", "node-2", FAR_IP, "far"), FAR])
    got: list[int] = []

    def sink(sys: Any) -> int:
        fd, _ = sys.accept(listener(sys, 7000))
        while data := sys.recv(fd, 65536):
            got.append(len(data))
        return 0

    def push(sys: Any) -> int:
        fd = connect(sys, (FAR_VIP, 7000))
        sys.send_all(fd, bytes(20000))
        sys.close(fd)
        return 0

    w.go("far", sink)
    w.run(0.1)
    w.sh("node-1", "ip link set eth0 mtu 1400")
    tap = w.tap("client")
    w.do("client", push)
    w.run(2)
    assert sum(got) == 20000
    errors = [f for f in tap.icmp() if not f.out]
    assert errors and {(f.l4.type, f.l4.code, f.l4.rest & 0xFFFF) for f in errors} == {(3, 4, 1400)}
    assert {ip4_text(f.quote.ip.daddr) for f in errors} == {FAR_VIP}
    assert "mtu 1400" in w.sh("client", f"ip route get {FAR_VIP}")
    on_wire = w.tap("node-1")
    w.go("far", sink)
    w.run(0.1)
    w.do("client", push)
    w.run(2)
    sizes = [f.gso or f.plen for f in on_wire.tcp(out=True, data=True)]
    assert max(sizes) == 1348 and sum(got) == 40000
    assert not tap.icmp()[len(errors):], "the path MTU was remembered"


def test_a_device_with_a_smaller_mtu_is_a_black_hole(w: World) -> None:
    """Measured: a veth end with a smaller MTU drops bigger frames silently on receive: the handshake works, data hangs."""
    got: list[int] = []

    def sink(sys: Any) -> int:
        fd, _ = sys.accept(listener(sys, 7000))
        while data := sys.recv(fd, 65536):
            got.append(len(data))
        return 0

    def push(sys: Any) -> int:
        fd = connect(sys, (FAR_VIP, 7000))
        sys.sleep(SEC)
        sys.send_all(fd, bytes(5000))
        sys.sleep(5 * SEC)
        return 0

    w.go("far", sink)
    w.run(0.1)
    for machine in w.cluster.fabric.machines.values():
        machine.nic.set_features(0)
    for name in ("client", "far", "node-1", "node-2"):
        for dev in w.net(name).devs.values():
            dev.features = 0
    tap = w.tap("client")
    w.go("client", push)
    w.run(0.5)
    w.net("far").devs["eth0"].mtu = 1300  # after the handshake, and the pod's end only: the node's still says 1500
    w.run(4)
    assert got == [] and not [f for f in tap.icmp() if not f.out]
    assert len(tap.tcp(out=True, data=True)) > 5  # retransmissions


# ---- INVALID packets


def out_of_window(w: World) -> Any:
    """A rule on node-1's cable that shifts one data segment from the pod far beyond the window."""

    class Shift:
        left = 1

        def verdict(self, link: Any, skb: Any, end: int, now: int) -> int:
            if self.left and end == 1 and skb.protocol == 0x0800 and skb.ip.proto == 6 and skb.plen:
                self.left -= 1
                skb.l4.seq = (skb.l4.seq + 10_000_000) & 0xFFFFFFFF
            return 0

    rule = Shift()
    w.cluster.fabric.machines["node-1"].link.add_rule(rule)
    return rule


def test_out_of_window_reply_is_invalid_and_kube_proxy_drops_it(w: World) -> None:
    """Measured: not translated, so with KUBE-FORWARD's INVALID DROP it vanishes and the connection lives on."""
    w.go("far", echo_server, 7000)
    w.run(0.1)
    job = w.go("client", chat, (FAR_VIP, 7000), 3, SEC)
    w.run(0.5)
    tap = w.tap("client")
    out_of_window(w)
    assert w.wait(job) == [b"0", b"1", b"2"]
    assert {f.src for f in tap.tcp(out=False)} == {FAR_VIP}
    assert not [f for f in tap.tcp() if f.flags & RST]


def test_out_of_window_reply_without_the_drop_kills_the_connection(w: World) -> None:
    """Measured: it reaches the client with the pod's address, the client answers RST to the pod, and the RST kills the real
    connection: ECONNRESET."""
    w.go("far", echo_server, 7000)
    w.run(0.1)
    job = w.go("client", chat, (FAR_VIP, 7000), 3, SEC)
    w.run(0.5)
    rule = next(x for x in w.sh("node-1", "iptables -S KUBE-FORWARD").splitlines() if "INVALID" in x)
    w.sh("node-1", rule.replace("-A", "iptables -D", 1))
    tap = w.tap("client")
    out_of_window(w)
    with pytest.raises(OSError) as reset:
        w.wait(job)
    assert reset.value.errno == 104
    assert [f.dst for f in tap.tcp(out=True) if f.flags & RST][0] == FAR_IP


def test_liberal_tracking_translates_it_as_usual(w: World) -> None:
    """Measured: be_liberal=1 takes the segment for part of the connection; the client drops it by its own window check."""
    w.sysctl("node-1", "net.netfilter.nf_conntrack_tcp_be_liberal", 1)
    w.go("far", echo_server, 7000)
    w.run(0.1)
    job = w.go("client", chat, (FAR_VIP, 7000), 3, SEC)
    w.run(0.5)
    tap = w.tap("client")
    out_of_window(w)
    assert w.wait(job) == [b"0", b"1", b"2"]
    assert {f.src for f in tap.tcp(out=False)} == {FAR_VIP}
