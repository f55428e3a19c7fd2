"""tcpdump: a tap on devices, a filter, and the lines of kubenet.wire.pretty.

    tcpdump [-i DEV|any] [-nevtSqxXA] [-c COUNT] [-w FILE] [-r FILE] [-Q in|out] [FILTER]

The tap sees what passes and changes nothing (not even its timing); a packet is formatted when the tool's task reads it. Filters:
host net port portrange src dst proto tcp udp icmp arp ip less greater, tcp[tcpflags] & tcp-syn != 0, tcp[13], and or not ( ).

Source: tcpdump(8), pcap-filter(7), observed output. Leaves out: names instead of numbers (as with -n), vlan and other link filters,
arithmetic beyond the flags byte.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from kubenet.kernel.skbuff import ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, SkBuff
from kubenet.sim.wait import WaitQueue
from kubenet.userland.process import Process
from kubenet.userland.resolver import service_port
from kubenet.userland.tools import tool
from kubenet.wire.addr import in_prefix, ip4, parse_cidr
from kubenet.wire.packet import bytes_to_frame, frame_len, frame_to_bytes
from kubenet.wire.pretty import Cooked, Printer, tcpdump_line

PROTOS = {"tcp": 6, "udp": 17, "icmp": 1, "sctp": 132, "igmp": 2}
TCP_FLAGS = {"tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32}
KEYWORDS = (*PROTOS, "ip", "ip6", "arp", "host", "net", "port", "portrange", "src", "dst", "proto", "and", "or", "not", "less", "greater")


class Packet:
    """What a filter looks at."""

    __slots__ = ("kind", "proto", "saddr", "daddr", "sport", "dport", "flags", "length", "icmp")

    def __init__(self, l3: Any, l4: Any, kind: int, length: int) -> None:
        self.kind = kind
        self.proto = getattr(l3, "proto", getattr(l3, "nexthdr", 0)) if kind != ETH_P_ARP else 0
        self.saddr = getattr(l3, "saddr", getattr(l3, "spa", 0))
        self.daddr = getattr(l3, "daddr", getattr(l3, "tpa", 0))
        self.sport = getattr(l4, "sport", -1)
        self.dport = getattr(l4, "dport", -1)
        self.flags = getattr(l4, "flags", 0)
        self.icmp = getattr(l4, "type", -1)
        self.length = length


Test = Callable[[Packet], bool]


class FilterError(Exception):
    """A filter expression that is not one."""


class FilterParser:
    """pcap-filter(7), the part that labs use."""

    def __init__(self, text: str, proc: Process) -> None:
        self.tokens = re.findall(r"\(|\)|!=|==|<=|>=|&&|\|\||[!&|=<>]|[^\s()!&|=<>]+", text)
        self.at = 0
        self.proc = proc
        self.last: tuple[str, str] = ("", "host")

    def parse(self) -> Test:
        if not self.tokens:
            return lambda p: True
        test = self.either()
        if self.at < len(self.tokens):
            raise FilterError("syntax error")
        return test

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def either(self) -> Test:
        left = self.both()
        while self.peek() in ("or", "||"):
            self.at += 1
            left = _or(left, self.both())
        return left

    def both(self) -> Test:
        left = self.negated()
        while self.peek() in ("and", "&&"):
            self.at += 1
            left = _and(left, self.negated())
        return left

    def negated(self) -> Test:
        if self.peek() in ("not", "!"):
            self.at += 1
            inner = self.negated()
            return lambda p: not inner(p)
        if self.peek() == "(":
            self.at += 1
            inner = self.either()
            if self.next() != ")":
                raise FilterError("syntax error")
            return inner
        return self.primitive()

    def primitive(self) -> Test:
        token = self.peek()
        found = re.match(r"(tcp|icmp|ip)\[", token)
        if found:
            return self.bytes_test()
        proto: Test | None = None
        if token in (*PROTOS, "ip", "arp", "ip6"):
            self.at += 1
            proto = _proto(token)
            if self.peek() not in ("src", "dst", "host", "net", "port", "portrange"):
                return proto
        elif token in ("less", "greater"):
            self.at += 1
            if not self.peek().isdigit():
                raise FilterError("syntax error")
            size = int(self.next())
            return (lambda p: p.length <= size) if token == "less" else (lambda p: p.length >= size)
        direction, kind = "", ""
        while self.peek() in ("src", "dst"):
            direction = self.next()
            if self.peek() in ("or", "and") and self.tokens[self.at + 1 : self.at + 2] in (["dst"], ["src"]):
                direction = self.next() + "both"
                self.at += 1
        if self.peek() in ("host", "net", "port", "portrange", "proto"):
            kind = self.next()
        if not direction and not kind and proto is None:
            direction, kind = self.last
        elif not kind:
            kind = "host"
        value = self.next()
        if not re.fullmatch(r"[\w.:/-]+", value) or value in KEYWORDS:
            raise FilterError("syntax error")
        self.last = (direction, kind)
        test = self.value_test(direction, kind, value)
        return test if proto is None else _and(proto, test)

    def value_test(self, direction: str, kind: str, value: str) -> Test:
        if kind == "proto":
            if not value.isdigit() and value not in PROTOS:
                raise FilterError("syntax error")
            return _proto(value) if not value.isdigit() else lambda p: p.proto == int(value)
        if kind in ("port", "portrange"):
            low, _, high = value.partition("-")
            first, last = self.port(low), self.port(high or low)
            return _sides(direction, lambda p: first <= p.sport <= last, lambda p: first <= p.dport <= last)
        try:
            if kind == "net":
                text = value if "/" in value else value + ".0" * (3 - value.count(".")) + f"/{8 * (value.count('.') + 1)}"
                prefix, plen = parse_cidr(text)
            else:
                prefix, plen = self.host(value), 32
        except ValueError:
            raise FilterError("syntax error" if kind == "net" else f"unknown host '{value}'") from None
        return _sides(direction, lambda p: p.kind != ETH_P_IPV6 and in_prefix(p.saddr, prefix, plen),
                      lambda p: p.kind != ETH_P_IPV6 and in_prefix(p.daddr, prefix, plen))

    def host(self, value: str) -> int:
        from kubenet.userland.resolver import ResolveError, lookup

        try:
            return ip4(value)
        except ValueError:
            if not re.search(r"[A-Za-z]", value) or "/" in value or ":" in value:
                raise
            try:
                return ip4(lookup(self.proc, value, 2)[0][0][1])
            except ResolveError:
                raise ValueError(value) from None

    def port(self, text: str) -> int:
        if text.isdigit():
            return int(text)
        found = service_port(self.proc, text)
        if found is None:
            raise FilterError("syntax error")
        return found

    def bytes_test(self) -> Test:
        """tcp[tcpflags] & (tcp-syn|tcp-ack) != 0, tcp[13] == 2, icmp[icmptype] == 8."""
        what = self.next()
        mask = -1
        if self.peek() == "&":
            self.at += 1
            mask = self.bits()
        op = self.next()
        value = self.bits()
        if op not in ("=", "==", "!=", ">", "<", ">=", "<="):
            raise FilterError("syntax error")
        if what in ("tcp[tcpflags]", "tcp[13]"):
            return lambda p: p.proto == 6 and p.kind == ETH_P_IP and _compare(op, p.flags & 0xFF & mask, value)
        if what in ("icmp[icmptype]", "icmp[0]"):
            return lambda p: p.proto == 1 and _compare(op, p.icmp & mask, value)
        raise FilterError("syntax error")

    def bits(self) -> int:
        if self.peek() == "(":
            self.at += 1
            value = self.bits()
            if self.next() != ")":
                raise FilterError("syntax error")
        else:
            token = self.next()
            names = {**TCP_FLAGS, "icmp-echo": 8, "icmp-echoreply": 0, "icmp-unreach": 3}
            if token not in names and not re.fullmatch(r"\d+|0x[0-9a-fA-F]+", token):
                raise FilterError("syntax error")
            value = names[token] if token in names else int(token, 0)
        while self.peek() == "|":
            self.at += 1
            value |= self.bits()
        return value


def _and(a: Test, b: Test) -> Test:
    return lambda p: a(p) and b(p)


def _or(a: Test, b: Test) -> Test:
    return lambda p: a(p) or b(p)


def _sides(direction: str, source: Test, dest: Test) -> Test:
    if direction == "src":
        return source
    if direction == "dst":
        return dest
    return _and(source, dest) if direction == "andboth" else _or(source, dest)


def _proto(name: str) -> Test:
    kinds = {"ip": ETH_P_IP, "arp": ETH_P_ARP, "ip6": ETH_P_IPV6}
    if name in kinds:
        kind = kinds[name]
        return lambda p: p.kind == kind
    number = PROTOS[name]
    return lambda p: p.proto == number and p.kind != ETH_P_ARP


def _compare(op: str, a: int, b: int) -> bool:
    return {"=": a == b, "==": a == b, "!=": a != b, ">": a > b, "<": a < b, ">=": a >= b, "<=": a <= b}[op]


class Tap:
    """Hangs on devices and keeps copies of what passes the filter."""

    def __init__(self, proc: Process, test: Test, limit: int, side: str) -> None:
        self.test = test
        self.limit = limit
        self.side = side
        self.queue: list[tuple[int, str, int, int, SkBuff]] = []
        self.wait = WaitQueue(proc.container.loop, "tcpdump")
        self.seen = 0
        self.passed = 0

    def capture(self, dev: Any, skb: SkBuff, outgoing: bool) -> None:
        """A frame passes. It may not be kept: a copy is."""
        if (self.side == "in" and outgoing) or (self.side == "out" and not outgoing):
            return
        self.seen += 1
        if self.limit and self.passed >= self.limit:
            return
        if not self.test(Packet(skb.ip, skb.l4, skb.protocol, skb.len + 14)):
            return
        self.passed += 1
        copy = SkBuff.__new__(SkBuff)
        for name in ("eth", "ip", "l4", "inner"):
            part = getattr(skb, name)
            setattr(copy, name, part.copy() if part is not None and hasattr(part, "copy") else part)
        copy.payload, copy.csum, copy.protocol, copy.len = skb.payload, skb.csum, skb.protocol, skb.len
        self.queue.append((skb.net.loop.now, dev.name, dev.ifindex, 4 if outgoing else skb.pkt_type, copy))
        self.wait.wake()


class Options:
    """The command line."""

    def __init__(self) -> None:
        self.dev = ""
        self.count = 0
        self.write = ""
        self.read = ""
        self.side = ""
        self.words: list[str] = []
        self.printer = Printer()
        self.list = False
        self.unbuffered = True


def parse_args(proc: Process, args: list[str]) -> Options | None:
    """tcpdump's options; None after a message."""
    o = Options()
    while args:
        arg = args.pop(0)
        if arg == "--":
            o.words += args
            break
        if not arg.startswith("-"):
            o.words += [arg, *args]
            break
        if arg.startswith("--"):
            if arg == "--list-interfaces":
                o.list = True
            elif arg in ("--interface",):
                o.dev = args.pop(0)
            continue
        letters = arg[1:]
        while letters:
            c, letters = letters[0], letters[1:]
            if c in "icwrsQBCGWyTzFEjm":
                value = letters or (args.pop(0) if args else "")
                letters = ""
                if c == "i":
                    o.dev = value
                elif c == "c":
                    if not value.isdigit() or int(value) == 0:
                        proc.err(f"tcpdump: invalid packet count {value}\n")
                        return None
                    o.count = int(value)
                elif c == "w":
                    o.write = value
                elif c == "r":
                    o.read = value
                elif c == "Q":
                    o.side = value
            elif not _switch(o, c):
                proc.err(f"tcpdump: invalid option -- '{c}'\ntcpdump version 4.99.3\nlibpcap version 1.10.3\n"
                         "Usage: tcpdump [-AbdDefhHIJKlLnNOpqStuUvxX#] [ -B size ] [ -c count ]\n")
                return None
    return o


def _switch(o: Options, c: str) -> bool:
    p = o.printer
    if c == "e":
        p.ether = True
    elif c == "v":
        p.verbose += 1
    elif c == "S":
        p.absolute_seq = True
    elif c == "q":
        p.quiet = True
    elif c == "t":
        p.tstamp = (p.tstamp or "-") + "t"
    elif c in "xXA":
        p.dump = (p.dump or "-") + c
    elif c == "D":
        o.list = True
    return c in "nNlLpUKfOuIevSqtxXADb#d"


@tool("tcpdump")
def tcpdump(proc: Process, argv: list[str]) -> int:
    """tcpdump: see the file's head."""
    o = parse_args(proc, argv[1:])
    if o is None:
        return 1
    if o.list:
        devs = sorted(proc.net.devs.values(), key=lambda d: (d.kind == "loopback", d.ifindex))
        names = [d.name for d in devs]
        proc.out("".join(f"{n}.{name} [Up, Running]\n" for n, name in enumerate([*names[:-1], "any", *names[-1:]], 1)))
        return 0
    try:
        test = FilterParser(" ".join(o.words), proc).parse()
    except FilterError as error:
        text = str(error)
        proc.err("tcpdump: " + (f"can't parse filter expression: {text}" if text == "syntax error" else text) + "\n")
        return 1
    if o.read:
        return _replay(proc, o, test)
    devs = list(proc.net.devs.values())
    if not o.dev:
        o.dev = next((d.name for d in devs if d.kind != "loopback"), "lo")
    if o.dev != "any":
        devs = [d for d in devs if d.name == o.dev]
        if not devs:
            proc.err(f"tcpdump: {o.dev}: No such device exists\n(No such device exists)\n")
            return 1
    return _live(proc, o, test, devs)


def _live(proc: Process, o: Options, test: Test, devs: list[Any]) -> int:
    cooked = o.dev == "any"
    link = "LINUX_SLL2 (Linux cooked v2)" if cooked else "EN10MB (Ethernet)"
    if cooked and not o.write:
        proc.err("tcpdump: data link type LINUX_SLL2\n")
    if not o.printer.verbose and not o.write:
        proc.err("tcpdump: verbose output suppressed, use -v[v]... for full protocol decode\n")
    proc.err(f"{'tcpdump: ' if o.printer.verbose or o.write else ''}listening on {o.dev}, link-type {link}, snapshot length 262144 bytes\n")
    tap = Tap(proc, test, o.count, o.side)
    for dev in devs:
        dev.taps = [*(dev.taps or []), tap]
    asked: list[int] = []
    for number in (2, 15, 1):
        proc.handlers[number] = asked.append
    shown = 0
    writer = _Writer(o.write) if o.write else None
    epoch = proc.container.epoch
    try:
        while not asked and (not o.count or shown < o.count):
            proc.sys.wait_on(tap.wait, lambda: tap.queue or asked, None)
            batch, tap.queue = tap.queue, []
            for when, name, index, kind, skb in batch:
                if o.count and shown >= o.count:
                    break
                shown += 1
                if writer is not None:
                    writer.add(epoch + when, name, skb)
                    continue
                where = Cooked(name, index, kind) if cooked else None
                proc.out(tcpdump_line(o.printer, epoch + when, skb.eth, skb.ip, skb.l4, skb.inner, skb.payload, skb.csum == 4,
                                      where) + "\n")
    finally:
        for dev in devs:
            left = [t for t in dev.taps or [] if t is not tap]
            dev.taps = left or None
        if writer is not None:
            writer.save(proc)
    proc.err(("\n" if asked else "") + f"{shown} packet{'' if shown == 1 else 's'} captured\n"
             f"{tap.passed} packet{'' if tap.passed == 1 else 's'} received by filter\n0 packets dropped by kernel\n")
    return 0


class _Writer:
    """-w FILE."""

    def __init__(self, path: str) -> None:
        from kubenet.wire.pcap import PcapngWriter

        self.path = path
        self.buffer = io.BytesIO()
        self.pcap = PcapngWriter(self.buffer, [])
        self.interfaces: dict[str, int] = {}

    def add(self, when: int, dev: str, skb: SkBuff) -> None:
        if dev not in self.interfaces:
            self.interfaces[dev] = self.pcap.add_interface(dev)
        self.pcap.write(self.interfaces[dev], when, frame_to_bytes(skb.eth, skb.ip, skb.l4, skb.inner, skb.payload))

    def save(self, proc: Process) -> None:
        self.pcap.flush()
        if self.path == "-":
            proc.out(self.buffer.getvalue())
        elif not proc.dead:
            proc.vfs.write(self.path, self.buffer.getvalue(), cwd=proc.cwd)


def _replay(proc: Process, o: Options, test: Test) -> int:
    from kubenet.wire.errors import WireError
    from kubenet.wire.pcap import read_pcapng

    try:
        data = proc.read_stdin() if o.read == "-" else proc.read_file(o.read)
    except OSError as error:
        proc.err(f"tcpdump: {o.read}: {error.strerror}\n")
        return 1
    proc.err(f"reading from file {o.read}, link-type EN10MB (Ethernet), snapshot length 262144\n")
    shown = 0
    try:
        for packet in read_pcapng(io.BytesIO(data)):
            frame = bytes_to_frame(packet.data)
            kind = frame.eth.proto if frame.eth is not None else ETH_P_IP
            size = frame_len(frame.eth, frame.l3, frame.l4, frame.inner, frame.payload)
            if not test(Packet(frame.l3, frame.l4, kind, size)):
                continue
            proc.out(tcpdump_line(o.printer, packet.t_ns, frame.eth, frame.l3, frame.l4, frame.inner, frame.payload) + "\n")
            shown += 1
            if o.count and shown >= o.count:
                break
    except WireError as error:
        proc.err(f"tcpdump: {error}\n")
        return 1
    return 0
