"""-j DSCP and -j TOS in the mangle table: rewrite the packet's TOS byte.

Source: Linux dscp_tg(), tos_tg() (xt_DSCP.c); iptables libxt_DSCP.c, libxt_TOS.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.matches.dscp import read_class
from kubenet.kernel.netfilter.xtables.options import Got, Opt, number, options, uint
from kubenet.kernel.netfilter.xtables.spec import CONTINUE, Action, Ctx, Header, Key, Target, xt_target
from kubenet.kernel.skbuff import SkBuff


@xt_target("DSCP")
@dataclass(frozen=True, slots=True)
class DscpTarget(Target):
    """The upper six bits are this value. Linux: dscp_tg()."""

    value: int
    TABLES = ("mangle",)
    OPTS = options(Opt("set-dscp", uint(0, 63)), Opt("set-dscp-class", read_class, alias="set-dscp"))

    @classmethod
    def parse(cls, got: Got, head: Header) -> DscpTarget:
        if not got.values:
            raise XtablesError("DSCP target: Parameter --set-dscp is required")
        return cls(got.get("set-dscp"))

    def save(self) -> str:
        return f" --set-dscp 0x{self.value:02x}"

    def listing(self, numeric: bool) -> str:
        return f" DSCP set 0x{self.value:02x}"

    def compile(self, key: Key) -> Action:
        value = self.value << 2

        def dscp_tg(skb: SkBuff, ctx: Ctx) -> int:
            skb.ip.tos = (skb.ip.tos & 3) | value
            return CONTINUE

        return dscp_tg


def read_tos(text: str, ext: str, opt: str) -> tuple[int, int]:
    """Reads value[/mask]."""
    first, slash, second = text.partition("/")
    value, mask = number(first), number(second) if slash else 0xFF
    if value is None or mask is None or value > 255 or mask > 255:
        raise XtablesError(f'{ext}: bad value for option "--{opt}", or out of range (0-255).\n')
    return value, mask


@xt_target("TOS")
@dataclass(frozen=True, slots=True)
class TosTarget(Target):
    """tos = (tos & ~mask) ^ value. Linux: tos_tg()."""

    value: int
    mask: int
    TABLES = ("mangle",)
    OPTS = options(Opt("set-tos", read_tos))

    @classmethod
    def parse(cls, got: Got, head: Header) -> TosTarget:
        if not got.values:
            raise XtablesError("TOS: An action is required")
        return cls(*got.get("set-tos"))

    def save(self) -> str:
        return f" --set-tos 0x{self.value:02x}/0x{self.mask:02x}"

    def listing(self, numeric: bool) -> str:
        return f" TOS set 0x{self.value:02x}/0x{self.mask:02x}"

    def compile(self, key: Key) -> Action:
        value, keep = self.value, ~self.mask & 255

        def tos_tg(skb: SkBuff, ctx: Ctx) -> int:
            skb.ip.tos = (skb.ip.tos & keep) ^ value
            return CONTINUE

        return tos_tg
