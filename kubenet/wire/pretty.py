"""Packets as `tcpdump -n` prints them, line for line (tcpdump 4.99), made from header objects.

    printer = Printer(verbose=1, ether=True)          # -v -e; one Printer per capture: it remembers connections
    tcpdump_line(printer, t_ns, eth, l3, l4, inner, payload)

    12:00:00.000000 IP 10.48.1.5.40000 > 10.96.0.1.80: Flags [S], seq 1000, win 64240, options [mss 1460,...], length 0

Sequence numbers are absolute in a connection's first packet and relative to it from then on (-S: always absolute); the
memory is a table keyed by the pair of endpoints, and a packet with SYN and ACK starts the entry anew, exactly as
tcpdump's tcp_seq_hash does, including what that does to connections met in the middle. With -v and more, IP headers get
a line of their own, checksums are shown, and ICMP errors show the packet they quote.
Beside this file: pretty_tcp.py (numbers and options), pretty_icmp.py, pretty_dns.py, pretty_text.py (HTTP,
RESP).

simplified: names are never looked up (-n is always on, and times are UTC); of the payloads tcpdump can decode, DNS,
mDNS, HTTP, RESP, VXLAN and OTV are decoded, others show as UDP or as plain TCP; TCP options print in the order in which
build_options() writes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from kubenet.wire.addr import AF_INET, AF_INET6, fmt, ip4_text, mac_text
from kubenet.wire.arp import ARPOP_REPLY, ARPOP_REQUEST, ArpHdr
from kubenet.wire.checksum import pseudo_header4, pseudo_header6
from kubenet.wire.errors import WireError
from kubenet.wire.ethernet import ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, EthHdr
from kubenet.wire.icmp import IcmpHdr, Quote, parse_icmp
from kubenet.wire.ipv4 import (
    IP_CE,
    IP_DF,
    IP_MF,
    IP_OFFSET,
    IPPROTO_ICMP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IpHdr,
    ip_hdrlen,
)
from kubenet.wire.ipv6 import IPV6_HLEN, Ipv6Hdr
from kubenet.wire.packet import (
    L3,
    L4,
    Bytes,
    Inner,
    build_l4,
    frame_len,
    frame_parts,
    frame_to_bytes,
    inner_len,
    inner_to_bytes,
    l4_hdrlen,
)
from kubenet.wire.pretty_dns import dns_text
from kubenet.wire.pretty_icmp import icmp6_text, icmp_text
from kubenet.wire.pretty_tcp import Endpoints, relative_seq, tcp_options_text
from kubenet.wire.pretty_text import HTTP_PORTS, RESP_PORT, dump_text, hex_dump, http_text, resp_text, safe
from kubenet.wire.sll2 import SLL2_HLEN
from kubenet.wire.tcp import ACK, FIN, RST, SYN, TCP_HLEN, URG, TcpHdr, parse_tcp
from kubenet.wire.udp import UDP_HLEN, UdpHdr, parse_udp, udp_len
from kubenet.wire.vxlan import VXLAN_PORT

DNS_PORT = 53
MDNS_PORT = 5353

_ETHERTYPES = {ETH_P_IP: "IPv4", ETH_P_ARP: "ARP", ETH_P_IPV6: "IPv6"}
_IP_PROTOS = {
    0: "Options", 1: "ICMP", 2: "IGMP", 4: "IPIP", 6: "TCP", 8: "EGP", 9: "IGRP", 17: "UDP", 41: "IPv6",
    43: "Routing", 46: "RSVP", 47: "GRE", 50: "ESP", 51: "AH", 58: "ICMPv6", 89: "OSPF", 103: "PIM",
    108: "Compressed IP", 112: "VRRP", 132: "SCTP",
}  # fmt: skip
_TCP_FLAGS = ((1, "F"), (2, "S"), (4, "R"), (8, "P"), (16, "."), (32, "U"), (64, "E"), (128, "W"))


@dataclass(slots=True)
class Printer:
    """tcpdump's options, and what it remembers from packet to packet.

    tstamp: "" time of day; "-t" none; "-tt" seconds since 1970; "-ttt" since the last packet; "-tttt" with the date;
    "-ttttt" since the first packet.
    """

    verbose: int = 0  # -v, -vv, -vvv
    ether: bool = False  # -e
    absolute_seq: bool = False  # -S
    quiet: bool = False  # -q
    tstamp: str = ""
    nano: bool = False  # --nano
    dump: str = ""  # "-x" "-X" "-A" without, "-xx" "-XX" "-AA" with the link header
    conversations: dict[Endpoints, tuple[int, int]] = field(default_factory=dict)
    first_ns: int = -1
    last_ns: int = -1


@dataclass(slots=True)
class Cooked:
    """The device of a packet seen by `tcpdump -i any`; pkt_type as in the kernel (PACKET_HOST 0 ... OUTGOING 4)."""

    device: str
    ifindex: int
    pkt_type: int


def tcpdump_line(
    printer: Printer,
    t_ns: int,
    eth: EthHdr | None,
    l3: L3,
    l4: L4,
    inner: Inner,
    payload: Bytes,
    bad_csum: bool = False,
    cooked: Cooked | None = None,
) -> str:
    """The text of one packet, without the last newline; more lines where tcpdump prints more. t_ns: since 1970.

    cooked: where and how `tcpdump -i any` met it; then the Ethernet header is not shown, as there is none on such a
    device (LINKTYPE_LINUX_SLL2).
    """
    stamp = stamp_text(printer, t_ns)
    dump = ""
    if printer.dump:
        has_link = len(printer.dump) > 2 and cooked is None
        dump = dump_text(printer.dump, frame_to_bytes(eth if has_link else None, l3, l4, inner, payload, bad_csum))
    if cooked is None:
        return stamp + frame_text(printer, eth, l3, l4, inner, bytes(payload), bad_csum) + dump
    size = frame_len(None, l3, l4, inner, payload)
    link = sll2_text(printer, cooked, eth, size)
    return stamp + link + frame_text(printer, None, l3, l4, inner, bytes(payload), bad_csum) + dump


def stamp_text(printer: Printer, t_ns: int) -> str:
    """The time in front of a line, with its space. tcpdump: ts_print()."""
    last = t_ns if printer.last_ns < 0 else printer.last_ns
    printer.last_ns = t_ns
    if printer.first_ns < 0:
        printer.first_ns = t_ns
    kind = printer.tstamp
    if kind == "-t":
        return ""
    if kind == "-tt":
        return f"{t_ns // 10**9}.{_fraction(printer, t_ns)} "
    if kind in ("-ttt", "-ttttt"):
        delta = t_ns - (last if kind == "-ttt" else printer.first_ns)
        sign, delta = ("-", -delta) if delta < 0 else (" ", delta)
        return f"{sign}{_clock(delta // 10**9)}.{_fraction(printer, delta)} "
    date = datetime.fromtimestamp(t_ns // 10**9, UTC).strftime("%Y-%m-%d ") if kind == "-tttt" else ""
    return f"{date}{_clock(t_ns // 10**9 % 86400)}.{_fraction(printer, t_ns)} "


def _clock(sec: int) -> str:
    return f"{sec // 3600:02d}:{sec // 60 % 60:02d}:{sec % 60:02d}"


def _fraction(printer: Printer, t_ns: int) -> str:
    return f"{t_ns % 10**9:09d}" if printer.nano else f"{t_ns % 10**9 // 1000:06d}"


def frame_text(printer: Printer, eth: EthHdr | None, l3: L3, l4: L4, inner: Inner, payload: bytes, bad_csum: bool = False) -> str:
    """Everything after the time. tcpdump: ether_print()."""
    link = ""
    if eth is not None and (printer.ether or l3 is None):
        link = _ether_text(printer, eth, frame_len(eth, l3, l4, inner, payload))
    if isinstance(l3, ArpHdr):
        return link + ("" if printer.ether else "ARP, ") + arp_text(printer, l3)
    if isinstance(l3, IpHdr):
        return link + ip_text(printer, l3, l4, inner, payload, bad_csum)
    if isinstance(l3, Ipv6Hdr):
        return link + ip6_text(printer, l3, l4, inner, payload, bad_csum)
    return link if printer.quiet or printer.dump[:2] in ("-x", "-X") else link + hex_dump(payload, "\n\t", ascii_too=True)


def sll2_text(printer: Printer, cooked: Cooked, eth: EthHdr | None, size: int) -> str:
    """`eth0  In  `, with -e also index, sender and type. tcpdump: sll2_print()."""
    kind = ("In", "B", "M", "P", "Out")[cooked.pkt_type]
    out = f"{cooked.device:<5} {kind:<3} "
    if not printer.ether:
        return out
    proto = eth.proto if eth is not None else ETH_P_IP
    sender = mac_text(eth.src) if eth is not None else "00:00:00:00:00:00"
    name = _ETHERTYPES.get(proto, "Unknown")
    shown = "" if printer.quiet else f"ethertype {name} (0x{proto:04x}), length {size + SLL2_HLEN}: "
    return f"{out}ifindex {cooked.ifindex} {sender} {shown}"


def _ether_text(printer: Printer, eth: EthHdr, length: int) -> str:
    name = _ETHERTYPES.get(eth.proto, "")
    if printer.quiet:
        kind = name or f"Unknown Ethertype (0x{eth.proto:04x})"
    else:
        kind = f"ethertype {name or 'Unknown'} (0x{eth.proto:04x})"
    return f"{mac_text(eth.src)} > {mac_text(eth.dst)}, {kind}, length {length}: "


def arp_text(printer: Printer, arp: ArpHdr) -> str:
    """tcpdump: arp_print()."""
    out = "Ethernet (len 6), IPv4 (len 4), " if printer.verbose else ""
    if arp.op == ARPOP_REQUEST:
        target = f" ({mac_text(arp.tha)})" if arp.tha else ""
        out += f"Request who-has {ip4_text(arp.tpa)}{target} tell {ip4_text(arp.spa)}"
    elif arp.op == ARPOP_REPLY:
        out += f"Reply {ip4_text(arp.spa)} is-at {mac_text(arp.sha)}"
    else:
        out += f"Unknown ({arp.op})"
    return out + ", length 28"


# -- IP ------------------------------------------------------------------------------------------------------------


def ip_text(
    printer: Printer,
    ip: IpHdr,
    l4: L4,
    inner: Inner,
    payload: bytes,
    bad_csum: bool = False,
    tot_len: int = 0,
) -> str:
    """An IPv4 packet; `tot_len` if its end is missing (a quote). tcpdump: ip_print()."""
    hlen = ip_hdrlen(ip)
    length = (tot_len or hlen + l4_hdrlen(l4) + len(payload) + inner_len(inner)) - hlen
    out = "" if printer.ether else "IP "
    if printer.verbose:
        out += _ip_header_text(ip, hlen + length)
    body = _Body(printer, AF_INET, ip.saddr, ip.daddr, ip.proto, l4, inner, payload, length, bad_csum)
    body.is_cut = tot_len != 0
    if ip.frag & IP_OFFSET:
        return f"{out}{ip4_text(ip.saddr)} > {ip4_text(ip.daddr)}: ip-proto-{ip.proto}"
    if ip.frag & IP_MF:
        body.is_cut = True
        if l4 is None:
            _take_apart(body)
    return out + body.text()


def _ip_header_text(ip: IpHdr, length: int) -> str:
    """The parenthesis of -v. tcpdump: ip_print()."""
    ecn = ("", ",ECT(1)", ",ECT(0)", ",CE")[ip.tos & 3]
    ttl = f", ttl {ip.ttl}" if ip.ttl else ""
    flags = [name for bit, name in ((IP_MF, "+"), (IP_DF, "DF"), (IP_CE, "rsvd")) if ip.frag & bit]
    options = f", options ({_ip_options_text(ip.options)})" if ip.options else ""
    return (
        f"(tos 0x{ip.tos:x}{ecn}{ttl}, id {ip.id}, offset {(ip.frag & IP_OFFSET) * 8}, "
        f"flags [{', '.join(flags) or 'none'}], proto {_IP_PROTOS.get(ip.proto, 'unknown')} ({ip.proto}), "
        f"length {length}{options})\n    "
    )


def _ip_options_text(options: bytes) -> str:
    """tcpdump: ip_optprint(). simplified: only the names, without the addresses of route and time options."""
    names = {0: "EOL", 1: "NOP", 7: "RR", 68: "timestamp", 130: "security", 131: "LSRR", 137: "SSRR", 148: "RA"}
    out, at = [], 0
    while at < len(options):
        kind = options[at]
        out.append(names.get(kind, f"unknown {kind}"))
        if kind == 0:
            break
        size = 1 if kind == 1 else options[at + 1] if at + 1 < len(options) else 0
        if size == 0:
            break
        at += size
    return ",".join(out)


def ip6_text(
    printer: Printer,
    ip: Ipv6Hdr,
    l4: L4,
    inner: Inner,
    payload: bytes,
    bad_csum: bool = False,
    tot_len: int = 0,
) -> str:
    """An IPv6 packet. tcpdump: ip6_print()."""
    length = tot_len - IPV6_HLEN if tot_len else l4_hdrlen(l4) + len(payload) + inner_len(inner)
    out = "" if printer.ether else "IP6 "
    if printer.verbose:
        tclass = f"class 0x{ip.tclass:02x}, " if ip.tclass else ""
        flow = f"flowlabel 0x{ip.flow:05x}, " if ip.flow else ""
        name = _IP_PROTOS.get(ip.nexthdr, "unknown")
        out += f"({tclass}{flow}hlim {ip.hop_limit}, next-header {name} ({ip.nexthdr}) payload length: {length}) "
    body = _Body(printer, AF_INET6, ip.saddr, ip.daddr, ip.nexthdr, l4, inner, payload, length, bad_csum)
    body.is_cut = tot_len != 0
    return out + body.text()


class _Body:
    """What is inside an IP packet, and the addresses that its text begins with."""

    def __init__(
        self,
        printer: Printer,
        family: int,
        saddr: int,
        daddr: int,
        proto: int,
        l4: L4,
        inner: Inner,
        payload: bytes,
        length: int,
        bad_csum: bool,
    ) -> None:
        self.printer = printer
        self.family = family
        self.saddr = saddr
        self.daddr = daddr
        self.proto = proto
        self.l4 = l4
        self.inner = inner
        self.payload = payload
        self.length = length  # of transport header and data, as the IP header says
        self.bad_csum = bad_csum
        self.is_cut = False  # the data is not all here: no checksum can be told

    def text(self) -> str:
        src, dst = fmt(self.saddr, self.family), fmt(self.daddr, self.family)
        l4 = self.l4
        if isinstance(l4, TcpHdr):
            return f"{src}.{l4.sport} > {dst}.{l4.dport}: {tcp_text(self, l4)}"
        if isinstance(l4, UdpHdr):
            return f"{src}.{l4.sport} > {dst}.{l4.dport}: {udp_text(self, l4)}"
        if isinstance(l4, IcmpHdr):
            return f"{src} > {dst}: {self.icmp(l4)}"
        if self.proto == 59 and self.family == AF_INET6:
            return f"{src} > {dst}: no next header"
        return f"{src} > {dst}:  ip-proto-{self.proto} {self.length}"

    def icmp(self, icmp: IcmpHdr) -> str:
        data = self.data()
        have, want = self.checksums(2)
        verbose = self.printer.verbose
        if self.family == AF_INET6:
            return icmp6_text(icmp, data, self.inner, have, want, verbose)
        out = icmp_text(icmp, self.inner, self.daddr, self.length)
        if verbose and have != want and not self.is_cut:
            out += f" (wrong icmp cksum {have:x} (->{want:x})!)"
        if verbose and isinstance(self.inner, Quote):
            out += "\n\t" + quote_text(self.printer, self.inner)
        return out

    def data(self) -> bytes:
        """The bytes behind the transport header."""
        return self.payload if self.inner is None else self.payload + inner_to_bytes(self.inner)

    def checksums(self, at: int) -> tuple[int, int]:
        """(as it is on the wire, as it should be) of the transport header, whose field is at byte `at`."""
        if not self.printer.verbose:
            return 0, 0
        is_v6 = self.family == AF_INET6
        pseudo = (pseudo_header6 if is_v6 else pseudo_header4)(self.saddr, self.daddr, self.proto, self.length)
        data = self.data()
        want = int.from_bytes(build_l4(self.l4, data, pseudo, is_v6)[at : at + 2], "big")
        have = int.from_bytes(build_l4(self.l4, data, pseudo, is_v6, self.bad_csum)[at : at + 2], "big")
        return have, want


def _take_apart(body: _Body) -> None:
    """The transport header of a first fragment, whose payload is raw."""
    try:
        if body.proto == IPPROTO_TCP:
            body.l4 = parse_tcp(body.payload)
        elif body.proto == IPPROTO_UDP:
            body.l4 = parse_udp(body.payload)
            body.length = udp_len(body.payload) or body.length
        elif body.proto == IPPROTO_ICMP:
            body.l4 = parse_icmp(body.payload)
    except WireError:
        return
    body.payload = body.payload[l4_hdrlen(body.l4) :]


def quote_text(printer: Printer, quote: Quote) -> str:
    """The packet inside an ICMP error, printed like any other."""
    ip = quote.ip
    if isinstance(ip, IpHdr):
        return ip_text(printer, ip, quote.l4, None, bytes(quote.data), tot_len=quote.tot_len)
    return ip6_text(printer, ip, quote.l4, None, bytes(quote.data), tot_len=quote.tot_len)


# -- UDP and TCP -----------------------------------------------------------------------------------------------------


def udp_text(body: _Body, udp: UdpHdr) -> str:
    """After "src.port > dst.port: ". tcpdump: udp_print()."""
    printer = body.printer
    out = ""
    if not body.is_cut and printer.verbose > (1 if body.family == AF_INET else 0):
        have, want = body.checksums(6)
        out = "[udp sum ok] " if have == want else f"[bad udp cksum 0x{have:04x} -> 0x{want:04x}!] "
    if printer.quiet:
        return f"{out}UDP, length {body.length - UDP_HLEN}"
    if body.inner is not None:
        vni = int.from_bytes(body.payload[4:7], "big")
        head = f"OTV, flags [I] (0x08), overlay 0, instance {vni}"
        if udp.dport != VXLAN_PORT:
            head = f"VXLAN, flags [I] (0x08), vni {vni}"
        return f"{out}{head}\n{frame_text(printer, *_plain(frame_parts(body.inner)))}"
    for port in (DNS_PORT, MDNS_PORT):
        if udp.dport == port or udp.sport == port:
            return out + dns_text(body.payload, body.length - UDP_HLEN, printer.verbose, port == MDNS_PORT)
    return f"{out}UDP, length {body.length - UDP_HLEN}"


def _plain(parts: tuple[EthHdr | None, L3, L4, Inner, Bytes]) -> tuple[EthHdr | None, L3, L4, Inner, bytes]:
    return parts[0], parts[1], parts[2], parts[3], bytes(parts[4])


def tcp_text(body: _Body, tcp: TcpHdr) -> str:
    """After "src.port > dst.port: ". tcpdump: tcp_print()."""
    printer = body.printer
    if tcp.doff < TCP_HLEN:
        return " [|tcp]"  # a quote of only 8 bytes
    length = body.length - tcp.doff
    if printer.quiet:
        return f"tcp {length}"
    flags = "".join(text for bit, text in _TCP_FLAGS if tcp.flags & bit) or "none"
    out = f"Flags [{flags}]"
    if printer.verbose and not body.is_cut:
        have, want = body.checksums(16)
        out += f", cksum 0x{have:04x} (correct)" if have == want else f", cksum 0x{have:04x} (incorrect -> 0x{want:04x})"
    seq, ack, sack_base = (tcp.seq, tcp.ack_seq, 0)
    if not printer.absolute_seq and tcp.flags & ACK:
        seq, ack, sack_base = relative_seq(printer.conversations, body.saddr, body.daddr, tcp)
    if printer.verbose > 1 or length > 0 or tcp.flags & (SYN | FIN | RST):
        out += f", seq {seq}"
        if length > 0:
            out += f":{seq + length & 0xFFFF_FFFF}"
    if tcp.flags & ACK:
        out += f", ack {ack}"
    out += f", win {tcp.window}"
    if tcp.flags & URG:
        out += f", urg {tcp.urg_ptr}"
    if tcp.doff > TCP_HLEN:
        out += f", options [{tcp_options_text(tcp, sack_base)}]"
    out += f", length {length}"
    return out + _tcp_payload_text(body, tcp, length) if length > 0 else out


def _tcp_payload_text(body: _Body, tcp: TcpHdr, length: int) -> str:
    """What tcpdump knows to say about the data, by port."""
    ports = (tcp.sport, tcp.dport)
    if tcp.flags & RST and body.printer.verbose:
        return f" [RST {safe(body.payload)}]"  # RFC 1122 4.2.2.12: a reset may say why
    if any(port in HTTP_PORTS for port in ports):
        return ": " + http_text(body.payload, length, body.printer.verbose)
    if RESP_PORT in ports:
        return ": RESP" + resp_text(body.payload)
    if DNS_PORT in ports and len(body.payload) > 2:
        size = int.from_bytes(body.payload[:2], "big")
        return " " + dns_text(body.payload[2:], size, body.printer.verbose)
    return ""
