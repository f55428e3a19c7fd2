"""ICMP: answering echoes, telling senders what went wrong, and telling sockets what others reported.

    icmp_send(skb, type, code, info)   an error about `skb` goes to its sender; `skb` stays the caller's (who drops it).
                                       info: the MTU for "fragmentation needed", the gateway for a redirect, else 0
    icmp_rcv(skb)                      what comes in: echo, echo reply (ping sockets), errors, redirects
    net.icmp: IcmpState                .send is icmp_send, for layers below; .ping_rcv(skb), .raw_deliver(skb, proto),
                                       .raw_err(skb, proto, info) are set by whoever has such sockets

An error quotes the packet's headers and data as far as 576 bytes allow, with TOS 0xc0 and without DF. No error is sent
about an ICMP error, a later fragment, or a packet that was not for one machine (RFC 1122 3.2.2). Errors named in
icmp_ratemask are limited twice: per machine (icmp_msgs_per_sec, burst 50) and per target (one per icmp_ratelimit ms,
burst 6); "fragmentation needed" and what stays on lo are exempt.

simplified: the machine's bucket loses no random tokens; timestamps are not answered; redirects are worked in here, not
by each socket. Sources: RFC 792, RFC 1122 3.2.2, RFC 1812 4.3; Linux net/ipv4/icmp.c, inetpeer.c
inet_peer_xrlim_allow().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kubenet.kernel.dev.device import IFF_LOOPBACK
from kubenet.kernel.ipv4.output import ip_select_ident, ip_send_skb
from kubenet.kernel.ipv4.pmtu import ip_do_redirect, ipv4_update_pmtu
from kubenet.kernel.ipv4.route import (
    RT_SCOPE_LINK,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    Dst,
    dst_mtu,
    inet_select_addr,
    ip_route_output_key,
    max_conf,
)
from kubenet.kernel.skbuff import CSUM_BAD, ETH_P_IP, PACKET_HOST, DropReason, SkBuff, arm, drop, station
from kubenet.units import MSEC, SEC
from kubenet.wire.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    ICMP_FRAG_NEEDED,
    ICMP_HOST_UNREACH,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED,
    IcmpHdr,
    Quote,
    icmp_is_error,
)
from kubenet.wire.ipv4 import IP_OFFSET, IPPROTO_ICMP, IpHdr, ip_hdrlen
from kubenet.wire.packet import inner_to_bytes, l4_hdrlen, quote_len

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

ICMP_REDIR_HOST = 1
XRLIM_BURST_FACTOR = 6
REDIRECT_NUMBER, REDIRECT_LOAD, REDIRECT_SILENCE = 9, 20 * MSEC, 20480 * MSEC
PEERS_MAX = 4096

TYPE_NAMES = {0: "EchoReps", 3: "DestUnreachs", 4: "SrcQuenchs", 5: "Redirects", 8: "Echos", 11: "TimeExcds",
              12: "ParmProbs", 13: "Timestamps", 14: "TimestampReps"}


class InetPeer:
    """What is remembered about one target of errors and redirects, which share `last`: after a redirect no limited error goes there
    for icmp_ratelimit. tokens and last: ns. Linux: struct inet_peer (rate_tokens, rate_last, n_redirects)."""

    __slots__ = ("tokens", "last", "redirects")

    def __init__(self, now: int) -> None:
        self.tokens: int = 0
        self.last: int = now - 60 * SEC
        self.redirects: int = 0


class IcmpState:
    """ICMP of one namespace."""

    __slots__ = ("net", "send", "ping_rcv", "raw_deliver", "raw_err", "credit", "credit_at", "peers")

    def __init__(self, net: NetNamespace) -> None:
        self.net = net
        self.send: Callable[[SkBuff, int, int, int], None] = icmp_send
        self.ping_rcv: Callable[[SkBuff], bool] | None = None
        self.raw_deliver: Callable[[SkBuff, int], bool] | None = None
        self.raw_err: Callable[[SkBuff, int, int], None] | None = None
        self.credit: int = 0
        self.credit_at: int = -SEC
        self.peers: dict[int, InetPeer] = {}

    def peer(self, addr: int) -> InetPeer:
        """Linux: inet_getpeer_v4()."""
        found = self.peers.get(addr)
        if found is None:
            if len(self.peers) >= PEERS_MAX:
                del self.peers[next(iter(self.peers))]
            found = self.peers[addr] = InetPeer(self.net.loop.now)
        return found


# -- limits ----------------------------------------------------------------------------------------------------------


def icmpv4_mask_allow(net: NetNamespace, type: int, code: int) -> bool:
    """True if this kind of message is not limited at all. Linux: icmpv4_mask_allow()."""
    if type > 18 or (type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED):
        return True
    return not net.sysctl.ipv4.icmp_ratemask >> type & 1


def icmp_global_allow(net: NetNamespace) -> bool:
    """The machine-wide token bucket has one left, and it is taken.

    Linux: icmp_global_allow(), icmp_global_consume().
    """
    state: IcmpState = net.icmp
    now, sysctl = net.loop.now, net.sysctl.ipv4
    gained = min(now - state.credit_at, SEC) * sysctl.icmp_msgs_per_sec // SEC
    if gained:
        state.credit = min(state.credit + gained, sysctl.icmp_msgs_burst)
        state.credit_at = now
    if state.credit <= 0:
        net.snmp["IcmpOutRateLimitGlobal"] += 1
        return False
    state.credit -= 1
    return True


def inet_peer_xrlim_allow(net: NetNamespace, addr: int) -> bool:
    """One message per icmp_ratelimit to each target, six at once after a pause. Linux: inet_peer_xrlim_allow()."""
    timeout = net.sysctl.ipv4.icmp_ratelimit * MSEC
    if timeout == 0:
        return True
    peer, now = net.icmp.peer(addr), net.loop.now
    tokens = min(peer.tokens + now - peer.last, XRLIM_BURST_FACTOR * timeout)
    peer.last = now
    allowed: bool = tokens >= timeout
    peer.tokens = tokens - timeout if allowed else tokens
    if not allowed:
        net.snmp["IcmpOutRateLimitHost"] += 1
    return allowed


# -- sending ---------------------------------------------------------------------------------------------------------


def icmp_send(skb: SkBuff, type: int, code: int, info: int = 0) -> None:
    """The sender of `skb` is told; `skb` stays the caller's. Linux: __icmp_send()."""
    net, ip = skb.net, skb.ip
    rt: Dst | None = skb.dst
    if rt is None or skb.protocol != ETH_P_IP or skb.pkt_type != PACKET_HOST:
        return
    if rt.type in (RTN_BROADCAST, RTN_MULTICAST) or ip.frag & IP_OFFSET or _about_icmp_error(skb, type):
        return
    limited = not icmpv4_mask_allow(net, type, code)
    on_lo = skb.dev is not None and skb.dev.flags & IFF_LOOPBACK
    if limited and not on_lo and not icmp_global_allow(net):
        return
    saddr = ip.daddr if rt.type == RTN_LOCAL else 0
    tos = ip.tos & 0x1E | 0xC0 if icmp_is_error(type) else ip.tos
    mark = skb.mark if net.sysctl.ipv4.fwmark_reflect else 0
    try:
        dst = ip_route_output_key(net, ip.saddr, saddr, 0, mark, tos, IPPROTO_ICMP)
    except OSError:
        net.snmp["IcmpOutErrors"] += 1
        return
    if limited and not dst.dev.flags & IFF_LOOPBACK and not inet_peer_xrlim_allow(net, ip.saddr):
        return
    room = min(dst_mtu(dst), 576) - 28
    rest = info if type != ICMP_PARAMETERPROB else info << 24
    cause = skb if icmp_is_error(type) else None
    _icmp_push(net, dst, dst.prefsrc, ip.saddr, IcmpHdr(type, code, rest), quote_of(skb, room), b"", tos, mark, cause)


def _about_icmp_error(skb: SkBuff, type: int) -> bool:
    """"An ICMP error message MUST NOT be sent as the result of receiving an ICMP error message" (RFC 1122 3.2.2)."""
    if not icmp_is_error(type) or skb.ip.proto != IPPROTO_ICMP:
        return False
    l4 = skb.l4
    return l4 is None or l4.type > 18 or icmp_is_error(l4.type)


def quote_of(skb: SkBuff, room: int) -> Quote:
    """The packet's headers and as much of its data as `room` bytes hold."""
    ip, l4 = skb.ip.copy(), skb.l4
    left = max(0, room - ip_hdrlen(ip) - l4_hdrlen(l4))
    data = skb.payload if skb.inner is None else bytes(skb.payload) + inner_to_bytes(skb.inner)
    quoted = bytes(data[:left])
    return Quote(ip, None if l4 is None else l4.copy(), quoted, skb.len if skb.len > room else 0)


def _icmp_push(
    net: NetNamespace, dst: Dst, saddr: int, daddr: int, icmp: IcmpHdr, quote: Quote | None, payload: bytes, tos: int,
    mark: int, cause: SkBuff | None = None,
) -> None:
    """The message is on its way; an error belongs to its cause's connection. Linux: icmp_push_reply(), icmp_glue_bits()."""
    plen = quote_len(quote) if quote is not None else len(payload)
    ident = ip_select_ident(net, saddr, daddr, IPPROTO_ICMP)
    ip = IpHdr(saddr, daddr, IPPROTO_ICMP, ident, 0, net.sysctl.ipv4.ip_default_ttl, tos)
    skb = SkBuff(net, ETH_P_IP, ip, icmp, payload, plen, 28 + plen)
    skb.inner = quote
    skb.dst = dst
    skb.mark = mark
    if cause is not None and cause.ct is not None:  # of a first packet too, whose connection is in no table yet
        from kubenet.kernel.netfilter.conntrack import nf_conntrack_attach

        nf_conntrack_attach(skb, cause)
    arm(skb, quote is not None)
    if skb.tr is not None:
        station(skb, "icmp_push_reply", icmp_words(icmp))
    icmp_out_count(net, icmp.type)
    ip_send_skb(skb)


def icmp_out_count(net: NetNamespace, type: int) -> None:
    """An ICMP message of this type was made here. Linux: icmp_out_count()."""
    net.snmp["IcmpOutMsgs"] += 1
    name = TYPE_NAMES.get(type)
    if name is not None:
        net.snmp["IcmpOut" + name] += 1


def icmp_words(icmp: IcmpHdr) -> str:
    """A few words for people."""
    if icmp.type == ICMP_DEST_UNREACH:
        names = ("network", "host", "protocol", "port", "fragmentation needed", "source route failed")
        return (names[icmp.code] if icmp.code < 6 else f"code {icmp.code}") + (" unreachable" if icmp.code < 4 else "")
    return {0: "echo reply", 4: "source quench", 5: "redirect", 8: "echo request", 11: "time exceeded",
            12: "parameter problem"}.get(icmp.type, f"type {icmp.type}")


def ip_rt_send_redirect(skb: SkBuff) -> None:
    """The sender learns the shorter way, unless it has not listened nine times. Linux: ip_rt_send_redirect()."""
    net, rt = skb.net, skb.dst
    if not max_conf(net, rt.dev, "send_redirects"):
        return
    peer, now = net.icmp.peer(skb.ip.saddr), net.loop.now
    if now > peer.last + REDIRECT_SILENCE:
        peer.tokens = peer.redirects = 0
    if peer.redirects >= REDIRECT_NUMBER:
        peer.last = now
        return
    if peer.redirects == 0 or now > peer.last + (REDIRECT_LOAD << peer.redirects):
        icmp_send(skb, ICMP_REDIRECT, ICMP_REDIR_HOST, rt.nexthop)
        peer.last = now
        peer.redirects += 1


def ipv4_link_failure(skb: SkBuff) -> None:
    """The next hop does not answer ARP: its sender, also a local socket, is told. Linux: ipv4_link_failure()."""
    icmp_send(skb, ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, 0)


# -- receiving -------------------------------------------------------------------------------------------------------


def icmp_rcv(skb: SkBuff) -> None:
    """An ICMP message for this machine; it ends here. Linux: icmp_rcv()."""
    net, icmp = skb.net, skb.l4
    snmp = net.snmp
    snmp["IcmpInMsgs"] += 1
    if icmp is None or skb.csum == CSUM_BAD:
        if icmp is not None:
            snmp["IcmpInCsumErrors"] += 1
        return drop(skb, DropReason.ICMP_BAD)
    if skb.tr is not None:
        station(skb, "icmp_rcv", icmp_words(icmp))
    name = TYPE_NAMES.get(icmp.type)
    if name is None:
        return drop(skb, DropReason.ICMP_BAD)
    snmp["IcmpIn" + name] += 1
    if skb.dst.type in (RTN_BROADCAST, RTN_MULTICAST):
        if icmp.type != ICMP_ECHO or net.sysctl.ipv4.icmp_echo_ignore_broadcasts:
            return drop(skb, DropReason.NOT_SPECIFIED)
    if icmp.type == ICMP_ECHO:
        return icmp_echo(skb)
    if icmp.type == ICMP_ECHOREPLY:
        return _echo_reply(skb)
    if icmp.type in (ICMP_DEST_UNREACH, ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB, ICMP_SOURCE_QUENCH):
        return icmp_unreach(skb)
    if icmp.type == ICMP_REDIRECT:
        return icmp_redirect(skb)
    return None


def icmp_echo(skb: SkBuff) -> None:
    """The echo is answered from the address it was sent to, with its data.

    RFC 792; Linux: icmp_echo(), icmp_reply().
    """
    net, ip, echo = skb.net, skb.ip, skb.l4
    if net.sysctl.ipv4.icmp_echo_ignore_all:
        return
    mark = skb.mark if net.sysctl.ipv4.fwmark_reflect else 0
    saddr = ip.daddr if skb.dst.type == RTN_LOCAL else inet_select_addr(skb.dev, ip.saddr, RT_SCOPE_LINK)
    try:
        dst = ip_route_output_key(net, ip.saddr, saddr, 0, mark, ip.tos, IPPROTO_ICMP)
    except OSError:
        return
    _icmp_push(net, dst, saddr, ip.saddr, IcmpHdr(ICMP_ECHOREPLY, 0, echo.rest), None, skb.payload, ip.tos, mark)


def _echo_reply(skb: SkBuff) -> None:
    """For the ping socket that asked. Linux: ping_rcv()."""
    ping_rcv = skb.net.icmp.ping_rcv
    if ping_rcv is None or not ping_rcv(skb):
        drop(skb, DropReason.NO_SOCKET)


def icmp_unreach(skb: SkBuff) -> None:
    """The socket that sent the quoted packet hears of it. Linux: icmp_unreach(), icmp_socket_deliver()."""
    icmp, quote = skb.l4, skb.inner
    if not isinstance(quote, Quote) or not isinstance(quote.ip, IpHdr):
        return drop(skb, DropReason.ICMP_BAD)
    info = 0
    if icmp.type == ICMP_DEST_UNREACH:
        if icmp.code > 15:
            return None
        if icmp.code == ICMP_FRAG_NEEDED:
            info = icmp.rest & 0xFFFF
            if skb.net.sysctl.ipv4.ip_no_pmtu_disc:
                return None
    elif icmp.type == ICMP_PARAMETERPROB:
        info = icmp.rest >> 24
    if quote.l4 is None and len(quote.data) < 8:
        return drop(skb, DropReason.ICMP_BAD)
    net = skb.net
    if net.icmp.raw_err is not None:
        net.icmp.raw_err(skb, quote.ip.proto, info)
    proto = net.inet_protos.get(quote.ip.proto)
    if proto is not None and proto[1] is not None:
        proto[1](skb, info)
    return None


def icmp_err(skb: SkBuff, info: int) -> None:
    """An error about an ICMP message we sent: a new path MTU. (Ping sockets were told by raw_err.)

    Linux: icmp_err().
    """
    net, icmp, quote = skb.net, skb.l4, skb.inner
    if icmp.type == ICMP_DEST_UNREACH and icmp.code == ICMP_FRAG_NEEDED:
        ipv4_update_pmtu(net, quote.ip.daddr, info, quote.ip.saddr)


def icmp_redirect(skb: SkBuff) -> None:
    """A gateway knows a shorter way. Linux: icmp_redirect()."""
    quote = skb.inner
    if not isinstance(quote, Quote) or skb.l4.code > 3:
        return drop(skb, DropReason.ICMP_BAD)
    ip_do_redirect(skb.net, skb.dev, quote.ip.daddr, skb.ip.saddr, skb.l4.rest)
    return None
