"""Addresses: ints inside the stack, text for people.

Every table of the stack is keyed by ints, so an address is an int from the moment it is parsed; an int does not say its
family (`::1` equals `0.0.0.1`), so tables are per family and `fmt()` is told which one it prints. The functions here
are the only place where text and ints meet:

    ip4("10.48.1.5") == 0x0a300105        ip4_text(0x0a300105) == "10.48.1.5"
    parse_cidr("10.48.0.0/16") == (0x0a300000, 16)
    endpoint_text(ip6("fd00::1"), 80, AF_INET6) == "[fd00::1]:80"

Text is strict: four decimal numbers without leading zeros (inet_pton(3), not inet_aton(3)); IPv6 as RFC 4291 2.2,
printed in RFC 5952's canonical form. Mistakes raise ValueError with a sentence fit for an error message.
"""

from __future__ import annotations

import socket as _host_socket
from functools import lru_cache

AF_INET = 2
AF_INET6 = 10

MASK32 = 0xFFFF_FFFF
BROADCAST_MAC = 0xFFFF_FFFF_FFFF
INADDR_ANY = 0
INADDR_LOOPBACK = 0x7F00_0001
INADDR_BROADCAST = 0xFFFF_FFFF


def ip4(text: str) -> int:
    """The int of a dotted quad. Raises ValueError. inet_pton(3)."""
    try:
        return int.from_bytes(_host_socket.inet_pton(_host_socket.AF_INET, text), "big")
    except (OSError, ValueError):
        raise ValueError(f"{text!r} is not an IPv4 address; write four numbers from 0 to 255, like 10.48.1.5") from None


@lru_cache(maxsize=4096)
def ip4_text(addr: int) -> str:
    """Dotted quad."""
    return f"{addr >> 24 & 255}.{addr >> 16 & 255}.{addr >> 8 & 255}.{addr & 255}"


def ip6(text: str) -> int:
    """The int of an IPv6 address, without zone. Raises ValueError. RFC 4291 2.2."""
    try:
        return int.from_bytes(_host_socket.inet_pton(_host_socket.AF_INET6, text), "big")
    except (OSError, ValueError):
        raise ValueError(f"{text!r} is not an IPv6 address; write it like fd00:10:48::5") from None


def ip6_text(addr: int) -> str:
    """The canonical text: lower case, the longest run of two or more zero groups (the first of equals) as "::",
    and dotted quads for IPv4-mapped addresses. RFC 5952 4 and 5."""
    if addr >> 32 == 0xFFFF:
        return "::ffff:" + ip4_text(addr & MASK32)
    groups = [addr >> shift & 0xFFFF for shift in range(112, -1, -16)]
    best, length, run = 0, 1, 0
    for i, group in enumerate(groups):
        run = run + 1 if group == 0 else 0
        if run > length:
            best, length = i - run + 1, run
    if length < 2:
        return ":".join(f"{g:x}" for g in groups)
    left, right = groups[:best], groups[best + length :]
    return ":".join(f"{g:x}" for g in left) + "::" + ":".join(f"{g:x}" for g in right)


def mac(text: str) -> int:
    """The int of aa:bb:cc:dd:ee:ff. Raises ValueError."""
    parts = text.split(":")
    if len(parts) != 6 or not all(1 <= len(p) <= 2 and p.isascii() and p.isalnum() for p in parts):
        raise ValueError(f"{text!r} is not a MAC address; write six hex pairs, like 02:00:00:00:00:01")
    try:
        return int.from_bytes(bytes(int(p, 16) for p in parts), "big")
    except ValueError:
        raise ValueError(f"{text!r} is not a MAC address; its digits are 0-9 and a-f") from None


def mac_text(addr: int) -> str:
    """Six lower-case hex pairs."""
    return addr.to_bytes(6, "big").hex(":")


def parse_addr(text: str) -> tuple[int, int]:
    """(family, int) of an address of either family. Raises ValueError."""
    return (AF_INET6, ip6(text)) if ":" in text else (AF_INET, ip4(text))


def parse_cidr(text: str) -> tuple[int, int]:
    """(address, prefix length); a bare address has the full length. Host bits are kept. Raises ValueError."""
    host, slash, plen = text.partition("/")
    bits = 128 if ":" in host else 32
    addr = ip6(host) if bits == 128 else ip4(host)
    if not slash:
        return addr, bits
    if not (plen.isascii() and plen.isdigit() and int(plen) <= bits):
        raise ValueError(f"{text!r} is not a prefix; after the slash comes a number from 0 to {bits}")
    return addr, int(plen)


def prefix_mask(plen: int, bits: int = 32) -> int:
    """The netmask of a prefix length, as an int."""
    return ((1 << plen) - 1) << (bits - plen)


def in_prefix(addr: int, net: int, plen: int, bits: int = 32) -> bool:
    """True if `addr` is inside net/plen."""
    return (addr ^ net) >> (bits - plen) == 0


def fmt(addr: int, family: int = AF_INET) -> str:
    """The text of an address."""
    return ip6_text(addr) if family == AF_INET6 else ip4_text(addr)


def cidr_text(addr: int, plen: int, family: int = AF_INET) -> str:
    """address/length."""
    return f"{fmt(addr, family)}/{plen}"


def endpoint_text(addr: int, port: int, family: int = AF_INET) -> str:
    """addr:port, with brackets around IPv6 (RFC 3986 3.2.2)."""
    return f"[{ip6_text(addr)}]:{port}" if family == AF_INET6 else f"{ip4_text(addr)}:{port}"


def is_multicast4(addr: int) -> bool:
    """224.0.0.0/4. RFC 5771."""
    return addr >> 28 == 0xE


def is_loopback4(addr: int) -> bool:
    """127.0.0.0/8. RFC 1122 3.2.1.3 (g)."""
    return addr >> 24 == 127


def is_multicast_mac(addr: int) -> bool:
    """The group bit of the first octet; broadcast has it too. IEEE 802."""
    return addr >> 40 & 1 == 1
