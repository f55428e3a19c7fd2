"""TCP's records: TcpSock, the two mini sockets (ReqSock in SYN-RECV, TimewaitSock), and what their queues hold.

A listening and a connected socket are different things in the kernel. A listener is a TcpSock whose `listen` record has the
SYN queue's count and the accept queue; it never sends or receives data. A SYN makes a ReqSock of 20 fields; the
handshake's last ACK makes the full TcpSock, which waits in the accept queue. A connection that only waits for old segments
to die out is a TimewaitSock. All three stand in the one table of connections (socket/hashtables.py).

Functions take `tp` and live in the modules of their topic. Sequence numbers do not wrap (seq.py). Times are ns except
those of the RTT estimator (us, as in Linux). Names are struct tcp_sock's and inet_connection_sock's.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from kubenet.kernel.socket.sock import (
    SOCK_DEAD,
    TCP_NEW_SYN_RECV,
    TCP_TIME_WAIT,
    Proto,
    Sock,
)
from kubenet.sim.timer import Timer
from kubenet.units import MSEC, SEC
from kubenet.wire.tcp import NO_OPTIONS, TcpOptions

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace
    from kubenet.kernel.tcp.congestion.base import CongestionControl

TCP_MSS_DEFAULT = 536
TCP_MIN_MSS = 88
TCP_MIN_SND_MSS = 48
TCP_INIT_CWND = 10
TCP_INFINITE_SSTHRESH = 0x7FFF_FFFF
TCP_MAX_WSCALE = 14
TCP_MAX_QUICKACKS = 16
TCP_TIMEOUT_INIT = SEC
TCP_TIMEOUT_FALLBACK = 3 * SEC
TCP_RTO_MAX = 120 * SEC
TCP_RTO_MIN = 200 * MSEC
TCP_ATO_MIN = 40 * MSEC
TCP_DELACK_MIN = 40 * MSEC
TCP_DELACK_MAX = 200 * MSEC
TCP_TIMEWAIT_LEN = 60 * SEC
TCP_RESOURCE_PROBE_INTERVAL = 500 * MSEC
TCP_FASTRETRANS_THRESH = 3
TCPOLEN_TSTAMP_ALIGNED = 12
TCP_PAWS_24DAYS = 24 * 86400 * SEC
TCP_PAWS_WINDOW = 1
MAX_TCP_KEEPCNT = 127
SKB_TRUESIZE = 832  # of a TCP skb without its data; read from SO_MEMINFO on 6.18
MAX_TCP_HEADER = 256
GSO_MAX_SIZE = 65536

# tp.ack_pending (ICSK_ACK_*)
ACK_SCHED, ACK_TIMER, ACK_PUSHED, ACK_PUSHED2, ACK_NOW, ACK_NOMEM = 1, 2, 4, 8, 16, 32
# tp.pending: what the retransmit timer is armed for (ICSK_TIME_*)
TIME_NONE, TIME_RETRANS, TIME_PROBE0, TIME_LOSS_PROBE, TIME_REO_TIMEOUT = 0, 1, 3, 5, 6
# tp.ca_state
CA_OPEN, CA_DISORDER, CA_CWR, CA_RECOVERY, CA_LOSS = 0, 1, 2, 3, 4
# tp.nonagle
NAGLE_OFF, NAGLE_CORK, NAGLE_PUSH = 1, 2, 4
# TxSeg.sacked
SACKED_ACKED, SACKED_RETRANS, TAG_LOST, EVER_RETRANS = 1, 2, 4, 0x80


class TxSeg:
    """A stretch of the send stream in one of the two send queues. Linux: sk_buff with TCP_SKB_CB.

    data: a bytearray while writes may still append to it, bytes or memoryview once it was sent. pcount: the segments it
    counts for. tstamp: when it was last sent (ns). sacked: SACKED_*, TAG_LOST and EVER_RETRANS bits. tx_delivered: what had been
    delivered then.
    """

    __slots__ = ("seq", "end_seq", "data", "flags", "pcount", "sacked", "tstamp", "eor", "truesize", "tx_delivered")

    def __init__(self, seq: int, data: Any, flags: int) -> None:
        self.seq = seq
        self.end_seq = seq + len(data)
        self.data = data
        self.flags = flags
        self.pcount: int = 0
        self.sacked: int = 0
        self.tstamp: int = 0
        self.tx_delivered: int = 0
        self.eor: bool = False
        self.truesize: int = SKB_TRUESIZE + len(data)


class RxSeg:
    """Received bytes waiting: in order in the receive queue, or beyond a hole in the out-of-order queue."""

    __slots__ = ("seq", "end_seq", "data", "truesize", "fin")

    def __init__(self, seq: int, data: Any, fin: bool) -> None:
        self.seq = seq
        self.data = data
        self.end_seq = seq + len(data) + fin
        self.truesize: int = SKB_TRUESIZE + len(data)
        self.fin = fin


class Listen:
    """What makes a socket a listener. Linux: struct request_sock_queue, sk_ack_backlog, sk_max_ack_backlog."""

    __slots__ = ("backlog", "qlen", "young", "accept_queue", "defer_accept", "requests")

    def __init__(self, backlog: int) -> None:
        self.backlog = backlog
        self.qlen: int = 0  # requests in SYN-RECV: the SYN queue's length
        self.young: int = 0  # those whose SYN-ACK was not retransmitted
        self.accept_queue: deque[TcpSock] = deque()
        self.defer_accept: int = 0
        self.requests: dict[ReqSock, None] = {}


class ReqSock:
    """One half-open connection in the SYN queue. Linux: struct tcp_request_sock."""

    __slots__ = ("net", "listener", "af_ops", "state", "saddr", "sport", "daddr", "dport", "rcv_isn", "rcv_nxt", "snt_isn",
                 "snt_synack", "snt_last", "mss", "snd_wscale", "rcv_wscale", "wscale_ok", "sack_ok", "tstamp_ok", "ts_recent", "ts_off",
                 "rcv_wnd", "window_clamp", "num_retrans", "num_timeout", "timeout", "timer", "dst", "mark", "iif", "uid",
                 "ino", "last_oow_ack_time", "acked", "tos")

    def __init__(self, net: NetNamespace, listener: TcpSock) -> None:
        self.net = net
        self.listener = listener
        self.af_ops: Any = listener.af_ops
        self.state: int = TCP_NEW_SYN_RECV
        self.saddr: int = 0
        self.sport: int = 0
        self.daddr: int = 0
        self.dport: int = 0
        self.rcv_isn: int = 0
        self.rcv_nxt: int = 0
        self.snt_isn: int = 0
        self.snt_synack: int = 0  # when the first SYN-ACK left (ns)
        self.snt_last: int = 0  # and the last one
        self.mss: int = 0
        self.snd_wscale: int = 0
        self.rcv_wscale: int = 0
        self.wscale_ok: bool = False
        self.sack_ok: bool = False
        self.tstamp_ok: bool = False
        self.ts_recent: int = 0
        self.ts_off: int = 0
        self.rcv_wnd: int = 0
        self.window_clamp: int = 0
        self.num_retrans: int = 0
        self.num_timeout: int = 0
        self.timeout: int = TCP_TIMEOUT_INIT
        self.timer: Timer | None = None
        self.dst: Any = None
        self.mark: int = 0
        self.iif: int = 0
        self.uid: int = listener.uid
        self.ino: int = 0
        self.last_oow_ack_time: int = 0
        self.acked: bool = False
        self.tos: int = 0


class TimewaitSock:
    """A connection in TIME-WAIT, or in FIN-WAIT-2 without owner (`substate`). Linux: struct tcp_timewait_sock."""

    __slots__ = ("net", "af_ops", "state", "substate", "saddr", "sport", "daddr", "dport", "rcv_nxt", "snd_nxt", "rcv_wnd",
                 "rcv_wscale", "snd_wscale", "ts_recent", "ts_recent_stamp", "ts_off", "last_oow_ack_time", "bind_bucket",
                 "reuse", "reuseport", "bound_dev", "uid", "mark", "tos", "entry_stamp", "timer", "ino",
                 "family")

    def __init__(self, net: NetNamespace) -> None:
        self.net = net
        self.af_ops: Any = None
        self.family: int = 2
        self.state: int = TCP_TIME_WAIT
        self.substate: int = TCP_TIME_WAIT
        self.saddr: int = 0
        self.sport: int = 0
        self.daddr: int = 0
        self.dport: int = 0
        self.rcv_nxt: int = 0
        self.snd_nxt: int = 0
        self.rcv_wnd: int = 0
        self.rcv_wscale: int = 0
        self.snd_wscale: int = 0
        self.ts_recent: int = 0
        self.ts_recent_stamp: int = 0
        self.ts_off: int = 0
        self.last_oow_ack_time: int = 0
        self.bind_bucket: Any = None
        self.reuse: bool = False
        self.reuseport: bool = False
        self.bound_dev: int = 0
        self.uid: int = 0
        self.mark: int = 0
        self.tos: int = 0
        self.ino: int = 0
        self.entry_stamp: int = 0
        self.timer: Timer | None = None

    def deschedule(self) -> None:
        """It is gone: from the table, from its port, from the count. Linux: inet_twsk_deschedule_put()."""
        net = self.net
        if self.timer is not None:
            self.timer.cancel()
        key = (self.daddr, self.dport, self.saddr, self.sport)
        if net.socks.ehash.get(key) is self:
            del net.socks.ehash[key]
        if self.bind_bucket is not None:
            net.socks.put_port(self)
            net.host.tcp_tw_count -= 1


class TcpSock(Sock):
    """All state of one connection, or of one listener. Linux: struct tcp_sock + inet_connection_sock."""

    __slots__ = (
        "listen", "parent", "tsoffset", "mss_clamp", "user_mss", "mss_cache", "advmss", "pmtu_cookie", "sack_ok", "tstamp_ok",
        "wscale_ok", "snd_wscale", "rcv_wscale", "ts_recent", "ts_recent_stamp", "opt", "doff", "gso_max_segs",
        # send
        "write_seq", "snd_nxt", "snd_una", "snd_wnd", "snd_wl1", "snd_sml", "snd_up", "max_window", "pushed_seq", "lsndtime",
        "write_queue", "rtx_queue", "packets_out", "retrans_out", "sacked_out", "lost_out", "retrans_stamp", "undo_marker",
        "undo_retrans", "high_seq", "total_retrans", "nonagle", "notsent_lowat", "iss", "irs",
        # congestion
        "ca", "ca_state", "snd_cwnd", "snd_ssthresh", "snd_cwnd_cnt", "snd_cwnd_clamp", "snd_cwnd_used", "snd_cwnd_stamp",
        "prior_cwnd", "prior_ssthresh", "prr_delivered", "prr_out", "is_cwnd_limited", "max_packets_out", "cwnd_usage_seq",
        "reordering", "frto", "delivered", "lost", "pacing_rate", "app_limited", "is_sack_reneg",
        # RACK and TLP
        "highest_sack", "reord_seen", "dsack_dups", "rack_mstamp", "rack_end_seq", "rack_rtt_us", "rack_advanced", "rack_dsack_seen",
        "rack_last_delivered", "reo_wnd_steps", "reo_wnd_persist", "tlp_high_seq", "tlp_retrans",
        # RTT
        "srtt_us", "mdev_us", "mdev_max_us", "rttvar_us", "rtt_seq", "rto", "min_rtt_us", "backoff", "retransmits", "probes_out",
        "probes_tstamp", "total_rto", "rcv_tstamp", "user_timeout", "syn_retries", "linger2",
        # receive
        "rcv_nxt", "rcv_wup", "rcv_wnd", "copied_seq", "rcv_ssthresh", "window_clamp", "scaling_ratio", "receive_queue",
        "ofo_queue", "rcv_mss", "last_seg_size", "ato", "quick", "ack_pending", "ack_timeout", "pingpong", "lrcvtime",
        "dsack", "sack_recent", "dup_ack_counter", "compressed_ack", "compressed_ack_rcv_nxt", "last_oow_ack_time",
        "last_challenge", "bytes_received", "bytes_acked", "bytes_sent", "bytes_retrans", "segs_in", "segs_out",
        "data_segs_in", "data_segs_out", "rcv_ooopack", "inq",
        # timers
        "retransmit_timer", "pending", "delack_timer", "keepalive_timer", "keepalive_time", "keepalive_intvl",
        "keepalive_probes", "defer_accept", "syn_options", "passive", "orphan",
    )

    def __init__(self, net: NetNamespace, family: int, type_: int, protocol: int, prot: Proto, af_ops: Any) -> None:
        super().__init__(net, family, type_, protocol, prot, af_ops)
        self._init_options()
        self._init_send()
        self._init_receive()

    def _init_options(self) -> None:
        self.listen: Listen | None = None
        self.parent: TcpSock | None = None  # the listener, until accept(2) takes the connection
        self.passive: bool = False
        self.orphan: bool = False  # counted in host.tcp_orphans
        self.tsoffset: int = 0
        self.mss_clamp: int = 0xFFFF
        self.user_mss: int = 0
        self.mss_cache: int = TCP_MSS_DEFAULT
        self.advmss: int = 0
        self.pmtu_cookie: int = 0
        self.sack_ok: bool = False
        self.tstamp_ok: bool = False
        self.wscale_ok: bool = False
        self.snd_wscale: int = 0
        self.rcv_wscale: int = 0
        self.ts_recent: int = 0
        self.ts_recent_stamp: int = 0  # ns; 0: no timestamp seen
        self.opt: TcpOptions = NO_OPTIONS  # the last segment's options, used again while nothing in them changes
        self.doff: int = 20
        self.gso_max_segs: int = 1
        self.syn_options: TcpOptions = NO_OPTIONS

    def _init_send(self) -> None:
        self.iss: int = 0
        self.irs: int = 0
        self.write_seq: int = 0
        self.snd_nxt: int = 0
        self.snd_una: int = 0
        self.snd_wnd: int = 0
        self.snd_wl1: int = 0
        self.snd_sml: int = 0
        self.snd_up: int = 0
        self.max_window: int = 0
        self.pushed_seq: int = 0
        self.lsndtime: int = 0
        self.write_queue: deque[TxSeg] = deque()
        self.rtx_queue: deque[TxSeg] = deque()
        self.packets_out: int = 0
        self.retrans_out: int = 0
        self.sacked_out: int = 0
        self.lost_out: int = 0
        self.retrans_stamp: int = 0
        self.undo_marker: int | None = None
        self.undo_retrans: int = 0
        self.high_seq: int = 0
        self.total_retrans: int = 0
        self.nonagle: int = 0
        self.notsent_lowat: int = 0
        self.ca: CongestionControl | None = None
        self.ca_state: int = CA_OPEN
        self.snd_cwnd: int = TCP_INIT_CWND
        self.snd_ssthresh: int = TCP_INFINITE_SSTHRESH
        self.snd_cwnd_cnt: int = 0
        self.snd_cwnd_clamp: int = 0xFFFF_FFFF
        self.snd_cwnd_used: int = 0
        self.snd_cwnd_stamp: int = 0
        self.prior_cwnd: int = 0
        self.prior_ssthresh: int = 0
        self.prr_delivered: int = 0
        self.prr_out: int = 0
        self.is_cwnd_limited: bool = False
        self.max_packets_out: int = 0
        self.cwnd_usage_seq: int = 0
        self.reordering: int = self.net.sysctl.ipv4.tcp_reordering
        self.frto: bool = False
        self.delivered: int = 0
        self.lost: int = 0  # segments ever marked lost
        self.is_sack_reneg: bool = False
        self.highest_sack: int = 0  # end of the highest range that was selectively acknowledged; valid while sacked_out
        self.reord_seen: int = 0
        self.dsack_dups: int = 0
        self.rack_mstamp: int = -1  # when what was delivered was sent, of that sent last (ns)
        self.rack_end_seq: int = 0
        self.rack_rtt_us: int = 0
        self.rack_advanced: bool = False
        self.rack_dsack_seen: bool = False
        self.rack_last_delivered: int = 0
        self.reo_wnd_steps: int = 1
        self.reo_wnd_persist: int = 0
        self.tlp_high_seq: int = 0  # snd_nxt when a tail loss probe left; 0: none is out
        self.tlp_retrans: bool = False  # it repeated data
        self.pacing_rate: int = 1 << 62
        self.app_limited: int = 0
        self.srtt_us: int = 0  # smoothed RTT << 3
        self.mdev_us: int = TCP_TIMEOUT_INIT // 1000
        self.mdev_max_us: int = 0
        self.rttvar_us: int = 0
        self.rtt_seq: int = 0
        self.rto: int = TCP_TIMEOUT_INIT
        self.min_rtt_us: int = 0xFFFF_FFFF
        self.backoff: int = 0
        self.retransmits: int = 0
        self.probes_out: int = 0
        self.probes_tstamp: int = 0
        self.user_timeout: int = 0  # ns; TCP_USER_TIMEOUT
        self.syn_retries: int = 0
        self.linger2: int = 0  # ns; TCP_LINGER2, -1: none
        self.total_rto: int = 0
        self.bytes_acked: int = 0
        self.bytes_sent: int = 0
        self.bytes_retrans: int = 0
        self.segs_out: int = 0
        self.data_segs_out: int = 0
        self.pending: int = TIME_NONE
        self.keepalive_time: int = 0
        self.keepalive_intvl: int = 0
        self.keepalive_probes: int = 0
        self.defer_accept: int = 0

    def _init_receive(self) -> None:
        self.rcv_nxt: int = 0
        self.rcv_wup: int = 0
        self.rcv_wnd: int = 0
        self.copied_seq: int = 0
        self.rcv_ssthresh: int = 0
        self.window_clamp: int = 0
        self.scaling_ratio: int = 128  # of 256: how much of the buffer is worth offering as window
        self.receive_queue: deque[RxSeg] = deque()
        self.ofo_queue: list[RxSeg] = []  # sorted, not overlapping
        self.rcv_mss: int = TCP_MIN_MSS
        self.last_seg_size: int = 0
        self.ato: int = 0
        self.quick: int = 0
        self.ack_pending: int = 0
        self.ack_timeout: int = 0
        self.pingpong: int = 0
        self.lrcvtime: int = 0
        self.rcv_tstamp: int = 0
        self.dsack: tuple[int, int] | None = None
        self.sack_recent: list[int] = []  # left edges of out-of-order ranges, the newest first
        self.dup_ack_counter: int = 0
        self.compressed_ack: int = 0
        self.compressed_ack_rcv_nxt: int = 0
        self.last_oow_ack_time: int = 0
        self.last_challenge: int = 0
        self.bytes_received: int = 0
        self.segs_in: int = 0
        self.data_segs_in: int = 0
        self.rcv_ooopack: int = 0
        self.inq: bool = False
        self.retransmit_timer: Timer
        self.delack_timer: Timer
        self.keepalive_timer: Timer


def tcp_is_orphan(tp: TcpSock) -> bool:
    """No program holds the socket any more."""
    return tp.flags & SOCK_DEAD != 0


def tcp_packets_in_flight(tp: TcpSock) -> int:
    """Segments believed to be in the network. RFC 6675 "pipe". Linux: the same."""
    return tp.packets_out - tp.sacked_out - tp.lost_out + tp.retrans_out


def tcp_receive_window(tp: TcpSock) -> int:
    """What is left of the window that was offered last. Linux: the same."""
    win = tp.rcv_wup + tp.rcv_wnd - tp.rcv_nxt
    return win if win > 0 else 0


def tcp_full_space(tp: TcpSock) -> int:
    """The window that an empty receive buffer allows. Linux: the same."""
    return tp.rcvbuf * tp.scaling_ratio >> 8


def tcp_space(tp: TcpSock) -> int:
    """The window that the free part of the receive buffer allows; may be negative. Linux: the same."""
    return (tp.rcvbuf - tp.rmem_alloc) * tp.scaling_ratio >> 8


def tcp_time_stamp(net: NetNamespace, offset: int) -> int:
    """The TSval to send now: milliseconds and the connection's offset. RFC 7323 5.4. Linux: tcp_time_stamp_ms()."""
    return (net.loop.now // 1_000_000 + offset) & 0xFFFF_FFFF
