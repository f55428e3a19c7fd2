"""Tracking TCP in the middle: from a segment to the entry's state and timeout.

The next state comes from a table (tcp_states.py); a segment must also fit the windows (tcp_window.py). One that does
not is INVALID: it keeps no connection, so NAT does not translate it and `--ctstate INVALID` matches it.

A connection met in mid-flow (nf_conntrack_tcp_loose=1) is picked up as ESTABLISHED from whatever comes, without window
checks, as the window scales are unknown. Segments that the table ignores are remembered, so that the answer to them
(SYN-ACK, challenge ACK, RST) tells who was right: that is what lets a port be used again over an old entry.

The packet functions return 1: tracked; -1: INVALID; -4: the entry was a closed connection and is gone, look up again;
0: drop.

Sources: Linux nf_conntrack_proto_tcp.c; RFC 5961 (challenge ACKs). simplified: no sequence adjustment, since no helper
here changes the length of data; no per-rule timeout policies.
"""

from __future__ import annotations

from kubenet.kernel.netfilter.conntrack.entry import (
    IPCT_ASSURED,
    IPCT_PROTOINFO,
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_FIXED_TIMEOUT,
    IPS_SEEN_REPLY,
    NfConn,
    TcpPeer,
    TcpTrack,
)
from kubenet.kernel.netfilter.conntrack.expire import nf_ct_acct_update, nf_ct_expires, nf_ct_kill, nf_ct_set_timeout
from kubenet.kernel.netfilter.conntrack.log import log_invalid
from kubenet.kernel.netfilter.conntrack.tcp_states import (
    ACK_SET,
    CLOSE,
    ESTABLISHED,
    FIN_SET,
    FIN_WAIT,
    IGNORE,
    INVALID,
    LAST_ACK,
    NONE,
    NONE_SET,
    RST_SET,
    STATE_NAMES,
    SYN_RECV,
    SYN_SENT,
    SYN_SENT2,
    SYN_SET,
    SYNACK_SET,
    TCP_CONNTRACKS,
    TIME_WAIT,
    TIMEOUT_NAMES,
)
from kubenet.kernel.netfilter.conntrack.tcp_window import (
    F_BE_LIBERAL,
    F_CLOSE_INIT,
    F_DATA_UNACKNOWLEDGED,
    F_MAXACK_SET,
    F_SACK_PERM,
    F_WINDOW_SCALE,
    HALF,
    M32,
    segment_end,
    tcp_in_window,
    tcp_options,
)
from kubenet.kernel.netfilter.conntrack.tuple import ORIGINAL, REPLY
from kubenet.kernel.netfilter.core import PREROUTING
from kubenet.kernel.skbuff import CSUM_BAD, SkBuff
from kubenet.units import SEC
from kubenet.wire.tcp import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG, TcpHdr

# Flags of the ignored SYN. Linux: IP_CT_EXP_CHALLENGE_ACK, IP_CT_TCP_SIMULTANEOUS_OPEN
F_EXP_CHALLENGE_ACK, F_SIMULTANEOUS_OPEN = 64, 128

TRACKED, DROPPED, UNTRACKABLE, REPEAT = 1, 0, -1, -4
_CHECK, _IN_WINDOW = 2, 3  # go on to the window check; go on without it

_KIND = tuple(
    RST_SET if flags & RST else (SYNACK_SET if flags & ACK else SYN_SET) if flags & SYN
    else FIN_SET if flags & FIN else ACK_SET if flags & ACK else NONE_SET
    for flags in range(512)
)
_VALID_FLAGS = (SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG)


def nf_conntrack_tcp_packet(ct: NfConn, skb: SkBuff, direction: int, hook: int) -> int:
    """The connection has seen this segment. Linux: nf_conntrack_tcp_packet()."""
    th: TcpHdr = skb.l4
    index = _KIND[th.flags]
    if index != ACK_SET or skb.csum == CSUM_BAD:
        wrong = tcp_error(skb, th, hook)
        if wrong:
            log_invalid(skb, hook, 6, wrong)
            return UNTRACKABLE
    status = ct.status
    if not status & IPS_CONFIRMED and not tcp_new(ct, skb, th, index):
        return UNTRACKABLE
    tp: TcpTrack = ct.proto
    old = tp.state
    new = TCP_CONNTRACKS[direction][index][old]
    step = _CHECK
    if new != ESTABLISHED or old != ESTABLISHED:
        step, old, new = tcp_transition(ct, skb, th, direction, index, new, hook)
        if step < _CHECK:
            return step
    if step == _CHECK:
        fits = tcp_in_window(ct, tp, skb, th, direction, index, hook)
        if fits <= 0:
            if fits < 0:
                nf_tcp_handle_invalid(ct, tp, skb, direction, index, hook)
                return UNTRACKABLE
            return TRACKED
    tp.last_index = index
    tp.last_dir = direction
    tp.state = new
    if new != ESTABLISHED or old != ESTABLISHED or index != ACK_SET or not status & IPS_ASSURED or tp.last_win == 0 \
            or ct.packets is not None:
        return tcp_refresh(ct, tp, skb, direction, index, old, new)
    sysctl = ct.net.sysctl.netfilter
    timeout = sysctl.nf_conntrack_tcp_timeout_established
    if (tp.seen[0].flags | tp.seen[1].flags) & F_DATA_UNACKNOWLEDGED:
        timeout = min(timeout, sysctl.nf_conntrack_tcp_timeout_unacknowledged)
    if tp.retrans >= sysctl.nf_conntrack_tcp_max_retrans:
        timeout = min(sysctl.nf_conntrack_tcp_timeout_established, sysctl.nf_conntrack_tcp_timeout_max_retrans)
    if not status & IPS_FIXED_TIMEOUT:
        ct.timeout = ct.net.loop.now + timeout * SEC
        if ct.timeout < ct.gc_at:
            ct.net.ct.gc_add(ct)
    return TRACKED


def tcp_error(skb: SkBuff, th: TcpHdr, hook: int) -> str:
    """What is wrong with the segment by itself; "" if nothing is. Linux: tcp_error()."""
    if skb.csum == CSUM_BAD and hook == PREROUTING and skb.net.sysctl.netfilter.nf_conntrack_checksum:
        return "bad checksum"
    if th.flags & ~(ECE | CWR | PSH) & 0xFF not in _VALID_FLAGS:
        return "invalid tcp flag combination"
    return ""


def tcp_new(ct: NfConn, skb: SkBuff, th: TcpHdr, index: int) -> bool:
    """The first segment of an entry starts its record; False if no connection starts like this. Linux: tcp_new()."""
    first = TCP_CONNTRACKS[ORIGINAL][index][NONE]
    if first == INVALID:
        return False
    if first != SYN_SENT and not ct.net.sysctl.netfilter.nf_conntrack_tcp_loose:
        return False
    tp = ct.proto = TcpTrack()
    client, server = tp.seen
    client.td_end = client.td_maxend = segment_end(skb, th)
    client.td_maxwin = th.window or 1
    if first == SYN_SENT:
        tcp_options(th, client)
    else:  # picked up in mid-flow: SACK and window scale unknown, so no check at all
        client.td_maxend = client.td_end + client.td_maxwin & M32
        client.flags = server.flags = F_SACK_PERM | F_BE_LIBERAL
    tp.last_index = NONE_SET
    return True


def tcp_transition(ct: NfConn, skb: SkBuff, th: TcpHdr, direction: int, index: int, new: int,
                   hook: int) -> tuple[int, int, int]:
    """(what to do, old state, new state) where the table alone does not decide. Linux: nf_conntrack_tcp_packet(), the
    switch."""
    tp: TcpTrack = ct.proto
    old = tp.state
    if new == SYN_SENT and old >= TIME_WAIT:
        closed = (tp.seen[0].flags | tp.seen[1].flags) & F_CLOSE_INIT
        if closed or (tp.last_dir == direction and tp.last_index == RST_SET):
            return (REPEAT if nf_ct_kill(ct) else DROPPED), old, new  # a closed connection is opened again
        new = IGNORE
    if new == IGNORE:
        if index == SYNACK_SET and tp.last_index == SYN_SET and tp.last_dir != direction and th.ack_seq == tp.last_end:
            _adopt_ignored_syn(tp, direction)
            return _CHECK, SYN_SENT, SYN_RECV
        _remember_ignored(tp, skb, th, direction, index, old)
        log_invalid(skb, hook, 6, f"packet (index {index}) in dir {direction} ignored, state {STATE_NAMES[old]}")
        return TRACKED, old, new
    if new == INVALID:
        log_invalid(skb, hook, 6, f"packet (index {index}) in dir {direction} invalid, state {STATE_NAMES[old]}")
        return UNTRACKABLE, old, new
    if new == TIME_WAIT:
        challenged = (old == LAST_ACK and index == ACK_SET and tp.last_dir != direction and tp.last_index == SYN_SET
                      and tp.last_flags & F_EXP_CHALLENGE_ACK)
        if challenged:  # it answers the SYN that was let through, not the last FIN
            tp.last_flags &= ~F_EXP_CHALLENGE_ACK
            return TRACKED, old, new
    elif new == SYN_SENT2:
        tp.last_flags |= F_SIMULTANEOUS_OPEN
    elif new == SYN_RECV:
        if direction == REPLY and index == ACK_SET and tp.last_flags & F_SIMULTANEOUS_OPEN:
            new = ESTABLISHED
    elif new == CLOSE and index == RST_SET:
        return _reset(ct, tp, skb, th, direction, old, hook)
    return _CHECK, old, new


def _adopt_ignored_syn(tp: TcpTrack, direction: int) -> None:
    """The SYN-ACK acknowledges the SYN that was let through: both ends are right and the entry was out of step."""
    client = tp.seen[tp.last_dir]
    client.td_end = client.td_maxend = tp.last_end
    client.td_maxwin = tp.last_win or 1
    client.td_scale = tp.last_wscale
    tp.last_flags &= ~F_EXP_CHALLENGE_ACK
    client.flags = tp.last_flags
    client.td_maxack = 0
    server = TcpPeer()
    server.flags = tp.seen[direction].flags & F_BE_LIBERAL  # a picked-up connection stays liberal (observed on 6.18)
    tp.seen = (server, client) if direction == ORIGINAL else (client, server)


def _remember_ignored(tp: TcpTrack, skb: SkBuff, th: TcpHdr, direction: int, index: int, old: int) -> None:
    """The answer to an ignored segment will be compared with this."""
    tp.last_index, tp.last_dir = index, direction
    tp.last_seq, tp.last_end, tp.last_win = th.seq, segment_end(skb, th), th.window
    if index == SYN_SET and direction == ORIGINAL:
        seen = TcpPeer()
        tcp_options(th, seen)
        tp.last_flags = seen.flags & (F_WINDOW_SCALE | F_SACK_PERM)
        tp.last_wscale = seen.td_scale
        if old == LAST_ACK:
            tp.last_flags |= F_EXP_CHALLENGE_ACK
    if old == SYN_SENT and index == ACK_SET and direction == REPLY:
        tp.last_ack = th.ack_seq  # perhaps a challenge ACK


def nf_conntrack_tcp_established(ct: NfConn) -> bool:
    """Open, and both sides have proved it. Linux: nf_conntrack_tcp_established()."""
    return bool(ct.proto.state == ESTABLISHED and ct.status & IPS_ASSURED)


def tcp_can_early_drop(ct: NfConn) -> bool:
    """The connection is being closed or closed. Linux: tcp_can_early_drop()."""
    return bool(FIN_WAIT <= ct.proto.state <= CLOSE)


def _reset(ct: NfConn, tp: TcpTrack, skb: SkBuff, th: TcpHdr, direction: int, old: int,
           hook: int) -> tuple[int, int, int]:
    """A RST: believed, checked, or INVALID. In an open connection only the exact next sequence number closes (RFC 5961
    3)."""
    new, seq = CLOSE, th.seq
    if tcp_can_early_drop(ct):
        return _IN_WINDOW, old, new  # the port may have been used again; what we know of the windows is old
    peer = tp.seen[1 - direction]
    if peer.flags & F_MAXACK_SET and tp.last_index != SYN_SET:
        established = nf_conntrack_tcp_established(ct)
        if seq == 0 and not established:
            return _CHECK, old, new
        if (seq - peer.td_maxack & M32) >= HALF and not ct.net.sysctl.netfilter.nf_conntrack_tcp_ignore_invalid_rst:
            log_invalid(skb, hook, 6, "invalid rst")
            return UNTRACKABLE, old, new
        if not established or seq == peer.td_maxack:
            return _CHECK, old, new
        if tp.last_index == ACK_SET and tp.last_dir == direction and seq == tp.last_end:
            return _CHECK, old, new  # right behind the sender's own data
        new = old  # not exact: the receiver will challenge it, the connection may live on
    answered = (ct.status & IPS_SEEN_REPLY and tp.last_index == SYN_SET and tp.last_dir != direction) or (
        not ct.status & IPS_ASSURED and tp.last_index == ACK_SET)
    if answered and th.ack_seq == tp.last_end:
        return _IN_WINDOW, old, new  # it answers the SYN or ACK we had let through
    if old == SYN_SENT and tp.last_index == ACK_SET and tp.last_dir == REPLY and seq == tp.last_ack:
        return _IN_WINDOW, old, new  # it answers a challenge ACK
    return _CHECK, old, new


def tcp_timeout(ct: NfConn, tp: TcpTrack, index: int, new: int) -> int:
    """Seconds the entry may now be silent. Linux: nf_conntrack_tcp_packet(), after in_window."""
    sysctl = ct.net.sysctl.netfilter
    timeout: int = getattr(sysctl, TIMEOUT_NAMES[new])
    retrans = sysctl.nf_conntrack_tcp_timeout_max_retrans
    unack = sysctl.nf_conntrack_tcp_timeout_unacknowledged
    if tp.retrans >= sysctl.nf_conntrack_tcp_max_retrans and timeout > retrans:
        return retrans
    if index == RST_SET:
        return sysctl.nf_conntrack_tcp_timeout_close
    if (tp.seen[0].flags | tp.seen[1].flags) & F_DATA_UNACKNOWLEDGED and timeout > unack:
        return unack
    if tp.last_win == 0 and timeout > retrans:
        return retrans
    return timeout


def tcp_refresh(ct: NfConn, tp: TcpTrack, skb: SkBuff, direction: int, index: int, old: int, new: int) -> int:
    """A segment in the window moved the entry on: events, ASSURED, timeout. Linux: nf_conntrack_tcp_packet(), its
    end."""
    if new != old:
        if new == FIN_WAIT:
            tp.seen[direction].flags |= F_CLOSE_INIT
        ct.events |= IPCT_PROTOINFO
    timeout = tcp_timeout(ct, tp, index, new)
    if not ct.status & IPS_SEEN_REPLY:
        if index == RST_SET:  # nothing but a RST came back: never a connection
            nf_ct_acct_update(ct, direction, skb)
            nf_ct_kill(ct)
            return TRACKED
        if index == SYN_SET and old == SYN_SENT:
            return TRACKED  # repeated SYNs do not keep it alive
        if new == ESTABLISHED:
            timeout = min(timeout, ct.net.sysctl.netfilter.nf_conntrack_tcp_timeout_unacknowledged)
    elif not ct.status & IPS_ASSURED and new == ESTABLISHED and old in (SYN_RECV, ESTABLISHED):
        ct.status |= IPS_ASSURED
        ct.events |= IPCT_ASSURED
    if not ct.status & IPS_FIXED_TIMEOUT:
        nf_ct_set_timeout(ct, timeout * SEC)
    nf_ct_acct_update(ct, direction, skb)
    return TRACKED


def nf_tcp_handle_invalid(ct: NfConn, tp: TcpTrack, skb: SkBuff, direction: int, index: int, hook: int) -> None:
    """FINs or RSTs outside the window from both sides: the ends know better, let the entry go soon. Linux: same
    name."""
    if not ct.status & IPS_ASSURED or ct.status & IPS_FIXED_TIMEOUT or index not in (FIN_SET, RST_SET):
        return
    if tp.last_dir == direction or tp.last_index not in (FIN_SET, RST_SET):
        tp.last_index, tp.last_dir = index, direction
        return
    left = nf_ct_expires(ct)
    timeout = ct.net.sysctl.netfilter.nf_conntrack_tcp_timeout_unacknowledged
    if left >= 120 * SEC and left > timeout * SEC:
        log_invalid(skb, hook, 6, f"packet (index {index}, dir {direction}) response for index {tp.last_index} "
                                  f"lower timeout to {timeout}")
        nf_ct_set_timeout(ct, timeout * SEC)


def nf_ct_tcp_fixup(ct: NfConn) -> None:
    """Tracking was off for a while: an open connection's windows are learned anew. Linux: nf_ct_tcp_fixup()."""
    if ct.proto is not None and ct.proto.state == ESTABLISHED:
        for peer in ct.proto.seen:
            peer.td_maxwin = 0
