"""setsockopt(2) and getsockopt(2): the SOL_SOCKET and IPPROTO_IP levels; other levels go to the protocol.

Values are ints, or bytes where the C interface has a structure (SO_LINGER, SO_RCVTIMEO, SO_BINDTODEVICE, TCP_INFO). Buffer
sizes are doubled when set and reported doubled, because half of the memory is bookkeeping: min(value, *_max) * 2 with floors
of 2304 and 4608; the FORCE variants ignore the maximum. Sources: Linux net/core/sock.c, net/ipv4/ip_sockglue.c; socket(7), ip(7).
"""

from __future__ import annotations

from errno import EDOM, EINVAL, ENODEV, ENOPROTOOPT, ENOTCONN, EPERM
from struct import Struct

from kubenet.kernel.socket.sock import (
    IPPROTO_IP,
    SOCK_BROADCAST,
    SOCK_DBG,
    SOCK_KEEPOPEN,
    SOCK_LINGER,
    SOCK_MIN_RCVBUF,
    SOCK_MIN_SNDBUF,
    SOCK_RCVBUF_LOCK,
    SOCK_SNDBUF_LOCK,
    SOCK_TIMESTAMP,
    SOCK_URGINLINE,
    TCP_LISTEN,
    Sock,
    oserror,
    sock_error,
)
from kubenet.units import SEC, USEC

SOL_SOCKET = 1
SO_DEBUG, SO_REUSEADDR, SO_TYPE, SO_ERROR, SO_DONTROUTE, SO_BROADCAST = 1, 2, 3, 4, 5, 6
SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE, SO_OOBINLINE, SO_NO_CHECK, SO_PRIORITY = 7, 8, 9, 10, 11, 12
SO_LINGER, SO_BSDCOMPAT, SO_REUSEPORT, SO_PASSCRED, SO_PEERCRED = 13, 14, 15, 16, 17
SO_RCVLOWAT, SO_SNDLOWAT, SO_RCVTIMEO, SO_SNDTIMEO, SO_BINDTODEVICE = 18, 19, 20, 21, 25
SO_TIMESTAMP, SO_ACCEPTCONN, SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_MARK = 29, 30, 32, 33, 36
SO_PROTOCOL, SO_DOMAIN, SO_MEMINFO, SO_INCOMING_CPU, SO_ZEROCOPY = 38, 39, 55, 49, 60

IP_TOS, IP_TTL, IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR, IP_MTU = 1, 2, 8, 10, 11, 14
IP_FREEBIND, IP_TRANSPARENT, IP_BIND_ADDRESS_NO_PORT = 15, 19, 24
IP_RECVTTL, IP_RECVTOS, IP_RETOPTS, IP_HDRINCL, IP_MULTICAST_TTL, IP_MULTICAST_LOOP = 12, 13, 7, 3, 33, 34

_LINGER = Struct("ii")
_TIMEVAL = Struct("qq")
_INT = Struct("i")

_FLAGS = {SO_DEBUG: SOCK_DBG, SO_BROADCAST: SOCK_BROADCAST, SO_KEEPALIVE: SOCK_KEEPOPEN, SO_OOBINLINE: SOCK_URGINLINE,
          SO_TIMESTAMP: SOCK_TIMESTAMP}
_IP_BOOLS = {IP_RECVERR: "recverr", IP_FREEBIND: "freebind", IP_TRANSPARENT: "transparent", IP_PKTINFO: "pktinfo",
             IP_BIND_ADDRESS_NO_PORT: "bind_address_no_port"}


def as_int(value: int | bytes) -> int:
    """The value of an option whose C type is int. EINVAL if it is shorter."""
    if isinstance(value, int):
        return value
    if len(value) < 4:
        raise oserror(EINVAL)
    number: int = _INT.unpack_from(value)[0]
    return number


def sock_setsockopt(sk: Sock, level: int, opt: int, value: int | bytes) -> None:
    """The option is set. ENOPROTOOPT for one that does not exist. setsockopt(2)."""
    if level == SOL_SOCKET:
        _set_socket(sk, opt, value)
    elif level == IPPROTO_IP and opt != IP_HDRINCL:
        _set_ip(sk, opt, value)
    else:
        sk.prot.setsockopt(sk, level, opt, value)


def _set_socket(sk: Sock, opt: int, value: int | bytes) -> None:
    if opt in _FLAGS:
        flag = _FLAGS[opt]
        sk.flags = sk.flags | flag if as_int(value) else sk.flags & ~flag
        if opt == SO_KEEPALIVE:
            sk.prot.setsockopt(sk, SOL_SOCKET, SO_KEEPALIVE, as_int(value))
    elif opt == SO_REUSEADDR:
        sk.reuse = as_int(value) != 0
    elif opt == SO_REUSEPORT:
        sk.reuseport = as_int(value) != 0
    elif opt in (SO_SNDBUF, SO_SNDBUFFORCE, SO_RCVBUF, SO_RCVBUFFORCE):
        _set_buffer(sk, opt, as_int(value))
    elif opt == SO_LINGER:
        _set_linger(sk, value)
    elif opt in (SO_RCVTIMEO, SO_SNDTIMEO):
        _set_timeout(sk, opt, value)
    elif opt == SO_RCVLOWAT:
        low = as_int(value)
        sk.rcvlowat = (1 << 31) - 1 if low < 0 else low or 1
        sk.wait.wake()
    elif opt == SO_BINDTODEVICE:
        _bind_to_device(sk, value)
    elif opt in (SO_MARK, SO_PRIORITY):
        _set_mark_or_priority(sk, opt, as_int(value))
    elif opt == SO_NO_CHECK:
        sk.no_check = as_int(value) != 0
    elif opt in (SO_DONTROUTE, SO_BSDCOMPAT, SO_PASSCRED, SO_INCOMING_CPU, SO_ZEROCOPY):
        as_int(value)  # accepted, without effect: simplified
    else:
        raise oserror(ENOPROTOOPT)


def _set_mark_or_priority(sk: Sock, opt: int, value: int) -> None:
    if opt == SO_PRIORITY:
        if sk.uid != 0 and not 0 <= value <= 6:
            raise oserror(EPERM)
        sk.priority = value
    else:
        if sk.uid != 0:
            raise oserror(EPERM)
        sk.mark = value & 0xFFFF_FFFF
        sk.dst = None


def _set_buffer(sk: Sock, opt: int, value: int) -> None:
    """Doubled, between the floor and twice the sysctl maximum. Linux: sock_setsockopt(), __sock_set_rcvbuf()."""
    core = sk.net.sysctl.core
    if opt in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
        if sk.uid != 0:
            raise oserror(EPERM)
        value = max(value, 0)
    if opt == SO_SNDBUF:
        value = min(value & 0xFFFF_FFFF, core.wmem_max)
    elif opt == SO_RCVBUF:
        value = min(value & 0xFFFF_FFFF, core.rmem_max)
    value = min(value, (1 << 30) - 1)
    if opt in (SO_SNDBUF, SO_SNDBUFFORCE):
        sk.userlocks |= SOCK_SNDBUF_LOCK
        sk.sndbuf = max(value * 2, SOCK_MIN_SNDBUF)
    else:
        sk.userlocks |= SOCK_RCVBUF_LOCK
        sk.rcvbuf = max(value * 2, SOCK_MIN_RCVBUF)
    sk.wait.wake()


def _set_linger(sk: Sock, value: int | bytes) -> None:
    if isinstance(value, int) or len(value) < 8:
        raise oserror(EINVAL)
    on, seconds = _LINGER.unpack_from(value)
    if on:
        sk.flags |= SOCK_LINGER
        sk.lingertime = seconds & 0xFFFF_FFFF
    else:
        sk.flags &= ~SOCK_LINGER


def _set_timeout(sk: Sock, opt: int, value: int | bytes) -> None:
    if isinstance(value, int) or len(value) < 16:
        raise oserror(EINVAL)
    seconds, useconds = _TIMEVAL.unpack_from(value)
    if not 0 <= useconds < 1_000_000:
        raise oserror(EDOM)
    ns = seconds * SEC + useconds * USEC
    timeo = None if ns == 0 else max(ns, 0)
    if opt == SO_RCVTIMEO:
        sk.rcvtimeo = timeo
    else:
        sk.sndtimeo = timeo


def _bind_to_device(sk: Sock, value: int | bytes) -> None:
    """The socket uses this device only; an empty name undoes it. Linux: sock_setbindtodevice()."""
    if isinstance(value, int):
        raise oserror(EINVAL)
    name = value.split(b"\0")[0].decode("utf-8", "replace")
    index = 0
    if name:
        dev = sk.net.devs.get(name)
        if dev is None:
            raise oserror(ENODEV)
        index = dev.ifindex
    sk.bound_dev = index
    sk.dst = None


def _set_ip(sk: Sock, opt: int, value: int | bytes) -> None:
    number = as_int(value)
    if opt == IP_TOS:
        # TCP keeps the ECN bits for itself. Linux: __ip_sock_set_tos()
        sk.tos = (number & 0xFC) | (sk.tos & 3) if sk.type == 1 else number & 0xFF
    elif opt == IP_TTL:
        if number != -1 and not 1 <= number <= 255:
            raise oserror(EINVAL)
        sk.ttl = 0 if number == -1 else number
    elif opt == IP_MTU_DISCOVER:
        if not 0 <= number <= 5:
            raise oserror(EINVAL)
        sk.pmtudisc = number
    elif opt in _IP_BOOLS:
        if opt == IP_TRANSPARENT and number and sk.uid != 0:
            raise oserror(EPERM)
        setattr(sk, _IP_BOOLS[opt], number != 0)
    elif opt in (IP_RECVTTL, IP_RECVTOS, IP_RETOPTS, IP_MULTICAST_TTL, IP_MULTICAST_LOOP):
        pass  # accepted, without effect: simplified
    else:
        sk.prot.setsockopt(sk, IPPROTO_IP, opt, value)


def sock_getsockopt(sk: Sock, level: int, opt: int) -> int | bytes:
    """The option's value. SO_ERROR clears what it returns. getsockopt(2)."""
    if level == SOL_SOCKET:
        return _get_socket(sk, opt)
    if level == IPPROTO_IP and opt != IP_HDRINCL:
        return _get_ip(sk, opt)
    return sk.prot.getsockopt(sk, level, opt)


def _get_socket(sk: Sock, opt: int) -> int | bytes:
    simple = {
        SO_REUSEADDR: sk.reuse, SO_REUSEPORT: sk.reuseport, SO_TYPE: sk.type, SO_SNDBUF: sk.sndbuf, SO_RCVBUF: sk.rcvbuf,
        SO_PRIORITY: sk.priority, SO_RCVLOWAT: sk.rcvlowat, SO_SNDLOWAT: 1, SO_MARK: sk.mark, SO_PROTOCOL: sk.protocol,
        SO_DOMAIN: sk.family, SO_ACCEPTCONN: sk.state == TCP_LISTEN, SO_NO_CHECK: sk.no_check,
        SO_DONTROUTE: 0, SO_BSDCOMPAT: 0, SO_PASSCRED: 0, SO_INCOMING_CPU: 0, SO_ZEROCOPY: 0,
    }
    if opt in simple:
        return int(simple[opt])
    if opt in _FLAGS:
        return int(sk.flags & _FLAGS[opt] != 0)
    if opt == SO_ERROR:
        return _get_error(sk)
    if opt == SO_LINGER:
        return _LINGER.pack(int(sk.flags & SOCK_LINGER != 0), sk.lingertime)
    if opt in (SO_RCVTIMEO, SO_SNDTIMEO):
        ns = (sk.rcvtimeo if opt == SO_RCVTIMEO else sk.sndtimeo) or 0
        return _TIMEVAL.pack(ns // SEC, ns % SEC // USEC)
    if opt == SO_BINDTODEVICE:
        dev = sk.net.dev_by_index.get(sk.bound_dev)
        return dev.name.encode() + b"\0" if dev is not None else b""
    if opt == SO_PEERCRED:
        return Struct("iii").pack(*sk.peercred)
    if opt == SO_MEMINFO:
        return Struct("9I").pack(sk.rmem_alloc, sk.rcvbuf, sk.wmem_alloc, sk.sndbuf, 0, sk.wmem_queued, 0, 0, sk.drops)
    raise oserror(ENOPROTOOPT)


def _get_error(sk: Sock) -> int:
    error = sock_error(sk)
    if not error:
        error, sk.err_soft = sk.err_soft, 0
    return error


def _get_ip(sk: Sock, opt: int) -> int | bytes:
    if opt == IP_TOS:
        return sk.tos
    if opt == IP_TTL:
        return sk.ttl or sk.net.sysctl.ipv4.ip_default_ttl
    if opt == IP_MTU_DISCOVER:
        return sk.pmtudisc
    if opt == IP_MTU:
        if sk.dst is None:
            raise oserror(ENOTCONN)
        mtu: int = sk.af_ops.mtu(sk.dst)
        return mtu
    if opt in _IP_BOOLS:
        return int(getattr(sk, _IP_BOOLS[opt]))
    return sk.prot.getsockopt(sk, IPPROTO_IP, opt)


