"""One line per connection, as conntrack-tools 1.4.7 print it.

    tcp      6 86399 ESTABLISHED src=10.48.1.5 dst=10.96.0.1 sport=40000 dport=80 src=... [ASSURED] mark=0 use=1

conntrack_line() is the `-L` line; -o extended, id, ktimestamp, save change it. Event lines (`-E`) have no `mark=0` and
no use.

Sources: libnetfilter_conntrack src/conntrack/snprintf_default.c; output of conntrack 1.4.7 on Linux 6.18.
"""

from __future__ import annotations

from datetime import UTC, datetime

from kubenet.kernel.netfilter.conntrack.entry import (
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_DST_NAT,
    IPS_FIXED_TIMEOUT,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
    ZONE_DIR_BOTH,
    ZONE_DIR_ORIG,
    NfConn,
)
from kubenet.kernel.netfilter.conntrack.tcp_states import STATE_NAMES
from kubenet.kernel.netfilter.conntrack.tuple import AF_INET, IP4, REPLY, Tuple
from kubenet.units import SEC
from kubenet.wire.addr import endpoint_text, fmt
from kubenet.wire.ipv4 import IPPROTO_GRE, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP

EPOCH = 1_767_225_600 * SEC  # 2026-01-01T00:00:00Z, unless host.extra["epoch"] says otherwise

PROTO_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 58: "icmpv6", 132: "sctp", 136: "udplite"}


def proto_name(proto: int) -> str:
    """conntrack's name of an IP protocol."""
    return PROTO_NAMES.get(proto, "unknown")


def tuple_text(t: Tuple) -> str:
    """src=... dst=... and the ports or ICMP fields, with a space behind each."""
    saddr, sport, daddr, dport, key = t
    family, proto = key >> 8, key & 0xFF
    text = f"src={fmt(saddr, family)} dst={fmt(daddr, family)} "
    if proto in (IPPROTO_ICMP, 58):
        return text + f"type={dport >> 8} code={dport & 0xFF} id={sport} "
    if proto == IPPROTO_GRE:
        return text + f"srckey={sport:#x} dstkey={dport:#x} "
    if proto in PROTO_NAMES:
        return text + f"sport={sport} dport={dport} "
    return text


def _counters(ct: NfConn, direction: int) -> str:
    if ct.packets is None or ct.bytes is None:
        return ""
    return f"packets={ct.packets[direction]} bytes={ct.bytes[direction]} "


def state_name(ct: NfConn) -> str:
    """The TCP state, or "" for other protocols."""
    return STATE_NAMES[ct.proto.state] if ct.protonum == IPPROTO_TCP and ct.proto is not None else ""


def seconds_left(ct: NfConn, now: int) -> int:
    """What the tool shows as timeout: whole seconds, rounded down as the kernel does."""
    return max(ct.timeout - now if ct.status & IPS_CONFIRMED else ct.timeout, 0) // SEC


def _zone_text(ct: NfConn) -> str:
    if ct.zone.id == 0:
        return ""
    word = {ZONE_DIR_BOTH: "zone", ZONE_DIR_ORIG: "zone-orig"}.get(ct.zone.dir, "zone-reply")
    return f"{word}={ct.zone.id} "


def wall_time(ct: NfConn, t: int) -> int:
    """The host's clock (ns since 1970) at virtual time `t`."""
    epoch: int = ct.net.host.extra.get("epoch", EPOCH)
    return epoch + t


def _ctime(ct: NfConn, t: int) -> str:
    """As ctime(3) in UTC: Thu Jan  1 00:00:00 2026."""
    when = datetime.fromtimestamp(wall_time(ct, t) // SEC, UTC)
    return f"{when:%a %b} {when.day:2d} {when:%H:%M:%S %Y}"


def conntrack_line(ct: NfConn, now: int, output: tuple[str, ...] = (), event: str = "", timeout: bool = True) -> str:
    """The line of `conntrack -L`, or with `event` ("NEW" ...) of `conntrack -E`. Linux tool: nfct_snprintf()."""
    family, proto = ct.family, ct.protonum
    line = ""
    if event:
        if "timestamp" in output:
            ns = wall_time(ct, now)
            line = f"[{ns // SEC}.{ns % SEC // 1000:06d}]\t"
        line += f"{'[' + event + ']':>9} "
    if "extended" in output:
        line += f"{'ipv4' if family == AF_INET else 'ipv6':<8} {family} "
    line += f"{proto_name(proto):<8} {proto} "
    if timeout:
        line += f"{seconds_left(ct, now)} "
    state = state_name(ct)
    line += f"{state} " if state and timeout else ""
    line += tuple_text(ct.orig) + _counters(ct, 0)
    if not ct.status & IPS_SEEN_REPLY:
        line += "[UNREPLIED] "
    line += tuple_text(ct.reply) + _counters(ct, REPLY)
    if ct.status & IPS_ASSURED:
        line += "[ASSURED] "
    if ct.mark or not event:
        line += f"mark={ct.mark} "
    line += _zone_text(ct)
    if ct.start and (not event or event == "DESTROY"):
        line += f"delta-time={(now - ct.start) // SEC} "
        if "ktimestamp" in output:
            line += f"[start={_ctime(ct, ct.start)}] "
    if not event:
        line += "use=1 "
    if "id" in output:
        line += f"id={ct.id} "
    return line[:-1]


def save_line(ct: NfConn, now: int) -> str:
    """The line of `-o save`: the options that make the entry again. Tool: ct_save_snprintf()."""
    status = ",".join(name for bit, name in ((IPS_SEEN_REPLY, "SEEN_REPLY"), (IPS_ASSURED, "ASSURED"),
                                             (IPS_FIXED_TIMEOUT, "FIXED_TIMEOUT")) if ct.status & bit) or "UNSET"
    o, r, family, proto = ct.orig, ct.reply, ct.family, ct.protonum
    line = f"-A -t {seconds_left(ct, now)} -u {status}"
    line += f" -s {fmt(o[0], family)} -d {fmt(o[2], family)} -r {fmt(r[0], family)} -q {fmt(r[2], family)}"
    line += f" -p {PROTO_NAMES.get(proto, str(proto))}"
    if proto == IPPROTO_ICMP:
        line += f" --icmp-type {o[3] >> 8} --icmp-code {o[3] & 0xFF} --icmp-id {o[1]}"
    elif proto == IPPROTO_GRE:
        line += f" --srckey {o[1]:x} --dstkey {o[3]:x} --reply-key-src {r[1]:x} --reply-key-dst {r[3]:x}"
    elif proto in (IPPROTO_TCP, IPPROTO_UDP):
        line += f" --sport {o[1]} --dport {o[3]} --reply-port-src {r[1]} --reply-port-dst {r[3]}"
    if state_name(ct):
        line += f" --state {state_name(ct)}"
    return line + (f" -m {ct.mark}" if ct.mark else "") + (f" -w {ct.zone.id}" if ct.zone.id else "")


def _end(addr: int, port: int, family: int, ports: bool) -> str:
    return endpoint_text(addr, port, family) if ports else fmt(addr, family)


def ct_summary(ct: NfConn) -> str:
    """The entry in a few words, for traces: state, original, and the answer's ends where NAT made them different."""
    o, r, family = ct.orig, ct.reply, ct.family
    words = [proto_name(ct.protonum)]
    if state_name(ct):
        words.append(state_name(ct))
    elif not ct.status & IPS_SEEN_REPLY:
        words.append("UNREPLIED")
    ports = o[4] in (IP4 | IPPROTO_TCP, IP4 | IPPROTO_UDP)
    words.append(f"{_end(o[0], o[1], family, ports)} -> {_end(o[2], o[3], family, ports)}")
    if ct.status & IPS_DST_NAT:
        words.append(f"dnat {_end(r[0], r[1], family, ports)}")
    if ct.status & IPS_SRC_NAT:
        words.append(f"snat {_end(r[2], r[3], family, ports)}")
    return " ".join(words)
