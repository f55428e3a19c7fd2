"""SACK blocks read by the sender: which segments beyond the first hole have arrived, and what arrived twice (D-SACK).

    tcp_sacktag_write_queue(tp, blocks, ack, prior_una, state) -> FLAG_*

Each TxSeg carries SACKED_ACKED, SACKED_RETRANS, TAG_LOST; sacked_out, retrans_out and lost_out count segments. A TxSeg that a block
covers in part is cut at a segment's border. tp.highest_sack is the end of the highest acknowledged range.

simplified: no cache of blocks seen before and no joining of neighbours (tcp_shift_skb_data()), so TCPSackShifted, Merged and
ShiftFallback stay 0. Sources: RFC 2018, RFC 2883, RFC 6675; Linux net/ipv4/tcp_input.c, whose function names these are.
"""

from __future__ import annotations

from kubenet.kernel.tcp.output import tcp_fragment
from kubenet.kernel.tcp.rack import tcp_rack_advance
from kubenet.kernel.tcp.recovery import (
    FLAG_DATA_SACKED,
    FLAG_DSACK_TLP,
    FLAG_DSACKING_ACK,
    FLAG_ORIG_SACK_ACKED,
    tcp_check_sack_reordering,
    tcp_highest_sack_seq,
)
from kubenet.kernel.tcp.sock import CA_LOSS, EVER_RETRANS, SACKED_ACKED, SACKED_RETRANS, TAG_LOST, TcpSock, TxSeg

RETRANS = SACKED_RETRANS | EVER_RETRANS
Block = tuple[int, int]


class SackState:
    """What the blocks of one ACK have shown. Times in ns, -1 for none. Linux: struct tcp_sacktag_state."""

    __slots__ = ("flag", "reord", "first_sackt", "last_sackt", "delivered", "prior_delivered")

    def __init__(self) -> None:
        self.flag: int = 0
        self.reord: int = 0
        self.first_sackt: int = -1
        self.last_sackt: int = -1
        self.delivered: int = 0
        self.prior_delivered: int = 0


def tcp_sacktag_write_queue(tp: TcpSock, blocks: list[Block], ack: int, prior_una: int, state: SackState) -> int:
    """The retransmit queue is marked with what the blocks say. Linux: the same."""
    state.reord = tp.snd_nxt
    if not tp.sacked_out:
        tp.highest_sack = 0
    dup = tcp_check_dsack(tp, blocks, ack, prior_una, state)
    if ack < prior_una - tp.max_window:
        return 0
    if tp.packets_out:
        for start, end, is_dup in sorted(_usable(tp, blocks, ack, prior_una, dup)):
            tcp_sacktag_walk(tp, state, start, end, is_dup)
        if tp.ca_state != CA_LOSS or tp.undo_marker is not None:
            tcp_check_sack_reordering(tp, state.reord, False)
    return state.flag


def _usable(tp: TcpSock, blocks: list[Block], ack: int, prior_una: int, dup: bool) -> list[tuple[int, int, bool]]:
    """The blocks that can be true; the others are counted."""
    used = []
    for i, (start, end) in enumerate(blocks):
        is_dup = dup and i == 0
        if not tcp_is_sackblock_valid(tp, is_dup, start, end):
            if is_dup:
                mib = "TcpExtTCPDSACKIgnoredNoUndo" if tp.undo_marker is None else "TcpExtTCPDSACKIgnoredOld"
            elif ack != tp.snd_una and end <= tp.snd_una:
                continue  # an ACK that was overtaken
            else:
                mib = "TcpExtTCPSACKDiscard"
            tp.net.snmp[mib] += 1
        elif end > prior_una:
            used.append((start, end, is_dup))
    return used


def tcp_is_sackblock_valid(tp: TcpSock, is_dsack: bool, start: int, end: int) -> bool:
    """Of data in flight; a D-SACK may also be of what was acknowledged since undo_marker. Linux: the same."""
    if end > tp.snd_nxt or start >= end or start >= tp.snd_nxt:
        return False
    if start > tp.snd_una:
        return True
    if not is_dsack or tp.undo_marker is None or end > tp.snd_una:
        return False
    if start >= tp.undo_marker:
        return True
    return end > tp.undo_marker and start >= end - tp.max_window


def tcp_check_dsack(tp: TcpSock, blocks: list[Block], ack: int, prior_una: int, state: SackState) -> bool:
    """Is the first block of data that arrived twice: below the ACK, or inside the second block? RFC 2883 4. Linux: the same."""
    start, end = blocks[0]
    snmp = tp.net.snmp
    if start < ack:
        snmp["TcpExtTCPDSACKRecv"] += 1
    elif len(blocks) > 1 and end <= blocks[1][1] and start >= blocks[1][0]:
        snmp["TcpExtTCPDSACKOfoRecv"] += 1
    else:
        return False
    dup_segs = tcp_dsack_seen(tp, start, end, state)
    if not dup_segs:
        snmp["TcpExtTCPDSACKIgnoredDubious"] += 1
        return False
    snmp["TcpExtTCPDSACKRecvSegs"] += dup_segs
    if tp.undo_marker is not None and tp.undo_retrans > 0 and end <= prior_una and end > tp.undo_marker:
        tp.undo_retrans = max(0, tp.undo_retrans - dup_segs)
    return True


def tcp_dsack_seen(tp: TcpSock, start: int, end: int, state: SackState) -> int:
    """How many segments arrived twice, 0 if that cannot be. Linux: the same."""
    size = end - start
    if size <= 0 or size > tp.max_window:
        return 0
    dup_segs = 1
    if size > tp.mss_cache:
        dup_segs = -(-size // tp.mss_cache)
    elif tp.tlp_high_seq and tp.tlp_high_seq == end:
        state.flag |= FLAG_DSACK_TLP
    tp.dsack_dups += dup_segs
    if tp.dsack_dups > tp.total_retrans:
        return 0
    if tp.reord_seen and not state.flag & FLAG_DSACK_TLP:
        tp.rack_dsack_seen = True
    state.flag |= FLAG_DSACKING_ACK
    state.delivered += dup_segs
    return dup_segs


def tcp_sacktag_walk(tp: TcpSock, state: SackState, start: int, end: int, dup: bool) -> None:
    """Marks each TxSeg that the block covers. Linux: the same."""
    queue, at = tp.rtx_queue, 0
    while at < len(queue):
        seg = queue[at]
        if seg.seq >= end:
            break
        if seg.end_seq > start and tcp_match_skb_to_sack(tp, at, start, end):
            seg = queue[at]
            before = seg.sacked
            tcp_sacktag_one(tp, state, seg, dup)
            if seg.sacked & SACKED_ACKED and not before & SACKED_ACKED:
                state.prior_delivered = max(state.prior_delivered, seg.tx_delivered)
                tp.highest_sack = max(tp.highest_sack, seg.end_seq)
        at += 1


def tcp_match_skb_to_sack(tp: TcpSock, at: int, start: int, end: int) -> bool:
    """Is queue[at] inside the block? It is cut at the border of a segment if it is in part. Linux: the same."""
    seg: TxSeg = tp.rtx_queue[at]
    if start <= seg.seq and end >= seg.end_seq:
        return True
    if seg.pcount == 1:
        return False
    mss, inside = tp.mss_cache, start <= seg.seq
    size = end - seg.seq if inside else max(start - seg.seq, mss)
    if inside and size < mss:
        return False
    if size > mss:
        whole = size // mss * mss
        size = whole + mss if not inside and whole < size else whole
    if size >= len(seg.data):
        return inside
    tcp_fragment(tp, tp.rtx_queue, at, size)
    return inside


def tcp_sacktag_one(tp: TcpSock, state: SackState, seg: TxSeg, dup: bool) -> None:
    """One TxSeg is inside a block: its marks, and the counts. Linux: the same."""
    sacked, pcount = seg.sacked, seg.pcount
    if dup and sacked & RETRANS:
        if tp.undo_marker is not None and tp.undo_retrans > 0 and seg.end_seq > tp.undo_marker:
            tp.undo_retrans = max(0, tp.undo_retrans - pcount)
        if sacked & SACKED_ACKED and seg.seq < state.reord:
            state.reord = seg.seq
    if seg.end_seq <= tp.snd_una:
        return
    if not sacked & SACKED_ACKED:
        tcp_rack_advance(tp, sacked, seg.end_seq, seg.tstamp)
        if sacked & SACKED_RETRANS:
            if sacked & TAG_LOST:  # what was sent again has arrived
                sacked &= ~(TAG_LOST | SACKED_RETRANS)
                tp.lost_out -= pcount
                tp.retrans_out -= pcount
        else:
            if not sacked & RETRANS:
                if seg.seq < tcp_highest_sack_seq(tp) and seg.seq < state.reord:
                    state.reord = seg.seq  # it was in a hole, and nobody sent it again
                if seg.end_seq <= tp.high_seq:
                    state.flag |= FLAG_ORIG_SACK_ACKED
                if state.first_sackt < 0:
                    state.first_sackt = seg.tstamp
                state.last_sackt = seg.tstamp
            if sacked & TAG_LOST:
                sacked &= ~TAG_LOST
                tp.lost_out -= pcount
        sacked |= SACKED_ACKED
        state.flag |= FLAG_DATA_SACKED
        tp.sacked_out += pcount
        state.delivered += pcount
    if dup and sacked & SACKED_RETRANS:
        sacked &= ~SACKED_RETRANS
        tp.retrans_out -= pcount
    seg.sacked = sacked
