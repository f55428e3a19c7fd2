"""-j MARK: mark = (mark & ~mask) ^ value. All spellings (--set-mark, --or-mark ...) come down to --set-xmark value/mask.

Source: Linux mark_tg() (xt_mark.c); iptables libxt_MARK.c revision 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, mark_mask, mark_value, options
from kubenet.kernel.netfilter.xtables.spec import CONTINUE, Action, Ctx, Header, Key, Target, xt_target
from kubenet.kernel.skbuff import SkBuff

_U32 = 0xFFFFFFFF
OPERATIONS = ("set-xmark", "set-mark", "and-mark", "or-mark", "xor-mark")


def mark_options() -> tuple[Opt, ...]:
    """The five ways to say it, each excluding the others."""
    return tuple(
        Opt(name, mark_mask if name.startswith("set") else mark_value, excl=tuple(o for o in OPERATIONS if o != name))
        for name in OPERATIONS
    )


def xmark(got: Got) -> tuple[int, int] | None:
    """The given operation as value and mask, or None. iptables: MARK_parse()."""
    name = next((name for name in OPERATIONS if name in got.values), "")
    if not name:
        return None
    value = got.get(name)
    if name == "set-xmark":
        return value[0], value[1]
    if name == "set-mark":
        return value[0], value[0] | value[1]
    if name == "and-mark":
        return 0, ~value & _U32
    return (value, value) if name == "or-mark" else (value, 0)


def xmark_words(value: int, mask: int) -> str:
    """What `iptables -L` makes of it: set, or, and, xor, xset."""
    if mask == 0:
        return f"xor {value:#x}"
    if value == mask and mask != _U32:
        return f"or {value:#x}"
    if value == 0 and mask != _U32:
        return f"and {~mask & _U32:#x}"
    if mask == _U32:
        return f"set {value:#x}"
    return f"xset {value:#x}/{mask:#x}"


@xt_target("MARK")
@dataclass(frozen=True, slots=True)
class MarkTarget(Target):
    """The packet has the mark. Linux: mark_tg()."""

    value: int
    mask: int
    OPTS = options(*mark_options())

    @classmethod
    def parse(cls, got: Got, head: Header) -> MarkTarget:
        found = xmark(got)
        if found is None:
            raise XtablesError("MARK: One of the --set-xmark, --{and,or,xor,set}-mark options is required")
        return cls(*found)

    def save(self) -> str:
        return f" --set-xmark {self.value:#x}/{self.mask:#x}"

    def listing(self, numeric: bool) -> str:
        return " MARK " + xmark_words(self.value, self.mask)

    def compile(self, key: Key) -> Action:
        value, keep = self.value, ~self.mask & _U32

        def mark_tg(skb: SkBuff, ctx: Ctx) -> int:
            skb.mark = (skb.mark & keep) ^ value
            return CONTINUE

        return mark_tg
