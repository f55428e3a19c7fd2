"""VXLAN header (RFC 7348 5): a flags byte of 0x08, a 24-bit network identifier, and then a whole Ethernet frame.
flannel, and so this lab, sends it to UDP port 8472 (Linux's default), not to IANA's 4789."""

from __future__ import annotations

from kubenet.wire.errors import Header, WireError

VXLAN_HLEN = 8
VXLAN_PORT = 8472
IANA_VXLAN_PORT = 4789


class VxlanHdr(Header):
    """vni: 24 bits."""

    __slots__ = ("vni",)

    def __init__(self, vni: int) -> None:
        self.vni = vni

    def copy(self) -> VxlanHdr:
        return VxlanHdr(self.vni)


def build_vxlan(vxlan: VxlanHdr) -> bytes:
    """The 8 bytes between the UDP header and the inner frame."""
    return b"\x08\0\0\0" + (vxlan.vni << 8).to_bytes(4, "big")


def parse_vxlan(data: bytes | memoryview) -> VxlanHdr:
    """The header at the start of `data`. Raises WireError: too short, or the I flag is not set (RFC 7348 5)."""
    if len(data) < VXLAN_HLEN:
        raise WireError(f"VXLAN: {len(data)} bytes, a header has 8")
    if not data[0] & 0x08:
        raise WireError("VXLAN: the I flag is not set, so there is no network identifier")
    return VxlanHdr(int.from_bytes(data[4:7], "big"))
