"""Sequence numbers that never wrap.

The wire has 32 bits; a socket keeps plain ints that only grow, so that `seq < tp.snd_nxt` is what it says and windows, queues
and scoreboards are ordinary arithmetic. A wire value becomes one of them once per segment, as the number nearest to
one that is known (a window is far below 2^31), and goes back with `& M32` when a header is written.

    seq = extend(th.seq, tp.rcv_nxt)          th = TcpHdr(..., tp.snd_nxt & M32, ...)

simplified: Linux compares modulo 2^32 with before() and after(); for numbers within 2^31 of each other, and all others are
refused, both say the same. RFC 9293 3.4.
"""

from __future__ import annotations

M32 = 0xFFFF_FFFF
HALF = 0x8000_0000


def extend(wire: int, near: int) -> int:
    """The number that is `wire` modulo 2^32 and within 2^31 of `near`."""
    return near + ((wire - near + HALF) & M32) - HALF


def before(a: int, b: int) -> bool:
    """For wire values: a comes before b modulo 2^32. RFC 9293 3.4."""
    return (a - b) & M32 >= HALF


def between(low: int, a: int, high: int) -> bool:
    """low <= a <= high, all extended."""
    return low <= a <= high
