"""select: select(), poll() and epoll() over the kernel's. Source: select in the Python manual."""

from __future__ import annotations

import errno
from typing import Any

from kubenet.userland.shims import proc, sys_

error = OSError
POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL, POLLRDHUP = 1, 2, 4, 8, 16, 32, 0x2000
POLLRDNORM, POLLRDBAND, POLLWRNORM, POLLWRBAND, POLLMSG = 64, 128, 256, 512, 1024
EPOLLIN, EPOLLPRI, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP = 1, 2, 4, 8, 16, 0x2000
EPOLLRDNORM, EPOLLRDBAND, EPOLLWRNORM, EPOLLWRBAND, EPOLLMSG = 64, 128, 256, 512, 1024
EPOLLEXCLUSIVE, EPOLLONESHOT, EPOLLET, EPOLL_CLOEXEC, PIPE_BUF = 1 << 28, 1 << 30, 1 << 31, 0o2000000, 4096


def _fd(thing: Any) -> int:
    if isinstance(thing, int):
        fd = thing
    else:
        if not hasattr(thing, "fileno"):
            raise TypeError("argument must be an int, or have a fileno() method.")
        fd = thing.fileno()
    if fd < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({fd})")
    return fd


def _ns(seconds: Any) -> int | None:
    return None if seconds is None or seconds < 0 else int(seconds * 1e9)


def select(rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None, /) -> tuple[list[Any], list[Any], list[Any]]:
    """select(2)."""
    if timeout is not None and timeout < 0:
        raise ValueError("timeout must be non-negative")
    reads, writes, others = list(rlist), list(wlist), list(xlist)
    wanted: dict[int, int] = {}
    for things, mask in ((reads, POLLIN), (writes, POLLOUT), (others, POLLPRI)):
        for thing in things:
            fd = _fd(thing)
            sys_().file(fd)
            wanted[fd] = wanted.get(fd, 0) | mask
    ready = dict(_poll(list(wanted.items()), None if timeout is None else int(timeout * 1e9)))
    return ([t for t in reads if ready.get(_fd(t), 0) & (POLLIN | POLLHUP | POLLERR)],
            [t for t in writes if ready.get(_fd(t), 0) & (POLLOUT | POLLERR)],
            [t for t in others if ready.get(_fd(t), 0) & POLLPRI])


def _poll(wanted: list[tuple[int, int]], limit: int | None) -> list[tuple[int, int]]:
    """poll(2), again after a signal with the time that is left (PEP 475)."""
    sys = sys_()
    end = None if limit is None else sys.loop.now + limit
    while True:
        found = sys.poll(wanted, limit)
        if found or limit == 0 or (end is not None and sys.loop.now >= end):
            return found
        limit = None if end is None else end - sys.loop.now


class _Poll:
    """select.poll()."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = POLLIN | POLLPRI | POLLOUT, /) -> None:
        self._wanted[_fd(fd)] = eventmask

    def modify(self, fd: Any, eventmask: int, /) -> None:
        if _fd(fd) not in self._wanted:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        self._wanted[_fd(fd)] = eventmask

    def unregister(self, fd: Any, /) -> None:
        del self._wanted[_fd(fd)]

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        return _poll(list(self._wanted.items()), None if timeout is None or timeout < 0 else int(timeout * 1e6))


poll = _Poll  # a class, so that it may be an attribute of one (selectors.py does that) without becoming a method


class epoll:  # noqa: N801
    """select.epoll()."""

    def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
        self._proc = proc()
        self._fd = self._proc.sys.epoll_create()

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def fileno(self) -> int:
        if self._fd < 0:
            raise ValueError("I/O operation on closed epoll object")
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            if not self._proc.dead and not self._proc.done:
                self._proc.sys.close(fd)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0 and not self._proc.done:
            self.close()

    def register(self, fd: Any, eventmask: int = EPOLLIN | EPOLLPRI | EPOLLOUT) -> None:
        self._proc.sys.epoll_ctl(self.fileno(), 1, _fd(fd), eventmask)

    def unregister(self, fd: Any) -> None:
        try:
            self._proc.sys.epoll_ctl(self.fileno(), 2, _fd(fd), 0)
        except OSError as problem:
            if problem.errno != errno.EBADF:
                raise

    def modify(self, fd: Any, eventmask: int) -> None:
        self._proc.sys.epoll_ctl(self.fileno(), 3, _fd(fd), eventmask)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        if maxevents == -1:
            maxevents = 1023
        return self._proc.sys.epoll_wait(self.fileno(), maxevents, _ns(timeout))


def exports() -> dict[str, Any]:
    """The names of select."""
    from kubenet.userland.shims import select_

    out = {k: v for k, v in vars(select_).items() if k.isupper() or k in ("error", "select", "poll", "epoll")}
    out.pop("TYPE_CHECKING", None)
    return out
