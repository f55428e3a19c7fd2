"""IPv6 fixed header (RFC 8200 3). Extension headers are not taken apart: a packet that has some is carried with its
first extension's number in `nexthdr` and the rest as payload bytes.
simplified: no routing, hop-by-hop, destination or fragment headers."""

from __future__ import annotations

from struct import Struct

from kubenet.wire.errors import Header, WireError

IPV6_HLEN = 40

_IP6 = Struct("!IHBB16s16s")


class Ipv6Hdr(Header):
    """saddr, daddr: 128-bit ints; flow: the 20-bit flow label; tclass: DSCP and ECN."""

    __slots__ = ("saddr", "daddr", "nexthdr", "hop_limit", "tclass", "flow")

    def __init__(self, saddr: int, daddr: int, nexthdr: int, hop_limit: int = 64, tclass: int = 0, flow: int = 0) -> None:
        self.saddr = saddr
        self.daddr = daddr
        self.nexthdr = nexthdr
        self.hop_limit = hop_limit
        self.tclass = tclass
        self.flow = flow

    # The names IPv4 has for the same things, so that netfilter's rules read both headers alike.

    @property
    def proto(self) -> int:
        """What follows this header: IpHdr.proto."""
        return self.nexthdr

    @property
    def ttl(self) -> int:
        """The hop limit: IpHdr.ttl."""
        return self.hop_limit

    @ttl.setter
    def ttl(self, value: int) -> None:
        self.hop_limit = value

    @property
    def tos(self) -> int:
        """The traffic class: IpHdr.tos."""
        return self.tclass

    @tos.setter
    def tos(self, value: int) -> None:
        self.tclass = value

    @property
    def frag(self) -> int:
        """IpHdr.frag of a packet that is no fragment: this header cannot be one."""
        return 0

    def copy(self) -> Ipv6Hdr:
        return Ipv6Hdr(self.saddr, self.daddr, self.nexthdr, self.hop_limit, self.tclass, self.flow)


def build_ipv6(ip: Ipv6Hdr, payload_len: int) -> bytes:
    """The 40 bytes before the payload; 0 stands for a super-segment that does not fit (RFC 2675, as Linux)."""
    return _IP6.pack(
        6 << 28 | ip.tclass << 20 | ip.flow,
        payload_len if payload_len <= 0xFFFF else 0,
        ip.nexthdr,
        ip.hop_limit,
        ip.saddr.to_bytes(16, "big"),
        ip.daddr.to_bytes(16, "big"),
    )


def parse_ipv6(data: bytes | memoryview) -> Ipv6Hdr:
    """The header at the start of `data`; `ipv6_payload_len()` reads the length it claims. Raises WireError."""
    if len(data) < IPV6_HLEN:
        raise WireError(f"IPv6: {len(data)} bytes, a header has 40")
    first, _, nexthdr, hop_limit, saddr, daddr = _IP6.unpack_from(data)
    if first >> 28 != 6:
        raise WireError(f"IPv6: version is {first >> 28}")
    return Ipv6Hdr(
        int.from_bytes(saddr, "big"),
        int.from_bytes(daddr, "big"),
        nexthdr,
        hop_limit,
        first >> 20 & 0xFF,
        first & 0xFFFFF,
    )


def ipv6_payload_len(data: bytes | memoryview) -> int:
    """The payload length field of the header at the start of `data` (at least 6 bytes)."""
    return data[4] << 8 | data[5]
