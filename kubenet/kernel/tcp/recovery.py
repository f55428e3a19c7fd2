"""Loss: the states Open, Disorder, CWR, Recovery and Loss, and what is sent again in them.

    Open -> Disorder      a duplicate ACK
         -> Recovery      enough of them (tcp_reordering, 3): the head is lost, cwnd follows PRR (RFC 6937) down to ssthresh
         -> Loss          the retransmission timer: everything is lost, cwnd starts again at 1 (RFC 5681 3.1)
    and back to Open when snd_una passes high_seq, or when the loss turns out to be none (undo: RFC 3522 by timestamps,
    F-RTO: RFC 5682).

What is lost is found by send times (rack.py) with the marks of SACK blocks (sack.py). Without SACK, duplicate ACKs are counted in
sacked_out, as if each had selectively acknowledged one segment, and a partial ACK marks the next head lost (NewReno, RFC 6582).

Source: Linux net/ipv4/tcp_input.c, whose function names these are.
"""

from __future__ import annotations

from kubenet.kernel.tcp.congestion.base import CA_EVENT_COMPLETE_CWR, CA_EVENT_LOSS
from kubenet.kernel.tcp.marking import tcp_mark_skb_lost
from kubenet.kernel.tcp.output import (
    tcp_current_mss,
    tcp_current_ssthresh,
    tcp_fragment,
    tcp_push_pending_frames,
    tcp_retransmit_skb,
    tcp_tso_segs,
)
from kubenet.kernel.tcp.rack import TCP_RACK_RECOVERY_THRESH, tcp_rack_detect_loss, tcp_rack_mark_lost, tcp_rack_skb_timeout
from kubenet.kernel.tcp.seq import HALF, M32
from kubenet.kernel.tcp.sock import (
    CA_CWR,
    CA_DISORDER,
    CA_LOSS,
    CA_OPEN,
    CA_RECOVERY,
    EVER_RETRANS,
    NAGLE_OFF,
    SACKED_ACKED,
    SACKED_RETRANS,
    TAG_LOST,
    TCP_INFINITE_SSTHRESH,
    TIME_REO_TIMEOUT,
    TIME_RETRANS,
    TcpSock,
    tcp_packets_in_flight,
)
from kubenet.kernel.tcp.xmit_timer import tcp_rearm_rto, tcp_reset_xmit_timer
from kubenet.units import MSEC

# what an ACK did (tcp_input.c FLAG_*)
FLAG_DATA = 0x01
FLAG_WIN_UPDATE = 0x02
FLAG_DATA_ACKED = 0x04
FLAG_RETRANS_DATA_ACKED = 0x08
FLAG_SYN_ACKED = 0x10
FLAG_DATA_SACKED = 0x20
FLAG_LOST_RETRANS = 0x80
FLAG_SLOWPATH = 0x100
FLAG_ORIG_SACK_ACKED = 0x200
FLAG_SND_UNA_ADVANCED = 0x400
FLAG_DSACKING_ACK = 0x800
FLAG_SET_XMIT_TIMER = 0x1000
FLAG_SACK_RENEGING = 0x2000
FLAG_UPDATE_TS_RECENT = 0x4000
FLAG_NO_CHALLENGE_ACK = 0x8000
FLAG_DSACK_TLP = 0x20000
FLAG_ACKED = FLAG_DATA_ACKED | FLAG_SYN_ACKED
FLAG_NOT_DUP = FLAG_DATA | FLAG_WIN_UPDATE | FLAG_ACKED
FLAG_CA_ALERT = FLAG_DATA_SACKED | FLAG_DSACKING_ACK
FLAG_FORWARD_PROGRESS = FLAG_ACKED | FLAG_DATA_SACKED

REXMIT_NONE, REXMIT_LOST, REXMIT_NEW = 0, 1, 2


def tcp_set_ca_state(tp: TcpSock, state: int) -> None:
    """Linux: the same."""
    if tp.ca is not None:
        tp.ca.set_state(tp, state)
    tp.ca_state = state


# ---- how far the network reorders


def tcp_highest_sack_seq(tp: TcpSock) -> int:
    """The end of what was selectively acknowledged, snd_una if nothing was. Linux: the same."""
    return tp.highest_sack if tp.sacked_out and tp.highest_sack > tp.snd_una else tp.snd_una


def tcp_check_sack_reordering(tp: TcpSock, low_seq: int, by_timestamp: bool) -> None:
    """Something below the highest SACK arrived later, and was no retransmission. Linux: the same."""
    fack = tcp_highest_sack_seq(tp)
    if low_seq >= fack:
        return
    metric, mss = fack - low_seq, tp.mss_cache
    if mss and metric > tp.reordering * mss:
        tp.reordering = min(-(-metric // mss), tp.net.sysctl.ipv4.tcp_max_reordering)
    tp.reord_seen += 1
    tp.net.snmp["TcpExtTCPTSReorder" if by_timestamp else "TcpExtTCPSACKReorder"] += 1


# ---- duplicate ACKs as if they were SACKs


def tcp_limit_reno_sacked(tp: TcpSock) -> bool:
    """More duplicate ACKs than segments that could have caused them: some were reordered. Linux: the same."""
    holes = min(max(tp.lost_out, 1), tp.packets_out)
    if tp.sacked_out + holes > tp.packets_out:
        tp.sacked_out = tp.packets_out - holes
        return True
    return False


def tcp_check_reno_reordering(tp: TcpSock, addend: int) -> None:
    """The network reorders more than we thought. Linux: the same."""
    if tcp_limit_reno_sacked(tp):
        tp.reordering = min(tp.packets_out + addend, tp.net.sysctl.ipv4.tcp_max_reordering)
        tp.net.snmp["TcpExtTCPRenoReorder"] += 1


def tcp_add_reno_sack(tp: TcpSock, num_dupack: int) -> None:
    """So many segments left the network, according to duplicate ACKs. Linux: the same."""
    if num_dupack:
        before = tp.sacked_out
        tp.sacked_out += num_dupack
        tcp_check_reno_reordering(tp, 0)
        if tp.sacked_out > before:
            tp.delivered += tp.sacked_out - before


def tcp_remove_reno_sacks(tp: TcpSock, acked: int) -> None:
    """`acked` segments are acknowledged for good; all but the hole had been counted. Linux: the same."""
    if acked > 0:
        tp.delivered += max(acked - tp.sacked_out, 1)
        tp.sacked_out = 0 if acked - 1 >= tp.sacked_out else tp.sacked_out - (acked - 1)
    tcp_check_reno_reordering(tp, acked)


# ---- marking


def tcp_newreno_mark_lost(tp: TcpSock, snd_una_advanced: bool) -> None:
    """The head is lost: enough duplicate ACKs, or a partial ACK in Recovery. RFC 6582 3.2. Linux: the same."""
    enough = tp.ca_state < CA_RECOVERY and tp.sacked_out >= tp.reordering
    if not (enough or (tp.ca_state == CA_RECOVERY and snd_una_advanced)) or not tp.rtx_queue:
        return
    head = tp.rtx_queue[0]
    if head.sacked & TAG_LOST:
        return
    mss = tcp_current_mss(tp)
    if head.pcount > 1 and len(head.data) > mss:
        tcp_fragment(tp, tp.rtx_queue, 0, mss)
    tcp_mark_skb_lost(tp, tp.rtx_queue[0])


def tcp_any_retrans_done(tp: TcpSock) -> bool:
    """Is anything in flight that was sent more than once? Linux: the same."""
    return tp.retrans_out > 0 or (len(tp.rtx_queue) > 0 and tp.rtx_queue[0].sacked & EVER_RETRANS != 0)


def _retrans_stamp_cleanup(tp: TcpSock) -> None:
    if not tcp_any_retrans_done(tp):
        tp.retrans_stamp = 0


# ---- the window while it is reduced


def tcp_init_cwnd_reduction(tp: TcpSock) -> None:
    """PRR begins. RFC 6937 3. Linux: the same."""
    tp.high_seq = tp.snd_nxt
    tp.snd_cwnd_cnt = 0
    tp.prior_cwnd = tp.snd_cwnd
    tp.prr_delivered = tp.prr_out = 0
    tp.tlp_high_seq = 0
    assert tp.ca is not None
    tp.snd_ssthresh = tp.ca.ssthresh(tp)


def tcp_cwnd_reduction(tp: TcpSock, newly_acked: int, newly_lost: int, flag: int) -> None:
    """cwnd follows what was delivered, down to ssthresh. RFC 6937 3.1. Linux: the same."""
    if newly_acked <= 0 or not tp.prior_cwnd:
        return
    in_flight = tcp_packets_in_flight(tp)
    delta = tp.snd_ssthresh - in_flight
    tp.prr_delivered += newly_acked
    if delta < 0:
        sndcnt = (tp.snd_ssthresh * tp.prr_delivered + tp.prior_cwnd - 1) // tp.prior_cwnd - tp.prr_out
    else:
        sndcnt = max(tp.prr_delivered - tp.prr_out, newly_acked)
        if flag & FLAG_SND_UNA_ADVANCED and not newly_lost:
            sndcnt += 1
        sndcnt = min(delta, sndcnt)
    tp.snd_cwnd = in_flight + max(sndcnt, 0 if tp.prr_out else 1)


def tcp_end_cwnd_reduction(tp: TcpSock) -> None:
    """PRR is over: cwnd is ssthresh. Linux: the same."""
    if tp.snd_ssthresh < TCP_INFINITE_SSTHRESH and (tp.ca_state == CA_CWR or tp.undo_marker is not None):
        tp.snd_cwnd = tp.snd_ssthresh
        tp.snd_cwnd_stamp = tp.net.loop.now
    if tp.ca is not None:
        tp.ca.cwnd_event(tp, CA_EVENT_COMPLETE_CWR)


# ---- undo: the loss was none


def tcp_init_undo(tp: TcpSock) -> None:
    """From here on a proof that nothing was lost takes the reduction back. Linux: the same."""
    tp.undo_marker = tp.snd_una
    probes = 1 if tp.tlp_high_seq and tp.tlp_retrans else 0
    tp.undo_retrans = tp.retrans_out + probes or -1


def tcp_packet_delayed(tp: TcpSock, tsecr: int) -> bool:
    """The ACK echoes a timestamp older than the first retransmission: the original arrived. RFC 3522 3.2. Linux: the same."""
    return tp.retrans_stamp != 0 and tsecr >= 0 and (tsecr - tp.retrans_stamp) & M32 >= HALF


def tcp_may_undo(tp: TcpSock, tsecr: int) -> bool:
    """Linux: the same."""
    return tp.undo_marker is not None and (tp.undo_retrans == 0 or tcp_packet_delayed(tp, tsecr))


def tcp_undo_cwnd_reduction(tp: TcpSock, unmark_loss: bool) -> None:
    """cwnd and ssthresh are what they were. Linux: the same."""
    if unmark_loss:
        for seg in tp.rtx_queue:
            seg.sacked &= ~TAG_LOST
        tp.lost_out = 0
    if tp.prior_ssthresh and tp.ca is not None:
        tp.snd_cwnd = tp.ca.undo_cwnd(tp)
        tp.snd_ssthresh = max(tp.snd_ssthresh, tp.prior_ssthresh)
    tp.snd_cwnd_stamp = tp.net.loop.now
    tp.undo_marker = None


def _non_sack_preventing_reopen(tp: TcpSock) -> bool:
    """Exactly at high_seq: hold, or duplicate ACKs of old retransmissions start a false recovery. RFC 6582 3.2 step 1."""
    if tp.snd_una == tp.high_seq and not tp.sack_ok:
        _retrans_stamp_cleanup(tp)
        return True
    return False


def tcp_try_undo_recovery(tp: TcpSock, tsecr: int) -> bool:
    """Everything of the episode is acknowledged; True if the state must be held a little longer. Linux: the same."""
    if tcp_may_undo(tp, tsecr):
        tcp_undo_cwnd_reduction(tp, False)
        tp.net.snmp["TcpExtTCPLossUndo" if tp.ca_state == CA_LOSS else "TcpExtTCPFullUndo"] += 1
    elif tp.reo_wnd_persist:
        tp.reo_wnd_persist -= 1
    if _non_sack_preventing_reopen(tp):
        return True
    tcp_set_ca_state(tp, CA_OPEN)
    tp.is_sack_reneg = False
    return False


def tcp_try_undo_dsack(tp: TcpSock) -> bool:
    """Everything that was sent again was reported twice: nothing was lost. RFC 3708. Linux: the same."""
    if tp.undo_marker is None or tp.undo_retrans:
        return False
    tp.reo_wnd_persist = min(TCP_RACK_RECOVERY_THRESH, tp.reo_wnd_persist + 1)
    tcp_undo_cwnd_reduction(tp, False)
    tp.net.snmp["TcpExtTCPDSACKUndo"] += 1
    return True


def tcp_try_undo_partial(tp: TcpSock, prior_una: int, tsecr: int) -> bool:
    """A partial ACK proved the retransmission needless; True: others are still under way, so nothing more is marked. Linux."""
    if tp.undo_marker is None or not tcp_packet_delayed(tp, tsecr):
        return False
    if tp.sack_ok:
        tcp_check_sack_reordering(tp, prior_una, True)
    if tp.retrans_out:
        return True
    _retrans_stamp_cleanup(tp)
    tcp_undo_cwnd_reduction(tp, True)
    tp.net.snmp["TcpExtTCPPartialUndo"] += 1
    tcp_try_keep_open(tp)
    return False


def tcp_try_undo_loss(tp: TcpSock, tsecr: int, frto_undo: bool) -> bool:
    """The timeout was spurious. Linux: the same."""
    if not frto_undo and not tcp_may_undo(tp, tsecr):
        return False
    tcp_undo_cwnd_reduction(tp, True)
    tp.net.snmp["TcpExtTCPLossUndo"] += 1
    if frto_undo:
        tp.net.snmp["TcpExtTCPSpuriousRTOs"] += 1
    tp.retransmits = 0
    if _non_sack_preventing_reopen(tp):
        return True
    if frto_undo or tp.sack_ok:
        tcp_set_ca_state(tp, CA_OPEN)
        tp.is_sack_reneg = False
    return True


# ---- entering and leaving


def tcp_try_keep_open(tp: TcpSock) -> None:
    """Open, or Disorder while something is out of order. Linux: the same."""
    state = CA_OPEN
    if tp.sacked_out + tp.lost_out or tcp_any_retrans_done(tp):
        state = CA_DISORDER
    if tp.ca_state != state:
        tcp_set_ca_state(tp, state)
        tp.high_seq = tp.snd_nxt


def tcp_enter_recovery(tp: TcpSock) -> None:
    """Fast recovery begins. RFC 5681 3.2, RFC 6582. Linux: the same."""
    tp.net.snmp["TcpExtTCPSackRecovery" if tp.sack_ok else "TcpExtTCPRenoRecovery"] += 1
    tp.prior_ssthresh = 0
    tcp_init_undo(tp)
    if tp.ca_state not in (CA_CWR, CA_RECOVERY):
        tp.prior_ssthresh = tcp_current_ssthresh(tp)
        tcp_init_cwnd_reduction(tp)
    tcp_set_ca_state(tp, CA_RECOVERY)


def tcp_timeout_mark_lost(tp: TcpSock) -> None:
    """Everything is lost but what was sent a moment ago; if the head was selectively acknowledged, the peer has taken that back.

    RFC 2018 8, RFC 8985 6.3. Linux: the same.
    """
    head = tp.rtx_queue[0] if tp.rtx_queue else None
    is_reneg = head is not None and head.sacked & SACKED_ACKED != 0
    if is_reneg:
        tp.net.snmp["TcpExtTCPSACKReneging"] += 1
        tp.sacked_out = 0
        tp.is_sack_reneg = True
    elif not tp.sack_ok:
        tp.sacked_out = 0
    for seg in tp.rtx_queue:
        if is_reneg:
            seg.sacked &= ~SACKED_ACKED
        elif seg is not head and tcp_rack_skb_timeout(tp, seg, 0) > 0:
            continue
        tcp_mark_skb_lost(tp, seg)


def tcp_enter_loss(tp: TcpSock) -> None:
    """The retransmission timer fired: everything in flight counts as lost, cwnd is one. RFC 5681 3.1. Linux: the same."""
    new_recovery = tp.ca_state < CA_RECOVERY
    tcp_timeout_mark_lost(tp)
    if tp.ca_state <= CA_DISORDER or tp.high_seq <= tp.snd_una or (tp.ca_state == CA_LOSS and not tp.retransmits):
        tp.prior_ssthresh = tcp_current_ssthresh(tp)
        tp.prior_cwnd = tp.snd_cwnd
        assert tp.ca is not None
        tp.snd_ssthresh = tp.ca.ssthresh(tp)
        tp.ca.cwnd_event(tp, CA_EVENT_LOSS)
        tcp_init_undo(tp)
    tp.snd_cwnd = tcp_packets_in_flight(tp) + 1
    tp.snd_cwnd_cnt = 0
    tp.snd_cwnd_stamp = tp.net.loop.now
    if tp.ca_state <= CA_DISORDER and tp.sacked_out >= tp.net.sysctl.ipv4.tcp_reordering:
        tp.reordering = min(tp.reordering, tp.net.sysctl.ipv4.tcp_reordering)
    tcp_set_ca_state(tp, CA_LOSS)
    tp.high_seq = tp.snd_nxt
    tp.tlp_high_seq = 0
    tp.frto = bool(tp.net.sysctl.ipv4.tcp_frto) and (new_recovery or tp.retransmits > 0)


def tcp_process_loss(tp: TcpSock, flag: int, num_dupack: int, tsecr: int) -> int:
    """An ACK in state Loss: F-RTO, the end of the episode, or go on. RFC 5682 2.1. Returns REXMIT_*. Linux: the same."""
    recovered = tp.snd_una >= tp.high_seq
    if flag & FLAG_SND_UNA_ADVANCED and tcp_try_undo_loss(tp, tsecr, False):
        return REXMIT_NONE
    if tp.frto:
        if flag & FLAG_ORIG_SACK_ACKED and tcp_try_undo_loss(tp, tsecr, True):  # step 3.b: an original was acknowledged
            return REXMIT_NONE
        if tp.snd_nxt > tp.high_seq:
            if flag & FLAG_DATA_SACKED or num_dupack:
                tp.frto = False  # step 3.a: a real loss
        elif flag & FLAG_SND_UNA_ADVANCED and not recovered:
            tp.high_seq = tp.snd_nxt
            if tp.write_queue and tp.snd_una + tp.snd_wnd > tp.snd_nxt:
                return REXMIT_NEW  # step 2.b: two new segments instead of retransmissions
            tp.frto = False
    if recovered:
        tcp_try_undo_recovery(tp, tsecr)
        return REXMIT_NONE
    if not tp.sack_ok:
        if tp.snd_nxt > tp.high_seq and num_dupack:
            tcp_add_reno_sack(tp, num_dupack)
        elif flag & FLAG_SND_UNA_ADVANCED:
            tp.sacked_out = 0
    return REXMIT_LOST


def tcp_check_sack_reneging(tp: TcpSock, flag: int) -> bool:
    """snd_una moved to data that was selectively acknowledged before: wait a moment for the rest, then time out. Linux: the same."""
    if not (flag & FLAG_SACK_RENEGING and flag & FLAG_SND_UNA_ADVANCED):
        return False
    delay = max(-(-(tp.srtt_us >> 4) // 1000) * MSEC, 10 * MSEC)
    tcp_reset_xmit_timer(tp, TIME_RETRANS, delay)
    return True


def tcp_identify_packet_loss(tp: TcpSock, flag: int) -> int:
    """What is lost is marked; `flag` with what that means for the timer. Linux: the same."""
    if not tp.rtx_queue:
        return flag
    if not tp.sack_ok:
        tcp_newreno_mark_lost(tp, flag & FLAG_SND_UNA_ADVANCED != 0)
        return flag
    prior_retrans = tp.retrans_out
    if tcp_rack_mark_lost(tp):
        flag &= ~FLAG_SET_XMIT_TIMER
    if prior_retrans > tp.retrans_out:
        flag |= FLAG_LOST_RETRANS
    return flag


def tcp_try_to_open(tp: TcpSock) -> None:
    """Nothing is lost. Linux: the same."""
    _retrans_stamp_cleanup(tp)
    if tp.ca_state != CA_CWR:
        tcp_try_keep_open(tp)


def tcp_fastretrans_alert(tp: TcpSock, prior_una: int, num_dupack: int, flag: int, tsecr: int) -> tuple[int, int]:
    """The state machine, for each ACK that is not plain progress. Returns (flag, REXMIT_*). Linux: the same."""
    if not tp.packets_out and tp.sacked_out:
        tp.sacked_out = 0
    if tcp_check_sack_reneging(tp, flag):
        return flag & ~FLAG_SET_XMIT_TIMER, REXMIT_NONE
    if tp.ca_state == CA_OPEN:
        tp.retrans_stamp = 0
    elif tp.snd_una >= tp.high_seq:  # the end of an episode
        if tp.ca_state == CA_CWR:
            if tp.snd_una != tp.high_seq:
                tcp_end_cwnd_reduction(tp)
                tcp_set_ca_state(tp, CA_OPEN)
        elif tp.ca_state == CA_RECOVERY:
            if not tp.sack_ok:
                tp.sacked_out = 0
            if tcp_try_undo_recovery(tp, tsecr):
                return flag, REXMIT_NONE
            tcp_end_cwnd_reduction(tp)
    if tp.ca_state == CA_RECOVERY:
        if not flag & FLAG_SND_UNA_ADVANCED:
            if not tp.sack_ok:
                tcp_add_reno_sack(tp, num_dupack)
        elif tcp_try_undo_partial(tp, prior_una, tsecr):
            return flag, REXMIT_NONE
        if tcp_try_undo_dsack(tp):
            tcp_try_to_open(tp)
        flag = tcp_identify_packet_loss(tp, flag)
        if tp.ca_state != CA_RECOVERY:
            if not tp.lost_out:  # tcp_time_to_recover()
                return flag, REXMIT_NONE
            tcp_enter_recovery(tp)
        return flag, REXMIT_LOST
    if tp.ca_state == CA_LOSS:
        rexmit = tcp_process_loss(tp, flag, num_dupack, tsecr)
        flag = tcp_identify_packet_loss(tp, flag)
        if not (tp.ca_state == CA_OPEN or flag & FLAG_LOST_RETRANS):
            return flag, rexmit
    if not tp.sack_ok:
        if flag & FLAG_SND_UNA_ADVANCED:
            tp.sacked_out = 0
        tcp_add_reno_sack(tp, num_dupack)
    if tp.ca_state <= CA_DISORDER:
        tcp_try_undo_dsack(tp)
    flag = tcp_identify_packet_loss(tp, flag)
    if not tp.lost_out:  # tcp_time_to_recover()
        tcp_try_to_open(tp)
        return flag, REXMIT_NONE
    tcp_enter_recovery(tp)
    return flag, REXMIT_LOST


def tcp_xmit_retransmit_queue(tp: TcpSock) -> None:
    """What is marked lost is sent again, as far as cwnd allows, oldest first. Linux: the same."""
    if not tp.packets_out:
        return
    snmp, at, rearm = tp.net.snmp, 0, False
    mib = "TcpExtTCPSlowStartRetrans" if tp.ca_state == CA_LOSS else "TcpExtTCPFastRetrans"
    max_segs = tcp_tso_segs(tp, tcp_current_mss(tp))
    while at < len(tp.rtx_queue):
        seg = tp.rtx_queue[at]
        at += 1
        segs = tp.snd_cwnd - tcp_packets_in_flight(tp)
        if segs <= 0 or tp.retrans_out >= tp.lost_out:
            break
        if not seg.sacked & TAG_LOST or seg.sacked & (SACKED_ACKED | SACKED_RETRANS):
            continue
        if tcp_retransmit_skb(tp, seg, min(segs, max_segs)):
            break
        snmp[mib] += seg.pcount
        if tp.ca_state in (CA_CWR, CA_RECOVERY):
            tp.prr_out += seg.pcount
        rearm = rearm or (at == 1 and tp.pending != TIME_REO_TIMEOUT)
    if rearm:
        tcp_reset_xmit_timer(tp, TIME_RETRANS, tp.rto)


def tcp_xmit_recovery(tp: TcpSock, rexmit: int) -> None:
    """After an ACK was dealt with: retransmit, or send new data first (F-RTO). Linux: the same."""
    if rexmit == REXMIT_NONE:
        return
    if rexmit == REXMIT_NEW:
        tcp_push_pending_frames(tp, tcp_current_mss(tp), NAGLE_OFF)
        if tp.snd_nxt > tp.high_seq:
            return
        tp.frto = False
    tcp_xmit_retransmit_queue(tp)


def tcp_simple_retransmit(tp: TcpSock) -> None:
    """The path got narrower: segments that are now too large go again, without punishment. RFC 1191 6.3. Linux: the same."""
    mss = tcp_current_mss(tp)
    for seg in tp.rtx_queue:
        if len(seg.data) > mss:
            tcp_mark_skb_lost(tp, seg)
    if not tp.lost_out:
        return
    if not tp.sack_ok:
        tcp_limit_reno_sacked(tp)
    if tp.ca_state != CA_LOSS:
        tp.high_seq = tp.snd_nxt
        tp.snd_ssthresh = tcp_current_ssthresh(tp)
        tp.prior_ssthresh = 0
        tp.undo_marker = None
        tcp_set_ca_state(tp, CA_LOSS)
    tcp_xmit_retransmit_queue(tp)


def tcp_rack_reo_timeout(tp: TcpSock) -> None:
    """The reordering window is over: what has not arrived is lost. RFC 8985 6.3. Linux: the same."""
    prior_inflight, lost = tcp_packets_in_flight(tp), tp.lost
    tcp_rack_detect_loss(tp)
    if prior_inflight != tcp_packets_in_flight(tp):
        if tp.ca_state != CA_RECOVERY:
            tcp_enter_recovery(tp)
            tcp_cwnd_reduction(tp, 1, tp.lost - lost, 0)
        tcp_xmit_retransmit_queue(tp)
    if tp.pending != TIME_RETRANS:
        tcp_rearm_rto(tp)
