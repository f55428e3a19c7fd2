"""A process's descriptors: small integers for open files, lowest free one first.

Sources: Linux fs/file.c (alloc_fd(), dup_fd()), open(2), dup(2), getrlimit(2) RLIMIT_NOFILE (1024 soft, 524288 hard).
"""

from __future__ import annotations

import errno
import heapq

from kubenet.kernel.socket.file import File, oserror

RLIMIT_NOFILE = 1024


class FdTable:
    """fd -> File. Closing, or the end of the process, puts the file."""

    __slots__ = ("files", "cloexec", "limit", "_free", "_next")

    def __init__(self, limit: int = RLIMIT_NOFILE) -> None:
        self.files: dict[int, File] = {}
        self.cloexec: dict[int, bool] = {}
        self.limit = limit
        self._free: list[int] = []
        self._next = 0

    def get(self, fd: int) -> File:
        """The open file. Raises EBADF."""
        found = self.files.get(fd)
        if found is None:
            raise oserror(errno.EBADF)
        return found

    def install(self, file: File, lowest: int = 0) -> int:
        """The lowest free descriptor >= `lowest` now points to `file`, whose reference the table takes. Raises EMFILE."""
        fd = self._alloc(lowest)
        self.files[fd] = file
        return fd

    def _alloc(self, lowest: int) -> int:
        if lowest == 0:
            while self._free:
                fd = heapq.heappop(self._free)
                if fd not in self.files:
                    return fd
            while self._next in self.files:
                self._next += 1
            fd = self._next
        else:
            fd = lowest
            while fd in self.files:
                fd += 1
        if fd >= self.limit:
            raise oserror(errno.EMFILE)
        if lowest == 0:
            self._next += 1
        return fd

    def close(self, fd: int) -> None:
        """close(2). Raises EBADF."""
        file = self.files.pop(fd, None)
        if file is None:
            raise oserror(errno.EBADF)
        self.cloexec.pop(fd, None)
        if fd < self._next:
            heapq.heappush(self._free, fd)
        file.put()

    def dup(self, fd: int, lowest: int = 0) -> int:
        """dup(2), F_DUPFD."""
        file = self.get(fd)
        new = self.install(file, lowest)
        file.get()
        return new

    def dup2(self, fd: int, new: int) -> int:
        """dup2(2): `new` points to the same file; what it was before is closed."""
        file = self.get(fd)
        if fd == new:
            return new
        if new < 0 or new >= self.limit:
            raise oserror(errno.EBADF)
        file.get()
        if new in self.files:
            self.close(new)
        self.files[new] = file
        return new

    def fork(self) -> FdTable:
        """A copy for a child process: the same files, each with one reference more."""
        child = FdTable(self.limit)
        for fd, file in self.files.items():
            child.files[fd] = file.get()
        child.cloexec.update(self.cloexec)
        return child

    def close_on_exec(self) -> None:
        """execve(2): descriptors with FD_CLOEXEC go."""
        for fd in [fd for fd, on in self.cloexec.items() if on and fd in self.files]:
            self.close(fd)

    def close_all(self) -> None:
        """The process ends. Linux: exit_files()."""
        for fd in list(self.files):
            self.close(fd)
