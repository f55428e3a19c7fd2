"""ARP for IPv4 over Ethernet (RFC 826), the only pair of spaces there is here: 28 bytes."""

from __future__ import annotations

from struct import Struct

from kubenet.wire.errors import Header, WireError

ARPOP_REQUEST = 1
ARPOP_REPLY = 2
ARP_LEN = 28

_ARP = Struct("!HHBBHHIIHII")


class ArpHdr(Header):
    """sha, tha: 48-bit MACs; spa, tpa: IPv4 addresses; `s` is the sender, `t` the target."""

    __slots__ = ("op", "sha", "spa", "tha", "tpa")

    def __init__(self, op: int, sha: int, spa: int, tha: int, tpa: int) -> None:
        self.op = op
        self.sha = sha
        self.spa = spa
        self.tha = tha
        self.tpa = tpa

    def copy(self) -> ArpHdr:
        return ArpHdr(self.op, self.sha, self.spa, self.tha, self.tpa)


def build_arp(arp: ArpHdr) -> bytes:
    """The 28 bytes after the Ethernet header."""
    sha, tha = arp.sha, arp.tha
    return _ARP.pack(1, 0x0800, 6, 4, arp.op, sha >> 32, sha & 0xFFFF_FFFF, arp.spa, tha >> 32, tha & 0xFFFF_FFFF, arp.tpa)


def parse_arp(data: bytes | memoryview) -> ArpHdr:
    """The ARP packet at the start of `data`; padding after it is ignored. Raises WireError."""
    if len(data) < ARP_LEN:
        raise WireError(f"ARP: {len(data)} bytes, IPv4 over Ethernet has 28")
    hrd, pro, hln, pln, op, sha_hi, sha_lo, spa, tha_hi, tha_lo, tpa = _ARP.unpack_from(data)
    if (hrd, pro, hln, pln) != (1, 0x0800, 6, 4):
        raise WireError(f"ARP: hardware {hrd}/{hln}, protocol {pro:#06x}/{pln} is not IPv4 over Ethernet")
    return ArpHdr(op, sha_hi << 32 | sha_lo, spa, tha_hi << 32 | tha_lo, tpa)
