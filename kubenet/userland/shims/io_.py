"""io and _io: FileIO and open() over the process's files; buffers and text layers are the host's C classes.

A C buffer object is guarded by a lock that knows threads of the host, not tasks: two tasks of one process that are inside the
same buffered object at once, because its raw file blocks, get RuntimeError("reentrant call"). simplified.

Source: the io module of the Python manual.
"""

from __future__ import annotations

import _io as _kn_host
import errno
import io as _kn_io
import os as _kn_os
from typing import TYPE_CHECKING, Any

from kubenet.sim.task import current_or_none
from kubenet.userland.shims import proc, sys_
from kubenet.userland.vfs import O_APPEND, O_CLOEXEC, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY

if TYPE_CHECKING:
    from kubenet.userland.process import Process

_IOBase, _RawIOBase, _BufferedIOBase, _TextIOBase = (
    _kn_host._IOBase, _kn_host._RawIOBase, _kn_host._BufferedIOBase, _kn_host._TextIOBase)


class FileIO(_kn_host._RawIOBase):
    """A raw file over a descriptor of the process."""

    def __init__(self, file: Any, mode: str = "r", closefd: bool = True, opener: Any = None) -> None:
        self._fd = -1
        self._proc = proc()
        flags = _flags(mode)
        self._readable = "r" in mode or "+" in mode
        self._writable = mode[0] in "wax" or "+" in mode
        self._closefd = closefd
        self.mode = {"r": "rb", "w": "wb", "a": "ab", "x": "xb"}[mode.replace("b", "")[0]] + ("+" if "+" in mode else "")
        if isinstance(file, int) and not isinstance(file, bool):
            if file < 0:
                raise ValueError("negative file descriptor")
            self._fd = file
            self._proc.sys.file(file)
        else:
            if not closefd:
                raise ValueError("Cannot use closefd=False with file name")
            self._fd = opener(file, flags) if opener is not None else _open(file, flags)
        self.name = file
        if "a" in mode:
            try:
                self.seek(0, 2)
            except OSError:
                pass

    @property
    def closefd(self) -> bool:
        return self._closefd

    @property
    def _blksize(self) -> int:
        return 8192

    def fileno(self) -> int:
        self._check()
        return self._fd

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def readable(self) -> bool:
        self._check()
        return self._readable

    def writable(self) -> bool:
        self._check()
        return self._writable

    def seekable(self) -> bool:
        self._check()
        return hasattr(self._proc.fds.get(self._fd), "pos")

    def isatty(self) -> bool:
        self._check()
        return self._proc.fds.get(self._fd).name == "tty"

    def read(self, size: Any = -1) -> bytes | None:
        self._check()
        if not self._readable:
            raise _kn_host.UnsupportedOperation("File not open for reading")
        if size is None or size < 0:
            return self.readall()
        try:
            return self._proc.sys.read(self._fd, size)
        except BlockingIOError:
            return None

    def readall(self) -> bytes:
        self._check()
        return self._proc.sys.read_all(self._fd)

    def readinto(self, buffer: Any) -> int | None:
        self._check()
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        if data is None:
            return None
        view[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int | None:
        self._check()
        if not self._writable:
            raise _kn_host.UnsupportedOperation("File not open for writing")
        if self._proc.done or current_or_none() is None:  # a buffer that the collector flushes, when nobody can wait
            return len(data)
        try:
            return self._proc.sys.write(self._fd, bytes(data))
        except BlockingIOError:
            return None

    def seek(self, offset: int, whence: int = 0) -> int:
        self._check()
        return self._proc.sys.lseek(self._fd, offset, whence)

    def tell(self) -> int:
        self._check()
        return self._proc.sys.lseek(self._fd, 0, 1)

    def truncate(self, size: int | None = None) -> int:
        self._check()
        size = self.tell() if size is None else size
        self._proc.sys.ftruncate(self._fd, size)
        return size

    def close(self) -> None:
        if self.closed:
            return
        try:
            super().close()
        finally:
            if self._closefd and self._fd >= 0 and not self._proc.dead and not self._proc.done:
                self._proc.sys.close(self._fd)

    def __repr__(self) -> str:
        if self.closed:
            return "<_io.FileIO [closed]>"
        return f"<_io.FileIO name={self.name!r} mode={self.mode!r} closefd={self._closefd}>"


FileIO.__module__ = "_io"


def _flags(mode: str) -> int:
    kinds = [c for c in mode if c in "rwax"]
    if len(kinds) != 1 or mode.count("+") > 1 or any(c not in "rwaxb+" for c in mode):
        raise ValueError(f"invalid mode: {mode}")
    access = O_RDWR if "+" in mode else O_RDONLY if kinds[0] == "r" else O_WRONLY
    extra = {"r": 0, "w": O_CREAT | O_TRUNC, "a": O_CREAT | O_APPEND, "x": O_CREAT | O_EXCL}[kinds[0]]
    return access | extra | O_CLOEXEC


def _open(file: Any, flags: int) -> int:
    path = _kn_os.fspath(file)
    text = path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path
    if "\0" in text:
        raise ValueError("embedded null byte")
    try:
        fd = sys_().open(text, flags, 0o666)
    except OSError as error:
        raise OSError(error.errno, error.strerror, file) from None
    from kubenet.userland.vfs import Dir, OpenFile

    opened = proc().fds.get(fd)
    if isinstance(opened, OpenFile) and isinstance(opened.node, Dir):
        sys_().close(fd)
        raise IsADirectoryError(errno.EISDIR, _kn_os.strerror(errno.EISDIR), file)
    return fd


def open(
    file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None,
    newline: str | None = None, closefd: bool = True, opener: Any = None,
) -> Any:
    """open() of the Python manual."""
    if not isinstance(file, int):
        file = _kn_os.fspath(file)
    if not isinstance(mode, str):
        raise TypeError(f"open() argument 'mode' must be str, not {type(mode).__name__}")
    binary = "b" in mode
    raw_mode = mode.replace("t", "").replace("b", "")
    if "t" in mode and binary:
        raise ValueError("can't have text and binary mode at once")
    _flags(raw_mode)
    if binary and (encoding is not None or errors is not None or newline is not None):
        name = "encoding" if encoding is not None else "errors" if errors is not None else "newline"
        raise ValueError(f"binary mode doesn't take a{'n' if name[0] in 'ae' else ''} {name} argument")
    raw: Any = FileIO(file, raw_mode, closefd, opener)
    try:
        line_buffering = buffering == 1 or (buffering < 0 and raw.isatty())
        if buffering == 0:
            if binary:
                return raw
            raise ValueError("can't have unbuffered text I/O")
        size = buffering if buffering > 1 else DEFAULT_BUFFER_SIZE
        buffer: Any
        if "+" in mode:
            buffer = BufferedRandom(raw, size)
        elif raw.writable():
            buffer = BufferedWriter(raw, size)
        else:
            buffer = BufferedReader(raw, size)
        if binary:
            return buffer
        text = TextIOWrapper(buffer, encoding if encoding not in (None, "locale") else "utf-8", errors, newline, line_buffering)
        text.mode = mode  # type: ignore[misc]
        return text
    except BaseException:
        raw.close()
        raise


open.__module__ = "_io"


def open_code(path: Any) -> Any:
    """io.open_code()."""
    return open(path, "rb")


def text_encoding(encoding: Any, stacklevel: int = 2, /) -> Any:
    """io.text_encoding()."""
    return "utf-8" if encoding is None else encoding


def open_std(owner: Process, fd: int) -> Any:
    """sys.stdin, stdout or stderr; None if the descriptor is closed. Buffered as CPython does: stdout by line on terminals only."""
    if fd not in owner.fds.files:
        return None
    raw: Any = FileIO.__new__(FileIO)
    raw._fd, raw._proc, raw._closefd, raw.name = fd, owner, False, f"<{('stdin', 'stdout', 'stderr')[fd]}>"
    raw._readable, raw._writable, raw.mode = fd == 0, fd != 0, "rb" if fd == 0 else "wb"
    unbuffered = bool(owner.env.get("PYTHONUNBUFFERED")) or owner.extra.get("unbuffered", False)
    errors = "backslashreplace" if fd == 2 else "surrogateescape"
    if fd == 0:
        return TextIOWrapper(BufferedReader(raw), "utf-8", errors)
    line = fd == 2 or owner.fds.files[fd].name == "tty"
    out = TextIOWrapper(BufferedWriter(raw), "utf-8", errors, line_buffering=line, write_through=unbuffered)
    if unbuffered:
        out.reconfigure(line_buffering=True)
    out.mode = "w"  # type: ignore[misc]
    return out


BytesIO, StringIO = _kn_host.BytesIO, _kn_host.StringIO
BufferedReader, BufferedWriter, BufferedRandom, BufferedRWPair = (
    _kn_host.BufferedReader, _kn_host.BufferedWriter, _kn_host.BufferedRandom, _kn_host.BufferedRWPair)
TextIOWrapper, IncrementalNewlineDecoder = _kn_host.TextIOWrapper, _kn_host.IncrementalNewlineDecoder
BlockingIOError, UnsupportedOperation = BlockingIOError, _kn_host.UnsupportedOperation  # noqa: F811
DEFAULT_BUFFER_SIZE = _kn_host.DEFAULT_BUFFER_SIZE
SEEK_SET, SEEK_CUR, SEEK_END = 0, 1, 2


def exports() -> dict[str, Any]:
    """The names of io."""
    host = _kn_io
    return {
        **{name: globals()[name] for name in (
            "FileIO open open_code text_encoding BytesIO StringIO BufferedReader BufferedWriter BufferedRandom BufferedRWPair "
            "TextIOWrapper IncrementalNewlineDecoder BlockingIOError UnsupportedOperation DEFAULT_BUFFER_SIZE SEEK_SET SEEK_CUR "
            "SEEK_END _IOBase _RawIOBase _BufferedIOBase _TextIOBase").split()},
        "IOBase": host.IOBase, "RawIOBase": host.RawIOBase, "BufferedIOBase": host.BufferedIOBase, "TextIOBase": host.TextIOBase,
        "__all__": list(host.__all__),
    }


_kn_io.RawIOBase.register(FileIO)
