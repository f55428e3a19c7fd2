"""Tail loss probe: the last segment (or new data) is sent again after two silent round trips, so that its ACK tells of a hole.

    tcp_schedule_loss_probe (xmit_timer.py) -> tcp_send_loss_probe -> ... an ACK ... -> tcp_process_tlp_ack

One probe per episode: tp.tlp_high_seq is snd_nxt when it left. If the probe repaired the only loss, no SACK will tell, so cwnd is
reduced once when an ACK goes beyond it without a D-SACK. Sources: RFC 8985 7; Linux net/ipv4/tcp_output.c, tcp_input.c.
"""

from __future__ import annotations

from kubenet.kernel.tcp.output import __tcp_retransmit_skb as tcp_retransmit_one
from kubenet.kernel.tcp.output import tcp_current_mss, tcp_fragment, tcp_write_xmit
from kubenet.kernel.tcp.recovery import (
    FLAG_DATA_SACKED,
    FLAG_DSACK_TLP,
    FLAG_NOT_DUP,
    FLAG_SND_UNA_ADVANCED,
    tcp_end_cwnd_reduction,
    tcp_init_cwnd_reduction,
    tcp_set_ca_state,
    tcp_try_keep_open,
)
from kubenet.kernel.tcp.sock import CA_CWR, NAGLE_OFF, TIME_NONE, TcpSock
from kubenet.kernel.tcp.xmit_timer import tcp_rearm_rto


def tcp_send_loss_probe(tp: TcpSock) -> None:
    """The probe leaves, and the RTO runs from now. RFC 8985 7.3. Linux: the same."""
    if not tp.tlp_high_seq and _send(tp):
        tp.tlp_high_seq = tp.snd_nxt
        tp.net.snmp["TcpExtTCPLossProbes"] += 1
        tp.pending = TIME_NONE  # so that the RTO is not counted from the head's send time
    tcp_rearm_rto(tp)


def _send(tp: TcpSock) -> bool:
    """New data if the window has room for it, else the last segment of the last TxSeg again."""
    tp.tlp_retrans = False
    mss = tcp_current_mss(tp)
    if tp.write_queue:
        head = tp.write_queue[0]
        end = head.seq + mss if len(head.data) > mss else head.end_seq
        if end <= tp.snd_una + tp.snd_wnd:
            before = tp.packets_out
            tcp_write_xmit(tp, mss, NAGLE_OFF, 2)
            return tp.packets_out > before
    if not tp.rtx_queue:
        return False
    last = len(tp.rtx_queue) - 1
    seg = tp.rtx_queue[last]
    if seg.pcount > 1 and len(seg.data) > (seg.pcount - 1) * mss:
        tcp_fragment(tp, tp.rtx_queue, last, (seg.pcount - 1) * mss)
        seg = tp.rtx_queue[last + 1]
    if tcp_retransmit_one(tp, seg, 1):
        return False
    tp.tlp_retrans = True
    return True


def tcp_process_tlp_ack(tp: TcpSock, ack: int, flag: int) -> None:
    """An ACK after a probe: did the probe repair a loss that nobody saw? RFC 8985 7.4. Linux: the same."""
    if ack < tp.tlp_high_seq:
        return
    if not tp.tlp_retrans or flag & FLAG_DSACK_TLP:  # new data arrived; or both original and probe
        tp.tlp_high_seq = 0
    elif ack > tp.tlp_high_seq:
        tcp_init_cwnd_reduction(tp)
        tcp_set_ca_state(tp, CA_CWR)
        tcp_end_cwnd_reduction(tp)
        tcp_try_keep_open(tp)
        tp.net.snmp["TcpExtTCPLossProbeRecovery"] += 1
    elif not flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DATA_SACKED):  # a plain duplicate ACK: both arrived
        tp.tlp_high_seq = 0
