"""time: virtual. The zone is UTC. Source: time in the Python manual."""

from __future__ import annotations

import calendar as _kn_calendar
import time as _kn_host
from typing import Any

from kubenet.userland.shims import sys_

struct_time = _kn_host.struct_time
CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID = 0, 1, 2, 3
CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_TAI = 4, 7, 11
timezone, altzone, daylight, tzname = 0, 0, 0, ("UTC", "UTC")


def time_ns() -> int:
    return sys_().time()


def time() -> float:
    return sys_().time() / 1e9


def monotonic_ns() -> int:
    return sys_().now()


def monotonic() -> float:
    return sys_().now() / 1e9


perf_counter, perf_counter_ns = monotonic, monotonic_ns


def process_time() -> float:
    return 0.0


thread_time = process_time


def process_time_ns() -> int:
    return 0


thread_time_ns = process_time_ns


def clock_gettime_ns(clock: int, /) -> int:
    return sys_().time() if clock in (0, 11) else sys_().now()


def clock_gettime(clock: int, /) -> float:
    return clock_gettime_ns(clock) / 1e9


def clock_getres(clock: int, /) -> float:
    return 1e-09


def get_clock_info(name: str) -> Any:
    return _kn_host.get_clock_info(name)  # type: ignore[arg-type]


def sleep(seconds: Any, /) -> None:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    sys_().sleep(max(int(seconds * 1_000_000_000), 1))


def gmtime(seconds: float | None = None, /) -> struct_time:
    return _kn_host.gmtime(sys_().time() // 1_000_000_000 if seconds is None else seconds)


localtime = gmtime


def mktime(t: Any, /) -> float:
    return float(_kn_calendar.timegm(t))


def asctime(t: Any = None, /) -> str:
    return _kn_host.asctime(gmtime() if t is None else t)


def ctime(seconds: float | None = None, /) -> str:
    return _kn_host.asctime(gmtime(seconds))


def strftime(fmt: str, t: Any = None, /) -> str:
    return _kn_host.strftime(fmt.replace("%Z", "UTC").replace("%z", "+0000"), gmtime() if t is None else t)


def strptime(text: str, fmt: str = "%a %b %d %H:%M:%S %Y", /) -> Any:
    from kubenet.userland.world import current_world

    return current_world().load("_strptime")._strptime_time(text, fmt)


def tzset() -> None:
    return None
