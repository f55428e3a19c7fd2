"""The system calls on Internet sockets: check, wait, do.

Addresses are (int address, port); text belongs to the libraries of user programs. Everything raises OSError with Linux's
errno. `timeout` is ns: None waits for ever, 0 does not wait (EAGAIN, or EINPROGRESS from connect). Only the wait can switch
tasks, and an exception thrown into a waiting task (a signal, a kill) passes through.

    sk = sock_create(net, AF_INET, SOCK_STREAM, 0)
    inet_bind(sk, (0, 8080)); inet_listen(sk, 128); conn = inet_accept(sk, None)

`inetsw` is Linux's protocol switch: protocols register there when their module is imported. Sources: Linux net/socket.c,
net/ipv4/af_inet.c; man pages socket(2), bind(2), listen(2), accept(2), connect(2), send(2), recv(2), shutdown(2).
"""

from __future__ import annotations

from collections.abc import Callable
from errno import (
    EACCES,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    EALREADY,
    ECONNABORTED,
    EINPROGRESS,
    EINVAL,
    EISCONN,
    ENOTCONN,
    EOPNOTSUPP,
    EPERM,
    EPROTONOSUPPORT,
    ESOCKTNOSUPPORT,
)
from typing import TYPE_CHECKING, Any

from kubenet.kernel.socket.hashtables import InetHashtables
from kubenet.kernel.socket.options import sock_getsockopt, sock_setsockopt
from kubenet.kernel.socket.sock import (
    AF_INET,
    MSG_DONTWAIT,
    RCV_SHUTDOWN,
    SOCK_BINDADDR_LOCK,
    SOCK_BINDPORT_LOCK,
    SOCK_LINGER,
    SOCK_RAW,
    SOCK_STREAM,
    SS_CONNECTED,
    SS_CONNECTING,
    SS_DISCONNECTING,
    SS_UNCONNECTED,
    TCP_CLOSE,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    Proto,
    Sock,
    oserror,
    sock_error,
)
from kubenet.units import SEC

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

__all__ = [
    "inet_accept", "inet_bind", "inet_connect", "inet_disconnect", "inet_getname", "inet_listen", "inet_net_init",
    "inet_recvmsg", "inet_register_protosw", "inet_release", "inet_sendmsg", "inet_shutdown", "sock_create",
    "sock_getsockopt", "sock_poll", "sock_setsockopt",
]

RTN_UNSPEC, RTN_UNICAST, RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST = 0, 1, 2, 3, 5

SockFactory = Callable[..., Sock]
inetsw: dict[tuple[int, int], tuple[Proto, SockFactory]] = {}  # (type, protocol) -> operations and record
default_protocol: dict[int, int] = {}  # type -> the protocol that 0 means


def inet_register_protosw(type_: int, protocol: int, prot: Proto, factory: SockFactory) -> None:
    """socket(AF_INET, type_, protocol) makes such sockets; the first of a type is what protocol 0 means."""
    inetsw[(type_, protocol)] = (prot, factory)
    default_protocol.setdefault(type_, protocol)


def inet_net_init(net: NetNamespace, af_ops: Any = None) -> None:
    """The namespace has socket tables. `af_ops`: the way to IP; a test may put a recorder there."""
    if af_ops is None:
        from kubenet.kernel.ipv4.af_ops import ipv4_ops

        af_ops = ipv4_ops
    net.socks = InetHashtables(net, {AF_INET: af_ops})


def sock_create(net: NetNamespace, family: int, type_: int, protocol: int = 0, uid: int = 0) -> Sock:
    """A new socket, unbound. EAFNOSUPPORT, ESOCKTNOSUPPORT, EPROTONOSUPPORT. socket(2). Linux: inet_create()."""
    if family not in net.socks.af_ops:
        raise oserror(EAFNOSUPPORT)
    proto = protocol or default_protocol.get(type_, 0)
    entry = inetsw.get((type_, proto)) or inetsw.get((type_, -1))  # -1: any protocol (raw sockets)
    if entry is None:
        known = any(t == type_ for t, _ in inetsw)
        raise oserror(EPROTONOSUPPORT if known else ESOCKTNOSUPPORT)
    if type_ == SOCK_RAW and uid != 0:
        raise oserror(EPERM)
    prot, factory = entry
    sk = factory(net, family, type_, proto, prot, net.socks.af_ops[family])
    sk.uid = uid
    inos = net.host.ids
    inos["socket"] = sk.ino = inos.get("socket", 10000) + 1
    prot.init_sock(sk)
    return sk


def inet_bind(sk: Sock, addr: tuple[int, int]) -> None:
    """The socket has a local address. EACCES, EADDRINUSE, EADDRNOTAVAIL, EINVAL. bind(2). Linux: __inet_bind()."""
    ip, port = addr
    net = sk.net
    kind = sk.af_ops.inet_addr_type(net, ip) if ip else RTN_LOCAL
    if kind not in (RTN_LOCAL, RTN_MULTICAST, RTN_BROADCAST):
        if not (net.sysctl.ipv4.ip_nonlocal_bind or sk.freebind or sk.transparent):
            raise oserror(EADDRNOTAVAIL)
    if port and port < net.sysctl.ipv4.ip_unprivileged_port_start and sk.uid != 0:
        raise oserror(EACCES)
    if sk.state != TCP_CLOSE or sk.sport:
        raise oserror(EINVAL)
    sk.saddr = ip
    if port or not sk.bind_address_no_port:
        try:
            sk.prot.get_port(sk, port)
        except OSError:
            sk.saddr = 0
            raise
    if ip:
        sk.userlocks |= SOCK_BINDADDR_LOCK
    if port:
        sk.userlocks |= SOCK_BINDPORT_LOCK
    sk.daddr = sk.dport = 0
    sk.dst = None


def inet_listen(sk: Sock, backlog: int) -> None:
    """The socket takes connections; on a listener only the backlog changes. listen(2). Linux: inet_listen()."""
    somaxconn = sk.net.sysctl.core.somaxconn
    if backlog < 0 or backlog > somaxconn:
        backlog = somaxconn
    if sk.type != SOCK_STREAM:
        raise oserror(EOPNOTSUPP)
    if sk.ss_state != SS_UNCONNECTED or sk.state not in (TCP_CLOSE, TCP_LISTEN):
        raise oserror(EINVAL)
    sk.prot.listen(sk, backlog)


def inet_accept(sk: Sock, timeout: int | None = None) -> Sock:
    """A connection from the accept queue, oldest first. EAGAIN, EINVAL. accept(2). Linux: inet_accept()."""
    if timeout is None:
        timeout = sk.rcvtimeo
    return sk.prot.accept(sk, timeout)


def inet_connect(sk: Sock, addr: tuple[int, int], timeout: int | None = None) -> None:
    """The socket is connected to `addr`. connect(2). Linux: inet_stream_connect(), inet_dgram_connect()."""
    if timeout is None:
        timeout = sk.sndtimeo
    if sk.type == SOCK_STREAM:
        _inet_stream_connect(sk, addr, timeout)
    else:
        if not sk.sport:
            sk.prot.get_port(sk, 0)
        sk.prot.connect(sk, addr, timeout)


def _inet_stream_connect(sk: Sock, addr: tuple[int, int], timeout: int | None) -> None:
    if sk.ss_state == SS_CONNECTED:
        raise oserror(EISCONN)
    if sk.ss_state == SS_DISCONNECTING:
        raise oserror(EINVAL)
    code = EALREADY
    if sk.ss_state == SS_UNCONNECTED:
        if sk.state != TCP_CLOSE:
            raise oserror(EISCONN)
        sk.prot.connect(sk, addr, timeout)
        sk.ss_state = SS_CONNECTING
        code = EINPROGRESS
    if _connecting(sk):
        if timeout == 0 or not sk.wait.until(_Until(_not_connecting, sk), timeout):
            raise oserror(code)
    if sk.state == TCP_CLOSE:
        error = sock_error(sk) or ECONNABORTED
        sk.ss_state = SS_UNCONNECTED
        sk.prot.disconnect(sk)
        raise oserror(error)
    sk.ss_state = SS_CONNECTED


class _Until:
    """A predicate over one socket, for a wait queue."""

    __slots__ = ("fn", "sk")

    def __init__(self, fn: Callable[[Sock], bool], sk: Sock) -> None:
        self.fn = fn
        self.sk = sk

    def __call__(self) -> bool:
        return self.fn(self.sk)


def _connecting(sk: Sock) -> bool:
    return sk.state == TCP_SYN_SENT or sk.state == TCP_SYN_RECV


def _not_connecting(sk: Sock) -> bool:
    return not _connecting(sk)


def inet_disconnect(sk: Sock) -> None:
    """connect(2) with AF_UNSPEC: the socket has no peer any more. Linux: the AF_UNSPEC branch of inet_stream_connect()."""
    sk.prot.disconnect(sk)
    sk.ss_state = SS_UNCONNECTED


def inet_sendmsg(
    sk: Sock, data: Any, flags: int = 0, addr: tuple[int, int] | None = None, timeout: int | None = None
) -> int:
    """How many bytes were taken. send(2), sendto(2), sendmsg(2), write(2). Linux: inet_sendmsg()."""
    if timeout is None:
        timeout = sk.sndtimeo
    if flags & MSG_DONTWAIT:
        timeout = 0
    if sk.type != SOCK_STREAM and not sk.sport and sk.type != SOCK_RAW:
        sk.prot.get_port(sk, 0)
    return sk.prot.sendmsg(sk, data, flags, addr, timeout)


def inet_recvmsg(
    sk: Sock, n: int, flags: int = 0, timeout: int | None = None
) -> tuple[bytes, tuple[int, int] | None]:
    """Up to `n` bytes (b"" at the end of the stream) and, from a datagram socket, the sender. recv(2), recvfrom(2)."""
    if timeout is None:
        timeout = sk.rcvtimeo
    if flags & MSG_DONTWAIT:
        timeout = 0
    return sk.prot.recvmsg(sk, n, flags, timeout)


def inet_shutdown(sk: Sock, how: int) -> None:
    """One or both directions are closed. EINVAL, ENOTCONN. shutdown(2). Linux: inet_shutdown()."""
    if how not in (0, 1, 2):
        raise oserror(EINVAL)
    bits = how + 1  # SHUT_RD 0, WR 1, RDWR 2 -> RCV_SHUTDOWN 1, SEND_SHUTDOWN 2, both 3
    if sk.ss_state == SS_CONNECTING:
        early = sk.state in (TCP_SYN_SENT, TCP_SYN_RECV, TCP_CLOSE)
        sk.ss_state = SS_DISCONNECTING if early else SS_CONNECTED
    error = 0
    if sk.state == TCP_LISTEN and not bits & RCV_SHUTDOWN:
        pass
    elif sk.state in (TCP_LISTEN, TCP_SYN_SENT):
        sk.prot.disconnect(sk)
        sk.ss_state = SS_UNCONNECTED
    else:
        if sk.state == TCP_CLOSE:
            error = ENOTCONN
        sk.shutdown |= bits
        sk.prot.shutdown(sk, bits)
    sk.wait.wake()
    if error:
        raise oserror(error)


def inet_release(sk: Sock) -> None:
    """The last descriptor was closed; the connection may live on as an orphan. close(2). Linux: inet_release()."""
    timeout = sk.lingertime * SEC if sk.flags & SOCK_LINGER else 0
    sk.prot.close(sk, timeout)
    sk.ss_state = SS_UNCONNECTED


def inet_getname(sk: Sock, peer: int) -> tuple[int, int]:
    """(address, port) of this end (peer 0) or the other (1). ENOTCONN. getsockname(2), getpeername(2). accept(2) asks with 2:
    it hands out a connection that has been reset while it was waiting, and its peer's name with it. Linux: inet_getname()."""
    if not peer:
        return sk.saddr, sk.sport
    if not sk.dport or (peer == 1 and sk.type == SOCK_STREAM and sk.state in (TCP_CLOSE, TCP_SYN_SENT)):
        raise oserror(ENOTCONN)
    return sk.daddr, sk.dport


def sock_poll(sk: Sock) -> int:
    """What would not block now: POLLIN | POLLOUT ... poll(2)."""
    return sk.prot.poll(sk)
