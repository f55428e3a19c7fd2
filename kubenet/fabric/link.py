"""A cable: what happens to a frame between two cards, or between a card and a switch.

    link.send(skb, nic)     from a card: NIC_COST, then serialisation at `rate`, then `latency`
    link.relay(skb, at, end)    from a switch, which has the frame at time `at`

Everything is computed when the frame is sent, and one event delivers it at the far card; frames keep their order per
direction. A cable with a rate has a queue in front of it: the card's pfifo_fast (1000 frames), or `queue` if that is
given; a frame that finds it full is dropped and counted in the card's qdisc. Loss, reordering, duplication, corruption
and jitter draw from the cable's own random stream, and rules (impair.py) see every frame. All of that, and an explicit
rate, switches offload off: the cards then cut super-segments, so that a cable loses packets and not 64 KiB.

`plain` is kept true while none of that is set: then a frame is one addition and one event. wire_check (module flag):
every frame is turned into bytes, parsed, and compared: the emulator's own conscience, for tests.
"""

from __future__ import annotations

from typing import Any

from kubenet.kernel.dev.device import NET_XMIT_DROP, NIC_COST
from kubenet.kernel.dev.gso import skb_gso_network_seglen
from kubenet.kernel.dev.nic import Nic
from kubenet.kernel.dev.qdisc import PfifoFast
from kubenet.kernel.skbuff import CSUM_BAD, ETH_HLEN, DropReason, SkBuff, drop, station
from kubenet.sim.clock import EventLoop
from kubenet.sim.rng import Stream, stream
from kubenet.units import MSEC, SEC, USEC
from kubenet.wire.packet import bytes_to_frame, frame_to_bytes

DEFAULT_LATENCY = 25 * USEC
REORDER_HOLD = MSEC  # a reordered frame is held back this long, unless the link says otherwise
FRAME_OVERHEAD = 24  # preamble, FCS and gap: 8 + 4 + 12 bytes of line time

SETTINGS = ("latency", "rate", "mtu", "queue_packets", "loss", "reorder", "reorder_hold", "duplicate", "corrupt",
            "jitter", "up")

PASS, DROP = 0, -1  # what a rule says; a positive number is a delay in ns

wire_check = False


class LinkEnd:
    """One direction of a cable: from here to the other end. `device`: a Nic, or a switch's port."""

    __slots__ = ("link", "device", "free_at", "last_arrival", "qdisc", "frames", "bytes", "dropped")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.device: Any = None
        self.free_at: int = 0  # when the wire will have sent what it has
        self.last_arrival: int = 0
        self.qdisc = PfifoFast()  # of a switch's port; a card has its own
        self.frames: int = 0
        self.bytes: int = 0
        self.dropped: int = 0


class Link:
    """A cable with two ends. latency ns, rate bit/s (0: no limit), loss and the like are probabilities 0..1."""

    __slots__ = ("loop", "name", "latency", "rate", "mtu", "queue_packets", "loss", "reorder", "reorder_hold",
                 "duplicate", "corrupt", "jitter", "rng", "up", "ends", "rules", "offload_wanted", "offload", "plain")

    def __init__(
        self,
        loop: EventLoop,
        name: str,
        latency: int = DEFAULT_LATENCY,
        rate: int = 0,
        mtu: int = 0,
        queue_packets: int = 0,
        loss: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        corrupt: float = 0.0,
        jitter: int = 0,
        seed: int = 7,
        offload: bool = True,
    ) -> None:
        self.loop = loop
        self.name = name
        self.latency = latency
        self.rate = rate
        self.mtu = mtu
        self.queue_packets = queue_packets
        self.loss = loss
        self.reorder = reorder
        self.reorder_hold: int = REORDER_HOLD
        self.duplicate = duplicate
        self.corrupt = corrupt
        self.jitter = jitter
        self.rng: Stream = stream(seed, "link", name)
        self.up: bool = True
        self.rules: list[Any] = []
        self.offload_wanted = offload
        self.offload: bool = True
        self.plain: bool = True
        self.ends = (LinkEnd(self), LinkEnd(self))
        self.changed()

    def attach(self, index: int, device: Any) -> None:
        """The cable's end 0 or 1 is plugged into a Nic or a switch's port."""
        self.ends[index].device = device
        device.set_link(self)

    def set(self, **settings: Any) -> None:
        """Change settings while it runs: set(loss=0.1), set(up=False), set(offload=False)."""
        for name, value in settings.items():
            if name == "offload":
                self.offload_wanted = value
            elif name in SETTINGS:
                setattr(self, name, value)
            else:
                raise ValueError(f"a link has no setting {name!r}")
        self.changed()

    def changed(self) -> None:
        """Settings or rules were edited: `plain`, `offload` and the cards' features follow."""
        dice = bool(self.loss or self.reorder or self.duplicate or self.corrupt)
        self.offload = self.offload_wanted and not dice and not self.rate and not self.rules
        self.plain = self.up and not dice and not self.rate and not self.rules and not self.jitter and not self.mtu
        for end in self.ends:
            if end.device is not None:
                end.device.set_link(self)

    def add_rule(self, rule: Any) -> None:
        """`rule.verdict(link, skb, end_index, now)` is asked about every frame."""
        self.rules.append(rule)
        self.changed()

    def remove_rule(self, rule: Any) -> None:
        """The rule is not asked any more."""
        self.rules = [other for other in self.rules if other is not rule]
        self.changed()

    # -- the data path

    def send(self, skb: SkBuff, nic: Nic) -> int:
        """A card hands over a frame. It is delivered, later, or dropped; NET_XMIT_DROP if the card's queue is full, else 0."""
        end = self.ends[0] if self.ends[0].device is nic else self.ends[1]  # end_of(), one call less per frame
        return self.relay(skb, self.loop.now + NIC_COST, end)

    def end_of(self, device: Any) -> LinkEnd:
        """The end that this device is plugged into."""
        return self.ends[0] if self.ends[0].device is device else self.ends[1]

    def relay(self, skb: SkBuff, at: int, end: LinkEnd) -> int:
        """The frame enters the cable at `end` at time `at`; as send()."""
        if wire_check:
            check_wire(skb)
        if not self.plain:
            return self._relay_impaired(skb, at, end)
        end.frames += skb.gso_segs
        end.bytes += skb.len + ETH_HLEN
        far = self.ends[1] if end is self.ends[0] else self.ends[0]
        at += self.latency
        if skb.tr is not None:
            station(skb, "link_send", f"on {self.name}, {(at - self.loop.now) // USEC} us")
        far.device.arrive(skb, at)
        return 0

    def _relay_impaired(self, skb: SkBuff, at: int, end: LinkEnd) -> int:
        """The long way: rules, dice, queue and rate, in that order."""
        if not self.up:
            return self._lose(skb, end, DropReason.LINK_DOWN)
        if self.mtu and skb_gso_network_seglen(skb) > self.mtu:
            return self._lose(skb, end, DropReason.DEV_MTU)
        extra = 0
        for rule in self.rules:
            verdict = rule.verdict(self, skb, self.ends.index(end), at)
            if verdict < 0:
                return self._lose(skb, end, DropReason.LINK_LOSS)
            extra += verdict
        rng = self.rng
        if self.loss and rng.unit() < self.loss:
            return self._lose(skb, end, DropReason.LINK_LOSS)
        if self.corrupt and rng.unit() < self.corrupt:
            skb.csum = CSUM_BAD
            if skb.tr is not None:
                station(skb, "link_send", "a bit flips on the wire")
        leaves = self._serialise(skb, at, end)
        if leaves < 0:
            self._lose(skb, end, DropReason.QDISC_DROP)
            return NET_XMIT_DROP
        arrives = leaves + self.latency + extra
        if self.jitter:
            arrives += rng.below(2 * self.jitter + 1) - min(self.jitter, self.latency)
        held = extra > 0
        if self.reorder and rng.unit() < self.reorder:
            arrives += self.reorder_hold
            held = True
        if not held:
            arrives = end.last_arrival = max(arrives, end.last_arrival)
        self._deliver(skb, arrives, end, held)
        if self.duplicate and rng.unit() < self.duplicate:
            self._deliver(skb.clone(), arrives, end, held)
        return 0

    def _serialise(self, skb: SkBuff, at: int, end: LinkEnd) -> int:
        """When the last bit leaves; -1 if the queue is full."""
        if not self.rate:
            return at
        device = end.device
        qdisc: PfifoFast = device.qdisc if isinstance(device, Nic) else end.qdisc
        limit = self.queue_packets or (device.txqlen if isinstance(device, Nic) else 1000)
        now = self.loop.now
        if end.free_at > at and qdisc.qlen(now) >= limit:
            qdisc.drops += 1
            return -1
        start = max(at, end.free_at)
        size = skb.len + ETH_HLEN
        end.free_at = start + (size + FRAME_OVERHEAD) * 8 * SEC // self.rate
        if start > at:
            qdisc.enqueue(start, size)
        else:
            qdisc.packets += 1
            qdisc.bytes += size
        return end.free_at

    def _deliver(self, skb: SkBuff, at: int, end: LinkEnd, held: bool) -> None:
        """The frame is at the other end at time `at`; one that was held back only then meets the switch."""
        end.frames += skb.gso_segs
        end.bytes += skb.len + ETH_HLEN
        far = self.ends[1] if end is self.ends[0] else self.ends[0]
        if skb.tr is not None:
            station(skb, "link_send", f"on {self.name}, {(at - self.loop.now) // USEC} us")
        if held and not isinstance(far.device, Nic):
            self.loop.call_at(at, _arrive_late, (far.device, skb, at))
        else:
            far.device.arrive(skb, at)

    def _lose(self, skb: SkBuff, end: LinkEnd, reason: int) -> int:
        end.dropped += 1
        drop(skb, reason)
        return 0


def _arrive_late(job: tuple[Any, SkBuff, int]) -> None:
    """The event of a frame that others have overtaken on its way to the switch."""
    device, skb, at = job
    device.arrive(skb, at)


def check_wire(skb: SkBuff) -> None:
    """The frame survives the way to bytes and back. AssertionError otherwise."""
    data = frame_to_bytes(skb.eth, skb.ip, skb.l4, skb.inner, skb.payload, skb.csum == CSUM_BAD)
    assert len(data) == skb.len + ETH_HLEN, f"skb.len is {skb.len}, the packet has {len(data) - ETH_HLEN} bytes"
    frame = bytes_to_frame(data)
    assert frame.eth == skb.eth and frame.l3 == skb.ip and frame.l4 == skb.l4, f"{frame!r} is not what was sent"
    assert bytes(frame.payload) == bytes(skb.payload) and frame.csum_ok == (skb.csum != CSUM_BAD)
