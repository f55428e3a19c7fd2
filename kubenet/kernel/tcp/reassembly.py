"""Received data: in order into the receive queue, beyond a hole into the out-of-order queue; and when to acknowledge.

The out-of-order queue is a sorted list of ranges that do not overlap. Filling the hole moves what follows over, and is
acknowledged at once. FIN takes its place in the sequence like a byte.

ACK policy: at once for every second full segment, in quick-ack mode, for anything out of order; else delayed by `ato`
(40 ms, adapting to the sender's pace). RFC 5681 4.2, RFC 1122 4.2.3.2.

simplified: no ACK compression of out-of-order bursts, no collapsing of the receive queue. Source: Linux net/ipv4/tcp_input.c.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter

from kubenet.kernel.skbuff import DropReason, SkBuff, drop
from kubenet.kernel.socket.sock import (
    RCV_SHUTDOWN,
    SOCK_DEAD,
    SOCK_DONE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_SYN_RECV,
    TCP_TIME_WAIT,
)
from kubenet.kernel.tcp.output import tcp_enter_pingpong_mode, tcp_send_ack, tcp_send_delayed_ack
from kubenet.kernel.tcp.sock import (
    ACK_NOMEM,
    ACK_NOW,
    ACK_PUSHED,
    ACK_PUSHED2,
    ACK_SCHED,
    SKB_TRUESIZE,
    TCP_ATO_MIN,
    TCP_FASTRETRANS_THRESH,
    TCP_MAX_QUICKACKS,
    TCP_MIN_MSS,
    TCP_MSS_DEFAULT,
    RxSeg,
    TcpSock,
    tcp_receive_window,
)
from kubenet.kernel.tcp.states import tcp_set_state
from kubenet.kernel.tcp.window import tcp_clamp_window, tcp_grow_window, tcp_update_scaling_ratio
from kubenet.kernel.tcp.window import tcp_next_window as select_window
from kubenet.wire.tcp import FIN, PSH

MAX_SKB_FRAGS = 17  # so many segments share one sk_buff's bookkeeping when they are joined

_seq = attrgetter("seq")


# ---- acknowledging


def tcp_incr_quickack(tp: TcpSock, most: int = TCP_MAX_QUICKACKS) -> None:
    """The next segments are acknowledged at once: enough of them to open the sender's window. Linux: the same."""
    quick = min(tp.rcv_wnd // (2 * tp.rcv_mss) or 2, most)
    if quick > tp.quick:
        tp.quick = quick


def tcp_enter_quickack_mode(tp: TcpSock, most: int = TCP_MAX_QUICKACKS) -> None:
    """Linux: the same."""
    tcp_incr_quickack(tp, most)
    tp.pingpong = 0
    tp.ato = TCP_ATO_MIN


def tcp_initialize_rcv_mss(tp: TcpSock) -> None:
    """A first guess at the sender's segment size. Linux: the same."""
    hint = min(tp.advmss, tp.mss_cache, tp.rcv_wnd // 2, TCP_MSS_DEFAULT)
    tp.rcv_mss = max(hint, TCP_MIN_MSS)


def tcp_measure_rcv_mss(tp: TcpSock, skb: SkBuff) -> None:
    """rcv_mss follows the segments that arrive. Linux: the same."""
    size = skb.gso_size or skb.plen
    last, tp.last_seg_size = tp.last_seg_size, 0
    if size >= tp.rcv_mss:
        if size != tp.rcv_mss:
            tcp_update_scaling_ratio(tp, skb.plen, SKB_TRUESIZE + skb.plen)
        tp.rcv_mss = min(size, tp.advmss)
        if skb.plen > tp.rcv_mss and skb.l4.flags & PSH:
            tp.ack_pending |= ACK_PUSHED
        return
    size += skb.l4.doff + 20
    if size >= TCP_MSS_DEFAULT + 20 or (size >= TCP_MIN_MSS + 20 and not skb.l4.flags & (FIN | PSH | 0x20)):
        size -= skb.l4.doff + 20
        tp.last_seg_size = size
        if size == last:
            tp.rcv_mss = size
            return
    if tp.ack_pending & ACK_PUSHED:
        tp.ack_pending |= ACK_PUSHED2
    tp.ack_pending |= ACK_PUSHED


def tcp_event_data_recv(tp: TcpSock, skb: SkBuff) -> None:
    """Data arrived in order: an ACK is owed, and `ato` follows the sender's pace. Linux: the same."""
    tp.ack_pending |= ACK_SCHED
    size = skb.plen
    if size == tp.rcv_mss:  # the common case of tcp_measure_rcv_mss()
        tp.last_seg_size = 0
    else:
        tcp_measure_rcv_mss(tp, skb)
    now = tp.net.loop.now
    if not tp.ato:
        tcp_incr_quickack(tp)
        tp.ato = TCP_ATO_MIN
    else:
        m = now - tp.lrcvtime
        if m <= TCP_ATO_MIN // 2:
            tp.ato = (tp.ato >> 1) + TCP_ATO_MIN // 2
        elif m < tp.ato:
            tp.ato = min((tp.ato >> 1) + m, tp.rto)
        elif m > tp.rto:
            tcp_incr_quickack(tp)
    tp.lrcvtime = now
    if size >= 128:
        tcp_grow_window(tp, size, SKB_TRUESIZE + size)


def tcp_ack_snd_check(tp: TcpSock) -> None:
    """If an ACK is owed, it leaves now or its timer runs. Linux: the same."""
    if not tp.ack_pending & ACK_SCHED:
        return
    unacked = tp.rcv_nxt - tp.rcv_wup
    if (
        (unacked > tp.rcv_mss and (tp.rcv_nxt - tp.copied_seq < tp.rcvlowat or select_window(tp) >= tp.rcv_wnd))
        or (tp.quick and tp.pingpong < tp.net.sysctl.ipv4.tcp_pingpong_thresh)
        or tp.ack_pending & ACK_NOW
    ):
        tcp_send_ack(tp)
    elif tp.ofo_queue:
        tcp_send_ack(tp)  # simplified: Linux compresses the ACKs of a burst after the third duplicate
        if tp.compressed_ack_rcv_nxt != tp.rcv_nxt:
            tp.compressed_ack_rcv_nxt, tp.dup_ack_counter = tp.rcv_nxt, 0
        tp.dup_ack_counter = min(tp.dup_ack_counter + 1, TCP_FASTRETRANS_THRESH)
    else:
        tcp_send_delayed_ack(tp)


def tcp_dsack_set(tp: TcpSock, seq: int, end_seq: int, mib: str) -> None:
    """The next ACK tells of data that arrived twice. RFC 2883. Linux: the same."""
    if tp.sack_ok and tp.net.sysctl.ipv4.tcp_dsack:
        tp.net.snmp[mib] += 1
        tp.dsack = (seq, end_seq)


# ---- queues


def tcp_data_queue(tp: TcpSock, skb: SkBuff, seq: int, end_seq: int) -> None:
    """The segment's text is queued, or dropped with an ACK that says what is wanted. RFC 9293 3.10.7.4. Linux: the same."""
    if seq == end_seq:
        return None
    if seq == tp.rcv_nxt:
        if not tcp_receive_window(tp) and skb.plen:
            return _out_of_window(tp, skb, DropReason.TCP_ZEROWINDOW)
        return _queue_and_out(tp, skb, seq, end_seq)
    if end_seq <= tp.rcv_nxt:
        tp.net.snmp["TcpExtDelayedACKLost"] += 1
        tcp_dsack_set(tp, seq, end_seq, "TcpExtTCPDSACKOldSent")
        return _out_of_window(tp, skb, DropReason.TCP_OLD_DATA)
    if seq >= tp.rcv_nxt + tcp_receive_window(tp):
        return _out_of_window(tp, skb, DropReason.TCP_OVERWINDOW)
    if seq < tp.rcv_nxt:
        tcp_dsack_set(tp, seq, tp.rcv_nxt, "TcpExtTCPDSACKOldSent")
        if not tcp_receive_window(tp):
            return _out_of_window(tp, skb, DropReason.TCP_ZEROWINDOW)
        return _queue_and_out(tp, skb, seq, end_seq)
    return tcp_data_queue_ofo(tp, skb, seq, end_seq)


def _out_of_window(tp: TcpSock, skb: SkBuff, reason: int) -> None:
    tcp_enter_quickack_mode(tp)
    tp.ack_pending |= ACK_SCHED
    drop(skb, reason)


def _queue_and_out(tp: TcpSock, skb: SkBuff, seq: int, end_seq: int) -> None:
    """In order: queue it, then whatever it connects to. Linux: the queue_and_out label of tcp_data_queue()."""
    if tp.rmem_alloc > tp.rcvbuf and not tcp_prune_queue(tp) and tp.receive_queue:
        tp.net.snmp["TcpExtTCPRcvQDrop"] += 1
        tp.ack_pending |= ACK_NOMEM | ACK_NOW | ACK_SCHED
        tp.wait.wake()
        return drop(skb, DropReason.PROTO_MEM)
    fin = skb.l4.flags & FIN
    tcp_queue_rcv(tp, skb.payload, skb.plen, seq, end_seq)
    if skb.plen:
        tcp_event_data_recv(tp, skb)
    if fin:
        tcp_fin(tp)
    if tp.ofo_queue:
        tcp_ofo_queue(tp)
        if not tp.ofo_queue:  # RFC 5681 4.2: the hole is filled
            tp.ack_pending |= ACK_NOW
    tp.wait.wake()
    return None


def tcp_queue_rcv(tp: TcpSock, data: object, plen: int, seq: int, end_seq: int) -> None:
    """Data is in the receive queue and rcv_nxt behind it; what was received before is cut off. Linux: the same."""
    skip = tp.rcv_nxt - seq
    if skip:
        data = memoryview(data)[skip:]  # type: ignore[arg-type]
        seq += skip
        plen -= skip
    tp.bytes_received += end_seq - tp.rcv_nxt
    tp.rcv_nxt = end_seq
    if plen <= 0:
        return
    segment = RxSeg(seq, data, False)
    if len(tp.receive_queue) % MAX_SKB_FRAGS:
        segment.truesize = plen  # joined to its predecessor. Linux: tcp_try_coalesce()
    tp.receive_queue.append(segment)
    tp.rmem_alloc += segment.truesize


def tcp_prune_queue(tp: TcpSock) -> bool:
    """The buffer is over its limit: give up what is out of order. True if that helped. Linux: the same."""
    tp.net.snmp["TcpExtPruneCalled"] += 1
    tcp_clamp_window(tp)
    if tp.rmem_alloc <= tp.rcvbuf:
        return True
    while tp.ofo_queue and tp.rmem_alloc > tp.rcvbuf:
        tp.rmem_alloc -= tp.ofo_queue.pop().truesize
        tp.net.snmp["TcpExtOfoPruned"] += 1
    if tp.rmem_alloc <= tp.rcvbuf:
        return True
    tp.net.snmp["TcpExtRcvPruned"] += 1
    return False


def tcp_data_queue_ofo(tp: TcpSock, skb: SkBuff, seq: int, end_seq: int) -> None:
    """Data beyond a hole waits in the out-of-order queue; what it overlaps is kept once. Linux: the same."""
    snmp = tp.net.snmp
    if tp.rmem_alloc > tp.rcvbuf and not tcp_prune_queue(tp):
        snmp["TcpExtTCPOFODrop"] += 1
        tp.wait.wake()
        return drop(skb, DropReason.PROTO_MEM)
    tcp_measure_rcv_mss(tp, skb)
    tp.ack_pending |= ACK_SCHED
    tp.rcv_ooopack += skb.gso_segs
    snmp["TcpExtTCPOFOQueue"] += 1
    queue = tp.ofo_queue
    new = RxSeg(seq, skb.payload, bool(skb.l4.flags & FIN))
    at = bisect_left(queue, seq, key=_seq)
    if at and queue[at - 1].end_seq > seq:  # overlaps its predecessor
        before = queue[at - 1]
        if before.end_seq >= end_seq:
            tcp_dsack_set(tp, seq, end_seq, "TcpExtTCPDSACKOfoSent")
            tp.sack_recent.insert(0, before.seq)
            return drop(skb, DropReason.TCP_OFOMERGE)
        tcp_dsack_set(tp, seq, before.end_seq, "TcpExtTCPDSACKOfoSent")
        _trim_front(new, before.end_seq)
    while at < len(queue) and queue[at].seq < new.end_seq:  # covers its successors
        after = queue[at]
        if after.end_seq > new.end_seq:
            tcp_dsack_set(tp, after.seq, new.end_seq, "TcpExtTCPDSACKOfoSent")
            _trim_front(after, new.end_seq)
            break
        tcp_dsack_set(tp, after.seq, after.end_seq, "TcpExtTCPDSACKOfoSent")
        snmp["TcpExtTCPOFOMerge"] += 1
        tp.rmem_alloc -= after.truesize
        new.fin = new.fin or (after.fin and after.end_seq == new.end_seq)
        del queue[at]
    queue.insert(at, new)
    tp.rmem_alloc += new.truesize
    tp.sack_recent.insert(0, new.seq)
    if tp.sack_ok:  # without SACK the window stays, so that the ACKs are duplicates
        tcp_grow_window(tp, skb.plen, SKB_TRUESIZE + skb.plen)
    return None


def _trim_front(segment: RxSeg, seq: int) -> None:
    segment.data = memoryview(segment.data)[seq - segment.seq :]
    segment.seq = seq


def tcp_ofo_queue(tp: TcpSock) -> None:
    """What rcv_nxt has reached moves to the receive queue. Linux: the same."""
    queue = tp.ofo_queue
    while queue and queue[0].seq <= tp.rcv_nxt:
        segment = queue.pop(0)
        tp.rmem_alloc -= segment.truesize
        if segment.seq < tp.rcv_nxt:
            tcp_dsack_set(tp, segment.seq, min(segment.end_seq, tp.rcv_nxt), "TcpExtTCPDSACKOfoSent")
        if segment.end_seq <= tp.rcv_nxt:
            continue
        tcp_queue_rcv(tp, segment.data, len(segment.data), segment.seq, segment.end_seq)
        if segment.fin:
            tcp_fin(tp)
            return
    if not queue:
        tp.sack_recent.clear()


def tcp_fin(tp: TcpSock) -> None:
    """The peer will send no more. RFC 9293 3.10.7.4, eighth check. Linux: the same."""
    from kubenet.kernel.tcp.timewait import tcp_time_wait

    tp.ack_pending |= ACK_SCHED
    tp.shutdown |= RCV_SHUTDOWN
    tp.flags |= SOCK_DONE
    for segment in tp.ofo_queue:
        tp.rmem_alloc -= segment.truesize
    tp.ofo_queue.clear()
    tp.sack_recent.clear()
    state = tp.state
    if state in (TCP_SYN_RECV, TCP_ESTABLISHED):
        tcp_set_state(tp, TCP_CLOSE_WAIT)
        tcp_enter_pingpong_mode(tp)
    elif state == TCP_FIN_WAIT1:  # simultaneous close
        tcp_send_ack(tp)
        tcp_set_state(tp, TCP_CLOSING)
    elif state == TCP_FIN_WAIT2:
        tcp_send_ack(tp)
        tcp_time_wait(tp, TCP_TIME_WAIT, 0)
    if not tp.flags & SOCK_DEAD:
        tp.wait.wake()
