"""TCP over the real IP: devices, routes, ARP, ICMP, connection tracking; two hosts with a router between them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from netlab import Lab

from kubenet.kernel.ipv4.fib import fib_add, fib_del
from kubenet.kernel.netfilter.conntrack import conntrack_line, nf_ct_netns_get
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.socket import inet
from kubenet.kernel.socket.sock import AF_INET, SOCK_STREAM, Sock
from kubenet.sim.task import Task, spawn
from kubenet.units import SEC
from kubenet.wire.addr import ip4

SERVER = ip4("10.2.0.2")


def tcp(net: NetNamespace) -> Sock:
    return inet.sock_create(net, AF_INET, SOCK_STREAM)


def echo(net: NetNamespace, port: int, bufsize: int = 65536) -> None:
    """Answers one connection with what it says."""
    listener = tcp(net)
    inet.inet_bind(listener, (0, port))
    inet.inet_listen(listener, 128)
    sk = inet.inet_accept(listener)
    while data := inet.inet_recvmsg(sk, bufsize)[0]:
        inet.inet_sendmsg(sk, data)
    inet.inet_release(sk)
    inet.inet_release(listener)


def talk(net: NetNamespace, addr: tuple[int, int], data: bytes) -> bytes:
    sk = tcp(net)
    inet.inet_connect(sk, addr)
    spawn(net.loop, _send_all, sk, data)
    got = b""
    while len(got) < len(data):
        piece = inet.inet_recvmsg(sk, 65536)[0]
        assert piece
        got += piece
    inet.inet_release(sk)
    return got


def _send_all(sk: Sock, data: bytes) -> None:
    inet.inet_sendmsg(sk, data)


def outcome(lab: Lab, fn: Callable[..., Any], *args: Any, seconds: float = 300) -> tuple[Any, float]:
    """(result or errno, seconds it took) of a blocking call."""
    start = lab.loop.now
    task: Task = spawn(lab.loop, fn, *args)
    lab.loop.run_until(lambda: task.done, start + int(seconds * SEC))
    took = (lab.loop.now - start) / SEC
    if isinstance(task.error, OSError):
        return task.error.errno, took
    if task.error is not None:
        raise task.error
    return task.result, took


@pytest.fixture
def lab() -> Lab:
    return Lab()


def connect(net: NetNamespace, addr: str, port: int) -> None:
    sk = tcp(net)
    try:
        inet.inet_connect(sk, (ip4(addr), port))
    finally:
        inet.inet_release(sk)


def test_through_a_router(lab: Lab) -> None:
    client, _, server = lab.routed()
    spawn(lab.loop, echo, server, 80)
    data = bytes(range(256)) * 1000
    assert outcome(lab, talk, client, (SERVER, 80), data)[0] == data


def test_to_oneself_over_lo(lab: Lab) -> None:
    client, _, _ = lab.routed()
    for addr in ("127.0.0.1", "10.1.0.2"):
        spawn(lab.loop, echo, client, 80)
        data = bytes(100_000)
        assert outcome(lab, talk, client, (ip4(addr), 80), data)[0] == data
        lab.run(1)


def test_small_mtu_on_the_way(lab: Lab) -> None:
    """RFC 1191: the router says fragmentation needed; the connection goes on with smaller segments."""
    client, router, server = lab.routed()
    router.devs["s0"].mtu = 1300
    spawn(lab.loop, echo, server, 80)
    data = bytes(50_000)
    assert outcome(lab, talk, client, (SERVER, 80), data)[0] == data
    assert router.snmp["IpFragFails"] > 0
    assert client.snmp["TcpExtTCPTimeouts"] == 0


def test_connection_refused_at_once(lab: Lab) -> None:
    client, _, _ = lab.routed()
    result, took = outcome(lab, connect, client, "10.2.0.2", 81)
    assert result == errno.ECONNREFUSED
    assert took < 0.001


def test_no_route(lab: Lab) -> None:
    client, _, _ = lab.routed()
    fib_del(client, 0, 0, gateway=ip4("10.1.0.1"))
    assert outcome(lab, connect, client, "10.2.0.2", 80) == (errno.ENETUNREACH, pytest.approx(0, abs=0.001))


def test_a_router_without_a_route(lab: Lab) -> None:
    """ICMP network unreachable ends connect(): ENETUNREACH, from the router."""
    client, _, _ = lab.routed()
    result, took = outcome(lab, connect, client, "10.7.0.1", 80)
    assert result in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    assert took < 0.01


def test_nobody_answers_arp(lab: Lab) -> None:
    """Measured: ARP at 0, 1, 2 s, then EHOSTUNREACH at 3."""
    client, _, _ = lab.routed()
    result, took = outcome(lab, connect, client, "10.1.0.99", 80)
    assert result == errno.EHOSTUNREACH
    assert took == pytest.approx(3.0, abs=0.02)


def test_black_hole(lab: Lab) -> None:
    """Nobody answers at all: ETIMEDOUT after 131 s."""
    client, router, _ = lab.routed()
    fib_add(router, ip4("10.66.0.0"), 16, type=6)
    assert outcome(lab, connect, client, "10.66.0.1", 80) == (errno.ETIMEDOUT, pytest.approx(131, abs=0.01))


def test_conntrack_sees_the_states(lab: Lab) -> None:
    """A router that tracks: ESTABLISHED and ASSURED, then TIME_WAIT."""
    client, router, server = lab.routed()
    nf_ct_netns_get(router)
    spawn(lab.loop, echo, server, 80)
    sk = tcp(client)
    spawn(lab.loop, inet.inet_connect, sk, (SERVER, 80))
    lab.run(0.1)
    (entry,) = router.ct.entries()
    assert "ESTABLISHED" in conntrack_line(entry, lab.loop.now) and "[ASSURED]" in conntrack_line(entry, lab.loop.now)
    inet.inet_release(sk)
    lab.run(0.1)
    assert "TIME_WAIT" in conntrack_line(entry, lab.loop.now)


def test_a_vanished_server_is_noticed_by_the_reset_of_its_successor(lab: Lab) -> None:
    """RFC 9293 3.5.1: a peer that restarted answers old segments with a reset."""
    client, _, server = lab.routed()
    spawn(lab.loop, echo, server, 80)
    sk = tcp(client)
    spawn(lab.loop, inet.inet_connect, sk, (SERVER, 80))
    lab.run(0.1)
    server.socks.ehash.clear()
    inet.inet_sendmsg(sk, b"hello")
    result, took = outcome(lab, inet.inet_recvmsg, sk, 10)
    assert result == errno.ECONNRESET
    assert took < 0.001


def test_the_whole_walk_is_traced(lab: Lab) -> None:
    """A SYN's trace has every station from the socket to the listener, under the real names of the functions."""
    client, _, server = lab.routed()
    spawn(lab.loop, echo, server, 80)
    outcome(lab, talk, client, (SERVER, 80), b"hello")
    traces = [t for t in lab.loop.tracer.packets.values() if t.head["flags"] == 2]
    (syn,) = traces
    assert (syn.head["saddr"], syn.head["daddr"], syn.head["dport"]) == (ip4("10.1.0.2"), SERVER, 80)
    names = [s.func for s in syn.stations]
    for name in ("tcp_transmit_skb", "ip_forward", "tcp_v4_rcv", "tcp_conn_request"):
        assert name in names
    assert names.index("ip_forward") < names.index("tcp_v4_rcv") < names.index("tcp_conn_request")
