"""IPv4 header (RFC 791, DSCP and ECN in `tos` as RFC 2474 and 3168).

`frag` is the raw 16-bit field, flags and offset together, as Linux's `iph->frag_off` in host order: IP_DF | IP_MF |
offset / 8. The total length and the checksum are not fields of the record: a packet's length is its skb's, and the
checksum is made by `build_ipv4()` and verified by `parse_ipv4()`. `options` are raw bytes, a multiple of 4 long.
"""

from __future__ import annotations

from struct import Struct

from kubenet.wire.checksum import csum
from kubenet.wire.errors import Header, WireError

IPPROTO_ICMP = 1
IPPROTO_IPIP = 4
IPPROTO_TCP = 6
IPPROTO_UDP = 17
IPPROTO_IPV6 = 41
IPPROTO_GRE = 47
IPPROTO_ICMPV6 = 58
IPPROTO_SCTP = 132

IP_CE = 0x8000
IP_DF = 0x4000
IP_MF = 0x2000
IP_OFFSET = 0x1FFF

_IP = Struct("!BBHHHBBHII")
IP_HLEN = 20


class IpHdr(Header):
    """saddr, daddr: ints; id: 16 bits; frag: the raw flags-and-offset field; options: raw, padded to 4."""

    __slots__ = ("saddr", "daddr", "proto", "id", "frag", "ttl", "tos", "options")

    def __init__(
        self,
        saddr: int,
        daddr: int,
        proto: int,
        id: int = 0,
        frag: int = IP_DF,
        ttl: int = 64,
        tos: int = 0,
        options: bytes = b"",
    ) -> None:
        self.saddr = saddr
        self.daddr = daddr
        self.proto = proto
        self.id = id
        self.frag = frag
        self.ttl = ttl
        self.tos = tos
        self.options = options

    def copy(self) -> IpHdr:
        return IpHdr(self.saddr, self.daddr, self.proto, self.id, self.frag, self.ttl, self.tos, self.options)


def ip_hdrlen(ip: IpHdr) -> int:
    """Header length in bytes, 20 to 60. Linux: ip_hdrlen()."""
    return IP_HLEN + len(ip.options)


def ip_is_fragment(ip: IpHdr) -> bool:
    """True for every piece of a fragmented datagram, the first too. Linux: ip_is_fragment()."""
    return ip.frag & (IP_MF | IP_OFFSET) != 0


def build_ipv4(ip: IpHdr, payload_len: int, tot_len: int = 0) -> bytes:
    """The header for `payload_len` bytes, with its checksum; `tot_len` overrides the sum (a quoted packet is cut)."""
    options = ip.options
    hlen = IP_HLEN + len(options)
    # A super-segment over 65,535 bytes has no length that fits; Linux writes 0 there too (BIG TCP, iph_set_totlen()).
    total = tot_len or hlen + payload_len
    head = _IP.pack(
        0x40 | hlen >> 2,
        ip.tos,
        total if total <= 0xFFFF else 0,
        ip.id,
        ip.frag,
        ip.ttl,
        ip.proto,
        0,
        ip.saddr,
        ip.daddr,
    )
    head += options
    check = csum(head)
    return head[:10] + check.to_bytes(2, "big") + head[12:]


def parse_ipv4(data: bytes | memoryview, verify: bool = True) -> IpHdr:
    """The header at the start of `data`; `ipv4_tot_len()` reads the length it claims. Raises WireError: too short,
    not version 4, header length below 20, or (with `verify`) a wrong header checksum. RFC 1122 3.2.1."""
    if len(data) < IP_HLEN:
        raise WireError(f"IPv4: {len(data)} bytes, a header has 20")
    vihl, tos, _, id_, frag, ttl, proto, _, saddr, daddr = _IP.unpack_from(data)
    if vihl >> 4 != 4:
        raise WireError(f"IPv4: version is {vihl >> 4}")
    hlen = (vihl & 15) * 4
    if hlen < IP_HLEN or hlen > len(data):
        raise WireError(f"IPv4: header length {hlen} is not within 20..{len(data)}")
    if verify and csum(data[:hlen]):
        raise WireError("IPv4: wrong header checksum")
    return IpHdr(saddr, daddr, proto, id_, frag, ttl, tos, bytes(data[IP_HLEN:hlen]))


def ipv4_tot_len(data: bytes | memoryview) -> int:
    """The total length field of the header at the start of `data` (at least 4 bytes)."""
    return data[2] << 8 | data[3]
