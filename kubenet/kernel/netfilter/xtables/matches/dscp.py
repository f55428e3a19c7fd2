"""-m dscp: the upper six bits of the TOS byte (RFC 2474).

Source: Linux dscp_mt() (xt_dscp.c); iptables libxt_dscp.c, dscp_helper.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, uint
from kubenet.kernel.netfilter.xtables.spec import Header, Key, Match, Predicate, xt_match

CLASSES: dict[str, int] = {"EF": 0x2E, "BE": 0, **{f"CS{i}": 8 * i for i in range(8)},
                           **{f"AF{i}{j}": 8 * i + 2 * j for i in range(1, 5) for j in range(1, 4)}}


def read_class(text: str, ext: str, opt: str) -> int:
    """Reads EF, AF11, CS5 ..."""
    if text.upper() not in CLASSES:
        raise XtablesError(f"Invalid DSCP value `{text}'\n")
    return CLASSES[text.upper()]


@xt_match("dscp")
@dataclass(frozen=True, slots=True)
class DscpMatch(Match):
    """tos >> 2 == value. Linux: dscp_mt()."""

    value: int
    inv: bool
    OPTS = options(Opt("dscp", uint(0, 63), invert=True), Opt("dscp-class", read_class, invert=True, alias="dscp"))

    @classmethod
    def parse(cls, got: Got, head: Header) -> DscpMatch:
        if not got.values:
            raise XtablesError("DSCP match: Parameter --dscp is required")
        return cls(got.get("dscp"), got.inv("dscp"))

    def save(self) -> str:
        return f"{' !' if self.inv else ''} --dscp 0x{self.value:02x}"

    def listing(self, numeric: bool) -> str:
        return f" DSCP match {'!' if self.inv else ''}0x{self.value:02x}"

    def compile(self, key: Key) -> Predicate:
        value, inv = self.value, self.inv
        return lambda skb, ctx: (skb.ip.tos >> 2 == value) != inv
