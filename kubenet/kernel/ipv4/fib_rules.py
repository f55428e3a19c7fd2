"""Policy rules: which table answers a routing question (`ip rule`).

    fib_rule_add(net, rule)        the rule is asked at its preference
    fib_rule_del(net, given, ...)  the first rule that has all that is given is gone
    rule.matches(flow)             do all its selectors fit?

Rules stand in order of preference, equals in order of their making. A device is selected by name: the rule is `[detached]`
and fits nothing while there is no device of that name. A goto without a rule to go to is `[unresolved]` and passed over.
fib_lookup() (fib.py) walks the list.

A rule on protocol or ports needs more of a packet than a route is cached by. Linux looks into the packet before each lookup
while there is such a rule (fib4_rules_early_flow_dissect()); here nothing is cached meanwhile, and the question carries them.
Leaves out: l3mdev, uidrange, tun_id, suppress_ifgroup, realms. Sources: Linux net/core/fib_rules.c, net/ipv4/fib_rules.c.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from kubenet.kernel.dev.device import NETDEV_CHANGE, NETDEV_REGISTER, NETDEV_UNREGISTER, NetDevice, netdev_chain, oserror

if TYPE_CHECKING:
    from kubenet.kernel.ipv4.fib import Fib, Flow
    from kubenet.kernel.netns import NetNamespace

AF_INET = 2
RTPROT_UNSPEC = 0
FR_ACT_UNSPEC, FR_ACT_TO_TBL, FR_ACT_GOTO, FR_ACT_NOP = 0, 1, 2, 3
FR_ACT_BLACKHOLE, FR_ACT_UNREACHABLE, FR_ACT_PROHIBIT = 6, 7, 8
IPTOS_RT_MASK = 0x1C
DETACHED = -1  # index of a device that is not there
NO_PORTS = (0, 0, 0)
ANY_PORT = (0, 0)


class FibRule:
    """One rule. Linux: struct fib_rule, struct fib4_rule.

    iifname, oifname: "" any; iif, oif: their index now, DETACHED without such a device. target: preference a goto goes on at;
    resolved: there is one. suppress_prefixlen: answers with a prefix no longer than this do not count, -1 off.
    """

    __slots__ = ("pref", "table", "src", "src_len", "dst", "dst_len", "iifname", "oifname", "iif", "oif", "mark", "mask", "tos",
                 "action", "invert", "protocol", "target", "resolved", "suppress_prefixlen", "ip_proto", "sports", "dports")

    def __init__(self, pref: int, table: int, protocol: int = RTPROT_UNSPEC) -> None:
        self.pref = pref
        self.table = table
        self.src: int = 0
        self.src_len: int = 0
        self.dst: int = 0
        self.dst_len: int = 0
        self.iifname: str = ""
        self.oifname: str = ""
        self.iif: int = 0
        self.oif: int = 0
        self.mark: int = 0
        self.mask: int = 0
        self.tos: int = 0
        self.action: int = FR_ACT_TO_TBL
        self.invert: bool = False
        self.protocol = protocol
        self.target: int = 0
        self.resolved: bool = False
        self.suppress_prefixlen: int = -1
        self.ip_proto: int = 0
        self.sports: tuple[int, int] = ANY_PORT
        self.dports: tuple[int, int] = ANY_PORT

    def needs_ports(self) -> bool:
        """Linux: fib_rule_requires_fldissect()."""
        return bool(self.ip_proto or self.sports[0] or self.dports[0])

    def matches(self, flow: Flow) -> bool:
        """Linux: fib_rule_match(), fib4_rule_match()."""
        hit = (
            (not self.src_len or (flow.saddr ^ self.src) >> 32 - self.src_len == 0)
            and (not self.dst_len or (flow.daddr ^ self.dst) >> 32 - self.dst_len == 0)
            and (not self.iif or self.iif == (flow.iif or 1))
            and (not self.oif or self.oif == flow.oif)
            and (flow.mark ^ self.mark) & self.mask == 0
            and (not self.tos or self.tos == flow.tos & IPTOS_RT_MASK)
            and (not self.needs_ports() or self._ports_match(flow.ports))
        )
        return hit != self.invert

    def _ports_match(self, ports: tuple[int, int, int]) -> bool:
        proto, sport, dport = ports
        return ((not self.ip_proto or self.ip_proto == proto)
                and (not self.sports[0] or self.sports[0] <= sport <= self.sports[1])
                and (not self.dports[0] or self.dports[0] <= dport <= self.dports[1]))

    def attach(self, net: NetNamespace, gone: NetDevice | None = None) -> None:
        """iif and oif are those of the devices there are, but for the one that goes. Linux: attach_rules(), detach_rules()."""
        self.iif, self.oif = (
            0 if not name else DETACHED if (dev := net.devs.get(name)) is None or dev is gone else dev.ifindex
            for name in (self.iifname, self.oifname))


_NOT_COMPARED = ("iif", "oif", "resolved", "invert")


def fib_rule_default_pref(fib: Fib) -> int:
    """One before the second rule. Linux: fib_default_rule_pref()."""
    if len(fib.rules) > 1 and fib.rules[1].pref:
        return fib.rules[1].pref - 1
    return 0


def fib_rule_port_range(ports: tuple[int, int], name: str) -> tuple[int, int]:
    """`ports`, first and last, for FibRule.sports or dports. OSError EINVAL. Linux: nla_get_port_range(),
    fib_rule_port_range_valid()."""
    if not 0 < ports[0] <= ports[1] < 0xFFFF:
        raise oserror(errno.EINVAL, f"Invalid {name} range.")
    return ports


def fib_rule_add(net: NetNamespace, rule: FibRule) -> None:
    """The rule is asked at its preference, after its equals. OSError EEXIST if the same is there, `not` or without it; EINVAL.

    Linux: fib_newrule(), fib4_rule_configure().
    """
    fib: Fib = net.fib[AF_INET]
    if rule.tos & 3:
        raise oserror(errno.EINVAL, "Invalid dsfield (tos): ECN bits must be 0.")
    if rule.tos & ~IPTOS_RT_MASK:
        raise oserror(errno.EINVAL, "Invalid tos.")
    if rule.action == FR_ACT_GOTO and rule.target <= rule.pref:
        raise oserror(errno.EINVAL, "Backward goto not supported.")
    if rule.action == FR_ACT_TO_TBL and not rule.table:
        rule.table = next(t for t in range(1, 253) if t not in fib.tables)  # fib_empty_table()
        fib.new_table(rule.table)
    for old in fib.rules:
        if all(getattr(old, s) == getattr(rule, s) for s in FibRule.__slots__ if s not in _NOT_COMPARED):
            raise oserror(errno.EEXIST)
    rule.attach(net)
    at = len([old for old in fib.rules if old.pref <= rule.pref])
    _rules_changed(net, [*fib.rules[:at], rule, *fib.rules[at:]])


def fib_rule_del(net: NetNamespace, given: FibRule, any_pref: bool = False) -> FibRule:
    """The first rule with all that `given` has set (any preference, if any_pref) is gone, and returned; what is not set is not
    asked for, and `not` never is. OSError ENOENT. Linux: fib_delrule(), rule_find()."""
    fib: Fib = net.fib[AF_INET]
    for rule in fib.rules:
        if (any_pref or rule.pref == given.pref) and _fits(rule, given):
            _rules_changed(net, [old for old in fib.rules if old is not rule])
            return rule
    raise oserror(errno.ENOENT)


_IF_GIVEN = ("action", "table", "iifname", "oifname", "mark", "mask", "tos", "ip_proto", "protocol")


def _fits(rule: FibRule, given: FibRule) -> bool:
    """Linux: rule_find(), fib4_rule_compare()."""
    return (all(getattr(given, s) in (0, "", getattr(rule, s)) for s in _IF_GIVEN)
            and given.sports in (ANY_PORT, rule.sports) and given.dports in (ANY_PORT, rule.dports)
            and given.suppress_prefixlen in (-1, rule.suppress_prefixlen)
            and (not given.src_len or (given.src, given.src_len) == (rule.src, rule.src_len))
            and (not given.dst_len or (given.dst, given.dst_len) == (rule.dst, rule.dst_len)))


def _rules_changed(net: NetNamespace, rules: list[FibRule]) -> None:
    fib: Fib = net.fib[AF_INET]
    fib.rules = rules
    fib.custom_rules = True
    fib.require_fldissect = any(rule.needs_ports() for rule in rules)
    prefs = {rule.pref for rule in rules}
    for rule in rules:
        rule.resolved = rule.action == FR_ACT_GOTO and rule.target in prefs
    net.rt_genid += 1
    net.dst_cache.clear()


def fib_rules_event(event: str, dev: NetDevice) -> None:
    """Rules that name the device follow it as it comes, goes or gets another name. Linux: fib_rules_event()."""
    if event not in (NETDEV_REGISTER, NETDEV_UNREGISTER, NETDEV_CHANGE):
        return
    fib: Any = dev.net.fib.get(AF_INET)
    if fib is None or not fib.custom_rules:
        return
    for rule in fib.rules:
        rule.attach(dev.net, dev if event == NETDEV_UNREGISTER else None)
    dev.net.rt_genid += 1
    dev.net.dst_cache.clear()


netdev_chain.append(fib_rules_event)
