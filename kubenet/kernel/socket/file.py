"""Open files: what a descriptor points to.

A File is shared by every descriptor that dup(2) or inheritance made of it, and released with the last one. Sockets, pipes,
epoll sets, event counters and the container's files (userland/vfs.py) are Files; poll, select and epoll know nothing else.
`wait` wakes whenever poll() may answer something new.

Sources: Linux struct file and file_operations, fs/pipe.c (PIPE_BUF 4096, 64 KiB), fs/eventfd.c, poll(2), pipe(7).
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import Any

from kubenet.sim.clock import EventLoop
from kubenet.sim.wait import WaitQueue

POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL, POLLRDHUP = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x2000

O_NONBLOCK = 0o4000
PIPE_SIZE = 65536


def oserror(code: int) -> OSError:
    """The OSError that a failed system call raises, with Linux's words."""
    return OSError(code, os.strerror(code))


class File:
    """One open file description."""

    __slots__ = ("wait", "refs", "nonblock", "name")

    def __init__(self, loop: EventLoop, name: str) -> None:
        self.wait = WaitQueue(loop, name)
        self.refs = 1
        self.nonblock = False
        self.name = name

    def timeout(self) -> int | None:
        """How long a call may wait: 0 with O_NONBLOCK, else for ever."""
        return 0 if self.nonblock else None

    def read(self, size: int) -> bytes:
        """read(2): at least one byte, b"" at the end. Raises EAGAIN, EBADF."""
        raise oserror(errno.EBADF)

    def write(self, data: bytes) -> int:
        """write(2): how many bytes were taken."""
        raise oserror(errno.EBADF)

    def poll(self) -> int:
        """What would not block now, as POLL* bits."""
        return POLLIN | POLLOUT

    def get(self) -> File:
        """One more descriptor points here."""
        self.refs += 1
        return self

    def put(self) -> None:
        """One descriptor less; the last one releases the file. Linux: fput()."""
        self.refs -= 1
        if self.refs == 0:
            self.release()

    def release(self) -> None:
        """Nobody can use the file any more."""


class SocketFile(File):
    """A descriptor's view of a socket. The Sock has the wait queue; this shares it."""

    __slots__ = ("sk",)

    def __init__(self, loop: EventLoop, sk: Any) -> None:
        super().__init__(loop, "socket")
        self.sk = sk
        self.wait = sk.wait

    def read(self, size: int) -> bytes:
        from kubenet.kernel.socket.inet import inet_recvmsg

        data: bytes = inet_recvmsg(self.sk, size, 0, self.timeout())[0]
        return data

    def write(self, data: bytes) -> int:
        from kubenet.kernel.socket.inet import inet_sendmsg

        return inet_sendmsg(self.sk, data, 0, None, self.timeout())

    def poll(self) -> int:
        from kubenet.kernel.socket.inet import sock_poll

        return sock_poll(self.sk)

    def release(self) -> None:
        from kubenet.kernel.socket.inet import inet_release

        inet_release(self.sk)


class _Pipe:
    """The buffer between the two ends."""

    __slots__ = ("chunks", "size", "readers", "writers", "capacity")

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.size = 0
        self.readers = 1
        self.writers = 1
        self.capacity = PIPE_SIZE


class PipeReader(File):
    """pipe(2)'s first descriptor."""

    __slots__ = ("pipe", "peer")

    def __init__(self, loop: EventLoop, pipe: _Pipe) -> None:
        super().__init__(loop, "pipe read")
        self.pipe = pipe
        self.peer: PipeWriter | None = None

    def read(self, size: int) -> bytes:
        pipe = self.pipe
        if not self.wait.until(lambda: pipe.size or not pipe.writers, self.timeout()):
            raise oserror(errno.EAGAIN)
        out = bytearray()
        while pipe.chunks and len(out) < size:
            chunk = pipe.chunks.popleft()
            take = chunk[: size - len(out)]
            out += take
            if len(take) < len(chunk):
                pipe.chunks.appendleft(chunk[len(take) :])
        pipe.size -= len(out)
        if self.peer is not None and out:
            self.peer.wait.wake()
        return bytes(out)

    def poll(self) -> int:
        return (POLLIN if self.pipe.size else 0) | (0 if self.pipe.writers else POLLHUP)

    def release(self) -> None:
        self.pipe.readers -= 1
        if self.peer is not None:
            self.peer.wait.wake()


class PipeWriter(File):
    """pipe(2)'s second descriptor."""

    __slots__ = ("pipe", "peer")

    def __init__(self, loop: EventLoop, pipe: _Pipe, peer: PipeReader) -> None:
        super().__init__(loop, "pipe write")
        self.pipe = pipe
        self.peer = peer
        peer.peer = self

    def write(self, data: bytes) -> int:
        """All of `data` when blocking (pipe(7)); EPIPE when nobody can read it (the caller's process gets SIGPIPE)."""
        pipe, done = self.pipe, 0
        data = bytes(data)
        while done < len(data):
            if not pipe.readers:
                raise oserror(errno.EPIPE)
            if not self.wait.until(lambda: pipe.size < pipe.capacity or not pipe.readers, self.timeout()):
                if done:
                    return done
                raise oserror(errno.EAGAIN)
            if not pipe.readers:
                continue
            chunk = data[done : done + pipe.capacity - pipe.size]
            pipe.chunks.append(chunk)
            pipe.size += len(chunk)
            done += len(chunk)
            self.peer.wait.wake()
        return done

    def poll(self) -> int:
        if not self.pipe.readers:
            return POLLOUT | POLLERR
        return POLLOUT if self.pipe.size < self.pipe.capacity else 0

    def release(self) -> None:
        self.pipe.writers -= 1
        self.peer.wait.wake()


def make_pipe(loop: EventLoop) -> tuple[PipeReader, PipeWriter]:
    """pipe(2): (read end, write end)."""
    pipe = _Pipe()
    reader = PipeReader(loop, pipe)
    return reader, PipeWriter(loop, pipe, reader)


class EventFd(File):
    """eventfd(2): a counter that polls readable while it is not zero."""

    __slots__ = ("count", "semaphore")

    def __init__(self, loop: EventLoop, count: int, semaphore: bool = False) -> None:
        super().__init__(loop, "eventfd")
        self.count = count
        self.semaphore = semaphore

    def read(self, size: int) -> bytes:
        if size < 8:
            raise oserror(errno.EINVAL)
        if not self.wait.until(lambda: self.count, self.timeout()):
            raise oserror(errno.EAGAIN)
        value = 1 if self.semaphore else self.count
        self.count -= value
        return value.to_bytes(8, "little")

    def write(self, data: bytes) -> int:
        if len(data) < 8:
            raise oserror(errno.EINVAL)
        self.count += int.from_bytes(data[:8], "little")
        self.wait.wake()
        return 8

    def poll(self) -> int:
        return (POLLIN if self.count else 0) | POLLOUT
