"""Unix domain sockets: streams and datagrams between processes of one machine. No packets, no netfilter.

    a, b = unix_socketpair(net, SOCK_STREAM)
    sk = unix_create(net, SOCK_STREAM); unix_bind(sk, "/run/app.sock"); inet_listen, inet_accept as for TCP
    unix_connect(sk, "/run/app.sock")

The data of one end waits in the other end's queue, up to the sender's send buffer. Names live in the namespace's table: paths
(a path is one name, whatever file system a container has: simplified) and abstract names, which begin with a NUL.

Sources: unix(7); Linux net/unix/af_unix.c.
"""

from __future__ import annotations

from collections import deque
from errno import (
    EADDRINUSE,
    EAGAIN,
    ECONNREFUSED,
    ECONNRESET,
    EINVAL,
    EISCONN,
    EMSGSIZE,
    ENOPROTOOPT,
    ENOTCONN,
    EPIPE,
    EPROTOTYPE,
)
from typing import TYPE_CHECKING, Any

from kubenet.kernel.socket.sock import (
    AF_UNIX,
    MSG_PEEK,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLRDHUP,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SOCK_DGRAM,
    SOCK_STREAM,
    SS_CONNECTED,
    SS_UNCONNECTED,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    Proto,
    Sock,
    oserror,
)

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

FIONREAD = 0x541B


class UnixSock(Sock):
    """One end. The queue holds what the peer sent: (data, sender's name)."""

    __slots__ = ("queue", "peer", "path", "backlog", "accept_queue", "listener")

    def __init__(self, net: NetNamespace, type_: int, prot: Proto) -> None:
        super().__init__(net, AF_UNIX, type_, 0, prot, None)
        self.queue: deque[tuple[bytes, str]] = deque()
        self.peer: UnixSock | None = None
        self.path: str = ""
        self.backlog = 0
        self.accept_queue: deque[UnixSock] = deque()
        self.listener: UnixSock | None = None


def unix_create(net: NetNamespace, type_: int) -> UnixSock:
    """A new socket of the family. Linux: unix_create()."""
    sk = UnixSock(net, type_, unix_prot)
    inos = net.host.ids
    inos["socket"] = sk.ino = inos.get("socket", 10000) + 1
    return sk


def unix_socketpair(net: NetNamespace, type_: int) -> tuple[UnixSock, UnixSock]:
    """Two connected sockets. socketpair(2). Linux: unix_socketpair()."""
    a, b = unix_create(net, type_), unix_create(net, type_)
    _join(a, b)
    return a, b


def _join(a: UnixSock, b: UnixSock) -> None:
    a.peer, b.peer = b, a
    for sk in (a, b):
        sk.state = TCP_ESTABLISHED
        sk.ss_state = SS_CONNECTED


def _names(net: NetNamespace) -> dict[str, UnixSock]:
    if net.unix is None:
        net.unix = {}
    names: dict[str, UnixSock] = net.unix
    return names


def unix_bind(sk: UnixSock, path: str) -> None:
    """The socket has a name. EADDRINUSE, EINVAL. Linux: unix_bind()."""
    if sk.path or not path:
        raise oserror(EINVAL)
    names = _names(sk.net)
    if path in names:
        raise oserror(EADDRINUSE)
    names[path] = sk
    sk.path = path


def unix_connect(sk: UnixSock, path: str) -> None:
    """Streams: the listener has one more in its accept queue. Datagrams: the peer for send(). Linux: unix_*_connect()."""
    other = _names(sk.net).get(path)
    if other is None:
        raise oserror(ECONNREFUSED)
    if other.type != sk.type:
        raise oserror(EPROTOTYPE)
    if sk.type == SOCK_DGRAM:
        sk.peer, sk.state, sk.ss_state = other, TCP_ESTABLISHED, SS_CONNECTED
        return
    if sk.state == TCP_ESTABLISHED:
        raise oserror(EISCONN)
    if other.state != TCP_LISTEN:
        raise oserror(ECONNREFUSED)
    if len(other.accept_queue) > other.backlog:
        raise oserror(EAGAIN)
    new = unix_create(sk.net, sk.type)
    new.path, new.listener = other.path, other
    _join(sk, new)
    other.accept_queue.append(new)
    other.wait.wake(exclusive=True)


class UnixProto(Proto):
    """What the system calls do. Linux: unix_stream_ops, unix_dgram_ops."""

    name = "UNIX"

    def listen(self, sk: Sock, backlog: int) -> None:
        assert isinstance(sk, UnixSock)
        if not sk.path:
            raise oserror(EINVAL)
        sk.backlog = backlog
        sk.state = TCP_LISTEN

    def accept(self, sk: Sock, timeout: int | None) -> Sock:
        assert isinstance(sk, UnixSock)
        if sk.state != TCP_LISTEN:
            raise oserror(EINVAL)
        if not sk.wait.until(lambda: sk.accept_queue, timeout):
            raise oserror(EAGAIN)
        return sk.accept_queue.popleft()

    def sendmsg(self, sk: Sock, data: Any, flags: int, addr: Any, timeout: int | None) -> int:
        """Linux: unix_stream_sendmsg(), unix_dgram_sendmsg()."""
        assert isinstance(sk, UnixSock)
        peer = sk.peer
        if addr is not None and sk.type == SOCK_DGRAM:
            peer = _names(sk.net).get(addr)
            if peer is None:
                raise oserror(ECONNREFUSED)
        if sk.shutdown & SEND_SHUTDOWN:
            raise oserror(EPIPE)
        if peer is None:
            raise oserror(ECONNRESET if sk.type == SOCK_DGRAM and sk.err else EPIPE if sk.err else ENOTCONN)
        data = bytes(data)
        if sk.type == SOCK_DGRAM:
            return self._send_one(sk, peer, data, timeout)
        sent = 0
        while sent < len(data):
            if not sk.wait.until(lambda: sk.wmem_alloc < sk.sndbuf or self._broken(sk, peer), timeout):
                if sent:
                    return sent
                raise oserror(EAGAIN)
            if self._broken(sk, peer):
                raise oserror(EPIPE)
            piece = data[sent : sent + sk.sndbuf - sk.wmem_alloc]
            self._queue(sk, peer, piece)
            sent += len(piece)
        return sent

    def _broken(self, sk: UnixSock, peer: UnixSock) -> bool:
        return sk.peer is not peer or bool(peer.shutdown & RCV_SHUTDOWN)

    def _send_one(self, sk: UnixSock, peer: UnixSock, data: bytes, timeout: int | None) -> int:
        if len(data) > sk.sndbuf:
            raise oserror(EMSGSIZE)
        if not sk.wait.until(lambda: len(peer.queue) <= 10 or peer.state == TCP_CLOSE and not peer.ino, timeout):
            raise oserror(EAGAIN)
        self._queue(sk, peer, data)
        return len(data)

    def _queue(self, sk: UnixSock, peer: UnixSock, data: bytes) -> None:
        peer.queue.append((data, sk.path))
        if sk.type == SOCK_STREAM:
            sk.wmem_alloc += len(data)
        peer.rmem_alloc += len(data)
        peer.wait.wake()

    def recvmsg(self, sk: Sock, n: int, flags: int, timeout: int | None) -> tuple[bytes, Any]:
        """Linux: unix_stream_recvmsg(), unix_dgram_recvmsg()."""
        assert isinstance(sk, UnixSock)
        if sk.type == SOCK_STREAM and sk.state != TCP_ESTABLISHED and not sk.queue and not sk.err:
            raise oserror(EINVAL)
        if not sk.wait.until(lambda: sk.queue or sk.shutdown & RCV_SHUTDOWN, timeout):
            raise oserror(EAGAIN)
        if not sk.queue:
            return b"", None
        if sk.type == SOCK_DGRAM:
            data, name = sk.queue[0] if flags & MSG_PEEK else sk.queue.popleft()
            if not flags & MSG_PEEK:
                self._freed(sk, len(data))
            return data[:n], name
        return self._take(sk, n, bool(flags & MSG_PEEK)), None

    def _take(self, sk: UnixSock, n: int, peek: bool) -> bytes:
        out = bytearray()
        for data, _ in list(sk.queue):
            piece = data[: n - len(out)]
            out += piece
            if not peek:
                sk.queue.popleft()
                if len(piece) < len(data):
                    sk.queue.appendleft((data[len(piece) :], ""))
            if len(out) >= n:
                break
        if not peek:
            self._freed(sk, len(out))
        return bytes(out)

    def _freed(self, sk: UnixSock, size: int) -> None:
        sk.rmem_alloc -= size
        if sk.peer is not None:
            if sk.type == SOCK_STREAM:
                sk.peer.wmem_alloc -= size
            sk.peer.wait.wake()

    def shutdown(self, sk: Sock, how: int) -> None:
        """The peer sees the mirrored half closed. Linux: unix_shutdown()."""
        assert isinstance(sk, UnixSock)
        if sk.peer is not None and sk.type == SOCK_STREAM:
            sk.peer.shutdown |= (RCV_SHUTDOWN if how & SEND_SHUTDOWN else 0) | (SEND_SHUTDOWN if how & RCV_SHUTDOWN else 0)
            sk.peer.wait.wake()

    def disconnect(self, sk: Sock) -> None:
        sk.state, sk.ss_state = TCP_CLOSE, SS_UNCONNECTED

    def close(self, sk: Sock, timeout: int) -> None:
        """Linux: unix_release_sock(); unread data resets a stream's peer."""
        assert isinstance(sk, UnixSock)
        names = _names(sk.net)
        if sk.path and names.get(sk.path) is sk:
            del names[sk.path]
        for waiting in sk.accept_queue:
            self.close(waiting, 0)
        peer, sk.peer = sk.peer, None
        sk.state = TCP_CLOSE
        if peer is not None and peer.peer is sk:
            peer.peer = None
            if sk.type == SOCK_STREAM:
                peer.shutdown = SHUTDOWN_MASK
                peer.err = ECONNRESET if sk.queue else EPIPE
            peer.wait.wake()
        sk.queue.clear()

    def poll(self, sk: Sock) -> int:
        assert isinstance(sk, UnixSock)
        mask = 0
        if sk.state == TCP_LISTEN:
            return POLLIN if sk.accept_queue else 0
        if sk.queue or sk.shutdown & RCV_SHUTDOWN:
            mask |= POLLIN
        if sk.shutdown & RCV_SHUTDOWN:
            mask |= POLLRDHUP
        if sk.shutdown == SHUTDOWN_MASK:
            mask |= POLLHUP
        if sk.err == ECONNRESET:
            mask |= POLLERR
        if sk.wmem_alloc << 2 <= sk.sndbuf:
            mask |= POLLOUT
        return mask

    def setsockopt(self, sk: Sock, level: int, name: int, value: int | bytes) -> None:
        if level != 1:
            raise oserror(ENOPROTOOPT)

    def ioctl(self, sk: Sock, cmd: int) -> int:
        assert isinstance(sk, UnixSock)
        if cmd == FIONREAD:
            return sum(len(data) for data, _ in sk.queue) if sk.type == SOCK_STREAM else len(sk.queue[0][0]) if sk.queue else 0
        raise oserror(EINVAL)


unix_prot = UnixProto()
