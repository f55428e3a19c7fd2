"""-j SET: the packet's address, port or whatever the set is made of goes into a set, or out of it.

Source: Linux set_target_v3() (xt_set.c); iptables 1.8.9 libxt_SET.c. simplified: --map-set needs skbinfo, which no set here has.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from kubenet.kernel.netfilter.ipset import IpSet, Member, SetError, expiry, ip_sets
from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.matches.set import read_set, set_exists
from kubenet.kernel.netfilter.xtables.options import Got, Opt, options, uint
from kubenet.kernel.netfilter.xtables.spec import CONTINUE, Action, Ctx, Header, Key, RuleSpec, Target, xt_target
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import SkBuff

Named = tuple[str, tuple[str, ...]] | None


@xt_target("SET")
@dataclass(frozen=True, slots=True)
class SetTarget(Target):
    """The packet's element is added or taken away. Linux: set_target_v3()."""

    add: Named
    remove: Named
    exist: bool
    timeout: int | None
    OPTS = options(Opt("add-set", read_set, args=2), Opt("del-set", read_set, args=2), Opt("exist", also=("add-set",)),
                   Opt("timeout", uint(0, 0xFFFFFFFE), also=("add-set",)))

    @classmethod
    def parse(cls, got: Got, head: Header) -> SetTarget:
        if "add-set" not in got.values and "del-set" not in got.values:
            raise XtablesError("You must specify either `--add-set' or `--del-set' or `--map-set'")
        return cls(got.get("add-set"), got.get("del-set"), got.get("exist", False), got.get("timeout"))

    @property
    def set_names(self) -> tuple[str, ...]:
        """The sets that it holds."""
        return tuple(named[0] for named in (self.add, self.remove) if named is not None)

    def _words(self, dash: str) -> str:
        out = f" {dash}add-set {self.add[0]} {','.join(self.add[1])}" if self.add is not None else ""
        out += (f" {dash}exist" if self.exist else "") + (f" {dash}timeout {self.timeout}" if self.timeout is not None else "")
        return out + (f" {dash}del-set {self.remove[0]} {','.join(self.remove[1])}" if self.remove is not None else "")

    def save(self) -> str:
        return self._words("--")

    def listing(self, numeric: bool) -> str:
        return self._words("")

    def check(self, net: NetNamespace, rule: RuleSpec, table: str, hooks: int) -> int:
        for name in self.set_names:
            set_exists(net, name)
        return errno.EINVAL if self.timeout and self.add is None else 0

    def compile(self, key: Key) -> Action:
        return self._run

    def _run(self, skb: SkBuff, ctx: Ctx) -> int:
        net = ctx.net
        if self.add is not None and (found := ip_sets(net).get(self.add[0])) is not None:
            _add(net, found, found.elem_of(skb, self.add[1]), self.timeout, self.exist)
        if self.remove is not None and (found := ip_sets(net).get(self.remove[0])) is not None:
            elem = found.elem_of(skb, self.remove[1])
            if elem is not None:
                found.remove(elem, net.loop.now, exist=True)
        return CONTINUE


def _add(net: NetNamespace, found: IpSet, elem: tuple[object, ...] | None, timeout: int | None, exist: bool) -> None:
    if elem is None:
        return
    seconds = (found.timeout if timeout is None else timeout) if found.timeout is not None else 0
    try:
        found.add(elem, Member(expiry(net, seconds)), net.loop.now, exist)
    except SetError:
        pass  # it was there, or there is no room: the packet goes on
