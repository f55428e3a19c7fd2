"""poll(2), select(2) and epoll(7).

poll looks at every file each time it wakes. An epoll set instead has a callback on each file's wait queue that puts it on a
ready list, so epoll_wait costs what is ready, never what is watched. Level-triggered entries stay on the list while poll()
still answers; edge-triggered ones (EPOLLET) leave it until the next wake; EPOLLONESHOT disables after one report.

Sources: Linux fs/select.c, fs/eventpoll.c (ep_poll_callback(), ep_send_events()), epoll_ctl(2).
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from kubenet.kernel.socket.file import POLLERR, POLLHUP, POLLIN, POLLNVAL, File, oserror
from kubenet.sim.clock import EventLoop
from kubenet.sim.wait import wait_any

EPOLLEXCLUSIVE, EPOLLWAKEUP, EPOLLONESHOT, EPOLLET = 1 << 28, 1 << 29, 1 << 30, 1 << 31
EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD = 1, 2, 3
_ALWAYS = POLLERR | POLLHUP


def do_poll(wanted: Sequence[tuple[int, File | None, int]], timeout: int | None) -> list[tuple[int, int]]:
    """poll(2) on (fd, file or None if not open, events): the (fd, revents) that are ready, [] after `timeout` ns."""

    def ready() -> list[tuple[int, int]]:
        out = []
        for fd, file, events in wanted:
            mask = POLLNVAL if file is None else file.poll() & (events | _ALWAYS)
            if mask:
                out.append((fd, mask))
        return out

    found = ready()
    if found or timeout == 0:
        return found
    queues = [file.wait for _, file, _ in wanted if file is not None]
    wait_any(queues, ready, timeout)
    return ready()


class _Item:
    """One watched descriptor. Linux: struct epitem."""

    __slots__ = ("set", "fd", "file", "events", "listed")

    def __init__(self, owner: EpollFile, fd: int, file: File, events: int) -> None:
        self.set = owner
        self.fd = fd
        self.file = file
        self.events = events
        self.listed = False

    def wake(self) -> None:
        """The file's wait queue woke. Linux: ep_poll_callback()."""
        if not self.listed and self.events & ~(EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE):
            if self.file.poll() & (self.events | _ALWAYS):
                self.listed = True
                self.set.ready.append(self)
                self.set.wait.wake()


class EpollFile(File):
    """An epoll set. Its descriptor polls readable while something in it is ready, so sets can be nested."""

    __slots__ = ("items", "ready")

    def __init__(self, loop: EventLoop) -> None:
        super().__init__(loop, "epoll")
        self.items: dict[int, _Item] = {}
        self.ready: list[_Item] = []

    def ctl(self, op: int, fd: int, file: File, events: int) -> None:
        """epoll_ctl(2). Raises EEXIST, ENOENT, EINVAL."""
        if file is self:
            raise oserror(errno.EINVAL)
        item = self.items.get(fd)
        if item is not None and item.file is not file:  # the descriptor was closed and reused
            self._drop(item)
            item = None
        if op == EPOLL_CTL_ADD:
            if item is not None:
                raise oserror(errno.EEXIST)
            item = self.items[fd] = _Item(self, fd, file, events)
            file.wait.add(item.wake)
            item.wake()
        elif item is None:
            raise oserror(errno.ENOENT)
        elif op == EPOLL_CTL_MOD:
            item.events = events
            item.wake()
        elif op == EPOLL_CTL_DEL:
            self._drop(item)
        else:
            raise oserror(errno.EINVAL)

    def _drop(self, item: _Item) -> None:
        item.file.wait.remove(item.wake)
        del self.items[item.fd]
        if item.listed:
            self.ready.remove(item)

    def epoll_wait(self, maxevents: int, timeout: int | None) -> list[tuple[int, int]]:
        """epoll_wait(2): up to `maxevents` (fd, events); [] after `timeout` ns. Raises EINVAL."""
        if maxevents <= 0:
            raise oserror(errno.EINVAL)
        if not self._any_ready():
            if timeout == 0:
                return []
            self.wait.until(self._any_ready, timeout)
        return self._send_events(maxevents)

    def _any_ready(self) -> bool:
        return bool(self.poll())

    def _send_events(self, maxevents: int) -> list[tuple[int, int]]:
        """Take from the ready list; level-triggered entries go back to its end. Linux: ep_send_events()."""
        out: list[tuple[int, int]] = []
        batch, self.ready = self.ready, []
        for at, item in enumerate(batch):
            if len(out) == maxevents:
                self.ready = batch[at:] + self.ready
                break
            item.listed = False
            if item.file.refs <= 0:
                if self.items.get(item.fd) is item:
                    del self.items[item.fd]
                continue
            mask = item.file.poll() & (item.events | _ALWAYS) & 0xFFFF
            if not mask:
                continue
            out.append((item.fd, mask))
            if item.events & EPOLLONESHOT:
                item.events &= EPOLLET | EPOLLONESHOT
            elif not item.events & EPOLLET:
                item.listed = True
                self.ready.append(item)
        return out

    def poll(self) -> int:
        for item in self.ready:
            if item.file.refs > 0 and item.file.poll() & (item.events | _ALWAYS) & 0xFFFF:
                return POLLIN
        return 0

    def release(self) -> None:
        for item in list(self.items.values()):
            item.file.wait.remove(item.wake)
        self.items.clear()
        self.ready.clear()
