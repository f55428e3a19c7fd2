"""-m set --match-set NAME src,dst: is the packet in the set, with its source or destination for each part of the set's elements?

Source: Linux set_match_v4() (xt_set.c); iptables 1.8.9 libxt_set.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.ipset import ip_sets
from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, uint
from kubenet.kernel.netfilter.xtables.spec import Ctx, Header, Key, Match, Predicate, RuleSpec, xt_match
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import SkBuff

_U64 = 0xFFFFFFFFFFFFFFFF
COMPARISONS = ("packets-eq", "packets-lt", "packets-gt", "bytes-eq", "bytes-lt", "bytes-gt")


def read_set(text: str, ext: str, opt: str) -> tuple[str, tuple[str, ...]]:
    """Reads NAME and src,dst."""
    name, _, dirs = text.partition(" ")
    if len(name) > 31:
        raise XtablesError(f'setname "{name}" too long, max 31 characters.')
    words = tuple(dirs.split(","))
    if any(word not in ("src", "dst") for word in words):
        raise XtablesError("You must spefify (the comma separated list of) 'src' or 'dst'.")
    if len(words) > 6:
        raise XtablesError("Can't be more src/dst options than 6.")
    return name, words


def set_exists(net: NetNamespace, name: str) -> None:
    """XtablesError as iptables has it, which asks the kernel for the set while it reads its words."""
    if name not in ip_sets(net):
        raise XtablesError(f"Set {name} doesn't exist.\n")


@xt_match("set")
@dataclass(frozen=True, slots=True)
class SetMatch(Match):
    """The packet is in the set. Linux: set_match_v4()."""

    name: str
    dirs: tuple[str, ...]
    inv: bool
    flags: tuple[str, ...]  # return-nomatch, ! update-counters, ! update-subcounters
    compare: tuple[tuple[str, int, bool], ...]  # counters of the element: option, value, inverted
    PURE = False
    OPTS = options(
        Opt("match-set", read_set, invert=True, args=2), Opt("return-nomatch"), Opt("update-counters", invert=True),
        Opt("update-subcounters", invert=True), *(Opt(name, uint(0, _U64), invert=name.endswith("eq")) for name in COMPARISONS),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> SetMatch:
        if "match-set" not in got.values:
            raise XtablesError("You must specify `--match-set' with proper arguments")
        name, dirs = got.get("match-set")
        flags: tuple[str, ...] = ("return-nomatch",) if got.get("return-nomatch") else ()
        flags += tuple(f"! {o}" for o in ("update-counters", "update-subcounters") if got.inv(o))
        return cls(name, dirs, got.inv("match-set"), flags,
                   tuple((o, got.get(o), got.inv(o)) for o in COMPARISONS if o in got.values))

    @property
    def set_names(self) -> tuple[str, ...]:
        """The sets that it holds."""
        return (self.name,)

    def _words(self, dash: str) -> str:
        out = f"{' !' if self.inv else ''} {dash}match-set {self.name} {','.join(self.dirs)}"
        out += "".join(f" ! {dash}{flag[2:]}" if flag.startswith("! ") else f" {dash}{flag}" for flag in self.flags)
        return out + "".join(f"{' !' if inv else ''} {dash}{option} {value}" for option, value, inv in self.compare)

    def save(self) -> str:
        return self._words("--")

    def listing(self, numeric: bool) -> str:
        return self._words("")

    def check(self, net: NetNamespace, rule: RuleSpec, table: str, hooks: int) -> int:
        set_exists(net, self.name)
        return 0

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        return self._in_set(skb, ctx) != self.inv

    def _in_set(self, skb: SkBuff, ctx: Ctx) -> bool:
        found = ip_sets(ctx.net).get(self.name)
        member = found.test(ctx.net, skb, self.dirs, "! update-counters" not in self.flags) if found is not None else None
        if member is None or member.nomatch:
            return member is not None and "return-nomatch" in self.flags
        for option, value, inv in self.compare:
            what, how = option.split("-")
            have = member.packets if what == "packets" else member.bytes
            hit = have == value if how == "eq" else have < value if how == "lt" else have > value
            if hit == inv:
                return False
        return True
