"""Acknowledgments: what they take off the retransmit queue, what they tell of the round trip, and how cwnd answers.

tcp_ack() is called for every segment with ACK set. Three outcomes:
    > 0    acceptable
    0      old, and of no use
    < 0    -DropReason: of data never sent, or too old to be true; the caller drops the segment (RFC 5961 5)

Sources: RFC 9293 3.10.7.4 (fifth check), RFC 6298, RFC 5681; Linux net/ipv4/tcp_input.c tcp_ack() and what it calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubenet.kernel.skbuff import DropReason, SkBuff
from kubenet.kernel.socket.sock import SOCK_NOSPACE, SOCK_SNDBUF_LOCK
from kubenet.kernel.tcp.output import (
    tcp_current_mss,
    tcp_push_pending_frames,
    tcp_rearm_rto,
    tcp_reset_xmit_timer,
    tcp_send_challenge_ack,
    tcp_sync_mss,
    tcp_trim_head,
    tcp_update_pacing_rate,
)
from kubenet.kernel.tcp.recovery import (
    FLAG_ACKED,
    FLAG_DATA,
    FLAG_DATA_ACKED,
    FLAG_NO_CHALLENGE_ACK,
    FLAG_NOT_DUP,
    FLAG_ORIG_SACK_ACKED,
    FLAG_RETRANS_DATA_ACKED,
    FLAG_SET_XMIT_TIMER,
    FLAG_SLOWPATH,
    FLAG_SND_UNA_ADVANCED,
    FLAG_SYN_ACKED,
    FLAG_UPDATE_TS_RECENT,
    FLAG_WIN_UPDATE,
    REXMIT_NONE,
    tcp_cwnd_reduction,
    tcp_fastretrans_alert,
    tcp_remove_reno_sacks,
    tcp_xmit_recovery,
)
from kubenet.kernel.tcp.rtt import tcp_valid_rtt_meas
from kubenet.kernel.tcp.seq import HALF, M32
from kubenet.kernel.tcp.sock import (
    CA_CWR,
    CA_OPEN,
    CA_RECOVERY,
    SACKED_RETRANS,
    TAG_LOST,
    TCP_RTO_MIN,
    TIME_PROBE0,
    TcpSock,
    tcp_packets_in_flight,
)
from kubenet.kernel.tcp.window import tcp_sndbuf_expand
from kubenet.units import MSEC
from kubenet.wire.tcp import SYN, TcpHdr

if TYPE_CHECKING:
    from kubenet.kernel.tcp.sock import TxSeg


def tcp_ack(tp: TcpSock, skb: SkBuff, flag: int) -> int:
    """The segment's acknowledgment has been taken in. See the file's head for the result. Linux: the same."""
    th: TcpHdr = skb.l4
    prior_una = tp.snd_una
    ack = prior_una + ((th.ack_seq - prior_una + HALF) & M32) - HALF
    if ack < prior_una:
        if ack < prior_una - min(tp.max_window, tp.bytes_acked):  # RFC 5961 5.2
            if not flag & FLAG_NO_CHALLENGE_ACK:
                tcp_send_challenge_ack(tp)
            return -DropReason.TCP_TOO_OLD_ACK
        return 0
    if ack > tp.snd_nxt:
        return -DropReason.TCP_ACK_UNSENT_DATA
    if ack > prior_una:
        flag |= FLAG_SND_UNA_ADVANCED
        tp.retransmits = 0
    seq = tp.rcv_nxt + ((th.seq - tp.rcv_nxt + HALF) & M32) - HALF
    if flag & FLAG_UPDATE_TS_RECENT:
        tcp_replace_ts_recent(tp, skb, seq)
    if skb.plen:
        flag |= FLAG_DATA
    elif flag & FLAG_SLOWPATH:
        tp.net.snmp["TcpExtTCPPureAcks"] += 1
    else:
        tp.net.snmp["TcpExtTCPHPAcks"] += 1
    flag |= tcp_ack_update_window(tp, th, seq, ack)
    tp.err_soft = 0
    tp.probes_out = 0
    now = tp.net.loop.now
    tp.rcv_tstamp = now
    if not tp.packets_out:
        if tp.write_queue:
            tcp_ack_probe(tp)
        return 1
    tsecr = (th.options.tsecr) if tp.tstamp_ok and th.options.ts and th.options.tsecr else -1
    delivered, lost = tp.delivered, tp.lost_out
    flag = tcp_clean_rtx_queue(tp, flag, tsecr, now)
    if flag & FLAG_SET_XMIT_TIMER:
        tcp_rearm_rto(tp)
    rexmit = REXMIT_NONE
    if not flag & FLAG_NOT_DUP or tp.ca_state != CA_OPEN:  # tcp_ack_is_dubious()
        num_dupack = 0
        if not flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP):
            num_dupack = max(1, skb.gso_segs)
        rexmit = tcp_fastretrans_alert(tp, num_dupack, flag, tsecr)
    tp.net.snmp["TcpExtTCPDelivered"] += tp.delivered - delivered  # tcp_newly_delivered()
    tcp_cong_control(tp, tp.delivered - delivered, tp.lost_out - lost, flag)
    if rexmit:
        tcp_xmit_recovery(tp, rexmit)
    return 1


def tcp_ack_update_window(tp: TcpSock, th: TcpHdr, seq: int, ack: int) -> int:
    """snd_una and the peer's window are up to date; FLAG_WIN_UPDATE if the window was. RFC 9293 3.10.7.4. Linux: the same."""
    window = th.window
    if not th.flags & SYN:
        window <<= tp.snd_wscale
    flag = 0
    if ack > tp.snd_una or seq > tp.snd_wl1 or (seq == tp.snd_wl1 and (window > tp.snd_wnd or not window)):
        flag = FLAG_WIN_UPDATE
        tp.snd_wl1 = seq
        if tp.snd_wnd != window:
            tp.snd_wnd = window
            if window > tp.max_window:
                tp.max_window = window
                tcp_sync_mss(tp, tp.pmtu_cookie)
    tp.bytes_acked += ack - tp.snd_una
    tp.snd_una = ack
    return flag


def tcp_clean_rtx_queue(tp: TcpSock, flag: int, tsecr: int, now: int) -> int:
    """What snd_una covers has left the retransmit queue; `flag` with what that was. Linux: the same."""
    una, queue = tp.snd_una, tp.rtx_queue
    first_ackt = pkts_acked = 0
    while queue:
        seg = queue[0]
        pcount = seg.pcount
        fully = seg.end_seq <= una
        if not fully:
            if pcount == 1 or seg.seq >= una:
                break
            pcount = _tso_acked(tp, seg)
            if not pcount:
                break
        sacked = seg.sacked
        if sacked & SACKED_RETRANS:
            tp.retrans_out -= pcount
            flag |= FLAG_RETRANS_DATA_ACKED
        elif sacked & 0x80:  # EVER_RETRANS
            flag |= FLAG_RETRANS_DATA_ACKED
        else:
            first_ackt = first_ackt or seg.tstamp or 1
            if seg.end_seq <= tp.high_seq:
                flag |= FLAG_ORIG_SACK_ACKED
        if sacked & TAG_LOST:
            tp.lost_out -= pcount
        tp.packets_out -= pcount
        pkts_acked += pcount
        if seg.flags & SYN:
            flag |= FLAG_SYN_ACKED
            tp.retrans_stamp = 0
        else:
            flag |= FLAG_DATA_ACKED
        if not fully:
            break
        queue.popleft()
        tp.wmem_queued -= seg.truesize
    if flag & FLAG_ACKED:
        rtt_us = (now - first_ackt) // 1000 if first_ackt and not flag & FLAG_RETRANS_DATA_ACKED else -1
        tcp_ack_update_rtt(tp, rtt_us, tsecr, now)
        flag |= FLAG_SET_XMIT_TIMER
        tcp_remove_reno_sacks(tp, pkts_acked)
        assert tp.ca is not None or flag & FLAG_SYN_ACKED
        if tp.ca is not None:
            tp.ca.pkts_acked(tp, pkts_acked, rtt_us)
    return flag


def _tso_acked(tp: TcpSock, seg: TxSeg) -> int:
    """Part of a super-segment is acknowledged: it is trimmed; how many segments that were. Linux: tcp_tso_acked()."""
    before = seg.pcount
    tcp_trim_head(tp, seg)
    seg.pcount = max(-(-len(seg.data) // tp.mss_cache), 1)
    return before - seg.pcount


def tcp_ack_update_rtt(tp: TcpSock, rtt_us: int, tsecr: int, now: int) -> None:
    """One RTT sample: from the send time, or of a retransmission from the echoed timestamp. RFC 6298 3, RFC 7323 4. Linux."""
    if rtt_us < 0 and tsecr >= 0:
        delta = (now // MSEC + tp.tsoffset - tsecr) & M32
        if delta < HALF:
            rtt_us = delta * 1000
    if rtt_us < 0:
        return
    tp.min_rtt_us = min(tp.min_rtt_us, rtt_us or 1)
    tcp_valid_rtt_meas(tp, rtt_us)
    tp.backoff = 0


def tcp_cong_control(tp: TcpSock, acked: int, lost: int, flag: int) -> None:
    """cwnd after this ACK: PRR while reduced, else the algorithm. Linux: the same."""
    state = tp.ca_state
    if state == CA_CWR or state == CA_RECOVERY:
        tcp_cwnd_reduction(tp, acked, max(lost, 0), flag)
    elif flag & FLAG_DATA_ACKED and tp.ca is not None and acked > 0:  # tcp_may_raise_cwnd()
        tp.ca.cong_avoid(tp, acked)
        tp.snd_cwnd_stamp = tp.net.loop.now
    tcp_update_pacing_rate(tp)


def tcp_ack_probe(tp: TcpSock) -> None:
    """An ACK while nothing is in flight: the window opened, or will be probed again. RFC 9293 3.8.6.1. Linux: the same."""
    head = tp.write_queue[0]
    if head.end_seq <= tp.snd_una + tp.snd_wnd:
        tp.backoff = 0
        tp.probes_tstamp = 0
        if tp.pending == TIME_PROBE0:
            tp.pending = 0
            tp.retransmit_timer.cancel()
    else:
        tcp_reset_xmit_timer(tp, TIME_PROBE0, max(tp.rto, TCP_RTO_MIN) << tp.backoff)


def tcp_replace_ts_recent(tp: TcpSock, skb: SkBuff, seq: int) -> None:
    """ts_recent is the timestamp to echo: of the last segment that was not beyond the last ACK sent. RFC 7323 4.3. Linux."""
    opt = skb.l4.options
    if tp.tstamp_ok and opt.ts and seq <= tp.rcv_wup and (opt.tsval - tp.ts_recent) & M32 < HALF:
        tp.ts_recent = opt.tsval
        tp.ts_recent_stamp = tp.net.loop.now or 1


def tcp_data_snd_check(tp: TcpSock) -> None:
    """After an ACK: send what may now leave, and let a waiting writer go on. Linux: the same."""
    if tp.write_queue:
        tcp_push_pending_frames(tp, tcp_current_mss(tp), tp.nonagle)
    if tp.flags & SOCK_NOSPACE:
        tcp_new_space(tp)


def tcp_new_space(tp: TcpSock) -> None:
    """There is room in the send buffer, or the buffer grows. Linux: tcp_check_space(), tcp_new_space()."""
    if not tp.userlocks & SOCK_SNDBUF_LOCK and tcp_packets_in_flight(tp) < tp.snd_cwnd:
        tcp_sndbuf_expand(tp)
        tp.snd_cwnd_stamp = tp.net.loop.now
    if tp.sndbuf - tp.wmem_queued >= tp.wmem_queued >> 1:  # sk_stream_is_writeable()
        tp.flags &= ~SOCK_NOSPACE
        tp.wait.wake()
