"""What must hold after every event of a run, whatever happens: checked when a test asks for it.

    watch = watch_invariants(cluster)     from now on the loop runs one event at a time, and each is followed by watch.check()
    watch.finish()                        at a quiet moment: closed sockets hold no memory, every packet came to an end

The checks look and change nothing: a watched run has the digest of an unwatched one (a test holds that). A failure is an
AssertionError that says which invariant, where and when.
"""

from __future__ import annotations

from typing import Any

from kubenet.cluster.cluster import Cluster
from kubenet.kernel.dev.bridge import Bridge
from kubenet.kernel.tcp.sock import TcpSock
from kubenet.sim.clock import BUDGET, FOREVER, IDLE, STOPPED, UNTIL, EventLoop
from kubenet.units import format_ns

TCP_CLOSE = 7

# Where a packet's way ends: it was taken by a protocol, or dropped with a reason.
ENDS = ("tcp_v4_rcv", "udp_queue_rcv_skb", "ping_rcv", "icmp_rcv", "arp_rcv", "kfree_skb_reason", "tcp_timewait_state_process",
        "tcp_conn_request", "tcp_v4_err", "vxlan_rcv")


class WatchedLoop(EventLoop):
    """An event loop whose events are looked at. The class of a cluster's loop is changed to this one in place."""

    __slots__ = ()

    def run(self, until: int = FOREVER, events: int = FOREVER) -> int:
        watch = _watches[id(self)]
        left = events
        while left > 0:
            result = EventLoop.run(self, until, 1)
            watch.check()
            if result in (IDLE, UNTIL, STOPPED):
                return result
            left -= 1
        return BUDGET


_watches: dict[int, Invariants] = {}


class Invariants:
    """The checks over one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.loop = cluster.loop
        self.events = 0
        self.sockets: dict[int, Any] = {}
        self.first_packet = cluster.loop.ids

    # ---- after each event

    def check(self) -> None:
        """Everything that holds at any time. AssertionError."""
        self.events += 1
        for machine in self.cluster.fabric.machines.values():
            for net in machine.host.namespaces.values():
                if net.ct is not None:
                    self._conntrack(net)
                for sk in net.socks.ehash.values():
                    if isinstance(sk, TcpSock):
                        self._socket(net, sk)
                for dev in net.devs.values():
                    if isinstance(dev, Bridge):
                        self._bridge(net, dev)

    def _say(self, net: Any, text: str) -> str:
        return f"{net} at {format_ns(self.loop.now)}, step {self.loop.step}: {text}"

    def _conntrack(self, net: Any) -> None:
        """The count is the number of entries, and each is found by both of its tuples."""
        table = net.ct.table
        both: dict[int, int] = {}
        for ct, direction in table.values():
            both[id(ct)] = both.get(id(ct), 0) | 1 << direction
        assert net.ct.count == len(both), self._say(net, f"conntrack count {net.ct.count}, entries {len(both)}")
        clash = 0x1000
        odd = [ct for ct, _ in table.values() if both[id(ct)] != 3 and not ct.status & clash]
        assert not odd, self._say(net, f"found in one direction only: {odd}")

    def _socket(self, net: Any, sk: TcpSock) -> None:
        """Memory is what the queues hold; packets_out what the retransmission queue counts."""
        self.sockets[id(sk)] = sk
        held = sum(seg.truesize for seg in sk.receive_queue) + sum(seg.truesize for seg in sk.ofo_queue)
        assert sk.rmem_alloc == held, self._say(net, f"{sk}: rmem_alloc {sk.rmem_alloc}, queues hold {held}")
        held = sum(seg.truesize for seg in sk.write_queue) + sum(seg.truesize for seg in sk.rtx_queue)
        assert sk.wmem_queued >= 0, self._say(net, f"{sk}: wmem_queued {sk.wmem_queued}, queues hold {held}")
        out = sum(seg.pcount for seg in sk.rtx_queue)
        assert sk.packets_out == out, self._say(net, f"{sk}: packets_out {sk.packets_out}, rtx queue {out}")
        edges = [(seg.seq, seg.end_seq) for seg in sk.ofo_queue]
        assert all(a[1] < b[0] for a, b in zip(edges, edges[1:], strict=False)), self._say(net, f"{sk}: ofo queue {edges}")
        assert sk.snd_una <= sk.snd_nxt <= sk.write_seq, self._say(net, f"{sk}: {sk.snd_una} {sk.snd_nxt} {sk.write_seq}")
        assert 0 <= sk.sacked_out + sk.lost_out <= sk.packets_out, self._say(net, f"{sk}: {sk.sacked_out}+{sk.lost_out}")

    def _bridge(self, net: Any, bridge: Bridge) -> None:
        """The FDB points to ports that exist."""
        dead = [entry for entry in bridge.fdb.values() if entry.port is not None and bridge.ports.get(entry.port.dev.name) is not entry.port]
        assert not dead, self._say(net, f"FDB of {bridge.name} has ports that are gone: {[e.port.dev.name for e in dead]}")

    # ---- at the end

    def finish(self) -> None:
        """At a quiet moment: no memory in closed sockets, nothing under way, every packet ended somewhere."""
        self.check()
        for sk in self.sockets.values():
            if sk.state == TCP_CLOSE and sk.flags & 1:
                assert (sk.rmem_alloc, sk.wmem_queued, sk.packets_out) == (0, 0, 0), \
                    f"closed {sk}: {sk.rmem_alloc} {sk.wmem_queued} {sk.packets_out}"
        self.packets_ended()

    def packets_ended(self) -> None:
        """Every armed packet was taken by somebody, was dropped with a reason, or waits for ARP."""
        waiting = self._queued()
        for packet, trace in self.loop.tracer.packets.items():
            if packet <= self.first_packet or packet in waiting:
                continue
            assert trace.stations, f"packet {packet} ({trace.head}) has lost its stations"
            assert any(s.func in ENDS for s in trace.stations), \
                f"packet {packet} is nowhere: {[(s.host, s.netns, s.dev, s.func, s.what, s.verdict) for s in trace.stations][-4:]}"

    def _queued(self) -> dict[int, bool]:
        out: dict[int, bool] = {}
        for machine in self.cluster.fabric.machines.values():
            for net in machine.host.namespaces.values():
                for table in net.neigh.values():
                    for neigh in table.entries.values():
                        out.update({skb.id: True for skb in neigh.queue})
        return out


def watch_invariants(cluster: Cluster, packets: bool = True) -> Invariants:
    """From now on every event of the cluster is followed by the checks. packets: arm each packet, too."""
    watch = Invariants(cluster)
    _watches[id(cluster.loop)] = watch
    cluster.loop.__class__ = WatchedLoop
    if packets:
        cluster.loop.tracer.arm_all = True
        cluster.loop.tracer.keep = 1 << 30
    return watch


def unwatch(watch: Invariants) -> None:
    """The loop runs freely again."""
    watch.loop.__class__ = EventLoop
    _watches.pop(id(watch.loop), None)
