"""Captures: what passes a device, written to a pcapng file or handed to a reader, without anybody on the path noticing.

A Capture is a tap (dev/device.py add_tap). Each device it is attached to is an interface of the file; frames are
turned into bytes at that moment, since NAT may edit their headers a function later. Times are the virtual clock plus
`epoch` (ns since 1970). A super-segment is one long packet, as tcpdump on a veth shows it; with split=True its
segments are written instead.

    capture = Capture(open("out.pcapng", "wb"), epoch)
    capture.attach(dev, "node-1/cni0")
    ...
    capture.close()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from kubenet.kernel.dev.device import NetDevice, add_tap, remove_tap
from kubenet.kernel.dev.gso import skb_gso_segment
from kubenet.kernel.skbuff import CSUM_BAD, SkBuff
from kubenet.wire.packet import frame_to_bytes
from kubenet.wire.pcap import DIR_IN, DIR_OUT, PcapngWriter

Filter = Callable[[SkBuff], bool]


def skb_to_bytes(skb: SkBuff) -> bytes:
    """The frame as it would be on the wire."""
    return frame_to_bytes(skb.eth, skb.ip, skb.l4, skb.inner, skb.payload, skb.csum == CSUM_BAD)


class Capture:
    """One file, any number of devices. `matches`: only frames for which it is true are written."""

    __slots__ = ("writer", "epoch", "split", "matches", "count", "devices")

    def __init__(self, fileobj: BinaryIO, epoch: int = 0, split: bool = False, matches: Filter | None = None) -> None:
        self.writer = PcapngWriter(fileobj, [])
        self.epoch = epoch
        self.split = split
        self.matches = matches
        self.count: int = 0
        self.devices: list[tuple[NetDevice, int]] = []

    def attach(self, dev: NetDevice, name: str = "") -> None:
        """Frames of `dev` are captured from now on."""
        self.devices.append((dev, self.writer.add_interface(name or dev.ledger_name)))
        add_tap(dev, self)

    def capture(self, dev: NetDevice, skb: SkBuff, outgoing: bool) -> None:
        """The tap's callback."""
        if self.matches is not None and not self.matches(skb):
            return
        if_id = next(i for d, i in self.devices if d is dev)
        now = self.epoch + dev.net.loop.now
        for packet in self._packets(skb):
            self.count += 1
            comment = f"packet {skb.id}"
            self.writer.write(if_id, now, skb_to_bytes(packet), comment, DIR_OUT if outgoing else DIR_IN)

    def _packets(self, skb: SkBuff) -> list[SkBuff]:
        if self.split and skb.gso_size:
            copy = skb.clone()
            skb.cloned = False  # the copy's headers are its own: skb_gso_segment() copies them
            return skb_gso_segment(copy)
        return [skb]

    def close(self) -> None:
        """No device is captured any more; the file is complete and stays its owner's."""
        for dev, _ in self.devices:
            remove_tap(dev, self)
        self.writer.flush()


class Recorder:
    """A tap for tests and lessons: a list of (time, device name, outgoing, header copies) in order."""

    __slots__ = ("frames",)

    def __init__(self) -> None:
        self.frames: list[tuple[int, str, bool, Any]] = []

    def attach(self, dev: NetDevice) -> None:
        """Frames of `dev` are noted from now on."""
        add_tap(dev, self)

    def capture(self, dev: NetDevice, skb: SkBuff, outgoing: bool) -> None:
        """The tap's callback."""
        self.frames.append((dev.net.loop.now, dev.name, outgoing, _snapshot(skb)))


def _snapshot(skb: SkBuff) -> SkBuff:
    """A copy that nobody edits any more, of the packet inside a tunnel too."""
    was = skb.cloned
    copy = skb.clone()
    skb.cloned = was
    copy.l4 = None if skb.l4 is None else skb.l4.copy()
    if isinstance(skb.inner, SkBuff):
        copy.inner = _snapshot(skb.inner)
    return copy
