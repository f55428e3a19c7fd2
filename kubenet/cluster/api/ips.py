"""Addresses as they stand in API objects, read the way Kubernetes reads them.

Kubernetes still accepts what old versions of its IP parser accepted: leading zeros are allowed and mean nothing
("172.30.0.041" is 172.30.0.41, "/025" is /25), and what it prints afterwards is canonical. A prefix is cut down to
its network address. An IPv4-mapped IPv6 address is an IPv4 address. Anything else is a ValueError with a sentence.

    parse_ip("010.0.0.1")        -> Ip(AF_INET, 0x0a000001, "10.0.0.1")
    parse_cidr("10.1.2.3/08")    -> Cidr(AF_INET, 0x0a000000, 8, "10.0.0.0/8")
    ips_of_family(texts, AF_INET)   the readable ones of that family, in order; the rest is passed over

Source: k8s.io/utils/net ParseIPSloppy, ParseCIDRSloppy. Left out: IPv6 zones, which Kubernetes refuses too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

AF_INET = 2
AF_INET6 = 10

FAMILY_NAMES = {AF_INET: "IPv4", AF_INET6: "IPv6"}
FAMILY_BITS = {AF_INET: 32, AF_INET6: 128}


class Ip(NamedTuple):
    """One address: its family, its value as the stack keys it, and its canonical text."""

    family: int
    value: int
    text: str

    @property
    def is_loopback(self) -> bool:
        """Whether the address is in 127.0.0.0/8 or is ::1."""
        return self.value >> 24 == 127 if self.family == AF_INET else self.value == 1


class Cidr(NamedTuple):
    """One prefix, already masked to its network address."""

    family: int
    value: int
    plen: int
    text: str

    def contains(self, ip: Ip) -> bool:
        """Whether `ip` is of this family and inside the prefix."""
        shift = FAMILY_BITS[self.family] - self.plen
        return ip.family == self.family and ip.value >> shift == self.value >> shift

    def overlaps(self, other: Cidr) -> bool:
        """Whether the two prefixes share an address."""
        if self.family != other.family:
            return False
        shift = FAMILY_BITS[self.family] - min(self.plen, other.plen)
        return self.value >> shift == other.value >> shift


LOOPBACK4 = Cidr(AF_INET, 127 << 24, 8, "127.0.0.0/8")


def ip4_value_text(value: int) -> str:
    """Dotted decimal of a 32-bit value."""
    return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"


def _parse_v4(text: str) -> int:
    parts = text.split(".")
    if len(parts) != 4:
        raise ValueError(f"{text!r} is not an IPv4 address: four numbers with dots between are needed")
    value = 0
    for part in parts:
        if not (part.isascii() and part.isdigit()):
            raise ValueError(f"{text!r} is not an IPv4 address: {part!r} is not a number")
        number = int(part.lstrip("0")[:4] or "0")
        if number > 255:
            raise ValueError(f"{text!r} is not an IPv4 address: {part} is above 255")
        value = value << 8 | number
    return value


def _parse_v6(text: str) -> int:
    if "%" in text:
        raise ValueError(f"{text!r} is not an address without a zone")
    head, _, tail = text.rpartition(":")
    if "." in tail:
        v4 = _parse_v4(tail)
        text = f"{head}:{v4 >> 16:x}:{v4 & 0xFFFF:x}"
    groups = [(group.lstrip("0") or "0") if group else "" for group in text.split(":")]
    try:
        return int(ipaddress.IPv6Address(":".join(groups)))
    except ipaddress.AddressValueError:
        raise ValueError(f"{text!r} is not an IPv6 address") from None


def parse_ip(text: str) -> Ip:
    """The address `text` means, leading zeros ignored. Raises ValueError."""
    if ":" not in text:
        value = _parse_v4(text)
        return Ip(AF_INET, value, ip4_value_text(value))
    value = _parse_v6(text)
    if value >> 32 == 0xFFFF:
        return Ip(AF_INET, value & 0xFFFFFFFF, ip4_value_text(value & 0xFFFFFFFF))
    return Ip(AF_INET6, value, str(ipaddress.IPv6Address(value)))


def parse_cidr(text: str) -> Cidr:
    """The prefix `text` means, masked. Raises ValueError."""
    address, slash, length = text.partition("/")
    if not slash or not (length.isascii() and length.isdigit()):
        raise ValueError(f"{text!r} is not a prefix; write it like 10.0.0.0/8")
    ip = parse_ip(address)
    bits = FAMILY_BITS[ip.family]
    plen = int(length.lstrip("0")[:4] or "0")
    if ip.family == AF_INET and ":" in address:
        plen -= 96  # an IPv4-mapped prefix counts its length in 128 bits
    if not 0 <= plen <= bits:
        raise ValueError(f"{text!r} is not a prefix: the length is from 0 to {bits}")
    shift = bits - plen
    value = ip.value >> shift << shift
    network = ip4_value_text(value) if ip.family == AF_INET else str(ipaddress.IPv6Address(value))
    return Cidr(ip.family, value, plen, f"{network}/{plen}")


def ips_of_family(texts: Iterable[str], family: int) -> tuple[Ip, ...]:
    """The addresses of `family`, in order; what cannot be read is passed over, as kube-proxy does."""
    found = []
    for text in texts:
        try:
            ip = parse_ip(text)
        except ValueError:
            continue
        if ip.family == family:
            found.append(ip)
    return tuple(found)


def cidrs_of_family(texts: Iterable[str], family: int) -> tuple[Cidr, ...]:
    """The prefixes of `family`, in order, blanks around them trimmed; what cannot be read is passed over."""
    found = []
    for text in texts:
        try:
            cidr = parse_cidr(text.strip())
        except ValueError:
            continue
        if cidr.family == family:
            found.append(cidr)
    return tuple(found)


def host_port(ip: Ip, port: int) -> str:
    """`10.0.0.1:80` or `[fd00::1]:80`."""
    return f"{ip.text}:{port}" if ip.family == AF_INET else f"[{ip.text}]:{port}"
