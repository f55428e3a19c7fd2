"""Units. Time is int nanoseconds and sizes are bytes everywhere; these are the factors and their texts."""

from __future__ import annotations

import re

NSEC = 1
USEC = 1_000
MSEC = 1_000_000
SEC = 1_000_000_000

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

_UNITS = {"ns": 1, "us": USEC, "µs": USEC, "ms": MSEC, "s": SEC, "m": 60 * SEC, "h": 3600 * SEC, "d": 86400 * SEC}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:bit|bps|b/s|bit/s)?", re.IGNORECASE)


def parse_duration(text: str) -> int:
    """Nanoseconds for "1.5s", "200ms", "1m30s" or a bare "0". Raises ValueError."""
    text = text.strip()
    if text == "0":
        return 0
    total, at = 0, 0
    for part in _PART.finditer(text):
        if part.start() != at:
            break
        whole, _, digits = part[1].partition(".")
        unit = _UNITS[part[2]]
        total += int(whole) * unit + (int(digits) * unit // 10 ** len(digits) if digits else 0)
        at = part.end()
    if not text or at != len(text):
        raise ValueError(f"{text!r} is not a duration; write it like 5s, 200ms or 1m30s")
    return total


def parse_rate(text: str) -> int:
    """Bits per second for "1gbit", "100Mbit", "10k"; 0 means no limit. Raises ValueError."""
    found = _RATE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not a rate; write it like 10mbit or 1gbit")
    return int(float(found[1]) * {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}[found[2].lower()])


def format_ns(ns: int) -> str:
    """Seconds with six decimals, as virtual time is printed: "1.204310s"."""
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    return f"{sign}{ns // SEC}.{ns % SEC // USEC:06d}s"


def format_age(ns: int) -> str:
    """An age as kubectl prints it: 12s, 3m4s, 5h, 2d (apimachinery's HumanDuration)."""
    s = ns // SEC
    if s < 0:
        return "0s"
    if s < 120:
        return f"{s}s"
    m, s = s // 60, s % 60
    if m < 10:
        return f"{m}m{s}s" if s else f"{m}m"
    if m < 180:
        return f"{m}m"
    h, m = m // 60, m % 60
    if h < 8:
        return f"{h}h{m}m" if m else f"{h}h"
    if h < 48:
        return f"{h}h"
    d, h = h // 24, h % 24
    if d < 8:
        return f"{d}d{h}h" if h else f"{d}d"
    if d < 730:
        return f"{d}d"
    y, d = d // 365, d % 365
    return f"{y}y{d}d" if d and y < 8 else f"{y}y"
