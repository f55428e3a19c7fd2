"""The watchdog: a program that computes for seconds of host time without any system call is stopped, named by file and line.

Virtual time cannot pass while a program computes, so `while True: pass` would hang the engine. enable(seconds) starts an
interval timer of the host; when it ticks twice inside the same task without a system call in between, Runaway is raised
there. Which call it followed is left in `kills`, for the journal: on the host's clock this depends, in the run it may not.
"""

from __future__ import annotations

import signal
from types import FrameType

from kubenet.sim.task import current_or_none

kills: list[tuple[str, int, str]] = []  # (process label, system calls it had made, file:line)
_last: tuple[str, int] | None = None


class Runaway(Exception):
    """The program ran for too long without a system call."""


def enable(seconds: float) -> None:
    """From now on, until disable(). Main thread only."""
    signal.signal(signal.SIGALRM, _tick)
    signal.setitimer(signal.ITIMER_REAL, seconds / 2, seconds / 2)


def disable() -> None:
    """No program is watched any more."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _tick(_number: int, frame: FrameType | None) -> None:
    global _last
    task = current_or_none()
    proc = task.ctx if task is not None else None
    if proc is None or not hasattr(proc, "sys"):
        _last = None
        return
    seen = (proc.label, proc.sys.calls)
    if seen != _last:
        _last = seen
        return
    _last = None
    where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "?"
    kills.append((proc.label, proc.sys.calls, where))
    raise Runaway(f"{where}: no system call for too long; the program was stopped")
