"""The system calls of a process: what native programs call as `proc.sys.*`, and what the Python shims are made of.

Files, sockets, pipes and poll go to kernel/socket, paths to the container's file system, processes to the container. Addresses
are ("10.48.1.5", 80) here and ints below. Timeouts are ns, None waits for ever.

Every call that returns leaves a ledger line (now, "sys", task, call, result): counts and errors, never payload. A program that
makes CALLS_PER_USEC calls at one instant is charged 1 us, so a loop over non-blocking calls makes time pass. A signal
interrupts a waiting call: its handler runs, then the call goes on with the time that is left (SA_RESTART); in a process that
is being killed no call has any effect any more, so `finally:` blocks of a SIGKILLed program send nothing.

Sources: the man pages (section 2) of each call; signal(7).
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from kubenet.kernel.socket.epoll import EpollFile, do_poll
from kubenet.kernel.socket.file import EventFd, File, SocketFile, make_pipe, oserror
from kubenet.sim.task import Killed, current_or_none
from kubenet.sim.wait import WaitQueue, wait_any
from kubenet.sim.wait import sleep as sim_sleep
from kubenet.units import USEC
from kubenet.userland import watchdog
from kubenet.userland.vfs import O_NONBLOCK, Dir, OpenFile, SocketNode, Symlink, normpath, stat_tuple
from kubenet.wire.addr import ip4, ip4_text, ip6, ip6_text

if TYPE_CHECKING:
    from kubenet.userland.process import Process

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET = 1, 2, 10, 16, 17
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = 1, 2, 3
SOCK_NONBLOCK, SOCK_CLOEXEC = 0o4000, 0o2000000
IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP = 1, 6, 17
SHUT_RD, SHUT_WR, SHUT_RDWR = 0, 1, 2
SOL_SOCKET, SO_REUSEADDR, SO_ERROR, SO_BROADCAST = 1, 2, 4, 6

CALLS_PER_USEC = 1000

SIGPIPE, SIGCHLD = 13, 17

F = TypeVar("F", bound=Callable[..., Any])


class SignalInterrupt(BaseException):
    """Raised in a task that waits when a signal with a handler arrives; the system call layer catches it."""


def syscall(fn: F) -> F:
    """Account for a call, deliver signals around it, and restart it after one."""
    return _wrap(fn, False)


def timed(fn: F) -> F:
    """As syscall, for a call whose last argument is a timeout: a restart waits only for what is left of it."""
    return _wrap(fn, True)


def _wrap(fn: F, has_timeout: bool) -> F:
    name = fn.__name__

    @functools.wraps(fn)
    def call(self: Sys, *args: Any) -> Any:
        if self.proc.dead:
            raise Killed()
        began = self.loop.now
        if self.tracer is not None:
            self.tracer.enter(self.proc, name, args)
        given = args
        while True:
            try:
                result = fn(self, *args)
            except SignalInterrupt:
                self.deliver()
                if name == "poll":
                    return []  # never restarted (signal(7)); simplified: an early time-out instead of EINTR
                if has_timeout and args and args[-1]:
                    spent = self.loop.now - began
                    args, began = (*args[:-1], max(args[-1] - spent, 0)), self.loop.now
                continue
            except OSError as error:
                if self.tracer is not None:
                    self.tracer.leave(self.proc, name, given, None, error)
                self._leave(name, -(error.errno or errno.EIO))
                raise
            if self.tracer is not None:
                self.tracer.leave(self.proc, name, given, result, None)
            self._leave(name, _size(result))
            return result

    return call  # type: ignore[return-value]


def _size(result: Any) -> int:
    """What the ledger keeps of a result: a number."""
    if isinstance(result, int):
        return result
    if isinstance(result, (bytes, list)):
        return len(result)
    if isinstance(result, tuple) and result:
        return _size(result[0])
    return 0


class Sys:
    """System calls on behalf of one process. All raise OSError with Linux's errno."""

    __slots__ = ("proc", "loop", "calls", "errno", "results", "tracer", "kill_at", "_instant", "_at_instant")

    def __init__(self, proc: Process) -> None:
        self.proc = proc
        self.loop = proc.container.loop
        self.calls = 0
        self.errno = 0  # of the last call that failed
        self.results: dict[str, int] = {}  # call -> sum of what it returned: bytes, for those that move bytes
        self.tracer: Any = None  # an strace that watches
        self.kill_at = watchdog.planned(proc.label, proc.started)
        self._instant = -1
        self._at_instant = 0

    # ---- accounting and signals -------------------------------------------------------------------------------------

    def _leave(self, name: str, result: int) -> None:
        task = current_or_none()
        now = self.loop.now
        self.loop.ledger.add((now, "sys", task.name if task is not None else self.proc.label, name, result))
        if result >= 0:
            self.results[name] = self.results.get(name, 0) + result
        else:
            self.errno = -result
            self.results.setdefault(name, 0)
        if task is not None:
            self.tick()
            if self.proc.pending and task is self.proc.task:
                self.deliver()

    def tick(self) -> None:
        """One more call at this instant; each CALLS_PER_USEC of them cost 1 us."""
        self.calls += 1
        if self.calls == self.kill_at:
            self.kill_at = watchdog.NEVER
            watchdog.stop(self.proc)
        if self._instant != self.loop.now:
            self._instant, self._at_instant = self.loop.now, 0
        self._at_instant += 1
        if self._at_instant >= CALLS_PER_USEC and current_or_none() is not None:
            self._at_instant = 0
            try:
                sim_sleep(self.loop, USEC)
            except SignalInterrupt:
                self.deliver()

    def deliver(self) -> None:
        """Run the handlers of pending signals, in the main task."""
        pending = self.proc.pending
        while pending:
            number = pending.pop(0)
            handler = self.proc.handlers.get(number)
            if callable(handler):
                handler(number)

    # ---- files ------------------------------------------------------------------------------------------------------

    def file(self, fd: int) -> File:
        """The open file behind a descriptor. Raises EBADF."""
        return self.proc.fds.get(fd)

    @syscall
    def open(self, path: str, flags: int = 0, perm: int = 0o644) -> int:
        """open(2)."""
        proc = self.proc
        special = proc.container.open_special(proc, path)
        if special is not None:
            return proc.fds.install(special)
        file = proc.vfs.open(self.loop, path, flags, perm & ~proc.umask, proc.cwd)
        file.nonblock = bool(flags & O_NONBLOCK)
        file.random = proc.urandom
        return proc.fds.install(file)

    @syscall
    def read(self, fd: int, size: int) -> bytes:
        """read(2)."""
        file = self.file(fd)
        if isinstance(file, OpenFile) and isinstance(file.node, Dir):
            raise oserror(errno.EISDIR)
        return file.read(size)

    @syscall
    def write(self, fd: int, data: bytes) -> int:
        """write(2). EPIPE comes with SIGPIPE."""
        try:
            return self.file(fd).write(data)
        except OSError as error:
            if error.errno == errno.EPIPE:
                self.proc.kill(SIGPIPE)
                if self.proc.dead:
                    raise Killed()
            raise

    def write_all(self, fd: int, data: bytes) -> None:
        """Write until all of it is taken."""
        while data:
            data = data[self.write(fd, data) :]

    def read_all(self, fd: int) -> bytes:
        """Read until the end."""
        out = bytearray()
        while chunk := self.read(fd, 65536):
            out += chunk
        return bytes(out)

    @syscall
    def close(self, fd: int) -> int:
        """close(2)."""
        self.proc.fds.close(fd)
        return 0

    @syscall
    def dup(self, fd: int, lowest: int = 0) -> int:
        """dup(2), fcntl(F_DUPFD)."""
        return self.proc.fds.dup(fd, lowest)

    @syscall
    def dup2(self, fd: int, new: int) -> int:
        """dup2(2)."""
        return self.proc.fds.dup2(fd, new)

    @syscall
    def pipe(self) -> tuple[int, int]:
        """pipe(2): (read end, write end)."""
        reader, writer = make_pipe(self.loop)
        return self.proc.fds.install(reader), self.proc.fds.install(writer)

    @syscall
    def eventfd(self, count: int = 0) -> int:
        """eventfd(2)."""
        return self.proc.fds.install(EventFd(self.loop, count))

    @syscall
    def lseek(self, fd: int, offset: int, whence: int) -> int:
        """lseek(2)."""
        file = self.file(fd)
        if not isinstance(file, OpenFile):
            raise oserror(errno.ESPIPE)
        return file.seek(offset, whence)

    @syscall
    def ftruncate(self, fd: int, size: int) -> int:
        """ftruncate(2)."""
        file = self.file(fd)
        if not isinstance(file, OpenFile):
            raise oserror(errno.EINVAL)
        file.truncate(size)
        return 0

    @syscall
    def stat(self, path: str, follow: bool = True) -> tuple[Any, ...]:
        """stat(2), lstat(2): the ten numbers of os.stat_result."""
        proc = self.proc
        return stat_tuple(proc.vfs, proc.vfs.lookup(path, proc.cwd, follow))

    @syscall
    def fstat(self, fd: int) -> tuple[Any, ...]:
        """fstat(2)."""
        file = self.file(fd)
        if isinstance(file, OpenFile):
            return stat_tuple(self.proc.vfs, file.node)
        kind = 0o140000 if isinstance(file, SocketFile) else 0o020000 if file.name == "tty" else 0o010000
        return (kind | 0o600, 0, 64, 1, 0, 0, 0, 0, 0, 0)

    @syscall
    def listdir(self, path: str) -> list[str]:
        """getdents64(2): the names, sorted."""
        return self.proc.vfs.listdir(path, self.proc.cwd)

    @syscall
    def mkdir(self, path: str, perm: int = 0o777) -> int:
        """mkdir(2)."""
        self.proc.vfs.mkdir(path, self.proc.cwd, perm & ~self.proc.umask)
        return 0

    @syscall
    def rmdir(self, path: str) -> int:
        """rmdir(2)."""
        self.proc.vfs.rmdir(path, self.proc.cwd)
        return 0

    @syscall
    def unlink(self, path: str) -> int:
        """unlink(2)."""
        self.proc.vfs.unlink(path, self.proc.cwd)
        return 0

    @syscall
    def rename(self, old: str, new: str) -> int:
        """rename(2)."""
        self.proc.vfs.rename(old, new, self.proc.cwd)
        return 0

    @syscall
    def symlink(self, target: str, path: str) -> int:
        """symlink(2)."""
        self.proc.vfs.symlink(target, path, self.proc.cwd)
        return 0

    @syscall
    def readlink(self, path: str) -> str:
        """readlink(2)."""
        node = self.proc.vfs.lookup(path, self.proc.cwd, follow=False)
        if not isinstance(node, Symlink):
            raise oserror(errno.EINVAL)
        return node.target

    @syscall
    def chmod(self, path: str, perm: int) -> int:
        """chmod(2)."""
        self.proc.vfs.chmod(path, perm, self.proc.cwd)
        return 0

    @syscall
    def chdir(self, path: str) -> int:
        """chdir(2)."""
        proc = self.proc
        if not isinstance(proc.vfs.lookup(path, proc.cwd), Dir):
            raise oserror(errno.ENOTDIR)
        proc.cwd = normpath(path, proc.cwd)
        return 0

    # ---- waiting ----------------------------------------------------------------------------------------------------

    @timed
    def poll(self, wanted: Sequence[tuple[int, int]], timeout: int | None = None) -> list[tuple[int, int]]:
        """poll(2): the (fd, revents) that are ready, [] after `timeout` ns."""
        files = self.proc.fds.files
        return do_poll([(fd, files.get(fd), events) for fd, events in wanted], timeout)

    @syscall
    def epoll_create(self) -> int:
        """epoll_create1(2)."""
        return self.proc.fds.install(EpollFile(self.loop))

    def _epoll(self, epfd: int) -> EpollFile:
        file = self.file(epfd)
        if not isinstance(file, EpollFile):
            raise oserror(errno.EINVAL)
        return file

    @syscall
    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int) -> int:
        """epoll_ctl(2)."""
        file = self.file(fd)
        if isinstance(file, OpenFile):
            raise oserror(errno.EPERM)
        self._epoll(epfd).ctl(op, fd, file, events)
        return 0

    @timed
    def epoll_wait(self, epfd: int, maxevents: int, timeout: int | None = None) -> list[tuple[int, int]]:
        """epoll_wait(2)."""
        return self._epoll(epfd).epoll_wait(maxevents, timeout)

    @timed
    def sleep(self, ns: int) -> int:
        """nanosleep(2)."""
        if ns > 0:
            sim_sleep(self.loop, ns)
        return 0

    @timed
    def wait_on(self, queue: WaitQueue, predicate: Callable[[], object], timeout: int | None = None) -> bool:
        """futex(2) in spirit: until predicate() holds, False after `timeout` ns."""
        return queue.until(predicate, timeout)

    @timed
    def pause(self, timeout: int | None = None) -> int:
        """pause(2), sigtimedwait(2): until a signal handler has run, or the time is over."""
        had = self.proc.signals_seen
        wait_any((self.proc.signal_wait,), lambda: self.proc.signals_seen != had, timeout)
        return 0

    # ---- sockets ----------------------------------------------------------------------------------------------------

    @syscall
    def socket(self, family: int, kind: int, proto: int = 0) -> int:
        """socket(2)."""
        proc = self.proc
        sk = make_sock(proc, family, kind & 0xF, proto)
        file = SocketFile(self.loop, sk)
        file.nonblock = bool(kind & SOCK_NONBLOCK)
        return proc.fds.install(file)

    def sock(self, fd: int) -> Any:
        """The Sock behind a descriptor. Raises EBADF, ENOTSOCK."""
        file = self.file(fd)
        if not isinstance(file, SocketFile):
            raise oserror(errno.ENOTSOCK)
        return file.sk

    def _limit(self, fd: int, timeout: int | None) -> int | None:
        return 0 if self.file(fd).nonblock else timeout

    @syscall
    def socketpair(self, kind: int = SOCK_STREAM) -> tuple[int, int]:
        """socketpair(2) of the unix family."""
        from kubenet.kernel.socket import unix

        a, b = unix.unix_socketpair(self.proc.net, kind & 0xF)
        return (self.proc.fds.install(SocketFile(self.loop, a)), self.proc.fds.install(SocketFile(self.loop, b)))

    @syscall
    def bind(self, fd: int, addr: Any) -> int:
        """bind(2)."""
        from kubenet.kernel.socket import inet

        sk = self.sock(fd)
        if sk.family == AF_UNIX:
            self._unix_bind(sk, addr)
        else:
            inet.inet_bind(sk, to_kernel(sk.family, addr))
        return 0

    def _unix_bind(self, sk: Any, path: str) -> None:
        """The name of a unix socket is a node of the file system; abstract names (first byte 0) are not."""
        from kubenet.kernel.socket.unix import unix_bind

        proc = self.proc
        full = path if path.startswith("\0") else normpath(path, proc.cwd)
        if not path.startswith("\0"):
            if proc.vfs.exists(path, proc.cwd):
                raise oserror(errno.EADDRINUSE)
            unix_bind(sk, f"{proc.container.name}:{full}")
            proc.vfs.put(path, SocketNode(), proc.cwd)
        else:
            unix_bind(sk, full)

    def _unix_name(self, path: str) -> str:
        """The kernel's key of a unix address: paths belong to the container, abstract names to the network namespace."""
        if path.startswith("\0"):
            return path
        node = self.proc.vfs.lookup(path, self.proc.cwd)
        if not isinstance(node, SocketNode):
            raise oserror(errno.ECONNREFUSED)
        return f"{self.proc.container.name}:{normpath(path, self.proc.cwd)}"

    @syscall
    def listen(self, fd: int, backlog: int = 128) -> int:
        """listen(2)."""
        from kubenet.kernel.socket import inet

        inet.inet_listen(self.sock(fd), backlog)
        return 0

    @timed
    def accept(self, fd: int, timeout: int | None = None) -> tuple[int, Any]:
        """accept(2): (descriptor, peer's address)."""
        from kubenet.kernel.socket import inet

        listener = self.sock(fd)
        fds = self.proc.fds
        if len(fds.files) >= fds.limit:
            raise oserror(errno.EMFILE)  # before a connection is taken off the queue
        sk = inet.inet_accept(listener, self._limit(fd, timeout))
        return fds.install(SocketFile(self.loop, sk)), self._name(sk, 2)

    def _name(self, sk: Any, peer: int) -> Any:
        """getsockname() or getpeername() of any family."""
        from kubenet.kernel.socket import inet

        if sk.family == AF_UNIX:
            owner = sk.peer if peer else sk
            if owner is None:
                raise oserror(errno.ENOTCONN)
            return owner.path.partition(":")[2] if ":" in owner.path else owner.path
        return from_kernel(sk.family, inet.inet_getname(sk, peer))

    @timed
    def connect(self, fd: int, addr: Any, timeout: int | None = None) -> int:
        """connect(2)."""
        from kubenet.kernel.socket import inet

        sk = self.sock(fd)
        if sk.family == AF_UNIX:
            from kubenet.kernel.socket.unix import unix_connect

            unix_connect(sk, self._unix_name(addr))
        else:
            inet.inet_connect(sk, to_kernel(sk.family, addr), self._limit(fd, timeout))
        return 0

    @timed
    def send(self, fd: int, data: bytes, flags: int = 0, timeout: int | None = None) -> int:
        """send(2)."""
        return self._sendmsg(fd, data, flags, None, timeout)

    @timed
    def sendto(self, fd: int, data: bytes, addr: Any, flags: int = 0, timeout: int | None = None) -> int:
        """sendto(2)."""
        family = self.sock(fd).family
        target = self._unix_name(addr) if family == AF_UNIX else to_kernel(family, addr)
        return self._sendmsg(fd, data, flags, target, timeout)

    def _sendmsg(self, fd: int, data: bytes, flags: int, addr: Any, timeout: int | None) -> int:
        from kubenet.kernel.socket import inet

        try:
            return inet.inet_sendmsg(self.sock(fd), data, flags & ~MSG_NOSIGNAL, addr, self._limit(fd, timeout))
        except OSError as error:
            if error.errno == errno.EPIPE and not flags & MSG_NOSIGNAL:
                self.proc.kill(SIGPIPE)
                if self.proc.dead:
                    raise Killed()
            raise

    def send_all(self, fd: int, data: bytes, timeout: int | None = None) -> None:
        """send(2) until all of it is taken."""
        view = memoryview(data)
        while view:
            view = view[self.send(fd, view, 0, timeout) :]  # type: ignore[arg-type]

    @timed
    def recv(self, fd: int, size: int, flags: int = 0, timeout: int | None = None) -> bytes:
        """recv(2)."""
        from kubenet.kernel.socket import inet

        data: bytes = inet.inet_recvmsg(self.sock(fd), size, flags, self._limit(fd, timeout))[0]
        return data

    @timed
    def recvfrom(self, fd: int, size: int, flags: int = 0, timeout: int | None = None) -> tuple[bytes, Any]:
        """recvfrom(2): (data, sender)."""
        from kubenet.kernel.socket import inet

        sk = self.sock(fd)
        data, addr = inet.inet_recvmsg(sk, size, flags, self._limit(fd, timeout))
        return data, from_kernel(sk.family, addr)

    @syscall
    def shutdown(self, fd: int, how: int) -> int:
        """shutdown(2)."""
        from kubenet.kernel.socket import inet

        inet.inet_shutdown(self.sock(fd), how)
        return 0

    @syscall
    def setsockopt(self, fd: int, level: int, option: int, value: int | bytes) -> int:
        """setsockopt(2)."""
        from kubenet.kernel.socket import inet

        inet.sock_setsockopt(self.sock(fd), level, option, value)
        return 0

    @syscall
    def getsockopt(self, fd: int, level: int, option: int) -> int | bytes:
        """getsockopt(2)."""
        from kubenet.kernel.socket import inet

        return inet.sock_getsockopt(self.sock(fd), level, option)

    @syscall
    def getsockname(self, fd: int) -> Any:
        """getsockname(2)."""
        return self._name(self.sock(fd), False)

    @syscall
    def getpeername(self, fd: int) -> Any:
        """getpeername(2)."""
        return self._name(self.sock(fd), True)

    # ---- processes and time -----------------------------------------------------------------------------------------

    @syscall
    def spawn(self, argv: list[str], fds: dict[int, int], env: dict[str, str], cwd: str) -> int:
        """posix_spawn(3): a child with the descriptors {its: ours}; its pid. Raises ENOENT, EACCES, ENOEXEC."""
        return self.proc.container.spawn_child(self.proc, argv, fds, env, cwd).pid

    def waitpid(self, pid: int = -1, nohang: bool = False, timeout: int | None = None) -> tuple[int, int]:
        """wait4(2) as a shell sees it: (pid, exit code, 128 + n for a signal)."""
        found, code, _ = self.wait4(pid, nohang, timeout)
        return found, code

    @timed
    def wait4(self, pid: int = -1, nohang: bool = False, timeout: int | None = None) -> tuple[int, int, int]:
        """wait4(2): (pid, exit code, signal it died of or 0), a zombie less; zeros with WNOHANG. Raises ECHILD."""
        proc = self.proc

        def ready() -> Process | None:
            return next((c for c in proc.children if c.done and (pid == -1 or c.pid == pid)), None)

        if not any(pid == -1 or c.pid == pid for c in proc.children):
            raise oserror(errno.ECHILD)
        if ready() is None and not nohang:
            wait_any((proc.child_wait,), ready, timeout)
        child = ready()
        if child is None:
            return 0, 0, 0
        proc.children.remove(child)
        proc.container.reap(child)
        return child.pid, child.exit_code, child.signaled

    @syscall
    def kill(self, pid: int, number: int) -> int:
        """kill(2). Raises ESRCH."""
        target = self.proc.container.processes.get(pid)
        if target is None:
            raise oserror(errno.ESRCH)
        if number and not target.done:
            target.kill(number)
        if self.proc.dead:
            raise Killed()
        return 0

    def now(self) -> int:
        """CLOCK_MONOTONIC, ns."""
        self.tick()
        return self.loop.now

    def time(self) -> int:
        """CLOCK_REALTIME, ns since 1970."""
        self.tick()
        return self.proc.container.epoch + self.loop.now


MSG_PEEK, MSG_DONTWAIT, MSG_WAITALL, MSG_NOSIGNAL = 2, 0x40, 0x100, 0x4000


def make_sock(proc: Process, family: int, kind: int, proto: int) -> Any:
    """A kernel socket of that kind. Raises EAFNOSUPPORT, EPROTONOSUPPORT."""
    if family in (AF_INET, AF_INET6):
        from kubenet.kernel.socket import inet

        return inet.sock_create(proc.net, family, kind, proto, proc.uid)
    if family == AF_UNIX:
        from kubenet.kernel.socket import unix

        return unix.unix_create(proc.net, kind)
    raise oserror(errno.EAFNOSUPPORT)


def to_kernel(family: int, addr: Any) -> Any:
    """("10.0.0.1", 80) -> (int, 80); "" is the wildcard, a number stays."""
    if family == AF_UNIX or addr is None:
        return addr
    host, port = addr[0], addr[1]
    if isinstance(host, str):
        if family == AF_INET6:
            host = ip6(host.partition("%")[0]) if host else 0
        else:
            host = 0xFFFFFFFF if host == "<broadcast>" else ip4(host) if host else 0
    return host, port


def from_kernel(family: int, addr: Any) -> Any:
    """(int, 80) -> ("10.0.0.1", 80); four elements for IPv6, as getpeername() gives."""
    if addr is None:
        return addr
    if family == AF_UNIX:
        return addr.partition(":")[2] if ":" in addr else addr
    host, port = addr[0], addr[1]
    if family == AF_INET6:
        return ip6_text(host), port, 0, 0
    return ip4_text(host), port
