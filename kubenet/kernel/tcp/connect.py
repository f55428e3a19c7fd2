"""The active open: connect(2) from choosing the addresses to the SYN, and the numbers a connection begins with.

    tcp_v4_connect(tp, addr)   route, source address, local port, SYN-SENT
      tcp_connect(tp)          windows and options of the SYN, which leaves and is retransmitted like data

Initial sequence numbers are a keyed hash of the four values plus a clock of 64 ns ticks (RFC 6528); timestamps begin at an
offset that is a keyed hash of the two addresses (RFC 7323 5.4), so that they grow over all connections of a pair. A port whose
last connection is still in TIME-WAIT may be taken over (tcp_twsk_unique()).

simplified: no Fast Open, no metrics remembered per destination.
Sources: RFC 9293 3.10.1; Linux net/ipv4/tcp_ipv4.c tcp_v4_connect(), tcp_output.c tcp_connect(), net/core/secure_seq.c.
"""

from __future__ import annotations

from errno import EHOSTUNREACH, ENETUNREACH
from typing import TYPE_CHECKING, Any

from kubenet.kernel.skbuff import SkBuff
from kubenet.kernel.socket.hashtables import inet_hash_connect
from kubenet.kernel.socket.sock import (
    SOCK_BINDADDR_LOCK,
    SOCK_DONE,
    SOCK_RCVBUF_LOCK,
    TCP_CLOSE,
    TCP_FIN_WAIT2,
    TCP_SYN_SENT,
    Sock,
    oserror,
)
from kubenet.kernel.tcp.output import tcp_setup_caps, tcp_sync_mss, tcp_transmit_skb
from kubenet.kernel.tcp.reassembly import tcp_initialize_rcv_mss
from kubenet.kernel.tcp.seq import M32
from kubenet.kernel.tcp.sock import (
    TCP_MSS_DEFAULT,
    TCP_TIMEOUT_INIT,
    TIME_RETRANS,
    TcpSock,
    TxSeg,
    tcp_full_space,
    tcp_time_stamp,
)
from kubenet.kernel.tcp.states import tcp_set_state, tcp_write_queue_purge
from kubenet.kernel.tcp.window import tcp_select_initial_window
from kubenet.kernel.tcp.xmit_timer import tcp_reset_xmit_timer
from kubenet.sim.rng import hash64
from kubenet.units import MSEC
from kubenet.wire.tcp import SYN, TCP_HLEN, TcpOptions

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

RTN_BROADCAST, RTN_MULTICAST = 3, 5
INADDR_LOOPBACK = 0x7F000001
LOOPBACK_IFINDEX = 1


class TcpNet:
    """TCP's own state of a namespace: the keys that its machine drew at boot."""

    __slots__ = ("isn_secret", "ts_secret")

    def __init__(self, net: NetNamespace) -> None:
        self.isn_secret: int = net.host.secret("tcp isn")
        self.ts_secret: int = net.host.secret("tcp timestamp")


def secure_tcp_seq(net: NetNamespace, saddr: int, daddr: int, sport: int, dport: int) -> int:
    """The initial sequence number of a connection that begins now. RFC 6528 3. Linux: the same."""
    return (hash64(net.tcp.isn_secret, saddr, daddr, sport << 16 | dport) + (net.loop.now >> 6)) & M32


def secure_tcp_ts_off(net: NetNamespace, saddr: int, daddr: int) -> int:
    """Where the timestamps between two addresses begin. RFC 7323 5.4. Linux: the same."""
    return hash64(net.tcp.ts_secret, saddr, daddr) & M32


def tcp_v4_init_seq(skb: SkBuff) -> int:
    """The initial sequence number of the answer to a SYN. Linux: the same."""
    th, ip = skb.l4, skb.ip
    return secure_tcp_seq(skb.net, ip.daddr, ip.saddr, th.dport, th.sport)


def tcp_v4_init_ts_off(skb: SkBuff) -> int:
    """The timestamp offset of the answer to a SYN. Linux: the same."""
    return secure_tcp_ts_off(skb.net, skb.ip.daddr, skb.ip.saddr)


def tcp_v4_connect(tp: TcpSock, addr: tuple[int, int]) -> None:
    """The SYN is on its way. ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL, ... before any packet. Linux: the same."""
    net = tp.net
    daddr, dport = addr
    if not daddr:  # "this host": connect() to 0.0.0.0 goes to itself
        daddr = tp.saddr or INADDR_LOOPBACK
    dst = _route(tp, daddr, dport)
    if not tp.saddr:
        tp.saddr = dst.prefsrc
    if tp.ts_recent_stamp and tp.daddr != daddr:  # nothing of an earlier peer holds for this one
        tp.ts_recent = tp.ts_recent_stamp = tp.write_seq = 0
    tp.daddr, tp.dport = daddr, dport
    tp.mss_clamp = TCP_MSS_DEFAULT
    tcp_set_state(tp, TCP_SYN_SENT)
    try:
        inet_hash_connect(tp, tcp_twsk_unique)
        fib = net.fib.get(tp.family)
        if fib is not None and fib.require_fldissect:  # a rule may ask for the port that was just chosen
            dst = _route(tp, daddr, dport)  # ip_route_newports()
        tp.dst = dst
        tcp_setup_caps(tp)
        if not tp.write_seq:
            tp.write_seq = secure_tcp_seq(net, tp.saddr, daddr, tp.sport, dport) or 1
        tp.tsoffset = secure_tcp_ts_off(net, tp.saddr, daddr)
        tp.ip_ident = net.random("ip_ident").u32() & 0xFFFF
        tcp_connect(tp)
    except OSError:
        tcp_set_state(tp, TCP_CLOSE)
        inet_reset_saddr(tp)
        tp.dport = 0
        raise


def _route(tp: TcpSock, daddr: int, dport: int) -> Any:
    try:
        dst = tp.af_ops.route(tp.net, tp, daddr, tp.saddr, tp.bound_dev, dport)
    except OSError as error:
        if error.errno == ENETUNREACH:
            tp.net.snmp["IpOutNoRoutes"] += 1
        raise
    if dst.type in (RTN_BROADCAST, RTN_MULTICAST):
        raise oserror(ENETUNREACH)
    return dst


def inet_reset_saddr(tp: Sock) -> None:
    """The local address is open again, unless bind() fixed it. Linux: inet_reset_saddr()."""
    if not tp.userlocks & SOCK_BINDADDR_LOCK:
        tp.saddr = 0


def tcp_connect_init(tp: TcpSock) -> None:
    """Sizes and numbers are those of a connection that begins. Linux: the same."""
    sysctl = tp.net.sysctl.ipv4
    tp.doff = 32 if sysctl.tcp_timestamps else 20
    if tp.user_mss:
        tp.mss_clamp = tp.user_mss
    tp.max_window = 0
    tcp_sync_mss(tp, tp.af_ops.mtu(tp.dst))
    advmss = tp.af_ops.advmss(tp.dst)
    tp.advmss = min(advmss, tp.user_mss) if tp.user_mss else advmss
    if tp.userlocks & SOCK_RCVBUF_LOCK and not 0 < tp.window_clamp <= tcp_full_space(tp):
        tp.window_clamp = tcp_full_space(tp)
    mss = tp.advmss - (tp.doff - TCP_HLEN if tp.ts_recent_stamp else 0)
    tp.rcv_wnd, tp.window_clamp, tp.rcv_wscale = tcp_select_initial_window(
        tp, tcp_full_space(tp), mss, tp.window_clamp, bool(sysctl.tcp_window_scaling))
    tp.rcv_ssthresh = tp.rcv_wnd
    tcp_initialize_rcv_mss(tp)
    tp.err = 0
    tp.flags &= ~SOCK_DONE
    tcp_write_queue_purge(tp)
    tp.snd_wnd = tp.snd_wl1 = 0
    tp.iss = tp.snd_una = tp.snd_sml = tp.snd_up = tp.snd_nxt = tp.write_seq
    tp.bytes_acked = tp.bytes_received = 0
    tp.rcv_nxt = tp.rcv_wup = tp.copied_seq = 0
    tp.rto = TCP_TIMEOUT_INIT
    tp.retransmits = tp.total_rto = tp.retrans_out = tp.total_retrans = 0
    tp.undo_marker, tp.undo_retrans = None, -1


def tcp_syn_options(tp: TcpSock) -> TcpOptions:
    """The options of a SYN sent now: mss, SACK permitted, timestamps, window scale. RFC 9293 3.7.1. Linux: the same."""
    sysctl = tp.net.sysctl.ipv4
    mss = tp.af_ops.advmss(tp.dst) if tp.dst is not None else tp.advmss
    if mss < tp.advmss:
        tp.advmss = mss
    opt = TcpOptions(tp.advmss)
    if sysctl.tcp_timestamps:
        opt.ts = True
        opt.tsval = tcp_time_stamp(tp.net, tp.tsoffset)
        opt.tsecr = tp.ts_recent
    if sysctl.tcp_window_scaling:
        opt.wscale = tp.rcv_wscale
    opt.sack_perm = bool(sysctl.tcp_sack)
    return opt


def tcp_refresh_syn_options(tp: TcpSock) -> None:
    """The next (re)transmission of the SYN carries today's timestamp."""
    tp.syn_options = tcp_syn_options(tp)


def tcp_connect(tp: TcpSock) -> None:
    """The SYN was sent and its timer runs. OSError if there is no way to send it. RFC 9293 3.10.1. Linux: the same."""
    if tp.dst is None:
        raise oserror(EHOSTUNREACH)
    tcp_connect_init(tp)
    now = tp.net.loop.now
    tp.retrans_stamp = tcp_time_stamp(tp.net, tp.tsoffset) or 1
    syn = TxSeg(tp.write_seq, b"", SYN)
    syn.end_seq += 1
    syn.pcount = 1
    syn.tstamp = now
    tp.write_seq += 1
    tp.rtx_queue.append(syn)
    tp.wmem_queued += syn.truesize
    tp.packets_out = 1
    tcp_refresh_syn_options(tp)
    tcp_transmit_skb(tp, syn.seq, SYN, b"", 0, 1)  # a local refusal (a rule in OUTPUT) is not told: the SYN is sent again
    tp.snd_nxt = tp.pushed_seq = tp.write_seq  # only now: the first SYN counts in TcpOutSegs
    tp.net.snmp["TcpActiveOpens"] += 1
    if tp.state != TCP_CLOSE:
        tcp_reset_xmit_timer(tp, TIME_RETRANS, tp.rto)


def tcp_twsk_unique(sk: Sock, tw: Any, auto: bool) -> bool:
    """May `sk` take over a connection in TIME-WAIT? With timestamps yes, if it chose the port itself; else by tcp_tw_reuse.

    `auto`: the port is being chosen. RFC 6191. Linux: the same.
    """
    assert isinstance(sk, TcpSock)
    sysctl = sk.net.sysctl.ipv4
    reuse = sysctl.tcp_tw_reuse
    if tw.substate == TCP_FIN_WAIT2:
        reuse = 0
    if reuse == 2:
        local = tw.bound_dev == LOOPBACK_IFINDEX or tw.daddr >> 24 == 127 or tw.saddr >> 24 == 127
        reuse = 1 if local else 0
    if not tw.ts_recent_stamp:
        return False
    if auto and not (reuse and sk.net.loop.now > tw.entry_stamp + sysctl.tcp_tw_reuse_delay * MSEC):
        return False
    sk.write_seq = tw.snd_nxt + 65535 + 2
    sk.ts_recent = tw.ts_recent
    sk.ts_recent_stamp = tw.ts_recent_stamp
    sk.net.snmp["TcpExtTWRecycled"] += 1
    return True
