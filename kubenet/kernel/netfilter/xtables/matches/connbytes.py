"""-m connbytes: how much a connection has carried: packets, bytes, or bytes a packet.

Using it switches the counting on (net.netfilter.nf_conntrack_acct): connections that began before have no counters and do not match.

Source: Linux connbytes_mt(), connbytes_mt_check() (xt_connbytes.c); iptables 1.8.9 libxt_connbytes.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options
from kubenet.kernel.netfilter.xtables.spec import Ctx, Header, Key, Match, Predicate, RuleSpec, xt_match
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import SkBuff

_U64 = 0xFFFFFFFFFFFFFFFF
DIRECTIONS = ("original", "reply", "both")
MODES = ("packets", "bytes", "avgpkt")


def read_range(text: str, ext: str, opt: str) -> tuple[int, int]:
    """Reads 10, 10:, :100, 10:100."""
    found = re.fullmatch(r"(\d*)(:?)(\d*)", text)
    if not found or not (found[1] or found[3]):
        raise XtablesError(f'{ext}: bad value for option "--{opt}" near "{text}", or out of range (0-{_U64}).\n')
    low = int(found[1] or 0)
    high = int(found[3]) if found[3] else _U64
    if high < low:
        raise XtablesError(f"{low} should be less than {high}")
    return low, high


def read_direction(text: str, ext: str, opt: str) -> str:
    """Reads original, reply or both."""
    if text not in DIRECTIONS:
        raise XtablesError(f"Unknown --connbytes-dir `{text}'")
    return text


def read_mode(text: str, ext: str, opt: str) -> str:
    """Reads packets, bytes or avgpkt."""
    if text not in MODES:
        raise XtablesError(f"Unknown --connbytes-mode `{text}'")
    return text


@xt_match("connbytes")
@dataclass(frozen=True, slots=True)
class ConnbytesMatch(Match):
    """The connection's count lies in the range. Linux: connbytes_mt()."""

    low: int
    high: int
    inv: bool
    direction: str
    mode: str
    PURE = False  # the counters move between two packets
    CONNTRACK = True
    OPTS = options(Opt("connbytes", read_range, invert=True, mand=True), Opt("connbytes-dir", read_direction, mand=True),
                   Opt("connbytes-mode", read_mode, mand=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> ConnbytesMatch:
        low, high = got.get("connbytes", (0, _U64))
        return cls(low, high, got.inv("connbytes"), got.get("connbytes-dir", ""), got.get("connbytes-mode", ""))

    def _range(self) -> str:
        return f"{'! ' if self.inv else ''}%s {self.low}" + (f":{self.high}" if self.high != _U64 else "")

    def save(self) -> str:
        return f" {self._range() % '--connbytes'} --connbytes-mode {self.mode} --connbytes-dir {self.direction}"

    def listing(self, numeric: bool) -> str:
        return f" {self._range() % 'connbytes'} connbytes mode {self.mode} connbytes direction {self.direction}"

    def check(self, net: NetNamespace, rule: RuleSpec, table: str, hooks: int) -> int:
        net.sysctl.netfilter.nf_conntrack_acct = 1
        return 0

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        ct = skb.ct
        if ct is None or ct.packets is None or ct.bytes is None:
            return False
        part = {"original": slice(0, 1), "reply": slice(1, 2), "both": slice(0, 2)}[self.direction]
        packets, sizes = ct.packets[part], ct.bytes[part]
        if self.mode == "avgpkt":
            what = sum(sizes) // sum(packets) if sum(packets) else 0
        else:
            what = sum(packets if self.mode == "packets" else sizes)
        return (self.low <= what <= self.high) != self.inv
