"""_signal: handlers are the process's; they run in its main task between system calls. Source: signal in the Python manual."""

from __future__ import annotations

import signal as _kn_host
from typing import Any

from kubenet.userland.process import IGNORE, SIGNAL_NAMES
from kubenet.userland.shims import proc, sys_

SIG_DFL, SIG_IGN = 0, 1
SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2
ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF = 0, 1, 2
NSIG = 65
ItimerError = OSError
_NUMBERS = {f"SIG{name}": number for number, name in SIGNAL_NAMES.items()} | {"SIGRTMIN": 34, "SIGRTMAX": 64, "SIGCLD": 17,
                                                                             "SIGPOLL": 29, "SIGIOT": 6}


def default_int_handler(signalnum: int, frame: Any, /) -> None:
    raise KeyboardInterrupt


def _table() -> dict[int, Any]:
    table: dict[int, Any] = proc().extra.setdefault("py_handlers", {2: default_int_handler, 13: SIG_IGN})
    return table


def signal(signalnum: int, handler: Any, /) -> Any:
    """Set the action for a signal; the previous one."""
    p = proc()
    number = int(signalnum)
    if not 1 <= number < NSIG:
        raise ValueError("signal number out of range")
    if p.task is not None and p.task is not _current():
        raise ValueError("signal only works in main thread of the main interpreter")
    if number in (9, 19):
        raise OSError(22, "Invalid argument")
    if not callable(handler) and handler not in (SIG_DFL, SIG_IGN):
        raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
    table = _table()
    old = table.get(number, SIG_DFL)
    table[number] = handler
    if handler == SIG_IGN:
        p.handlers[number] = IGNORE
    elif handler == SIG_DFL:
        p.handlers.pop(number, None)
    else:
        p.handlers[number] = _runner(handler)
    return old


def _current() -> Any:
    from kubenet.sim.task import current

    return current()


def _runner(handler: Any) -> Any:
    def run(number: int) -> None:
        p = proc()
        fd = p.extra.get("wakeup_fd", -1)
        if fd >= 0:
            try:
                p.sys.write(fd, bytes([number]))
            except OSError:
                pass
        handler(number, None)

    return run


def install_defaults() -> None:
    """As CPython starts: SIGINT raises KeyboardInterrupt, SIGPIPE is ignored."""
    p = proc()
    p.handlers[13] = IGNORE
    p.handlers[2] = _runner(default_int_handler)


def getsignal(signalnum: int, /) -> Any:
    return _table().get(int(signalnum), SIG_DFL)


def set_wakeup_fd(fd: int, *, warn_on_full_buffer: bool = True) -> int:
    p = proc()
    old: int = p.extra.get("wakeup_fd", -1)
    p.extra["wakeup_fd"] = fd
    return old


def raise_signal(signalnum: int, /) -> None:
    sys_().kill(proc().pid, int(signalnum))


def pthread_kill(thread: int, signalnum: int, /) -> None:
    sys_().kill(proc().pid, int(signalnum))


def pthread_sigmask(how: int, mask: Any, /) -> set[int]:
    return set()


def sigpending() -> set[int]:
    return set(proc().pending)


def siginterrupt(signalnum: int, flag: bool, /) -> None:
    return None


def pause() -> None:
    sys_().pause(None)


def strsignal(signalnum: int, /) -> str | None:
    return _kn_host.strsignal(signalnum)


def valid_signals() -> set[int]:
    return set(range(1, 32)) | set(range(34, 65))


def alarm(seconds: int, /) -> int:
    left, _ = setitimer(ITIMER_REAL, seconds)
    return int(left + 0.999)


def setitimer(which: int, seconds: float, interval: float = 0.0, /) -> tuple[float, float]:
    """SIGALRM after `seconds`, then every `interval`; what was left of the timer before."""
    p = proc()
    loop = p.container.loop
    old = p.extra.get("itimer")
    left = getitimer(which)
    if old is not None:
        old[0] = False
    if seconds > 0:
        timer = [True, loop.now + int(seconds * 1e9), int(interval * 1e9)]
        p.extra["itimer"] = timer
        loop.call_at(timer[1], _fire, (p, timer))
    else:
        p.extra.pop("itimer", None)
    return left


def _fire(entry: Any) -> None:
    p, timer = entry
    if not timer[0] or p.done:
        return
    p.kill(14)
    if timer[2]:
        timer[1] = p.container.loop.now + timer[2]
        p.container.loop.call_at(timer[1], _fire, entry)
    else:
        timer[0] = False
        p.extra.pop("itimer", None)


def getitimer(which: int, /) -> tuple[float, float]:
    p = proc()
    timer = p.extra.get("itimer")
    if timer is None:
        return (0.0, 0.0)
    return (max(timer[1] - p.container.loop.now, 0) / 1e9, timer[2] / 1e9)


def exports() -> dict[str, Any]:
    """The names of _signal."""
    names = ("SIG_DFL SIG_IGN SIG_BLOCK SIG_UNBLOCK SIG_SETMASK ITIMER_REAL ITIMER_VIRTUAL ITIMER_PROF NSIG ItimerError "
             "default_int_handler signal getsignal set_wakeup_fd raise_signal pthread_kill pthread_sigmask sigpending siginterrupt "
             "pause strsignal valid_signals alarm setitimer getitimer").split()
    return {**{name: globals()[name] for name in names}, **_NUMBERS}
