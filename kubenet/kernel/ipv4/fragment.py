"""Fragments: cutting a datagram that does not fit, and putting one together again.

A fragment's skb has no transport header: its payload is the raw piece of the datagram, the transport header included
in the first. ip_do_fragment() cuts; ip_defrag() collects pieces by (source, destination, id, protocol, who asks) and
returns the whole packet with the last piece, parsed anew. Whoever needs whole packets calls it: local delivery, and,
where connections are tracked, nf_defrag_ipv4() before PREROUTING, so that rules see ports. Such a packet is cut again
to the size of its pieces where it leaves the machine.

Pieces wait ipfrag_time (30 s) from the first one; then the queue is dropped and, if the first piece had come and the
packet was for this machine, the sender gets ICMP time exceeded (reassembly). Overlapping pieces drop the whole queue,
exact duplicates only themselves. Above ipfrag_high_thresh bytes new pieces are refused. simplified: ipfrag_max_dist is
not checked. Sources: RFC 791 3.2, RFC 815; Linux net/ipv4/ip_fragment.c, inet_fragment.c, ip_output.c
ip_do_fragment().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubenet.kernel.ipv4.route import RTN_LOCAL, ip_route_input_noref
from kubenet.kernel.skbuff import CSUM_BAD, DropReason, SkBuff, drop, station
from kubenet.sim.timer import Timer
from kubenet.units import SEC
from kubenet.wire.errors import WireError
from kubenet.wire.icmp import ICMP_EXC_FRAGTIME, ICMP_TIME_EXCEEDED
from kubenet.wire.ipv4 import IP_MF, IP_OFFSET, ip_hdrlen
from kubenet.wire.packet import bytes_to_frame, frame_to_bytes

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

IP_DEFRAG_LOCAL_DELIVER, IP_DEFRAG_CONNTRACK_IN, IP_DEFRAG_CONNTRACK_OUT, IP_DEFRAG_CONNTRACK_BRIDGE_IN = 0, 1, 2, 3


class Reassembled:
    """skb.cb of a packet that was put together: the length of its longest piece. Linux: IPCB(skb)->frag_max_size."""

    __slots__ = ("max_size",)

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size


def frag_max_size(skb: SkBuff) -> int:
    """How large the pieces of a packet were that was reassembled on its way; 0: it was not."""
    return skb.cb.max_size if skb.ignore_df and isinstance(skb.cb, Reassembled) else 0


def nf_defrag_ipv4(skb: SkBuff, user: int) -> bool:
    """True if the fragment may go on: as the whole packet, or because nobody tracks connections here.

    Linux: ipv4_conntrack_defrag(), which stands at PREROUTING with priority -400, before every other hook; here the caller
    of PREROUTING asks, so that whole packets do not pay for it.
    """
    table = skb.net.ct
    if table is None or not table.users.get(2):
        return True
    if ip_defrag(skb, user) is None:
        return False
    skb.ignore_df = True
    return True

Key = tuple[int, int, int, int, int]


def ip_do_fragment(skb: SkBuff, mtu: int) -> list[SkBuff]:
    """Pieces of at most `mtu` bytes each, multiples of 8 but the last; the skb itself is used up.

    Linux: ip_do_fragment().
    """
    ip = skb.ip
    hlen = ip_hdrlen(ip)
    body = memoryview(datagram_body(skb))
    step = (mtu - hlen) & ~7
    first, more_after = (ip.frag & IP_OFFSET) << 3, ip.frag & IP_MF
    pieces = []
    for at in range(0, len(body), step):
        data = body[at : at + step]
        piece = skb.clone()
        piece.cloned = False
        piece.l4 = piece.inner = None
        last = at + len(data) >= len(body)
        piece.ip.frag = (first + at) >> 3 | (more_after if last else IP_MF) | (ip.frag & 0x8000)
        piece.payload, piece.plen, piece.len = data, len(data), hlen + len(data)
        if skb.tr is not None:
            station(piece, "ip_do_fragment", f"fragment at {first + at}, {len(data)} bytes")
        pieces.append(piece)
    return pieces


def datagram_body(skb: SkBuff) -> bytes:
    """The bytes behind the IP header."""
    data = frame_to_bytes(None, skb.ip, skb.l4, skb.inner, skb.payload, skb.csum == CSUM_BAD)
    return data[ip_hdrlen(skb.ip) :]


class FragQueue:
    """The pieces of one datagram. total: its length, 0 while the last piece is missing. Linux: struct ipq."""

    __slots__ = ("key", "pieces", "have", "total", "timer", "net")

    def __init__(self, net: NetNamespace, key: Key) -> None:
        self.net = net
        self.key = key
        self.pieces: dict[int, SkBuff] = {}  # by offset
        self.have: int = 0
        self.total: int = 0
        self.timer = Timer(net.loop, ip_expire, self)


class FragTable:
    """All incomplete datagrams of a namespace; mem: bytes held. Linux: struct fqdir."""

    __slots__ = ("queues", "mem")

    def __init__(self) -> None:
        self.queues: dict[Key, FragQueue] = {}
        self.mem: int = 0

    def kill(self, queue: FragQueue) -> None:
        """The queue is forgotten; its pieces are the caller's."""
        queue.timer.cancel()
        if self.queues.pop(queue.key, None) is not None:
            self.mem -= sum(piece.len for piece in queue.pieces.values())


def ip_defrag(skb: SkBuff, user: int) -> SkBuff | None:
    """The whole packet if this piece completes it, else None: the piece is kept or dropped. Linux: ip_defrag()."""
    net, ip = skb.net, skb.ip
    net.snmp["IpReasmReqds"] += 1
    table: FragTable = net.frags
    key = (ip.saddr, ip.daddr, ip.id, ip.proto, user)
    queue = table.queues.get(key)
    if queue is None:
        if table.mem > net.sysctl.ipv4.ipfrag_high_thresh:
            drop(skb, DropReason.FRAG_MEM)
            return None
        queue = table.queues[key] = FragQueue(net, key)
        queue.timer.mod(net.loop.now + net.sysctl.ipv4.ipfrag_time * SEC)
    if not _frag_queue(table, queue, skb):
        return None
    if queue.total and queue.have == queue.total:
        return _reassemble(table, queue, skb)
    return None


def _frag_queue(table: FragTable, queue: FragQueue, skb: SkBuff) -> bool:
    """True if the piece was taken. Linux: ip_frag_queue(), inet_frag_queue_insert()."""
    start = (skb.ip.frag & IP_OFFSET) << 3
    end = start + skb.plen
    last = not skb.ip.frag & IP_MF
    if (last and (queue.total and queue.total != end)) or (not last and end & 7) or (queue.total and end > queue.total):
        _discard(table, queue, skb)
        return False
    for at, piece in queue.pieces.items():
        if at == start and piece.plen == skb.plen:
            drop(skb, DropReason.NOT_SPECIFIED)  # an exact duplicate
            return False
        if start < at + piece.plen and at < end:
            queue.net.snmp["IpExtReasmOverlaps"] += 1
            _discard(table, queue, skb)
            return False
    if last:
        queue.total = end
    queue.pieces[start] = skb
    queue.have += skb.plen
    table.mem += skb.len
    return True


def _discard(table: FragTable, queue: FragQueue, skb: SkBuff) -> None:
    """The queue makes no sense and is dropped, counted once."""
    table.kill(queue)
    queue.net.snmp["IpReasmFails"] += 1
    for piece in [*queue.pieces.values(), skb]:
        drop(piece, DropReason.NOT_SPECIFIED)


def _reassemble(table: FragTable, queue: FragQueue, last: SkBuff) -> SkBuff | None:
    """`last`, the piece that came last, is the whole packet: the first piece's headers and everybody's data.

    Linux: ip_frag_reasm(), skb_morph().
    """
    table.kill(queue)
    net = queue.net
    head = queue.pieces[0]
    longest = max(piece.len for piece in queue.pieces.values())
    body = b"".join(bytes(queue.pieces[at].payload) for at in sorted(queue.pieces))
    ip = head.ip
    ip.frag &= ~(IP_MF | IP_OFFSET)
    hlen = ip_hdrlen(ip)
    if hlen + len(body) > 65535:
        net.snmp["IpReasmFails"] += 1
        drop(head, DropReason.NOT_SPECIFIED)
        return None
    try:
        frame = bytes_to_frame(frame_to_bytes(None, ip, None, None, body), link=False)
    except WireError:
        drop(head, DropReason.IP_INHDR)
        return None
    net.snmp["IpReasmOKs"] += 1
    head.l4, head.inner, head.payload = frame.l4, frame.inner, frame.payload
    head.len = hlen + len(body)
    head.plen = len(body) - (0 if frame.l4 is None else getattr(frame.l4, "doff", 8))
    if not frame.csum_ok:
        head.csum = CSUM_BAD
    head.cb = Reassembled(longest)
    if head is not last:
        for slot in SkBuff.__slots__:
            setattr(last, slot, getattr(head, slot))
    if last.tr is not None:
        station(last, "ip_frag_reasm", f"{len(queue.pieces)} fragments are one packet again")
    return last


def ip_expire(queue: FragQueue) -> None:
    """A piece never came. RFC 791 3.2, RFC 792 "time exceeded" code 1; Linux: ip_expire()."""
    net = queue.net
    net.frags.kill(queue)
    net.snmp["IpReasmTimeout"] += 1
    head = queue.pieces.get(0)
    if head is not None and head.dev is not None and ip_route_input_noref(head, head.dev) == 0 and head.dst.type == RTN_LOCAL:
        net.icmp.send(head, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME, 0)
    for index, piece in enumerate(queue.pieces.values()):
        drop(piece, DropReason.NOT_SPECIFIED if index else DropReason.FRAG_REASM_TIMEOUT)  # counted once
