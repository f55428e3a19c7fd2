"""A router between two sides, for tests of conntrack and NAT: packets as dicts, made into an skb or into bytes.

    {"from": "client", "src": "10.48.1.5", "sport": 40000, "dst": "10.48.2.7", "dport": 80, "flags": "S", "seq": 1000, ...}

The client side is 10.48.1.0/24 (router 10.48.1.1), the server side 10.48.2.0/24 (router 10.48.2.1). A packet goes through the
hooks a forwarded one meets; one for the router itself ends in its INPUT chain. INVALID packets are dropped in between, as
`iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP` does on a real router (record.py).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kubenet.kernel.host import Host
from kubenet.kernel.netfilter.conntrack import conntrack_line, nf_ct_netns_get
from kubenet.kernel.netfilter.core import ACCEPT, FORWARD, NFPROTO_IPV4, POSTROUTING, PREROUTING, nf_hook
from kubenet.kernel.netfilter.nat import (
    NF_NAT_MANIP_DST,
    NF_NAT_MANIP_SRC,
    NF_NAT_RANGE_MAP_IPS,
    NF_NAT_RANGE_PROTO_RANDOM_FULLY,
    NF_NAT_RANGE_PROTO_SPECIFIED,
    NatRange,
    nf_nat_masquerade_ipv4,
    nf_nat_register_provider,
    nf_nat_setup_info,
)
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import ETH_P_IP, SkBuff
from kubenet.sim.clock import EventLoop
from kubenet.units import MSEC
from kubenet.wire.addr import ip4, ip4_text
from kubenet.wire.icmp import IcmpHdr, Quote, build_icmp
from kubenet.wire.ipv4 import IpHdr, build_ipv4
from kubenet.wire.tcp import TcpHdr, TcpOptions, build_tcp
from kubenet.wire.udp import UdpHdr, build_udp

FLAG_BITS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32}
PROTOS = {"icmp": 1, "tcp": 6, "udp": 17}
ROUTERS = {ip4("10.48.1.1"), ip4("10.48.2.1")}

Packet = dict[str, Any]


def flag_bits(text: str) -> int:
    return sum(FLAG_BITS[c] for c in text)


def headers(p: Packet) -> tuple[IpHdr, Any, Any, bytes]:
    """(ip, l4, quote or None, payload)."""
    proto = p.get("proto", "tcp")
    ip = IpHdr(ip4(p["src"]), ip4(p["dst"]), PROTOS.get(proto, proto if isinstance(proto, int) else 0), 1, 0x4000)
    data = bytes(p.get("len", 0))
    if proto == "tcp":
        options = TcpOptions(
            mss=p.get("mss", 0), wscale=p.get("wscale", -1), sack_perm=bool(p.get("sack_perm")),
            sacks=tuple((a, b) for a, b in p.get("sacks", ())))
        seq, ack = p.get("seq", 0) & 0xFFFFFFFF, p.get("ack", 0) & 0xFFFFFFFF
        return ip, TcpHdr(p["sport"], p["dport"], seq, ack, flag_bits(p["flags"]), p.get("win", 64240), options), None, data
    if proto == "udp":
        return ip, UdpHdr(p["sport"], p["dport"]), None, data
    if proto == "icmp":
        icmp = IcmpHdr(p["type"], p.get("code", 0), p["rest"] if "rest" in p else p.get("id", 0) << 16 | p.get("icmpseq", 1))
        if "quote" in p:
            qip, ql4, _, qdata = headers(p["quote"])
            return ip, icmp, Quote(qip, ql4, qdata), b""
        return ip, icmp, None, data
    return ip, None, None, data


def l4_bytes(l4: Any, data: bytes, pseudo: int) -> bytes:
    if isinstance(l4, TcpHdr):
        return build_tcp(l4, data, pseudo) + data
    if isinstance(l4, UdpHdr):
        return build_udp(l4, data, pseudo) + data
    if isinstance(l4, IcmpHdr):
        return build_icmp(l4, data) + data
    return data


def to_bytes(p: Packet) -> bytes:
    """The packet as a real kernel takes it, from the IP header on."""
    ip, l4, quote, data = headers(p)
    if quote is not None:
        inner = l4_bytes(quote.l4, quote.data, pseudo_of(quote.ip, 0))
        data = build_ipv4(quote.ip, len(inner)) + inner
    size = len(l4_bytes(l4, data, 0))
    body = l4_bytes(l4, data, pseudo_of(ip, size))
    return build_ipv4(ip, len(body)) + body


def pseudo_of(ip: IpHdr, size: int) -> int:
    return (ip.saddr >> 16) + (ip.saddr & 0xFFFF) + (ip.daddr >> 16) + (ip.daddr & 0xFFFF) + ip.proto + size


class Device(SimpleNamespace):
    """As much of a device as conntrack and NAT look at."""


class World:
    """A router in virtual time. `deliver()` returns the packet as it leaves, or None."""

    def __init__(self, rules: list[dict[str, Any]] | None = None, track: bool = True, seed: int = 7) -> None:
        self.loop = EventLoop()
        self.host = Host(self.loop, "node-1", seed)
        self.net = NetNamespace(self.host, "node-1")
        self.devs = {side: self._device(side, index, addr) for side, index, addr in (
            ("client", 2, "10.48.1.1"), ("server", 3, "10.48.2.1"))}
        if track:
            nf_ct_netns_get(self.net)
        for rule in rules or []:
            add_rule(self.net, rule)

    def _device(self, side: str, index: int, addr: str) -> Device:
        ifa = SimpleNamespace(addr=ip4(addr), plen=24, scope=0, secondary=False)
        return Device(name={"client": "tun0", "server": "tun1"}[side], ifindex=index, ifaddrs=[ifa], net=self.net)

    def skb(self, p: Packet) -> SkBuff:
        ip, l4, quote, data = headers(p)
        hlen = l4.doff if isinstance(l4, TcpHdr) else 8 if l4 is not None else 0
        quoted = len(to_bytes(p)) - 28 if quote is not None else 0
        skb = SkBuff(self.net, ETH_P_IP, ip, l4, data, len(data), 20 + hlen + len(data) + quoted)
        skb.inner = quote
        return skb

    def deliver(self, p: Packet, drop_invalid: bool = True) -> SkBuff | None:
        skb = self.skb(p)
        return skb if self.forward(skb, p["from"], drop_invalid) else None

    def forward(self, skb: SkBuff, side: str, drop_invalid: bool = True) -> bool:
        skb.indev, skb.outdev, skb.dev = self.devs[side], None, self.devs[side]
        if nf_hook(NFPROTO_IPV4, PREROUTING, skb) != ACCEPT:
            return False
        if skb.ip.daddr in ROUTERS:
            return False  # the router's INPUT chain drops everything
        out = self.devs["client" if skb.ip.daddr >> 8 == ip4("10.48.1.0") >> 8 else "server"]
        skb.dst = SimpleNamespace(nexthop=skb.ip.daddr, dev=out)
        skb.outdev = skb.dev = out
        if drop_invalid and skb.ct is None:
            return False
        if nf_hook(NFPROTO_IPV4, FORWARD, skb) != ACCEPT:
            return False
        skb.indev = None
        return nf_hook(NFPROTO_IPV4, POSTROUTING, skb) == ACCEPT

    def at(self, ms: float) -> None:
        """The clock shows `ms` after boot."""
        self.loop.run(int(ms * MSEC))

    def lines(self) -> list[str]:
        return [conntrack_line(ct, self.loop.now) for ct in self.net.ct.entries()]


def shown(skb: SkBuff | None) -> dict[str, Any] | None:
    """What a capture on the other side would say, as record.py writes it."""
    if skb is None:
        return None
    out: dict[str, Any] = {"src": ip4_text(skb.ip.saddr), "dst": ip4_text(skb.ip.daddr)}
    out.update(l4_shown(skb.l4))
    if skb.inner is not None:
        q = skb.inner
        out["quote"] = {"src": ip4_text(q.ip.saddr), "dst": ip4_text(q.ip.daddr), **l4_shown(q.l4)}
    return out


def l4_shown(l4: Any) -> dict[str, int]:
    if isinstance(l4, TcpHdr):
        return {"sport": l4.sport, "dport": l4.dport, "seq": l4.seq, "ack": l4.ack_seq, "flags": l4.flags}
    if isinstance(l4, UdpHdr):
        return {"sport": l4.sport, "dport": l4.dport}
    if isinstance(l4, IcmpHdr):
        return {"type": l4.type, "code": l4.code, "rest": l4.rest}
    return {}


# -- nat rules, until a rule engine asks

def add_rule(net: NetNamespace, rule: dict[str, Any]) -> None:
    """{"chain": "PREROUTING", "proto": "tcp", "dst": ..., "dport": ..., "to": "a[-b][:p[-q]]" or "masquerade", "fully": True}"""
    hook = {"PREROUTING": 0, "OUTPUT": 3, "INPUT": 1, "POSTROUTING": 4}[rule["chain"]]
    nf_nat_register_provider(net, NFPROTO_IPV4, hook, -100 if hook in (0, 3) else 100, Rule(rule))


class Rule:
    def __init__(self, rule: dict[str, Any]) -> None:
        self.rule = rule
        self.manip = NF_NAT_MANIP_DST if rule["chain"] in ("PREROUTING", "OUTPUT") else NF_NAT_MANIP_SRC
        flags = NF_NAT_RANGE_PROTO_RANDOM_FULLY if rule.get("fully") else 0
        addrs, _, ports = ("", "", "") if rule["to"] == "masquerade" else rule["to"].partition(":")
        low, _, high = addrs.partition("-")
        plow, _, phigh = ports.partition("-")
        flags |= (NF_NAT_RANGE_MAP_IPS if low else 0) | (NF_NAT_RANGE_PROTO_SPECIFIED if ports else 0)
        self.range = NatRange(flags, ip4(low) if low else 0, ip4(high or low) if low else 0, int(plow or 0),
                              int(phigh or plow or 0))
        self.hits = 0

    def __call__(self, skb: SkBuff, hook: int) -> int:
        rule = self.rule
        if rule.get("proto", "tcp") != "all" and PROTOS[rule.get("proto", "tcp")] != skb.ip.proto:
            return ACCEPT
        if "dst" in rule and ip4(rule["dst"]) != skb.ip.daddr or "src" in rule and ip4(rule["src"]) != skb.ip.saddr:
            return ACCEPT
        if "dport" in rule and rule["dport"] != skb.l4.dport:
            return ACCEPT
        if "out" in rule and skb.outdev.name != rule["out"]:
            return ACCEPT
        self.hits += 1
        if rule["to"] == "masquerade":
            return nf_nat_masquerade_ipv4(skb, hook, self.range, skb.outdev)
        return nf_nat_setup_info(skb.ct, self.range, self.manip)


def rule_argv(rule: dict[str, Any]) -> list[str]:
    """The same rule for iptables."""
    proto = rule.get("proto", "tcp")
    argv = ["-t", "nat", "-A", rule["chain"]] + (["-p", proto] if proto != "all" else [])
    for name, option in (("src", "-s"), ("dst", "-d"), ("dport", "--dport"), ("out", "-o")):
        if name in rule:
            argv += [option, str(rule[name])]
    if rule["to"] == "masquerade":
        argv += ["-j", "MASQUERADE"]
    elif rule["chain"] in ("PREROUTING", "OUTPUT"):
        argv += ["-j", "DNAT", "--to-destination", rule["to"]]
    else:
        argv += ["-j", "SNAT", "--to-source", rule["to"]]
    return argv + (["--random-fully"] if rule.get("fully") else [])
