"""UDP header (RFC 768). The length is the skb's; the checksum is made here and a computed 0 is sent as 0xffff.
A sender may leave it out (`check=False`: SO_NO_CHECK, a VXLAN device with noudpcsum), which is written as 0."""

from __future__ import annotations

from struct import Struct
from typing import ClassVar

from kubenet.wire.checksum import csum, csum_fold, csum_partial
from kubenet.wire.errors import Header, WireError

UDP_HLEN = 8

_UDP = Struct("!HHHH")


class UdpHdr(Header):
    """sport, dport. `check`: a checksum is sent."""

    __slots__ = ("sport", "dport")
    check: ClassVar[bool] = True

    def __init__(self, sport: int, dport: int) -> None:
        self.sport = sport
        self.dport = dport

    def copy(self) -> UdpHdr:
        return UdpHdr(self.sport, self.dport)



class UdpHdrNoCheck(UdpHdr):
    """A header whose checksum field is 0: the sender computed none. RFC 768."""

    __slots__ = ()
    check: ClassVar[bool] = False

    def copy(self) -> UdpHdr:
        return UdpHdrNoCheck(self.sport, self.dport)


def build_udp(udp: UdpHdr, payload: bytes | memoryview, pseudo: int = 0, check: bool = True, length: int = 0) -> bytes:
    """The 8 bytes before `payload`. `pseudo` is the sum of the pseudo header; `length` overrides the field where the
    payload is cut (a quote in an ICMP error)."""
    length = length or UDP_HLEN + len(payload)
    length = length if length <= 0xFFFF else 0
    if not check:
        return _UDP.pack(udp.sport, udp.dport, length, 0)
    total = csum_partial(payload, pseudo + udp.sport + udp.dport + length)
    return _UDP.pack(udp.sport, udp.dport, length, csum_fold(total) or 0xFFFF)


def parse_udp(data: bytes | memoryview) -> UdpHdr:
    """The header at the start of `data`; `udp_len()` reads the length it claims. Raises WireError."""
    if len(data) < UDP_HLEN:
        raise WireError(f"UDP: {len(data)} bytes, a header has 8")
    sport, dport, length, _ = _UDP.unpack_from(data)
    if length < UDP_HLEN and length != 0:
        raise WireError(f"UDP: length field {length} is below 8")
    return UdpHdr(sport, dport)


def udp_len(data: bytes | memoryview) -> int:
    """The length field of the header at the start of `data` (at least 6 bytes)."""
    return data[4] << 8 | data[5]


def udp_csum_ok(data: bytes | memoryview, pseudo: int) -> bool:
    """True if the datagram in `data` carries a right checksum or none. RFC 768."""
    return data[6:8] == b"\0\0" or csum(data, pseudo) == 0
