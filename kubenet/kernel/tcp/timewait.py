"""TIME-WAIT, and FIN-WAIT-2 without an owner: what is left of a connection that this side closed first.

    tcp_time_wait(tp, substate, timeo)          the full socket ends, a TimewaitSock stands in its place in the table
    tcp_timewait_state_process(tw, skb) -> TW_* what a segment for it asks for; tcp_v4_rcv() does it

TIME-WAIT lasts 60 s after the last segment that had to be answered (Linux does not use 2 * MSL of four minutes), so that old
segments cannot enter a new connection between the same ports. A SYN that is provably newer, by its sequence number or
timestamp, reopens the connection at once, with an initial sequence number beyond anything the old one used. An orphaned
FIN-WAIT-2 waits tcp_fin_timeout for the peer's FIN; data that arrives there is answered with a reset.

TcpExtTW counts the entries when they begin. Sources: RFC 9293 3.6.1, 3.10.7.4, RFC 1337, RFC 6191; Linux
net/ipv4/tcp_minisocks.c, inet_timewait_sock.c.
"""

from __future__ import annotations

from kubenet.kernel.skbuff import DropReason, SkBuff, drop, station
from kubenet.kernel.socket.sock import TCP_FIN_WAIT2, TCP_TIME_WAIT
from kubenet.kernel.tcp.output import tcp_oow_rate_limited, tcp_reply
from kubenet.kernel.tcp.seq import HALF, M32, extend
from kubenet.kernel.tcp.sock import (
    TCP_PAWS_24DAYS,
    TCP_TIMEWAIT_LEN,
    TcpSock,
    TimewaitSock,
    tcp_receive_window,
    tcp_time_stamp,
)
from kubenet.kernel.tcp.states import tcp_done
from kubenet.sim.timer import Timer
from kubenet.units import SEC
from kubenet.wire.tcp import ACK, FIN, NO_OPTIONS, RST, SYN, TcpOptions

TW_SUCCESS, TW_RST, TW_ACK, TW_SYN = 0, 1, 2, 3
TCP_PAWS_MSL = 60 * SEC
KILL_AT_ONCE = 4 * SEC  # entries this short are counted as killed, not as waiting


def tcp_in_window(seq: int, end_seq: int, left: int, right: int) -> bool:
    """Some part of the segment lies between left and right. RFC 9293 3.4. Linux: the same."""
    if seq == left or (end_seq > left and seq < right):
        return True
    return seq == right == end_seq


def tcp_paws_reject(now: int, ts_recent: int, stamp: int, tsval: int, rst: bool) -> bool:
    """The timestamp is older than the last one; after 24 days of silence, and for an RST after one MSL, that says nothing.

    RFC 7323 5.2. Linux: tcp_paws_reject() with tcp_paws_check().
    """
    if (ts_recent - tsval) & M32 >= HALF or ts_recent == tsval:
        return False
    if now - stamp >= TCP_PAWS_24DAYS or not ts_recent:
        return False
    return not (rst and now - stamp >= TCP_PAWS_MSL)


def tcp_fin_time(tp: TcpSock) -> int:
    """How long an orphan waits for the peer's FIN (ns): tcp_fin_timeout or TCP_LINGER2, at least 3.5 RTO. Linux: the same."""
    timeout = tp.linger2 or tp.net.sysctl.ipv4.tcp_fin_timeout * SEC
    return max(timeout, (tp.rto << 2) - (tp.rto >> 1))


def tcp_time_wait(tp: TcpSock, substate: int, timeo: int) -> None:
    """`tp` is done; a TimewaitSock in `substate` answers for it for `timeo` ns (TIME-WAIT: 60 s). Linux: the same."""
    net = tp.net
    if net.host.tcp_tw_count < net.sysctl.ipv4.tcp_max_tw_buckets:
        if substate == TCP_TIME_WAIT:
            timeo = TCP_TIMEWAIT_LEN
        else:
            timeo = max(timeo, (tp.rto << 2) - (tp.rto >> 1))
        _hashdance(tp, _alloc(tp, substate), timeo)
    else:
        net.snmp["TcpExtTCPTimeWaitOverflow"] += 1
    tcp_done(tp)


def _alloc(tp: TcpSock, substate: int) -> TimewaitSock:
    """The mini socket with what it must remember. Linux: inet_twsk_alloc()."""
    tw = TimewaitSock(tp.net)
    tw.af_ops, tw.family = tp.af_ops, tp.family
    tw.substate = substate
    tw.saddr, tw.sport, tw.daddr, tw.dport = tp.saddr, tp.sport, tp.daddr, tp.dport
    tw.rcv_nxt, tw.snd_nxt = tp.rcv_nxt, tp.snd_nxt
    tw.rcv_wnd = tcp_receive_window(tp)
    tw.rcv_wscale, tw.snd_wscale = tp.rcv_wscale, tp.snd_wscale
    tw.ts_recent, tw.ts_recent_stamp, tw.ts_off = tp.ts_recent, tp.ts_recent_stamp, tp.tsoffset
    tw.reuse, tw.reuseport, tw.bound_dev = tp.reuse, tp.reuseport, tp.bound_dev
    tw.uid, tw.mark, tw.tos = tp.uid, tp.mark, tp.tos
    tw.entry_stamp = tp.net.loop.now
    return tw


def _hashdance(tp: TcpSock, tw: TimewaitSock, timeo: int) -> None:
    """`tw` takes the place of `tp` in the table and on the port. Linux: inet_twsk_hashdance_schedule()."""
    net = tp.net
    net.socks.ehash[(tw.daddr, tw.dport, tw.saddr, tw.sport)] = tw
    if tp.bind_bucket is not None:
        tp.bind_bucket.owners.append(tw)
        tw.bind_bucket = tp.bind_bucket
        net.host.tcp_tw_count += 1
    tw.timer = Timer(net.loop, TimewaitSock.deschedule, tw)
    tw.timer.mod(net.loop.now + timeo)
    net.snmp["TcpExtTWKilled" if timeo <= KILL_AT_ONCE else "TcpExtTW"] += 1


def _reschedule(tw: TimewaitSock) -> None:
    """Sixty more seconds. Linux: inet_twsk_reschedule()."""
    assert tw.timer is not None
    tw.timer.mod(tw.net.loop.now + TCP_TIMEWAIT_LEN)


def tcp_timewait_state_process(tw: TimewaitSock, skb: SkBuff) -> int:
    """TW_SUCCESS: nothing more to do. TW_ACK, TW_RST: answer so. TW_SYN: a new connection; skb.cb is its initial sequence number.

    Linux: the same.
    """
    th = skb.l4
    opt, now = th.options, tw.net.loop.now
    seq = extend(th.seq, tw.rcv_nxt)
    end_seq = seq + skb.plen + (th.flags & FIN != 0) + (th.flags & SYN != 0)
    saw_ts = opt.ts and tw.ts_recent_stamp != 0
    paws = saw_ts and tcp_paws_reject(now, tw.ts_recent, tw.ts_recent_stamp, opt.tsval, th.flags & RST != 0)
    if skb.tr is not None:
        station(skb, "tcp_timewait_state_process", "for a connection that is closed here")
    if tw.substate == TCP_FIN_WAIT2:
        return _fin_wait2(tw, skb, seq, end_seq, paws, saw_ts)
    return _time_wait(tw, skb, seq, end_seq, paws, saw_ts)


def _fin_wait2(tw: TimewaitSock, skb: SkBuff, seq: int, end_seq: int, paws: bool, saw_ts: bool) -> int:
    """The checks of tcp_rcv_state_process(), for an orphan that waits for the peer's FIN."""
    flags, now = skb.l4.flags, tw.net.loop.now
    if paws or not tcp_in_window(seq, end_seq, tw.rcv_nxt, tw.rcv_nxt + tw.rcv_wnd):
        return _oow(tw, skb, seq, end_seq, "TcpExtTCPACKSkippedFinWait2")
    if flags & RST:
        tw.deschedule()
        return TW_SUCCESS
    if flags & SYN and seq >= tw.rcv_nxt:
        return TW_RST
    if not flags & ACK or end_seq <= tw.rcv_nxt or end_seq == seq:
        return TW_SUCCESS
    if not flags & FIN or end_seq != tw.rcv_nxt + 1:  # new data after a half-duplex close: nobody will read it
        return TW_RST
    tw.substate = TCP_TIME_WAIT
    tw.rcv_nxt = end_seq
    if saw_ts:
        tw.entry_stamp = now
        tw.ts_recent, tw.ts_recent_stamp = skb.l4.options.tsval, now or 1
    _reschedule(tw)
    return TW_ACK


def _time_wait(tw: TimewaitSock, skb: SkBuff, seq: int, end_seq: int, paws: bool, saw_ts: bool) -> int:
    """TIME-WAIT proper. RFC 9293 3.10.7.4, RFC 1122 4.2.2.13."""
    th = skb.l4
    flags, opt, now = th.flags, th.options, tw.net.loop.now
    if not paws and seq == tw.rcv_nxt and (seq == end_seq or flags & RST):
        if flags & RST and not tw.net.sysctl.ipv4.tcp_rfc1337:  # "TIME-WAIT assassination"
            tw.deschedule()
            return TW_SUCCESS
        if not flags & RST:
            _reschedule(tw)
        if saw_ts:
            tw.ts_recent, tw.ts_recent_stamp = opt.tsval, now or 1
        return TW_SUCCESS
    if flags & (SYN | RST | ACK) == SYN and not paws:
        newer = saw_ts and 0 < (opt.tsval - tw.ts_recent) & M32 < HALF
        if seq > tw.rcv_nxt or newer:
            skb.cb = (tw.snd_nxt + 65535 + 2) & M32 or 1
            return TW_SYN
    if paws:
        tw.net.snmp["TcpExtPAWSTimewait"] += 1
    if flags & RST:
        return TW_SUCCESS
    if paws or flags & ACK:
        _reschedule(tw)
    return _oow(tw, skb, seq, end_seq, "TcpExtTCPACKSkippedTimeWait")


def _oow(tw: TimewaitSock, skb: SkBuff, seq: int, end_seq: int, mib: str) -> int:
    """An ACK, at most one in half a second for segments without data. Linux: tcp_timewait_check_oow_rate_limit()."""
    if (seq == end_seq or skb.l4.flags & SYN) and tcp_oow_rate_limited(tw, mib):
        drop(skb, DropReason.TCP_INVALID_SEQUENCE)
        return TW_SUCCESS
    return TW_ACK


def tcp_v4_timewait_ack(tw: TimewaitSock, skb: SkBuff) -> None:
    """The peer is told where the closed connection stands. Linux: the same."""
    options = NO_OPTIONS
    if tw.ts_recent_stamp:
        options = TcpOptions(ts=True, tsval=tcp_time_stamp(tw.net, tw.ts_off), tsecr=tw.ts_recent)
    tcp_reply(skb, tw.snd_nxt, tw.rcv_nxt, ACK, min(tw.rcv_wnd >> tw.rcv_wscale, 65535), options, tw, tw.tos)
