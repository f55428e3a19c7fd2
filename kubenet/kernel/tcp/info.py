"""What can be seen of a TCP socket from outside: getsockopt(TCP_INFO), and what `ss` and /proc/net/tcp print.

tcp_get_info(tp) is struct tcp_info as a dict of its field names; pack_tcp_info(tp) its bytes. tcp_diag(sk) answers for all four
kinds of entry that the tables hold: connections, listeners, requests in the SYN queue, and TIME-WAIT.

    {"recv_q": 0, "send_q": 0, "timer": ("keepalive", ns left, tries) | None, "info": {...} | None, ...}

simplified: fields about what is not there yet (rates, chronographs, Fast Open, ECN) are 0.
Sources: Linux include/uapi/linux/tcp.h, net/ipv4/tcp.c tcp_get_info(), tcp_diag.c, inet_diag.c; ss(8).
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from kubenet.kernel.socket.sock import TCP_LISTEN
from kubenet.kernel.tcp.congestion.base import ALGORITHMS
from kubenet.kernel.tcp.sock import (
    TCP_INIT_CWND,
    TIME_LOSS_PROBE,
    TIME_PROBE0,
    TIME_REO_TIMEOUT,
    TIME_RETRANS,
    ReqSock,
    TcpSock,
    TimewaitSock,
)
from kubenet.units import MSEC, USEC

TCPI_OPT_TIMESTAMPS, TCPI_OPT_SACK, TCPI_OPT_WSCALE = 1, 2, 4

# struct tcp_info: (name, struct code), in order; snd_wscale and rcv_wscale share a byte, as do the flags after them
_LAYOUT: tuple[tuple[str, str], ...] = (
    ("state", "B"), ("ca_state", "B"), ("retransmits", "B"), ("probes", "B"), ("backoff", "B"), ("options", "B"),
    ("wscale", "B"), ("flags", "B"),
    ("rto", "I"), ("ato", "I"), ("snd_mss", "I"), ("rcv_mss", "I"), ("unacked", "I"), ("sacked", "I"), ("lost", "I"),
    ("retrans", "I"), ("fackets", "I"), ("last_data_sent", "I"), ("last_ack_sent", "I"), ("last_data_recv", "I"),
    ("last_ack_recv", "I"), ("pmtu", "I"), ("rcv_ssthresh", "I"), ("rtt", "I"), ("rttvar", "I"), ("snd_ssthresh", "I"),
    ("snd_cwnd", "I"), ("advmss", "I"), ("reordering", "I"), ("rcv_rtt", "I"), ("rcv_space", "I"), ("total_retrans", "I"),
    ("pacing_rate", "Q"), ("max_pacing_rate", "Q"), ("bytes_acked", "Q"), ("bytes_received", "Q"), ("segs_out", "I"),
    ("segs_in", "I"), ("notsent_bytes", "I"), ("min_rtt", "I"), ("data_segs_in", "I"), ("data_segs_out", "I"),
    ("delivery_rate", "Q"), ("busy_time", "Q"), ("rwnd_limited", "Q"), ("sndbuf_limited", "Q"), ("delivered", "I"),
    ("delivered_ce", "I"), ("bytes_sent", "Q"), ("bytes_retrans", "Q"), ("dsack_dups", "I"), ("reord_seen", "I"),
    ("rcv_ooopack", "I"), ("snd_wnd", "I"), ("rcv_wnd", "I"), ("rehash", "I"), ("total_rto", "H"),
    ("total_rto_recoveries", "H"), ("total_rto_time", "I"),
)
_TCP_INFO = Struct("<" + "".join(code for _, code in _LAYOUT))
_MAX = {"B": 0xFF, "H": 0xFFFF, "I": 0xFFFF_FFFF, "Q": (1 << 64) - 1}
NO_RATE = (1 << 64) - 1


def congestion_name(tp: TcpSock) -> str:
    """The algorithm's name; while the namespace's default has no code of its own, still under its name."""
    wanted = tp.net.sysctl.ipv4.tcp_congestion_control
    if tp.ca is None or (tp.ca.name == "reno" and wanted not in ALGORITHMS):
        return wanted
    return tp.ca.name


def tcp_get_info(tp: TcpSock) -> dict[str, int]:
    """struct tcp_info without the prefix tcpi_. Times in us, those since an event in ms. Linux: the same."""
    now = tp.net.loop.now
    listen = tp.listen
    info = {
        "state": tp.state, "ca_state": tp.ca_state, "retransmits": tp.retransmits, "probes": tp.probes_out,
        "backoff": tp.backoff, "options": _options(tp), "wscale": tp.snd_wscale | tp.rcv_wscale << 4, "flags": 0,
        "rto": tp.rto // USEC, "ato": tp.ato // USEC, "snd_mss": tp.mss_cache, "rcv_mss": tp.rcv_mss,
        "unacked": len(listen.accept_queue) if listen is not None else tp.packets_out,
        "sacked": listen.backlog if listen is not None else tp.sacked_out,
        "lost": tp.lost_out, "retrans": tp.retrans_out, "fackets": 0,
        "last_data_sent": (now - tp.lsndtime) // MSEC, "last_ack_sent": 0, "last_data_recv": (now - tp.lrcvtime) // MSEC,
        "last_ack_recv": (now - tp.rcv_tstamp) // MSEC, "pmtu": tp.pmtu_cookie, "rcv_ssthresh": tp.rcv_ssthresh,
        "rtt": tp.srtt_us >> 3, "rttvar": tp.mdev_us >> 2, "snd_ssthresh": tp.snd_ssthresh, "snd_cwnd": tp.snd_cwnd,
        "advmss": tp.advmss, "reordering": tp.reordering, "rcv_rtt": 0,
        "rcv_space": min(tp.rcv_ssthresh, tp.rcv_wnd, TCP_INIT_CWND * tp.advmss), "total_retrans": tp.total_retrans,
        "pacing_rate": tp.pacing_rate, "max_pacing_rate": NO_RATE, "bytes_acked": tp.bytes_acked,
        "bytes_received": tp.bytes_received, "segs_out": tp.segs_out, "segs_in": tp.segs_in,
        "notsent_bytes": max(tp.write_seq - tp.snd_nxt, 0), "min_rtt": tp.min_rtt_us, "data_segs_in": tp.data_segs_in,
        "data_segs_out": tp.data_segs_out, "delivery_rate": 0, "busy_time": 0, "rwnd_limited": 0, "sndbuf_limited": 0,
        "delivered": tp.delivered, "delivered_ce": 0, "bytes_sent": tp.bytes_sent, "bytes_retrans": tp.bytes_retrans,
        "dsack_dups": 0, "reord_seen": 0, "rcv_ooopack": tp.rcv_ooopack, "snd_wnd": tp.snd_wnd, "rcv_wnd": tp.rcv_wnd,
        "rehash": 0, "total_rto": tp.total_rto, "total_rto_recoveries": 0, "total_rto_time": 0,
    }
    return info


def _options(tp: TcpSock) -> int:
    return (
        (TCPI_OPT_TIMESTAMPS if tp.tstamp_ok else 0)
        | (TCPI_OPT_SACK if tp.sack_ok else 0)
        | (TCPI_OPT_WSCALE if tp.wscale_ok else 0)
    )


def pack_tcp_info(tp: TcpSock) -> bytes:
    """struct tcp_info as programs read it."""
    info = tcp_get_info(tp)
    return _TCP_INFO.pack(*(min(info[name], _MAX[code]) for name, code in _LAYOUT))


def tcp_timer(tp: TcpSock) -> tuple[str, int, int] | None:
    """(name, ns left, tries) of the timer that `ss -o` shows: on, persist or keepalive. Linux: inet_diag_msg timers."""
    now = tp.net.loop.now
    if tp.pending in (TIME_RETRANS, TIME_REO_TIMEOUT, TIME_LOSS_PROBE):
        return "on", max(tp.retransmit_timer.expires - now, 0), tp.retransmits
    if tp.pending == TIME_PROBE0:
        return "persist", max(tp.retransmit_timer.expires - now, 0), tp.probes_out
    if tp.keepalive_timer.pending:
        return "keepalive", max(tp.keepalive_timer.expires - now, 0), tp.probes_out
    return None


def tcp_diag(sk: Any) -> dict[str, Any]:
    """What `ss` shows of any entry of the tables beyond its addresses. Linux: tcp_diag_get_info(), inet_req_diag_fill()."""
    if isinstance(sk, TimewaitSock):
        left = sk.timer.expires - sk.net.loop.now if sk.timer is not None else 0
        return {"recv_q": 0, "send_q": 0, "timer": ("timewait", max(left, 0), 0), "info": None, "state": sk.substate}
    if isinstance(sk, ReqSock):
        left = sk.timer.expires - sk.net.loop.now if sk.timer is not None else 0
        return {"recv_q": 0, "send_q": 0, "timer": ("on", max(left, 0), sk.num_retrans), "info": None, "state": sk.state}
    tp: TcpSock = sk
    if tp.state == TCP_LISTEN and tp.listen is not None:
        recv_q, send_q = len(tp.listen.accept_queue), tp.listen.backlog
    else:
        recv_q, send_q = max(tp.rcv_nxt - tp.copied_seq, 0), tp.write_seq - tp.snd_una
    return {
        "recv_q": recv_q, "send_q": send_q, "timer": tcp_timer(tp), "state": tp.state, "info": tcp_get_info(tp),
        "cc": congestion_name(tp), "cc_info": tp.ca.info(tp) if tp.ca is not None else "",
        "skmem": (tp.rmem_alloc, tp.rcvbuf, tp.wmem_alloc, tp.sndbuf, 0, tp.wmem_queued, 0, 0, tp.drops),
    }
