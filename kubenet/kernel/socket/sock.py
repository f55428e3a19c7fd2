"""What every socket is: Sock, the table of its protocol's operations (Proto), and the constants both share.

A Sock is a record. `sk.prot` is the table that the system calls of inet.py go through (TCP, UDP, ping, raw ...), as
struct proto is in Linux; one instance per protocol, without state. `sk.af_ops` is the way to IP and the only one.
Addresses and ports are ints: `saddr`/`sport` the local end, `daddr`/`dport` the remote one, 0 while not set.

Everybody who waits for a socket waits in `sk.wait`; whoever changes its readiness calls `sk.wait.wake()`. Errors that the
network reports are kept in `sk.err` (returned once, then cleared) and `sk.err_soft` (told only if the operation fails for
good). Programs see OSError with Linux's errno.

Sources: Linux include/net/sock.h, include/net/tcp_states.h, include/linux/socket.h, include/uapi/asm-generic/socket.h.
"""

from __future__ import annotations

import os
from errno import EINVAL, ENOPROTOOPT, EOPNOTSUPP
from typing import TYPE_CHECKING, Any

from kubenet.sim.wait import WaitQueue

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_PACKET = 0, 1, 2, 10, 17
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = 1, 2, 3
IPPROTO_IP, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP = 0, 1, 6, 17

# sk.state (tcp_states.h). Protocols without connections use CLOSE and, once connected, ESTABLISHED.
TCP_ESTABLISHED, TCP_SYN_SENT, TCP_SYN_RECV, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_TIME_WAIT = 1, 2, 3, 4, 5, 6
TCP_CLOSE, TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_LISTEN, TCP_CLOSING, TCP_NEW_SYN_RECV = 7, 8, 9, 10, 11, 12

SS_UNCONNECTED, SS_CONNECTING, SS_CONNECTED, SS_DISCONNECTING = 1, 2, 3, 4

RCV_SHUTDOWN, SEND_SHUTDOWN, SHUTDOWN_MASK = 1, 2, 3
SHUT_RD, SHUT_WR, SHUT_RDWR = 0, 1, 2

# sk.flags
SOCK_DEAD, SOCK_DONE, SOCK_URGINLINE, SOCK_KEEPOPEN, SOCK_LINGER = 1, 2, 4, 8, 16
SOCK_BROADCAST, SOCK_NOSPACE, SOCK_DBG, SOCK_TIMESTAMP, SOCK_RCVMARK = 32, 64, 128, 256, 512

# sk.userlocks: what the program fixed and the kernel may no longer choose
SOCK_SNDBUF_LOCK, SOCK_RCVBUF_LOCK, SOCK_BINDADDR_LOCK, SOCK_BINDPORT_LOCK = 1, 2, 4, 8

MSG_OOB, MSG_PEEK, MSG_DONTROUTE, MSG_CTRUNC, MSG_TRUNC = 0x1, 0x2, 0x4, 0x8, 0x20
MSG_DONTWAIT, MSG_EOR, MSG_WAITALL = 0x40, 0x80, 0x100
MSG_ERRQUEUE, MSG_NOSIGNAL, MSG_MORE, MSG_ZEROCOPY, MSG_FASTOPEN = 0x2000, 0x4000, 0x8000, 0x4000000, 0x20000000

POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLRDHUP = 0x1, 0x2, 0x4, 0x8, 0x10, 0x2000

SOCK_MIN_RCVBUF, SOCK_MIN_SNDBUF = 2304, 4608


def oserror(errno: int) -> OSError:
    """The exception a program sees for `errno`, with the C library's text."""
    return OSError(errno, os.strerror(errno))


class Sock:
    """State common to all sockets of all families. Linux: struct sock, struct inet_sock."""

    __slots__ = (
        "family", "type", "protocol", "net", "prot", "af_ops", "state", "ss_state",
        "saddr", "sport", "daddr", "dport", "bound_dev", "uid", "ino", "peercred",
        "mark", "priority", "tos", "ttl", "ip_ident", "dst", "pmtudisc", "freebind", "recverr", "pktinfo", "transparent",
        "bind_address_no_port", "ipv6only", "v6mapped", "no_check",
        "err", "err_soft", "shutdown", "flags", "userlocks", "wait", "error_queue",
        "sndbuf", "rcvbuf", "rmem_alloc", "wmem_queued", "wmem_alloc", "drops",
        "reuse", "reuseport", "rcvlowat", "sndtimeo", "rcvtimeo", "lingertime", "bind_bucket", "hashed", "extra",
    )

    def __init__(self, net: NetNamespace, family: int, type_: int, protocol: int, prot: Proto, af_ops: Any) -> None:
        self.family = family
        self.type = type_
        self.protocol = protocol
        self.net = net
        self.prot = prot
        self.af_ops = af_ops
        self.state: int = TCP_CLOSE
        self.ss_state: int = SS_UNCONNECTED
        self.saddr: int = 0
        self.sport: int = 0
        self.daddr: int = 0
        self.dport: int = 0
        self.bound_dev: int = 0  # ifindex of SO_BINDTODEVICE
        self.uid: int = 0
        self.ino: int = 0
        self.peercred: tuple[int, int, int] = (0, 0, 0)
        self.mark: int = 0
        self.priority: int = 0
        self.tos: int = 0
        self.ttl: int = 0  # 0: ip_default_ttl
        self.ip_ident: int = 0
        self.dst: Any = None
        self.pmtudisc: int = 1  # IP_PMTUDISC_WANT
        self.freebind: bool = False
        self.recverr: bool = False
        self.pktinfo: bool = False
        self.transparent: bool = False
        self.bind_address_no_port: bool = False
        self.ipv6only: bool = False
        self.v6mapped: bool = False
        self.no_check: bool = False
        self.err: int = 0
        self.err_soft: int = 0
        self.shutdown: int = 0
        self.flags: int = 0
        self.userlocks: int = 0
        self.wait = WaitQueue(net.loop, "socket")
        self.error_queue: Any = None
        core = net.sysctl.core
        self.sndbuf: int = core.wmem_default
        self.rcvbuf: int = core.rmem_default
        self.rmem_alloc: int = 0
        self.wmem_queued: int = 0
        self.wmem_alloc: int = 0
        self.drops: int = 0
        self.reuse: bool = False
        self.reuseport: bool = False
        self.rcvlowat: int = 1
        self.sndtimeo: int | None = None  # ns; None: for ever
        self.rcvtimeo: int | None = None
        self.lingertime: int = 0  # seconds
        self.bind_bucket: Any = None
        self.hashed: int = 0  # which tables know it: 1 listening, 2 established
        self.extra: Any = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.prot.name} {self.sport}>{self.dport} state {self.state}>"


class Proto:
    """A protocol's operations. Each raises OSError as the man page of the system call says; `timeout` is ns, None or 0."""

    name: str = ""

    def init_sock(self, sk: Sock) -> None:
        """The new socket has its protocol's defaults."""

    def connect(self, sk: Sock, addr: tuple[int, int], timeout: int | None) -> None:
        raise oserror(EOPNOTSUPP)

    def disconnect(self, sk: Sock) -> None:
        raise oserror(EOPNOTSUPP)

    def accept(self, sk: Sock, timeout: int | None) -> Sock:
        raise oserror(EOPNOTSUPP)

    def listen(self, sk: Sock, backlog: int) -> None:
        raise oserror(EOPNOTSUPP)

    def sendmsg(self, sk: Sock, data: Any, flags: int, addr: tuple[int, int] | None, timeout: int | None) -> int:
        raise oserror(EOPNOTSUPP)

    def recvmsg(self, sk: Sock, n: int, flags: int, timeout: int | None) -> tuple[bytes, tuple[int, int] | None]:
        raise oserror(EOPNOTSUPP)

    def shutdown(self, sk: Sock, how: int) -> None:
        """`how`: RCV_SHUTDOWN | SEND_SHUTDOWN; sk.shutdown has been set."""

    def close(self, sk: Sock, timeout: int) -> None:
        """The last descriptor is gone; `timeout`: ns that SO_LINGER grants."""

    def poll(self, sk: Sock) -> int:
        return 0

    def setsockopt(self, sk: Sock, level: int, name: int, value: int | bytes) -> None:
        raise oserror(ENOPROTOOPT)

    def getsockopt(self, sk: Sock, level: int, name: int) -> int | bytes:
        raise oserror(ENOPROTOOPT)

    def get_port(self, sk: Sock, port: int) -> None:
        """sk.sport is a free port, `port` if that is not 0. Raises EADDRINUSE."""
        raise oserror(EOPNOTSUPP)

    def put_port(self, sk: Sock) -> None:
        """The port is free again."""

    def ioctl(self, sk: Sock, cmd: int) -> int:
        raise oserror(EINVAL)

    def diag(self, sk: Sock) -> dict[str, Any]:
        """What `ss` shows beyond the addresses."""
        return {}


def sock_flag(sk: Sock, flag: int) -> bool:
    """True if `flag` is set."""
    return sk.flags & flag != 0


def sock_error(sk: Sock) -> int:
    """The pending error, which is cleared: it is returned once. Linux: sock_error()."""
    err = sk.err
    sk.err = 0
    return err


def raise_sock_error(sk: Sock) -> None:
    """Raises the pending error, if there is one."""
    if sk.err:
        raise oserror(sock_error(sk))
