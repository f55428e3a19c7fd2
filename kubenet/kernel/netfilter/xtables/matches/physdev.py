"""-m physdev: the bridge ports under a bridged packet's device. Without br_netfilter's record nothing is a port.

Source: Linux physdev_mt() (xt_physdev.c); iptables libxt_physdev.c.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, any_text, options
from kubenet.kernel.netfilter.xtables.spec import Ctx, Header, Key, Match, Predicate, RuleSpec, xt_match
from kubenet.kernel.skbuff import SkBuff

FIELDS = ("physdev-is-in", "physdev-in", "physdev-is-out", "physdev-out", "physdev-is-bridged")  # in the order of printing


def port_name(nf_bridge: Any, attribute: str) -> str:
    """The name of a port in the bridge's record, or ""."""
    dev = getattr(nf_bridge, attribute, None) if nf_bridge is not None else None
    return "" if dev is None else str(dev.name)


def name_matches(pattern: str, name: str) -> bool:
    """Equal, or begins with what stands before a final +."""
    return name.startswith(pattern[:-1]) if pattern.endswith("+") else name == pattern


@xt_match("physdev")
@dataclass(frozen=True, slots=True)
class PhysdevMatch(Match):
    """The bridge ports are these. `fields`: (option, value, inverted). Linux: physdev_mt()."""

    fields: tuple[tuple[str, Any, bool], ...]
    OPTS = options(
        Opt("physdev-in", any_text, invert=True), Opt("physdev-out", any_text, invert=True), Opt("physdev-is-in", invert=True),
        Opt("physdev-is-out", invert=True), Opt("physdev-is-bridged", invert=True),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> PhysdevMatch:
        if not got.values:
            raise XtablesError("PHYSDEV: no physdev option specified")
        return cls(tuple((name, *got.values[name]) for name in FIELDS if name in got.values))

    def save(self) -> str:
        return "".join(
            f"{' !' if inv else ''} --{name}{'' if value is True else ' ' + value}" for name, value, inv in self.fields)

    def listing(self, numeric: bool) -> str:
        return " PHYSDEV match" + self.save()

    def check(self, net: object, rule: RuleSpec, table: str, hooks: int) -> int:
        given = {name: inv for name, _, inv in self.fields}
        if not ("physdev-out" in given or "physdev-is-out" in given):
            return 0
        bridged = given.get("physdev-is-bridged") is False
        return errno.EINVAL if hooks & 1 << 3 and not bridged else 0

    def compile(self, key: Key) -> Predicate:
        return self._test

    def _test(self, skb: SkBuff, ctx: Ctx) -> bool:
        record = skb.nf_bridge
        indev, outdev = port_name(record, "physindev"), port_name(record, "physoutdev")
        for name, value, inv in self.fields:
            if name == "physdev-is-in":
                found = bool(indev)
            elif name in ("physdev-is-out", "physdev-is-bridged"):
                found = bool(outdev)
            elif name == "physdev-in":
                found = name_matches(value, indev)
            else:
                found = name_matches(value, outdev)
            if found == inv:
                return False
        return True
