"""The sending half: segments from the write queue to IP, under the window, cwnd and Nagle.

    tcp_sendmsg (stream.py) -> tcp_push -> tcp_write_xmit -> tcp_transmit_skb -> tp.af_ops.queue_xmit

Two queues hold TxSegs: `write_queue` what was never sent, `rtx_queue` what was sent and not acknowledged. A TxSeg may be
up to 64 KiB and goes out as one super-segment with gso_size = MSS; it counts as `pcount` segments everywhere. Headers are
built for every transmission, the data is a slice of what the program wrote.

simplified: no small-queue limit and no autocork, since a device here takes a packet at once; no pacing of departures.
Sources: Linux net/ipv4/tcp_output.c, tcp_ipv4.c tcp_v4_send_reset(), tcp_v4_send_ack(); RFC 9293 3.8, RFC 896, RFC 1122 4.2.3.4.
"""

from __future__ import annotations

from typing import Any

from kubenet.kernel.skbuff import ETH_P_IP, SkBuff, arm, station
from kubenet.kernel.socket.sock import TCP_CLOSE
from kubenet.kernel.tcp.congestion.base import CA_EVENT_CWND_RESTART, CA_EVENT_TX_START
from kubenet.kernel.tcp.seq import M32
from kubenet.kernel.tcp.sock import (
    ACK_PUSHED,
    ACK_SCHED,
    ACK_TIMER,
    CA_CWR,
    CA_OPEN,
    CA_RECOVERY,
    EVER_RETRANS,
    GSO_MAX_SIZE,
    MAX_TCP_HEADER,
    NAGLE_CORK,
    NAGLE_OFF,
    NAGLE_PUSH,
    SACKED_ACKED,
    SACKED_RETRANS,
    SKB_TRUESIZE,
    TAG_LOST,
    TCP_ATO_MIN,
    TCP_DELACK_MAX,
    TCP_DELACK_MIN,
    TCP_RTO_MIN,
    TIME_LOSS_PROBE,
    TIME_NONE,
    TIME_PROBE0,
    TcpSock,
    TxSeg,
    tcp_packets_in_flight,
)
from kubenet.kernel.tcp.states import STATE_NAMES
from kubenet.kernel.tcp.window import tcp_select_window
from kubenet.kernel.tcp.xmit_timer import tcp_rearm_rto, tcp_reset_xmit_timer, tcp_schedule_loss_probe
from kubenet.units import MSEC
from kubenet.wire.tcp import ACK, FIN, NO_OPTIONS, PSH, RST, SYN, TcpHdr, TcpOptions, tcp_options_len

NETIF_F_TSO = 1  # the bit in dev.features; dev/device.py has the same


# ---- one segment

def tcp_established_options(tp: TcpSock) -> TcpOptions:
    """Timestamps, and SACK blocks while data waits beyond a hole. RFC 7323 3, RFC 2018 3. Linux: the same."""
    if tp.ofo_queue or tp.dsack is not None:
        return _options_with_sacks(tp)
    if not tp.tstamp_ok:
        return NO_OPTIONS
    opt = tp.opt
    tsval = (tp.net.loop.now // 1_000_000 + tp.tsoffset) & M32
    if opt.tsval != tsval or opt.tsecr != tp.ts_recent or not opt.ts:
        opt = tp.opt = TcpOptions(0, -1, False, True, tsval, tp.ts_recent)
    return opt


def _options_with_sacks(tp: TcpSock) -> TcpOptions:
    """A D-SACK first, then the newest ranges: four blocks, three beside timestamps. RFC 2883 4. Linux: tcp_sacks."""
    tsval = (tp.net.loop.now // 1_000_000 + tp.tsoffset) & M32 if tp.tstamp_ok else 0
    opt = TcpOptions(0, -1, False, tp.tstamp_ok, tsval, tp.ts_recent if tp.tstamp_ok else 0)
    if tp.sack_ok:
        blocks = [tp.dsack] if tp.dsack is not None else []
        blocks += tcp_sack_ranges(tp)
        room = 3 if tp.tstamp_ok else 4
        opt.sacks = tuple((left & M32, right & M32) for left, right in blocks[:room])
    tp.dsack = None
    if not opt.sacks and not opt.ts:
        return NO_OPTIONS
    return opt


def tcp_sack_ranges(tp: TcpSock) -> list[tuple[int, int]]:
    """The contiguous ranges of the out-of-order queue, the one that grew last first. RFC 2018 4."""
    ranges: list[tuple[int, int]] = []
    for seg in tp.ofo_queue:
        if ranges and ranges[-1][1] == seg.seq:
            ranges[-1] = (ranges[-1][0], seg.end_seq)
        else:
            ranges.append((seg.seq, seg.end_seq))
    order: list[tuple[int, int]] = []
    for recent in tp.sack_recent:
        for block in ranges:
            if block[0] <= recent < block[1] and block not in order:
                order.append(block)
    order += [block for block in ranges if block not in order]
    tp.sack_recent = [block[0] for block in order]
    return order


def tcp_transmit_skb(tp: TcpSock, seq: int, flags: int, data: Any, plen: int, segs: int) -> int:
    """One (super-)segment is on its way to IP; 0, or -errno when it was refused locally. Linux: __tcp_transmit_skb()."""
    net = tp.net
    if flags & SYN:
        options = tp.syn_options
        doff = 20 + tcp_options_len(options)
        window = tp.rcv_wnd if tp.rcv_wnd < 65535 else 65535
    else:
        options = tcp_established_options(tp)
        doff = 32 if options.ts else 20
        if options.sacks:
            doff += 4 + 8 * len(options.sacks)
        window = tcp_select_window(tp)
    ack = 0
    if flags & ACK:
        ack = tp.rcv_nxt & M32
    th = TcpHdr(tp.sport, tp.dport, seq & M32, ack, flags, window, options, 0, doff)
    skb = SkBuff(net, ETH_P_IP, None, th, data, plen, 20 + doff + plen)
    snmp = net.snmp
    if plen:
        if segs > 1:
            skb.gso_size = tp.mss_cache
            skb.gso_segs = segs
        tp.data_segs_out += segs
        tp.bytes_sent += plen
        tcp_event_data_sent(tp)
    if flags & ACK:
        if tp.quick:  # tcp_event_ack_sent(), tcp_dec_quickack_mode()
            if tp.ack_pending & ACK_SCHED:
                tp.quick -= 1
                if tp.quick == 0:
                    tp.ato = TCP_ATO_MIN
        tp.ack_pending = 0
        tp.delack_timer.expires = 0
        tp.compressed_ack = 0
    tp.segs_out += segs
    if seq + plen + (flags & SYN > 0) + (flags & FIN > 0) > tp.snd_nxt or not (plen or flags & (SYN | FIN)):
        snmp["TcpOutSegs"] += segs  # what is sent again is counted apart (RFC 4022, tcpOutSegs and tcpRetransSegs)
    skb.sk = tp
    tr = net.loop.tracer
    if flags & SYN or tr.left > 0 or tr.arm_all or tr.want or net.loop.now >= tr.window_end:
        skb.ip = tp.af_ops.header_cls(tp.saddr, tp.daddr, tp.protocol)  # for the trace; IP makes its own
        arm(skb, flags & SYN != 0)
    if skb.tr is not None:
        station(skb, "tcp_transmit_skb", "sent by the socket").data = {"state": STATE_NAMES[tp.state]}
    error: int = tp.af_ops.queue_xmit(tp, skb)
    return error


def tcp_event_data_sent(tp: TcpSock) -> None:
    """Data leaves: idle windows restart, and a quick answer marks the connection interactive. Linux: the same."""
    now = tp.net.loop.now
    if tp.packets_out == 0 and tp.ca is not None:
        tcp_slow_start_after_idle_check(tp)
        tp.ca.cwnd_event(tp, CA_EVENT_TX_START)
    tp.lsndtime = now
    if now - tp.lrcvtime < tp.ato and tp.pingpong < 255:
        tp.pingpong += 1


def tcp_in_pingpong_mode(tp: TcpSock) -> bool:
    """An interactive connection: acknowledgments ride on answers. Linux: inet_csk_in_pingpong_mode()."""
    return tp.pingpong >= tp.net.sysctl.ipv4.tcp_pingpong_thresh


def tcp_enter_pingpong_mode(tp: TcpSock) -> None:
    """Linux: inet_csk_enter_pingpong_mode()."""
    tp.pingpong = tp.net.sysctl.ipv4.tcp_pingpong_thresh


def tcp_acceptable_seq(tp: TcpSock) -> int:
    """The sequence number for a segment without data: snd_nxt, but inside the peer's window. Linux: the same."""
    wnd_end = tp.snd_una + tp.snd_wnd
    if wnd_end >= tp.snd_nxt or (tp.wscale_ok and tp.snd_nxt - wnd_end < 1 << tp.rcv_wscale):
        return tp.snd_nxt
    return wnd_end


def tcp_send_ack(tp: TcpSock) -> None:
    """A segment without data acknowledges everything received. Linux: the same."""
    if tp.state == TCP_CLOSE:
        return
    tcp_transmit_skb(tp, tcp_acceptable_seq(tp), ACK, b"", 0, 1)


def tcp_send_active_reset(tp: TcpSock) -> None:
    """The peer is told that the connection is gone: RST|ACK. RFC 9293 3.10.4, 3.10.5. Linux: the same."""
    tp.net.snmp["TcpOutRsts"] += 1
    tcp_transmit_skb(tp, tcp_acceptable_seq(tp), ACK | RST, b"", 0, 1)


def tcp_send_delayed_ack(tp: TcpSock) -> None:
    """An acknowledgment will leave within `ato` (40 to 200 ms), unless something else carries it. Linux: the same."""
    ato = tp.ato
    now = tp.net.loop.now
    if ato > TCP_DELACK_MIN:
        limit = 500 * MSEC
        if tp.pingpong >= tp.net.sysctl.ipv4.tcp_pingpong_thresh or tp.ack_pending & ACK_PUSHED:
            limit = TCP_DELACK_MAX
        if tp.srtt_us:
            rtt = max(-(-(tp.srtt_us >> 3) // 1000) * MSEC, TCP_DELACK_MIN)
            limit = min(limit, rtt)
        ato = min(ato, limit)
    ato = min(ato, TCP_DELACK_MAX, tp.net.sysctl.ipv4.tcp_rto_min_us * 1000 - MSEC)
    timeout = now + ato
    if tp.ack_pending & ACK_TIMER:
        if tp.ack_timeout <= now + (ato >> 2):  # about to expire: now
            tcp_send_ack(tp)
            return
        timeout = min(timeout, tp.ack_timeout)
    tp.ack_pending |= ACK_SCHED | ACK_TIMER
    tp.ack_timeout = timeout
    tp.delack_timer.mod(timeout)


# ---- how large

def tcp_mtu_to_mss(tp: TcpSock, pmtu: int) -> int:
    """The data that fits beside the headers of a segment in `pmtu` bytes. RFC 6691. Linux: the same."""
    mss: int = pmtu - tp.af_ops.net_header_len - 20
    mss = max(min(mss, tp.mss_clamp), tp.net.sysctl.ipv4.tcp_min_snd_mss)
    return mss - 12 if tp.tstamp_ok else mss


def tcp_sync_mss(tp: TcpSock, pmtu: int) -> int:
    """mss_cache follows the path MTU, the peer's MSS and half its largest window. Linux: the same."""
    mss = tcp_mtu_to_mss(tp, pmtu)
    cutoff = tp.max_window >> 1 if tp.max_window > 536 else tp.max_window
    if cutoff and mss > cutoff:
        mss = max(cutoff, 68 - tp.doff)
    tp.pmtu_cookie = pmtu
    tp.mss_cache = mss
    return mss


def tcp_current_mss(tp: TcpSock) -> int:
    """The data of the next segment: the path may have changed, and SACK blocks need room. Linux: the same."""
    mss = tp.mss_cache
    if tp.dst is not None:
        mtu = tp.af_ops.mtu(tp.dst)
        if mtu != tp.pmtu_cookie:
            mss = tcp_sync_mss(tp, mtu)
    if tp.ofo_queue and tp.sack_ok:
        mss -= 4 + 8 * min(len(tcp_sack_ranges(tp)), 3 if tp.tstamp_ok else 4)
    return mss


def tcp_xmit_size_goal(tp: TcpSock, mss: int) -> int:
    """How large a TxSeg may grow: whole segments, up to 64 KiB where the device cuts them. Linux: the same."""
    if tp.gso_max_segs <= 1:
        return mss
    goal = GSO_MAX_SIZE - 1 - MAX_TCP_HEADER
    cutoff = tp.max_window >> 1 if tp.max_window > 536 else tp.max_window
    if cutoff and goal > cutoff:
        goal = max(cutoff, 68 - tp.doff)
    return max(goal // mss, 1) * mss


def tcp_setup_caps(tp: TcpSock) -> None:
    """Super-segments or not: as the route's device can. Linux: sk_setup_caps()."""
    dev = getattr(tp.dst, "dev", None)
    can = dev is not None and getattr(dev, "features", 0) & NETIF_F_TSO
    tp.gso_max_segs = 65535 if can else 1


def tcp_tso_segs(tp: TcpSock, mss: int) -> int:
    """How many segments one transmission takes: about 1 ms of the estimated rate. Linux: tcp_tso_autosize()."""
    if tp.gso_max_segs <= 1:
        return 1
    size = tp.pacing_rate >> 10
    shift = tp.min_rtt_us >> tp.net.sysctl.ipv4.tcp_tso_rtt_log
    if shift < 32:
        size += (GSO_MAX_SIZE - 1 - MAX_TCP_HEADER) >> shift
    size = min(size, GSO_MAX_SIZE - 1 - MAX_TCP_HEADER)
    return max(size // mss, tp.net.sysctl.ipv4.tcp_min_tso_segs)


def tcp_update_pacing_rate(tp: TcpSock) -> None:
    """Bytes per second: twice (slow start) or 1.2 times cwnd per RTT. Nothing here paces by it; TSO sizes do. Linux: same."""
    sysctl = tp.net.sysctl.ipv4
    rate = tp.mss_cache * 8_000_000
    rate *= sysctl.tcp_pacing_ss_ratio if tp.snd_cwnd < tp.snd_ssthresh >> 1 else sysctl.tcp_pacing_ca_ratio
    rate = rate // 100 * max(tp.snd_cwnd, tp.packets_out)
    if tp.srtt_us:
        rate //= tp.srtt_us
    tp.pacing_rate = rate


# ---- the write queue

def tcp_queue_skb(tp: TcpSock, seg: TxSeg) -> None:
    """`seg` is the last thing to send. Linux: tcp_queue_skb(), tcp_skb_entail()."""
    tp.write_queue.append(seg)
    tp.write_seq = seg.end_seq
    tp.wmem_queued += seg.truesize
    if tp.nonagle & NAGLE_PUSH:
        tp.nonagle &= ~NAGLE_PUSH


def tcp_nagle_check(tp: TcpSock, partial: bool, nonagle: int) -> bool:
    """Must a small segment wait? Minshall's form of RFC 896: only if a small one is in flight. Linux: the same."""
    if not partial:
        return False
    if nonagle & NAGLE_CORK:
        return True
    return not nonagle and tp.packets_out != 0 and tp.snd_una < tp.snd_sml <= tp.snd_nxt


def tcp_cwnd_test(tp: TcpSock) -> int:
    """How many segments cwnd allows now, at most half of it at a time. RFC 5681 3.1. Linux: the same."""
    in_flight = tp.packets_out - tp.sacked_out - tp.lost_out + tp.retrans_out
    cwnd = tp.snd_cwnd
    if in_flight >= cwnd:
        return 0
    half = cwnd >> 1 or 1
    return half if half < cwnd - in_flight else cwnd - in_flight


def tcp_push(tp: TcpSock, more: bool, mss: int, nonagle: int) -> None:
    """A write is complete: its last segment carries PSH, and what may leave leaves. RFC 9293 3.9.1.2. Linux: the same."""
    if not tp.write_queue:
        return
    if not more or forced_push(tp):
        tcp_mark_push(tp, tp.write_queue[-1])
    tcp_push_pending_frames(tp, mss, NAGLE_CORK if more else nonagle)


def forced_push(tp: TcpSock) -> bool:
    """More than half of the peer's largest window was written since the last PSH. Linux: the same."""
    return tp.write_seq > tp.pushed_seq + (tp.max_window >> 1)


def tcp_mark_push(tp: TcpSock, seg: TxSeg) -> None:
    """Linux: the same."""
    seg.flags |= PSH
    tp.pushed_seq = tp.write_seq


def tcp_push_pending_frames(tp: TcpSock, mss: int, nonagle: int) -> None:
    """What window and Nagle allow is sent; if nothing can be and nothing is in flight, the window will be probed.

    Linux: __tcp_push_pending_frames().
    """
    if tp.state == TCP_CLOSE:
        return
    if tcp_write_xmit(tp, mss, nonagle, 0):
        tcp_check_probe_timer(tp)


def tcp_check_probe_timer(tp: TcpSock) -> None:
    """The zero window timer runs if it must. RFC 9293 3.8.6.1. Linux: the same."""
    if tp.packets_out == 0 and tp.pending == TIME_NONE:
        tcp_reset_xmit_timer(tp, TIME_PROBE0, max(tp.rto, TCP_RTO_MIN))


def tcp_write_xmit(tp: TcpSock, mss: int, nonagle: int, push_one: int) -> bool:
    """Segments leave while cwnd, the peer's window and Nagle agree. True: nothing is in flight, and something waits.

    push_one: 1 sends one TxSeg, 2 sends one in spite of cwnd. Linux: the same.
    """
    queue = tp.write_queue
    if not queue:
        return False
    max_segs = tcp_tso_segs(tp, mss)
    sent = 0
    cwnd_limited = False
    while queue:
        seg = queue[0]
        size = len(seg.data)
        quota = tcp_cwnd_test(tp)
        if quota == 0:
            if push_one != 2:
                cwnd_limited = True
                break
            quota = 1
        if quota > max_segs:
            quota = max_segs
        window = tp.snd_una + tp.snd_wnd - seg.seq
        if (mss if size > mss else seg.end_seq - seg.seq) > window:
            break
        last = len(queue) == 1
        limit = size
        if size <= mss:
            if size < mss and last and not nonagle & NAGLE_PUSH and not seg.flags & FIN:
                if tcp_nagle_check(tp, True, nonagle):
                    break
        else:
            if not push_one and tcp_tso_should_defer(tp, mss, quota, max_segs, size, window):
                cwnd_limited = cwnd_limited or tcp_packets_in_flight(tp) > 0
                break
            limit = tcp_mss_split_point(tp, size, mss, quota, window, nonagle if last else NAGLE_PUSH)
        if size > limit:
            tcp_fragment(tp, queue, 0, limit)
            size = limit
        segs = 1 if size <= mss else -(-size // mss)
        if type(seg.data) is bytearray:
            seg.data = bytes(seg.data)
        seg.pcount = segs
        if segs > 1:
            seg.flags |= PSH  # so that the receiver's GRO does not wait for more
        seg.tstamp = tp.net.loop.now
        seg.tx_delivered = tp.delivered
        if tcp_transmit_skb(tp, seg.seq, seg.flags, seg.data, size, segs):
            break
        tcp_event_new_data_sent(tp, seg, segs)
        if size < segs * mss:
            tp.snd_sml = seg.end_seq
        sent += segs
        if push_one:
            break
    if not cwnd_limited:
        cwnd_limited = tp.packets_out - tp.sacked_out - tp.lost_out + tp.retrans_out >= tp.snd_cwnd
    if sent or cwnd_limited:
        tcp_cwnd_validate(tp, cwnd_limited)
    if sent:
        if tp.ca_state == CA_CWR or tp.ca_state == CA_RECOVERY:
            tp.prr_out += sent
        if push_one != 2:  # one probe per episode
            tcp_schedule_loss_probe(tp, False)
        return False
    return tp.packets_out == 0 and len(queue) > 0


def tcp_mss_split_point(tp: TcpSock, size: int, mss: int, quota: int, window: int, nonagle: int) -> int:
    """Where to cut a large TxSeg: quota, window, and no small tail that Nagle would hold. Linux: the same."""
    max_len = mss * quota
    needed = size if size < window else window
    if max_len <= needed:
        return max_len
    partial = needed % mss
    if partial and tcp_nagle_check(tp, True, nonagle):
        return needed - partial
    return needed


def tcp_tso_should_defer(tp: TcpSock, mss: int, quota: int, max_segs: int, size: int, window: int) -> bool:
    """Wait for a larger super-segment? Only if an ACK that allows it is near. Linux: the same.

    simplified: "near" is judged by the oldest segment's age against half the RTT, as in Linux, without its clock cache.
    """
    if tp.ca_state >= CA_RECOVERY or tp.packets_out == 0 or not tp.rtx_queue:
        return False
    now = tp.net.loop.now
    if now - tp.lsndtime > MSEC:
        return False
    room = (tp.snd_cwnd - tcp_packets_in_flight(tp)) * mss
    limit = min(window, room)
    if limit >= max_segs * mss or (size != tp.write_seq - tp.snd_nxt and limit >= size):
        return False
    divisor = tp.net.sysctl.ipv4.tcp_tso_win_divisor
    if divisor:
        chunk = min(tp.snd_wnd, tp.snd_cwnd * mss) // divisor
        if limit >= chunk:
            return False
    age_us = (now - tp.rtx_queue[0].tstamp) // 1000
    srtt = tp.srtt_us >> 3
    return srtt - age_us <= min(srtt >> 1, 1000) and size > 0 and srtt > age_us


def tcp_event_new_data_sent(tp: TcpSock, seg: TxSeg, segs: int) -> None:
    """The head of the write queue is in flight; its timer runs. Linux: the same."""
    tp.snd_nxt = seg.end_seq
    tp.rtx_queue.append(tp.write_queue.popleft())
    prior = tp.packets_out
    tp.packets_out = prior + segs
    if prior == 0 or tp.pending == TIME_LOSS_PROBE:
        tcp_rearm_rto(tp)
    tp.net.snmp["TcpExtTCPOrigDataSent"] += segs


def tcp_cwnd_validate(tp: TcpSock, cwnd_limited: bool) -> None:
    """Remembers whether cwnd was used: an idle window neither grows nor stays. RFC 7661. Linux: the same."""
    now = tp.net.loop.now
    if tp.snd_una >= tp.cwnd_usage_seq or cwnd_limited or (
        not tp.is_cwnd_limited and tp.packets_out > tp.max_packets_out
    ):
        tp.is_cwnd_limited = cwnd_limited
        tp.max_packets_out = tp.packets_out
        tp.cwnd_usage_seq = tp.snd_nxt
    if tp.is_cwnd_limited or (tp.snd_cwnd < tp.snd_ssthresh and tp.snd_cwnd < 2 * tp.max_packets_out):
        tp.snd_cwnd_used = 0
        tp.snd_cwnd_stamp = now
    else:
        tp.snd_cwnd_used = max(tp.snd_cwnd_used, tp.packets_out)
        if tp.net.sysctl.ipv4.tcp_slow_start_after_idle and now - tp.snd_cwnd_stamp >= tp.rto:
            tcp_cwnd_application_limited(tp)


def tcp_cwnd_application_limited(tp: TcpSock) -> None:
    """cwnd moves halfway to what was used. RFC 2861. Linux: the same."""
    if tp.ca_state == CA_OPEN:
        used = max(tp.snd_cwnd_used, 10)
        if used < tp.snd_cwnd:
            tp.snd_ssthresh = tcp_current_ssthresh(tp)
            tp.snd_cwnd = (tp.snd_cwnd + used) >> 1
        tp.snd_cwnd_used = 0
    tp.snd_cwnd_stamp = tp.net.loop.now


def tcp_current_ssthresh(tp: TcpSock) -> int:
    """At least three quarters of cwnd outside of a reduction. Linux: the same."""
    if tp.ca_state in (CA_CWR, CA_RECOVERY):
        return tp.snd_ssthresh
    return max(tp.snd_ssthresh, (tp.snd_cwnd >> 1) + (tp.snd_cwnd >> 2))


def tcp_slow_start_after_idle_check(tp: TcpSock) -> None:
    """After an RTO of silence cwnd halves per RTO, down to the initial window. RFC 2861. Linux: the same."""
    if not tp.net.sysctl.ipv4.tcp_slow_start_after_idle or tp.snd_cwnd <= 10:
        return
    delta = tp.net.loop.now - tp.lsndtime
    if delta <= tp.rto or tp.ca is None:
        return
    restart = 10
    cwnd = tp.snd_cwnd
    tp.ca.cwnd_event(tp, CA_EVENT_CWND_RESTART)
    tp.snd_ssthresh = tcp_current_ssthresh(tp)
    restart = min(restart, cwnd)
    delta -= tp.rto
    while delta > 0 and cwnd > restart:
        cwnd >>= 1
        delta -= tp.rto
    tp.snd_cwnd = max(cwnd, restart)
    tp.snd_cwnd_stamp = tp.net.loop.now
    tp.snd_cwnd_used = 0


def tcp_fragment(tp: TcpSock, queue: Any, at: int, size: int) -> None:
    """The TxSeg queue[at] ends after `size` bytes; the rest follows it as its own. Linux: tcp_fragment(), tso_fragment()."""
    seg: TxSeg = queue[at]
    data = seg.data
    if type(data) is bytearray:
        data = bytes(data)
    view = memoryview(data)
    rest = TxSeg(seg.seq + size, view[size:], seg.flags)
    rest.end_seq = seg.end_seq
    rest.eor = seg.eor
    rest.sacked = seg.sacked
    rest.tstamp = seg.tstamp
    rest.tx_delivered = seg.tx_delivered
    seg.data = view[:size]
    seg.end_seq = seg.seq + size
    seg.flags &= ~(FIN | PSH)
    seg.eor = False
    seg.truesize = SKB_TRUESIZE + size
    tp.wmem_queued += SKB_TRUESIZE
    if seg.pcount:
        _split_pcount(tp, seg, rest)
    queue.insert(at + 1, rest)


def _split_pcount(tp: TcpSock, seg: TxSeg, rest: TxSeg) -> None:
    """The counts of a sent TxSeg, recomputed for its two halves. Linux: tcp_adjust_pcount()."""
    old = seg.pcount
    mss = tp.mss_cache
    seg.pcount = max(-(-len(seg.data) // mss), 1)
    rest.pcount = max(-(-len(rest.data) // mss), 1)
    diff = seg.pcount + rest.pcount - old
    tp.packets_out += diff
    if seg.sacked & SACKED_ACKED:
        tp.sacked_out += diff
    if seg.sacked & TAG_LOST:
        tp.lost_out += diff
    if seg.sacked & SACKED_RETRANS:
        tp.retrans_out += diff


# ---- again

def tcp_retransmit_skb(tp: TcpSock, seg: TxSeg, segs: int) -> int:
    """Up to `segs` segments of `seg`, which is in flight, were sent again; 0 or -errno. Linux: the same."""
    error = __tcp_retransmit_skb(tp, seg, segs)
    if error == 0:
        seg.sacked |= SACKED_RETRANS
        tp.retrans_out += seg.pcount
    if not tp.retrans_stamp:
        tp.retrans_stamp = (tp.net.loop.now // 1_000_000 + tp.tsoffset) & M32 or 1
    if tp.undo_retrans < 0:
        tp.undo_retrans = 0
    tp.undo_retrans += seg.pcount
    return error


def __tcp_retransmit_skb(tp: TcpSock, seg: TxSeg, segs: int) -> int:
    """Cut to what the window and the MSS of today allow, and sent. Linux: the same."""
    if seg.seq < tp.snd_una:
        tcp_trim_head(tp, seg)
    mss = tcp_current_mss(tp)
    window = tp.snd_una + tp.snd_wnd - seg.seq
    if window <= 0:
        if seg.seq != tp.snd_una:
            return -11
        window = mss  # a closed window: this is the probe
    size = len(seg.data)
    limit = mss * segs
    if limit > window:
        limit = window - window % mss or window
    if size > limit:
        tcp_fragment(tp, tp.rtx_queue, tp.rtx_queue.index(seg), limit)
        size = limit
    elif size < mss and not seg.flags & SYN:
        size = tcp_retrans_try_collapse(tp, seg, min(window, mss))
    count = seg.pcount
    snmp = tp.net.snmp
    snmp["TcpRetransSegs"] += count
    if seg.flags & SYN:
        snmp["TcpExtTCPSynRetrans"] += 1
    tp.total_retrans += count
    tp.bytes_retrans += size
    if count > 1:
        seg.flags |= PSH
    seg.tstamp = tp.net.loop.now
    seg.tx_delivered = tp.delivered
    error = tcp_transmit_skb(tp, seg.seq, seg.flags, seg.data, size, count)
    seg.sacked |= EVER_RETRANS
    if error:
        snmp["TcpExtTCPRetransFail"] += count
    return error


def tcp_trim_head(tp: TcpSock, seg: TxSeg) -> None:
    """The acknowledged front of `seg` is gone. Linux: the same."""
    skip = tp.snd_una - seg.seq
    if seg.flags & SYN:
        seg.flags &= ~SYN
        seg.seq += 1
        skip -= 1
    if skip > 0:
        seg.data = memoryview(seg.data)[skip:]
        seg.seq += skip
        seg.truesize -= skip
        tp.wmem_queued -= skip


def tcp_retrans_try_collapse(tp: TcpSock, seg: TxSeg, space: int) -> int:
    """Small neighbours joined to `seg` while they fit; its new size. RFC 1122 4.2.3.2. Linux: the same."""
    size = len(seg.data)
    queue = tp.rtx_queue
    if not tp.net.sysctl.ipv4.tcp_retrans_collapse or seg.pcount > 1:
        return size
    at = queue.index(seg)
    while at + 1 < len(queue):
        nxt = queue[at + 1]
        if seg.eor or seg.flags & (SYN | FIN) or nxt.pcount > 1 or nxt.sacked & 1 or size + len(nxt.data) > space:
            break
        if nxt.end_seq > tp.snd_una + tp.snd_wnd:
            break
        seg.data = bytes(seg.data) + bytes(nxt.data)
        size = len(seg.data)
        seg.end_seq = nxt.end_seq
        seg.flags |= nxt.flags
        seg.eor = nxt.eor
        seg.truesize += len(nxt.data)
        seg.sacked |= nxt.sacked & EVER_RETRANS
        tp.wmem_queued -= SKB_TRUESIZE
        _forget_segment(tp, nxt)
        del queue[at + 1]
    return size


def _forget_segment(tp: TcpSock, seg: TxSeg) -> None:
    """The counts no longer know `seg`, which became part of another."""
    tp.packets_out -= seg.pcount
    if seg.sacked & TAG_LOST:
        tp.lost_out -= seg.pcount
    if seg.sacked & SACKED_RETRANS:
        tp.retrans_out -= seg.pcount


def tcp_send_fin(tp: TcpSock) -> None:
    """The end of the stream is queued and pushed: on the last unsent segment, or alone. Linux: the same."""
    if tp.write_queue:
        tail = tp.write_queue[-1]
        tail.flags |= FIN
        tail.end_seq += 1
        tp.write_seq += 1
    else:
        seg = TxSeg(tp.write_seq, b"", ACK | FIN)
        seg.end_seq += 1
        tcp_queue_skb(tp, seg)
    tcp_push_pending_frames(tp, tcp_current_mss(tp), NAGLE_OFF)


# ---- probes

def tcp_xmit_probe_skb(tp: TcpSock, mib: str) -> int:
    """An ACK with an old sequence number, which the peer must answer. RFC 9293 3.8.4, 3.8.6.1. Linux: the same."""
    tp.net.snmp[mib] += 1
    return tcp_transmit_skb(tp, tp.snd_una - 1, ACK, b"", 0, 1)


def tcp_write_wakeup(tp: TcpSock, mib: str) -> int:
    """The peer's window is asked for: with data if it has room, else with an old ACK. Linux: the same."""
    if tp.state == TCP_CLOSE:
        return -1
    queue = tp.write_queue
    window = tp.snd_una + tp.snd_wnd
    if queue and queue[0].seq < window:
        seg = queue[0]
        mss = tcp_current_mss(tp)
        room = window - seg.seq
        tp.pushed_seq = max(tp.pushed_seq, seg.end_seq)
        if room < seg.end_seq - seg.seq or len(seg.data) > mss:
            tcp_fragment(tp, queue, 0, min(room, mss))
        elif type(seg.data) is bytearray:
            seg.data = bytes(seg.data)
        seg.flags |= PSH
        seg.pcount = 1
        seg.tstamp = tp.net.loop.now
        error = tcp_transmit_skb(tp, seg.seq, seg.flags, seg.data, len(seg.data), 1)
        if not error:
            tcp_event_new_data_sent(tp, seg, 1)
        return error
    return tcp_xmit_probe_skb(tp, mib)


# ---- without a socket

def tcp_reply(skb: SkBuff, seq: int, ack: int, flags: int, window: int, options: TcpOptions = NO_OPTIONS, sk: Any = None,
              tos: int = 0) -> None:
    """A segment goes back to the sender of `skb`, from no full socket. Linux: ip_send_unicast_reply()."""
    net, th, ip = skb.net, skb.l4, skb.ip
    reply = TcpHdr(th.dport, th.sport, seq & M32, ack & M32, flags, window, options)
    out = SkBuff(net, ETH_P_IP, None, reply, b"", 0, 20 + reply.doff)
    out.mark = skb.mark if net.sysctl.ipv4.fwmark_reflect else getattr(sk, "mark", 0)
    out.ip = net.socks.af_ops[2].header_cls(ip.daddr, ip.saddr, 6)
    arm(out, False)
    net.snmp["TcpOutSegs"] += 1
    if out.tr is not None:
        station(out, "tcp_v4_send_reset" if flags & RST else "tcp_v4_send_ack", "answered without a socket")
    ops = net.socks.af_ops[2]
    try:
        dst = ops.route(net, None, ip.saddr, ip.daddr, getattr(sk, "bound_dev", 0))
    except OSError:
        return
    ops.build_and_send(net, None, out, ip.daddr, ip.saddr, dst)


def tcp_v4_send_reset(skb: SkBuff) -> None:
    """The sender of `skb` learns that there is no such connection. RFC 9293 3.5.2, group 1. Linux: the same."""
    th = skb.l4
    if th.flags & RST:
        return
    if skb.net.socks.af_ops[2].inet_addr_type(skb.net, skb.ip.daddr) != 2:  # RTN_LOCAL
        return
    skb.net.snmp["TcpOutRsts"] += 1
    if th.flags & ACK:
        tcp_reply(skb, th.ack_seq, 0, RST, 0)
    else:
        size = skb.plen + (th.flags & FIN != 0) + (th.flags & SYN != 0)
        tcp_reply(skb, 0, th.seq + size, RST | ACK, 0)


def tcp_send_challenge_ack(tp: TcpSock) -> None:
    """A blind attacker learns nothing, a peer that lost its mind answers with an exact RST. RFC 5961 3.2, 7. Linux: same."""
    if tcp_oow_rate_limited(tp, "TcpExtTCPACKSkippedChallenge"):
        return
    tp.net.snmp["TcpExtTCPChallengeACK"] += 1
    tcp_send_ack(tp)


def tcp_oow_rate_limited(tp: Any, mib: str) -> bool:
    """True if this kind of answer was given less than tcp_invalid_ratelimit ago. Linux: __tcp_oow_rate_limited()."""
    now = tp.net.loop.now
    if tp.last_oow_ack_time:
        if 0 <= now - tp.last_oow_ack_time < tp.net.sysctl.ipv4.tcp_invalid_ratelimit * MSEC:
            tp.net.snmp[mib] += 1
            return True
    tp.last_oow_ack_time = now or 1
    return False


