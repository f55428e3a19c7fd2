"""The "cooked" link header of `tcpdump -i any` (LINKTYPE_LINUX_SLL2, 276): devices of different kinds share one
capture, so their own link headers are replaced by one that says which device a packet was seen on, and
in which direction."""

from __future__ import annotations

from struct import Struct

from kubenet.wire.errors import WireError

LINKTYPE_LINUX_SLL2 = 276
SLL2_HLEN = 20
ARPHRD_ETHER = 1
ARPHRD_LOOPBACK = 772

_SLL2 = Struct("!HHIHBBIHH")


def build_sll2(proto: int, ifindex: int, pkt_type: int, src: int, arphrd: int = ARPHRD_ETHER) -> bytes:
    """The 20 bytes in front of the network header. pkt_type: PACKET_HOST 0 ... PACKET_OUTGOING 4; src: sender's MAC."""
    return _SLL2.pack(proto, 0, ifindex, arphrd, pkt_type, 6, src >> 16, src & 0xFFFF, 0)


def parse_sll2(data: bytes | memoryview) -> tuple[int, int, int, int]:
    """(EtherType, ifindex, packet type, sender's MAC). Raises WireError."""
    if len(data) < SLL2_HLEN:
        raise WireError(f"SLL2: {len(data)} bytes, a header has 20")
    proto, _, ifindex, _, pkt_type, _, high, low, _ = _SLL2.unpack_from(data)
    return proto, ifindex, pkt_type, high << 16 | low
