"""The receive window: how much is offered, when it moves, and how it follows the receive buffer.

A window promises memory: free buffer times scaling_ratio / 256, for a segment costs more memory (truesize) than it has
bytes. It starts at half the buffer in whole segments (64240 with the defaults), grows by rcv_ssthresh while segments
use their memory well, never shrinks, and closes rather than dribble (RFC 9293 3.8.6.2, silly window syndrome).

    tcp_select_window(tp) -> the 16-bit field of the segment being sent

simplified: no receive buffer autotuning, so sk.rcvbuf stays what it was; no tcp_shrink_window.
Sources: Linux net/ipv4/tcp_output.c tcp_select_initial_window(), __tcp_select_window(); tcp_input.c tcp_grow_window(),
tcp_init_buffer_space(); RFC 7323 2.
"""

from __future__ import annotations

from kubenet.kernel.socket.sock import SOCK_RCVBUF_LOCK, SOCK_SNDBUF_LOCK
from kubenet.kernel.tcp.sock import (
    ACK_NOMEM,
    MAX_TCP_HEADER,
    TCP_INIT_CWND,
    TCP_MAX_WSCALE,
    TcpSock,
    tcp_full_space,
    tcp_receive_window,
)

SHARED_INFO = 320  # sizeof(struct skb_shared_info), aligned
SK_BUFF = 256  # sizeof(struct sk_buff), aligned


def tcp_select_initial_window(
    tp: TcpSock, space: int, mss: int, clamp: int, wscale_ok: bool
) -> tuple[int, int, int]:
    """(rcv_wnd, window_clamp, rcv_wscale) for a SYN or SYN-ACK. RFC 7323 2.3. Linux: the same."""
    space = max(space, 0)
    if clamp == 0:
        clamp = 65535 << TCP_MAX_WSCALE
    space = min(clamp, space)
    if space > mss:
        space -= space % mss
    rcv_wnd = space
    rcv_wscale = 0
    if wscale_ok:
        sysctl = tp.net.sysctl
        space = min(max(space, sysctl.ipv4.tcp_rmem[2], sysctl.core.rmem_max), clamp)
        rcv_wscale = min(max(space.bit_length() - 1 - 15, 0), TCP_MAX_WSCALE)
    return rcv_wnd, min(65535 << rcv_wscale, clamp), rcv_wscale


def tcp_select_window(tp: TcpSock) -> int:
    """The window field to send now; rcv_wnd and rcv_wup remember the promise. RFC 9293 3.8.6. Linux: the same."""
    rcv_nxt = tp.rcv_nxt
    old = tp.rcv_wnd
    if tp.ack_pending & ACK_NOMEM:
        tp.rcv_wnd = 0
        tp.rcv_wup = rcv_nxt
        return 0
    current = tp.rcv_wup + old - rcv_nxt
    if current < 0:
        current = 0
    new = __tcp_select_window(tp)
    scale = tp.rcv_wscale
    if new < current:  # RFC 9293 3.8.6: "a receiver SHOULD NOT shrink the window"
        if new == 0:
            tp.net.snmp["TcpExtTCPWantZeroWindowAdv"] += 1
        unit = (1 << scale) - 1
        new = current + unit & ~unit
    tp.rcv_wnd = new
    tp.rcv_wup = rcv_nxt
    field = new >> scale
    if field > 65535:
        field = 65535
    if field == 0:
        if old:
            tp.net.snmp["TcpExtTCPToZeroWindowAdv"] += 1
    elif old == 0:
        tp.net.snmp["TcpExtTCPFromZeroWindowAdv"] += 1
    return field


def __tcp_select_window(tp: TcpSock) -> int:
    """The window that would be good to offer, in bytes. Linux: the same."""
    ratio = tp.scaling_ratio
    free = (tp.rcvbuf - tp.rmem_alloc) * ratio >> 8
    allowed = tp.rcvbuf * ratio >> 8
    full = allowed if allowed < tp.window_clamp else tp.window_clamp
    mss = tp.rcv_mss
    if mss > full:
        mss = full
        if mss <= 0:
            return 0
    scale = tp.rcv_wscale
    if free < full >> 1:
        tp.quick = 0
        free = free >> scale << scale
        if free < allowed >> 4 or free < mss:
            return 0
    if free > tp.rcv_ssthresh:
        free = tp.rcv_ssthresh
    if scale:
        unit = (1 << scale) - 1
        return free + unit & ~unit
    window = tp.rcv_wnd
    if window <= free - mss or window > free:
        window = free - free % mss
    elif mss == full and free > window + (full >> 1):
        window = free
    return window


tcp_next_window = __tcp_select_window  # its name for other modules


def tcp_grow_window(tp: TcpSock, size: int, truesize: int) -> None:
    """rcv_ssthresh has grown, if segments like this one use their memory well. Linux: the same."""
    space = (tp.rcvbuf - tp.rmem_alloc) * tp.scaling_ratio >> 8
    room = min(tp.window_clamp, space) - tp.rcv_ssthresh
    if room <= 0:
        return
    if truesize * tp.scaling_ratio >> 8 <= size:
        incr = 2 * tp.advmss
    else:
        incr = _grow_small(tp, size, truesize)
    if incr:
        incr = max(incr, 2 * size)
        tp.rcv_ssthresh += min(room, incr)
        tp.quick |= 1


def _grow_small(tp: TcpSock, size: int, truesize: int) -> int:
    """Small segments may still grow a small window. Linux: __tcp_grow_window()."""
    truesize = (truesize * tp.scaling_ratio >> 8) >> 1
    window = (tp.net.sysctl.ipv4.tcp_rmem[2] * tp.scaling_ratio >> 8) >> 1
    while tp.rcv_ssthresh <= window:
        if truesize <= size:
            return 2 * tp.rcv_mss
        truesize >>= 1
        window >>= 1
    return 0


def tcp_update_scaling_ratio(tp: TcpSock, size: int, truesize: int) -> None:
    """The ratio of bytes to memory was measured anew. Linux: in tcp_measure_rcv_mss()."""
    ratio = min((size << 8) // truesize, 255) or 1
    if ratio != tp.scaling_ratio:
        tp.scaling_ratio = ratio
        tcp_set_window_clamp(tp, tp.rcvbuf * ratio >> 8)


def tcp_set_window_clamp(tp: TcpSock, clamp: int) -> None:
    """The window will not be larger than `clamp`. Linux: the same."""
    old = tp.window_clamp
    tp.window_clamp = clamp = max(2048 // 2, clamp)
    if clamp == old:
        return
    if clamp < old:
        tp.rcv_ssthresh = min(tp.rcv_ssthresh, clamp)
    else:
        tp.rcv_ssthresh = max(min(tp.rcv_wnd, clamp), tp.rcv_ssthresh)


def tcp_init_buffer_space(tp: TcpSock) -> None:
    """Buffers and clamp are set for a new connection. Linux: the same."""
    if not tp.userlocks & SOCK_SNDBUF_LOCK:
        tcp_sndbuf_expand(tp)
    maxwin = tcp_full_space(tp)
    if tp.window_clamp >= maxwin:
        tp.window_clamp = maxwin
    if tp.window_clamp > 2 * tp.advmss and tp.window_clamp + tp.advmss > maxwin:  # one segment in reserve
        tp.window_clamp = max(2 * tp.advmss, maxwin - tp.advmss)
    tp.rcv_ssthresh = min(tp.rcv_ssthresh, tp.window_clamp)
    tp.snd_cwnd_stamp = tp.net.loop.now


def tcp_sndbuf_expand(tp: TcpSock) -> None:
    """The send buffer holds two windows' worth of segments, at most tcp_wmem[2]. Linux: the same."""
    per_mss = max(tp.mss_clamp, tp.mss_cache) + MAX_TCP_HEADER + SHARED_INFO
    per_mss = (1 << (per_mss - 1).bit_length()) + SK_BUFF
    segs = max(TCP_INIT_CWND, tp.snd_cwnd, tp.reordering + 1)
    need = 2 * segs * per_mss
    if tp.sndbuf < need:
        tp.sndbuf = min(need, tp.net.sysctl.ipv4.tcp_wmem[2])


def tcp_clamp_window(tp: TcpSock) -> None:
    """The receive buffer is over its size: grow it if the program did not fix it, else close the window. Linux: the same."""
    tp.quick = 0
    limit = tp.net.sysctl.ipv4.tcp_rmem[2]
    if tp.rcvbuf < limit and not tp.userlocks & SOCK_RCVBUF_LOCK:
        tp.rcvbuf = min(tp.rmem_alloc, limit)
    if tp.rmem_alloc > tp.rcvbuf:
        tp.rcv_ssthresh = min(tp.window_clamp, 2 * tp.advmss)


def tcp_window_field_now(tp: TcpSock) -> int:
    """The field that the present promise would show, without making a new one. For mini sockets."""
    return min(tcp_receive_window(tp) >> tp.rcv_wscale, 65535)
