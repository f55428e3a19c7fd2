"""-j CLASSIFY --set-class MAJOR:MINOR: the packet's priority, for queueing disciplines.

Source: Linux classify_tg() (xt_CLASSIFY.c); iptables libxt_CLASSIFY.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options
from kubenet.kernel.netfilter.xtables.spec import CONTINUE, Action, Ctx, Header, Key, Target, xt_target
from kubenet.kernel.skbuff import SkBuff


def read_class(text: str, ext: str, opt: str) -> int:
    """Reads two hexadecimal numbers."""
    major, colon, minor = text.partition(":")
    try:
        return int(major, 16) << 16 | int(minor, 16)
    except ValueError:
        raise XtablesError(f'Bad class value "{text}"')


@xt_target("CLASSIFY")
@dataclass(frozen=True, slots=True)
class ClassifyTarget(Target):
    """skb->priority is the class. Linux: classify_tg()."""

    value: int
    TABLES = ("mangle", "filter")
    HOOKS = 0b11100
    OPTS = options(Opt("set-class", read_class, mand=True))

    @classmethod
    def parse(cls, got: Got, head: Header) -> ClassifyTarget:
        return cls(got.get("set-class", 0))

    def save(self) -> str:
        return f" --set-class {self.value >> 16:04x}:{self.value & 0xFFFF:04x}"

    def listing(self, numeric: bool) -> str:
        return f" CLASSIFY set {self.value >> 16:x}:{self.value & 0xFFFF:x}"

    def compile(self, key: Key) -> Action:
        value = self.value

        def classify_tg(skb: SkBuff, ctx: Ctx) -> int:
            skb.priority = value
            return CONTINUE

        return classify_tg
