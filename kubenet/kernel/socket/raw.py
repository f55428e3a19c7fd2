"""Raw and ping sockets: ICMP, and whole IP packets, for programs.

    socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)    root only; receives a copy of every packet of the protocol, IP header first
    socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)  anyone in ping_group_range; sends echo requests, receives their replies

A ping socket's port is the echo identifier: the kernel fills it in, so two pings never read each other's replies. With
IP_RECVERR the ICMP errors about what a socket sent wait in its error queue (errqueue.py), which is how ping and traceroute
learn who answered. Raw sockets get packets after INPUT and before the protocol itself, as copies.

Sources: raw(7), icmp(7), ip(7); Linux net/ipv4/raw.c, net/ipv4/ping.c, ip_sockglue.c ip_icmp_error().
"""

from __future__ import annotations

from collections import deque
from errno import EADDRINUSE, EAGAIN, EDESTADDRREQ, EINVAL, EMSGSIZE, ENOPROTOOPT, EPIPE
from typing import TYPE_CHECKING, Any

from kubenet.kernel.skbuff import SkBuff, station
from kubenet.kernel.socket.errqueue import ICMP_ERR_CONVERT, ip_icmp_error
from kubenet.kernel.socket.inet import inet_register_protosw
from kubenet.kernel.socket.sock import (
    IPPROTO_ICMP,
    IPPROTO_IP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    MSG_PEEK,
    POLLERR,
    POLLIN,
    POLLOUT,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SOCK_DGRAM,
    SOCK_RAW,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    Proto,
    Sock,
    oserror,
    raise_sock_error,
)
from kubenet.kernel.socket.udp import udp_truesize
from kubenet.wire.checksum import csum_fold, csum_partial, pseudo_header4
from kubenet.wire.errors import WireError
from kubenet.wire.icmp import ICMP_HLEN, IcmpHdr, build_icmp, parse_icmp
from kubenet.wire.ipv4 import parse_ipv4
from kubenet.wire.packet import frame_to_bytes
from kubenet.wire.tcp import parse_tcp
from kubenet.wire.udp import parse_udp

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

IP_HDRINCL, SOL_RAW, ICMP_FILTER = 3, 255, 1
ICMP_ECHOREPLY, ICMP_DEST_UNREACH, ICMP_ECHO = 0, 3, 8
ICMP_FRAG_NEEDED = 4
EHOSTUNREACH = 113
MAX_PACKET = 65535


class RawTable:
    """Raw sockets by protocol, ping sockets by identifier, in order of creation."""

    __slots__ = ("raw", "ping")

    def __init__(self) -> None:
        self.raw: dict[int, list[RawSock]] = {}
        self.ping: dict[int, list[RawSock]] = {}

    def dump(self) -> list[RawSock]:
        """All of them, for ss."""
        return [sk for table in (self.raw, self.ping) for socks in table.values() for sk in socks]


class RawSock(Sock):
    """A raw or ping socket; the queue holds (bytes, sender's address, truesize)."""

    __slots__ = ("queue", "hdrincl", "icmp_filter")

    def __init__(self, net: NetNamespace, family: int, type_: int, protocol: int, prot: Proto, af_ops: Any) -> None:
        super().__init__(net, family, type_, protocol, prot, af_ops)
        self.queue: deque[tuple[bytes, tuple[int, int], int]] = deque()
        self.hdrincl = protocol == 255
        self.icmp_filter = 0


def raw_net_init(net: NetNamespace) -> None:
    """The namespace has raw and ping sockets."""
    net.raw = RawTable()


# ---- receiving: called by IP


def raw_local_deliver(skb: SkBuff, protocol: int) -> bool:
    """Every raw socket that wants it has a copy; True if there was one. Linux: raw_local_deliver(), raw_v4_input()."""
    socks = skb.net.raw.raw.get(protocol)
    if not socks:
        return False
    delivered = False
    for sk in socks:
        if not _raw_match(sk, skb):
            continue
        delivered = True
        if protocol == IPPROTO_ICMP and skb.l4 is not None and sk.icmp_filter >> min(skb.l4.type, 31) & 1:
            continue
        _queue(sk, frame_to_bytes(None, skb.ip, skb.l4, skb.inner, skb.payload), (skb.ip.saddr, 0))
    return delivered


def _raw_match(sk: RawSock, skb: SkBuff) -> bool:
    """Linux: raw_v4_match()."""
    if sk.daddr and sk.daddr != skb.ip.saddr or sk.saddr and sk.saddr != skb.ip.daddr:
        return False
    return not sk.bound_dev or sk.bound_dev == skb.iif


def ping_rcv(skb: SkBuff) -> bool:
    """An echo reply reached the ping socket with its identifier; True if there was one. Linux: ping_rcv()."""
    ident = skb.l4.rest >> 16
    for sk in skb.net.raw.ping.get(ident, ()):
        if _raw_match(sk, skb):
            if skb.tr is not None:
                station(skb, "ping_rcv", f"to ping socket id {ident}")
            _queue(sk, build_icmp(skb.l4, bytes(skb.payload)), (skb.ip.saddr, 0))
            return True
    return False


def _queue(sk: RawSock, data: bytes, sender: tuple[int, int]) -> None:
    size = udp_truesize(len(data))
    if sk.rmem_alloc + size > sk.rcvbuf and sk.rmem_alloc:
        sk.drops += 1
        return
    sk.queue.append((data, sender, size))
    sk.rmem_alloc += size
    sk.wait.wake()


def raw_icmp_error(skb: SkBuff, protocol: int, info: int) -> None:
    """An ICMP error quotes a packet of a raw or ping socket. Linux: raw_icmp_error(), ping_err()."""
    quote, table = skb.inner, skb.net.raw
    for sk in table.raw.get(protocol, ()):
        if not sk.daddr or sk.daddr == quote.ip.daddr:
            _icmp_error(sk, skb, info, sk.state == TCP_ESTABLISHED)
    if protocol == IPPROTO_ICMP and isinstance(quote.l4, IcmpHdr) and quote.l4.type == ICMP_ECHO:
        for sk in table.ping.get(quote.l4.rest >> 16, ()):
            _icmp_error(sk, skb, info, sk.state == TCP_ESTABLISHED)


def _icmp_error(sk: RawSock, skb: SkBuff, info: int, connected: bool) -> None:
    icmp = skb.l4
    err, harderr = EHOSTUNREACH, False
    if icmp.type == ICMP_DEST_UNREACH and icmp.code < len(ICMP_ERR_CONVERT):
        err, harderr = ICMP_ERR_CONVERT[icmp.code]
        if icmp.code == ICMP_FRAG_NEEDED:
            err, harderr = EMSGSIZE, sk.pmtudisc != 0
    if sk.recverr:
        ip_icmp_error(sk, skb, err, info)
    elif not harderr or not connected:
        return
    sk.err = err
    sk.wait.wake()


# ---- the operations


class RawProto(Proto):
    """What the system calls on a raw socket do. Linux: raw_prot."""

    name = "RAW"

    def init_sock(self, sk: Sock) -> None:
        assert isinstance(sk, RawSock)
        sk.net.raw.raw.setdefault(sk.protocol, []).append(sk)
        sk.sport = sk.protocol  # inet_num; get_port() keeps it

    def get_port(self, sk: Sock, port: int) -> None:
        """Raw sockets have no ports."""

    def connect(self, sk: Sock, addr: tuple[int, int], timeout: int | None) -> None:
        dst = sk.af_ops.route(sk.net, sk, addr[0], sk.saddr, sk.bound_dev)
        if not sk.saddr:
            sk.saddr = dst.prefsrc
        sk.daddr = addr[0]
        sk.state = TCP_ESTABLISHED

    def disconnect(self, sk: Sock) -> None:
        sk.state = TCP_CLOSE
        sk.daddr = 0

    def sendmsg(self, sk: Sock, data: Any, flags: int, addr: tuple[int, int] | None, timeout: int | None) -> int:
        """Linux: raw_sendmsg()."""
        assert isinstance(sk, RawSock)
        data = bytes(data)
        if len(data) > MAX_PACKET:
            raise oserror(EMSGSIZE)
        daddr = _destination(sk, addr)
        raise_sock_error(sk)
        protocol, ttl, tos, body = sk.protocol, sk.ttl, sk.tos, data
        if sk.hdrincl:
            try:
                ip = parse_ipv4(data, verify=False)
            except WireError:
                raise oserror(EINVAL) from None
            protocol, ttl, tos, body = ip.proto, ip.ttl, ip.tos, data[20 + len(ip.options) :]
        dst = sk.af_ops.route(sk.net, sk, daddr, sk.saddr, sk.bound_dev)
        l4: Any = None
        if protocol == IPPROTO_ICMP and len(body) >= ICMP_HLEN:
            l4, body = parse_icmp(body), body[ICMP_HLEN:]
        elif protocol in (IPPROTO_TCP, IPPROTO_UDP):
            l4, body = _transport(protocol, sk.saddr or dst.prefsrc, daddr, body)
        _send(sk, daddr, protocol, l4, body, dst, ttl, tos)
        return len(data)

    def recvmsg(self, sk: Sock, n: int, flags: int, timeout: int | None) -> tuple[bytes, tuple[int, int] | None]:
        """Linux: raw_recvmsg(), ping_recvmsg()."""
        assert isinstance(sk, RawSock)
        if not sk.wait.until(lambda: sk.queue or sk.err or sk.shutdown & RCV_SHUTDOWN, timeout):
            raise oserror(EAGAIN)
        raise_sock_error(sk)
        if not sk.queue:
            return b"", None
        data, sender, size = sk.queue[0] if flags & MSG_PEEK else sk.queue.popleft()
        if not flags & MSG_PEEK:
            sk.rmem_alloc -= size
        return data[:n], sender

    def close(self, sk: Sock, timeout: int) -> None:
        assert isinstance(sk, RawSock)
        socks = sk.net.raw.raw.get(sk.protocol, [])
        if sk in socks:
            socks.remove(sk)
        sk.queue.clear()

    def poll(self, sk: Sock) -> int:
        assert isinstance(sk, RawSock)
        return POLLOUT | (POLLIN if sk.queue else 0) | (POLLERR if sk.err or sk.error_queue else 0)

    def setsockopt(self, sk: Sock, level: int, name: int, value: int | bytes) -> None:
        assert isinstance(sk, RawSock)
        if level == IPPROTO_IP and name == IP_HDRINCL:
            sk.hdrincl = value != 0 and value != b"\0\0\0\0"
        elif level == SOL_RAW and name == ICMP_FILTER and sk.protocol == IPPROTO_ICMP:
            sk.icmp_filter = value if isinstance(value, int) else int.from_bytes(value[:4], "little")
        elif level != 1:
            raise oserror(ENOPROTOOPT)

    def getsockopt(self, sk: Sock, level: int, name: int) -> int | bytes:
        assert isinstance(sk, RawSock)
        if level == IPPROTO_IP and name == IP_HDRINCL:
            return int(sk.hdrincl)
        raise oserror(ENOPROTOOPT)

    def shutdown(self, sk: Sock, how: int) -> None:
        """sk.shutdown is enough."""

    def diag(self, sk: Sock) -> dict[str, Any]:
        return {"recv_q": sk.rmem_alloc, "send_q": 0, "drops": sk.drops}


class PingProto(RawProto):
    """What the system calls on a ping socket do. Linux: ping_prot."""

    name = "PING"

    def init_sock(self, sk: Sock) -> None:
        low, high = sk.net.sysctl.ipv4.ping_group_range
        if not low <= sk.uid <= high:
            raise oserror(13)  # EACCES

    def get_port(self, sk: Sock, port: int) -> None:
        """A free identifier. Linux: ping_get_port()."""
        assert isinstance(sk, RawSock)
        table = sk.net.raw.ping
        if port == 0:
            start = sk.net.random("ping_id").below(65535)
            port = next((p for step in range(65535) if (p := 1 + (start + step) % 65535) not in table), 0)
            if port == 0:
                raise oserror(EADDRINUSE)
        elif table.get(port) and not sk.reuse:
            raise oserror(EADDRINUSE)
        sk.sport = port
        table.setdefault(port, []).append(sk)

    def sendmsg(self, sk: Sock, data: Any, flags: int, addr: tuple[int, int] | None, timeout: int | None) -> int:
        """An echo request with the socket's identifier leaves. Linux: ping_v4_sendmsg()."""
        assert isinstance(sk, RawSock)
        data = bytes(data)
        if len(data) < ICMP_HLEN or data[0] != ICMP_ECHO or data[1] != 0:
            raise oserror(EINVAL)
        daddr = _destination(sk, addr)
        raise_sock_error(sk)
        if sk.shutdown & SEND_SHUTDOWN:
            raise oserror(EPIPE)
        header = IcmpHdr(ICMP_ECHO, 0, sk.sport << 16 | int.from_bytes(data[6:8], "big"))
        dst = sk.af_ops.route(sk.net, sk, daddr, sk.saddr, sk.bound_dev)
        _send(sk, daddr, IPPROTO_ICMP, header, data[ICMP_HLEN:], dst, sk.ttl, sk.tos)
        return len(data)

    def close(self, sk: Sock, timeout: int) -> None:
        assert isinstance(sk, RawSock)
        socks = sk.net.raw.ping.get(sk.sport, [])
        if sk in socks:
            socks.remove(sk)
            if not socks:
                del sk.net.raw.ping[sk.sport]
        sk.queue.clear()


def _destination(sk: Sock, addr: tuple[int, int] | None) -> int:
    if addr is not None:
        return addr[0]
    if sk.state != TCP_ESTABLISHED:
        raise oserror(EDESTADDRREQ)
    return sk.daddr


def _transport(protocol: int, saddr: int, daddr: int, data: bytes) -> tuple[Any, bytes]:
    """(header, payload) of a segment or datagram that somebody built; bytes that are none, or whose checksum is wrong, stay bytes:
    no receiver will take them."""
    pseudo = pseudo_header4(saddr, daddr, protocol, len(data))
    try:
        if protocol == IPPROTO_TCP:
            tcp = parse_tcp(data)
            return (tcp, data[tcp.doff:]) if csum_fold(csum_partial(data, pseudo)) == 0 else (None, data)
        udp = parse_udp(data)
        good = data[6:8] == bytes(2) or csum_fold(csum_partial(data, pseudo)) == 0
        return (udp, data[8:]) if good else (None, data)
    except WireError:
        return None, data


def _send(sk: Sock, daddr: int, protocol: int, l4: Any, body: bytes, dst: Any, ttl: int, tos: int) -> None:
    error = sk.af_ops.send_datagram(sk.net, sk, sk.saddr or dst.prefsrc, daddr, protocol, l4, body, dst, ttl, tos, sk.pmtudisc)
    if error < 0:
        raise oserror(-error)


raw_prot = RawProto()
ping_prot = PingProto()
inet_register_protosw(SOCK_DGRAM, IPPROTO_ICMP, ping_prot, RawSock)
inet_register_protosw(SOCK_RAW, -1, raw_prot, RawSock)
