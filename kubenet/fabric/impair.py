"""Rules that see every frame on a cable and say Pass, Delay or Drop.

A rule is an object with verdict(link, skb, end, now) -> int: PASS (0), DROP (-1), or a delay in ns. Link.add_rule()
puts it to work. `end` is the cable's end the frame entered: 0 at the machine, 1 at the switch. The rules here drop or
delay what fits a description, all of it or the n-th frames, which is what lessons need ("lose the third data
segment"); chance is the link's own business (loss=, reorder= ...).

    link.add_rule(DropMatching(proto=6, flags=SYN | ACK, count=2))     the first two SYN-ACKs are lost
    link.add_rule(DelayMatching(50 * MSEC, dport=53, proto=17))
    partition(fabric_links, ["node-1"], ["node-2", "node-3"])          nothing passes between the two sides
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubenet.fabric.link import DROP, PASS, Link
from kubenet.kernel.skbuff import ETH_P_IP, SkBuff

OUT, IN, BOTH = 0, 1, 2  # from the machine, to the machine


class Matching:
    """Which frames: a field that is 0 fits everything. Of TCP's flags those in `mask` must be as in `flags`; mask 0: all of them set.

    The first `skip` fitting frames pass, then `count` of them are hit (-1: all).
    """

    __slots__ = ("proto", "saddr", "daddr", "sport", "dport", "flags", "mask", "min_len", "direction", "skip", "count", "hits")

    def __init__(
        self, proto: int = 0, saddr: int = 0, daddr: int = 0, sport: int = 0, dport: int = 0, flags: int = 0, min_len: int = 0,
        direction: int = BOTH, skip: int = 0, count: int = -1, mask: int = 0,
    ) -> None:
        self.proto = proto
        self.saddr = saddr
        self.daddr = daddr
        self.sport = sport
        self.dport = dport
        self.flags = flags
        self.mask = mask or flags
        self.min_len = min_len
        self.direction = direction
        self.skip = skip
        self.count = count
        self.hits: int = 0

    def fits(self, skb: SkBuff, end: int) -> bool:
        """Does the frame fit the description?"""
        if self.direction != BOTH and self.direction != end:
            return False
        if skb.len < self.min_len or skb.protocol != ETH_P_IP:
            return False
        ip, l4 = skb.ip, skb.l4
        if (self.proto and ip.proto != self.proto) or (self.saddr and ip.saddr != self.saddr):
            return False
        if self.daddr and ip.daddr != self.daddr:
            return False
        if self.sport and getattr(l4, "sport", 0) != self.sport:
            return False
        if self.dport and getattr(l4, "dport", 0) != self.dport:
            return False
        return not self.mask or getattr(l4, "flags", 0) & self.mask == self.flags

    def hit(self, skb: SkBuff, end: int) -> bool:
        """Is it this frame's turn?"""
        if not self.fits(skb, end):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.count == 0:
            return False
        if self.count > 0:
            self.count -= 1
        self.hits += 1
        return True


class DropMatching(Matching):
    """Fitting frames are lost."""

    __slots__ = ()

    def verdict(self, link: Link, skb: SkBuff, end: int, now: int) -> int:
        return DROP if self.hit(skb, end) else PASS


class DelayMatching(Matching):
    """Fitting frames are held back for `delay` ns; others may overtake them."""

    __slots__ = ("delay",)

    def __init__(self, delay: int, **match: Any) -> None:
        super().__init__(**match)
        self.delay = delay

    def verdict(self, link: Link, skb: SkBuff, end: int, now: int) -> int:
        return self.delay if self.hit(skb, end) else PASS


class Partition:
    """Frames to a machine on the other side are lost; `others` are the MACs of the other side."""

    __slots__ = ("others", "hits")

    def __init__(self, others: Sequence[int]) -> None:
        self.others = dict.fromkeys(others, True)
        self.hits: int = 0

    def verdict(self, link: Link, skb: SkBuff, end: int, now: int) -> int:
        eth = skb.eth
        if eth is None or end != IN or eth.src not in self.others:
            return PASS
        self.hits += 1
        return DROP


def partition(cables: dict[str, tuple[Link, int]], left: Sequence[str], right: Sequence[str]) -> list[tuple[Link, Partition]]:
    """No frame passes between the machines in `left` and `right`. cables: machine -> (its cable, its card's MAC).

    Returns what heal() needs.
    """
    rules: list[tuple[Link, Partition]] = []
    for mine, others in ((left, right), (right, left)):
        macs = [cables[name][1] for name in others]
        for name in mine:
            rule = Partition(macs)
            cables[name][0].add_rule(rule)
            rules.append((cables[name][0], rule))
    return rules


def heal(rules: list[tuple[Link, Partition]]) -> None:
    """The partition is over."""
    for link, rule in rules:
        link.remove_rule(rule)
