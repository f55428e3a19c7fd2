"""TCP's relative numbers and its options, as tcpdump prints them (print-tcp.c).

A connection is known by its two endpoints, the one with the lower port first. What is kept is (first - 0) for the lower
end and (first - 1) for the other, seen from whichever packet with an ACK came first; so in a normal capture the SYN-ACK
is still absolute, and from the client's ACK on both sides count from 1.
"""

from __future__ import annotations

from kubenet.wire.tcp import SYN, TCP_HLEN, TcpHdr, build_tcp

_NAMES = {1: "nop", 2: "mss", 3: "wscale", 4: "sackOK", 5: "sack", 8: "TS", 19: "md5", 34: "tfo"}

Endpoints = tuple[int, int, int, int]  # saddr, daddr, sport, dport; lower port first


def relative_seq(conversations: dict[Endpoints, tuple[int, int]], saddr: int, daddr: int, tcp: TcpHdr) -> tuple[int, int, int]:
    """(seq, ack, base of the SACK blocks) as they are to be printed of a packet with ACK; remembers the connection."""
    rev = tcp.sport > tcp.dport or (tcp.sport == tcp.dport and saddr > daddr)
    key = (daddr, saddr, tcp.dport, tcp.sport) if rev else (saddr, daddr, tcp.sport, tcp.dport)
    known = conversations.get(key)
    if known is None or tcp.flags & SYN:
        mine, theirs = tcp.seq, tcp.ack_seq - 1
        conversations[key] = (theirs, mine) if rev else (mine, theirs)
        return tcp.seq, tcp.ack_seq, theirs
    mine, theirs = (known[1], known[0]) if rev else known
    return (tcp.seq - mine) & 0xFFFF_FFFF, (tcp.ack_seq - theirs) & 0xFFFF_FFFF, theirs


def tcp_options_text(tcp: TcpHdr, sack_base: int) -> str:
    """The options in wire order, without the brackets."""
    raw = build_tcp(tcp, b"")[TCP_HLEN:]
    out, at = [], 0
    while at < len(raw):
        kind = raw[at]
        if kind == 0:
            out.append("eol")
            break
        if kind == 1:
            out.append("nop")
            at += 1
            continue
        size = raw[at + 1] if at + 1 < len(raw) else 0
        if size < 2 or at + size > len(raw):
            out.append(f"{_NAMES.get(kind, f'unknown-{kind}')} [bad opt]")
            break
        out.append(_option_text(kind, raw[at + 2 : at + size], sack_base))
        at += size
    return ",".join(out)


def _option_text(kind: int, value: bytes, sack_base: int) -> str:
    """One option with a length."""
    number = int.from_bytes(value, "big")
    if kind == 2 and len(value) == 2:
        return f"mss {number}"
    if kind == 3 and len(value) == 1:
        return f"wscale {number}"
    if kind == 4:
        return "sackOK"
    if kind == 5 and len(value) % 8 == 0:
        edges = [int.from_bytes(value[i : i + 4], "big") - sack_base & 0xFFFF_FFFF for i in range(0, len(value), 4)]
        blocks = "".join(f"{{{left}:{right}}}" for left, right in zip(edges[::2], edges[1::2], strict=True))
        return f"sack {len(edges) // 2} {blocks}"
    if kind == 8 and len(value) == 8:
        return f"TS val {number >> 32} ecr {number & 0xFFFF_FFFF}"
    if kind == 19 and len(value) == 16:
        return f"md5 shared secret not supplied with -M, can't check - {value.hex()}"
    if kind == 34:
        return f"tfo  cookie {value.hex()}" if value else "tfo  cookiereq"
    name = _NAMES.get(kind, f"unknown-{kind}")
    return f"{name} 0x{value.hex()}" if value else name
