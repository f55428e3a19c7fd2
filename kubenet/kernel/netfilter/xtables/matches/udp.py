"""-m udp: ports of a UDP datagram.

Source: Linux udp_mt() (xt_tcpudp.c); iptables libxt_udp.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.matches.tcp import ANY, no_header, port_save, port_words
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, port_range
from kubenet.kernel.netfilter.xtables.spec import Ctx, Header, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff

PORT_OPTS = options(
    Opt("source-port", port_range, invert=True), Opt("sport", port_range, invert=True, alias="source-port"),
    Opt("destination-port", port_range, invert=True), Opt("dport", port_range, invert=True, alias="destination-port"),
)


@xt_match("udp")
@dataclass(frozen=True, slots=True)
class UdpMatch(Match):
    """The datagram's ports are in range. Linux: udp_mt()."""

    sport: tuple[int, int]
    dport: tuple[int, int]
    sport_inv: bool
    dport_inv: bool
    PROTOS = (17,)
    OPTS = PORT_OPTS

    @classmethod
    def parse(cls, got: Got, head: Header) -> UdpMatch:
        return cls(got.get("source-port", ANY), got.get("destination-port", ANY), got.inv("source-port"),
                   got.inv("destination-port"))

    def save(self) -> str:
        return port_save("sport", self.sport, self.sport_inv) + port_save("dport", self.dport, self.dport_inv)

    def listing(self, numeric: bool) -> str:
        return (" udp" + port_words("spt", self.sport, self.sport_inv, numeric, 17)
                + port_words("dpt", self.dport, self.dport_inv, numeric, 17))

    def compile(self, key: Key) -> Predicate:
        low, high = self.dport
        if self.sport == ANY and not self.sport_inv and low == high and not self.dport_inv:
            return lambda skb, ctx: skb.l4.dport == low if skb.l4 is not None else no_header(skb)
        return self._full

    def _full(self, skb: SkBuff, ctx: Ctx) -> bool:
        l4 = skb.l4
        if l4 is None:
            return no_header(skb)
        sport, dport = bool(self.sport[0] <= l4.sport <= self.sport[1]), bool(self.dport[0] <= l4.dport <= self.dport[1])
        return sport != self.sport_inv and dport != self.dport_inv
