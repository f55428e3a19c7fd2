"""UDP: datagrams between ports, each sent at once and received whole.

A socket is found by how well it fits: connected sockets by all four values, others by local address and port (compute_score()).
Nothing is retransmitted and nobody is told of losses; what there is to see are counters (UdpNoPorts, UdpRcvbufErrors) and, on a
connected socket, the ICMP errors: a port-unreachable makes the next call fail with ECONNREFUSED, once. Unconnected sockets hear
of errors only with IP_RECVERR, and host-unreachable is "soft" even then, as on Linux.

The receive buffer counts truesize, not bytes: a datagram of one byte takes 768 (head and bookkeeping), one of 1472 takes 2304.

simplified: a datagram leaves its socket's send buffer at once, so SO_SNDBUF never blocks; no UDP-Lite, no corking, no GRO.
Sources: RFC 768; Linux net/ipv4/udp.c, udp(7).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from errno import (
    EACCES,
    EADDRINUSE,
    EAGAIN,
    EDESTADDRREQ,
    EHOSTUNREACH,
    EINVAL,
    EMSGSIZE,
    ENETUNREACH,
    ENOPROTOOPT,
    ENOTCONN,
    EPIPE,
    EPROTO,
)
from typing import TYPE_CHECKING, Any

from kubenet.kernel.skbuff import CSUM_BAD, DropReason, SkBuff, drop, station
from kubenet.kernel.socket.errqueue import ICMP_ERR_CONVERT, ip_icmp_error
from kubenet.kernel.socket.inet import inet_register_protosw
from kubenet.kernel.socket.sock import (
    IPPROTO_UDP,
    MSG_PEEK,
    MSG_TRUNC,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLRDHUP,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SOCK_BINDADDR_LOCK,
    SOCK_BINDPORT_LOCK,
    SOCK_BROADCAST,
    SOCK_DGRAM,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    Proto,
    Sock,
    oserror,
    raise_sock_error,
)
from kubenet.wire.udp import UdpHdr

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

UDP_HLEN = 8
MAX_DATAGRAM = 65507  # 65535 - 20 - 8
RTN_BROADCAST, RTN_MULTICAST = 3, 5
FIONREAD, SIOCOUTQ = 0x541B, 0x5411

ICMP_DEST_UNREACH, ICMP_PARAMETERPROB, ICMP_TIME_EXCEEDED = 3, 12, 11
ICMP_PORT_UNREACH, ICMP_FRAG_NEEDED = 3, 4
class UdpTable:
    """The UDP sockets of one namespace, by local port, in the order they were bound."""

    __slots__ = ("ports",)

    def __init__(self) -> None:
        self.ports: dict[int, list[UdpSock]] = {}

    def dump(self) -> list[UdpSock]:
        """All of them, for ss."""
        return [sk for socks in self.ports.values() for sk in socks]


class UdpSock(Sock):
    """One UDP socket; the queue holds (data, (address, port), truesize).

    encap_rcv: who takes its datagrams instead of the queue, a tunnel's function; encap_err_lookup: is a quoted payload the tunnel's?
    """

    __slots__ = ("queue", "encap_rcv", "encap_err_lookup")

    def __init__(self, net: NetNamespace, family: int, type_: int, protocol: int, prot: Proto, af_ops: Any) -> None:
        super().__init__(net, family, type_, protocol, prot, af_ops)
        self.queue: deque[tuple[bytes, tuple[int, int], int]] = deque()
        self.encap_rcv: Callable[[UdpSock, SkBuff], None] | None = None
        self.encap_err_lookup: Callable[[UdpSock, bytes], bool] | None = None


def udp_net_init(net: NetNamespace) -> None:
    """The namespace can speak UDP."""
    net.udp = UdpTable()
    net.inet_protos[IPPROTO_UDP] = (udp_rcv, udp_err)


def udp_truesize(length: int) -> int:
    """Memory that a received datagram of `length` bytes is charged with: a power-of-two buffer and the sk_buff."""
    need, size = length + 80 + 320, 512
    while size < need:
        size <<= 1
    return size + 256


# ---- who gets it


def _score(sk: UdpSock, saddr: int, sport: int, daddr: int, dif: int) -> int:
    """How well the socket fits, -1 if not. Linux: compute_score()."""
    score = 1
    if sk.saddr:
        if sk.saddr != daddr:
            return -1
        score += 4
    if sk.daddr:
        if sk.daddr != saddr:
            return -1
        score += 4
    if sk.dport:
        if sk.dport != sport:
            return -1
        score += 4
    if sk.bound_dev:
        if sk.bound_dev != dif:
            return -1
        score += 4
    return score


def udp4_lib_lookup(net: NetNamespace, saddr: int, sport: int, daddr: int, dport: int, dif: int) -> UdpSock | None:
    """The socket for a datagram from (saddr, sport) to (daddr, dport). Linux: __udp4_lib_lookup()."""
    best, best_score = None, 0
    for sk in net.udp.ports.get(dport, ()):
        score = _score(sk, saddr, sport, daddr, dif)
        if score > best_score:
            best, best_score = sk, score
    return best


# ---- receiving


def _route(sk: Sock, daddr: int, dport: int) -> Any:
    """The route of a datagram; OSError if there is none, which is counted. Linux: ip_route_output_flow()'s callers."""
    try:
        return sk.af_ops.route(sk.net, sk, daddr, sk.saddr, sk.bound_dev, dport)
    except OSError as error:
        if error.errno == ENETUNREACH:
            sk.net.snmp["IpOutNoRoutes"] += 1
        raise


def udp_rcv(skb: SkBuff) -> None:
    """A datagram reached this namespace. Linux: __udp4_lib_rcv()."""
    net, uh = skb.net, skb.l4
    if uh is None:
        net.snmp["UdpInErrors"] += 1
        return drop(skb, DropReason.PKT_TOO_SMALL)
    if skb.csum == CSUM_BAD:
        net.snmp["UdpInErrors"] += 1
        return drop(skb, DropReason.UDP_CSUM)
    sk = udp4_lib_lookup(net, skb.ip.saddr, uh.sport, skb.ip.daddr, uh.dport, skb.iif)
    if sk is None and skb.dst.type in (RTN_BROADCAST, RTN_MULTICAST):  # __udp4_lib_mcast_deliver(): nobody is told
        net.snmp["UdpIgnoredMulti"] += 1
        return drop(skb, DropReason.NO_SOCKET)
    if sk is None:
        skb.ct = None  # Linux: nf_reset_ct(), so the error below is looked up by what it quotes
        net.snmp["UdpNoPorts"] += 1
        from kubenet.kernel.ipv4.icmp import icmp_send

        icmp_send(skb, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0)
        return drop(skb, DropReason.NO_SOCKET)
    return udp_queue_rcv_skb(sk, skb)


def udp_queue_rcv_skb(sk: UdpSock, skb: SkBuff) -> None:
    """The datagram waits in the socket, or is dropped because its buffer is full; a tunnel's socket hands it on.

    Linux: udp_queue_rcv_one_skb(), __udp_enqueue_schedule_skb().
    """
    if sk.encap_rcv is not None:
        return sk.encap_rcv(sk, skb)
    net = sk.net
    size = udp_truesize(skb.plen)
    if sk.rmem_alloc > sk.rcvbuf or sk.rmem_alloc + size > sk.rcvbuf and sk.rmem_alloc:
        sk.drops += 1
        net.snmp["UdpRcvbufErrors"] += 1
        net.snmp["UdpInErrors"] += 1
        return drop(skb, DropReason.SOCKET_RCVBUFF)
    if skb.tr is not None:
        station(skb, "udp_queue_rcv_skb", f"to socket *:{sk.sport}, {skb.plen} bytes")
    sk.queue.append((bytes(skb.payload), (skb.ip.saddr, skb.l4.sport), size))
    sk.rmem_alloc += size
    sk.wait.wake()
    return None


def udp_err(skb: SkBuff, info: int) -> None:
    """An ICMP error quotes a datagram of ours. Linux: __udp4_lib_err()."""
    net, quote, icmp = skb.net, skb.inner, skb.l4
    sk = udp4_lib_lookup(net, quote.ip.daddr, quote.l4.dport, quote.ip.saddr, quote.l4.sport, skb.iif)
    if sk is None or sk.encap_rcv is not None:
        return _tunnel_err(skb, info)
    err, harderr = EHOSTUNREACH, False
    if icmp.type == ICMP_PARAMETERPROB:
        err, harderr = EPROTO, True
    elif icmp.type == ICMP_DEST_UNREACH:
        if icmp.code == ICMP_FRAG_NEEDED:
            sk.af_ops.update_pmtu(net, quote.ip.daddr, quote.ip.saddr, info)
            sk.dst = None
            if sk.pmtudisc == 0:
                return
            err, harderr = EMSGSIZE, True
        elif icmp.code < len(ICMP_ERR_CONVERT):
            err, harderr = ICMP_ERR_CONVERT[icmp.code]
    elif icmp.type != ICMP_TIME_EXCEEDED:
        return
    if sk.recverr:
        ip_icmp_error(sk, skb, err, info)
    elif not harderr or sk.state != TCP_ESTABLISHED:
        return
    sk.err = err
    sk.wait.wake()


def _tunnel_err(skb: SkBuff, info: int) -> None:
    """The error quotes what no socket sent from that port: a tunnel's, for all its packets go to the port that it receives on.
    A path MTU is noted, no program is told. Linux: __udp4_lib_err_encap()."""
    net, quote, icmp = skb.net, skb.inner, skb.l4
    sk = None
    if quote.l4 is not None:
        sk = udp4_lib_lookup(net, quote.ip.daddr, quote.l4.sport, quote.ip.saddr, quote.l4.dport, skb.iif)
    if sk is None or sk.encap_err_lookup is None or not sk.encap_err_lookup(sk, quote.data):
        net.snmp["IcmpInErrors"] += 1
    elif icmp.type == ICMP_DEST_UNREACH and icmp.code == ICMP_FRAG_NEEDED:
        sk.af_ops.update_pmtu(net, quote.ip.daddr, quote.ip.saddr, info)


# ---- the protocol's operations


class UdpProto(Proto):
    """What the system calls on a UDP socket do. Linux: udp_prot."""

    name = "UDP"

    def get_port(self, sk: Sock, port: int) -> None:
        """Linux: udp_lib_get_port(): any parity, from a random start."""
        net = sk.net
        if port == 0:
            low, high = net.sysctl.ipv4.ip_local_port_range
            count = high - low + 1
            start = net.random("udp_port").below(count)
            for step in range(count):
                port = low + (start + step) % count
                if not _inuse(sk, port):
                    break
            else:
                raise oserror(EADDRINUSE)
        elif _inuse(sk, port):
            raise oserror(EADDRINUSE)
        sk.sport = port
        net.udp.ports.setdefault(port, []).append(sk)
        sk.hashed = 1

    def put_port(self, sk: Sock) -> None:
        if sk.hashed:
            socks = sk.net.udp.ports[sk.sport]
            socks.remove(sk)
            if not socks:
                del sk.net.udp.ports[sk.sport]
            sk.hashed = 0
        sk.sport = 0

    def connect(self, sk: Sock, addr: tuple[int, int], timeout: int | None) -> None:
        """Only this peer from now on. Linux: __ip4_datagram_connect()."""
        sk.dst = None
        dst = _route(sk, addr[0], addr[1])
        if dst.type == RTN_BROADCAST and not sk.flags & SOCK_BROADCAST:
            raise oserror(EACCES)
        if not sk.saddr:
            sk.saddr = dst.prefsrc
        sk.daddr, sk.dport = addr
        sk.dst = dst
        sk.state = TCP_ESTABLISHED
        sk.ip_ident = sk.net.random("ip_ident").u32() & 0xFFFF

    def disconnect(self, sk: Sock) -> None:
        """Linux: __udp_disconnect()."""
        sk.state = TCP_CLOSE
        sk.daddr = sk.dport = 0
        sk.dst = None
        if not sk.userlocks & SOCK_BINDADDR_LOCK:
            sk.saddr = 0
        if not sk.userlocks & SOCK_BINDPORT_LOCK:
            self.put_port(sk)

    def sendmsg(self, sk: Sock, data: Any, flags: int, addr: tuple[int, int] | None, timeout: int | None) -> int:
        """One datagram is on its way. Linux: udp_sendmsg()."""
        length = len(data)
        if length > MAX_DATAGRAM:
            raise oserror(EMSGSIZE)
        if addr is not None:
            daddr, dport = addr
            if not dport:
                raise oserror(EINVAL)
        elif sk.state == TCP_ESTABLISHED:
            daddr, dport = sk.daddr, sk.dport
        else:
            raise oserror(EDESTADDRREQ)
        if sk.err or sk.shutdown & SEND_SHUTDOWN:  # found by sock_alloc_send_pskb(), so __ip_append_data() counts a discard
            sk.net.snmp["IpOutDiscards"] += 1
            raise_sock_error(sk)
            raise oserror(EPIPE)
        dst = _route(sk, daddr or 0x7F000001, dport)
        if dst.type == RTN_BROADCAST and not sk.flags & SOCK_BROADCAST:
            raise oserror(EACCES)
        header = UdpHdr(sk.sport, dport)
        error = sk.af_ops.send_datagram(
            sk.net, sk, sk.saddr or dst.prefsrc, daddr or 0x7F000001, IPPROTO_UDP, header, bytes(data), dst, sk.ttl, sk.tos,
            sk.pmtudisc,
        )
        if error < 0:
            if error != -105 or sk.recverr:  # ENOBUFS of a full queue is told only with IP_RECVERR
                raise oserror(-error)
        sk.net.snmp["UdpOutDatagrams"] += 1
        return length

    def recvmsg(self, sk: Sock, n: int, flags: int, timeout: int | None) -> tuple[bytes, tuple[int, int] | None]:
        """The next datagram, cut to n bytes. Linux: udp_recvmsg(), __skb_recv_datagram()."""
        assert isinstance(sk, UdpSock)
        if not sk.wait.until(lambda: sk.queue or sk.err or sk.shutdown & RCV_SHUTDOWN, timeout):
            raise oserror(EAGAIN)
        raise_sock_error(sk)
        if not sk.queue:
            return b"", None
        data, sender, size = sk.queue[0] if flags & MSG_PEEK else sk.queue.popleft()
        if not flags & MSG_PEEK:
            sk.rmem_alloc -= size
            sk.net.snmp["UdpInDatagrams"] += 1
        return (data if flags & MSG_TRUNC else data[:n]), sender

    def shutdown(self, sk: Sock, how: int) -> None:
        if sk.state != TCP_ESTABLISHED:
            raise oserror(ENOTCONN)

    def close(self, sk: Sock, timeout: int) -> None:
        assert isinstance(sk, UdpSock)
        self.put_port(sk)
        sk.queue.clear()
        sk.rmem_alloc = 0

    def poll(self, sk: Sock) -> int:
        assert isinstance(sk, UdpSock)
        mask = POLLOUT
        if sk.queue or sk.shutdown & RCV_SHUTDOWN:
            mask |= POLLIN
        if sk.err:
            mask |= POLLERR
        if sk.shutdown & RCV_SHUTDOWN:
            mask |= POLLRDHUP
        if sk.shutdown == SHUTDOWN_MASK:
            mask |= POLLHUP
        return mask

    def setsockopt(self, sk: Sock, level: int, name: int, value: int | bytes) -> None:
        if level == 1:  # SOL_SOCKET options that only streams act on
            return
        raise oserror(ENOPROTOOPT)

    def ioctl(self, sk: Sock, cmd: int) -> int:
        assert isinstance(sk, UdpSock)
        if cmd == FIONREAD:
            return len(sk.queue[0][0]) if sk.queue else 0
        if cmd == SIOCOUTQ:
            return 0
        raise oserror(EINVAL)

    def diag(self, sk: Sock) -> dict[str, Any]:
        assert isinstance(sk, UdpSock)
        return {"recv_q": sk.rmem_alloc, "send_q": 0, "drops": sk.drops}


def _inuse(sk: Sock, port: int) -> bool:
    """May `sk` not have this port? Linux: udp_lib_lport_inuse(), inet_rcv_saddr_equal()."""
    for other in sk.net.udp.ports.get(port, ()):
        if other is sk or (sk.reuse and other.reuse):
            continue
        if sk.bound_dev and other.bound_dev and sk.bound_dev != other.bound_dev:
            continue
        if sk.saddr and other.saddr and sk.saddr != other.saddr:
            continue
        if sk.reuseport and other.reuseport and sk.uid == other.uid:
            continue
        return True
    return False


udp_prot = UdpProto()
inet_register_protosw(SOCK_DGRAM, IPPROTO_UDP, udp_prot, UdpSock)

__all__ = ["UdpSock", "UdpTable", "udp_net_init", "udp_prot"]
