"""-m mac --mac-source: the Ethernet source of a packet that came in.

Source: Linux mac_mt() (xt_mac.c); iptables libxt_mac.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options
from kubenet.kernel.netfilter.xtables.spec import Header, Key, Match, Predicate, xt_match
from kubenet.wire.addr import mac, mac_text


def read_mac(text: str, ext: str, opt: str) -> int:
    """Reads 02:00:00:00:00:01."""
    try:
        return mac(text)
    except ValueError:
        raise XtablesError("Invalid MAC address specified.")


@xt_match("mac")
@dataclass(frozen=True, slots=True)
class MacMatch(Match):
    """The frame's source address is this one. Linux: mac_mt()."""

    addr: int
    inv: bool
    HOOKS = 0b00111
    OPTS = options(Opt("mac-source", read_mac, invert=True, mand=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> MacMatch:
        return cls(got.get("mac-source", 0), got.inv("mac-source"))

    def save(self) -> str:
        return f"{' !' if self.inv else ''} --mac-source {mac_text(self.addr)}"

    def listing(self, numeric: bool) -> str:
        return f" MAC{' !' if self.inv else ''} {mac_text(self.addr)}"

    def compile(self, key: Key) -> Predicate:
        addr, inv = self.addr, self.inv
        return lambda skb, ctx: skb.indev is not None and skb.eth is not None and (skb.eth.src == addr) != inv
