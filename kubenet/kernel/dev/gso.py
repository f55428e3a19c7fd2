"""Super-segments cut into wire-sized packets, for devices that cannot carry them.

TCP hands down up to 64 KiB at once with gso_size set; whoever is the last to carry that (a device without TSO) has it
cut here: same headers, sequence numbers and IP ids counting up, PSH and FIN on the last piece, CWR on the first. UDP
super-datagrams (UDP_SEGMENT) become datagrams. A super-segment inside a tunnel's packet is cut there, and each piece gets an outer
header of its own. Each segment keeps the id of the packet it is part of.

Source: Linux net/ipv4/tcp_offload.c tcp_gso_segment(), net/ipv4/af_inet.c inet_gso_segment(), net/ipv4/udp_offload.c
__skb_udp_tunnel_segment().
"""

from __future__ import annotations

from kubenet.kernel.skbuff import ETH_P_IP, SkBuff

OUTER_HLEN = 28  # IPv4 and UDP
FIN_PSH = 0x09
CWR = 0x80


def skb_gso_network_seglen(skb: SkBuff) -> int:
    """The length of the largest packet this skb stands for, network header included.

    Linux: skb_gso_network_seglen().
    """
    return skb.len - skb.plen + skb.gso_size if skb.gso_size else skb.len


def skb_gso_segment(skb: SkBuff) -> list[SkBuff]:
    """The segments, in order; the skb itself is used up. Linux: __skb_gso_segment()."""
    if skb.inner is not None:
        return _tunnel_segment(skb)
    size, total = skb.gso_size, skb.plen
    headers = skb.len - total
    is_tcp = hasattr(skb.l4, "seq")
    out: list[SkBuff] = []
    view = memoryview(skb.payload)
    for index, at in enumerate(range(0, total, size)):
        n = min(size, total - at)
        seg = skb.clone()
        seg.cloned = False
        seg.l4 = l4 = skb.l4.copy()
        seg.payload, seg.plen, seg.len = view[at : at + n], n, headers + n
        seg.gso_size, seg.gso_segs = 0, 1
        if skb.protocol == ETH_P_IP and skb.ip.id:
            seg.ip.id = skb.ip.id + index & 0xFFFF
        if is_tcp:
            l4.seq = skb.l4.seq + at & 0xFFFFFFFF
            if at + n < total:
                l4.flags &= ~FIN_PSH
            if index:
                l4.flags &= ~CWR
        out.append(seg)
    return out


def _tunnel_segment(skb: SkBuff) -> list[SkBuff]:
    """The pieces of what is inside, each wrapped as the whole was, with outer ids counting up. Linux: __skb_udp_tunnel_segment()."""
    inner: SkBuff = skb.inner
    around = skb.len - inner.len
    out: list[SkBuff] = []
    for index, piece in enumerate(skb_gso_segment(inner)):
        outer = skb.clone()
        outer.cloned = False
        outer.l4 = skb.l4.copy()
        outer.ip.id = skb.ip.id + index & 0xFFFF
        outer.inner, outer.len, outer.plen = piece, around + piece.len, around + piece.len - OUTER_HLEN
        outer.gso_size, outer.gso_segs = 0, 1
        out.append(outer)
    return out
