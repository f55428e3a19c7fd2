"""Segments arrive: from the packet to the socket, and the state machine of RFC 9293 3.10.7.

    tcp_v4_rcv(skb)                      checksum, look-up by the four values, then by what was found:
      TIME-WAIT mini socket              timewait.py
      request (SYN-RECV)                 listen.py tcp_check_req(), then its new child goes on below
      tcp_rcv_established(tp, skb)       the fast path: in order, nothing unusual
      tcp_rcv_state_process(tp, skb)     every other state
      nobody                             RST

tcp_validate_incoming() is the RFC's first to fourth checks (sequence, RST, security, SYN), after PAWS; tcp_ack() the fifth,
tcp_data_queue() the seventh and eighth. Functions that return True ask their caller for a reset. ICMP errors come in
through tcp_v4_err().

simplified: no urgent data (the URG flag is ignored). Sources: RFC 9293, RFC 5961, RFC 7323; Linux net/ipv4/tcp_ipv4.c, tcp_input.c.
"""

from __future__ import annotations

from errno import ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EPIPE, EPROTO

from kubenet.kernel.skbuff import CSUM_BAD, PACKET_HOST, DropReason, SkBuff, drop, station
from kubenet.kernel.socket.errqueue import ICMP_ERR_CONVERT
from kubenet.kernel.socket.sock import (
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SOCK_DEAD,
    SOCK_KEEPOPEN,
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
from kubenet.kernel.tcp.ack import tcp_ack, tcp_data_snd_check
from kubenet.kernel.tcp.congestion.base import CongestionControl, find_congestion_control
from kubenet.kernel.tcp.output import (
    tcp_in_pingpong_mode,
    tcp_oow_rate_limited,
    tcp_send_ack,
    tcp_send_challenge_ack,
    tcp_setup_caps,
    tcp_sync_mss,
    tcp_transmit_skb,
    tcp_update_pacing_rate,
    tcp_v4_send_reset,
)
from kubenet.kernel.tcp.reassembly import (
    tcp_ack_snd_check,
    tcp_data_queue,
    tcp_dsack_set,
    tcp_enter_quickack_mode,
    tcp_event_data_recv,
    tcp_initialize_rcv_mss,
    tcp_queue_rcv,
)
from kubenet.kernel.tcp.recovery import (
    FLAG_DATA,
    FLAG_NO_CHALLENGE_ACK,
    FLAG_SLOWPATH,
    FLAG_UPDATE_TS_RECENT,
    tcp_set_ca_state,
    tcp_simple_retransmit,
)
from kubenet.kernel.tcp.seq import HALF, M32, extend
from kubenet.kernel.tcp.sock import (
    ACK_SCHED,
    ACK_TIMER,
    CA_OPEN,
    TCP_DELACK_MAX,
    TCP_INFINITE_SSTHRESH,
    TCP_INIT_CWND,
    TCP_MAX_WSCALE,
    TCP_MSS_DEFAULT,
    TCP_PAWS_24DAYS,
    TCP_PAWS_WINDOW,
    TCP_TIMEOUT_FALLBACK,
    TCP_TIMEWAIT_LEN,
    TCPOLEN_TSTAMP_ALIGNED,
    TIME_RETRANS,
    ReqSock,
    TcpSock,
    TimewaitSock,
    tcp_receive_window,
    tcp_time_stamp,
)
from kubenet.kernel.tcp.states import STATE_NAMES, tcp_done, tcp_set_state, tcp_write_queue_purge
from kubenet.kernel.tcp.window import tcp_init_buffer_space
from kubenet.kernel.tcp.xmit_timer import tcp_reset_xmit_timer
from kubenet.units import MSEC, SEC
from kubenet.wire.tcp import ACK, FIN, PSH, RST, SYN, TcpHdr

ICMP_DEST_UNREACH, ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB, ICMP_FRAG_NEEDED = 3, 11, 12, 4


# ---- from IP


def tcp_v4_rcv(skb: SkBuff) -> None:
    """A segment for this namespace. Linux: the same."""
    net, th, ip = skb.net, skb.l4, skb.ip
    net.snmp["TcpInSegs"] += skb.gso_segs
    if skb.pkt_type != PACKET_HOST:
        return drop(skb, DropReason.OTHERHOST)
    if th is None:
        net.snmp["TcpInErrs"] += 1
        return drop(skb, DropReason.PKT_TOO_SMALL)
    if skb.csum == CSUM_BAD:
        net.snmp["TcpInErrs"] += 1
        return drop(skb, DropReason.TCP_CSUM)
    sk = net.socks.ehash.get((ip.saddr, th.sport, ip.daddr, th.dport))
    if sk is None:
        return _rcv_unknown(skb, th)
    if skb.tr is not None:
        found = station(skb, "tcp_v4_rcv", f"{STATE_NAMES[sk.state]} found by its 4-tuple")
        found.data = {"state": STATE_NAMES[sk.state]}
    state = sk.state
    if state == TCP_ESTABLISHED:
        return tcp_rcv_established(sk, skb)
    if state == TCP_TIME_WAIT:
        return _rcv_time_wait(sk, skb)
    if state == TCP_NEW_SYN_RECV:
        return _rcv_request(sk, skb)
    if tcp_rcv_state_process(sk, skb):
        tcp_v4_send_reset(skb)
        drop(skb, DropReason.TCP_RESET)
    return None


def _rcv_unknown(skb: SkBuff, th: TcpHdr) -> None:
    """No connection has these four values: a listener's, or nobody's."""
    net, ip = skb.net, skb.ip
    listener = net.socks.lookup_listener(ip.saddr, th.sport, ip.daddr, th.dport, skb.iif)
    if listener is None:
        if skb.tr is not None:
            station(skb, "tcp_v4_rcv", f"no socket on port {th.dport}")
        tcp_v4_send_reset(skb)
        return drop(skb, DropReason.NO_SOCKET)
    if skb.tr is not None:
        found = station(skb, "tcp_v4_rcv", f"no connection yet, LISTEN *:{th.dport}")
        found.data = {"state": "LISTEN", "syn_queue": listener.listen.qlen, "accept_queue": len(listener.listen.accept_queue)}
    if tcp_rcv_state_process(listener, skb):
        tcp_v4_send_reset(skb)
        drop(skb, DropReason.TCP_FLAGS)
    return None


def _rcv_request(req: ReqSock, skb: SkBuff) -> None:
    """The answer to a SYN-ACK makes the full socket, which then deals with the segment. Linux: tcp_child_process()."""
    from kubenet.kernel.tcp.listen import tcp_check_req

    child = tcp_check_req(req, skb)
    if child is None:
        return
    if tcp_rcv_state_process(child, skb):
        tcp_v4_send_reset(skb)
        drop(skb, DropReason.TCP_RESET)
    elif child.parent is not None:
        child.parent.wait.wake(exclusive=True)


def _rcv_time_wait(tw: TimewaitSock, skb: SkBuff) -> None:
    """Linux: the do_time_wait label of tcp_v4_rcv()."""
    from kubenet.kernel.tcp.timewait import TW_ACK, TW_RST, TW_SYN, tcp_timewait_state_process, tcp_v4_timewait_ack

    action = tcp_timewait_state_process(tw, skb)
    if action == TW_SYN:
        net, th, ip = skb.net, skb.l4, skb.ip
        listener = net.socks.lookup_listener(ip.saddr, th.sport, ip.daddr, th.dport, skb.iif)
        if listener is not None:
            tw.deschedule()
            if tcp_rcv_state_process(listener, skb):
                tcp_v4_send_reset(skb)
            return
        action = TW_ACK  # nobody to reopen it for
    if action == TW_ACK:
        tcp_v4_timewait_ack(tw, skb)
    elif action == TW_RST:
        tcp_v4_send_reset(skb)
        tw.deschedule()


# ---- the fast path


def tcp_rcv_established(tp: TcpSock, skb: SkBuff) -> None:
    """A segment in ESTABLISHED. What is in order and unusual in nothing goes straight through. Linux: the same."""
    th: TcpHdr = skb.l4
    rcv_nxt = tp.rcv_nxt
    tp.segs_in += skb.gso_segs
    if (
        th.flags & ~PSH == ACK
        and th.seq == rcv_nxt & M32
        and not tp.ofo_queue
        and (th.ack_seq - tp.snd_nxt + HALF) & M32 <= HALF  # not beyond snd_nxt
    ):
        opt = th.options
        if opt.sacks:
            return _rcv_slow(tp, skb, th)
        if tp.tstamp_ok and opt.ts:
            if (opt.tsval - tp.ts_recent) & M32 >= HALF:
                return _rcv_slow(tp, skb, th)  # PAWS
            if rcv_nxt <= tp.rcv_wup:
                tp.ts_recent = opt.tsval
                tp.ts_recent_stamp = tp.net.loop.now or 1
        plen = skb.plen
        if not plen:
            reason = tcp_ack(tp, skb, 0)
            if reason < 0:
                return drop(skb, -reason)
            if tp.write_queue or tp.flags & 64:  # SOCK_NOSPACE
                tcp_data_snd_check(tp)
            return None
        if plen <= tp.rcv_wup + tp.rcv_wnd - rcv_nxt and tp.rmem_alloc <= tp.rcvbuf:
            tp.data_segs_in += skb.gso_segs
            tp.net.snmp["TcpExtTCPHPHits"] += 1
            tcp_queue_rcv(tp, skb.payload, plen, rcv_nxt, rcv_nxt + plen)
            tcp_event_data_recv(tp, skb)
            if th.ack_seq != tp.snd_una & M32 or tp.packets_out:
                tcp_ack(tp, skb, FLAG_DATA)
                if tp.write_queue or tp.flags & 64:
                    tcp_data_snd_check(tp)
            else:
                tcp_ack(tp, skb, FLAG_DATA)
            tcp_ack_snd_check(tp)
            tp.wait.wake()
            return None
    return _rcv_slow(tp, skb, th)


def _rcv_slow(tp: TcpSock, skb: SkBuff, th: TcpHdr) -> None:
    """The slow path of tcp_rcv_established()."""
    seq = extend(th.seq, tp.rcv_nxt)
    if skb.plen:
        tp.data_segs_in += skb.gso_segs
    if not th.flags & (ACK | RST | SYN):
        return drop(skb, DropReason.TCP_FLAGS)
    if not tcp_validate_incoming(tp, skb, seq, 1):
        return None
    reason = tcp_ack(tp, skb, FLAG_SLOWPATH | FLAG_UPDATE_TS_RECENT)
    if reason < 0:
        if reason == -DropReason.TCP_ACK_UNSENT_DATA:
            tcp_send_challenge_ack(tp)  # since 6.18.44; earlier kernels drop without a word
        return drop(skb, -reason)
    tcp_data_queue(tp, skb, seq, seq + skb.plen + (th.flags & FIN))
    if tp.state != TCP_CLOSE:
        tcp_data_snd_check(tp)
        tcp_ack_snd_check(tp)
    return None


# ---- the first four checks


def tcp_paws_check(tp: TcpSock, tsval: int, window: int) -> bool:
    """The timestamp is not older than the last one, give or take `window`. RFC 7323 5.3. Linux: the same."""
    if (tp.ts_recent - tsval + HALF) & M32 <= HALF + window:
        return True
    return tp.net.loop.now - tp.ts_recent_stamp >= TCP_PAWS_24DAYS or not tp.ts_recent


def _disordered_ack(tp: TcpSock, skb: SkBuff, seq: int) -> bool:
    """A pure ACK that was overtaken: dropped without an answer. Linux: tcp_disordered_ack_check()."""
    th = skb.l4
    if th.flags & ACK == 0 or skb.plen or th.flags & (SYN | FIN) or seq != tp.rcv_nxt:
        return False
    if th.ack_seq != tp.snd_una & M32 or th.window << tp.snd_wscale > tp.snd_wnd:
        return False
    late: int = (tp.ts_recent - th.options.tsval) & M32
    return late <= tp.rto // MSEC


def tcp_validate_incoming(tp: TcpSock, skb: SkBuff, seq: int, syn_inerr: int = 0) -> bool:
    """PAWS, sequence number, RST and SYN are in order; if not, the segment was answered and dropped. `syn_inerr`: a SYN counts in
    TcpInErrs (1 from tcp_rcv_established(), 0 from tcp_rcv_state_process()). Linux: the same."""
    th = skb.l4
    flags, opt = th.flags, th.options
    end_seq = seq + skb.plen + (flags & FIN != 0) + (flags & SYN != 0)
    if tp.tstamp_ok and opt.ts and not tcp_paws_check(tp, opt.tsval, TCP_PAWS_WINDOW):
        if not flags & RST:
            if _disordered_ack(tp, skb, seq):
                tp.net.snmp["TcpExtPAWSOldAck"] += 1
                return _discard(skb, DropReason.TCP_OLD_ACK)
            if not tcp_oow_rate_limited(tp, "TcpExtTCPACKSkippedPAWS") or skb.plen:
                tcp_send_dupack(tp, seq, end_seq)
            return _discard(skb, DropReason.TCP_RFC7323_PAWS)
    if reason := tcp_sequence(tp, seq, end_seq):  # first, check sequence number
        if flags & RST:
            if seq == tp.rcv_nxt - 1 and tp.state in (TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING):
                tcp_reset(tp)
        elif flags & SYN:
            return _syn_challenge(tp, skb, syn_inerr)
        elif skb.plen or not tcp_oow_rate_limited(tp, "TcpExtTCPACKSkippedSeq"):
            tcp_send_dupack(tp, seq, end_seq)
        return _discard(skb, reason)
    if flags & RST:  # second, check the RST bit. RFC 5961 3.2
        if seq == tp.rcv_nxt or (tp.ofo_queue and seq == tp.ofo_queue[-1].end_seq):
            tcp_reset(tp)
        else:
            tcp_send_challenge_ack(tp)
        return _discard(skb, DropReason.TCP_RESET)
    if flags & SYN:  # fourth, check the SYN bit. RFC 5961 4.2
        if tp.state == TCP_SYN_RECV and flags & ACK and end_seq == tp.rcv_nxt and th.ack_seq == tp.snd_nxt & M32:
            return True  # the SYN-ACK of a simultaneous open
        return _syn_challenge(tp, skb, syn_inerr)
    return True


def _syn_challenge(tp: TcpSock, skb: SkBuff, syn_inerr: int) -> bool:
    tp.net.snmp["TcpInErrs"] += syn_inerr
    tp.net.snmp["TcpExtTCPSYNChallenge"] += 1
    tcp_send_challenge_ack(tp)
    return _discard(skb, DropReason.TCP_INVALID_SYN)


def _discard(skb: SkBuff, reason: int) -> bool:
    drop(skb, reason)
    return False


def tcp_sequence(tp: TcpSock, seq: int, end_seq: int) -> int:
    """0, or why the sequence number is not acceptable. RFC 9293 3.4. Linux: the same."""
    if end_seq < tp.rcv_wup:
        return DropReason.TCP_OLD_SEQUENCE
    right = tp.rcv_nxt + tcp_receive_window(tp)
    if seq > right:
        return DropReason.TCP_INVALID_SEQUENCE
    if end_seq > right and tp.receive_queue:  # beyond the window: only an empty queue takes it
        return DropReason.TCP_OVERWINDOW
    return 0


def tcp_send_dupack(tp: TcpSock, seq: int, end_seq: int) -> None:
    """An answer to a segment outside the window. RFC 9293 3.10.7.4. Linux: the same."""
    if end_seq != seq and seq < tp.rcv_nxt:
        tp.net.snmp["TcpExtDelayedACKLost"] += 1
        tcp_enter_quickack_mode(tp)
        tcp_dsack_set(tp, seq, min(end_seq, tp.rcv_nxt), "TcpExtTCPDSACKOldSent")
    tcp_send_ack(tp)


def tcp_reset(tp: TcpSock) -> None:
    """The peer reset the connection: the program learns it once. RFC 9293 3.10.7.4. Linux: the same."""
    if tp.state == TCP_SYN_SENT:
        tp.err = ECONNREFUSED
    elif tp.state == TCP_CLOSE_WAIT:
        tp.err = EPIPE
    elif tp.state == TCP_CLOSE:
        return
    else:
        tp.err = ECONNRESET
    tcp_write_queue_purge(tp)
    tcp_done(tp)
    if not tp.flags & SOCK_DEAD:
        tp.wait.wake()


# ---- the state machine


def tcp_rcv_state_process(tp: TcpSock, skb: SkBuff) -> bool:
    """A segment in any state but ESTABLISHED and TIME-WAIT; True: answer it with a reset. RFC 9293 3.10.7. Linux: the same."""
    th: TcpHdr = skb.l4
    state = tp.state
    if state == TCP_CLOSE:
        drop(skb, DropReason.TCP_CLOSE)
        return False
    if state == TCP_LISTEN:
        return _listen(tp, skb)
    if state == TCP_SYN_SENT:
        return tcp_rcv_synsent_state_process(tp, skb)
    seq = extend(th.seq, tp.rcv_nxt)
    end_seq = seq + skb.plen + (th.flags & FIN)
    tp.segs_in += skb.gso_segs
    if not th.flags & (ACK | RST | SYN):
        drop(skb, DropReason.TCP_FLAGS)
        return False
    if not tcp_validate_incoming(tp, skb, seq):
        return False
    reason = tcp_ack(tp, skb, FLAG_SLOWPATH | FLAG_UPDATE_TS_RECENT | FLAG_NO_CHALLENGE_ACK)  # fifth, check the ACK field
    if reason <= 0:
        if tp.state == TCP_SYN_RECV:
            return True
        if reason < 0:
            tcp_send_challenge_ack(tp)
            drop(skb, -reason)
            return False
    if _ack_moves_state(tp, skb, seq, end_seq):
        return False
    return _text(tp, skb, seq, end_seq)


def _listen(tp: TcpSock, skb: SkBuff) -> bool:
    """RFC 9293 3.10.7.2."""
    from kubenet.kernel.tcp.listen import tcp_conn_request

    flags = skb.l4.flags
    if flags & ACK:
        return True
    if flags & RST:
        drop(skb, DropReason.TCP_RESET)
    elif not flags & SYN or flags & FIN:
        drop(skb, DropReason.TCP_FLAGS)
    else:
        tcp_conn_request(tp, skb)
    return False


def _ack_moves_state(tp: TcpSock, skb: SkBuff, seq: int, end_seq: int) -> bool:
    """What an acceptable ACK does in each state; True: the segment is dealt with. RFC 9293 3.10.7.4, fifth check."""
    state = tp.state
    if state == TCP_SYN_RECV:
        _syn_recv_established(tp, skb, seq)
    elif state == TCP_FIN_WAIT1 and tp.snd_una == tp.write_seq:
        return _fin_wait1_acked(tp, skb, seq, end_seq)
    elif state == TCP_CLOSING and tp.snd_una == tp.write_seq:
        from kubenet.kernel.tcp.timewait import tcp_time_wait

        tcp_time_wait(tp, TCP_TIME_WAIT, 0)
        return True
    elif state == TCP_LAST_ACK and tp.snd_una == tp.write_seq:
        tcp_done(tp)
        return True
    return False


def _syn_recv_established(tp: TcpSock, skb: SkBuff, seq: int) -> None:
    """The handshake is complete on the side that got the SYN. Linux: case TCP_SYN_RECV of tcp_rcv_state_process()."""
    tp.delivered += 1
    tp.retrans_stamp = 0
    tcp_init_transfer(tp)
    tp.copied_seq = tp.rcv_nxt
    tcp_set_state(tp, TCP_ESTABLISHED)
    tp.wait.wake()
    tp.snd_wnd = skb.l4.window << tp.snd_wscale
    tp.max_window = max(tp.max_window, tp.snd_wnd)
    tp.snd_wl1 = seq
    if tp.tstamp_ok:
        tp.advmss -= TCPOLEN_TSTAMP_ALIGNED
    tcp_update_pacing_rate(tp)
    tp.lsndtime = tp.net.loop.now
    tcp_initialize_rcv_mss(tp)


def _fin_wait1_acked(tp: TcpSock, skb: SkBuff, seq: int, end_seq: int) -> bool:
    """Our FIN is acknowledged. True: nothing is left of the socket. Linux: case TCP_FIN_WAIT1 of tcp_rcv_state_process()."""
    from kubenet.kernel.tcp.timewait import tcp_time_wait

    tcp_set_state(tp, TCP_FIN_WAIT2)
    tp.shutdown |= SEND_SHUTDOWN
    if not tp.flags & SOCK_DEAD:
        tp.wait.wake()
        return False
    fin = skb.l4.flags & FIN
    if tp.linger2 < 0 or (end_seq != seq and end_seq - fin > tp.rcv_nxt):  # data that nobody will read
        tcp_done(tp)
        if tp.linger2 < 0:
            tp.net.snmp["TcpExtTCPAbortOnData"] += 1
            return True
        tcp_v4_send_reset(skb)
        drop(skb, DropReason.TCP_ABORT_ON_DATA)
        return True
    timeout = tp.linger2 or tp.net.sysctl.ipv4.tcp_fin_timeout * SEC
    if timeout > TCP_TIMEWAIT_LEN:
        tp.keepalive_timer.mod(tp.net.loop.now + timeout - TCP_TIMEWAIT_LEN)
    elif fin:
        tp.keepalive_timer.mod(tp.net.loop.now + timeout)
    else:
        tcp_time_wait(tp, TCP_FIN_WAIT2, timeout)
        return True
    return False


def _text(tp: TcpSock, skb: SkBuff, seq: int, end_seq: int) -> bool:
    """Seventh, process the segment text; eighth, check the FIN bit. RFC 9293 3.10.7.4."""
    state, fin = tp.state, skb.l4.flags & FIN
    if state in (TCP_CLOSE_WAIT, TCP_CLOSING, TCP_LAST_ACK) and seq >= tp.rcv_nxt:
        pass
    else:
        if state in (TCP_CLOSE_WAIT, TCP_CLOSING, TCP_LAST_ACK, TCP_FIN_WAIT1, TCP_FIN_WAIT2) and tp.shutdown & RCV_SHUTDOWN:
            if end_seq != seq and end_seq - fin > tp.rcv_nxt:  # RFC 1122 4.2.2.13: closed, or shutdown(SHUT_RDWR)
                tp.net.snmp["TcpExtTCPAbortOnData"] += 1
                tcp_reset(tp)
                return True
        if skb.plen:
            tp.data_segs_in += skb.gso_segs
        tcp_data_queue(tp, skb, seq, end_seq)
    if tp.state != TCP_CLOSE:
        tcp_data_snd_check(tp)
        tcp_ack_snd_check(tp)
    return False


def tcp_rcv_synsent_state_process(tp: TcpSock, skb: SkBuff) -> bool:
    """A segment in SYN-SENT; True: answer it with a reset. RFC 9293 3.10.7.3. Linux: the same."""
    th: TcpHdr = skb.l4
    flags, opt = th.flags, th.options
    if flags & ACK:
        ack = extend(th.ack_seq, tp.snd_una)
        if ack <= tp.snd_una or ack > tp.snd_nxt:
            if not tp.retransmits:
                tcp_reset_xmit_timer(tp, TIME_RETRANS, 2 * MSEC)  # TCP_TIMEOUT_MIN: try again at once
            return True
        if opt.ts and opt.tsecr and not _between32(tp.retrans_stamp or opt.tsecr, opt.tsecr, tcp_time_stamp(tp.net, tp.tsoffset)):
            tp.net.snmp["TcpExtPAWSActive"] += 1
            return True
        if flags & RST:  # second, check the RST bit
            tcp_reset(tp)
            drop(skb, DropReason.TCP_RESET)
            return False
        if not flags & SYN:
            drop(skb, DropReason.TCP_FLAGS)
            return False
        _synsent_established(tp, skb, th)
        return False
    if flags & RST:
        drop(skb, DropReason.TCP_RESET)
    elif flags & SYN:
        _simultaneous_open(tp, th)
    else:
        drop(skb, DropReason.TCP_FLAGS)
    return False


def _between32(low: int, value: int, high: int) -> bool:
    return (high - low) & M32 >= (value - low) & M32


def _syn_options(tp: TcpSock, th: TcpHdr) -> None:
    """What the peer's SYN offers, and we asked for, holds from now on. RFC 7323 2, 3."""
    opt, sysctl = th.options, tp.net.sysctl.ipv4
    clamp = opt.mss or TCP_MSS_DEFAULT
    tp.mss_clamp = min(clamp, tp.user_mss) if tp.user_mss else clamp
    tp.wscale_ok = opt.wscale >= 0 and bool(sysctl.tcp_window_scaling)
    if tp.wscale_ok:
        tp.snd_wscale = min(opt.wscale, TCP_MAX_WSCALE)
    else:
        tp.snd_wscale = tp.rcv_wscale = 0
        tp.window_clamp = min(tp.window_clamp, 65535)
    tp.sack_ok = opt.sack_perm and bool(sysctl.tcp_sack)
    tp.tstamp_ok = opt.ts and bool(sysctl.tcp_timestamps)
    tp.doff = 20
    if tp.tstamp_ok:
        tp.doff += TCPOLEN_TSTAMP_ALIGNED
        tp.advmss -= TCPOLEN_TSTAMP_ALIGNED
        tp.ts_recent, tp.ts_recent_stamp = opt.tsval, tp.net.loop.now or 1


def _synsent_established(tp: TcpSock, skb: SkBuff, th: TcpHdr) -> None:
    """The SYN-ACK: the connection is up on the side that called connect()."""
    seq = th.seq
    tp.rcv_nxt = tp.rcv_wup = tp.copied_seq = seq + 1
    tp.irs = seq
    tp.snd_wl1 = seq
    _syn_options(tp, th)
    tcp_ack(tp, skb, FLAG_SLOWPATH)
    if tp.sack_ok and tp.ca_state != CA_OPEN:  # a SYN that was sent again is no loss of data
        tcp_set_ca_state(tp, CA_OPEN)
    tp.snd_wnd = th.window  # RFC 7323 2.2: the window of a SYN segment is never scaled
    tp.max_window = max(tp.max_window, tp.snd_wnd)
    tcp_sync_mss(tp, tp.pmtu_cookie)
    tcp_initialize_rcv_mss(tp)
    tcp_finish_connect(tp)
    if not tp.flags & SOCK_DEAD:
        tp.wait.wake()
    if tp.write_queue or tp.defer_accept or tcp_in_pingpong_mode(tp):
        tp.ack_pending |= ACK_SCHED | ACK_TIMER
        tcp_enter_quickack_mode(tp)
        tp.ack_timeout = tp.net.loop.now + TCP_DELACK_MAX
        tp.delack_timer.mod(tp.ack_timeout)
        tcp_data_snd_check(tp)
        return
    tcp_send_ack(tp)


def _simultaneous_open(tp: TcpSock, th: TcpHdr) -> None:
    """Both ends sent a SYN: SYN-RECV, and the SYN-ACK is ours too. RFC 9293 3.5 figure 7."""
    tcp_set_state(tp, TCP_SYN_RECV)
    _syn_options(tp, th)
    tp.irs = th.seq
    tp.rcv_nxt = tp.rcv_wup = tp.copied_seq = th.seq + 1
    tp.snd_wnd = tp.max_window = th.window
    tp.snd_wl1 = th.seq
    tcp_sync_mss(tp, tp.pmtu_cookie)
    tcp_initialize_rcv_mss(tp)
    head = tp.rtx_queue[0]
    head.flags |= SYN | ACK
    tp.syn_options = tp.syn_options.copy()
    tp.syn_options.tsecr = tp.ts_recent
    head.tstamp = tp.net.loop.now
    tcp_transmit_skb(tp, head.seq, SYN | ACK, b"", 0, 1)


def tcp_finish_connect(tp: TcpSock) -> None:
    """ESTABLISHED on the active side. Linux: the same."""
    tcp_set_state(tp, TCP_ESTABLISHED)
    now = tp.net.loop.now
    tcp_init_transfer(tp)
    tp.lsndtime = tp.lrcvtime = now
    if tp.flags & SOCK_KEEPOPEN:
        keep = tp.keepalive_time or tp.net.sysctl.ipv4.tcp_keepalive_time * SEC
        tp.keepalive_timer.mod(now + keep)


def tcp_init_transfer(tp: TcpSock) -> None:
    """Congestion control and buffers begin. Linux: tcp_init_transfer(), tcp_init_metrics()."""
    if not tp.srtt_us:  # the handshake gave no sample. RFC 6298 5.7
        tp.rttvar_us = tp.mdev_us = tp.mdev_max_us = TCP_TIMEOUT_FALLBACK // 1000
        tp.rto = TCP_TIMEOUT_FALLBACK
    tp.snd_cwnd = 1 if tp.total_retrans > 1 else TCP_INIT_CWND  # RFC 5681 3.1
    tp.snd_ssthresh = TCP_INFINITE_SSTHRESH  # a lost SYN says nothing about the path. Linux: tcp_init_metrics()
    tp.snd_cwnd_stamp = tp.net.loop.now
    if tp.ca is None:
        tp.ca = congestion_of(tp)
    tcp_setup_caps(tp)
    tcp_init_buffer_space(tp)


def congestion_of(tp: TcpSock) -> CongestionControl:
    """A new instance of the algorithm the namespace prefers.

    simplified: only Reno exists, so the default `cubic` is Reno too until it does.
    """
    name = tp.net.sysctl.ipv4.tcp_congestion_control
    try:
        return find_congestion_control(name)()
    except OSError:
        return find_congestion_control("reno")()


# ---- ICMP


def tcp_v4_err(skb: SkBuff, info: int) -> None:
    """An ICMP error quotes a segment of ours. RFC 5461, RFC 5927. Linux: the same."""
    net, quote, icmp = skb.net, skb.inner, skb.l4
    th = quote.l4
    if th is None:
        return None
    sk = net.socks.ehash.get((quote.ip.daddr, th.dport, quote.ip.saddr, th.sport))
    if sk is None:
        net.snmp["IcmpInErrors"] += 1
        return None
    if sk.state == TCP_TIME_WAIT:
        return None
    if sk.state == TCP_NEW_SYN_RECV:
        return _request_err(sk, th, icmp.type, icmp.code)
    seq = extend(th.seq, sk.snd_una)
    if sk.state != TCP_LISTEN and not sk.snd_una <= seq <= sk.snd_nxt:
        net.snmp["TcpExtOutOfWindowIcmps"] += 1
        return None
    err = EHOSTUNREACH
    if icmp.type == ICMP_DEST_UNREACH:
        if icmp.code == ICMP_FRAG_NEEDED:
            return tcp_v4_mtu_reduced(sk, info)
        if icmp.code >= len(ICMP_ERR_CONVERT):
            return None
        err = ICMP_ERR_CONVERT[icmp.code][0]
    elif icmp.type == ICMP_PARAMETERPROB:
        err = EPROTO
    elif icmp.type != ICMP_TIME_EXCEEDED:
        return None
    if skb.tr is not None:
        station(skb, "tcp_v4_err", f"told to the {STATE_NAMES[sk.state]} socket")
    if sk.state in (TCP_SYN_SENT, TCP_SYN_RECV):
        sk.err = err
        tcp_write_queue_purge(sk)
        tcp_done(sk)
        sk.wait.wake()
    elif sk.recverr:
        sk.err = err
        sk.wait.wake()
    else:
        sk.err_soft = err


def _request_err(req: ReqSock, th: TcpHdr, icmp_type: int, code: int) -> None:
    """An error about a SYN-ACK: a fatal one ends the request. Linux: tcp_req_err()."""
    from kubenet.kernel.tcp.listen import inet_csk_reqsk_queue_drop

    if th.seq != req.snt_isn & M32:
        req.net.snmp["TcpExtOutOfWindowIcmps"] += 1
    elif icmp_type == ICMP_PARAMETERPROB or (icmp_type == ICMP_DEST_UNREACH and code in (0, 1)):
        inet_csk_reqsk_queue_drop(req)
        req.net.snmp["TcpExtListenDrops"] += 1


def tcp_v4_mtu_reduced(tp: TcpSock, mtu: int) -> None:
    """The path takes smaller packets only: the MSS follows, and what is too large goes again. RFC 1191. Linux: the same."""
    if tp.state == TCP_LISTEN or tp.pmtudisc == 0:
        return
    tp.af_ops.local_mtu_reduced(tp, mtu)
    new = tp.af_ops.mtu(tp.dst) if tp.dst is not None else mtu
    if tp.pmtu_cookie > new:
        tcp_sync_mss(tp, new)
        tcp_simple_retransmit(tp)

