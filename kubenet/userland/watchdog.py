"""The watchdog: a program that computes for seconds of host time without any system call is stopped, named by file and line.

Virtual time cannot pass while a program computes, so `while True: pass` would hang the engine. enable(seconds) starts an
interval timer of the host; when it ticks twice inside the same task without a system call in between, the process is killed
there, as by SIGKILL: no call of it has an effect any more. So its state is that after its last call, and the run can be repeated:
`kills` tells the engine which process it was and after how many calls, for the journal, and plan() has a replay kill the same
process after the same call, before it computes at all.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import TYPE_CHECKING

from kubenet.sim.task import Killed, current_or_none

if TYPE_CHECKING:
    from kubenet.userland.process import Process

NEVER = -1
SIGKILL = 9

kills: list[tuple[str, int, int, str]] = []  # (process label, when it started, system calls it had made, file:line)
_planned: dict[tuple[str, int], tuple[int, str]] = {}
_last: tuple[str, int, int] | None = None


def enable(seconds: float) -> None:
    """From now on, until disable(). Main thread only."""
    signal.signal(signal.SIGALRM, _tick)
    signal.setitimer(signal.ITIMER_REAL, seconds / 2, seconds / 2)


def disable() -> None:
    """No program is watched any more."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def plan(label: str, started: int, calls: int, where: str) -> None:
    """That process will be stopped when it has made `calls` system calls: a replay of what _tick() did."""
    _planned[(label, started)] = (calls, where)


def planned(label: str, started: int) -> int:
    """After how many calls this process will be stopped; NEVER."""
    return _planned.get((label, started), (NEVER, ""))[0]


def stop(proc: Process, where: str = "") -> None:
    """The process is gone, with a word on its standard error. Raises Killed in it."""
    where = where or _planned.get((proc.label, proc.started), (0, "?"))[1]
    proc.err(f"{proc.argv[0]}: stopped at {where}: it computed for too long without a system call\n")
    proc.terminate(SIGKILL)
    raise Killed()


def _tick(_number: int, frame: FrameType | None) -> None:
    """SIGALRM, in the middle of whatever runs."""
    global _last
    task = current_or_none()
    proc = task.ctx if task is not None else None
    if proc is None or not hasattr(proc, "sys"):
        _last = None
        return
    seen = (proc.label, proc.started, proc.sys.calls)
    if seen != _last:
        _last = seen
        return
    _last = None
    where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "?"
    calls = proc.sys.calls
    kills.append((proc.label, proc.started, calls, where))
    proc.sys.kill_at = NEVER  # the word on its standard error is a call of its own
    stop(proc, where)
