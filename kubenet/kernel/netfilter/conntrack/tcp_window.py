"""The window check of TCP tracking: does a segment fit what both sides announced, and what it changes in their records.

Follows van Rooij, "Real Stateful TCP Packet Filtering in IP Filter" (2001). Four bounds, each modulo 2^32:

    I    seq <= sender.td_maxend                     the receiver has allowed that much at some time
    II   end >= sender.td_end - receiver.td_maxwin   not older than a retransmission can be
    III  ack <= receiver.td_end                      nobody acknowledges what was not sent (SACK blocks count as ACK)
    IV   ack >= receiver.td_end - the largest window of the sender, at least 66000

Above the upper bounds (I, III) a segment is INVALID. Below the lower ones (II, IV) it is let through without being
believed, because the receiver must see a late retransmission to answer it. With be_liberal, or after a pick-up in
mid-flow, everything passes and nothing is learned from what does not fit.

Sources: Linux tcp_in_window(), tcp_init_sender(), tcp_options(), tcp_sack() (nf_conntrack_proto_tcp.c).
"""

from __future__ import annotations

from kubenet.kernel.netfilter.conntrack.entry import NfConn, TcpPeer, TcpTrack
from kubenet.kernel.netfilter.conntrack.log import log_invalid
from kubenet.kernel.netfilter.conntrack.tcp_states import ACK_SET, SYN_RECV, SYN_SENT
from kubenet.kernel.netfilter.conntrack.tuple import REPLY
from kubenet.kernel.skbuff import SkBuff
from kubenet.wire.tcp import ACK, FIN, RST, SYN, TCP_HLEN, TcpHdr

M32 = 0xFFFFFFFF
HALF = 0x80000000
MAXACKWINCONST = 66000
TCP_MAX_WSCALE = 14

# Flags of a peer. Linux: IP_CT_TCP_FLAG_*
F_WINDOW_SCALE, F_SACK_PERM, F_CLOSE_INIT, F_BE_LIBERAL, F_DATA_UNACKNOWLEDGED, F_MAXACK_SET = 1, 2, 4, 8, 16, 32

TCP_ACCEPT, TCP_IGNORE, TCP_INVALID = 1, 0, -1


def segment_end(skb: SkBuff, th: TcpHdr) -> int:
    """The sequence number after the segment; SYN and FIN count one each. Linux: segment_seq_plus_len()."""
    return th.seq + skb.plen + (1 if th.flags & SYN else 0) + (1 if th.flags & FIN else 0) & M32


def tcp_options(th: TcpHdr, peer: TcpPeer) -> None:
    """The peer's record knows what its SYN offered: SACK and the window scale. Linux: tcp_options()."""
    if th.doff == TCP_HLEN:
        return  # without any option nothing is learned, and what an earlier SYN offered stays
    opt = th.options
    peer.td_scale = 0
    peer.flags &= F_BE_LIBERAL
    if opt.sack_perm:
        peer.flags |= F_SACK_PERM
    if opt.wscale >= 0:
        peer.td_scale = min(opt.wscale, TCP_MAX_WSCALE)
        peer.flags |= F_WINDOW_SCALE


def tcp_init_sender(sender: TcpPeer, receiver: TcpPeer, th: TcpHdr, end: int, direction: int) -> None:
    """A SYN or SYN-ACK starts the sender's record; scaling needs both sides (RFC 7323 2.2). Linux:
    tcp_init_sender()."""
    sender.td_end = sender.td_maxend = end
    sender.td_maxwin = th.window or 1
    tcp_options(th, sender)
    if direction == REPLY and not sender.flags & receiver.flags & F_WINDOW_SCALE:
        sender.td_scale = receiver.td_scale = 0


def _first_of_sender(sender: TcpPeer, receiver: TcpPeer, th: TcpHdr, end: int, sack: int) -> None:
    """A side is heard for the first time, in mid-flow: its record starts from what the segment says."""
    sender.td_end = end
    sender.td_maxwin = (th.window << sender.td_scale) or 1
    sender.td_maxend = end + sender.td_maxwin & M32
    if receiver.td_maxwin == 0:  # nor was the other: bounds III and IV hold until it is
        receiver.td_end = receiver.td_maxend = sack
    elif sack == receiver.td_end + 1 & M32:  # likely the answer to a keepalive
        receiver.td_end = sack


def _misfit(ct: NfConn, skb: SkBuff, hook: int, sender: TcpPeer, verdict: int, text: str) -> int:
    """`verdict`, unless tracking is liberal here. Linux: nf_tcp_log_invalid()."""
    if sender.flags & F_BE_LIBERAL or ct.net.sysctl.netfilter.nf_conntrack_tcp_be_liberal:
        return TCP_ACCEPT
    log_invalid(skb, hook, 6, text)
    return verdict


def _beyond_window(ct: NfConn, skb: SkBuff, hook: int, sender: TcpPeer, receiver: TcpPeer, end: int, sack: int) -> int:
    """Bound I is broken. A little too much data, else in order, passes: peers that overrun a window do exist."""
    overshot = end - sender.td_maxend + 1 & M32
    ack_low = receiver.td_end - max(sender.td_maxwin, MAXACKWINCONST) - 1
    if (
        receiver.td_maxwin
        and 0 < (end - (sender.td_end - receiver.td_maxwin - 1) & M32) < HALF
        and 0 < (sack - ack_low & M32) < HALF
        and overshot <= receiver.td_maxwin
        and (sack - receiver.td_end - 1 & M32) >= HALF
    ):
        sender.td_end = end
        sender.flags |= F_DATA_UNACKNOWLEDGED
        return _misfit(ct, skb, hook, sender, TCP_IGNORE, f"{overshot} bytes more than expected")
    return _misfit(ct, skb, hook, sender, TCP_INVALID,
                   f"SEQ is over upper bound {sender.td_maxend + 1 & M32} (over the window of the receiver)")


def _check_bounds(ct: NfConn, skb: SkBuff, hook: int, sender: TcpPeer, receiver: TcpPeer, seq: int, end: int,
                  sack: int) -> int:
    """What to do with a segment that breaks one of the four bounds; called only for such."""
    if (seq - sender.td_maxend - 1 & M32) < HALF:
        return _beyond_window(ct, skb, hook, sender, receiver, end, sack)
    if (sack - receiver.td_end - 1 & M32) < HALF:
        return _misfit(ct, skb, hook, sender, TCP_INVALID,
                       f"ACK is over upper bound {receiver.td_end + 1 & M32} (ACKed data not seen yet)")
    low = sender.td_end - receiver.td_maxwin - 1 & M32
    if receiver.td_maxwin and not 0 < (end - low & M32) < HALF:
        return _misfit(ct, skb, hook, sender, TCP_IGNORE,
                       f"SEQ is under lower bound {low} (already ACKed data retransmitted)")
    low = receiver.td_end - max(sender.td_maxwin, MAXACKWINCONST) - 1 & M32
    return _misfit(ct, skb, hook, sender, TCP_IGNORE, f"ignored ACK under lower bound {low} (possible overly delayed)")


def tcp_in_window(ct: NfConn, tp: TcpTrack, skb: SkBuff, th: TcpHdr, direction: int, index: int, hook: int) -> int:
    """TCP_ACCEPT and both records updated; TCP_IGNORE: let through; TCP_INVALID. Linux: tcp_in_window()."""
    flags = th.flags
    sender, receiver = tp.seen[direction], tp.seen[1 - direction]
    seq, win, ack = th.seq, th.window, th.ack_seq
    end = seq + skb.plen & M32
    if flags & (SYN | FIN):
        end = segment_end(skb, th)
    sack = ack
    if receiver.flags & F_SACK_PERM and th.options.sacks:
        for _, right in th.options.sacks:
            if 0 < (right - sack & M32) < HALF:
                sack = right

    if sender.td_maxwin == 0:
        if flags & SYN:
            tcp_init_sender(sender, receiver, th, end, direction)
            if not flags & ACK:
                return TCP_ACCEPT  # simultaneous open
        else:
            _first_of_sender(sender, receiver, th, end, sack)
    elif flags & SYN and 0 < (end - sender.td_end & M32) < HALF and tp.state in (SYN_SENT, SYN_RECV):
        # The SYN or SYN-ACK of another incarnation: the one seen before may have been answered by nobody.
        tcp_init_sender(sender, receiver, th, end, direction)
        if direction == REPLY and not flags & ACK:
            return TCP_ACCEPT

    if not flags & ACK or (flags & RST and ack == 0):
        ack = sack = receiver.td_end  # no ACK, or a stack that sets the bit in a RST and leaves the field 0
    if flags & RST and seq == 0 and tp.state == SYN_SENT:
        seq = end = sender.td_end  # the RST that answers a SYN

    maxwin, sender_win = receiver.td_maxwin, sender.td_maxwin
    ack_win = MAXACKWINCONST if sender_win < MAXACKWINCONST else sender_win
    if (
        (seq - sender.td_maxend - 1 & M32) < HALF
        or (sack - receiver.td_end - 1 & M32) < HALF
        or (maxwin and not 0 < (end - sender.td_end + maxwin + 1 & M32) < HALF)
        or not 0 < (sack - receiver.td_end + ack_win + 1 & M32) < HALF
    ):
        return _check_bounds(ct, skb, hook, sender, receiver, seq, end, sack)

    if not flags & SYN:
        win <<= sender.td_scale
    if sender_win < win + (sack - ack & M32):
        sender.td_maxwin = win + (sack - ack & M32)
    if 0 < (end - sender.td_end & M32) < HALF:
        sender.td_end = end
        sender.flags |= F_DATA_UNACKNOWLEDGED
    if flags & ACK:
        if not sender.flags & F_MAXACK_SET:
            sender.td_maxack = ack
            sender.flags |= F_MAXACK_SET
        elif 0 < (ack - sender.td_maxack & M32) < HALF:
            sender.td_maxack = ack
    if maxwin and 0 < (end - sender.td_maxend & M32) < HALF:
        receiver.td_maxwin = maxwin + (end - sender.td_maxend & M32)
    if 0 < (sack + win - receiver.td_maxend + 1 & M32) < HALF:
        receiver.td_maxend = sack + win + (1 if win == 0 else 0) & M32
    if ack == receiver.td_end:
        receiver.flags &= ~F_DATA_UNACKNOWLEDGED

    if index == ACK_SET:
        if tp.last_dir == direction and tp.last_seq == seq and tp.last_ack == ack and tp.last_end == end \
                and tp.last_win == th.window:
            tp.retrans += 1
        else:
            tp.last_dir, tp.last_seq, tp.last_ack, tp.last_end, tp.last_win = direction, seq, ack, end, th.window
            tp.retrans = 0
    return TCP_ACCEPT
