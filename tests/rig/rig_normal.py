"""What both worlds saw, in a form in which it can be compared.

    frames   one line per frame and device; sequence numbers count from the SYN, timestamps become TS (echoing the last one),
             `TS old` or `TS ecr 0`; IP ids are only told apart from 0; MAC addresses, ARP and IPv6 are left out
    ss       State Recv-Q Send-Q local peer timer-name
    ct       conntrack -L without mark and use; the timeout apart
    rules    iptables-save -c: rules and policies whose counters moved
    snmp     counters that moved

Ports that nobody chose (not in the script, not below 1024) become p1, p2 ... in the order in which the recorded frames show
them, so a random port is equal to another random port.
"""

from __future__ import annotations

import re
from typing import Any

from kubenet.wire.addr import ip4_text
from kubenet.wire.errors import WireError
from kubenet.wire.icmp import IcmpHdr, Quote
from kubenet.wire.ipv4 import IpHdr
from kubenet.wire.packet import bytes_to_frame
from kubenet.wire.tcp import TcpHdr
from kubenet.wire.udp import UdpHdr

FLAG_LETTERS = ((2, "S"), (1, "F"), (4, "R"), (8, "P"), (32, "U"), (64, "E"), (128, "W"), (16, "."))
IGNORED_SNMP = ("Octets", "Pkts", "TCPHP", "TCPPureAcks", "AutoCorking", "Reasm", "RcvCoalesce", "BacklogCoalesce", "RtoMin", "RtoMax",
                "MaxConn", "RtoAlgorithm", "DefaultTTL", "Forwarding", "CurrEstab", "MPTcpExt", "IcmpMsg", "UdpLite")
IMAGINARY = 1 << 32


class Ports:
    """Names for ports that were drawn."""

    def __init__(self, script: str) -> None:
        self.known = {int(n) for n in re.findall(r"\d+", script) if int(n) < 65536} | {8080, 5353}
        self.names: dict[int, str] = {}

    def name(self, port: int) -> str:
        if port in self.known or port < 1024:
            return str(port)
        return self.names.setdefault(port, f"p{len(self.names) + 1}")

    def text(self, text: str) -> str:
        """The text with ports that were drawn replaced (after = or :)."""
        return re.sub(r"(?<=[=:])(\d{4,5})\b", lambda m: self.name(int(m[1])), text)


class DeviceLog:
    """The frames of one device, in words."""

    def __init__(self, ports: Ports) -> None:
        self.ports = ports
        self.isn: dict[tuple[int, int, int, int], int] = {}
        self.tsval: dict[tuple[int, int, int, int], int] = {}

    def line(self, outgoing: bool, data: bytes) -> str:
        """The frame in words, "" if it is not compared."""
        try:
            frame = bytes_to_frame(data)
        except WireError as error:
            return f"unreadable: {error}"
        ip = frame.l3
        if not isinstance(ip, IpHdr) or ip.proto == 2:
            return ""
        words = [">" if outgoing else "<", self._packet(ip, frame.l4, frame.inner, len(frame.payload))]
        words.append(f"ttl {ip.ttl}")
        if ip.tos:
            words.append(f"tos {ip.tos:#x}")
        if not ip.frag & 0x4000:
            words.append("noDF")
        if ip.id == 0:
            words.append("id0")
        return " ".join(words)

    def _packet(self, ip: IpHdr, l4: Any, inner: Any, size: int) -> str:
        src, dst = ip4_text(ip.saddr), ip4_text(ip.daddr)
        if ip.frag & 0x3FFF:
            more = "+" if ip.frag & 0x2000 else ""
            return f"{src} > {dst} proto {ip.proto} frag {(ip.frag & 0x1FFF) * 8}:{size}{more}"
        if isinstance(l4, TcpHdr):
            head = f"{src}:{self.ports.name(l4.sport)} > {dst}:{self.ports.name(l4.dport)}"
            return f"{head} {self._tcp((ip.saddr, l4.sport, ip.daddr, l4.dport), l4, size)}"
        if isinstance(l4, UdpHdr):
            return f"{src}:{self.ports.name(l4.sport)} > {dst}:{self.ports.name(l4.dport)} udp {size}"
        if isinstance(l4, IcmpHdr):
            return f"{src} > {dst} {self._icmp(l4, inner, size)}"
        return f"{src} > {dst} proto {ip.proto} {size}"

    def _tcp(self, key: tuple[int, int, int, int], tcp: TcpHdr, size: int) -> str:
        back = key[2:] + key[:2]
        flags = "".join(letter for bit, letter in FLAG_LETTERS if tcp.flags & bit) or "none"
        if tcp.flags & 2:
            self.isn[key] = tcp.seq
        words = [flags, f"seq {self._relative(key, tcp.seq)}"]
        if size:
            words.append(f"len {size}")
        if tcp.flags & 16:
            words.append(f"ack {self._relative(back, tcp.ack_seq)}")
        elif tcp.ack_seq:
            words.append("ack!")
        words.append(f"win {tcp.window}")
        options = self._options(key, back, tcp)
        return " ".join(words + ([f"<{','.join(options)}>"] if options else []))

    def _relative(self, key: tuple[int, int, int, int], number: int) -> str:
        if key not in self.isn:
            return "0" if number == 0 else "?"
        value = (number - self.isn[key]) & 0xFFFFFFFF
        return "abs0" if number == 0 else str(value - IMAGINARY if value >> 31 else value)

    def _options(self, key: tuple[int, int, int, int], back: tuple[int, int, int, int], tcp: TcpHdr) -> list[str]:
        opt, words = tcp.options, []
        if opt.mss:
            words.append(f"mss {opt.mss}")
        if opt.sack_perm:
            words.append("sackOK")
        if opt.ts:
            last = self.tsval.get(back)
            words.append("TS ecr 0" if opt.tsecr == 0 else "TS" if last is None or abs(opt.tsecr - last) <= 3 else "TS old")
            self.tsval[key] = opt.tsval
        if opt.wscale >= 0:
            words.append(f"wscale {opt.wscale}")
        words += [f"sack {self._relative(back, a)}:{self._relative(back, b)}" for a, b in opt.sacks]
        return words + (["other"] if opt.other else [])

    def _icmp(self, icmp: IcmpHdr, inner: Any, size: int) -> str:
        if not isinstance(inner, Quote):
            return f"icmp {icmp.type}/{icmp.code} len {size}" + (f" seq {icmp.rest & 0xFFFF}" if icmp.type in (0, 8) else "")
        extra = f" mtu {icmp.rest & 0xFFFF}" if (icmp.type, icmp.code) == (3, 4) else ""
        extra = f" gw {ip4_text(icmp.rest)}" if icmp.type == 5 else extra
        ip, l4 = inner.ip, inner.l4
        ends = [ip4_text(ip.saddr), ip4_text(ip.daddr)]
        if isinstance(l4, (TcpHdr, UdpHdr)):
            ends = [f"{ends[0]}:{self.ports.name(l4.sport)}", f"{ends[1]}:{self.ports.name(l4.dport)}"]
        kind = {TcpHdr: "tcp", UdpHdr: "udp", IcmpHdr: "icmp"}.get(type(l4), "?")
        return f"icmp {icmp.type}/{icmp.code}{extra} [{ends[0]} > {ends[1]} {kind} ttl {ip.ttl} data {len(inner.data)}]"


Raw = list[tuple[float, str, bool, bytes]]


def frames(raw: dict[str, Raw], watches: Any, ports: Ports, start: dict[str, float]) -> dict[str, list[list[Any]]]:
    """{"a/eth0": [[ms, line], ...]} of the watched devices; `start`: what is 0 in each namespace's clock."""
    out: dict[str, list[list[Any]]] = {}
    for space in raw:
        logs: dict[str, DeviceLog] = {}
        for when, device, outgoing, data in raw[space]:
            if not watches(space, device):
                continue
            text = logs.setdefault(device, DeviceLog(ports)).line(outgoing, data)
            if text:
                out.setdefault(f"{space}/{device}", []).append([round((when - start[space]) * 1000, 1), text])
    return out


def ss_lines(text: str, ports: Ports) -> list[str]:
    """`ss -Htano` (or -Htuano), sorted; timers only by name and tries, listeners first by the alphabet's grace."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if words:
            timer = re.search(r"timer:\((\w[\w-]*),[^,]*,(\d+)\)", line)
            found.append(ports.text(" ".join(words[:5] if words[0].isupper() else words[:6])) + (f" {timer[1]},{timer[2]}" if timer else ""))
    return sorted(found)


def ct_lines(text: str, ports: Ports) -> list[list[Any]]:
    """`conntrack -L`: [seconds left, rest of the line], sorted by the rest."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 4 and words[1].isdigit():
            rest = [w for w in words[3:] if not w.startswith(("mark=", "use=", "secctx="))]
            found.append([int(words[2]), ports.text(" ".join([words[0], *rest]))])
    return sorted(found, key=lambda row: row[1])


def rule_lines(text: str) -> list[str]:
    """`iptables-save -c`: what moved, with its counters."""
    found, table = [], ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":") and not line.endswith("[0:0]"):
            found.append(f"{table} {line}")
        elif line.startswith("[") and not line.startswith("[0:0]"):
            found.append(f"{table} {line}")
    return found


def snmp_lines(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Counters that moved, without those that say how and not what."""
    moved = {}
    for name, value in after.items():
        change = value - before.get(name, 0)
        if change and not any(word in name for word in IGNORED_SNMP):
            moved[name] = change
    return dict(sorted(moved.items()))
