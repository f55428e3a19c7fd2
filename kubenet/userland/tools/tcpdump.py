"""tcpdump: a tap on devices, a filter, and the lines of kubenet.wire.pretty.

    tcpdump [-i DEV|any] [-nevtSqxXA] [-c COUNT] [-w FILE] [-r FILE] [-Q in|out] [FILTER]

The tap sees what passes and changes nothing (not even its timing); a packet is formatted when the tool's task reads it. Filters:
host net port portrange src dst proto tcp udp icmp arp ip less greater, tcp[tcpflags] & tcp-syn != 0, ip[2:2] > len, and or not ( ).

Source: tcpdump(8), pcap-filter(7), observed output. Leaves out: names instead of numbers (as with -n), vlan and other link filters,
minus and division.
"""

from __future__ import annotations

import io
import operator
import re
from collections.abc import Callable
from typing import Any

from kubenet.kernel.skbuff import ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, SkBuff
from kubenet.sim.wait import WaitQueue
from kubenet.userland.process import Process
from kubenet.userland.resolver import service_port
from kubenet.userland.tools import tool
from kubenet.wire.addr import in_prefix, ip4, parse_cidr, prefix_mask
from kubenet.wire.ethernet import ETH_HLEN
from kubenet.wire.packet import bytes_to_frame, frame_len, frame_to_bytes
from kubenet.wire.pretty import Cooked, Printer, tcpdump_line

PROTOS = {"tcp": 6, "udp": 17, "icmp": 1, "sctp": 132, "igmp": 2}
TCP_FLAGS = {"tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32}
CONSTANTS = {**TCP_FLAGS, "tcpflags": 13, "icmptype": 0, "icmpcode": 1, "icmp-echoreply": 0, "icmp-unreach": 3, "icmp-redirect": 5,
             "icmp-echo": 8, "icmp-timxceed": 11, "icmp-paramprob": 12}
ACCESS = ("ether", "ip", "arp", "tcp", "udp", "icmp", "igmp", "sctp")
RELATIONS: dict[str, Callable[[int, int], bool]] = {"=": operator.eq, "==": operator.eq, "!=": operator.ne, ">": operator.gt,
                                                    "<": operator.lt, ">=": operator.ge, "<=": operator.le}
OPERATIONS: dict[str, Callable[[int, int], int]] = {"&": operator.and_, "|": operator.or_, "+": operator.add, "*": operator.mul,
                                                    "<<": operator.lshift, ">>": operator.rshift}
KEYWORDS = (*PROTOS, "ip", "ip6", "arp", "host", "net", "port", "portrange", "src", "dst", "proto", "and", "or", "not", "less", "greater")


class Packet:
    """What a filter looks at."""

    __slots__ = ("kind", "proto", "saddr", "daddr", "sport", "dport", "length", "parts", "bytes")

    def __init__(self, eth: Any, l3: Any, l4: Any, inner: Any, payload: Any, kind: int, length: int) -> None:
        self.kind = kind
        self.proto = getattr(l3, "proto", getattr(l3, "nexthdr", 0)) if kind != ETH_P_ARP else 0
        self.saddr = getattr(l3, "saddr", getattr(l3, "spa", 0))
        self.daddr = getattr(l3, "daddr", getattr(l3, "tpa", 0))
        self.sport = getattr(l4, "sport", -1)
        self.dport = getattr(l4, "dport", -1)
        self.length = length
        self.parts = (eth, l3, l4, inner, payload)
        self.bytes: bytes | None = None

    def header(self, proto: str) -> bytes:
        """The packet from that header on; nothing if there is no such header, or only a later fragment of it."""
        if self.bytes is None:
            self.bytes = frame_to_bytes(*self.parts)
        start = 0 if self.parts[0] is None else ETH_HLEN
        if proto == "ether":
            return self.bytes
        if proto in ("ip", "arp"):
            return self.bytes[start:] if self.kind == (ETH_P_IP if proto == "ip" else ETH_P_ARP) else b""
        if self.kind != ETH_P_IP or self.proto != PROTOS[proto]:
            return b""
        frame = self.bytes[start:]
        if int.from_bytes(frame[6:8], "big") & 0x1FFF:
            return b""
        return frame[(frame[0] & 15) * 4 :]


Test = Callable[[Packet], bool]
Number = Callable[[Packet], int]


class FilterError(Exception):
    """A filter expression that is not one."""


class FilterParser:
    """pcap-filter(7), the part that labs use."""

    def __init__(self, text: str, proc: Process) -> None:
        self.tokens = re.findall(r"[()\[\]]|!=|==|<=|>=|<<|>>|&&|\|\||[!&|=<>+*]|[^\s()\[\]!&|=<>+*]+", text)
        self.at = 0
        self.proc = proc
        self.last: tuple[str, str] | None = None

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
        """`and` and `or` bind alike, from left to right (pcap-filter(7))."""
        left = self.negated()
        while self.peek() in ("or", "||", "and", "&&"):
            join = _or if self.next() in ("or", "||") else _and
            left = join(left, self.negated())
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
        if token == "len" or (token in ACCESS and self.tokens[self.at + 1 : self.at + 2] == ["["]):
            return self.relation()
        proto: Test | None = None
        if token in (*PROTOS, "ip", "arp", "ip6"):
            self.at += 1
            proto = _proto(token)
            if self.peek() not in ("src", "dst", "host", "net", "port", "portrange", "proto"):
                self.last = None
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
            if self.last is None:
                raise FilterError("syntax error")  # a bare word stands only after another one of its kind
            direction, kind = self.last
        elif not kind:
            kind = "host"
        value = self.next().removeprefix("\\") if kind == "proto" else self.next()
        if not re.fullmatch(r"[\w.:/-]+", value) or (value in KEYWORDS and kind != "proto"):
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
                if self.peek() == "mask":
                    self.at += 1
                    value += f"/{ip4(self.next()).bit_count()}"
                text = value if "/" in value else value + ".0" * (3 - value.count(".")) + f"/{8 * (value.count('.') + 1)}"
                prefix, plen = parse_cidr(text)
                if prefix & ~prefix_mask(plen) & 0xFFFFFFFF:
                    raise FilterError(f'non-network bits set in "{value}"')
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
            if int(text) > 0xFFFF:
                raise FilterError(f"illegal port number {text} > 65535")
            return int(text)
        found = service_port(self.proc, text)
        if found is None:
            raise FilterError(f"unknown port '{text}'")
        return found

    def relation(self) -> Test:
        """tcp[tcpflags] & (tcp-syn|tcp-ack) != 0, ip[2:2] > 100, len <= 64: false where a byte asked for is not there."""
        left = self.arithmetic()
        op = self.next()
        if op not in RELATIONS:
            raise FilterError("syntax error")
        right, compare = self.arithmetic(), RELATIONS[op]

        def test(p: Packet) -> bool:
            a, b = left(p), right(p)
            return a >= 0 and b >= 0 and compare(a, b)

        return test

    def arithmetic(self) -> Number:
        """Numbers joined by operators, from left to right; -1: there is no such byte."""
        left = self.operand()
        while self.peek() in OPERATIONS:
            left = _calculate(OPERATIONS[self.next()], left, self.operand())
        return left

    def operand(self) -> Number:
        token = self.next()
        if token == "(":
            inner = self.arithmetic()
            if self.next() != ")":
                raise FilterError("syntax error")
            return inner
        if token == "len":
            return lambda p: p.length
        if token in ACCESS and self.peek() == "[":
            return self.access(token)
        if token not in CONSTANTS and not re.fullmatch(r"\d+|0x[0-9a-fA-F]+", token):
            raise FilterError("syntax error")
        value = CONSTANTS[token] if token in CONSTANTS else int(token, 0)
        return lambda p: value

    def access(self, proto: str) -> Number:
        """proto [ offset : size ]: so many bytes of that header."""
        self.at += 1
        word, colon, size = self.peek().partition(":")
        if colon and word:
            self.tokens[self.at : self.at + 1] = [word, ":" + size]
        offset = self.arithmetic()
        size = self.next()[1:] if self.peek().startswith(":") else "1"
        if self.next() != "]" or size not in ("1", "2", "4"):
            raise FilterError("syntax error")
        length = int(size)

        def read(p: Packet) -> int:
            data, at = p.header(proto), offset(p)
            return int.from_bytes(data[at : at + length], "big") if 0 <= at <= len(data) - length else -1

        return read


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


def _calculate(operation: Callable[[int, int], int], a: Number, b: Number) -> Number:
    def value(p: Packet) -> int:
        left, right = a(p), b(p)
        return operation(left, right) & 0xFFFFFFFF if left >= 0 and right >= 0 else -1

    return value


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
        if not self.test(Packet(skb.eth, skb.ip, skb.l4, skb.inner, skb.payload, skb.protocol, skb.len + 14)):
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
            if not test(Packet(frame.eth, frame.l3, frame.l4, frame.inner, frame.payload, kind, size)):
                continue
            proc.out(tcpdump_line(o.printer, packet.t_ns, frame.eth, frame.l3, frame.l4, frame.inner, frame.payload) + "\n")
            shown += 1
            if o.count and shown >= o.count:
                break
    except WireError as error:
        proc.err(f"tcpdump: {error}\n")
        return 1
    return 0
