"""RACK: a segment is lost if one sent later was delivered, and a reordering window has passed. By send time, not by counting ACKs.

    tp.rack_mstamp, rack_end_seq    the segment sent last of those delivered; rack_rtt_us: how long the newest delivery took
    tcp_rack_detect_loss            marks what was sent before it and is older than rack_rtt_us + reordering window

The window is 0 until reordering was seen and three segments are selectively acknowledged; then a quarter of min_rtt, more with every
D-SACK. Sources: RFC 8985 3 to 6; Linux net/ipv4/tcp_recovery.c, whose function names these are.
"""

from __future__ import annotations

from kubenet.kernel.tcp.marking import tcp_mark_skb_lost
from kubenet.kernel.tcp.sock import (
    CA_RECOVERY,
    EVER_RETRANS,
    SACKED_ACKED,
    SACKED_RETRANS,
    TAG_LOST,
    TIME_REO_TIMEOUT,
    TcpSock,
    TxSeg,
)
from kubenet.kernel.tcp.xmit_timer import TCP_TIMEOUT_MIN_US, tcp_reset_xmit_timer
from kubenet.units import MSEC, USEC

TCP_RACK_STATIC_REO_WND, TCP_RACK_NO_DUPTHRESH = 2, 4  # of sysctl tcp_recovery
TCP_RACK_RECOVERY_THRESH = 16


def tcp_skb_sent_after(t1: int, t2: int, seq1: int, seq2: int) -> bool:
    """Sent later; of one burst, what has the higher number. Linux: the same."""
    return t1 > t2 or (t1 == t2 and seq1 > seq2)


def tcp_rack_reo_wnd(tp: TcpSock) -> int:
    """The reordering window (us). RFC 8985 6.2 step 4. Linux: the same."""
    if not tp.reord_seen:
        if tp.ca_state >= CA_RECOVERY:
            return 0
        if tp.sacked_out >= tp.reordering and not tp.net.sysctl.ipv4.tcp_recovery & TCP_RACK_NO_DUPTHRESH:
            return 0
    return min((tp.min_rtt_us >> 2) * tp.reo_wnd_steps, tp.srtt_us >> 3)


def tcp_rack_skb_timeout(tp: TcpSock, seg: TxSeg, reo_wnd: int) -> int:
    """How long the segment may still be under way (us). Linux: the same."""
    return tp.rack_rtt_us + reo_wnd - (tp.net.loop.now - seg.tstamp) // USEC


def tcp_rack_detect_loss(tp: TcpSock) -> int:
    """Marks what is lost; how long until the next may be (us), 0 if none. RFC 8985 6.2 step 5. Linux: the same."""
    timeout = 0
    reo_wnd = tcp_rack_reo_wnd(tp)
    mstamp, end_seq = tp.rack_mstamp, tp.rack_end_seq
    for seg in tp.rtx_queue:
        sacked = seg.sacked
        if sacked & SACKED_ACKED or (sacked & TAG_LOST and not sacked & SACKED_RETRANS):
            continue
        if not tcp_skb_sent_after(mstamp, seg.tstamp, end_seq, seg.end_seq):
            continue
        remaining = tcp_rack_skb_timeout(tp, seg, reo_wnd)
        if remaining <= 0:
            tcp_mark_skb_lost(tp, seg)
        elif remaining > timeout:
            timeout = remaining
    return timeout


def tcp_rack_mark_lost(tp: TcpSock) -> bool:
    """After an ACK. True: the timer runs until the reordering window is over. Linux: the same."""
    if not tp.rack_advanced:
        return False
    tp.rack_advanced = False
    timeout = tcp_rack_detect_loss(tp)
    if timeout:
        tcp_reset_xmit_timer(tp, TIME_REO_TIMEOUT, -(-(timeout + TCP_TIMEOUT_MIN_US) // 1000) * MSEC)
    return timeout != 0


def tcp_rack_advance(tp: TcpSock, sacked: int, end_seq: int, xmit_time: int) -> None:
    """A segment sent at `xmit_time` was delivered. RFC 8985 6.2 step 2. Linux: the same."""
    rtt_us = (tp.net.loop.now - xmit_time) // USEC
    if rtt_us < tp.min_rtt_us and sacked & (SACKED_RETRANS | EVER_RETRANS):
        return  # sooner than possible: it was the original, not what was sent again
    tp.rack_advanced = True
    tp.rack_rtt_us = rtt_us
    if tcp_skb_sent_after(xmit_time, tp.rack_mstamp, end_seq, tp.rack_end_seq):
        tp.rack_mstamp, tp.rack_end_seq = xmit_time, end_seq


def tcp_rack_update_reo_wnd(tp: TcpSock, prior_delivered: int) -> None:
    """A D-SACK widens the window by min_rtt/4, once per round trip, for 16 recoveries. RFC 8985 6.2 step 4. Linux: the same.

    prior_delivered: what was delivered when the segment left that this ACK is for; 0 if it is for none.
    """
    if tp.net.sysctl.ipv4.tcp_recovery & TCP_RACK_STATIC_REO_WND or not prior_delivered:
        return
    if prior_delivered < tp.rack_last_delivered:
        tp.rack_dsack_seen = False
    if tp.rack_dsack_seen:
        tp.reo_wnd_steps = min(0xFF, tp.reo_wnd_steps + 1)
        tp.rack_dsack_seen = False
        tp.rack_last_delivered = tp.delivered
        tp.reo_wnd_persist = TCP_RACK_RECOVERY_THRESH
    elif not tp.reo_wnd_persist:
        tp.reo_wnd_steps = 1
