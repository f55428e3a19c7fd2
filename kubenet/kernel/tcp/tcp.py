"""TCP as a socket's protocol: TcpProto, the table that system calls go through, and how a socket ends.

    close(2)     unread data: RST. SO_LINGER 0: RST. Otherwise FIN after what is still unsent, and the socket lives on as an
                 orphan without a descriptor until the peer has acknowledged everything
    shutdown(2)  FIN only; reading goes on
    disconnect   back to an unused socket: connect(2) with AF_UNSPEC, a failed connect(2), shutdown(2) of a listener

Sources: RFC 9293 3.10; Linux net/ipv4/tcp.c tcp_close(), tcp_shutdown(), tcp_disconnect(), tcp_poll(), tcp_ioctl(); tcp(7).
"""

from __future__ import annotations

from errno import ECONNABORTED, ECONNRESET, EINVAL
from typing import Any

from kubenet.kernel.socket.hashtables import inet_csk_get_port
from kubenet.kernel.socket.inet import inet_register_protosw
from kubenet.kernel.socket.sock import (
    IPPROTO_TCP,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLRDHUP,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SOCK_DEAD,
    SOCK_DONE,
    SOCK_LINGER,
    SOCK_NOSPACE,
    SOCK_STREAM,
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    Proto,
    Sock,
    oserror,
)
from kubenet.kernel.tcp.connect import inet_reset_saddr, tcp_v4_connect
from kubenet.kernel.tcp.info import tcp_diag
from kubenet.kernel.tcp.input import congestion_of
from kubenet.kernel.tcp.listen import inet_csk_accept, inet_csk_listen_start, inet_csk_listen_stop
from kubenet.kernel.tcp.output import tcp_send_active_reset, tcp_send_fin
from kubenet.kernel.tcp.recovery import tcp_set_ca_state
from kubenet.kernel.tcp.sock import (
    CA_OPEN,
    TCP_INFINITE_SSTHRESH,
    TCP_INIT_CWND,
    TCP_MIN_MSS,
    TCP_TIMEOUT_INIT,
    TCP_TIMEWAIT_LEN,
    TcpSock,
    tcp_receive_window,
)
from kubenet.kernel.tcp.sockopt import tcp_getsockopt, tcp_setsockopt
from kubenet.kernel.tcp.states import (
    inet_csk_destroy_sock,
    tcp_clear_xmit_timers,
    tcp_done,
    tcp_set_state,
    tcp_write_queue_purge,
)
from kubenet.kernel.tcp.stream import sk_stream_is_writeable, tcp_inq, tcp_recvmsg, tcp_sendmsg
from kubenet.kernel.tcp.timers import tcp_check_oom, tcp_init_xmit_timers, tcp_reset_keepalive_timer
from kubenet.kernel.tcp.timewait import tcp_fin_time, tcp_time_wait
from kubenet.sim.task import current_or_none
from kubenet.wire.tcp import NO_OPTIONS

SIOCINQ, SIOCATMARK, SIOCOUTQ, SIOCOUTQNSD = 0x541B, 0x8905, 0x5411, 0x894B

# close(2) and shutdown(2): state -> (next state, send a FIN). RFC 9293 3.10.4. Linux: new_state[] (tcp.c)
NEW_STATE: dict[int, tuple[int, bool]] = {
    TCP_ESTABLISHED: (TCP_FIN_WAIT1, True),
    TCP_SYN_SENT: (TCP_CLOSE, False),
    TCP_SYN_RECV: (TCP_FIN_WAIT1, True),
    TCP_FIN_WAIT1: (TCP_FIN_WAIT1, False),
    TCP_FIN_WAIT2: (TCP_FIN_WAIT2, False),
    TCP_CLOSE: (TCP_CLOSE, False),
    TCP_CLOSE_WAIT: (TCP_LAST_ACK, True),
    TCP_LAST_ACK: (TCP_LAST_ACK, False),
    TCP_CLOSING: (TCP_CLOSING, False),
}
NEED_RESET = (TCP_ESTABLISHED, TCP_CLOSE_WAIT, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_SYN_RECV)


def tcp_init_sock(tp: TcpSock) -> None:
    """A new socket has TCP's buffers, timers and congestion control. Linux: the same."""
    sysctl = tp.net.sysctl.ipv4
    tp.sndbuf, tp.rcvbuf = sysctl.tcp_wmem[1], sysctl.tcp_rmem[1]
    tcp_init_xmit_timers(tp)
    tp.ca = congestion_of(tp)


# ---- the end


def tcp_close_state(tp: TcpSock) -> bool:
    """The state that closing leads to; True: with a FIN. Linux: the same."""
    state, fin = NEW_STATE[tp.state]
    tcp_set_state(tp, state)
    return fin


def tcp_shutdown(tp: TcpSock, how: int) -> None:
    """No more is sent, and the peer learns it behind the data. SHUT_RD alone sends nothing. Linux: the same."""
    if how & SEND_SHUTDOWN and tp.state in (TCP_ESTABLISHED, TCP_SYN_SENT, TCP_CLOSE_WAIT):
        if tcp_close_state(tp):
            tcp_send_fin(tp)


def tcp_close(tp: TcpSock, timeout: int) -> None:
    """The program has let go of the socket; what is left is an orphan or nothing. RFC 9293 3.10.4. Linux: __tcp_close()."""
    tp.shutdown = SHUTDOWN_MASK
    if tp.state == TCP_LISTEN:
        tcp_set_state(tp, TCP_CLOSE)
        inet_csk_listen_stop(tp)
    else:
        unread = _flush_receive_queue(tp)
        if tp.state != TCP_CLOSE:
            _say_goodbye(tp, unread)
            if timeout and current_or_none() is not None:
                tp.wait.until(_Closed(tp), timeout)
    _orphan(tp)


def _flush_receive_queue(tp: TcpSock) -> bool:
    """The receive queue is empty; True if the program had not read all of it."""
    unread = any(seg.end_seq > tp.copied_seq for seg in tp.receive_queue)
    while tp.receive_queue:
        tp.rmem_alloc -= tp.receive_queue.popleft().truesize
    return unread


def _say_goodbye(tp: TcpSock, unread: bool) -> None:
    """RST if data is lost by closing (RFC 2525 2.17) or the program wants it so, else FIN.

    The reset leaves before the state changes, since a closed socket has no port any more.
    """
    snmp = tp.net.snmp
    if unread:
        snmp["TcpExtTCPAbortOnClose"] += 1
        tcp_send_active_reset(tp)
        tcp_set_state(tp, TCP_CLOSE)
    elif tp.flags & SOCK_LINGER and not tp.lingertime:
        tcp_disconnect(tp)
        snmp["TcpExtTCPAbortOnData"] += 1
    elif tcp_close_state(tp):
        tcp_send_fin(tp)


class _Closed:
    """SO_LINGER: the peer has acknowledged everything. Linux: sk_stream_closing()."""

    __slots__ = ("tp",)

    def __init__(self, tp: TcpSock) -> None:
        self.tp = tp

    def __call__(self) -> bool:
        return self.tp.state not in (TCP_FIN_WAIT1, TCP_CLOSING, TCP_LAST_ACK)


def _orphan(tp: TcpSock) -> None:
    """Nobody holds the socket. Linux: the adjudge_to_death label of __tcp_close()."""
    tp.flags |= SOCK_DEAD
    if tp.state == TCP_CLOSE:
        tcp_clear_xmit_timers(tp)
        inet_csk_destroy_sock(tp)
        return
    host = tp.net.host
    host.tcp_orphans += 1
    tp.orphan = True
    if tp.state == TCP_FIN_WAIT2:
        if tp.linger2 < 0:
            tcp_send_active_reset(tp)
            tp.net.snmp["TcpExtTCPAbortOnLinger"] += 1
            tcp_done(tp)
            return
        timeout = tcp_fin_time(tp)
        if timeout > TCP_TIMEWAIT_LEN:
            tcp_reset_keepalive_timer(tp, timeout - TCP_TIMEWAIT_LEN)
        else:
            tcp_time_wait(tp, TCP_FIN_WAIT2, timeout)
            return
    if tcp_check_oom(tp, 0):
        tcp_send_active_reset(tp)
        tp.net.snmp["TcpExtTCPAbortOnMemory"] += 1
        tcp_done(tp)


def tcp_disconnect(tp: TcpSock) -> None:
    """The socket is as new, but keeps what bind() and options gave it; a peer is reset. RFC 9293 3.10.5. Linux: the same."""
    old = tp.state
    if old in NEED_RESET or (old in (TCP_CLOSING, TCP_LAST_ACK) and tp.snd_nxt != tp.write_seq):
        tcp_send_active_reset(tp)
        tp.err = ECONNRESET
    elif old == TCP_SYN_SENT:
        tp.err = ECONNRESET
    if old != TCP_CLOSE:
        tcp_set_state(tp, TCP_CLOSE)
    if old == TCP_LISTEN:
        inet_csk_listen_stop(tp)
    tcp_clear_xmit_timers(tp)
    tp.receive_queue.clear()
    tp.ofo_queue.clear()
    tp.sack_recent.clear()
    tp.rmem_alloc = 0
    tcp_write_queue_purge(tp)
    tp.dport = 0
    tp.daddr = 0
    inet_reset_saddr(tp)
    tp.shutdown = 0
    tp.flags &= ~(SOCK_DONE | SOCK_NOSPACE)
    _forget_connection(tp)
    tp.wait.wake()


def _forget_connection(tp: TcpSock) -> None:
    """The numbers of the last connection are gone, but the next one begins beyond its sequence numbers."""
    tp.copied_seq = tp.rcv_nxt
    tp.write_seq += tp.max_window + 2
    tp.srtt_us, tp.mdev_us, tp.rttvar_us, tp.min_rtt_us = 0, TCP_TIMEOUT_INIT // 1000, 0, 0xFFFF_FFFF
    tp.rto = TCP_TIMEOUT_INIT
    tp.backoff = tp.retransmits = tp.probes_out = tp.probes_tstamp = tp.total_rto = 0
    tp.snd_ssthresh, tp.snd_cwnd = TCP_INFINITE_SSTHRESH, TCP_INIT_CWND
    tp.snd_cwnd_cnt = tp.max_packets_out = tp.window_clamp = tp.delivered = 0
    tp.is_cwnd_limited = False
    tcp_set_ca_state(tp, CA_OPEN)
    tp.ca = type(tp.ca)() if tp.ca is not None else congestion_of(tp)
    tp.retrans_stamp = tp.total_retrans = 0
    tp.undo_marker, tp.undo_retrans = None, -1
    tp.ack_pending = tp.quick = tp.pingpong = tp.ato = tp.last_seg_size = 0
    tp.rcv_mss = TCP_MIN_MSS
    tp.tstamp_ok = tp.sack_ok = tp.wscale_ok = False
    tp.snd_wscale = tp.rcv_wscale = tp.user_mss = tp.mss_clamp = 0
    tp.ts_recent = tp.ts_recent_stamp = tp.last_oow_ack_time = 0
    tp.opt, tp.dsack = NO_OPTIONS, None
    tp.dst = None
    tp.bytes_sent = tp.bytes_acked = tp.bytes_received = tp.bytes_retrans = 0
    tp.segs_in = tp.segs_out = tp.data_segs_in = tp.data_segs_out = tp.rcv_ooopack = 0


def tcp_abort(tp: TcpSock, error: int = ECONNABORTED) -> None:
    """The administrator ends the connection: RST to the peer, `error` to the program (`ss -K`). Linux: the same."""
    if tp.state == TCP_LISTEN:
        tcp_set_state(tp, TCP_CLOSE)
        inet_csk_listen_stop(tp)
        return
    if tp.state in NEED_RESET:
        tcp_send_active_reset(tp)
    if not tp.flags & SOCK_DEAD:
        tp.err = error
    tcp_write_queue_purge(tp)
    tcp_done(tp)
    tp.wait.wake()


# ---- poll(2), ioctl(2)


def tcp_stream_is_readable(tp: TcpSock) -> bool:
    """SO_RCVLOWAT bytes wait, or fewer and the window is as good as closed. Linux: the same."""
    avail = tp.rcv_nxt - tp.copied_seq
    return avail > 0 and (avail >= tp.rcvlowat or tcp_receive_window(tp) <= tp.rcv_mss)


def tcp_poll(tp: TcpSock) -> int:
    """What would not block. Linux: the same."""
    state, shutdown = tp.state, tp.shutdown
    if state == TCP_LISTEN:
        return POLLIN if tp.listen is not None and tp.listen.accept_queue else 0
    mask = 0
    if shutdown == SHUTDOWN_MASK or state == TCP_CLOSE:
        mask |= POLLHUP
    if shutdown & RCV_SHUTDOWN:
        mask |= POLLIN | POLLRDHUP
    if state not in (TCP_SYN_SENT, TCP_SYN_RECV):
        if tcp_stream_is_readable(tp):
            mask |= POLLIN
        if shutdown & SEND_SHUTDOWN or sk_stream_is_writeable(tp):
            mask |= POLLOUT
        else:
            tp.flags |= SOCK_NOSPACE
    if tp.err or tp.error_queue:
        mask |= POLLERR
    return mask


def tcp_ioctl(tp: TcpSock, cmd: int) -> int:
    """Bytes unread, unacknowledged, unsent. EINVAL. tcp(7). Linux: the same."""
    if cmd == SIOCATMARK:
        return 0
    if cmd not in (SIOCINQ, SIOCOUTQ, SIOCOUTQNSD) or tp.state == TCP_LISTEN:
        raise oserror(EINVAL)
    if tp.state in (TCP_SYN_SENT, TCP_SYN_RECV):
        return 0
    if cmd == SIOCINQ:
        return tcp_inq(tp)
    return tp.write_seq - (tp.snd_una if cmd == SIOCOUTQ else tp.snd_nxt)


class TcpProto(Proto):
    """What the system calls on a TCP socket do. Linux: tcp_prot."""

    name = "TCP"

    def init_sock(self, sk: Sock) -> None:
        assert isinstance(sk, TcpSock)
        tcp_init_sock(sk)

    def connect(self, sk: Sock, addr: tuple[int, int], timeout: int | None) -> None:
        assert isinstance(sk, TcpSock)
        tcp_v4_connect(sk, addr)

    def disconnect(self, sk: Sock) -> None:
        assert isinstance(sk, TcpSock)
        tcp_disconnect(sk)

    def accept(self, sk: Sock, timeout: int | None) -> Sock:
        assert isinstance(sk, TcpSock)
        return inet_csk_accept(sk, timeout)

    def listen(self, sk: Sock, backlog: int) -> None:
        assert isinstance(sk, TcpSock)
        if sk.listen is not None:
            sk.listen.backlog = backlog
        else:
            inet_csk_listen_start(sk, backlog)

    def sendmsg(self, sk: Sock, data: Any, flags: int, addr: tuple[int, int] | None, timeout: int | None) -> int:
        assert isinstance(sk, TcpSock)
        return tcp_sendmsg(sk, data, flags, timeout)

    def recvmsg(self, sk: Sock, n: int, flags: int, timeout: int | None) -> tuple[bytes, tuple[int, int] | None]:
        assert isinstance(sk, TcpSock)
        return tcp_recvmsg(sk, n, flags, timeout), None

    def shutdown(self, sk: Sock, how: int) -> None:
        assert isinstance(sk, TcpSock)
        tcp_shutdown(sk, how)

    def close(self, sk: Sock, timeout: int) -> None:
        assert isinstance(sk, TcpSock)
        tcp_close(sk, timeout)

    def poll(self, sk: Sock) -> int:
        assert isinstance(sk, TcpSock)
        return tcp_poll(sk)

    def setsockopt(self, sk: Sock, level: int, name: int, value: int | bytes) -> None:
        assert isinstance(sk, TcpSock)
        tcp_setsockopt(sk, level, name, value)

    def getsockopt(self, sk: Sock, level: int, name: int) -> int | bytes:
        assert isinstance(sk, TcpSock)
        return tcp_getsockopt(sk, level, name)

    def get_port(self, sk: Sock, port: int) -> None:
        inet_csk_get_port(sk, port)

    def put_port(self, sk: Sock) -> None:
        sk.net.socks.put_port(sk)

    def ioctl(self, sk: Sock, cmd: int) -> int:
        assert isinstance(sk, TcpSock)
        return tcp_ioctl(sk, cmd)

    def diag(self, sk: Sock) -> dict[str, Any]:
        return tcp_diag(sk)


tcp_prot = TcpProto()
inet_register_protosw(SOCK_STREAM, IPPROTO_TCP, tcp_prot, TcpSock)
