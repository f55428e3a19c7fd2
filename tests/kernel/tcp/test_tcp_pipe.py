"""Every byte arrives, once and in order, whatever the pipe between two namespaces does to segments (RFC 9293 2.2).

The pipe loses, delays, reorders and duplicates by its own dice. Afterwards nothing is left: no segment in a queue, no memory
charged, no entry in a table but TIME-WAIT.
"""

from __future__ import annotations

import cProfile
import hashlib
import pstats
from typing import Any

import pytest
from wire import Dst, Recorder

from kubenet.kernel.host import Host
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import SkBuff
from kubenet.kernel.socket import inet
from kubenet.kernel.socket.sock import AF_INET, MSG_WAITALL, SOCK_STREAM, TCP_CLOSE
from kubenet.kernel.tcp import tcp_net_init
from kubenet.kernel.tcp.input import tcp_v4_rcv
from kubenet.kernel.tcp.sock import SACKED_ACKED, SACKED_RETRANS, TAG_LOST, TcpSock
from kubenet.sim.clock import EventLoop
from kubenet.sim.rng import Stream
from kubenet.sim.task import Task, spawn
from kubenet.units import MSEC, SEC
from kubenet.wire.ipv4 import IpHdr
from kubenet.wire.tcp import TcpHdr

A, B = 0x0A000001, 0x0A000002


class Pipe(Recorder):
    """One end's way to IP: what it sends arrives at the other end some time later, or not, or twice."""

    def __init__(self, loop: EventLoop, local: int, rng: Stream, loss: int, reorder: int, duplicate: int, features: int) -> None:
        super().__init__(loop)
        self.local, self.rng, self.features = local, rng, features
        self.loss, self.reorder, self.duplicate = loss, reorder, duplicate  # percent
        self.peer: NetNamespace
        self.last = 0
        self.count = 0

    def route(self, net: NetNamespace, sk: Any, daddr: int, saddr: int, oif: int, dport: int = 0) -> Dst:
        dst = Dst(self.features)
        dst.prefsrc = self.local
        return dst

    def inet_addr_type(self, net: NetNamespace, addr: int) -> int:
        return 2 if addr == self.local else 1

    def _xmit(self, skb: SkBuff) -> int:
        self.count += 1
        if self.rng.below(100) < self.loss:
            return 0
        for _ in range(2 if self.rng.below(100) < self.duplicate else 1):
            delay = 5 * MSEC
            if self.rng.below(100) < self.reorder:
                delay += self.rng.below(20 * MSEC)
                when = self.loop.now + delay
            else:
                when = self.last = max(self.loop.now + delay, self.last)
            self.loop.call_at(when, self._arrive, (skb.ip.copy(), skb.l4.copy(), bytes(skb.payload), skb.gso_size, skb.gso_segs))
        return 0

    def _arrive(self, packet: tuple[IpHdr, TcpHdr, bytes, int, int]) -> None:
        ip, th, data, gso_size, gso_segs = packet
        skb = SkBuff(self.peer, 0x0800, ip, th.copy(), data, len(data), 20 + th.doff + len(data))
        skb.gso_size, skb.gso_segs, skb.iif = gso_size, gso_segs, 2
        tcp_v4_rcv(skb)
        for sk in self.peer.socks.ehash.values():
            if isinstance(sk, TcpSock):
                verify_left_out(sk)


def verify_left_out(tp: TcpSock) -> None:
    """The counts are what the marks say. Linux: tcp_verify_left_out(), and the invariants above tcp_sacktag_one()."""
    counts = {flag: sum(seg.pcount for seg in tp.rtx_queue if seg.sacked & flag) for flag in (SACKED_ACKED, SACKED_RETRANS, TAG_LOST)}
    assert tp.packets_out == sum(seg.pcount for seg in tp.rtx_queue)
    assert (tp.retrans_out, tp.lost_out) == (counts[SACKED_RETRANS], counts[TAG_LOST])
    assert not any(seg.sacked & SACKED_ACKED and seg.sacked & TAG_LOST for seg in tp.rtx_queue)
    assert tp.sacked_out == counts[SACKED_ACKED] if tp.sack_ok else tp.sacked_out >= 0
    assert tp.sacked_out + tp.lost_out <= tp.packets_out


class World:
    def __init__(self, seed: int, loss: int, reorder: int, duplicate: int, features: int = 0, **sysctls: Any) -> None:
        self.loop = EventLoop()
        self.nets, self.pipes = [], []
        for name, addr in (("a", A), ("b", B)):
            host = Host(self.loop, name, seed)
            net = NetNamespace(host, name)
            pipe = Pipe(self.loop, addr, host.stream("pipe"), loss, reorder, duplicate, features)
            inet.inet_net_init(net, pipe)
            tcp_net_init(net)
            for key, value in sysctls.items():
                setattr(net.sysctl.ipv4, key, value)
            self.nets.append(net)
            self.pipes.append(pipe)
        self.pipes[0].peer, self.pipes[1].peer = self.nets[1], self.nets[0]
        self.socks: list[TcpSock] = []

    def run(self, *tasks: Task, limit: int = 3600) -> None:
        assert self.loop.run_until(lambda: all(task.done for task in tasks), limit * SEC), "stuck"
        for task in tasks:
            if task.error is not None:
                raise task.error


def data(size: int, salt: int) -> bytes:
    out = b"".join(hashlib.sha256(f"{salt} {k}".encode()).digest() for k in range(size // 32 + 1))
    return out[:size]


def serve(world: World, request: bytes, answer: bytes) -> None:
    listener = inet.sock_create(world.nets[1], AF_INET, SOCK_STREAM)
    inet.inet_bind(listener, (0, 80))
    inet.inet_listen(listener, 8)
    sk = inet.inet_accept(listener, None)
    world.socks.append(sk)  # type: ignore[arg-type]
    got = b""
    while piece := inet.inet_recvmsg(sk, 30000)[0]:
        got += piece
    assert got == request
    for at in range(0, len(answer), 7000):
        inet.inet_sendmsg(sk, answer[at : at + 7000])
    inet.inet_release(sk)
    inet.inet_release(listener)


def ask(world: World, request: bytes, answer: bytes) -> None:
    sk = inet.sock_create(world.nets[0], AF_INET, SOCK_STREAM)
    world.socks.append(sk)  # type: ignore[arg-type]
    inet.inet_connect(sk, (B, 80))
    inet.inet_sendmsg(sk, request)
    inet.inet_shutdown(sk, 1)
    assert inet.inet_recvmsg(sk, len(answer), MSG_WAITALL)[0] == answer
    assert inet.inet_recvmsg(sk, 1)[0] == b""
    inet.inet_release(sk)


def exchange(world: World, size: int, salt: int) -> None:
    request, answer = data(size, salt), data(size // 2, salt + 1)
    server = spawn(world.loop, serve, world, request, answer, name="server")
    client = spawn(world.loop, ask, world, request, answer, name="client")
    world.run(server, client)
    world.loop.run(until=world.loop.now + 400 * SEC)
    for sk in world.socks:
        assert sk.state == TCP_CLOSE
        assert not sk.write_queue and not sk.rtx_queue and not sk.receive_queue and not sk.ofo_queue
        assert sk.wmem_queued == sk.rmem_alloc == 0
        assert sk.packets_out == sk.retrans_out == sk.lost_out == sk.sacked_out == 0
    for net in world.nets:
        assert not net.socks.ehash and not net.socks.bhash and not net.socks.listeners
        assert net.host.tcp_orphans == net.host.tcp_tw_count == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("loss, reorder, duplicate", [(0, 0, 0), (5, 0, 0), (0, 30, 0), (0, 0, 20), (10, 20, 10)])
def test_every_byte_arrives(seed: int, loss: int, reorder: int, duplicate: int) -> None:
    exchange(World(seed, loss, reorder, duplicate), 120_000, seed)


@pytest.mark.parametrize("seed", range(3))
def test_super_segments_too(seed: int) -> None:
    exchange(World(seed, 5, 10, 5, features=1), 300_000, seed)


@pytest.mark.parametrize("setting", ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"])
def test_without_each_option(setting: str) -> None:
    exchange(World(3, 5, 10, 5, **{setting: 0}), 120_000, 3)


def test_heavy_loss_takes_longer() -> None:
    exchange(World(1, 30, 0, 0), 20_000, 1)


def test_a_slow_reader_is_not_overrun() -> None:
    """Flow control: what is in flight and unread never exceeds what was offered."""
    world = World(2, 0, 0, 0)
    request = data(400_000, 9)

    def slow() -> None:
        listener = inet.sock_create(world.nets[1], AF_INET, SOCK_STREAM)
        inet.sock_setsockopt(listener, 1, 8, 10_000)
        inet.inet_bind(listener, (0, 80))
        inet.inet_listen(listener, 8)
        sk = inet.inet_accept(listener, None)
        got = b""
        while piece := inet.inet_recvmsg(sk, 3000)[0]:
            got += piece
            assert sk.rmem_alloc <= sk.rcvbuf + 2000
            sk.wait.until(lambda: False, 2 * MSEC)
        assert got == request
        inet.inet_release(sk)

    def fast() -> None:
        sk = inet.sock_create(world.nets[0], AF_INET, SOCK_STREAM)
        inet.inet_connect(sk, (B, 80))
        inet.inet_sendmsg(sk, request)
        inet.inet_release(sk)

    world.run(spawn(world.loop, slow), spawn(world.loop, fast))
    assert world.nets[1].snmp["TcpExtTCPRcvQDrop"] == 0


def test_the_same_seed_is_the_same_run() -> None:
    """Determinism: packets, counters and times are equal."""
    seen = []
    for _ in range(2):
        world = World(5, 10, 20, 10)
        exchange(world, 60_000, 5)
        seen.append((world.loop.step, [pipe.count for pipe in world.pipes], [dict(net.snmp) for net in world.nets]))
    assert seen[0] == seen[1]


class Handover(Pipe):
    """A pipe without dice and copies, so that next to nothing but TCP is measured."""

    def queue_xmit(self, sk: Any, skb: SkBuff) -> int:
        skb.ip = IpHdr(sk.saddr, sk.daddr, 6)
        self.count += 1
        self.loop.call_at(self.loop.now + MSEC, self._hand_over, skb)
        return 0

    def _hand_over(self, skb: SkBuff) -> None:
        skb.net, skb.sk = self.peer, None
        tcp_v4_rcv(skb)


def test_a_segment_of_bulk_data_costs_at_most_90_calls() -> None:
    """TCP's share of the cost of a packet: both ends, ACKs and the programs' calls. Calls are exact, seconds are not."""
    world = World(1, 0, 0, 0)
    world.loop.tracer.rate = 0
    for pipe in world.pipes:
        pipe.__class__ = Handover
    request, answer = data(3_000_000, 1), b""
    server = spawn(world.loop, serve, world, request, answer)
    client = spawn(world.loop, ask, world, request, answer)
    profile = cProfile.Profile()
    profile.enable()
    world.loop.run_until(lambda: server.done and client.done, 3600 * SEC)
    profile.disable()
    assert server.done and server.error is None
    calls = pstats.Stats(profile).total_calls  # type: ignore[attr-defined]
    assert world.pipes[0].count >= 2000
    assert calls / world.pipes[0].count < 90
