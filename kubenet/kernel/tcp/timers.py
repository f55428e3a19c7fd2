"""TCP's three timers, one callback each: retransmit (or zero-window probe), delayed ACK, keepalive (or FIN-WAIT-2).

    tcp_write_timer      what tp.pending says: TIME_RETRANS -> tcp_retransmit_timer, TIME_PROBE0 -> tcp_probe_timer,
                         TIME_LOSS_PROBE -> tcp_send_loss_probe (tlp.py), TIME_REO_TIMEOUT -> tcp_rack_reo_timeout (recovery.py)
    tcp_delack_timer     the ACK that nothing carried
    tcp_keepalive_timer  is an idle peer still there; the end of an orphan's FIN-WAIT-2

How long a peer may stay silent is counted in time, not in tries: tcp_retries2 = 15 means as long as 15 doublings of 200 ms
would take, 924.6 s. A SYN has tcp_syn_retries doublings of 1 s after tcp_syn_linear_timeouts tries one second apart.

Sources: RFC 6298 5, RFC 9293 3.8.3, 3.8.4, 3.8.6.1, RFC 5482; Linux net/ipv4/tcp_timer.c, tcp_output.c tcp_send_probe0().
"""

from __future__ import annotations

from errno import ENOBUFS, ETIMEDOUT

from kubenet.kernel.socket.sock import (
    SOCK_DEAD,
    SOCK_KEEPOPEN,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT2,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
)
from kubenet.kernel.tcp.connect import tcp_refresh_syn_options
from kubenet.kernel.tcp.output import (
    tcp_in_pingpong_mode,
    tcp_retransmit_skb,
    tcp_send_ack,
    tcp_send_active_reset,
    tcp_write_wakeup,
)
from kubenet.kernel.tcp.recovery import tcp_enter_loss, tcp_rack_reo_timeout
from kubenet.kernel.tcp.rtt import tcp_rto_max
from kubenet.kernel.tcp.seq import HALF, M32
from kubenet.kernel.tcp.sock import (
    ACK_SCHED,
    ACK_TIMER,
    CA_DISORDER,
    CA_LOSS,
    CA_RECOVERY,
    TCP_ATO_MIN,
    TCP_RESOURCE_PROBE_INTERVAL,
    TCP_RTO_MIN,
    TCP_TIMEOUT_INIT,
    TCP_TIMEWAIT_LEN,
    TIME_LOSS_PROBE,
    TIME_NONE,
    TIME_PROBE0,
    TIME_REO_TIMEOUT,
    TIME_RETRANS,
    TcpSock,
    TxSeg,
    tcp_time_stamp,
)
from kubenet.kernel.tcp.states import tcp_done, tcp_write_queue_purge
from kubenet.kernel.tcp.timewait import tcp_fin_time, tcp_time_wait
from kubenet.kernel.tcp.tlp import tcp_send_loss_probe
from kubenet.kernel.tcp.xmit_timer import tcp_reset_xmit_timer
from kubenet.sim.timer import Timer
from kubenet.units import MSEC, SEC
from kubenet.wire.tcp import SYN

TCP_THIN_LINEAR_RETRIES = 6
TCP_TIMEOUT_MIN = 2 * MSEC


def tcp_init_xmit_timers(tp: TcpSock) -> None:
    """The socket has its three timers, none of them running. Linux: the same."""
    loop = tp.net.loop
    tp.retransmit_timer = Timer(loop, tcp_write_timer, tp)
    tp.delack_timer = Timer(loop, tcp_delack_timer, tp)
    tp.keepalive_timer = Timer(loop, tcp_keepalive_timer, tp)


def tcp_write_err(tp: TcpSock) -> None:
    """The peer was silent for too long: ETIMEDOUT, or what ICMP said meanwhile. RFC 1122 4.2.3.5. Linux: the same."""
    tp.err = tp.err_soft or ETIMEDOUT
    tcp_write_queue_purge(tp)
    tp.net.snmp["TcpExtTCPAbortOnTimeout"] += 1
    tcp_done(tp)
    tp.wait.wake()


# ---- how long is too long


def tcp_orphan_retries(tp: TcpSock, alive: bool) -> int:
    """How often an orphan may try: tcp_orphan_retries, 8 if that is 0 and the peer may be there. Linux: the same."""
    retries = tp.net.sysctl.ipv4.tcp_orphan_retries
    if tp.err_soft and not alive:  # ICMP said that something is wrong
        retries = 0
    return 8 if retries == 0 and alive else retries


def tcp_check_oom(tp: TcpSock, shift: int) -> bool:
    """Too many orphans on this machine. Linux: the same."""
    return tp.net.host.tcp_orphans << shift > tp.net.sysctl.ipv4.tcp_max_orphans


def tcp_out_of_resources(tp: TcpSock, do_reset: bool) -> bool:
    """True if the orphan was ended because there are too many of them. Linux: the same."""
    silent = tp.net.loop.now - tp.lsndtime
    shift = int(silent > 2 * tcp_rto_max(tp) or not do_reset) + int(tp.err_soft != 0)
    if not tcp_check_oom(tp, shift):
        return False
    if silent <= TCP_TIMEWAIT_LEN or (not tp.snd_wnd and not tp.packets_out) or do_reset:
        tcp_send_active_reset(tp)
    tcp_done(tp)
    tp.net.snmp["TcpExtTCPAbortOnMemory"] += 1
    return True


def tcp_model_timeout(tp: TcpSock, boundary: int, rto_base: int) -> int:
    """How long `boundary` doublings of rto_base take, none longer than rto_max (ns). Linux: the same."""
    longest = tcp_rto_max(tp)
    linear = (longest // rto_base).bit_length() - 1
    if boundary <= linear:
        return ((2 << boundary) - 1) * rto_base
    return ((2 << linear) - 1) * rto_base + (boundary - linear) * longest


def _since_retrans(tp: TcpSock, start: int) -> int:
    """Time since the timestamp `start` (ns), in whole milliseconds as TCP counts them."""
    delta = (tcp_time_stamp(tp.net, tp.tsoffset) - start) & M32
    return (delta - (1 << 32) if delta >= HALF else delta) * MSEC


def retransmits_timed_out(tp: TcpSock, boundary: int, timeout: int) -> bool:
    """It has been going on for `timeout` ns; 0: for as long as `boundary` retransmissions take. Linux: the same."""
    if not tp.retransmits:
        return False
    if timeout == 0:
        base = TCP_TIMEOUT_INIT if tp.state in (TCP_SYN_SENT, TCP_SYN_RECV) else TCP_RTO_MIN
        timeout = tcp_model_timeout(tp, boundary, base)
    return _since_retrans(tp, tp.retrans_stamp) >= timeout


def tcp_write_timeout(tp: TcpSock) -> bool:
    """True if the connection was given up. RFC 1122 4.2.3.5 (R1, R2). Linux: the same."""
    sysctl = tp.net.sysctl.ipv4
    expired = False
    if tp.state in (TCP_SYN_SENT, TCP_SYN_RECV):
        if tp.retransmits:
            tp.dst = None
        retry_until = tp.syn_retries or sysctl.tcp_syn_retries
        most = retry_until + (sysctl.tcp_syn_linear_timeouts if tp.state == TCP_SYN_SENT else 0)
        expired = tp.retransmits >= most
    else:
        if retransmits_timed_out(tp, sysctl.tcp_retries1, 0):
            tp.dst = None  # another way may work
        retry_until = sysctl.tcp_retries2
        if tp.flags & SOCK_DEAD:
            alive = tp.rto < tcp_rto_max(tp)
            retry_until = tcp_orphan_retries(tp, alive)
            if tcp_out_of_resources(tp, alive or not retransmits_timed_out(tp, retry_until, 0)):
                return True
    if expired or retransmits_timed_out(tp, retry_until, tp.user_timeout):
        tcp_write_err(tp)
        return True
    tp.net.snmp["TcpExtTcpTimeoutRehash"] += 1
    return False


# ---- retransmission


def tcp_write_timer(tp: TcpSock) -> None:
    """Linux: tcp_write_timer_handler()."""
    what = tp.pending
    if tp.state in (TCP_CLOSE, TCP_LISTEN) or what == TIME_NONE:
        return
    if what == TIME_LOSS_PROBE:
        return tcp_send_loss_probe(tp)
    if what == TIME_REO_TIMEOUT:
        return tcp_rack_reo_timeout(tp)
    tp.pending = TIME_NONE
    if what == TIME_RETRANS:
        tcp_retransmit_timer(tp)
    elif what == TIME_PROBE0:
        tcp_probe_timer(tp)
    return None


def tcp_retransmit_timer(tp: TcpSock) -> None:
    """The head of the retransmit queue is sent again, and the timeout doubled. RFC 6298 5.4 to 5.7. Linux: the same."""
    if not tp.packets_out or not tp.rtx_queue:
        return
    if not tp.snd_wnd and not tp.flags & SOCK_DEAD and tp.state not in (TCP_SYN_SENT, TCP_SYN_RECV):
        head = tp.rtx_queue[0]
        if tcp_rtx_probe0_timed_out(tp, head):
            tcp_write_err(tp)
            return
        tcp_enter_loss(tp)
        tcp_retransmit_skb(tp, head, 1)  # the window closed over what was sent: this is its probe
        tp.dst = tp.dst if tp.dst is None or not tp.dst.obsolete else None
    else:
        tp.net.snmp["TcpExtTCPTimeouts"] += 1
        if tcp_write_timeout(tp):
            return
        if tp.retransmits == 0:
            _count_failure(tp)
        tcp_enter_loss(tp)
        tp.retransmits += 1
        tp.total_rto += 1
        if tp.rtx_queue[0].flags & SYN:
            tcp_refresh_syn_options(tp)
        if tcp_retransmit_skb(tp, tp.rtx_queue[0], 1) == -ENOBUFS:  # lost on this very machine: try soon
            tcp_reset_xmit_timer(tp, TIME_RETRANS, TCP_RESOURCE_PROBE_INTERVAL)
            return
    _back_off(tp)
    tcp_reset_xmit_timer(tp, TIME_RETRANS, tcp_clamp_rto_to_user_timeout(tp))
    if retransmits_timed_out(tp, tp.net.sysctl.ipv4.tcp_retries1 + 1, 0):
        tp.dst = None


def _count_failure(tp: TcpSock) -> None:
    """A repair that was under way has failed: nstat counts which."""
    if tp.ca_state == CA_RECOVERY:
        tp.net.snmp["TcpExtTCPSackRecoveryFail" if tp.sack_ok else "TcpExtTCPRenoRecoveryFail"] += 1
    elif tp.ca_state == CA_LOSS:
        tp.net.snmp["TcpExtTCPLossFailures"] += 1
    elif tp.ca_state == CA_DISORDER or tp.sacked_out:
        tp.net.snmp["TcpExtTCPSackFailures" if tp.sack_ok else "TcpExtTCPRenoFailures"] += 1


def _back_off(tp: TcpSock) -> None:
    """RFC 6298 5.5; a SYN's first tcp_syn_linear_timeouts do not."""
    sysctl = tp.net.sysctl.ipv4
    if (
        tp.state == TCP_ESTABLISHED
        and sysctl.tcp_thin_linear_timeouts
        and tp.packets_out < 4
        and tp.retransmits <= TCP_THIN_LINEAR_RETRIES
    ):
        tp.backoff = 0
        base = -(-((tp.srtt_us >> 3) + tp.rttvar_us) // 1000) * MSEC
        tp.rto = min(max(base, TCP_RTO_MIN), tcp_rto_max(tp))
    elif tp.state != TCP_SYN_SENT or tp.total_rto > sysctl.tcp_syn_linear_timeouts:
        tp.backoff += 1
        tp.rto = min(tp.rto << 1, tcp_rto_max(tp))


def tcp_clamp_rto_to_user_timeout(tp: TcpSock) -> int:
    """The timer fires no later than TCP_USER_TIMEOUT ends. RFC 5482. Linux: the same."""
    if not tp.user_timeout:
        return tp.rto
    remaining = tp.user_timeout - _since_retrans(tp, tp.retrans_stamp)
    return min(tp.rto, remaining) if remaining > 0 else MSEC


def tcp_rtx_probe0_timed_out(tp: TcpSock, head: TxSeg) -> bool:
    """The window has been closed over sent data, and the peer silent, for two of the longest timeouts. Linux: the same."""
    if tp.retrans_stamp:
        since = _since_retrans(tp, tp.retrans_stamp)
    else:
        since = tp.net.loop.now - head.tstamp
    timeout = 2 * tcp_rto_max(tp)
    if tp.user_timeout:
        if since > tp.user_timeout:
            return True
        timeout = min(timeout, tp.user_timeout)
    return tp.net.loop.now - tp.rcv_tstamp > timeout and since > timeout


# ---- the zero window


def tcp_probe_timer(tp: TcpSock) -> None:
    """The closed window is asked for, or the connection given up. RFC 9293 3.8.6.1. Linux: the same.

    RFC 1122 4.2.2.17: a receiver that answers probes may keep its window closed for ever, unless nobody owns the socket.
    """
    now = tp.net.loop.now
    if tp.packets_out or not tp.write_queue:
        tp.probes_out = tp.probes_tstamp = 0
        return
    if not tp.probes_tstamp:
        tp.probes_tstamp = now
    elif tp.user_timeout and now - tp.probes_tstamp >= tp.user_timeout:
        tcp_write_err(tp)
        return
    most = tp.net.sysctl.ipv4.tcp_retries2
    if tp.flags & SOCK_DEAD:
        alive = min(tp.rto << tp.backoff, tcp_rto_max(tp)) < tcp_rto_max(tp)
        most = tcp_orphan_retries(tp, alive)
        if not alive and tp.backoff >= most:
            tcp_write_err(tp)
            return
        if tcp_out_of_resources(tp, True):
            return
    if tp.probes_out >= most:
        tcp_write_err(tp)
    else:
        tcp_send_probe0(tp)


def tcp_probe0_when(tp: TcpSock) -> int:
    """How long until the next probe: RTO, doubled with each. Linux: the same."""
    longest = tcp_rto_max(tp)
    backoff = min((longest // TCP_RTO_MIN).bit_length(), tp.backoff)
    return min(max(tp.rto, TCP_RTO_MIN) << backoff, longest)


def tcp_send_probe0(tp: TcpSock) -> None:
    """A window probe left, and the next is due in twice the time. Linux: the same."""
    error = tcp_write_wakeup(tp, "TcpExtTCPWinProbe")
    if tp.packets_out or not tp.write_queue:
        tp.probes_out = tp.backoff = tp.probes_tstamp = 0
        return
    tp.probes_out += 1
    if error == -ENOBUFS:
        timeout = TCP_RESOURCE_PROBE_INTERVAL
    else:
        if tp.backoff < tp.net.sysctl.ipv4.tcp_retries2:
            tp.backoff += 1
        timeout = tcp_probe0_when(tp)
    if tp.user_timeout and tp.probes_tstamp:
        remaining = tp.user_timeout - (tp.net.loop.now - tp.probes_tstamp)
        timeout = min(timeout, max(remaining, TCP_TIMEOUT_MIN))
    tcp_reset_xmit_timer(tp, TIME_PROBE0, timeout)


# ---- delayed acknowledgment


def tcp_delack_timer(tp: TcpSock) -> None:
    """No answer carried the ACK: it goes alone, and the next may wait longer (or, if interactive, 40 ms). Linux: the same."""
    if tp.state in (TCP_CLOSE, TCP_LISTEN) or not tp.ack_pending & ACK_TIMER:
        return
    tp.ack_pending &= ~ACK_TIMER
    if not tp.ack_pending & ACK_SCHED:
        return
    if tcp_in_pingpong_mode(tp):
        tp.pingpong = 0
        tp.ato = TCP_ATO_MIN
    else:
        tp.ato = min(tp.ato << 1, tp.rto)
    tcp_send_ack(tp)
    tp.net.snmp["TcpExtDelayedACKs"] += 1


# ---- keepalive


def keepalive_time_when(tp: TcpSock) -> int:
    """Silence before the first probe (ns). Linux: the same."""
    return tp.keepalive_time or tp.net.sysctl.ipv4.tcp_keepalive_time * SEC


def keepalive_intvl_when(tp: TcpSock) -> int:
    """Time between two probes (ns). Linux: the same."""
    return tp.keepalive_intvl or tp.net.sysctl.ipv4.tcp_keepalive_intvl * SEC


def keepalive_probes(tp: TcpSock) -> int:
    """Unanswered probes until the peer counts as gone. Linux: the same."""
    return tp.keepalive_probes or tp.net.sysctl.ipv4.tcp_keepalive_probes


def keepalive_time_elapsed(tp: TcpSock) -> int:
    """Time since anything was heard of the peer (ns). Linux: the same."""
    return tp.net.loop.now - max(tp.lrcvtime, tp.rcv_tstamp)


def tcp_reset_keepalive_timer(tp: TcpSock, when: int) -> None:
    """The keepalive timer fires `when` ns from now. Linux: the same."""
    tp.keepalive_timer.mod(tp.net.loop.now + when)


def tcp_set_keepalive(tp: TcpSock, on: bool) -> None:
    """SO_KEEPALIVE was switched. Linux: the same."""
    if tp.state in (TCP_CLOSE, TCP_LISTEN):
        return
    if not on:
        tp.keepalive_timer.cancel()
    elif not tp.keepalive_timer.pending:
        tcp_reset_keepalive_timer(tp, keepalive_time_when(tp))


def tcp_keepalive_timer(tp: TcpSock) -> None:
    """An idle peer is asked for a sign of life; an orphan's FIN-WAIT-2 ends. RFC 9293 3.8.4. Linux: the same."""
    if tp.state in (TCP_CLOSE, TCP_LISTEN):
        return
    if tp.state == TCP_FIN_WAIT2 and tp.flags & SOCK_DEAD:
        if tp.linger2 >= 0:
            timeout = tcp_fin_time(tp) - TCP_TIMEWAIT_LEN
            if timeout > 0:
                tcp_time_wait(tp, TCP_FIN_WAIT2, timeout)
                return
        tcp_send_active_reset(tp)
        tcp_done(tp)
        return
    if not tp.flags & SOCK_KEEPOPEN or tp.state == TCP_SYN_SENT:
        return
    when = keepalive_time_when(tp)
    if not tp.packets_out and not tp.write_queue:  # data in flight is proof enough
        elapsed = keepalive_time_elapsed(tp)
        if elapsed < when:
            when -= elapsed
        elif _peer_is_gone(tp, elapsed):
            tcp_send_active_reset(tp)
            tcp_write_err(tp)
            return
        elif tcp_write_wakeup(tp, "TcpExtTCPKeepAlive") == -ENOBUFS:
            when = TCP_RESOURCE_PROBE_INTERVAL
        else:
            tp.probes_out += 1
            when = keepalive_intvl_when(tp)
    tcp_reset_keepalive_timer(tp, when)


def _peer_is_gone(tp: TcpSock, elapsed: int) -> bool:
    """Enough probes unanswered; with TCP_USER_TIMEOUT, enough time."""
    if tp.user_timeout:
        return elapsed >= tp.user_timeout and tp.probes_out > 0
    return tp.probes_out >= keepalive_probes(tp)
