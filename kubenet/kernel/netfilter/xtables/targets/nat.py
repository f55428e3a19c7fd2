"""-j DNAT, SNAT, REDIRECT, MASQUERADE: bind a translation to the packet's connection.

The rule is met by the first packet of a connection only. It asks nat.py for a translation (nf_nat_setup_info), which picks
an address and port from the range that no other connection uses; from then on the connection table translates.

Sources: Linux xt_nat.c, xt_REDIRECT.c, xt_MASQUERADE.c, nf_nat_redirect.c; iptables libxt_NAT.c, libxt_MASQUERADE.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kubenet.kernel.netfilter.core import DROP, OUTPUT
from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.options import Got, Opt, any_text, number, options
from kubenet.kernel.netfilter.xtables.save import addr_text
from kubenet.kernel.netfilter.xtables.spec import AF_INET, AF_INET6, DROPPED, Action, Ctx, Header, Key, Target, xt_target
from kubenet.kernel.skbuff import SkBuff
from kubenet.wire.addr import ip4, ip6

MAP_IPS, PROTO_SPECIFIED, PROTO_RANDOM, PERSISTENT, PROTO_RANDOM_FULLY = 1, 2, 4, 8, 16
PORT_PROTOS = (6, 17, 132, 33)
PRE_OUT, IN_POST, POST = 0b01001, 0b10010, 0b10000  # bit sets of hooks
FLAG_WORDS = ((PROTO_RANDOM, "random"), (PROTO_RANDOM_FULLY, "random-fully"), (PERSISTENT, "persistent"))


def read_port(text: str) -> int:
    """A port of a --to option."""
    value = number(text)
    if value is None or not 0 <= value <= 65535:
        raise XtablesError(f"Port `{text}' not valid")
    return value


def read_ports(text: str, need: Header) -> tuple[int, int]:
    """Reads port, port-port."""
    if need.proto not in PORT_PROTOS or need.proto_inv:
        raise XtablesError("Need TCP, UDP, SCTP or DCCP with port specification")
    first, dash, last = text.partition("-")
    low = read_port(first)
    high = read_port(last) if dash else low
    if high < low:
        raise XtablesError(f"Port range `{text}' funky\n")
    return low, high


def read_addr(text: str, family: int) -> int:
    """Reads an address of a --to option."""
    try:
        return ip4(text) if family == AF_INET else ip6(text)
    except ValueError:
        raise XtablesError(f'Bad IP address "{text}"')


def split_to(text: str, family: int) -> tuple[str, str | None]:
    """The addresses and ports of [ADDRESSES]:PORTS; ports None if there are none. iptables: parse_to()."""
    front, bracket, rest = text.partition("[")
    if bracket:
        addresses, closing, tail = rest.partition("]")
        if not closing or family == AF_INET:
            raise XtablesError("Invalid address format")
        _, colon, ports = tail.partition(":")
    elif text.count(":") == 1:  # one colon is a port's, more are an IPv6 address's
        addresses, colon, ports = text.partition(":")
    else:
        addresses, colon, ports = text, "", ""
    return addresses, ports if colon else None


@dataclass(frozen=True, slots=True)
class NatTarget(Target):
    """What all four share: a range of addresses and ports, and flags."""

    flags: int
    low: int
    high: int
    first: int
    last: int
    family: int = AF_INET
    TABLES = ("nat",)
    CONNTRACK = True
    TO: ClassVar[str] = ""
    WORDS: ClassVar[str] = "to:"

    @classmethod
    def _flags(cls, got: Got) -> int:
        flags = 0
        for bit, word in FLAG_WORDS:
            if word in got.values:
                flags |= bit
        return flags

    def _range_text(self) -> str:
        out = ""
        if self.flags & MAP_IPS:
            out = addr_text(self.low, self.family)
            out += f"-{addr_text(self.high, self.family)}" if self.high != self.low else ""
            if self.family == AF_INET6 and self.flags & PROTO_SPECIFIED:
                out = f"[{out}]"
        if self.flags & PROTO_SPECIFIED:
            out += f":{self.first}" + (f"-{self.last}" if self.last != self.first else "")
        return out

    def _flag_text(self, dashes: str) -> str:
        return "".join(f" {dashes}{word}" for bit, word in FLAG_WORDS if self.flags & bit)

    def save(self) -> str:
        return f" --{self.TO} {self._range_text()}{self._flag_text('--')}"

    def listing(self, numeric: bool) -> str:
        return f" to:{self._range_text()}{self._flag_text('')}"

    def range(self, ctx: Ctx) -> Any:
        """The range as nat.py wants it."""
        from kubenet.kernel.netfilter.nat import NatRange

        return NatRange(self.flags, self.low, self.high, self.first, self.last)

    @classmethod
    def _to(cls, got: Got, head: Header) -> tuple[int, int, int, int, int, int]:
        """Reads [address[-address]][:port[-port]]; IPv6 addresses have brackets before a port. iptables: parse_to()."""
        text = got.get(cls.TO)
        flags, low, high, first, last = cls._flags(got), 0, 0, 0, 0
        if text is None:
            return flags, low, high, first, last, head.family
        addresses, ports = split_to(text, head.family)
        if ports is not None:
            flags |= PROTO_SPECIFIED
            first, last = read_ports(ports, head)
        if addresses:
            flags |= MAP_IPS
            one, dash, two = addresses.partition("-")
            low = read_addr(one, head.family)
            high = read_addr(two, head.family) if dash else low
        return flags, low, high, first, last, head.family


@xt_target("DNAT")
@dataclass(frozen=True, slots=True)
class DnatTarget(NatTarget):
    """The connection goes to another destination. Linux: xt_dnat_target_v0()."""

    HOOKS = PRE_OUT
    TO = "to-destination"
    OPTS = options(Opt("to-destination", any_text, mand=True), Opt("random"), Opt("persistent"))

    @classmethod
    def parse(cls, got: Got, head: Header) -> DnatTarget:
        return cls(*cls._to(got, head))

    def compile(self, key: Key) -> Action:
        def xt_dnat_target(skb: SkBuff, ctx: Ctx) -> int:
            from kubenet.kernel.netfilter.nat import nf_nat_setup_info

            assert skb.ct is not None, "DNAT without a connection"
            return nf_nat_setup_info(skb.ct, self.range(ctx), 1)

        return xt_dnat_target


@xt_target("SNAT")
@dataclass(frozen=True, slots=True)
class SnatTarget(NatTarget):
    """The connection comes from another source. Linux: xt_snat_target_v0()."""

    HOOKS = IN_POST
    TO = "to-source"
    OPTS = options(Opt("to-source", any_text, mand=True), Opt("random"), Opt("random-fully"), Opt("persistent"))

    @classmethod
    def parse(cls, got: Got, head: Header) -> SnatTarget:
        return cls(*cls._to(got, head))

    def compile(self, key: Key) -> Action:
        def xt_snat_target(skb: SkBuff, ctx: Ctx) -> int:
            from kubenet.kernel.netfilter.nat import nf_nat_setup_info

            assert skb.ct is not None, "SNAT without a connection"
            return nf_nat_setup_info(skb.ct, self.range(ctx), 0)

        return xt_snat_target


@xt_target("MASQUERADE")
@dataclass(frozen=True, slots=True)
class MasqueradeTarget(NatTarget):
    """The connection comes from the address of the device it leaves through. Linux: masquerade_tg()."""

    HOOKS = POST
    TO = "to-ports"
    OPTS = options(Opt("to-ports", any_text), Opt("random"), Opt("random-fully"))

    @classmethod
    def parse(cls, got: Got, head: Header) -> MasqueradeTarget:
        flags, first, last = cls._flags(got), 0, 0
        if "to-ports" in got.values:
            first, last = read_ports(got.get("to-ports"), head)
            flags |= PROTO_SPECIFIED
        return cls(flags, 0, 0, first, last, head.family)

    def _ports(self) -> str:
        return f"{self.first}" + (f"-{self.last}" if self.last != self.first else "")

    def save(self) -> str:
        return (f" --to-ports {self._ports()}" if self.flags & PROTO_SPECIFIED else "") + self._flag_text("--")

    def listing(self, numeric: bool) -> str:
        return (f" masq ports: {self._ports()}" if self.flags & PROTO_SPECIFIED else "") + self._flag_text("")

    def compile(self, key: Key) -> Action:
        def masquerade_tg(skb: SkBuff, ctx: Ctx) -> int:
            if self.family == AF_INET6:
                from kubenet.kernel.netfilter.nat6 import nf_nat_masquerade_ipv6 as masquerade
            else:
                from kubenet.kernel.netfilter.nat import nf_nat_masquerade_ipv4 as masquerade

            verdict = masquerade(skb, ctx.hook, self.range(ctx), skb.outdev)
            return DROPPED if verdict == DROP else verdict

        return masquerade_tg


@xt_target("REDIRECT")
@dataclass(frozen=True, slots=True)
class RedirectTarget(NatTarget):
    """The connection ends on this machine: at the device's address, or 127.0.0.1 for our own. Linux: redirect_tg4()."""

    HOOKS = PRE_OUT
    TO = "to-ports"
    OPTS = options(Opt("to-ports", any_text), Opt("random"))

    @classmethod
    def parse(cls, got: Got, head: Header) -> RedirectTarget:
        flags, first, last = cls._flags(got), 0, 0
        if "to-ports" in got.values:
            first, last = read_ports(got.get("to-ports"), head)
            flags |= PROTO_SPECIFIED
        return cls(flags, 0, 0, first, last, head.family)

    def _ports(self) -> str:
        return f"{self.first}" + (f"-{self.last}" if self.last != self.first else "")

    def save(self) -> str:
        return (f" --to-ports {self._ports()}" if self.flags & PROTO_SPECIFIED else "") + self._flag_text("--")

    def listing(self, numeric: bool) -> str:
        return (f" redir ports {self._ports()}" if self.flags & PROTO_SPECIFIED else "") + self._flag_text("")

    def compile(self, key: Key) -> Action:
        return self._run

    def _run(self, skb: SkBuff, ctx: Ctx) -> int:
        """Linux: nf_nat_redirect_ipv4(), nf_nat_redirect_ipv6()."""
        from kubenet.kernel.netfilter.nat import NatRange, nf_nat_setup_info

        if ctx.hook == OUTPUT:
            addr = 0x7F000001 if self.family == AF_INET else 1
        elif self.family == AF_INET6:
            from kubenet.kernel.netfilter.nat6 import ipv6_dev_get_saddr

            addr = ipv6_dev_get_saddr(ctx.net, skb.indev)
            if not addr:
                return DROP
        else:
            mine = skb.indev.ifaddrs if skb.indev is not None else []
            if not mine:
                return DROP
            addr = mine[0].addr
        assert skb.ct is not None, "REDIRECT without a connection"
        return nf_nat_setup_info(skb.ct, NatRange(self.flags | MAP_IPS, addr, addr, self.first, self.last), 1)


