"""setsockopt(2) and getsockopt(2) at the TCP level. Source: tcp(7); Linux net/ipv4/tcp.c do_tcp_setsockopt(), do_tcp_getsockopt().

simplified: TCP_FASTOPEN and TCP_FASTOPEN_CONNECT answer EOPNOTSUPP, TCP_MD5SIG and TCP_REPAIR are not there.
"""

from __future__ import annotations

from errno import EINVAL, ENOPROTOOPT, EOPNOTSUPP

from kubenet.kernel.socket.options import SO_KEEPALIVE, SOL_SOCKET, as_int
from kubenet.kernel.socket.sock import (
    IPPROTO_TCP,
    SOCK_KEEPOPEN,
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    oserror,
)
from kubenet.kernel.tcp.congestion.base import find_congestion_control
from kubenet.kernel.tcp.info import congestion_name, pack_tcp_info
from kubenet.kernel.tcp.output import (
    tcp_current_mss,
    tcp_enter_pingpong_mode,
    tcp_in_pingpong_mode,
    tcp_push_pending_frames,
)
from kubenet.kernel.tcp.sock import (
    ACK_PUSHED,
    ACK_SCHED,
    MAX_TCP_KEEPCNT,
    NAGLE_CORK,
    NAGLE_OFF,
    NAGLE_PUSH,
    TCP_MIN_MSS,
    TcpSock,
)
from kubenet.kernel.tcp.stream import tcp_cleanup_rbuf
from kubenet.kernel.tcp.timers import (
    keepalive_intvl_when,
    keepalive_probes,
    keepalive_time_elapsed,
    keepalive_time_when,
    tcp_reset_keepalive_timer,
    tcp_set_keepalive,
)
from kubenet.kernel.tcp.window import tcp_set_window_clamp
from kubenet.units import MSEC, SEC

TCP_NODELAY, TCP_MAXSEG, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_SYNCNT = 1, 2, 3, 4, 5, 6, 7
TCP_LINGER2, TCP_DEFER_ACCEPT, TCP_WINDOW_CLAMP, TCP_INFO, TCP_QUICKACK, TCP_CONGESTION = 8, 9, 10, 11, 12, 13
TCP_THIN_LINEAR_TIMEOUTS, TCP_THIN_DUPACK, TCP_USER_TIMEOUT, TCP_FASTOPEN, TCP_NOTSENT_LOWAT = 16, 17, 18, 23, 25
TCP_FASTOPEN_CONNECT, TCP_INQ = 30, 36

MAX_TCP_WINDOW = 32767
MAX_TCP_KEEPIDLE = MAX_TCP_KEEPINTVL = 32767
MAX_TCP_SYNCNT = 127
TCP_FIN_TIMEOUT_MAX = 120  # seconds


def tcp_setsockopt(tp: TcpSock, level: int, name: int, value: int | bytes) -> None:
    """The option is set. EINVAL, ENOPROTOOPT. tcp(7). Linux: do_tcp_setsockopt()."""
    if level == SOL_SOCKET and name == SO_KEEPALIVE:
        tcp_set_keepalive(tp, as_int(value) != 0)
    elif level != IPPROTO_TCP:
        raise oserror(ENOPROTOOPT)
    elif name == TCP_CONGESTION:
        _set_congestion(tp, value)
    else:
        _set_number(tp, name, as_int(value))


def _set_number(tp: TcpSock, name: int, value: int) -> None:
    if name == TCP_NODELAY:
        _set_nodelay(tp, value != 0)
    elif name == TCP_CORK:
        _set_cork(tp, value != 0)
    elif name == TCP_QUICKACK:
        _set_quickack(tp, value)
    elif name == TCP_MAXSEG:
        if value:
            _check(TCP_MIN_MSS, value, MAX_TCP_WINDOW)
        tp.user_mss = value
    elif name in (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT):
        _set_keepalive(tp, name, value)
    elif name == TCP_SYNCNT:
        tp.syn_retries = _check(1, value, MAX_TCP_SYNCNT)
    elif name == TCP_LINGER2:
        tp.linger2 = -1 if value < 0 else min(value, TCP_FIN_TIMEOUT_MAX) * SEC
    elif name == TCP_DEFER_ACCEPT:
        tp.defer_accept = secs_to_retrans(value)
    elif name == TCP_WINDOW_CLAMP:
        _set_window_clamp(tp, value)
    elif name == TCP_USER_TIMEOUT:
        tp.user_timeout = _check(0, value, 0x7FFF_FFFF) * MSEC
    elif name == TCP_NOTSENT_LOWAT:
        tp.notsent_lowat = value & 0xFFFF_FFFF
        tp.wait.wake()
    elif name == TCP_INQ:
        tp.inq = _check(0, value, 1) == 1
    elif name in (TCP_THIN_LINEAR_TIMEOUTS, TCP_THIN_DUPACK):
        _check(0, value, 1)  # accepted, without effect: simplified
    elif name in (TCP_FASTOPEN, TCP_FASTOPEN_CONNECT):
        raise oserror(EOPNOTSUPP)
    else:
        raise oserror(ENOPROTOOPT)


def _check(low: int, value: int, high: int) -> int:
    if not low <= value <= high:
        raise oserror(EINVAL)
    return value


def _set_nodelay(tp: TcpSock, on: bool) -> None:
    """Small segments do not wait; what waits leaves now. Linux: __tcp_sock_set_nodelay()."""
    if on:
        tp.nonagle |= NAGLE_OFF | NAGLE_PUSH
        _push(tp)
    else:
        tp.nonagle &= ~NAGLE_OFF


def _set_cork(tp: TcpSock, on: bool) -> None:
    """Only full segments leave while corked. Linux: __tcp_sock_set_cork()."""
    if on:
        tp.nonagle |= NAGLE_CORK
    else:
        tp.nonagle &= ~NAGLE_CORK
        if tp.nonagle & NAGLE_OFF:
            tp.nonagle |= NAGLE_PUSH
        _push(tp)


def _push(tp: TcpSock) -> None:
    if tp.write_queue:
        tcp_push_pending_frames(tp, tcp_current_mss(tp), tp.nonagle)


def _set_quickack(tp: TcpSock, value: int) -> None:
    """Acknowledgments leave at once, or ride on answers. Linux: __tcp_sock_set_quickack()."""
    if not value:
        tcp_enter_pingpong_mode(tp)
        return
    tp.pingpong = 0
    if tp.state in (TCP_ESTABLISHED, TCP_CLOSE_WAIT) and tp.ack_pending & ACK_SCHED:
        tp.ack_pending |= ACK_PUSHED
        tcp_cleanup_rbuf(tp, 1)
        if not value & 1:
            tcp_enter_pingpong_mode(tp)


def _set_keepalive(tp: TcpSock, name: int, value: int) -> None:
    if name == TCP_KEEPIDLE:
        tp.keepalive_time = _check(1, value, MAX_TCP_KEEPIDLE) * SEC
        if tp.flags & SOCK_KEEPOPEN and tp.state not in (TCP_CLOSE, TCP_LISTEN):
            tcp_reset_keepalive_timer(tp, max(tp.keepalive_time - keepalive_time_elapsed(tp), 0))
    elif name == TCP_KEEPINTVL:
        tp.keepalive_intvl = _check(1, value, MAX_TCP_KEEPINTVL) * SEC
    else:
        tp.keepalive_probes = _check(1, value, MAX_TCP_KEEPCNT)


def _set_window_clamp(tp: TcpSock, value: int) -> None:
    if value:
        tcp_set_window_clamp(tp, value)
    elif tp.state != TCP_CLOSE:
        raise oserror(EINVAL)
    else:
        tp.window_clamp = 0


def _set_congestion(tp: TcpSock, value: int | bytes) -> None:
    """Another algorithm, from now on. ENOENT. Linux: tcp_set_congestion_control()."""
    if isinstance(value, int) or not value:
        raise oserror(EINVAL)
    tp.ca = find_congestion_control(value.split(b"\0")[0][:15].decode("utf-8", "replace"))()


def secs_to_retrans(seconds: int) -> int:
    """How many timeouts of 1 s, doubled up to 120 s, cover `seconds`; at most 255. Linux: secs_to_retrans()."""
    if seconds <= 0:
        return 0
    count, period, timeout = 1, 1, 1
    while seconds > period and count < 255:
        count += 1
        timeout = min(timeout << 1, 120)
        period += timeout
    return count


def retrans_to_secs(count: int) -> int:
    """The seconds that `count` timeouts take. Linux: retrans_to_secs()."""
    if not count:
        return 0
    period = timeout = 1
    for _ in range(count - 1):
        timeout = min(timeout << 1, 120)
        period += timeout
    return period


def tcp_getsockopt(tp: TcpSock, level: int, name: int) -> int | bytes:
    """The option's value. ENOPROTOOPT. tcp(7). Linux: do_tcp_getsockopt()."""
    if level != IPPROTO_TCP:
        raise oserror(ENOPROTOOPT)
    if name == TCP_INFO:
        return pack_tcp_info(tp)
    if name == TCP_CONGESTION:
        return congestion_name(tp).encode().ljust(16, b"\0")
    if name == TCP_MAXSEG:
        return tp.user_mss if tp.user_mss and tp.state in (TCP_CLOSE, TCP_LISTEN) else tp.mss_cache
    if name == TCP_LINGER2:
        return tp.linger2 if tp.linger2 < 0 else (tp.linger2 // SEC or tp.net.sysctl.ipv4.tcp_fin_timeout)
    simple = {
        TCP_NODELAY: tp.nonagle & NAGLE_OFF != 0,
        TCP_CORK: tp.nonagle & NAGLE_CORK != 0,
        TCP_KEEPIDLE: keepalive_time_when(tp) // SEC,
        TCP_KEEPINTVL: keepalive_intvl_when(tp) // SEC,
        TCP_KEEPCNT: keepalive_probes(tp),
        TCP_SYNCNT: tp.syn_retries or tp.net.sysctl.ipv4.tcp_syn_retries,
        TCP_DEFER_ACCEPT: retrans_to_secs(tp.defer_accept),
        TCP_WINDOW_CLAMP: tp.window_clamp,
        TCP_QUICKACK: not tcp_in_pingpong_mode(tp),
        TCP_USER_TIMEOUT: tp.user_timeout // MSEC,
        TCP_NOTSENT_LOWAT: tp.notsent_lowat,
        TCP_INQ: tp.inq,
        TCP_THIN_LINEAR_TIMEOUTS: 0,
        TCP_THIN_DUPACK: 0,
        TCP_FASTOPEN: 0,
        TCP_FASTOPEN_CONNECT: 0,
    }
    if name not in simple:
        raise oserror(ENOPROTOOPT)
    return int(simple[name])
