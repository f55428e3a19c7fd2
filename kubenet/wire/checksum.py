"""The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

The sum is the one's complement sum of 16-bit words. 2^16 is 1 modulo 65535, so the whole buffer read as one big number
modulo 65535 is that sum: one C-speed division instead of a loop. The one ambiguity (0 and 0xffff are the same number)
is settled as the loop would: only all-zero data sums to 0.

    check = csum(header)                                  # field is zero in `header`
    check = csum(segment, pseudo_header4(saddr, daddr, 6, len(segment)))
    csum(header_with_its_check) == 0                      # a valid one
"""

from __future__ import annotations


def csum_partial(data: bytes | memoryview, total: int = 0) -> int:
    """The not complemented sum of `data` (padded with a zero byte if odd) and `total`, in 0..0xffff. RFC 1071 1."""
    n = int.from_bytes(data, "big")
    if len(data) & 1:
        n <<= 8
    n += total
    folded = n % 0xFFFF
    return 0xFFFF if folded == 0 and n else folded


def csum_fold(total: int) -> int:
    """The 16-bit complement of a sum of any width. Linux: csum_fold()."""
    folded = total % 0xFFFF
    return 0 if folded == 0 and total else 0xFFFF - folded


def csum(data: bytes | memoryview, total: int = 0) -> int:
    """The value for the checksum field; 0 over data that includes a correct one. RFC 1071."""
    return csum_fold(csum_partial(data, total))


def csum_update16(check: int, old: int, new: int) -> int:
    """`check` after a 16-bit word changed from `old` to `new`: HC' = ~(~HC + ~m + m'). RFC 1624 eqn. 3."""
    return _update((~check & 0xFFFF) + (~old & 0xFFFF) + new)


def csum_update32(check: int, old: int, new: int) -> int:
    """The same for an aligned 32-bit word. Linux: csum_replace4()."""
    inverse = ~old & 0xFFFF_FFFF
    return _update((~check & 0xFFFF) + (inverse >> 16) + (inverse & 0xFFFF) + (new >> 16) + (new & 0xFFFF))


def _update(total: int) -> int:
    """Folds by carries, not by the modulus: here a sum of 0xffff must stay 0xffff (RFC 1624 3, the corner case)."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header4(saddr: int, daddr: int, proto: int, length: int) -> int:
    """The sum over the IPv4 pseudo header, to start csum() with. RFC 9293 3.1, RFC 768."""
    return (saddr >> 16) + (saddr & 0xFFFF) + (daddr >> 16) + (daddr & 0xFFFF) + proto + length


def pseudo_header6(saddr: int, daddr: int, proto: int, length: int) -> int:
    """The sum over the IPv6 pseudo header. RFC 8200 8.1. Whole addresses are multiples of words, so they add as they are."""
    return saddr + daddr + length + proto
