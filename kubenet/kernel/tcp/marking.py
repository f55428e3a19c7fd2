"""The mark that a segment is lost, and what it does to the counts. Source: Linux net/ipv4/tcp_input.c tcp_mark_skb_lost()."""

from __future__ import annotations

from kubenet.kernel.tcp.sock import SACKED_ACKED, SACKED_RETRANS, TAG_LOST, TcpSock, TxSeg


def tcp_mark_skb_lost(tp: TcpSock, seg: TxSeg) -> None:
    """The segment is believed lost, or its retransmission is. Linux: the same."""
    if seg.sacked & SACKED_ACKED:
        return
    if seg.sacked & TAG_LOST:
        if seg.sacked & SACKED_RETRANS:
            seg.sacked &= ~SACKED_RETRANS
            tp.retrans_out -= seg.pcount
            tp.lost += seg.pcount
            tp.net.snmp["TcpExtTCPLostRetransmit"] += seg.pcount
    else:
        tp.lost_out += seg.pcount
        tp.lost += seg.pcount
        seg.sacked |= TAG_LOST
