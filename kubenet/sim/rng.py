"""Randomness from the seed, by purpose: a draw for one thing never moves another.

    stream(seed, "node-1", "statistic")     an endless sequence for that host and purpose; its state is 8 bytes
    keyed(seed, "node-1", "isn")            a 64-bit secret, a function of its names
    hash64(key, *ints)                      a keyed hash of integers: ports, ISNs, reuseport, FDB ...

splitmix64 (Steele, Lea, Flood 2014) has the quality for dice and the size for a thousand namespaces; Linux uses SipHash
where we use hash64, for reasons (attackers) that a lab does not have: simplified.
"""

from __future__ import annotations

from hashlib import blake2b

_M64 = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15


def keyed(seed: int, *names: object) -> int:
    """A 64-bit number that depends on the seed and the names alone."""
    text = "\0".join(str(name) for name in names)
    return int.from_bytes(blake2b(f"{seed}\0{text}".encode(), digest_size=8).digest(), "little")


def mix64(z: int) -> int:
    """splitmix64's finalizer: a bijection on 64 bits in which every input bit moves every output bit."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _M64
    return z ^ (z >> 31)


def hash64(key: int, *values: int) -> int:
    """A 64-bit hash of the integers under `key`."""
    h = mix64((key + _GAMMA) & _M64)
    for value in values:
        while True:
            h = mix64((h + _GAMMA + (value & _M64)) & _M64)
            value >>= 64
            if value <= 0:
                break
    return h


class Stream:
    """A deterministic sequence of random numbers."""

    __slots__ = ("state",)

    def __init__(self, state: int) -> None:
        self.state = state

    def bits64(self) -> int:
        """The next 64 random bits."""
        self.state = (self.state + _GAMMA) & _M64
        return mix64(self.state)

    def u32(self) -> int:
        """The next 32 random bits (Linux: get_random_u32())."""
        return self.bits64() >> 32

    def below(self, n: int) -> int:
        """0 <= result < n (Linux: get_random_u32_below(), reciprocal_scale())."""
        return ((self.bits64() >> 32) * n) >> 32

    def between(self, low: int, high: int) -> int:
        """low <= result <= high."""
        return low + self.below(high - low + 1)

    def unit(self) -> float:
        """0 <= result < 1; for people and impairments, never for time."""
        return (self.bits64() >> 11) / (1 << 53)

    def bytes(self, n: int) -> bytes:
        """n random bytes."""
        return b"".join(self.bits64().to_bytes(8, "little") for _ in range(-(-n // 8)))[:n]


def stream(seed: int, *names: object) -> Stream:
    """The sequence for these names, from its beginning."""
    return Stream(keyed(seed, *names))
