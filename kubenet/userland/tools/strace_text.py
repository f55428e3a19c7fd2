"""How strace writes a system call: `connect(3, {sa_family=AF_INET, sin_port=htons(80), ...}, 16) = 0`.

A form gives two texts: what is known when the call begins, and what the call filled in. Calls that have another name on x86-64 Linux are
printed under it (recv() is recvfrom, open() is openat). What exists only here, because a call does the work of several, is printed as
it is: listdir("/etc"). Source: strace 6.1's output; names and numbers from the uapi headers.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any

from kubenet.units import MSEC, SEC
from kubenet.userland.process import SIGNAL_NAMES

NAMES = {"recv": "recvfrom", "send": "sendto", "open": "openat", "stat": "newfstatat", "sleep": "clock_nanosleep", "pipe": "pipe2",
         "epoll_create": "epoll_create1", "spawn": "vfork", "fstat": "newfstatat", "wait_on": "futex", "eventfd": "eventfd2"}
GROUPS: dict[str, tuple[str, ...]] = {
    "network": ("socket", "socketpair", "bind", "listen", "accept", "connect", "sendto", "recvfrom", "shutdown", "setsockopt",
                "getsockopt", "getsockname", "getpeername"),
    "desc": ("read", "write", "close", "dup", "dup2", "pipe2", "eventfd2", "lseek", "ftruncate", "poll", "epoll_create1", "epoll_ctl",
             "epoll_wait", "openat", "newfstatat"),
    "file": ("openat", "newfstatat", "listdir", "mkdir", "rmdir", "unlink", "rename", "symlink", "readlink", "chmod", "chdir", "execve"),
    "process": ("vfork", "execve", "wait4", "exit_group", "kill"),
    "signal": ("kill", "pause"),
    "memory": (), "ipc": (),
}
KNOWN = frozenset(name for names in GROUPS.values() for name in names) | {"clock_nanosleep", "futex"}

_FAMILIES = {0: "AF_UNSPEC", 1: "AF_UNIX", 2: "AF_INET", 10: "AF_INET6", 16: "AF_NETLINK", 17: "AF_PACKET"}
_TYPES = {1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 5: "SOCK_SEQPACKET"}
_PROTOCOLS = {0: "IPPROTO_IP", 1: "IPPROTO_ICMP", 6: "IPPROTO_TCP", 17: "IPPROTO_UDP", 58: "IPPROTO_ICMPV6", 132: "IPPROTO_SCTP",
              255: "IPPROTO_RAW"}
_LEVELS = {0: "SOL_IP", 1: "SOL_SOCKET", 6: "SOL_TCP", 17: "SOL_UDP", 41: "SOL_IPV6", 255: "SOL_RAW"}
_OPTIONS: dict[int, dict[int, str]] = {
    1: {1: "SO_DEBUG", 2: "SO_REUSEADDR", 3: "SO_TYPE", 4: "SO_ERROR", 5: "SO_DONTROUTE", 6: "SO_BROADCAST", 7: "SO_SNDBUF", 8: "SO_RCVBUF",
        9: "SO_KEEPALIVE", 10: "SO_OOBINLINE", 13: "SO_LINGER", 15: "SO_REUSEPORT", 18: "SO_RCVLOWAT", 20: "SO_RCVTIMEO_OLD",
        21: "SO_SNDTIMEO_OLD", 25: "SO_BINDTODEVICE", 29: "SO_TIMESTAMP_OLD", 30: "SO_ACCEPTCONN", 36: "SO_MARK", 38: "SO_PROTOCOL",
        39: "SO_DOMAIN"},
    0: {1: "IP_TOS", 2: "IP_TTL", 3: "IP_HDRINCL", 8: "IP_PKTINFO", 10: "IP_MTU_DISCOVER", 11: "IP_RECVERR", 14: "IP_MTU",
        15: "IP_FREEBIND", 19: "IP_TRANSPARENT", 24: "IP_BIND_ADDRESS_NO_PORT", 80: "SO_ORIGINAL_DST"},
    6: {1: "TCP_NODELAY", 2: "TCP_MAXSEG", 3: "TCP_CORK", 4: "TCP_KEEPIDLE", 5: "TCP_KEEPINTVL", 6: "TCP_KEEPCNT", 7: "TCP_SYNCNT",
        8: "TCP_LINGER2", 9: "TCP_DEFER_ACCEPT", 10: "TCP_WINDOW_CLAMP", 11: "TCP_INFO", 12: "TCP_QUICKACK", 13: "TCP_CONGESTION",
        18: "TCP_USER_TIMEOUT", 23: "TCP_FASTOPEN", 25: "TCP_NOTSENT_LOWAT"},
    41: {26: "IPV6_V6ONLY"},
}
_MSG = ((1, "MSG_OOB"), (2, "MSG_PEEK"), (0x20, "MSG_TRUNC"), (0x40, "MSG_DONTWAIT"), (0x100, "MSG_WAITALL"), (0x4000, "MSG_NOSIGNAL"),
        (0x8000, "MSG_MORE"), (0x2000, "MSG_ERRQUEUE"))
_POLL = ((1, "POLLIN"), (2, "POLLPRI"), (4, "POLLOUT"), (8, "POLLERR"), (0x10, "POLLHUP"), (0x20, "POLLNVAL"), (0x2000, "POLLRDHUP"))
_EPOLL_OPS = {1: "EPOLL_CTL_ADD", 2: "EPOLL_CTL_DEL", 3: "EPOLL_CTL_MOD"}
_OPEN = ((0o100, "O_CREAT"), (0o200, "O_EXCL"), (0o1000, "O_TRUNC"), (0o2000, "O_APPEND"), (0o4000, "O_NONBLOCK"),
         (0o200000, "O_DIRECTORY"), (0o2000000, "O_CLOEXEC"))
_HOW = {0: "SHUT_RD", 1: "SHUT_WR", 2: "SHUT_RDWR"}
_WHENCE = {0: "SEEK_SET", 1: "SEEK_CUR", 2: "SEEK_END"}
_KINDS = {0o140000: "S_IFSOCK", 0o120000: "S_IFLNK", 0o100000: "S_IFREG", 0o040000: "S_IFDIR", 0o020000: "S_IFCHR", 0o010000: "S_IFIFO"}
_ESCAPES = {9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}

Args = Sequence[Any]
Form = tuple[Callable[["Writer", Args], str], Callable[["Writer", Args, Any], str]]


def flags(value: int, names: Sequence[tuple[int, str]], prefix: str = "") -> str:
    """A|B|0x40 of a number; 0 is "0"."""
    out = []
    for bit, name in names:
        if value & bit == bit:
            out.append(name)
            value &= ~bit
    if value:
        out.append(hex(value))
    return "|".join(out) or "0"


class Writer:
    """Forms with the options that concern them: -s (longest text), -v."""

    def __init__(self, longest: int = 32) -> None:
        self.longest = longest

    def begin(self, name: str, args: Args) -> str:
        """What is printed when the call begins: its name and what it is given."""
        form = FORMS.get(name)
        if form is None:
            return f"{NAMES.get(name, name)}({', '.join(self.plain(arg) for arg in args)}"
        given = form[0](self, args)
        return f"{NAMES.get(name, name)}({given}{', ' if given and form[1] is not _nothing else ''}"

    def end(self, name: str, args: Args, result: Any, error: OSError | None) -> str:
        """What is added when it returns, before the bracket. Of a call that failed, what it would have filled in is "..."."""
        form = FORMS.get(name)
        if form is None:
            return ""
        text = form[1](self, args, result) if error is None else OUT_ARGS[name](args) if name in OUT_ARGS else ""
        return text.removeprefix(", ")

    def plain(self, value: Any) -> str:
        """An argument of a call without a form."""
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self.text(bytes(value))
        return self.path(value) if isinstance(value, str) else "NULL" if value is None else str(value)

    def path(self, value: str) -> str:
        """A path, never cut."""
        return '"' + "".join(_escape(byte) for byte in value.encode("utf-8", "surrogateescape")) + '"'

    def text(self, data: bytes) -> str:
        """Bytes in quotes, "..." behind what is longer than -s says. An octal escape before a digit has three places."""
        shown, out = data[: self.longest], []
        for i, byte in enumerate(shown):
            following = shown[i + 1] if i + 1 < len(shown) else 0
            out.append(f"\\{byte:03o}" if not (32 <= byte < 127 or byte in _ESCAPES) and 48 <= following < 58 else _escape(byte))
        return '"' + "".join(out) + '"' + ("..." if len(data) > self.longest else "")

    def stat(self, found: Any) -> str:
        mode = found[0]
        kind = _KINDS.get(mode & 0o170000, oct(mode & 0o170000))
        size = f", st_size={found[6]}" if kind not in ("S_IFCHR", "S_IFIFO", "S_IFSOCK") else ""
        return f"{{st_mode={kind}|0{mode & 0o7777:o}{size}, ...}}"


def _escape(byte: int) -> str:
    return _ESCAPES.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:o}")


def address(addr: Any) -> tuple[str, int]:
    """A socket address and its size."""
    if isinstance(addr, str):
        return (f'{{sa_family=AF_UNIX, sun_path=@"{addr[1:]}"}}' if addr.startswith("\0") else
                f'{{sa_family=AF_UNIX, sun_path="{addr}"}}'), 3 + len(addr)
    if not isinstance(addr, tuple) or len(addr) < 2:
        return "NULL", 0
    if isinstance(addr[0], str) and ":" in addr[0]:
        return (f'{{sa_family=AF_INET6, sin6_port=htons({addr[1]}), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "{addr[0]}", &sin6_addr), '
                "sin6_scope_id=0}"), 28
    return f'{{sa_family=AF_INET, sin_port=htons({addr[1]}), sin_addr=inet_addr("{addr[0] or "0.0.0.0"}")}}', 16


def returned(name: str, result: Any) -> str:
    """The number behind the equals sign, with what strace says about it."""
    if name == "poll":
        ready = ", ".join(f"{{fd={fd}, revents={flags(events, _POLL)}}}" for fd, events in result)
        return f"{len(result)} ([{ready}])" if result else "0 (Timeout)"
    if name in ("pipe", "socketpair", "stat", "fstat", "getsockopt", "getsockname", "getpeername", "wait_on"):
        return "0"
    if name == "wait4":
        return str(result[0])
    if name == "readlink":
        return str(len(result.encode()))
    if isinstance(result, tuple):
        return returned("", result[0])
    return str(len(result)) if isinstance(result, (bytes, list)) else str(int(result))


def failed(error: OSError) -> str:
    """-1 ECONNREFUSED (Connection refused)"""
    number = error.errno or errno.EIO
    return f"-1 {errno.errorcode.get(number, number)} ({os.strerror(number)})"


def _msecs(timeout: int | None) -> str:
    return "-1" if timeout is None else str(-(-timeout // MSEC))


def _arg(args: Args, at: int, default: Any = None) -> Any:
    return args[at] if len(args) > at else default


def _mode(args: Args, at: int, default: int) -> str:
    return f"0{_arg(args, at, default):o}"


def _open(w: Writer, a: Args) -> str:
    bits = _arg(a, 1, 0)
    how = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")[bits & 3]
    more = flags(bits & ~3, _OPEN)
    mode = f", {_mode(a, 2, 0o644)}" if bits & 0o100 else ""
    return f"AT_FDCWD, {w.path(a[0])}, {how}{'|' + more if more != '0' else ''}{mode}"


def _socket(w: Writer, a: Args) -> str:
    kind = _TYPES.get(a[1] & 0xF, str(a[1] & 0xF))
    kind += ("|SOCK_CLOEXEC" if a[1] & 0o2000000 else "") + ("|SOCK_NONBLOCK" if a[1] & 0o4000 else "")
    proto = _arg(a, 2, 0)
    last = _PROTOCOLS.get(proto, str(proto)) if a[0] in (2, 10) else str(proto)
    return f"{_FAMILIES.get(a[0], a[0])}, {kind}, {last}"


def _option(a: Args) -> str:
    level, option = a[1], a[2]
    return f"{a[0]}, {_LEVELS.get(level, level)}, {_OPTIONS.get(level, {}).get(option, option)}"


def _value(w: Writer, a: Args, value: Any) -> str:
    if isinstance(value, int):
        return f"[{errno.errorcode.get(value, value)}]" if (a[1], a[2]) == (1, 4) and value else f"[{value}]"
    if (a[1], a[2]) == (1, 13) and len(value) == 8:
        return f"{{l_onoff={int.from_bytes(value[:4], 'little')}, l_linger={int.from_bytes(value[4:], 'little')}}}"
    return w.text(bytes(value))


def _size(value: Any) -> int:
    return 4 if isinstance(value, int) else len(value)


def _named(w: Writer, a: Args, result: Any) -> str:
    text, size = address(result)
    return f", {text}, [{size if size else 0}]"


def _bind(w: Writer, a: Args) -> str:
    text, size = address(a[1])
    return f"{a[0]}, {text}, {size}"


def _sendto(w: Writer, a: Args) -> str:
    to, size = address(a[2])
    return f"{a[0]}, {w.text(bytes(a[1]))}, {len(a[1])}, {flags(_arg(a, 3, 0), _MSG)}, {to}, {size}"


def _recvfrom_end(w: Writer, a: Args, result: Any) -> str:
    text, size = address(result[1])
    return f", {w.text(result[0])}, {a[1]}, {flags(_arg(a, 2, 0), _MSG)}, {text}, {f'[{size}]' if size else 'NULL'}"


def _status(w: Writer, a: Args, result: Any) -> str:
    pid, code, number = result
    if not pid:
        status = "NULL"
    elif number:
        status = f"[{{WIFSIGNALED(s) && WTERMSIG(s) == SIG{SIGNAL_NAMES[number]}}}]"
    else:
        status = f"[{{WIFEXITED(s) && WEXITSTATUS(s) == {code}}}]"
    return f", {status}, {'WNOHANG' if _arg(a, 1) else '0'}, NULL"


def _epoll(events: int, fd: int) -> str:
    return f"{{events={flags(events, _POLL).replace('POLL', 'EPOLL')}, data={{fd={fd}}}}}"


def _nothing(w: Writer, a: Args, result: Any) -> str:
    return ""


def _timespec(ns: int) -> str:
    return f"{{tv_sec={ns // SEC}, tv_nsec={ns % SEC}}}"


def _in(text: Callable[[Writer, Args], str]) -> Form:
    """A call that fills nothing in."""
    return text, _nothing


FORMS: dict[str, Form] = {
    "open": _in(_open),
    "read": (lambda w, a: f"{a[0]}", lambda w, a, r: f", {w.text(r)}, {a[1]}"),
    "write": _in(lambda w, a: f"{a[0]}, {w.text(bytes(a[1]))}, {len(a[1])}"),
    "pipe": (lambda w, a: "", lambda w, a, r: f"[{r[0]}, {r[1]}], 0"),
    "eventfd": _in(lambda w, a: f"{_arg(a, 0, 0)}, 0"),
    "lseek": _in(lambda w, a: f"{a[0]}, {a[1]}, {_WHENCE.get(a[2], a[2])}"),
    "stat": (lambda w, a: f"AT_FDCWD, {w.path(a[0])}",
             lambda w, a, r: f", {w.stat(r)}, {'0' if _arg(a, 1, True) else 'AT_SYMLINK_NOFOLLOW'}"),
    "fstat": (lambda w, a: f"{a[0]}", lambda w, a, r: f', "", {w.stat(r)}, AT_EMPTY_PATH'),
    "mkdir": _in(lambda w, a: f"{w.path(a[0])}, {_mode(a, 1, 0o777)}"),
    "chmod": _in(lambda w, a: f"{w.path(a[0])}, {_mode(a, 1, 0)}"),
    "readlink": (lambda w, a: w.path(a[0]), lambda w, a, r: f", {w.path(r)}, 4095"),
    "poll": _in(lambda w, a: f"[{', '.join(f'{{fd={fd}, events={flags(bits, _POLL)}}}' for fd, bits in a[0])}], {len(a[0])}, "
                             f"{_msecs(_arg(a, 1))}"),
    "epoll_create": _in(lambda w, a: "0"),
    "epoll_ctl": _in(lambda w, a: f"{a[0]}, {_EPOLL_OPS.get(a[1], a[1])}, {a[2]}, {'NULL' if a[1] == 2 else _epoll(a[3], a[2])}"),
    "epoll_wait": (lambda w, a: f"{a[0]}",
                   lambda w, a, r: f", [{', '.join(_epoll(bits, fd) for fd, bits in r)}], {a[1]}, {_msecs(_arg(a, 2))}"),
    "sleep": _in(lambda w, a: f"CLOCK_REALTIME, 0, {_timespec(a[0])}, NULL"),
    "wait_on": _in(lambda w, a: "FUTEX_WAIT_PRIVATE"),
    "pause": _in(lambda w, a: ""),
    "socket": _in(_socket),
    "socketpair": (lambda w, a: f"AF_UNIX, {_TYPES.get(_arg(a, 0, 1) & 0xF)}, 0", lambda w, a, r: f", [{r[0]}, {r[1]}]"),
    "bind": _in(_bind),
    "connect": _in(_bind),
    "listen": _in(lambda w, a: f"{a[0]}, {_arg(a, 1, 128)}"),
    "accept": (lambda w, a: f"{a[0]}", lambda w, a, r: _named(w, a, r[1])),
    "send": _in(lambda w, a: f"{a[0]}, {w.text(bytes(a[1]))}, {len(a[1])}, {flags(_arg(a, 2, 0), _MSG)}, NULL, 0"),
    "sendto": _in(_sendto),
    "recv": (lambda w, a: f"{a[0]}", lambda w, a, r: f", {w.text(r)}, {a[1]}, {flags(_arg(a, 2, 0), _MSG)}, NULL, NULL"),
    "recvfrom": (lambda w, a: f"{a[0]}", _recvfrom_end),
    "shutdown": _in(lambda w, a: f"{a[0]}, {_HOW.get(a[1], a[1])}"),
    "setsockopt": _in(lambda w, a: f"{_option(a)}, {_value(w, a, a[3])}, {_size(a[3])}"),
    "getsockopt": (lambda w, a: _option(a), lambda w, a, r: f", {_value(w, a, r)}, [{_size(r)}]"),
    "getsockname": (lambda w, a: f"{a[0]}", _named),
    "getpeername": (lambda w, a: f"{a[0]}", _named),
    "spawn": _in(lambda w, a: ""),
    "wait4": (lambda w, a: f"{_arg(a, 0, -1)}", _status),
    "kill": _in(lambda w, a: f"{a[0]}, SIG{SIGNAL_NAMES[a[1]]}" if a[1] in SIGNAL_NAMES else f"{a[0]}, {a[1]}"),
}
"""Ours -> (text at the beginning, text at the end)."""
OUT_ARGS: dict[str, Callable[[Args], str]] = {
    "read": lambda a: f", ..., {a[1]}", "recv": lambda a: f", ..., {a[1]}, {flags(_arg(a, 2, 0), _MSG)}, NULL, NULL",
    "recvfrom": lambda a: f", ..., {a[1]}, {flags(_arg(a, 2, 0), _MSG)}, ..., ...", "accept": lambda a: ", ..., ...",
    "stat": lambda a: f", ..., {'0' if _arg(a, 1, True) else 'AT_SYMLINK_NOFOLLOW'}", "fstat": lambda a: ', "", ..., AT_EMPTY_PATH',
    "getsockname": lambda a: ", ..., ...", "getpeername": lambda a: ", ..., ...", "getsockopt": lambda a: ", ..., ...",
    "wait4": lambda a: f", ..., {'WNOHANG' if _arg(a, 1) else '0'}, NULL", "epoll_wait": lambda a: f", ..., {a[1]}, {_msecs(_arg(a, 2))}",
    "readlink": lambda a: ", ..., 4095",
}
"""Ours -> the arguments that a call which failed has not filled in. Where strace prints a pointer, and there is none here: "..."."""
