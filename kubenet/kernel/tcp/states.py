"""The states of RFC 9293 3.3.2, and the two ways a socket changes state: tcp_set_state() and tcp_done().

    CLOSE -> SYN-SENT -> ESTABLISHED -> FIN-WAIT-1 -> FIN-WAIT-2 -> TIME-WAIT        the side that closes first
    LISTEN -> (SYN-RECV) -> ESTABLISHED -> CLOSE-WAIT -> LAST-ACK -> CLOSE           the other
                                            FIN-WAIT-1 -> CLOSING -> TIME-WAIT       both at once

SYN-RECV of a listener is a ReqSock, TIME-WAIT a TimewaitSock, so a TcpSock itself is in SYN-RECV only after a
simultaneous open or between the final ACK and the end of its processing. Source: Linux net/ipv4/tcp.c tcp_set_state(), tcp_done().
"""

from __future__ import annotations

from kubenet.kernel.socket.sock import (
    SHUTDOWN_MASK,
    SOCK_BINDPORT_LOCK,
    SOCK_DEAD,
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_NEW_SYN_RECV,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCP_TIME_WAIT,
)
from kubenet.kernel.tcp.sock import TIME_NONE, TcpSock

STATE_NAMES = {
    TCP_ESTABLISHED: "ESTAB", TCP_SYN_SENT: "SYN-SENT", TCP_SYN_RECV: "SYN-RECV", TCP_FIN_WAIT1: "FIN-WAIT-1",
    TCP_FIN_WAIT2: "FIN-WAIT-2", TCP_TIME_WAIT: "TIME-WAIT", TCP_CLOSE: "UNCONN", TCP_CLOSE_WAIT: "CLOSE-WAIT",
    TCP_LAST_ACK: "LAST-ACK", TCP_LISTEN: "LISTEN", TCP_CLOSING: "CLOSING", TCP_NEW_SYN_RECV: "SYN-RECV",
}  # as `ss` prints them


def tcp_set_state(tp: TcpSock, state: int) -> None:
    """The socket is in `state`; entering CLOSE takes it out of the tables and frees a port nobody fixed. Linux: the same."""
    old = tp.state
    if state == TCP_CLOSE and old != TCP_CLOSE:
        if old in (TCP_CLOSE_WAIT, TCP_ESTABLISHED):
            tp.net.snmp["TcpEstabResets"] += 1
        tp.state = state
        tp.net.socks.unhash(tp)
        if tp.bind_bucket is not None and not tp.userlocks & SOCK_BINDPORT_LOCK:
            tp.net.socks.put_port(tp)
            tp.sport = tp.sport if tp.flags & SOCK_DEAD else 0
    tp.state = state


def tcp_clear_xmit_timers(tp: TcpSock) -> None:
    """No timer of the socket runs. Linux: the same."""
    tp.pending = TIME_NONE
    tp.ack_pending = 0
    tp.retransmit_timer.cancel()
    tp.delack_timer.cancel()
    tp.keepalive_timer.cancel()


def tcp_done(tp: TcpSock) -> None:
    """The connection is over; an orphan is gone for good, an owner finds the socket closed. Linux: tcp_done()."""
    if tp.state in (TCP_SYN_SENT, TCP_SYN_RECV):
        tp.net.snmp["TcpAttemptFails"] += 1
    tcp_set_state(tp, TCP_CLOSE)
    tcp_clear_xmit_timers(tp)
    tp.shutdown = SHUTDOWN_MASK
    if tp.flags & SOCK_DEAD:
        inet_csk_destroy_sock(tp)
    else:
        tp.wait.wake()


def inet_csk_destroy_sock(tp: TcpSock) -> None:
    """Nothing is left of an orphan. Linux: the same."""
    tcp_write_queue_purge(tp)
    tp.receive_queue.clear()
    tp.ofo_queue.clear()
    tp.rmem_alloc = 0
    if tp.bind_bucket is not None:
        tp.net.socks.put_port(tp)
    if tp.orphan:
        tp.orphan = False
        tp.net.host.tcp_orphans -= 1


def tcp_write_queue_purge(tp: TcpSock) -> None:
    """Nothing is left to send. Linux: the same."""
    tp.write_queue.clear()
    tp.rtx_queue.clear()
    tp.wmem_queued = 0
    tp.packets_out = tp.retrans_out = tp.sacked_out = tp.lost_out = 0
    tp.backoff = 0
