"""The passive open: the SYN queue, the accept queue, and what happens when one of them is full.

    SYN       -> tcp_conn_request()   a ReqSock in the SYN queue (and in the table of connections); SYN-ACK
    ACK       -> tcp_check_req()      the full socket, in the accept queue; the request is gone
    accept(2) -> inet_csk_accept()    takes it from there, oldest first

listen(N) admits N+1 connections to the accept queue and N+1 requests to the SYN queue. With a full accept queue new SYNs are
dropped without a word (ListenOverflows, ListenDrops), so clients try again after a second. If it fills up while requests
wait, their last ACK is dropped too and the SYN-ACK sent again: the client believes it is connected, the server does not
(tcp_abort_on_overflow=1 resets it instead). Unanswered SYN-ACKs go again after 1, 3, 7, 15, 31 s; at 63 s the request ends.

A ReqSock's sequence numbers are the wire's; the child begins with them.

simplified: no SYN cookies, so a full SYN queue drops SYNs as with tcp_syncookies=0; no Fast Open. Closing a listener ends its
requests at once, where Linux lets each end at its next packet or timer.
Sources: RFC 9293 3.10.7.2, 3.10.7.4; Linux net/ipv4/tcp_input.c tcp_conn_request(), tcp_minisocks.c, inet_connection_sock.c.
"""

from __future__ import annotations

from errno import EAGAIN, EINVAL

from kubenet.kernel.skbuff import ETH_P_IP, DropReason, SkBuff, arm, drop, station
from kubenet.kernel.socket.sock import (
    IPPROTO_TCP,
    SOCK_BINDPORT_LOCK,
    SOCK_DEAD,
    SOCK_DONE,
    SOCK_KEEPOPEN,
    SOCK_NOSPACE,
    SOCK_RCVBUF_LOCK,
    SS_CONNECTED,
    TCP_CLOSE,
    TCP_LISTEN,
    TCP_SYN_RECV,
    oserror,
)
from kubenet.kernel.tcp.connect import tcp_v4_init_seq, tcp_v4_init_ts_off
from kubenet.kernel.tcp.output import (
    tcp_oow_rate_limited,
    tcp_reply,
    tcp_setup_caps,
    tcp_sync_mss,
    tcp_v4_send_reset,
)
from kubenet.kernel.tcp.reassembly import tcp_initialize_rcv_mss
from kubenet.kernel.tcp.rtt import tcp_valid_rtt_meas
from kubenet.kernel.tcp.seq import M32, extend
from kubenet.kernel.tcp.sock import (
    TCP_MAX_WSCALE,
    TCP_MSS_DEFAULT,
    TCP_TIMEOUT_INIT,
    Listen,
    ReqSock,
    TcpSock,
    tcp_full_space,
    tcp_time_stamp,
)
from kubenet.kernel.tcp.states import inet_csk_destroy_sock, tcp_set_state
from kubenet.kernel.tcp.timers import keepalive_time_when, tcp_init_xmit_timers, tcp_reset_keepalive_timer
from kubenet.kernel.tcp.timewait import tcp_in_window, tcp_paws_reject
from kubenet.kernel.tcp.window import tcp_select_initial_window
from kubenet.sim.timer import Timer
from kubenet.wire.tcp import ACK, FIN, NO_OPTIONS, RST, SYN, TcpHdr, TcpOptions, tcp_options_len

RTN_BROADCAST, RTN_MULTICAST = 3, 5

# what an accepted socket has from its listener. Linux: sk_clone_lock()
INHERITED = (
    "bound_dev", "uid", "mark", "priority", "tos", "ttl", "pmtudisc", "freebind", "recverr", "transparent", "sndbuf", "rcvbuf",
    "reuse", "reuseport", "rcvlowat", "sndtimeo", "rcvtimeo", "lingertime", "user_mss", "nonagle", "notsent_lowat",
    "user_timeout", "syn_retries", "linger2", "keepalive_time", "keepalive_intvl", "keepalive_probes", "scaling_ratio",
    "peercred", "inq",
)


# ---- listen(2), accept(2), close(2)


def inet_csk_listen_start(tp: TcpSock, backlog: int) -> None:
    """SYNs to the socket's port are taken from now on. EADDRINUSE. Linux: the same."""
    tp.listen = Listen(backlog)
    tcp_set_state(tp, TCP_LISTEN)
    try:
        tp.prot.get_port(tp, tp.sport)
    except OSError:
        tp.listen = None
        tp.state = TCP_CLOSE
        raise
    tp.dst = None
    tp.net.socks.hash_listener(tp)


def inet_csk_listen_stop(tp: TcpSock) -> None:
    """Nothing is left of the listener's queues: connections that nobody accepted are reset. Linux: the same."""
    listen = tp.listen
    assert listen is not None
    tp.listen = None
    for req in list(listen.requests):
        _unlink(listen, req)
    while listen.accept_queue:
        inet_child_forget(listen.accept_queue.popleft())


def inet_child_forget(child: TcpSock) -> None:
    """A connection without owner ends with a reset. Linux: the same."""
    child.parent = None
    child.prot.disconnect(child)
    child.flags |= SOCK_DEAD
    inet_csk_destroy_sock(child)


def sk_acceptq_is_full(tp: TcpSock) -> bool:
    """No room for another connection; listen(N) has room for N + 1. Linux: the same."""
    listen = tp.listen
    assert listen is not None
    return len(listen.accept_queue) > listen.backlog


class _Acceptable:
    """There is something to accept, or never will be again."""

    __slots__ = ("tp",)

    def __init__(self, tp: TcpSock) -> None:
        self.tp = tp

    def __call__(self) -> bool:
        listen = self.tp.listen
        return listen is None or len(listen.accept_queue) > 0


def inet_csk_accept(tp: TcpSock, timeout: int | None) -> TcpSock:
    """The oldest connection of the accept queue. EINVAL if not listening, EAGAIN. accept(2). Linux: the same."""
    if tp.state != TCP_LISTEN:
        raise oserror(EINVAL)
    if not tp.wait.until(_Acceptable(tp), timeout):
        raise oserror(EAGAIN)
    listen = tp.listen
    if listen is None:  # closed or shut down meanwhile
        raise oserror(EINVAL)
    child = listen.accept_queue.popleft()
    child.parent = None
    child.ss_state = SS_CONNECTED
    inos = tp.net.host.ids
    inos["socket"] = child.ino = inos.get("socket", 10000) + 1  # the inode is the descriptor's: none before accept(2)
    return child


# ---- the SYN


def tcp_conn_request(tp: TcpSock, skb: SkBuff) -> None:
    """The SYN has a request in the SYN queue and was answered, or it was dropped. Linux: the same."""
    net = tp.net
    listen = tp.listen
    assert listen is not None
    if getattr(skb.dst, "type", 0) in (RTN_BROADCAST, RTN_MULTICAST):
        return tcp_listendrop(tp, skb, DropReason.TCP_INVALID_SYN)
    tw_isn = skb.cb if isinstance(skb.cb, int) else 0  # it reopens a connection in TIME-WAIT
    if listen.qlen > listen.backlog and not tw_isn:
        net.snmp["TcpExtTCPReqQFullDrop"] += 1
        return tcp_listendrop(tp, skb, DropReason.TCP_REQQ_FULL)
    if sk_acceptq_is_full(tp):
        net.snmp["TcpExtListenOverflows"] += 1
        return tcp_listendrop(tp, skb, DropReason.TCP_LISTEN_OVERFLOW)
    req = tcp_openreq_init(tp, skb)
    try:
        req.dst = tp.af_ops.route(net, tp, req.daddr, req.saddr, tp.bound_dev, req.dport)
    except OSError:
        return tcp_listendrop(tp, skb, DropReason.IP_OUTNOROUTES)
    if req.tstamp_ok:
        req.ts_off = tcp_v4_init_ts_off(skb)
    if not tw_isn and not net.sysctl.ipv4.tcp_syncookies:
        most = net.sysctl.ipv4.tcp_max_syn_backlog
        if most - listen.qlen < most >> 2:  # the last quarter is for peers that have proved they exist
            return tcp_listendrop(tp, skb, DropReason.TCP_REQQ_FULL)
    req.snt_isn = tw_isn or tcp_v4_init_seq(skb)
    tcp_openreq_init_rwin(req, tp)
    inet_csk_reqsk_queue_hash_add(req)
    if skb.tr is not None:
        s = station(skb, "tcp_conn_request", f"SYN queue {listen.qlen}, accept queue {len(listen.accept_queue)}")
        s.data = {"syn_queue": listen.qlen, "accept_queue": len(listen.accept_queue), "backlog": listen.backlog}
    tcp_v4_send_synack(req)


def tcp_listendrop(tp: TcpSock, skb: SkBuff | None, reason: int) -> None:
    """A connection attempt was dropped, and counted. Linux: the same."""
    tp.drops += 1
    tp.net.snmp["TcpExtListenDrops"] += 1
    if skb is not None:
        drop(skb, reason)


def tcp_openreq_init(tp: TcpSock, skb: SkBuff) -> ReqSock:
    """A request that knows what the SYN offered and the namespace allows. Linux: tcp_openreq_init()."""
    net, th, ip, opt = tp.net, skb.l4, skb.ip, skb.l4.options
    sysctl = net.sysctl.ipv4
    req = ReqSock(net, tp)
    req.saddr, req.sport, req.daddr, req.dport = ip.daddr, th.dport, ip.saddr, th.sport
    req.rcv_isn = th.seq
    req.rcv_nxt = th.seq + 1
    req.mss = opt.mss or TCP_MSS_DEFAULT
    if tp.user_mss:
        req.mss = min(req.mss, tp.user_mss)
    req.tstamp_ok = opt.ts and bool(sysctl.tcp_timestamps)
    req.ts_recent = opt.tsval if req.tstamp_ok else 0
    req.sack_ok = opt.sack_perm and bool(sysctl.tcp_sack)
    req.wscale_ok = opt.wscale >= 0 and bool(sysctl.tcp_window_scaling)
    req.snd_wscale = min(opt.wscale, TCP_MAX_WSCALE) if req.wscale_ok else 0
    req.mark = skb.mark if sysctl.tcp_fwmark_accept else tp.mark
    req.iif = skb.iif
    req.tos = tp.tos
    return req


def tcp_openreq_init_rwin(req: ReqSock, tp: TcpSock) -> None:
    """The window that the SYN-ACK offers. Linux: the same."""
    space = tcp_full_space(tp)
    clamp = tp.window_clamp
    if tp.userlocks & SOCK_RCVBUF_LOCK and not 0 < clamp <= space:
        clamp = space
    mss = _advmss(req, tp) - (12 if req.tstamp_ok else 0)
    req.rcv_wnd, req.window_clamp, req.rcv_wscale = tcp_select_initial_window(tp, space, mss, clamp, req.wscale_ok)


def _advmss(req: ReqSock, tp: TcpSock) -> int:
    """The MSS to announce: the route's, at most TCP_MAXSEG. Linux: tcp_mss_clamp()."""
    mss: int = tp.af_ops.advmss(req.dst)
    return min(mss, tp.user_mss) if tp.user_mss else mss


# ---- the SYN queue


def inet_csk_reqsk_queue_hash_add(req: ReqSock) -> None:
    """Segments of the connection find the request, and its timer runs. Linux: the same."""
    net, listen = req.net, req.listener.listen
    assert listen is not None
    req.timeout = TCP_TIMEOUT_INIT
    req.timer = Timer(net.loop, reqsk_timer_handler, req)
    req.timer.mod(net.loop.now + req.timeout)
    net.socks.ehash[(req.daddr, req.dport, req.saddr, req.sport)] = req
    listen.requests[req] = None
    listen.qlen += 1
    listen.young += 1


def _unlink(listen: Listen, req: ReqSock) -> None:
    """The queue, the table and the timer no longer know the request."""
    del listen.requests[req]
    listen.qlen -= 1
    if req.num_timeout == 0:
        listen.young -= 1
    if req.timer is not None:
        req.timer.cancel()
    table = req.net.socks.ehash
    key = (req.daddr, req.dport, req.saddr, req.sport)
    if table.get(key) is req:
        del table[key]


def inet_csk_reqsk_queue_drop(req: ReqSock) -> bool:
    """The request is gone; False if it was before. Linux: the same."""
    listen = req.listener.listen
    if listen is None or req not in listen.requests:
        return False
    _unlink(listen, req)
    return True


def reqsk_timeout(req: ReqSock) -> int:
    """How long the SYN-ACK sent now may stay unanswered: 1 s, doubled with every timeout. Linux: tcp_reqsk_timeout()."""
    return min(req.timeout << req.num_timeout, req.net.sysctl.ipv4.tcp_rto_max_ms * 1_000_000)


def reqsk_timer_handler(req: ReqSock) -> None:
    """The SYN-ACK is sent again, or the request ends. Old requests end sooner while they fill the queue. Linux: the same."""
    tp, net = req.listener, req.net
    listen = tp.listen
    if listen is None or req not in listen.requests:
        return
    retries = tp.syn_retries or net.sysctl.ipv4.tcp_synack_retries
    if listen.qlen << 1 > max(8, listen.backlog):  # keep half of the room for young requests
        young = listen.young << 1
        while retries > 2 and listen.qlen >= young:
            retries -= 1
            young <<= 1
    expire, resend = _syn_ack_recalc(req, retries, tp.defer_accept)
    net.snmp["TcpExtTCPTimeouts"] += 1
    if expire or (resend and tcp_rtx_synack(req) and not req.acked):
        inet_csk_reqsk_queue_drop(req)
        return
    if req.num_timeout == 0:
        listen.young -= 1
    req.num_timeout += 1
    assert req.timer is not None
    req.timer.mod(net.loop.now + reqsk_timeout(req))


def _syn_ack_recalc(req: ReqSock, retries: int, defer_accept: int) -> tuple[bool, bool]:
    """(give up, send again). TCP_DEFER_ACCEPT waits for data in silence. Linux: syn_ack_recalc()."""
    if not defer_accept:
        return req.num_timeout >= retries, True
    expire = req.num_timeout >= retries and (not req.acked or req.num_timeout >= defer_accept)
    return expire, not req.acked or req.num_timeout >= defer_accept - 1


# ---- the SYN-ACK


def tcp_make_synack(req: ReqSock) -> SkBuff:
    """The SYN-ACK offers what the SYN offered. RFC 9293 3.10.7.2. Linux: the same."""
    tp, net = req.listener, req.net
    now = net.loop.now
    opt = TcpOptions(_advmss(req, tp))
    if req.tstamp_ok:
        opt.ts, opt.tsval, opt.tsecr = True, tcp_time_stamp(net, req.ts_off) or 1, req.ts_recent
    if req.wscale_ok:
        opt.wscale = req.rcv_wscale
    opt.sack_perm = req.sack_ok
    if not req.snt_synack:
        req.snt_synack = now or 1
    req.snt_last = now
    doff = 20 + tcp_options_len(opt)
    th = TcpHdr(req.sport, req.dport, req.snt_isn & M32, req.rcv_nxt & M32, SYN | ACK, min(req.rcv_wnd, 65535), opt, 0, doff)
    net.snmp["TcpOutSegs"] += 1
    return SkBuff(net, ETH_P_IP, None, th, b"", 0, 20 + doff)


def tcp_v4_send_synack(req: ReqSock) -> int:
    """The SYN-ACK is on its way: 0, or -errno. Linux: the same."""
    skb = tcp_make_synack(req)
    skb.ip = req.af_ops.header_cls(req.saddr, req.daddr, IPPROTO_TCP)  # for the trace; IP makes its own
    arm(skb, True)
    if skb.tr is not None:
        station(skb, "tcp_v4_send_synack", "answered from the SYN queue")
    skb.mark = req.mark
    error: int = req.af_ops.build_and_send(req.net, req.listener, skb, req.saddr, req.daddr, req.dst)
    return error


def tcp_rtx_synack(req: ReqSock) -> int:
    """The SYN-ACK was sent once more: 0, or -errno. Linux: the same."""
    error = tcp_v4_send_synack(req)
    if not error:
        req.num_retrans += 1
        req.net.snmp["TcpRetransSegs"] += 1
        req.net.snmp["TcpExtTCPSynRetrans"] += 1
    return error


def tcp_v4_reqsk_send_ack(req: ReqSock, skb: SkBuff) -> None:
    """What the request expects next, for a segment that does not fit. Linux: the same."""
    options = NO_OPTIONS
    if req.tstamp_ok:
        options = TcpOptions(ts=True, tsval=tcp_time_stamp(req.net, req.ts_off), tsecr=req.ts_recent)
    window = min(req.rcv_wnd, 65535) >> req.rcv_wscale
    tcp_reply(skb, req.snt_isn + 1, req.rcv_nxt, ACK, window, options, req.listener, req.tos)


# ---- the final ACK


def tcp_check_req(req: ReqSock, skb: SkBuff) -> TcpSock | None:
    """The full socket that shall process the segment, or None: the segment was answered or dropped here.

    RFC 9293 3.10.7.4 for SYN-RECEIVED. Linux: the same.
    """
    net, th = req.net, skb.l4
    opt, flags = th.options, th.flags
    seq = extend(th.seq, req.rcv_nxt)
    end_seq = seq + skb.plen + (flags & FIN != 0) + (flags & SYN != 0)
    saw_ts = opt.ts and bool(net.sysctl.ipv4.tcp_timestamps)
    paws = saw_ts and tcp_paws_reject(
        net.loop.now, req.ts_recent, net.loop.now - reqsk_timeout(req), opt.tsval, flags & RST != 0)
    if seq == req.rcv_isn and flags & (SYN | ACK | RST | FIN) == SYN and not paws:
        return _syn_again(req, skb)
    if flags & ACK and th.ack_seq != (req.snt_isn + 1) & M32:  # the listener resets what was never sent
        tcp_v4_send_reset(skb)
        return _discard(skb, DropReason.TCP_INVALID_ACK_SEQUENCE)
    bad_tsecr = saw_ts and req.tstamp_ok and opt.tsecr != 0 and not _tsecr_is_ours(req, opt.tsecr)
    if paws or bad_tsecr or not tcp_in_window(seq, end_seq, req.rcv_nxt, req.rcv_nxt + min(req.rcv_wnd, 65535)):
        return _outside(req, skb, seq, end_seq, paws, bad_tsecr)
    if saw_ts and seq <= req.rcv_nxt:
        req.ts_recent = opt.tsval
    if seq == req.rcv_isn:
        flags &= ~SYN  # the SYN itself is old: it is cut off
    if flags & (RST | SYN):  # second, check the RST bit; fourth, check the SYN bit
        net.snmp["TcpAttemptFails"] += 1
        return _embryonic_reset(req, skb, flags)
    if not flags & ACK:  # fifth, check the ACK field
        return _discard(skb, DropReason.TCP_FLAGS)
    if req.num_timeout < req.listener.defer_accept and end_seq == req.rcv_isn + 1:
        req.acked = True
        net.snmp["TcpExtTCPDeferAcceptDrop"] += 1
        return _discard(skb, DropReason.TCP_FLAGS)
    return _open(req, skb, flags)


def _open(req: ReqSock, skb: SkBuff, flags: int) -> TcpSock | None:
    """The handshake is complete: the child is in the accept queue, unless that is full."""
    child = tcp_v4_syn_recv_sock(req, skb)
    if child is not None:
        tcp_synack_rtt_meas(child, req)
        inet_csk_complete_hashdance(req, child)
        return child
    if not req.net.sysctl.ipv4.tcp_abort_on_overflow:
        req.acked = True
        return _discard(skb, DropReason.TCP_LISTEN_OVERFLOW)
    return _embryonic_reset(req, skb, flags)


def _discard(skb: SkBuff, reason: int) -> TcpSock | None:
    drop(skb, reason)
    return None


def _syn_again(req: ReqSock, skb: SkBuff) -> TcpSock | None:
    """The same SYN once more: the SYN-ACK was lost, and goes again at once."""
    if not tcp_oow_rate_limited(req, "TcpExtTCPACKSkippedSynRecv") and not tcp_rtx_synack(req):
        assert req.timer is not None
        req.timer.mod(req.net.loop.now + reqsk_timeout(req))
    return _discard(skb, DropReason.TCP_OLD_DATA)


def _tsecr_is_ours(req: ReqSock, tsecr: int) -> bool:
    """The echoed timestamp is one of our SYN-ACKs': from the first to the last. Linux: snt_tsval_first, snt_tsval_last."""
    first = (req.snt_synack // 1_000_000 + req.ts_off) & M32
    last = (req.snt_last // 1_000_000 + req.ts_off) & M32
    return (last - first) & M32 >= (tsecr - first) & M32


def _outside(req: ReqSock, skb: SkBuff, seq: int, end_seq: int, paws: bool, bad_tsecr: bool) -> TcpSock | None:
    """Outside the window: an ACK says what is expected, and the segment is dropped."""
    if not skb.l4.flags & RST:
        if (seq != end_seq and not skb.l4.flags & SYN) or not tcp_oow_rate_limited(req, "TcpExtTCPACKSkippedSynRecv"):
            tcp_v4_reqsk_send_ack(req, skb)
    if paws:
        return _discard(skb, DropReason.TCP_RFC7323_PAWS)
    if bad_tsecr:
        req.net.snmp["TcpExtTSEcrRejected"] += 1
        return _discard(skb, DropReason.TCP_INVALID_ACK_SEQUENCE)
    return _discard(skb, DropReason.TCP_INVALID_SEQUENCE)


def _embryonic_reset(req: ReqSock, skb: SkBuff, flags: int) -> TcpSock | None:
    """The request ends; the peer is told, unless it was the one that said so."""
    if not flags & RST:
        tcp_v4_send_reset(skb)
    if inet_csk_reqsk_queue_drop(req):
        req.net.snmp["TcpExtEmbryonicRsts"] += 1
    return _discard(skb, DropReason.TCP_RESET)


def inet_csk_complete_hashdance(req: ReqSock, child: TcpSock) -> None:
    """The child takes the request's place, and waits for accept(2). Linux: the same."""
    tp = req.listener
    assert tp.listen is not None
    inet_csk_reqsk_queue_drop(req)
    tp.net.socks.hash_established(child)
    tp.listen.accept_queue.append(child)


def tcp_synack_rtt_meas(child: TcpSock, req: ReqSock) -> None:
    """The handshake is the first RTT sample, if the SYN-ACK was sent once. RFC 6298 3. Linux: the same."""
    if req.num_retrans or not req.snt_synack:
        return
    rtt_us = (child.net.loop.now - req.snt_synack) // 1000
    child.min_rtt_us = min(child.min_rtt_us, rtt_us or 1)
    tcp_valid_rtt_meas(child, rtt_us)


def tcp_v4_syn_recv_sock(req: ReqSock, skb: SkBuff) -> TcpSock | None:
    """The full socket of a completed handshake; None if the accept queue has no room for it. Linux: the same."""
    tp, net = req.listener, req.net
    if sk_acceptq_is_full(tp):
        net.snmp["TcpExtListenOverflows"] += 1
        tcp_listendrop(tp, None, 0)
        return None
    child = tcp_create_openreq_child(req, skb)
    child.saddr, child.daddr, child.dport = req.saddr, req.daddr, req.dport
    child.ip_ident = net.random("ip_ident").u32() & 0xFFFF
    child.dst = req.dst
    tcp_setup_caps(child)
    tcp_sync_mss(child, tp.af_ops.mtu(req.dst))
    child.advmss = _advmss(req, tp)
    tcp_initialize_rcv_mss(child)
    net.socks.bind_to(child, tp.sport, False)
    return child


def tcp_create_openreq_child(req: ReqSock, skb: SkBuff) -> TcpSock:
    """A copy of the listener that carries the request's state. Linux: inet_csk_clone_lock(), tcp_create_openreq_child()."""
    tp, now = req.listener, req.net.loop.now
    child = TcpSock(tp.net, tp.family, tp.type, tp.protocol, tp.prot, tp.af_ops)
    for name in INHERITED:
        setattr(child, name, getattr(tp, name))
    child.userlocks = tp.userlocks & ~SOCK_BINDPORT_LOCK
    child.flags = tp.flags & ~(SOCK_DEAD | SOCK_DONE | SOCK_NOSPACE)
    child.mark = req.mark
    child.state = TCP_SYN_RECV
    child.parent = tp
    child.passive = True
    child.ca = type(tp.ca)() if tp.ca is not None else None
    child.irs = req.rcv_isn
    child.rcv_wup = child.copied_seq = child.rcv_nxt = req.rcv_isn + 1
    child.iss = req.snt_isn
    child.snd_sml = child.snd_una = child.snd_nxt = child.snd_up = child.write_seq = child.pushed_seq = req.snt_isn + 1
    child.snd_wl1 = req.rcv_isn
    child.lrcvtime = child.lsndtime = now
    child.total_retrans = req.num_retrans
    child.total_rto = req.num_timeout
    child.segs_in = 1
    child.tstamp_ok, child.sack_ok, child.wscale_ok = req.tstamp_ok, req.sack_ok, req.wscale_ok
    child.window_clamp = req.window_clamp
    child.rcv_ssthresh = child.rcv_wnd = req.rcv_wnd
    if req.wscale_ok:
        child.snd_wscale, child.rcv_wscale = req.snd_wscale, req.rcv_wscale
    else:
        child.window_clamp = min(child.window_clamp, 65535)
    child.snd_wnd = child.max_window = skb.l4.window << child.snd_wscale
    if req.tstamp_ok:
        child.ts_recent, child.ts_recent_stamp = req.ts_recent, now or 1
        child.doff = 32
    child.tsoffset = req.ts_off
    child.mss_clamp = req.mss
    child.rto = TCP_TIMEOUT_INIT
    tcp_init_xmit_timers(child)
    if child.flags & SOCK_KEEPOPEN:
        tcp_reset_keepalive_timer(child, keepalive_time_when(child))
    tp.net.snmp["TcpPassiveOpens"] += 1
    return child


def listen_queues(tp: TcpSock) -> tuple[int, int]:
    """(connections that wait for accept(2), the backlog): what `ss` prints as Recv-Q and Send-Q of a listener."""
    assert tp.listen is not None
    return len(tp.listen.accept_queue), tp.listen.backlog
