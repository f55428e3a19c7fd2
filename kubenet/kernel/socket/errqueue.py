"""The error queue: what ICMP said about packets a socket sent, for programs that asked with IP_RECVERR.

Sources: ip(7) (IP_RECVERR, struct sock_extended_err); Linux net/ipv4/ip_sockglue.c, icmp.c (icmp_err_convert).
"""

from __future__ import annotations

from collections import deque
from errno import EAGAIN, ECONNREFUSED, EHOSTUNREACH, EMSGSIZE, ENETUNREACH

from kubenet.kernel.skbuff import SkBuff
from kubenet.kernel.socket.sock import Sock, oserror
from kubenet.wire.icmp import IcmpHdr, build_icmp

ENOPROTOOPT, EOPNOTSUPP, EHOSTDOWN, ENONET = 92, 95, 112, 64

# code of a destination-unreachable -> (errno, fatal). Linux: icmp_err_convert (icmp.c).
ICMP_ERR_CONVERT: tuple[tuple[int, bool], ...] = (
    (ENETUNREACH, False), (EHOSTUNREACH, False), (ENOPROTOOPT, True), (ECONNREFUSED, True), (EMSGSIZE, False), (EOPNOTSUPP, False),
    (ENETUNREACH, True), (EHOSTDOWN, True), (ENONET, True), (ENETUNREACH, True), (EHOSTUNREACH, True), (ENETUNREACH, False),
    (EHOSTUNREACH, False), (EHOSTUNREACH, True), (EHOSTUNREACH, True), (EHOSTUNREACH, True),
)


class ExtendedErr:
    """One entry of an error queue. Linux: struct sock_extended_err with the offender's address.

    errno, type and code as ICMP said; info: the MTU of a frag-needed; offender: who sent the ICMP error; dest: (address, port)
    the packet was for; data: what the quote still had of it behind its transport header.
    """

    __slots__ = ("errno", "type", "code", "info", "offender", "dest", "data")

    def __init__(self, errno: int, type_: int, code: int, info: int, offender: int, dest: tuple[int, int], data: bytes) -> None:
        self.errno = errno
        self.type = type_
        self.code = code
        self.info = info
        self.offender = offender
        self.dest = dest
        self.data = data


def ip_icmp_error(sk: Sock, skb: SkBuff, err: int, info: int) -> None:
    """The error waits in the socket's error queue. Linux: ip_icmp_error()."""
    quote = skb.inner
    port = getattr(quote.l4, "dport", 0)
    entry = ExtendedErr(err, skb.l4.type, skb.l4.code, info, skb.ip.saddr, (quote.ip.daddr, port), bytes(quote.data))
    if isinstance(quote.l4, IcmpHdr):
        entry.data = build_icmp(quote.l4, bytes(quote.data))
    if sk.error_queue is None:
        sk.error_queue = deque()
    sk.error_queue.append(entry)


def ip_recv_error(sk: Sock) -> ExtendedErr:
    """The oldest entry of the error queue: recvmsg(2) with MSG_ERRQUEUE. EAGAIN if it is empty."""
    if not sk.error_queue:
        raise oserror(EAGAIN)
    entry: ExtendedErr = sk.error_queue.popleft()
    sk.err = sk.error_queue[0].errno if sk.error_queue else 0
    return entry
