"""Captured packets, received again: the frames of a pcap or pcapng file come in on a device at the file's relative times.

    plan = plan_frames(file, options)            which frames, when: [(ns after the first, bytes)]; KubenetError says what is wrong
    replay = FrameReplay(dev, plan); replay.start()      one event for each; `done` after the last

The plan, not the file, is what a session's journal keeps, so that a replay of the journal, undo and goto need no file. Frames are
received, as from the device's cable: whatever they do, they do through the stack. Source: tcpreplay(1), tcprewrite(1) for the options.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from kubenet.errors import NotFoundError, UsageError
from kubenet.kernel.dev.device import NetDevice
from kubenet.kernel.dev.inject import dev_receive, skb_from_bytes
from kubenet.kernel.skbuff import CSUM_BAD, CSUM_UNNECESSARY, ETH_HLEN
from kubenet.userland.container import Container
from kubenet.wire.addr import mac, mac_text
from kubenet.wire.errors import WireError
from kubenet.wire.pcap import DIR_OUT, LINKTYPE_ETHERNET, LINKTYPE_RAW, CapturedPacket, read_pcapng

Obj = dict[str, Any]
Frames = list[tuple[int, bytes]]

MAX_FRAMES, MAX_BYTES = 100_000, 32 << 20  # what one input of a journal should hold
RAW_TYPES = (LINKTYPE_RAW, 12, 14, 228)  # DLT_RAW's numbers, LINKTYPE_IPV4
TYPE_NAMES = {0: "NULL", 113: "LINUX_SLL", 127: "IEEE802_11_RADIO", 276: "LINUX_SLL2"}
ETHERTYPE_IP, ETHERTYPE_IPV6 = b"\x08\x00", b"\x86\xdd"


@dataclass
class Options:
    """How to replay. speed: times faster than the file; asap: all at one instant; dst_mac: "", "auto" or an address; interface: only
    packets of this capture interface; outgoing: those too that the file marks as sent; limit: at most so many, 0 all."""

    speed: float = 1.0
    asap: bool = False
    dst_mac: str = ""
    interface: str = ""
    outgoing: bool = False
    limit: int = 0
    fix_checksums: bool = False


@dataclass
class Plan:
    """Which frames come when, and what was left out."""

    frames: Frames
    outgoing: int = 0
    cut: int = 0
    for_others: int = 0  # unicast frames whose destination is not the device's MAC

    @property
    def span(self) -> int:
        """ns from the first frame to the last."""
        return self.frames[-1][0] if self.frames else 0


def find_device(place: Container, name: str) -> NetDevice:
    """The device of a pod or machine; NotFoundError."""
    found: NetDevice | None = place.net.devs.get(name)
    if found is None:
        raise NotFoundError(f"{place.hostname} has no device {name}", why=f"it has: {', '.join(place.net.devs)}",
                            try_=f"kubenet exec {place.hostname} -- ip link")
    return found


def plan_frames(data: bytes, options: Options, dev: NetDevice, file: str = "the file") -> Plan:
    """The frames of a capture file that are to be received. UsageError: not a capture, nothing fits, too much."""
    wanted = _dst_mac(options, dev)
    if not options.speed > 0 or options.speed == float("inf"):
        raise UsageError(f"--speed {options.speed:g} is not above zero", try_="--speed 10, or --asap")
    plan = Plan([])
    first, when, size, left_out = -1, 0, 0, 0
    for packet in _selected(_read(data, file), options, plan, file):
        first = packet.t_ns if first < 0 else first
        if not options.asap:
            when = max(when, int((packet.t_ns - first) / options.speed) if options.speed != 1.0 else packet.t_ns - first)
        frame = _frame(packet, dev, file)
        if len(frame) < ETH_HLEN:
            left_out += 1
            continue
        if not frame[0] & 1:
            frame = wanted + frame[6:] if wanted else frame
            plan.for_others += frame[:6] != dev.addr.to_bytes(6, "big")
        plan.cut += packet.orig_len > len(packet.data)
        size += len(frame)
        if len(plan.frames) >= MAX_FRAMES or size > MAX_BYTES:
            raise UsageError(f"{file} is too large to be kept in the journal", why=f"bounds: {MAX_FRAMES} frames, {MAX_BYTES >> 20} MiB",
                             try_=f"--limit {len(plan.frames)}")
        plan.frames.append((when, frame))
    if not plan.frames:
        why = f"{plan.outgoing} packets were sent, not received, where they were captured" if plan.outgoing else (
            f"{left_out} are shorter than an Ethernet header" if left_out else "it holds no packets")
        raise UsageError(f"{file} has nothing to receive", why=why, try_="--outgoing" if plan.outgoing else "")
    return plan


def _dst_mac(options: Options, dev: NetDevice) -> bytes:
    """The destination address to put into unicast frames; empty: leave them."""
    if options.dst_mac in ("", "keep"):
        return b""
    if options.dst_mac == "auto":
        return dev.addr.to_bytes(6, "big")
    try:
        return mac(options.dst_mac).to_bytes(6, "big")
    except ValueError:
        raise UsageError(f"--dst-mac {options.dst_mac}: not a MAC address",
                         try_=f"--dst-mac auto, or --dst-mac {mac_text(dev.addr)}") from None


def _read(data: bytes, file: str) -> Iterator[CapturedPacket]:
    try:
        yield from read_pcapng(BytesIO(data))
    except WireError as error:
        raise UsageError(f"{file} cannot be read as a capture", why=str(error),
                         try_="tcpdump -r FILE -w OTHER   (rewrites what can be read)") from None


def _selected(packets: Iterable[CapturedPacket], options: Options, plan: Plan, file: str) -> Iterator[CapturedPacket]:
    """Those of the wanted interface and direction. UsageError if several interfaces took part and none was chosen."""
    names: dict[str, bool] = {}
    taken = 0
    for packet in packets:
        name = packet.interface.name or f"#{packet.if_id}"
        names[name] = True
        if not options.interface and len(names) > 1:
            raise UsageError(f"{file} holds packets of several interfaces", why=f"among them: {', '.join(names)}",
                             try_=f"--interface {next(iter(names))}")
        if options.interface and name != options.interface:
            continue
        if packet.direction == DIR_OUT and not options.outgoing:
            plan.outgoing += 1
            continue
        if options.limit and taken >= options.limit:
            return
        taken += 1
        yield packet
    if options.interface and options.interface not in names:
        raise UsageError(f"{file} has no packets of an interface {options.interface}", why=f"it has: {', '.join(names) or 'no packets'}")


def _frame(packet: CapturedPacket, dev: NetDevice, file: str) -> bytes:
    """The packet as an Ethernet frame; an IP packet without one gets a header for the device."""
    linktype = packet.interface.linktype
    if linktype == LINKTYPE_ETHERNET:
        return packet.data
    if linktype in RAW_TYPES:
        kind = ETHERTYPE_IPV6 if packet.data[:1] and packet.data[0] >> 4 == 6 else ETHERTYPE_IP
        return dev.addr.to_bytes(6, "big") + b"\x02" + bytes(5) + kind + packet.data if packet.data else b""
    name = f"{linktype} ({TYPE_NAMES[linktype]})" if linktype in TYPE_NAMES else str(linktype)
    raise UsageError(f"{file} was captured with link type {name}", why="Ethernet (1) and raw IP (101) can be received",
                     try_="capture at one device: tcpdump -i eth0 -w FILE")


class FrameReplay:
    """Frames on their way into a device. `count`, `unread`: received so far; lost: the device was gone."""

    def __init__(self, dev: NetDevice, frames: Frames, fix_checksums: bool = False) -> None:
        self.dev = dev
        self.frames = frames
        self.fix_checksums = fix_checksums
        self.at = 0
        self.began = dev.net.loop.now
        self.first_id = self.last_id = 0
        self.received = self.bytes = self.bad_checksums = self.lost = 0

    @property
    def done(self) -> bool:
        """Every frame had its turn."""
        return self.at >= len(self.frames)

    def start(self) -> None:
        """The first frame comes now."""
        self._schedule()

    def _schedule(self) -> None:
        loop = self.dev.net.loop
        loop.call_at(max(loop.now, self.began + self.frames[self.at][0]), self._next)

    def _next(self, _: object = None) -> None:
        """One frame is received; the loop stops after the last, for whoever waits."""
        data = self.frames[self.at][1]
        self.at += 1
        if self.done:
            self.dev.net.loop.stop()
        else:
            self._schedule()
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        dev = self.dev
        if dev.net.devs.get(dev.name) is not dev:
            self.lost += 1
            return
        skb = skb_from_bytes(dev.net, data)
        if skb.csum == CSUM_BAD:
            self.bad_checksums += 1
            if self.fix_checksums:
                skb.csum = CSUM_UNNECESSARY
        self.first_id = self.first_id or skb.id
        self.last_id = skb.id
        self.received += 1
        self.bytes += len(data)
        dev_receive(dev, skb)

    def json(self) -> Obj:
        """What became of it."""
        net = self.dev.net
        place = net.host.name if net.name == net.host.name else net.name.rpartition("/")[2]
        return {"place": place, "device": self.dev.name, "frames": self.received, "bytes": self.bytes, "lost": self.lost,
                "bad_checksums": self.bad_checksums, "checksums_fixed": self.fix_checksums, "took_ns": self.dev.net.loop.now - self.began,
                "first_packet": self.first_id, "last_packet": self.last_id}


def to_journal(frames: Frames) -> list[list[Any]]:
    """Frames as JSON can hold them."""
    return [[when, base64.b64encode(data).decode()] for when, data in frames]


def from_journal(frames: list[list[Any]]) -> Frames:
    """The other way."""
    return [(int(when), base64.b64decode(data)) for when, data in frames]
