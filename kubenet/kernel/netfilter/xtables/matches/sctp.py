"""-m sctp: ports of an SCTP packet; they are the first four bytes of what IP carries.

simplified: --chunk-types is not there.
Source: Linux sctp_mt() (xt_sctp.c); iptables libxt_sctp.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.matches.tcp import ANY, port_save, port_words
from kubenet.kernel.netfilter.xtables.matches.udp import PORT_OPTS
from kubenet.kernel.netfilter.xtables.options import Got
from kubenet.kernel.netfilter.xtables.spec import Ctx, Header, HotDrop, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff


@xt_match("sctp")
@dataclass(frozen=True, slots=True)
class SctpMatch(Match):
    """The packet's ports are in range. Linux: sctp_mt()."""

    sport: tuple[int, int]
    dport: tuple[int, int]
    sport_inv: bool
    dport_inv: bool
    PROTOS = (132,)
    OPTS = PORT_OPTS

    @classmethod
    def parse(cls, got: Got, head: Header) -> SctpMatch:
        return cls(got.get("source-port", ANY), got.get("destination-port", ANY), got.inv("source-port"),
                   got.inv("destination-port"))

    def save(self) -> str:
        return port_save("sport", self.sport, self.sport_inv) + port_save("dport", self.dport, self.dport_inv)

    def listing(self, numeric: bool) -> str:
        return (" sctp" + port_words("spt", self.sport, self.sport_inv, numeric, 132)
                + port_words("dpt", self.dport, self.dport_inv, numeric, 132))

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        if skb.ip.frag & 0x1FFF:
            return False
        data = skb.payload
        if data is None or len(data) < 12:
            raise HotDrop("no SCTP header")
        sport, dport = int(data[0]) << 8 | int(data[1]), int(data[2]) << 8 | int(data[3])
        return ((self.sport[0] <= sport <= self.sport[1]) != self.sport_inv
                and (self.dport[0] <= dport <= self.dport[1]) != self.dport_inv)
