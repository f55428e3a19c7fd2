"""-j LOG: a line about the packet in the kernel log (dmesg), in the kernel's own words.

simplified: the kernel keeps quiet in namespaces other than the first unless nf_log_all_netns is set; here a pod's line is seen.

Sources: Linux log_tg() (xt_LOG.c), nf_log_ip_packet(), dump_ipv4_packet() (nf_log_syslog.c); iptables libxt_LOG.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.names import save_string
from kubenet.kernel.netfilter.xtables.options import Got, Opt, any_text, number, options
from kubenet.kernel.netfilter.xtables.spec import CONTINUE, Action, Ctx, Header, Key, Target, xt_target
from kubenet.kernel.skbuff import ETH_P_IPV6, SkBuff
from kubenet.wire.addr import ip4_text, mac_text
from kubenet.wire.tcp import build_options

LEVELS = {"emerg": 0, "panic": 0, "alert": 1, "crit": 2, "error": 3, "err": 3, "warning": 4, "warn": 4, "notice": 5, "info": 6,
          "debug": 7}
LEVEL_NAMES = ("emerg", "alert", "crit", "error", "warn", "notice", "info", "debug")
TCPSEQ, TCPOPT, IPOPT, UID, MACDECODE = 1, 2, 4, 8, 32
FLAG_OPTIONS = ((TCPSEQ, "tcp-sequence"), (TCPOPT, "tcp-options"), (IPOPT, "ip-options"), (UID, "uid"), (MACDECODE, "macdecode"))


def read_level(text: str, ext: str, opt: str) -> int:
    """Reads 0-7 or a name."""
    value = number(text)
    if value is not None and value <= 7:
        return value
    if text.lower() not in LEVELS:
        raise XtablesError(f'log level "{text}" unknown\n')
    return LEVELS[text.lower()]


@xt_target("LOG")
@dataclass(frozen=True, slots=True)
class LogTarget(Target):
    """The log has a line; the packet goes on to the next rule. Linux: log_tg()."""

    level: int
    prefix: str
    flags: int
    OPTS = options(
        Opt("log-level", read_level), Opt("log-prefix", any_text), Opt("log-tcp-sequence"), Opt("log-tcp-options"),
        Opt("log-ip-options"), Opt("log-uid"), Opt("log-macdecode"),
    )

    @classmethod
    def parse(cls, got: Got, head: Header) -> LogTarget:
        flags = 0
        for bit, word in FLAG_OPTIONS:
            if f"log-{word}" in got.values:
                flags |= bit
        return cls(got.get("log-level", 4), got.get("log-prefix", "")[:29], flags)

    def save(self) -> str:
        out = f" --log-prefix{save_string(self.prefix)}" if self.prefix else ""
        if self.level != 4:
            out += f" --log-level {self.level}"
        return out + "".join(f" --log-{word}" for bit, word in FLAG_OPTIONS if self.flags & bit)

    def listing(self, numeric: bool) -> str:
        if numeric:
            out = f" LOG flags {self.flags} level {self.level}"
        else:
            out = f" LOG level {LEVEL_NAMES[self.level]}"
            out += "".join(f" {word}" for bit, word in FLAG_OPTIONS if self.flags & bit)
        return out + (f' prefix "{self.prefix}"' if self.prefix else "")

    def compile(self, key: Key) -> Action:
        def log_tg(skb: SkBuff, ctx: Ctx) -> int:
            ctx.net.host.printk(self.prefix + packet_text(skb, self.flags))
            return CONTINUE

        return log_tg


def packet_text(skb: SkBuff, flags: int) -> str:
    """The packet in the log's words. Linux: nf_log_ip_packet()."""
    indev = "" if skb.indev is None else skb.indev.name
    outdev = "" if skb.outdev is None else skb.outdev.name
    out = f"IN={indev} OUT={outdev} "
    bridge = skb.nf_bridge
    for word, attribute in (("PHYSIN", "physindev"), ("PHYSOUT", "physoutdev")):
        dev = getattr(bridge, attribute, None)
        if dev is not None:
            out += f"{word}={dev.name} "
    if skb.indev is not None:
        eth = skb.eth
        if eth is not None:
            out += f"MAC={mac_text(eth.dst)}:{mac_text(eth.src)}:{eth.proto >> 8:02x}:{eth.proto & 255:02x} "
        else:
            out += "MAC= "
    out += ip_text(skb, flags)
    if skb.mark:
        out += f"MARK={skb.mark:#x} "
    return out


def ip_text(skb: SkBuff, flags: int) -> str:
    """IP header and what it carries. Linux: dump_ipv4_packet()."""
    ip, l4 = skb.ip, skb.l4
    if skb.protocol == ETH_P_IPV6:
        return ip6_text(skb, flags)
    out = f"SRC={ip4_text(ip.saddr)} DST={ip4_text(ip.daddr)} LEN={skb.len} TOS=0x{ip.tos & 0x1E:02X} PREC=0x{ip.tos & 0xE0:02X} "
    out += f"TTL={ip.ttl} ID={ip.id} "
    out += "".join(word for bit, word in ((0x8000, "CE "), (0x4000, "DF "), (0x2000, "MF ")) if ip.frag & bit)
    offset = ip.frag & 0x1FFF
    if offset:
        out += f"FRAG:{offset} "
    if flags & IPOPT and ip.options:
        out += f"OPT ({ip.options.hex().upper()}) "
    names = {6: "TCP", 17: "UDP", 1: "ICMP", 50: "ESP", 51: "AH", 136: "UDPLITE"}
    out += f"PROTO={names.get(ip.proto, ip.proto)} "
    if offset or ip.proto not in (6, 17, 1):
        return out
    if l4 is None:
        return out + f"INCOMPLETE [{skb.plen} bytes] "
    if ip.proto == 6:
        out += tcp_text(skb, flags)
    elif ip.proto == 17:
        out += f"SPT={l4.sport} DPT={l4.dport} LEN={8 + skb.plen} "
    else:
        out += icmp_text(skb, flags)
    if flags & UID and skb.sk is not None and getattr(skb.sk, "uid", None) is not None:
        out += f"UID={skb.sk.uid} GID={skb.sk.uid} "
    return out


def ip6_text(skb: SkBuff, flags: int) -> str:
    """IPv6 header and what it carries. Linux: dump_ipv6_packet()."""
    ip, l4 = skb.ip, skb.l4
    ends = [":".join(f"{addr >> shift & 0xFFFF:04x}" for shift in range(112, -1, -16)) for addr in (ip.saddr, ip.daddr)]
    out = f"SRC={ends[0]} DST={ends[1]} LEN={skb.len} TC={ip.tclass} HOPLIMIT={ip.hop_limit} FLOWLBL={ip.flow} "
    names = {6: "TCP", 17: "UDP", 58: "ICMPv6", 136: "UDPLITE"}
    out += f"PROTO={names.get(ip.nexthdr, ip.nexthdr)} "
    if l4 is None or ip.nexthdr not in (6, 17, 58):
        return out
    if ip.nexthdr == 6:
        return out + tcp_text(skb, flags)
    if ip.nexthdr == 17:
        return out + f"SPT={l4.sport} DPT={l4.dport} LEN={8 + skb.plen} "
    out += f"TYPE={l4.type} CODE={l4.code} "
    return out + (f"ID={l4.rest >> 16} SEQ={l4.rest & 0xFFFF} " if l4.type in (128, 129) else "")


def tcp_text(skb: SkBuff, flags: int) -> str:
    """The TCP header. Linux: nf_log_dump_tcp_header()."""
    th = skb.l4
    out = f"SPT={th.sport} DPT={th.dport} "
    if flags & TCPSEQ:
        out += f"SEQ={th.seq} ACK={th.ack_seq} "
    out += f"WINDOW={th.window} RES=0x{(th.flags >> 6) & 0x3C:02X} "
    for bit, word in ((128, "CWR"), (64, "ECE"), (32, "URG"), (16, "ACK"), (8, "PSH"), (4, "RST"), (2, "SYN"), (1, "FIN")):
        if th.flags & bit:
            out += word + " "
    out += f"URGP={th.urg_ptr} "
    if flags & TCPOPT:
        raw = build_options(th.options)
        if raw:
            out += f"OPT ({raw.hex().upper()}) "
    return out


def icmp_text(skb: SkBuff, flags: int) -> str:
    """The ICMP header, and in an error the packet it is about, in brackets."""
    l4 = skb.l4
    out = f"TYPE={l4.type} CODE={l4.code} "
    if l4.type in (0, 8):
        return out + f"ID={l4.rest >> 16} SEQ={l4.rest & 0xFFFF} "
    if l4.type == 5:
        out += f"GATEWAY={ip4_text(l4.rest)} "
    quote = skb.inner
    if l4.type in (3, 4, 5, 11, 12) and quote is not None:
        inner = SkBuff.__new__(SkBuff)
        inner.protocol = skb.protocol
        inner.ip, inner.l4, inner.sk, inner.inner = quote.ip, quote.l4, None, None
        inner.plen = len(quote.data)
        inner.len = 28 + inner.plen
        out += f"[{ip_text(inner, flags & ~UID)}] "
        if l4.type == 3 and l4.code == 4:
            out += f"MTU={l4.rest & 0xFFFF} "
    return out
