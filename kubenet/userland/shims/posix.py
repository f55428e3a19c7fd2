"""posix: what os.py is written over. File names, descriptors, processes and the environment are the container's.

fork, exec* and everything else that would reach the host raise OSError(ENOSYS). Source: os in the Python manual, Linux man 2.
"""

from __future__ import annotations

import errno
import os as host
import stat as _stat
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kubenet.userland.process import Exit
from kubenet.userland.shims import proc, sys_
from kubenet.userland.vfs import Dir, Symlink, stat_tuple

if TYPE_CHECKING:
    from kubenet.userland.world import World

_CONSTANTS = ("O_ EX_ F_OK R_OK W_OK X_OK WNOHANG WUNTRACED WCONTINUED WEXITED WSTOPPED WNOWAIT P_ PRIO_ SCHED_ SEEK_ RTLD_ GRND_ "
              "POSIX_SPAWN EFD_ ST_ RWF_ NGROUPS_MAX TMP_MAX CLD_ MFD_ F_LOCK F_TEST F_ULOCK F_TLOCK").split()


def _text(path: Any) -> str:
    raw = host.fspath(path)
    text = raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else raw
    if "\0" in text:
        raise ValueError("embedded null byte")
    return text


def _named(path: Any, call: Any, *args: Any) -> Any:
    """The call, its OSError naming the path as C functions do."""
    try:
        return call(*args)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


# ---- files ----------------------------------------------------------------------------------------------------------


def open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: Any = None) -> int:
    fd: int = _named(path, sys_().open, _text(path), flags, mode)
    return fd


def read(fd: int, size: int, /) -> bytes:
    return sys_().read(fd, size)


def write(fd: int, data: Any, /) -> int:
    return sys_().write(fd, bytes(data))


def readv(fd: int, buffers: Any, /) -> int:
    data = sys_().read(fd, sum(len(b) for b in buffers))
    at = 0
    for buffer in buffers:
        part = data[at : at + len(buffer)]
        buffer[: len(part)] = part
        at += len(part)
    return len(data)


def writev(fd: int, buffers: Any, /) -> int:
    return sys_().write(fd, b"".join(bytes(b) for b in buffers))


def close(fd: int) -> None:
    sys_().close(fd)


def closerange(low: int, high: int, /) -> None:
    for fd in [fd for fd in proc().fds.files if low <= fd < high]:
        sys_().close(fd)


def lseek(fd: int, offset: int, whence: int, /) -> int:
    return sys_().lseek(fd, offset, whence)


def ftruncate(fd: int, length: int, /) -> None:
    sys_().ftruncate(fd, length)


def fsync(fd: Any) -> None:
    sys_().file(fd if isinstance(fd, int) else fd.fileno())


def isatty(fd: int, /) -> bool:
    file = proc().fds.files.get(fd)
    return file is not None and file.name == "tty"


def stat(path: Any, *, dir_fd: Any = None, follow_symlinks: bool = True) -> host.stat_result:
    if isinstance(path, int):
        return fstat(path)
    return host.stat_result(_named(path, sys_().stat, _text(path), follow_symlinks))


def lstat(path: Any, *, dir_fd: Any = None) -> host.stat_result:
    return stat(path, follow_symlinks=False)


def fstat(fd: int) -> host.stat_result:
    return host.stat_result(sys_().fstat(fd))


def access(path: Any, mode: int, **_: Any) -> bool:
    try:
        row = sys_().stat(_text(path))
    except OSError:
        return False
    return not mode & 1 or _stat.S_ISDIR(row[0]) or bool(row[0] & 0o111)


def listdir(path: Any = ".") -> list[Any]:
    names = _named(path, sys_().listdir, _text(path if path is not None else "."))
    return [name.encode("utf-8", "surrogateescape") for name in names] if isinstance(path, bytes) else names


class DirEntry:
    """An entry of scandir()."""

    def __init__(self, folder: str, name: str, node: Any) -> None:
        self.name = name
        self.path = name if folder == "." else f"{folder.rstrip('/')}/{name}"
        self._node = node

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return _stat.S_ISDIR(self._mode(follow_symlinks))

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return _stat.S_ISREG(self._mode(follow_symlinks))

    def _mode(self, follow: bool) -> int:
        try:
            return self.stat(follow_symlinks=follow).st_mode
        except OSError:
            return 0

    def is_symlink(self) -> bool:
        return isinstance(self._node, Symlink)

    def stat(self, *, follow_symlinks: bool = True) -> host.stat_result:
        if follow_symlinks and isinstance(self._node, Symlink):
            return stat(self.path)
        return host.stat_result(stat_tuple(proc().vfs, self._node))

    def inode(self) -> int:
        return proc().vfs.ino(self._node)

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


class _ScandirIterator:
    def __init__(self, entries: list[DirEntry]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> DirEntry:
        return next(self._entries)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


def scandir(path: Any = None) -> _ScandirIterator:
    folder = _text(path if path is not None else ".")
    names = listdir(folder)
    node = proc().vfs.lookup(folder, proc().cwd)
    assert isinstance(node, Dir)
    return _ScandirIterator([DirEntry(folder, name, node.get(name)) for name in names])


def mkdir(path: Any, mode: int = 0o777, *, dir_fd: Any = None) -> None:
    _named(path, sys_().mkdir, _text(path), mode)


def rmdir(path: Any, *, dir_fd: Any = None) -> None:
    _named(path, sys_().rmdir, _text(path))


def unlink(path: Any, *, dir_fd: Any = None) -> None:
    _named(path, sys_().unlink, _text(path))


remove = unlink


def rename(src: Any, dst: Any, **_: Any) -> None:
    _named(src, sys_().rename, _text(src), _text(dst))


replace = rename


def symlink(src: Any, dst: Any, target_is_directory: bool = False, **_: Any) -> None:
    _named(dst, sys_().symlink, _text(src), _text(dst))


def readlink(path: Any, **_: Any) -> str:
    target: str = _named(path, sys_().readlink, _text(path))
    return target


def chmod(path: Any, mode: int, **_: Any) -> None:
    _named(path, sys_().chmod, _text(path), mode)


def chown(path: Any, uid: int, gid: int, **_: Any) -> None:
    _named(path, sys_().stat, _text(path))


def utime(path: Any, times: Any = None, *, ns: Any = None, **_: Any) -> None:
    when = ns[1] if ns else int(times[1] * 1e9) if times else sys_().time()
    _named(path, proc().vfs.utime, _text(path), when, proc().cwd)


def truncate(path: Any, length: int) -> None:
    fd = open(path, 1)
    ftruncate(fd, length)
    close(fd)


def getcwd() -> str:
    return proc().cwd


def getcwdb() -> bytes:
    return proc().cwd.encode()


def chdir(path: Any) -> None:
    _named(path, sys_().chdir, _text(path))


def umask(mask: int, /) -> int:
    p = proc()
    old, p.umask = p.umask, mask
    return old


def pipe() -> tuple[int, int]:
    return sys_().pipe()


def pipe2(flags: int, /) -> tuple[int, int]:
    ends = sys_().pipe()
    for fd in ends:
        set_blocking(fd, not flags & 0o4000)
    return ends


def dup(fd: int, /) -> int:
    return sys_().dup(fd)


def dup2(fd: int, fd2: int, inheritable: bool = True) -> int:
    return sys_().dup2(fd, fd2)


def eventfd(initval: int, flags: int = 0) -> int:
    return sys_().eventfd(initval)


def eventfd_read(fd: int) -> int:
    return int.from_bytes(sys_().read(fd, 8), "little")


def eventfd_write(fd: int, value: int) -> None:
    sys_().write(fd, value.to_bytes(8, "little"))


def get_blocking(fd: int, /) -> bool:
    return not sys_().file(fd).nonblock


def set_blocking(fd: int, blocking: bool, /) -> None:
    sys_().file(fd).nonblock = not blocking


def get_inheritable(fd: int, /) -> bool:
    return not proc().fds.cloexec.get(fd, True)


def set_inheritable(fd: int, inheritable: int, /) -> None:
    sys_().file(fd)
    proc().fds.cloexec[fd] = not inheritable


def get_terminal_size(fd: int = 1, /) -> host.terminal_size:
    file = proc().fds.files.get(fd)
    if file is None or file.name != "tty":
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")
    return host.terminal_size((file.cols, file.rows))  # type: ignore[attr-defined]


def device_encoding(fd: int) -> str | None:
    return "UTF-8" if isatty(fd) else None


# ---- processes ------------------------------------------------------------------------------------------------------


def getpid() -> int:
    return proc().pid


def getppid() -> int:
    return proc().ppid


def getuid() -> int:
    return proc().uid


geteuid = getgid = getegid = getuid


def getgroups() -> list[int]:
    return [proc().uid]


def getpgid(pid: int) -> int:
    return pid or proc().pid


def getpgrp() -> int:
    return proc().pid


def getsid(pid: int, /) -> int:
    return 1


def setsid() -> None:
    return None


def setpgid(pid: int, group: int, /) -> None:
    return None


def setuid(uid: int, /) -> None:
    proc().uid = uid


def setgid(gid: int, /) -> None:
    return None


def nice(increment: int, /) -> int:
    return 0


def kill(pid: int, signal: int, /) -> None:
    sys_().kill(pid, int(signal))


def killpg(pgid: int, signal: int, /) -> None:
    sys_().kill(pgid, int(signal))


def _exit(status: int) -> None:
    raise Exit(status)


def abort() -> None:
    p = proc()
    p.terminate(6)
    p.sys.now()
    raise Exit(134)


def waitpid(pid: int, options: int, /) -> tuple[int, int]:
    found, code, signal = sys_().wait4(pid, bool(options & host.WNOHANG), None)
    return found, signal if signal else code << 8


def wait() -> tuple[int, int]:
    return waitpid(-1, 0)


def system(command: str) -> int:
    p = proc()
    pid = p.sys.spawn(["/bin/sh", "-c", command], {fd: fd for fd in (0, 1, 2) if fd in p.fds.files}, _env(), p.cwd)
    return waitpid(pid, 0)[1]


def _env() -> dict[str, str]:
    world = proc().world
    module = world.modules.get("os")
    return dict(module.environ) if module is not None else dict(proc().env)


def posix_spawn(path: Any, argv: Any, env: Any, **_: Any) -> int:
    p = proc()
    table = {_text(k): _text(v) for k, v in dict(env).items()}
    return p.sys.spawn([_text(path), *map(_text, list(argv)[1:])], {fd: fd for fd in (0, 1, 2) if fd in p.fds.files}, table, p.cwd)


posix_spawnp = posix_spawn


def _refused(name: str) -> Any:
    def call(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSYS, f"Function not implemented ({name}() is not available in a kubenet pod; "
                                    "subprocess and os.posix_spawn are)")

    call.__name__ = name
    return call


# ---- the machine ----------------------------------------------------------------------------------------------------


def uname() -> host.uname_result:
    p = proc()
    return host.uname_result(("Linux", p.container.hostname, p.container.host.kernel_release, "#1 SMP PREEMPT_DYNAMIC", "x86_64"))


def urandom(size: int, /) -> bytes:
    return proc().urandom(size)


def getrandom(size: int, flags: int = 0) -> bytes:
    return proc().urandom(size)


def cpu_count() -> int:
    return proc().container.host.cpus


def sched_getaffinity(pid: int, /) -> set[int]:
    return set(range(cpu_count()))


def sched_yield() -> None:
    sys_().sleep(1)


def getloadavg() -> tuple[float, float, float]:
    return (0.0, 0.0, 0.0)


def times() -> host.times_result:
    seconds = sys_().now() / 1e9
    return host.times_result((0.0, 0.0, 0.0, 0.0, seconds))


def sysconf(name: Any, /) -> int:
    return {"SC_PAGE_SIZE": 4096, "SC_PAGESIZE": 4096, "SC_NPROCESSORS_ONLN": cpu_count(), "SC_CLK_TCK": 100,
            "SC_IOV_MAX": 1024, "SC_OPEN_MAX": proc().fds.limit}.get(name, -1)


def confstr(name: Any, /) -> str:
    raise ValueError("unrecognized configuration name")


def getlogin() -> str:
    raise OSError(errno.ENXIO, "No such device or address")


def ctermid() -> str:
    return "/dev/tty"


def putenv(name: Any, value: Any, /) -> None:
    proc().env[_text(name)] = _text(value)


def unsetenv(name: Any, /) -> None:
    proc().env.pop(_text(name), None)


def register_at_fork(**_: Any) -> None:
    return None


def make_posix(world: World) -> ModuleType:
    """A module `posix` for the world."""
    module = ModuleType("posix")
    table = module.__dict__
    for name in vars(host):
        if any(name == c or (c.endswith("_") and name.startswith(c)) for c in _CONSTANTS):
            table[name] = getattr(host, name)
    for name in ("WIFEXITED WEXITSTATUS WIFSIGNALED WTERMSIG WIFSTOPPED WSTOPSIG WCOREDUMP WIFCONTINUED fspath strerror stat_result "
                 "terminal_size uname_result times_result waitstatus_to_exitcode major minor makedev").split():
        if hasattr(host, name):
            table[name] = getattr(host, name)
    ours = globals()
    hidden = ("host", "errno", "proc", "sys_", "ModuleType", "Any", "TYPE_CHECKING", "Exit", "Dir", "Symlink", "stat_tuple",
              "make_posix", "annotations")
    for name, value in ours.items():
        if name not in hidden and (name == "_exit" or not name.startswith("_")):
            table[name] = value
    for name in ("fork", "forkpty", "execv", "execve", "chroot", "link", "mkfifo", "mknod", "openpty"):
        table[name] = _refused(name)
    table["error"] = OSError
    table["environ"] = {k.encode("utf-8", "surrogateescape"): v.encode("utf-8", "surrogateescape")
                        for k, v in world.proc.env.items()}
    table["_have_functions"] = []
    table["sysconf_names"] = {}
    return module
