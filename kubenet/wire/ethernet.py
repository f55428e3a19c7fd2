"""Ethernet II header (RFC 894). No VLAN tags, no 802.3 length frames (no part of the lab makes them), no FCS:
like Linux's AF_PACKET, frames here start at the destination address and end with the payload."""

from __future__ import annotations

from struct import Struct

from kubenet.wire.errors import Header, WireError

ETH_P_IP = 0x0800
ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD
ETH_HLEN = 14

_ETH = Struct("!HIHIH")


class EthHdr(Header):
    """dst, src: 48-bit ints; proto: EtherType."""

    __slots__ = ("dst", "src", "proto")

    def __init__(self, dst: int, src: int, proto: int) -> None:
        self.dst = dst
        self.src = src
        self.proto = proto

    def copy(self) -> EthHdr:
        return EthHdr(self.dst, self.src, self.proto)


def build_eth(eth: EthHdr) -> bytes:
    """The 14 bytes in front of the payload."""
    dst, src = eth.dst, eth.src
    return _ETH.pack(dst >> 32, dst & 0xFFFF_FFFF, src >> 32, src & 0xFFFF_FFFF, eth.proto)


def parse_eth(data: bytes | memoryview) -> EthHdr:
    """The header of a frame; the payload starts at ETH_HLEN. Raises WireError."""
    if len(data) < ETH_HLEN:
        raise WireError(f"Ethernet: {len(data)} bytes, a header has 14")
    d_hi, d_lo, s_hi, s_lo, proto = _ETH.unpack_from(data)
    return EthHdr(d_hi << 32 | d_lo, s_hi << 32 | s_lo, proto)
