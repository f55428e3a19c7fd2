"""-m multiport: up to 15 ports and ranges of ports.

Source: Linux multiport_mt() (xt_multiport.c); iptables libxt_multiport.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.names import service_name
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, port_number
from kubenet.kernel.netfilter.xtables.spec import Ctx, Header, HotDrop, Key, Match, Predicate, xt_match
from kubenet.kernel.skbuff import SkBuff

Ports = tuple[tuple[int, int], ...]
PROTOS = (6, 17, 136, 132, 33)


def read_ports(text: str, ext: str, opt: str) -> Ports:
    """Reads 80,443,1000:2000; a range takes the place of two."""
    ports: list[tuple[int, int]] = []
    places = 0
    for word in text.split(","):
        first, colon, second = word.partition(":")
        places += 2 if colon else 1
        if places > 15:
            raise XtablesError("too many ports specified")
        low = port_number(first)
        high = port_number(second) if colon else low
        if colon and low >= high:
            raise XtablesError("invalid portrange specified")
        ports.append((low, high))
    return tuple(ports)


@xt_match("multiport")
@dataclass(frozen=True, slots=True)
class MultiportMatch(Match):
    """A port (side: sports, dports, or ports for either) is among these. Linux: multiport_mt()."""

    side: str
    ports: Ports
    inv: bool
    proto: int
    OPTS = options(
        Opt("source-ports", read_ports, invert=True), Opt("sports", read_ports, invert=True, alias="source-ports"),
        Opt("destination-ports", read_ports, invert=True), Opt("dports", read_ports, invert=True, alias="destination-ports"),
        Opt("ports", read_ports, invert=True),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> MultiportMatch:
        if not got.values:
            raise XtablesError("multiport expection an option")
        name = next(iter(got.values))
        side = {"source-ports": "sports", "destination-ports": "dports"}.get(name, name)
        return cls(side, got.get(name), got.inv(name), head.proto)

    @staticmethod
    def before(head: Header) -> None:
        """The protocol must stand before the first port is read. iptables: multiport's proto check."""
        if head.proto == 0 or head.proto_inv:
            raise XtablesError("multiport needs `-p tcp', `-p udp', `-p udplite', `-p sctp' or `-p dccp'")
        if head.proto not in PROTOS:
            raise XtablesError("multiport only works with TCP, UDP, UDPLITE, SCTP and DCCP")

    def save(self) -> str:
        text = ",".join(str(a) if a == b else f"{a}:{b}" for a, b in self.ports)
        return f"{' !' if self.inv else ''} --{self.side} {text}"

    def listing(self, numeric: bool) -> str:
        def name(port: int) -> str:
            return str(port) if numeric else service_name(port, self.proto)

        text = ",".join(name(a) if a == b else f"{name(a)}:{name(b)}" for a, b in self.ports)
        return f" multiport {self.side} {' !' if self.inv else ''}{text}"

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        l4 = skb.l4
        if l4 is None or self.proto not in (6, 17):
            if skb.ip.frag & 0x1FFF:
                return False
            data = skb.payload
            if data is None or len(data) < 4 or self.proto in (6, 17):
                raise HotDrop("no transport header")
            sport, dport = data[0] << 8 | data[1], data[2] << 8 | data[3]
        else:
            sport, dport = l4.sport, l4.dport
        hit = False
        for low, high in self.ports:
            if (self.side != "dports" and low <= sport <= high) or (self.side != "sports" and low <= dport <= high):
                hit = True
                break
        return hit != self.inv
