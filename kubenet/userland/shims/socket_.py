"""_socket: the class that socket.py builds on, over the kernel's sockets; names are resolved by resolver.py.

Constants and pure functions (htons, inet_aton ...) are the host's. Source: socket in the Python manual, CPython
Modules/socketmodule.c. Leaves out: ancillary data other than empty, AF_PACKET, AF_NETLINK.
"""

from __future__ import annotations

import _socket as _kn_host
import errno
import os
from typing import Any

from kubenet.userland.resolver import EAI_TEXTS, ResolveError, reverse_lookup, service_port
from kubenet.userland.resolver import getaddrinfo as _kn_getaddrinfo
from kubenet.userland.shims import proc, sys_

gaierror, herror, error, timeout = _kn_host.gaierror, _kn_host.herror, OSError, TimeoutError
_POLLOUT, _POLLERR = 4, 8
_SAME = ("htonl htons ntohl ntohs inet_aton inet_ntoa inet_ntop inet_pton CMSG_LEN CMSG_SPACE").split()


def _ns(seconds: float | None) -> int | None:
    """A Python timeout as ns for a system call; 0 does not wait."""
    return None if seconds is None else int(seconds * 1_000_000_000)


def _state() -> dict[str, Any]:
    return proc().extra


def getdefaulttimeout() -> float | None:
    found: float | None = _state().get("default_timeout")
    return found


def setdefaulttimeout(value: Any, /) -> None:
    _state()["default_timeout"] = None if value is None else float(value)


class socket:  # noqa: N801
    """_socket.socket."""

    __slots__ = ("_kn_proc", "_kn_fd", "_kn_timeout", "_kn_family", "_kn_type", "_kn_proto")

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: Any = None) -> None:
        p = _proc()
        self._kn_proc = p
        self._kn_timeout: float | None = p.extra.get("default_timeout")
        if fileno is not None:
            if fileno < 0:
                raise ValueError("negative file descriptor")
            sk = p.sys.sock(fileno)
            self._kn_fd = fileno
            self._kn_family = sk.family if family == -1 else family
            self._kn_type = sk.type if type == -1 else type
            self._kn_proto = sk.protocol if proto == -1 else proto
            return
        self._kn_family = _kn_host.AF_INET if family == -1 else int(family)
        kind = _kn_host.SOCK_STREAM if type == -1 else int(type)
        self._kn_proto = 0 if proto == -1 else int(proto)
        self._kn_fd = -1
        self._kn_fd = p.sys.socket(self._kn_family, kind, self._kn_proto)
        if kind & 0o4000:
            self._kn_timeout = 0.0
        self._kn_type = kind & ~(0o4000 | 0o2000000)
        p.fds.cloexec[self._kn_fd] = True

    def __del__(self) -> None:
        fd = getattr(self, "_kn_fd", -1)
        if fd >= 0 and not self._kn_proc.done and not self._kn_proc.dead:
            self._kn_fd = -1
            try:
                self._kn_proc.sys.close(fd)
            except OSError:
                pass

    def __repr__(self) -> str:
        return f"<socket object, fd={self._kn_fd}, family={self._kn_family}, type={self._kn_type}, proto={self._kn_proto}>"

    @property
    def family(self) -> int:
        return int(self._kn_family)

    @property
    def type(self) -> int:
        return int(self._kn_type)

    @property
    def proto(self) -> int:
        return int(self._kn_proto)

    @property
    def timeout(self) -> float | None:
        return self._kn_timeout

    def fileno(self) -> int:
        return int(self._kn_fd)

    def _fd(self) -> int:
        if self._kn_fd < 0:
            raise OSError(errno.EBADF, "Bad file descriptor")
        return int(self._kn_fd)

    def _wait(self, call: Any, *args: Any) -> Any:
        """The call with the socket's timeout; running out of it is TimeoutError."""
        limit = self._kn_timeout
        try:
            return call(self._fd(), *args, None if limit is None else int(limit * 1_000_000_000))
        except BlockingIOError:
            if limit:
                raise TimeoutError("timed out") from None
            raise

    # ---- addresses and connections --------------------------------------------------------------------------------

    def _address(self, address: Any) -> Any:
        if self._kn_family == 1:
            return os.fsdecode(address)
        if not isinstance(address, tuple):
            raise TypeError(f"AF_INET address must be tuple, not {address.__class__.__name__}")
        if len(address) < 2 or (self._kn_family == 2 and len(address) != 2):
            raise TypeError("AF_INET address must be a pair (host, port)")
        host, port = address[0], address[1]
        if not isinstance(port, int):
            raise TypeError(f"'{port.__class__.__name__}' object cannot be interpreted as an integer")
        if not 0 <= port <= 65535:
            raise OverflowError(f"{self._call_name()}(): port must be 0-65535.")
        return _host(host.decode() if isinstance(host, (bytes, bytearray)) else host, self._kn_family), port

    def _call_name(self) -> str:
        return "bind/connect"

    def bind(self, address: Any, /) -> None:
        self._kn_proc.sys.bind(self._fd(), self._address(address))

    def listen(self, backlog: int = 128, /) -> None:
        self._kn_proc.sys.listen(self._fd(), max(backlog, 0))

    def _accept(self) -> tuple[int, Any]:
        fd, address = self._wait(self._kn_proc.sys.accept)
        self._kn_proc.fds.cloexec[fd] = True
        return fd, address

    def connect(self, address: Any, /) -> None:
        """With a timeout: a connect() that does not wait, poll(), SO_ERROR, as CPython's internal_connect(). The kernel can tell:
        its socket is still connecting (SS_CONNECTING) for the next connect(), and is not disconnected by an error."""
        sys, fd, target, limit = self._kn_proc.sys, self._fd(), self._address(address), self._kn_timeout
        try:
            sys.connect(fd, target, 0 if limit else _ns(limit))
        except OSError as problem:
            if not limit or problem.errno != errno.EINPROGRESS:
                raise
            if not sys.poll([(fd, _POLLOUT | _POLLERR)], _ns(limit)):
                raise TimeoutError("timed out") from None
            error = int(sys.getsockopt(fd, 1, 4))  # SOL_SOCKET, SO_ERROR
            if error:
                raise OSError(error, os.strerror(error)) from None

    def connect_ex(self, address: Any, /) -> int:
        try:
            self.connect(address)
        except TimeoutError as problem:
            return problem.errno or errno.EAGAIN
        except OSError as problem:
            if problem.errno is None or isinstance(problem, gaierror):
                raise
            return problem.errno
        return 0

    def close(self) -> None:
        fd, self._kn_fd = self._kn_fd, -1
        if fd >= 0 and not self._kn_proc.done:
            self._kn_proc.sys.close(fd)

    def detach(self) -> int:
        fd, self._kn_fd = self._kn_fd, -1
        return int(fd)

    def shutdown(self, how: int, /) -> None:
        self._kn_proc.sys.shutdown(self._fd(), int(how))

    def getsockname(self) -> Any:
        return self._kn_proc.sys.getsockname(self._fd())

    def getpeername(self) -> Any:
        return self._kn_proc.sys.getpeername(self._fd())

    # ---- data -------------------------------------------------------------------------------------------------------

    def send(self, data: Any, flags: int = 0, /) -> int:
        sent: int = self._wait(self._kn_proc.sys.send, bytes(data), int(flags))
        return sent

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        view = memoryview(bytes(data))
        while view:
            view = view[self._wait(self._kn_proc.sys.send, view, int(flags)) :]

    def sendto(self, data: Any, *args: Any) -> int:
        flags, address = (0, args[0]) if len(args) == 1 else args
        sent: int = self._wait(self._kn_proc.sys.sendto, bytes(data), self._address(address), int(flags))
        return sent

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        data = b"".join(bytes(b) for b in buffers)
        return self.send(data, flags) if address is None else self.sendto(data, flags, address)

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if size < 0:
            raise ValueError("negative buffersize in recv")
        if size == 0:
            return b""  # CPython's sock_recv_guts() asks nobody
        data: bytes = self._wait(self._kn_proc.sys.recv, size, int(flags))
        return bytes(data)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def recvfrom(self, size: int, flags: int = 0, /) -> tuple[bytes, Any]:
        data, address = self._wait(self._kn_proc.sys.recvfrom, size, int(flags))
        return bytes(data), address

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        view = memoryview(buffer).cast("B")
        data, address = self.recvfrom(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data), address

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
        data, address = self.recvfrom(bufsize, flags)
        return data, [], 0, address

    # ---- options ----------------------------------------------------------------------------------------------------

    def setblocking(self, flag: bool, /) -> None:
        self._kn_timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        return self._kn_timeout is None or self._kn_timeout > 0

    def settimeout(self, value: Any, /) -> None:
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._kn_timeout = None if value is None else float(value)

    def gettimeout(self) -> float | None:
        return self._kn_timeout

    def setsockopt(self, level: int, option: int, value: Any, optlen: int = 0, /) -> None:
        given = value if isinstance(value, int) else b"" if value is None else bytes(value)
        self._kn_proc.sys.setsockopt(self._fd(), int(level), int(option), given)

    def getsockopt(self, level: int, option: int, buflen: int = 0, /) -> Any:
        value = self._kn_proc.sys.getsockopt(self._fd(), int(level), int(option))
        if buflen:
            return (value.to_bytes(4, "little", signed=True) if isinstance(value, int) else value)[:buflen]
        return int.from_bytes(value[:4], "little", signed=True) if isinstance(value, bytes) else value


SocketType = socket
_proc = proc


def _host(host: str, family: int) -> str:
    """The address of a host in a socket address: numbers as they are, names resolved."""
    if host in ("", "<broadcast>"):
        return host
    if host.replace(".", "").isdigit() and host.count(".") == 3:
        return host
    return getaddrinfo(host, None, family)[0][4][0]  # type: ignore[no-any-return]


def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> list[Any]:
    """getaddrinfo(3)."""
    name = host.decode("ascii") if isinstance(host, (bytes, bytearray)) else host
    if isinstance(name, str) and not name.isascii():
        name = name.encode("idna").decode("ascii")
    service = port.decode() if isinstance(port, (bytes, bytearray)) else port
    try:
        return list(_kn_getaddrinfo(_proc(), name, service, int(family), int(type), int(proto), int(flags)))
    except ResolveError as problem:
        raise gaierror(problem.code, problem.text) from None


def gethostbyname(name: str, /) -> str:
    if name == "":
        return "0.0.0.0"
    found: str = getaddrinfo(name, None, 2)[0][4][0]
    return found


def gethostbyname_ex(name: str, /) -> tuple[str, list[str], list[str]]:
    rows = getaddrinfo(name, None, 2, 1, 0, 2)
    return rows[0][3] or name, [], [row[4][0] for row in rows]


def gethostbyaddr(address: str, /) -> tuple[str, list[str], list[str]]:
    number = gethostbyname(address) if not address.replace(".", "").isdigit() else address
    name = reverse_lookup(_proc(), number)
    if name is None:
        raise herror(1, "Unknown host")
    return name, [], [number]


def getnameinfo(sockaddr: Any, flags: int, /) -> tuple[str, str]:
    host, port = sockaddr[0], sockaddr[1]
    name = None if flags & 1 else reverse_lookup(_proc(), host)
    if name is None and flags & 8:
        raise gaierror(-2, EAI_TEXTS[-2])
    return name or host, str(port)


def gethostname() -> str:
    return _proc().container.hostname


def sethostname(name: str, /) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def getservbyname(name: str, proto: str = "", /) -> int:
    port = service_port(_proc(), name, proto)
    if port is None:
        raise OSError("service/proto not found")
    return port


def getservbyport(port: int, proto: str = "", /) -> str:
    for line in _proc().vfs.read("/etc/services").decode().splitlines():
        words = line.split()
        if len(words) > 1 and words[1].startswith(f"{port}/"):
            return words[0]
    raise OSError("port/proto not found")


def getprotobyname(name: str, /) -> int:
    found = {"icmp": 1, "tcp": 6, "udp": 17}.get(name)
    if found is None:
        raise OSError("protocol not found")
    return found


def socketpair(family: int = 1, type: int = 1, proto: int = 0, /) -> tuple[socket, socket]:
    """Two connected unix sockets."""
    a, b = sys_().socketpair(int(type) & 0xF)
    return socket(1, int(type) & 0xF, 0, a), socket(1, int(type) & 0xF, 0, b)


def dup(fd: int, /) -> int:
    return sys_().dup(fd)


def close(fd: int, /) -> None:
    sys_().close(fd)


def if_nameindex() -> list[tuple[int, str]]:
    return [(dev.ifindex, dev.name) for dev in _proc().net.devs.values()]


def if_nametoindex(name: str, /) -> int:
    dev = _proc().net.devs.get(name)
    if dev is None:
        raise OSError("no interface with this name")
    return int(dev.ifindex)


def if_indextoname(index: int, /) -> str:
    dev = _proc().net.dev_by_index.get(index)
    if dev is None:
        raise OSError(errno.ENXIO, "No such device or address")
    return str(dev.name)


def exports() -> dict[str, Any]:
    """The names of _socket."""
    out: dict[str, Any] = {k: v for k, v in vars(_kn_host).items() if k.isupper() or (k[:2].isupper() and isinstance(v, int))}
    out.pop("CAPI", None)
    out.update((name, getattr(_kn_host, name)) for name in _SAME)
    out["has_ipv6"] = False
    names = ("socket SocketType gaierror herror error timeout getdefaulttimeout setdefaulttimeout getaddrinfo gethostbyname "
             "gethostbyname_ex gethostbyaddr getnameinfo gethostname sethostname getservbyname getservbyport getprotobyname "
             "socketpair dup close if_nameindex if_nametoindex if_indextoname").split()
    out.update((name, globals()[name]) for name in names)
    return out
