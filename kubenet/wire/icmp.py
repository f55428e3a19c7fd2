"""ICMP (RFC 792, 1191, 1812) and the fixed part of ICMPv6 (RFC 4443): type, code, checksum, and 32 bits of `rest`.

`rest` means: id << 16 | seq in an echo; the MTU of the next hop in "fragmentation needed" (RFC 1191 4: its low 16 bits)
and in ICMPv6's "packet too big"; the gateway in a redirect; 0 in most errors. What an error quotes is a Quote: the
headers of the packet that caused it, so that NAT can translate them in place and sockets can be found by them.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from kubenet.wire.checksum import csum_fold, csum_partial
from kubenet.wire.errors import Header, WireError

if TYPE_CHECKING:
    from kubenet.wire.ipv4 import IpHdr
    from kubenet.wire.ipv6 import Ipv6Hdr
    from kubenet.wire.tcp import TcpHdr
    from kubenet.wire.udp import UdpHdr

ICMP_HLEN = 8

ICMP_ECHOREPLY = 0
ICMP_DEST_UNREACH = 3
ICMP_SOURCE_QUENCH = 4
ICMP_REDIRECT = 5
ICMP_ECHO = 8
ICMP_TIME_EXCEEDED = 11
ICMP_PARAMETERPROB = 12
ICMP_TIMESTAMP = 13
ICMP_TIMESTAMPREPLY = 14

ICMP_NET_UNREACH = 0
ICMP_HOST_UNREACH = 1
ICMP_PROT_UNREACH = 2
ICMP_PORT_UNREACH = 3
ICMP_FRAG_NEEDED = 4
ICMP_SR_FAILED = 5
ICMP_NET_UNKNOWN = 6
ICMP_HOST_UNKNOWN = 7
ICMP_HOST_ISOLATED = 8
ICMP_NET_ANO = 9
ICMP_HOST_ANO = 10
ICMP_PKT_FILTERED = 13

ICMP_EXC_TTL = 0
ICMP_EXC_FRAGTIME = 1

ICMPV6_DEST_UNREACH = 1
ICMPV6_PKT_TOOBIG = 2
ICMPV6_TIME_EXCEED = 3
ICMPV6_PARAMPROB = 4
ICMPV6_ECHO_REQUEST = 128
ICMPV6_ECHO_REPLY = 129
NDISC_ROUTER_SOLICITATION = 133
NDISC_ROUTER_ADVERTISEMENT = 134
NDISC_NEIGHBOUR_SOLICITATION = 135
NDISC_NEIGHBOUR_ADVERTISEMENT = 136

_ICMP = Struct("!BBHI")


class IcmpHdr(Header):
    """type, code, and rest: the 32 bits after the checksum."""

    __slots__ = ("type", "code", "rest")

    def __init__(self, type: int, code: int, rest: int = 0) -> None:
        self.type = type
        self.code = code
        self.rest = rest

    def copy(self) -> IcmpHdr:
        return IcmpHdr(self.type, self.code, self.rest)


class Quote(Header):
    """The packet an ICMP error quotes: its headers and as much of its payload as the error carries.

    tot_len: the length that packet had (IPv4 total length, IPv6 header included); 0 means the quote is all of it.
    l4 is None where the quoted bytes are no header we know or too few to be one; then they are all in `data`.
    """

    __slots__ = ("ip", "l4", "data", "tot_len")

    def __init__(
        self,
        ip: IpHdr | Ipv6Hdr,
        l4: IcmpHdr | UdpHdr | TcpHdr | None,
        data: bytes | memoryview = b"",
        tot_len: int = 0,
    ) -> None:
        self.ip = ip
        self.l4 = l4
        self.data = data
        self.tot_len = tot_len

    def copy(self) -> Quote:
        """Deep: NAT may edit the copy's headers."""
        l4 = self.l4
        return Quote(self.ip.copy(), None if l4 is None else l4.copy(), self.data, self.tot_len)


def icmp_is_error(type: int) -> bool:
    """True for the ICMP types that quote a packet. Linux: icmp_is_err()."""
    return type in (ICMP_DEST_UNREACH, ICMP_SOURCE_QUENCH, ICMP_REDIRECT, ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB)


def icmpv6_is_error(type: int) -> bool:
    """True for error messages: the high bit of the type is clear. RFC 4443 2.1."""
    return type < 128


def build_icmp(icmp: IcmpHdr, payload: bytes | memoryview, pseudo: int = 0) -> bytes:
    """The 8 bytes before `payload`, with the checksum; `pseudo` is 0 for ICMP, the IPv6 pseudo header for ICMPv6."""
    type_code = icmp.type << 8 | icmp.code
    rest = icmp.rest
    total = csum_partial(payload, pseudo + type_code + (rest >> 16) + (rest & 0xFFFF))
    return _ICMP.pack(icmp.type, icmp.code, csum_fold(total), rest)


def parse_icmp(data: bytes | memoryview) -> IcmpHdr:
    """The header at the start of `data`. The checksum is the caller's (it covers the payload). Raises WireError."""
    if len(data) < ICMP_HLEN:
        raise WireError(f"ICMP: {len(data)} bytes, a header has 8")
    type_, code, _, rest = _ICMP.unpack_from(data)
    return IcmpHdr(type_, code, rest)
