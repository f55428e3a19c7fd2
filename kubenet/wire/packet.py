"""Whole frames: header objects to bytes and back.

The stack passes headers by reference; bytes are made only where somebody outside must see them: capture files, TUN and
TAP devices, raw and packet sockets, and the self-check that re-parses what a link carries.

    frame_to_bytes(eth, l3, l4, inner, payload)      eth None: no link header (a TUN device, LINKTYPE_RAW)
    bytes_to_frame(data) -> ParsedFrame(eth, l3, l4, inner, payload)

    l3       IpHdr, Ipv6Hdr, ArpHdr, or None: an EtherType we do not know, all of it is `payload`
    l4       TcpHdr, UdpHdr, IcmpHdr, or None: a protocol we do not know, or a fragment; all of it is `payload`
    payload  the bytes after the transport header
    inner    what follows the payload: the Quote of an ICMP error (payload is empty then), or a whole encapsulated frame
             (a ParsedFrame, or an skb; payload is then the tunnel's own header, 8 bytes of VXLAN), else None

A fragment is never taken apart, the first one neither: its payload is the raw piece of the datagram.
Checksums and lengths are computed when building. When parsing, a wrong IPv4 header checksum raises WireError, because
such a packet has no meaning; a wrong transport checksum only clears `csum_ok`: receivers count it (InCsumErrors).
"""

from __future__ import annotations

from typing import Any

from kubenet.wire.arp import ARP_LEN, ArpHdr, build_arp, parse_arp
from kubenet.wire.checksum import csum, pseudo_header4, pseudo_header6
from kubenet.wire.errors import Header, WireError
from kubenet.wire.ethernet import ETH_HLEN, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, EthHdr, build_eth, parse_eth
from kubenet.wire.icmp import (
    ICMP_HLEN,
    IcmpHdr,
    Quote,
    build_icmp,
    icmp_is_error,
    icmpv6_is_error,
    parse_icmp,
)
from kubenet.wire.ipv4 import (
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IpHdr,
    build_ipv4,
    ip_hdrlen,
    ip_is_fragment,
    ipv4_tot_len,
    parse_ipv4,
)
from kubenet.wire.ipv6 import IPV6_HLEN, Ipv6Hdr, build_ipv6, ipv6_payload_len, parse_ipv6
from kubenet.wire.tcp import TCP_HLEN, TcpHdr, build_tcp, parse_tcp
from kubenet.wire.udp import UDP_HLEN, UdpHdr, build_udp, parse_udp, udp_csum_ok, udp_len
from kubenet.wire.vxlan import IANA_VXLAN_PORT, VXLAN_HLEN, VXLAN_PORT, parse_vxlan

Bytes = bytes | memoryview
L3 = IpHdr | Ipv6Hdr | ArpHdr | None
L4 = TcpHdr | UdpHdr | IcmpHdr | None
Inner = Any  # Quote, ParsedFrame, an skb (the kernel's class is no import of this layer), or None

MAX_TUNNELS = 4  # frames in frames that are taken apart; deeper ones stay bytes, so that no packet exhausts the stack
QUOTED_TCP_LEN = 8  # RFC 792 asks an error for no more than 64 bits of the datagram: ports and sequence number


class ParsedFrame(Header):
    """One frame taken apart; see above. `csum_ok`: the transport checksum was right."""

    __slots__ = ("eth", "l3", "l4", "inner", "payload", "csum_ok")

    def __init__(
        self,
        eth: EthHdr | None,
        l3: L3,
        l4: L4 = None,
        inner: Inner = None,
        payload: Bytes = b"",
        csum_ok: bool = True,
    ) -> None:
        self.eth = eth
        self.l3 = l3
        self.l4 = l4
        self.inner = inner
        self.payload = payload
        self.csum_ok = csum_ok


def l4_hdrlen(l4: L4) -> int:
    """Bytes of a transport header; 0 for None."""
    if l4 is None:
        return 0
    return l4.doff if type(l4) is TcpHdr else UDP_HLEN


def quote_len(quote: Quote) -> int:
    """Bytes a quote takes inside its ICMP error."""
    ip = quote.ip
    hlen = ip_hdrlen(ip) if isinstance(ip, IpHdr) else IPV6_HLEN
    return hlen + l4_hdrlen(quote.l4) + len(quote.data)


def inner_len(inner: Inner) -> int:
    """Bytes that `inner` stands for."""
    if inner is None:
        return 0
    return quote_len(inner) if isinstance(inner, Quote) else frame_len(*frame_parts(inner))


def frame_len(eth: EthHdr | None, l3: L3, l4: L4, inner: Inner, payload: Bytes) -> int:
    """len(frame_to_bytes(...)) by arithmetic."""
    size = 0 if eth is None else ETH_HLEN
    if isinstance(l3, IpHdr):
        size += ip_hdrlen(l3)
    elif isinstance(l3, Ipv6Hdr):
        size += IPV6_HLEN
    elif isinstance(l3, ArpHdr):
        return size + ARP_LEN
    return size + l4_hdrlen(l4) + inner_len(inner) + len(payload)


def frame_parts(frame: Any) -> tuple[EthHdr | None, L3, L4, Inner, Bytes]:
    """(eth, l3, l4, inner, payload) of a ParsedFrame or an skb."""
    l3 = frame.l3 if isinstance(frame, ParsedFrame) else frame.ip
    return frame.eth, l3, frame.l4, frame.inner, frame.payload


# -- objects to bytes ------------------------------------------------------------------------------------------------


def frame_to_bytes(eth: EthHdr | None, l3: L3, l4: L4, inner: Inner, payload: Bytes, bad_csum: bool = False) -> bytes:
    """The frame on the wire, lengths and checksums filled in; `bad_csum` spoils the transport checksum, which is how
    a corrupted packet (skb.csum BAD) looks outside. No padding to 60 bytes: veth and tap devices add none."""
    link = b"" if eth is None else build_eth(eth)
    if isinstance(l3, ArpHdr):
        return link + build_arp(l3)
    data = payload if inner is None else bytes(payload) + inner_to_bytes(inner)
    if isinstance(l3, IpHdr):
        size = l4_hdrlen(l4) + len(data)
        head = build_l4(l4, data, pseudo_header4(l3.saddr, l3.daddr, l3.proto, size), bad_csum=bad_csum)
        return b"".join((link, build_ipv4(l3, size), head, data))
    if isinstance(l3, Ipv6Hdr):
        size = l4_hdrlen(l4) + len(data)
        head = build_l4(l4, data, pseudo_header6(l3.saddr, l3.daddr, l3.nexthdr, size), True, bad_csum)
        return b"".join((link, build_ipv6(l3, size), head, data))
    return link + bytes(data)


def build_l4(l4: L4, data: Bytes, pseudo: int, is_v6: bool = False, bad_csum: bool = False) -> bytes:
    """A transport header in front of `data`, its checksum spoiled with `bad_csum`; empty for None."""
    if l4 is None:
        return b""
    if isinstance(l4, TcpHdr):
        head, at = build_tcp(l4, data, pseudo), 16
    elif isinstance(l4, UdpHdr):
        head, at = build_udp(l4, data, pseudo, l4.check), 6
    else:
        head, at = build_icmp(l4, data, pseudo if is_v6 else 0), 2
    if bad_csum:
        return head[:at] + bytes((head[at] ^ 0x5A, head[at + 1])) + head[at + 2 :]
    return head


def inner_to_bytes(inner: Inner) -> bytes:
    """The bytes that `inner` stands for."""
    return build_quote(inner) if isinstance(inner, Quote) else frame_to_bytes(*frame_parts(inner))


def build_quote(quote: Quote) -> bytes:
    """The quoted packet. Its lengths are the original's; simplified: its transport checksum is computed over the bytes
    that are quoted, because the rest is gone."""
    ip, l4, data = quote.ip, quote.l4, quote.data
    here = l4_hdrlen(l4) + len(data)
    if isinstance(ip, IpHdr):
        head = build_ipv4(ip, here, quote.tot_len)
        size = (quote.tot_len or ip_hdrlen(ip) + here) - ip_hdrlen(ip)
        pseudo = pseudo_header4(ip.saddr, ip.daddr, ip.proto, size)
    else:
        size = quote.tot_len - IPV6_HLEN if quote.tot_len else here
        head = build_ipv6(ip, size)
        pseudo = pseudo_header6(ip.saddr, ip.daddr, ip.nexthdr, size)
    if isinstance(l4, UdpHdr):
        return head + build_udp(l4, data, pseudo, length=size) + data
    if isinstance(l4, TcpHdr) and l4.doff < TCP_HLEN:
        return head + build_tcp(TcpHdr(l4.sport, l4.dport, l4.seq, 0, 0, 0), b"")[: l4.doff] + data
    return head + build_l4(l4, data, pseudo, isinstance(ip, Ipv6Hdr)) + data


# -- bytes to objects ------------------------------------------------------------------------------------------------


def bytes_to_frame(data: Bytes, link: bool = True, tunnels: int = MAX_TUNNELS) -> ParsedFrame:
    """The frame taken apart; `link=False` where it starts with the IP header, `tunnels`: how deep to look. Bytes after
    the packet's own length are padding and dropped. Payloads are copied out of `data`. Raises WireError: a header is
    cut or contradicts itself."""
    view = memoryview(data)
    eth: EthHdr | None = None
    if link:
        eth = parse_eth(view)
        proto = eth.proto
        view = view[ETH_HLEN:]
    else:
        proto = ETH_P_IPV6 if len(view) and view[0] >> 4 == 6 else ETH_P_IP
    if proto == ETH_P_IP:
        return _parse_ip(eth, view, tunnels)
    if proto == ETH_P_IPV6:
        return _parse_ip6(eth, view, tunnels)
    if proto == ETH_P_ARP:
        return ParsedFrame(eth, parse_arp(view))
    return ParsedFrame(eth, None, payload=bytes(view))


def _parse_ip(eth: EthHdr | None, view: memoryview, tunnels: int) -> ParsedFrame:
    """IPv4: checks the header and its lengths. RFC 1122 3.2.1; Linux: ip_rcv_core()."""
    ip = parse_ipv4(view)
    hlen = ip_hdrlen(ip)
    total = ipv4_tot_len(view) or len(view)  # 0: a super-segment of 64 KiB or more
    if total < hlen or total > len(view):
        raise WireError(f"IPv4: total length {total} is not within {hlen}..{len(view)}")
    body = view[hlen:total]
    if ip_is_fragment(ip):
        return ParsedFrame(eth, ip, payload=bytes(body))
    return _parse_l4(eth, ip, ip.proto, body, pseudo_header4(ip.saddr, ip.daddr, ip.proto, len(body)), tunnels)


def _parse_ip6(eth: EthHdr | None, view: memoryview, tunnels: int) -> ParsedFrame:
    """IPv6: checks the header and its length. Linux: ip6_rcv_core()."""
    ip = parse_ipv6(view)
    size = ipv6_payload_len(view) or len(view) - IPV6_HLEN
    if size > len(view) - IPV6_HLEN:
        raise WireError(f"IPv6: payload length {size}, but {len(view) - IPV6_HLEN} bytes are here")
    body = view[IPV6_HLEN : IPV6_HLEN + size]
    return _parse_l4(eth, ip, ip.nexthdr, body, pseudo_header6(ip.saddr, ip.daddr, ip.nexthdr, size), tunnels)


def _parse_l4(eth: EthHdr | None, ip: IpHdr | Ipv6Hdr, proto: int, body: memoryview, pseudo: int, tunnels: int) -> ParsedFrame:
    """The transport header by protocol number, and its checksum."""
    if proto == IPPROTO_TCP:
        tcp = parse_tcp(body)
        return ParsedFrame(eth, ip, tcp, None, bytes(body[tcp.doff :]), csum(body, pseudo) == 0)
    if proto == IPPROTO_UDP:
        return _parse_udp(eth, ip, body, pseudo, tunnels)
    if proto == (IPPROTO_ICMP if isinstance(ip, IpHdr) else IPPROTO_ICMPV6):
        return _parse_icmp(eth, ip, body, pseudo)
    return ParsedFrame(eth, ip, payload=bytes(body))


def _parse_udp(eth: EthHdr | None, ip: IpHdr | Ipv6Hdr, body: memoryview, pseudo: int, tunnels: int) -> ParsedFrame:
    """UDP; behind a VXLAN port the inner frame too, where it is one. RFC 768; Linux: __udp4_lib_rcv()."""
    udp = parse_udp(body)
    size = udp_len(body) or len(body)
    if size > len(body):
        raise WireError(f"UDP: length {size}, but {len(body)} bytes are here")
    pseudo -= len(body) - size  # the pseudo header counts UDP's own length
    ok = udp_csum_ok(body[:size], pseudo)
    payload = bytes(body[UDP_HLEN:size])
    if udp.dport in (VXLAN_PORT, IANA_VXLAN_PORT) and tunnels > 0:
        try:
            parse_vxlan(payload)
            inner = bytes_to_frame(payload[VXLAN_HLEN:], True, tunnels - 1)
            return ParsedFrame(eth, ip, udp, inner, payload[:VXLAN_HLEN], ok)
        except WireError:
            pass  # anybody may send other bytes to that port
    return ParsedFrame(eth, ip, udp, None, payload, ok)


def _parse_icmp(eth: EthHdr | None, ip: IpHdr | Ipv6Hdr, body: memoryview, pseudo: int) -> ParsedFrame:
    """ICMP or ICMPv6; the quote of an error as a Quote, where it is one."""
    icmp = parse_icmp(body)
    is_v6 = isinstance(ip, Ipv6Hdr)
    ok = csum(body, pseudo if is_v6 else 0) == 0
    payload = bytes(body[ICMP_HLEN:])
    if icmpv6_is_error(icmp.type) if is_v6 else icmp_is_error(icmp.type):
        try:
            return ParsedFrame(eth, ip, icmp, parse_quote(payload, is_v6), b"", ok)
        except WireError:
            pass  # some errors quote nothing useful; the bytes stay
    return ParsedFrame(eth, ip, icmp, None, payload, ok)


def parse_quote(data: Bytes, is_v6: bool = False) -> Quote:
    """The packet quoted in an ICMP error, however much of it is there. Raises WireError if its IP header is cut."""
    ip: IpHdr | Ipv6Hdr
    if is_v6:
        ip = parse_ipv6(data)
        proto, hlen, total, raw = ip.nexthdr, IPV6_HLEN, ipv6_payload_len(data) + IPV6_HLEN, False
    else:
        ip = parse_ipv4(data, verify=False)
        proto, hlen, total = ip.proto, ip_hdrlen(ip), ipv4_tot_len(data)
        raw = ip_is_fragment(ip)
    if total < hlen:
        raise WireError(f"quoted packet: length {total} is less than its header's {hlen}")
    body = data[hlen:total]
    cut = total if total > len(data) else 0
    l4 = None if raw else _parse_quoted_l4(proto, body, is_v6)
    return Quote(ip, l4, bytes(body[l4_hdrlen(l4) :]), cut)


def _parse_quoted_l4(proto: int, body: Bytes, is_v6: bool) -> L4:
    """The quoted transport header. Of TCP, 8 bytes are enough for ports and seq: then its doff is 8 (RFC 792)."""
    try:
        if proto == IPPROTO_UDP:
            return parse_udp(body)
        if proto == (IPPROTO_ICMPV6 if is_v6 else IPPROTO_ICMP):
            return parse_icmp(body)
        if proto == IPPROTO_TCP:
            if len(body) >= TCP_HLEN and TCP_HLEN <= body[12] >> 4 << 2 <= len(body):
                return parse_tcp(body)
            if len(body) >= QUOTED_TCP_LEN:
                sport, dport = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:4], "big")
                return TcpHdr(sport, dport, int.from_bytes(body[4:8], "big"), 0, 0, 0, doff=QUOTED_TCP_LEN)
    except WireError:
        pass
    return None
