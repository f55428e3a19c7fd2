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
    tcp_send_challenge_ack,
    tcp_sync_mss,
    tcp_trim_head,
    tcp_update_pacing_rate,
)
from kubenet.kernel.tcp.rack import tcp_rack_advance, tcp_rack_update_reo_wnd
from kubenet.kernel.tcp.recovery import (
    FLAG_ACKED,
    FLAG_CA_ALERT,
    FLAG_DATA,
    FLAG_DATA_ACKED,
    FLAG_DSACKING_ACK,
    FLAG_FORWARD_PROGRESS,
    FLAG_NO_CHALLENGE_ACK,
    FLAG_NOT_DUP,
    FLAG_ORIG_SACK_ACKED,
    FLAG_RETRANS_DATA_ACKED,
    FLAG_SACK_RENEGING,
    FLAG_SET_XMIT_TIMER,
    FLAG_SLOWPATH,
    FLAG_SND_UNA_ADVANCED,
    FLAG_SYN_ACKED,
    FLAG_UPDATE_TS_RECENT,
    FLAG_WIN_UPDATE,
    REXMIT_NONE,
    tcp_check_sack_reordering,
    tcp_cwnd_reduction,
    tcp_fastretrans_alert,
    tcp_remove_reno_sacks,
    tcp_xmit_recovery,
)
from kubenet.kernel.tcp.rtt import tcp_valid_rtt_meas
from kubenet.kernel.tcp.sack import SackState, tcp_sacktag_write_queue
from kubenet.kernel.tcp.seq import HALF, M32
from kubenet.kernel.tcp.sock import (
    CA_CWR,
    CA_OPEN,
    CA_RECOVERY,
    EVER_RETRANS,
    SACKED_ACKED,
    SACKED_RETRANS,
    TAG_LOST,
    TCP_RTO_MIN,
    TIME_PROBE0,
    TcpSock,
    tcp_packets_in_flight,
)
from kubenet.kernel.tcp.tlp import tcp_process_tlp_ack
from kubenet.kernel.tcp.window import tcp_sndbuf_expand
from kubenet.kernel.tcp.xmit_timer import tcp_rearm_rto, tcp_reset_xmit_timer, tcp_schedule_loss_probe
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
        if th.options.sacks and tp.sack_ok:
            _old_ack(tp, th, ack, flag)
        return 0
    if ack > tp.snd_nxt:
        return -DropReason.TCP_ACK_UNSENT_DATA
    prior_fack = tp.highest_sack if tp.sacked_out and tp.highest_sack > prior_una else prior_una
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
    delivered, lost = tp.delivered, tp.lost
    sack = None
    if flag & FLAG_SLOWPATH and th.options.sacks and tp.sack_ok:
        sack = SackState()
        flag |= tcp_sacktag_write_queue(tp, _blocks(tp, th), ack, prior_una, sack)
        tp.delivered += sack.delivered
    tp.err_soft = 0
    tp.probes_out = 0
    now = tp.net.loop.now
    tp.rcv_tstamp = now
    tsecr = (th.options.tsecr) if tp.tstamp_ok and th.options.ts and th.options.tsecr else -1
    if not tp.packets_out:
        if flag & FLAG_DSACKING_ACK:  # perhaps nothing was lost
            tcp_fastretrans_alert(tp, prior_una, 0, flag, tsecr)
            tp.net.snmp["TcpExtTCPDelivered"] += tp.delivered - delivered
        if tp.write_queue:
            tcp_ack_probe(tp)
        if tp.tlp_high_seq:
            tcp_process_tlp_ack(tp, ack, flag)
        return 1
    flag = tcp_clean_rtx_queue(tp, flag, tsecr, now, prior_fack, sack)
    if tp.tlp_high_seq:
        tcp_process_tlp_ack(tp, ack, flag)
    rexmit = REXMIT_NONE
    if not flag & FLAG_NOT_DUP or flag & FLAG_CA_ALERT or tp.ca_state != CA_OPEN:  # tcp_ack_is_dubious()
        num_dupack = 0
        if not flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DSACKING_ACK):
            num_dupack = max(1, skb.gso_segs)
        flag, rexmit = tcp_fastretrans_alert(tp, prior_una, num_dupack, flag, tsecr)
    if flag & FLAG_SET_XMIT_TIMER and not tcp_schedule_loss_probe(tp, True):  # tcp_set_xmit_timer()
        tcp_rearm_rto(tp)
    tp.net.snmp["TcpExtTCPDelivered"] += tp.delivered - delivered  # tcp_newly_delivered()
    tcp_cong_control(tp, tp.delivered - delivered, tp.lost - lost, flag)
    if rexmit:
        tcp_xmit_recovery(tp, rexmit)
    return 1


def _blocks(tp: TcpSock, th: TcpHdr) -> list[tuple[int, int]]:
    """The SACK blocks in the numbers of this connection."""
    una = tp.snd_una
    return [(una + ((left - una + HALF) & M32) - HALF, una + ((right - una + HALF) & M32) - HALF) for left, right in th.options.sacks]


def _old_ack(tp: TcpSock, th: TcpHdr, ack: int, flag: int) -> None:
    """An ACK that was overtaken may still bring news of what arrived. Linux: the old_ack label of tcp_ack()."""
    delivered, sack = tp.delivered, SackState()
    flag |= tcp_sacktag_write_queue(tp, _blocks(tp, th), ack, tp.snd_una, sack)
    tp.delivered += sack.delivered
    tsecr = th.options.tsecr if tp.tstamp_ok and th.options.ts and th.options.tsecr else -1
    _, rexmit = tcp_fastretrans_alert(tp, tp.snd_una, 0, flag, tsecr)
    tp.net.snmp["TcpExtTCPDelivered"] += tp.delivered - delivered
    tcp_xmit_recovery(tp, rexmit)


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


def tcp_clean_rtx_queue(tp: TcpSock, flag: int, tsecr: int, now: int, prior_fack: int, sack: SackState | None) -> int:
    """What snd_una covers has left the retransmit queue; `flag` with what that was. Linux: the same.

    prior_fack: the end of the highest SACK before this ACK. sack: what its blocks said.
    """
    una, queue, is_sack = tp.snd_una, tp.rtx_queue, tp.sack_ok
    first_ackt = last_ackt = pkts_acked = 0
    reord = tp.snd_nxt
    prior_delivered = sack.prior_delivered if sack is not None else 0
    while queue:
        seg = queue[0]
        pcount = seg.pcount
        fully = seg.end_seq <= una
        start = seg.seq
        if not fully:
            if pcount == 1 or start >= una:
                break
            pcount = _tso_acked(tp, seg)
            if not pcount:
                break
        sacked = seg.sacked
        if not sacked:
            last_ackt = seg.tstamp or 1
            first_ackt = first_ackt or last_ackt
            if start < reord:
                reord = start
            if seg.end_seq <= tp.high_seq:
                flag |= FLAG_ORIG_SACK_ACKED
            if is_sack:  # tcp_rack_advance(): each was sent after the one before it
                tp.delivered += pcount
                tp.rack_advanced = True
                tp.rack_rtt_us = (now - seg.tstamp) // 1000
                if seg.tstamp >= tp.rack_mstamp:
                    tp.rack_mstamp, tp.rack_end_seq = seg.tstamp, seg.end_seq
            if seg.tx_delivered > prior_delivered:
                prior_delivered = seg.tx_delivered
        else:
            if sacked & (SACKED_RETRANS | EVER_RETRANS):
                if sacked & SACKED_RETRANS:
                    tp.retrans_out -= pcount
                flag |= FLAG_RETRANS_DATA_ACKED
            elif not sacked & SACKED_ACKED:
                last_ackt = seg.tstamp or 1
                first_ackt = first_ackt or last_ackt
                reord = min(reord, start)
                if seg.end_seq <= tp.high_seq:
                    flag |= FLAG_ORIG_SACK_ACKED
            if sacked & SACKED_ACKED:
                tp.sacked_out -= pcount
            elif is_sack:
                tp.delivered += pcount
                prior_delivered = max(prior_delivered, seg.tx_delivered)
                if not _spurious_retrans(tp, seg, tsecr):
                    tcp_rack_advance(tp, sacked, seg.end_seq, seg.tstamp)
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
    if tp.rack_dsack_seen or tp.reo_wnd_steps != 1:
        tcp_rack_update_reo_wnd(tp, prior_delivered)
    if queue and queue[0].sacked & SACKED_ACKED:
        flag |= FLAG_SACK_RENEGING
    seq_rtt_us = sack_rtt_us = ca_rtt_us = -1
    if first_ackt and not flag & FLAG_RETRANS_DATA_ACKED:
        seq_rtt_us, ca_rtt_us = (now - first_ackt) // 1000, (now - last_ackt) // 1000
    if sack is not None and sack.first_sackt >= 0:
        sack_rtt_us, ca_rtt_us = (now - sack.first_sackt) // 1000, (now - sack.last_sackt) // 1000
    if flag & FLAG_ACKED:
        tcp_ack_update_rtt(tp, seq_rtt_us if seq_rtt_us >= 0 else sack_rtt_us, ca_rtt_us, tsecr, now)
        flag |= FLAG_SET_XMIT_TIMER
        if is_sack:
            if reord < prior_fack:
                tcp_check_sack_reordering(tp, reord, False)
        else:
            tcp_remove_reno_sacks(tp, pkts_acked)
            if flag & FLAG_RETRANS_DATA_ACKED:
                flag &= ~FLAG_ORIG_SACK_ACKED
        assert tp.ca is not None or flag & FLAG_SYN_ACKED
        if tp.ca is not None:
            tp.ca.pkts_acked(tp, pkts_acked, ca_rtt_us)
    elif sack_rtt_us >= 0:
        tcp_ack_update_rtt(tp, sack_rtt_us, ca_rtt_us, -1, now)
        if queue and sack_rtt_us > (now - queue[0].tstamp) // 1000:
            flag |= FLAG_SET_XMIT_TIMER
    return flag


def _spurious_retrans(tp: TcpSock, seg: TxSeg, tsecr: int) -> bool:
    """The ACK echoes a timestamp from before this retransmission. Linux: tcp_skb_spurious_retrans()."""
    if not seg.sacked & (SACKED_RETRANS | EVER_RETRANS) or tsecr < 0:
        return False
    return (tsecr - (seg.tstamp // MSEC + tp.tsoffset)) & M32 >= HALF


def _tso_acked(tp: TcpSock, seg: TxSeg) -> int:
    """Part of a super-segment is acknowledged: it is trimmed; how many segments that were. Linux: tcp_tso_acked()."""
    before = seg.pcount
    tcp_trim_head(tp, seg)
    seg.pcount = max(-(-len(seg.data) // tp.mss_cache), 1)
    return before - seg.pcount


def tcp_ack_update_rtt(tp: TcpSock, rtt_us: int, ca_rtt_us: int, tsecr: int, now: int) -> None:
    """One RTT sample: from the send time, or of a retransmission from the echoed timestamp. RFC 6298 3, RFC 7323 4. Linux.

    rtt_us is of the oldest segment, ca_rtt_us of the newest: min_rtt follows that.
    """
    if rtt_us < 0 and tsecr >= 0:
        delta = (now // MSEC + tp.tsoffset - tsecr) & M32
        if delta < HALF:
            rtt_us = ca_rtt_us = delta * 1000
    if rtt_us < 0:
        return
    if ca_rtt_us < tp.min_rtt_us:
        tp.min_rtt_us = ca_rtt_us or 1
    tcp_valid_rtt_meas(tp, rtt_us)
    tp.backoff = 0


def tcp_cong_control(tp: TcpSock, acked: int, lost: int, flag: int) -> None:
    """cwnd after this ACK: PRR while reduced, else the algorithm. Linux: the same."""
    state = tp.ca_state
    if state == CA_CWR or state == CA_RECOVERY:
        tcp_cwnd_reduction(tp, acked, max(lost, 0), flag)
    elif tp.ca is not None and acked > 0 and tcp_may_raise_cwnd(tp, flag):
        tp.ca.cong_avoid(tp, acked)
        tp.snd_cwnd_stamp = tp.net.loop.now
    tcp_update_pacing_rate(tp)


def tcp_may_raise_cwnd(tp: TcpSock, flag: int) -> bool:
    """Data was acknowledged; where the network reorders much, a SACK is progress enough. Linux: the same."""
    if tp.reordering > tp.net.sysctl.ipv4.tcp_reordering:
        return flag & FLAG_FORWARD_PROGRESS != 0
    return flag & FLAG_DATA_ACKED != 0


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
