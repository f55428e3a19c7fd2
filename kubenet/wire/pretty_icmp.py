"""ICMP and ICMPv6 as tcpdump prints them (print-icmp.c, print-icmp6.c).

Errors are named after what they quote: `ICMP 10.48.2.7 udp port 5000 unreachable`. The wording, with its odd spaces, is
tcpdump's own, because people grep for it.
simplified: of ICMP's queries only echo is spelled out; router advertisements and MLD show only their names.
"""

from __future__ import annotations

from typing import Any

from kubenet.wire.addr import ip4_text, ip6_text, mac_text
from kubenet.wire.icmp import IcmpHdr, Quote
from kubenet.wire.ipv4 import IPPROTO_TCP, IPPROTO_UDP, IpHdr
from kubenet.wire.packet import build_quote
from kubenet.wire.pretty_text import hex_dump

_UNREACH = {
    0: "net {} unreachable",
    1: "host {} unreachable",
    5: "{} unreachable - source route failed",
    6: "net {} unreachable - unknown",
    7: "host {} unreachable - unknown",
    8: "{} unreachable - source host isolated",
    9: "net {} unreachable - admin prohibited",
    10: "host {} unreachable - admin prohibited",
    11: "net {} unreachable - tos prohibited",
    12: "host {} unreachable - tos prohibited",
    13: "host {} unreachable - admin prohibited filter",
    14: "host {} unreachable - host precedence violation",
    15: "host {} unreachable - precedence cutoff",
}
_REDIRECT = {0: "redirect {} to net {}", 1: "redirect {} to host {}"}
_REDIRECT |= {2: "redirect-tos {} to net {}", 3: "redirect-tos {} to host {}"}


def icmp_text(icmp: IcmpHdr, inner: Any, daddr: int, length: int) -> str:
    """`ICMP echo request, id 1, seq 1, length 64`; daddr stands in where nothing is quoted. tcpdump: icmp_print()."""
    quote = inner if isinstance(inner, Quote) else None
    target = ip4_text(quote.ip.daddr if quote else daddr)
    rest, code = icmp.rest, icmp.code
    if icmp.type in (0, 8):
        text = f"echo {'request' if icmp.type == 8 else 'reply'}, id {rest >> 16}, seq {rest & 0xFFFF}"
    elif icmp.type == 3:
        text = _unreach_text(icmp, quote, target)
    elif icmp.type == 4:
        text = "source quench"
    elif icmp.type == 5:
        text = _REDIRECT.get(code, "redirect-#" + str(code) + " {} to net {}").format(target, ip4_text(rest))
    elif icmp.type == 11:
        text = {0: "time exceeded in-transit", 1: "ip reassembly time exceeded"}.get(code, f"time exceeded-#{code}")
    elif icmp.type == 12:
        text = f"parameter problem - code {code}" if code else f"parameter problem - octet {rest >> 24}"
    else:
        text = f"type-#{icmp.type}"
    return f"ICMP {text}, length {length}"


def _unreach_text(icmp: IcmpHdr, quote: Quote | None, target: str) -> str:
    """Destination unreachable, by code."""
    code = icmp.code
    if code == 4:
        mtu = icmp.rest & 0xFFFF
        return f"{target} unreachable - need to frag" + (f" (mtu {mtu})" if mtu else "")
    if code in (2, 3) and quote is not None and isinstance(quote.ip, IpHdr):
        proto = quote.ip.proto
        if code == 2:
            return f"{target} protocol {proto} unreachable"
        raw = build_quote(quote)[20 + len(quote.ip.options) :]
        port = int.from_bytes(raw[2:4], "big")
        name = {IPPROTO_TCP: "tcp", IPPROTO_UDP: "udp"}.get(proto, f"protocol {proto}")
        return f"{target} {name} port {port} unreachable"
    return _UNREACH.get(code, "{} unreachable - #" + str(code)).format(target)


_UNREACH6 = {
    0: "unreachable route {dst}",
    1: " unreachable prohibited {dst}",
    2: "beyond scope {dst}, source address {src}",
    3: "unreachable address {dst}",
}
_NAMES6 = {
    1: "destination unreachable", 2: "packet too big", 3: "time exceeded in-transit", 4: "parameter problem",
    128: "echo request", 129: "echo reply", 130: "multicast listener query", 131: "multicast listener report",
    132: "multicast listener done", 133: "router solicitation", 134: "router advertisement",
    135: "neighbor solicitation", 136: "neighbor advertisement", 137: "redirect",
    143: "multicast listener report v2",
}  # fmt: skip


def icmp6_text(icmp: IcmpHdr, data: bytes, inner: Any, have: int, want: int, verbose: int) -> str:
    """`ICMP6, echo request, id 1, seq 1, length 64`; `data` follows the first 8 bytes. tcpdump: icmp6_print()."""
    length = len(data) + 8
    out = ""
    if verbose:
        out = "[icmp6 sum ok] " if have == want else f"[bad icmp6 cksum 0x{have:04x} -> 0x{want:04x}!] "
    out += f"ICMP6, {_NAMES6.get(icmp.type, f'unknown icmp6 type ({icmp.type})')}"
    if icmp.type in (133, 135, 136) and verbose:
        out += f", length {length}"
    out += _body6(icmp, data, inner, verbose)
    if icmp.type == 1 and icmp.code > 4:
        return out
    if not verbose or icmp.type not in (1, 2, 3, 4, 128, 129, 133, 135, 136):
        out += f", length {length}"
    elif icmp.type in (133, 135, 136):
        out += _options6(data[0 if icmp.type == 133 else 16 :], verbose)
    return out


def _body6(icmp: IcmpHdr, data: bytes, inner: Any, verbose: int) -> str:
    """What is said about one type, from its comma on."""
    rest = icmp.rest
    if icmp.type == 1:
        return f", {_unreach6(icmp, inner)}"
    if icmp.type == 2:
        return f", mtu {rest}"
    if icmp.type == 3:
        if icmp.code == 1:
            return " (reassembly)"
        return f" for {ip6_text(inner.ip.daddr)}" if isinstance(inner, Quote) else ""
    if icmp.type == 4:
        return f", {('erroneous', 'next header', 'option')[min(icmp.code, 2)]} - octet {rest}"
    if icmp.type in (128, 129):
        return f", id {rest >> 16}, seq {rest & 0xFFFF}"
    if icmp.type == 135 and len(data) >= 16:
        return f", who has {ip6_text(int.from_bytes(data[:16], 'big'))}"
    if icmp.type == 136 and len(data) >= 16:
        flags = [name for bit, name in ((31, "router"), (30, "solicited"), (29, "override")) if rest >> bit & 1]
        shown = f", Flags [{', '.join(flags) or 'none'}]" if verbose else ""
        return f", tgt is {ip6_text(int.from_bytes(data[:16], 'big'))}{shown}"
    return ""


def _unreach6(icmp: IcmpHdr, inner: Any) -> str:
    """The reason and the quoted target."""
    if icmp.code > 4 or not isinstance(inner, Quote):
        return f"unknown unreach code ({icmp.code})"
    dst, src = ip6_text(inner.ip.daddr), ip6_text(inner.ip.saddr)
    if icmp.code < 4:
        return _UNREACH6[icmp.code].format(dst=dst, src=src)
    proto = getattr(inner.ip, "nexthdr", 0)
    port = getattr(inner.l4, "dport", 0)
    name = {IPPROTO_TCP: "tcp", IPPROTO_UDP: "udp"}.get(proto, f"protocol {proto}")
    return f"unreachable port, {dst} {name} port {port}"


def _options6(options: bytes, verbose: int) -> str:
    """Neighbour discovery options, one line each (RFC 4861 4.6)."""
    out, at = "", 0
    names = {1: "source link-address", 2: "destination link-address"}
    while at + 8 <= len(options) and options[at + 1]:
        kind, units = options[at], options[at + 1]
        value = options[at + 2 : at + units * 8]
        out += f"\n\t  {names.get(kind, 'unknown')} option ({kind}), length {units * 8} ({units}): "
        if kind in names:
            out += mac_text(int.from_bytes(value[:6], "big"))
            if verbose > 1:
                out += hex_dump(value, "\n\t    ")
        at += units * 8
    return out
