"""ping, traceroute, arping.

ping uses a raw ICMP socket (root's way in iputils), so it sees errors that routers send: "Destination Host Unreachable",
"Time to live exceeded", "Frag needed". Texts are iputils 20221126's. traceroute sends UDP from port 33434 up with growing TTL and
reads its error queue. Source: ping(8), traceroute(8), observed output.
"""

from __future__ import annotations

from errno import EMSGSIZE

from kubenet.units import MSEC, SEC
from kubenet.userland.process import Process
from kubenet.userland.resolver import ResolveError, lookup, reverse_lookup
from kubenet.userland.syscalls import AF_INET, SOCK_DGRAM, SOCK_RAW
from kubenet.userland.tools import tool
from kubenet.userland.tools.coreutils import seconds
from kubenet.wire.checksum import csum
from kubenet.wire.errors import WireError
from kubenet.wire.icmp import IcmpHdr
from kubenet.wire.packet import ParsedFrame, bytes_to_frame

UNREACHABLE = {0: "Destination Net Unreachable", 1: "Destination Host Unreachable", 2: "Destination Protocol Unreachable",
               3: "Destination Port Unreachable", 4: "Frag needed and DF set", 5: "Source Route Failed",
               9: "Destination Net Prohibited", 10: "Destination Host Prohibited", 13: "Packet filtered"}
IP_TTL, IP_RECVERR, IP_MTU_DISCOVER, IP_MTU = 2, 11, 10, 14
POLLIN, POLLERR = 1, 8


class Ping:
    """One run: options, socket, what was sent and came back."""

    def __init__(self, proc: Process) -> None:
        self.proc = proc
        self.count = 0
        self.interval = SEC
        self.size = 56
        self.wait = 10 * SEC
        self.deadline = 0
        self.ttl = 0
        self.quiet = self.flood = self.numeric = False
        self.dont_fragment = False
        self.source = ""
        self.sent = self.received = self.errors = self.duplicates = 0
        self.rtts: list[int] = []
        self.times: dict[int, int] = {}
        self.answered: dict[int, bool] = {}  # sequence numbers whose first answer is here
        self.stop: list[int] = []

    def parse(self, args: list[str]) -> str | None:
        """The target, None after a usage error."""
        target = None
        while args:
            arg = args.pop(0)
            if not arg.startswith("-") or arg == "-":
                target = arg
                continue
            letter, value = arg[1], arg[2:]
            if letter in "ciswWtIMQp" and not value:
                value = args.pop(0) if args else ""
            if letter == "c":
                self.count = int(value)
            elif letter == "i":
                self.interval = seconds(value)
            elif letter == "s":
                self.size = int(value)
            elif letter == "W":
                self.wait = seconds(value)
            elif letter == "w":
                self.deadline = seconds(value)
            elif letter == "t":
                self.ttl = int(value)
            elif letter == "I":
                self.source = value
            elif letter == "M":
                self.dont_fragment = value == "do"
            elif letter in "qnf4":
                self.quiet = self.quiet or letter == "q"
                self.flood = self.flood or letter == "f"
            else:
                self.proc.err(f"ping: invalid option -- '{letter}'\n")
                return None
        return target

    def run(self, target: str) -> int:
        proc = self.proc
        try:
            address = lookup(proc, target, AF_INET)[0][0][1]
        except ResolveError as error:
            proc.err(f"ping: {target}: {error.text}\n")
            return 2
        sys = proc.sys
        fd = sys.socket(AF_INET, SOCK_RAW, 1)
        if self.ttl:
            sys.setsockopt(fd, 0, IP_TTL, self.ttl)
        if self.dont_fragment:
            sys.setsockopt(fd, 0, IP_MTU_DISCOVER, 2)
        if self.source:
            self._bind(fd)
        try:
            proc.sys.connect(_probe := sys.socket(AF_INET, SOCK_DGRAM), (address, 1025))
            sys.close(_probe)
        except OSError as error:
            proc.err(f"ping: connect: {error.strerror}\n")
            return 2
        proc.handlers[2] = self.stop.append
        proc.out(f"PING {target} ({address}) {self.size}({self.size + 28}) bytes of data.\n")
        self.loop(fd, address)
        return self.summary(target)

    def _bind(self, fd: int) -> None:
        if self.source.replace(".", "").isdigit():
            self.proc.sys.bind(fd, (self.source, 0))
        else:
            self.proc.sys.setsockopt(fd, 1, 25, self.source.encode())

    def loop(self, fd: int, address: str) -> None:
        sys = self.proc.sys
        self.began = sys.now()
        end = self.began + self.deadline if self.deadline else 0
        next_send = self.began
        self.ident = self.proc.random.below(65536)
        while not self.stop:
            now = sys.now()
            if now >= next_send and (not self.count or self.sent < self.count):
                self.send(fd, address)
                next_send += self.interval
                self.last_sent = now
            all_sent = self.count and self.sent >= self.count
            if all_sent and self.received + self.errors >= self.count:
                break
            until = next_send
            if all_sent:  # iputils waits two round trips for the last answer, -W when there was none at all
                until = self.last_sent + (max(min(2 * max(self.rtts), self.wait), MSEC) if self.rtts else self.wait)
            if end:
                until = min(until, end)
            now = sys.now()
            if now >= until:
                if all_sent or (end and now >= end):
                    break
                continue
            if sys.poll([(fd, POLLIN | POLLERR)], until - now):
                self.receive(fd, address)
        self.finished = sys.now()

    def send(self, fd: int, address: str) -> None:
        self.sent += 1
        body = bytes(i & 0xFF for i in range(self.size))
        head = IcmpHdr(8, 0, self.ident << 16 | self.sent & 0xFFFF)
        raw = bytearray(bytes([head.type, head.code, 0, 0]) + head.rest.to_bytes(4, "big") + body)
        raw[2:4] = csum(bytes(raw)).to_bytes(2, "big")
        self.times[self.sent & 0xFFFF] = self.proc.sys.now()
        self.answered.pop(self.sent & 0xFFFF, None)
        try:
            self.proc.sys.sendto(fd, bytes(raw), (address, 0))
        except OSError as error:
            if error.errno != EMSGSIZE:
                self.proc.err(f"ping: sendmsg: {error.strerror}\n")
                return
            self.errors += 1
            self.proc.err(f"ping: local error: message too long, mtu={self.path_mtu(address)}\n")

    def path_mtu(self, address: str) -> int:
        """What the route allows. The real tool reads it from its error queue (ee_info)."""
        sys = self.proc.sys
        probe = sys.socket(AF_INET, SOCK_DGRAM)
        try:
            sys.connect(probe, (address, 1025))
            return int(sys.getsockopt(probe, 0, IP_MTU))
        finally:
            sys.close(probe)

    def receive(self, fd: int, address: str) -> None:
        try:
            data, sender = self.proc.sys.recvfrom(fd, 65535)
            frame = bytes_to_frame(data, False)
        except (OSError, WireError):
            return
        head = frame.l4
        if not isinstance(head, IcmpHdr):
            return
        if head.type == 0 and head.rest >> 16 == self.ident:
            self.reply(frame, head, sender[0])
        elif head.type in (3, 5, 11) and frame.inner is not None:
            quoted = frame.inner.l4
            if isinstance(quoted, IcmpHdr) and quoted.type == 8 and quoted.rest >> 16 == self.ident:
                self.error(head, sender[0], quoted.rest & 0xFFFF)

    def reply(self, frame: ParsedFrame, head: IcmpHdr, sender: str) -> None:
        number = head.rest & 0xFFFF
        rtt = self.proc.sys.now() - self.times.get(number, 0)
        again = number in self.answered  # iputils: rcvd_test()
        self.answered[number] = True
        self.duplicates += again
        self.received += not again
        self.rtts.append(rtt)
        if not self.quiet:
            ttl = getattr(frame.l3, "ttl", 0)
            self.proc.out(f"{len(frame.payload) + 8} bytes from {sender}: icmp_seq={number} ttl={ttl} time={rtt_text(rtt)} ms"
                          f"{' (DUP!)' if again else ''}\n")

    def error(self, head: IcmpHdr, sender: str, number: int) -> None:
        if head.type == 5:
            words = f"Redirect Host(New nexthop: {head.rest >> 24}.{head.rest >> 16 & 255}.{head.rest >> 8 & 255}.{head.rest & 255})"
        else:
            self.errors += 1
            words = UNREACHABLE.get(head.code, f"Dest Unreachable, Bad Code: {head.code}") if head.type == 3 else "Time to live exceeded"
            if head.type == 3 and head.code == 4:
                words += f" (mtu = {head.rest & 0xFFFF})"
        if not self.quiet:
            self.proc.out(f"From {sender} icmp_seq={number} {words}\n")

    def summary(self, target: str) -> int:
        lost = 100 * (self.sent - self.received) // self.sent if self.sent else 0
        errors = f", +{self.duplicates} duplicates" if self.duplicates else ""
        errors += f", +{self.errors} errors" if self.errors else ""
        spent = (self.last_sent - self.began if self.count and not self.stop else self.finished - self.began) // MSEC
        if self.received and self.count == self.sent:
            spent = (self.finished - self.began) // MSEC
        self.proc.out(f"\n--- {target} ping statistics ---\n{self.sent} packets transmitted, {self.received} received{errors}, "
                      f"{lost}% packet loss, time {spent}ms\n")
        if self.rtts:
            mean = sum(self.rtts) // len(self.rtts)
            square = sum(r * r for r in self.rtts) // len(self.rtts)
            deviation = int(max(square - mean * mean, 0) ** 0.5)
            values = "/".join(f"{v // MSEC}.{v % MSEC // 1000:03d}" for v in (min(self.rtts), mean, max(self.rtts), deviation))
            self.proc.out(f"rtt min/avg/max/mdev = {values} ms\n")
        else:
            self.proc.out("\n")
        return 0 if self.received else 1


def rtt_text(ns: int) -> str:
    """A round trip as ping prints it: three significant digits below 100 ms."""
    us = (ns + 500) // 1000
    if us >= 100_000:
        return f"{us // 1000}"
    if us >= 10_000:
        return f"{us // 1000}.{us % 1000 // 100}"
    if us >= 1_000:
        return f"{us // 1000}.{us % 1000 // 10:02d}"
    return f"0.{us:03d}"


@tool("ping")
def ping(proc: Process, argv: list[str]) -> int:
    """ping [-c COUNT] [-i INTERVAL] [-W TIMEOUT] [-w DEADLINE] [-s SIZE] [-t TTL] [-I SOURCE] [-M do] [-q] TARGET"""
    run = Ping(proc)
    target = run.parse(argv[1:])
    if target is None:
        proc.err("ping: usage error: Destination address required\n")
        return 1 if len(argv) == 1 else 2
    return run.run(target)


@tool("traceroute")
def traceroute(proc: Process, argv: list[str]) -> int:
    """traceroute [-n] [-q PROBES] [-m HOPS] [-w SECONDS] [-I] HOST"""
    args, numeric, probes, hops, wait, icmp = argv[1:], False, 3, 30, 5 * SEC, False
    target = ""
    while args:
        arg = args.pop(0)
        if arg == "-n":
            numeric = True
        elif arg == "-I":
            icmp = True
        elif arg[:2] in ("-q", "-m", "-w", "-f", "-p"):
            value = arg[2:] or (args.pop(0) if args else "0")
            probes = int(value) if arg[:2] == "-q" else probes
            hops = int(value) if arg[:2] == "-m" else hops
            wait = seconds(value) if arg[:2] == "-w" else wait
        elif not arg.startswith("-") and not target:
            target = arg
    del icmp
    try:
        address = lookup(proc, target, AF_INET)[0][0][1]
    except ResolveError as error:
        proc.err(f"{target}: {error.text}\nCannot handle \"host\" cmdline arg `{target}' on position 1 (argc {len(argv) - 1})\n")
        return 2
    proc.out(f"traceroute to {target} ({address}), {hops} hops max, 60 byte packets\n")
    port = 33434
    for hop in range(1, hops + 1):
        line, last, done = f"{hop:2d} ", "", False
        for _ in range(probes):
            outcome = _probe(proc, address, port, hop, wait)
            port += 1
            if outcome is None:
                line += " *"
                continue
            sender, rtt, kind, code = outcome
            if sender != last:
                name = sender if numeric else f"{reverse_lookup(proc, sender) or sender} ({sender})"
                line += f" {name}"
                last = sender
            line += f"  {rtt // MSEC}.{rtt % MSEC // 1000:03d} ms"
            if kind == 3 and code != 3:
                line += {0: " !N", 1: " !H", 2: " !P", 4: " !F"}.get(code, f" !{code}")
            done = done or kind == 3
        proc.out(line + "\n")
        if done:
            break
    return 0


def _probe(proc: Process, address: str, port: int, ttl: int, wait: int) -> tuple[str, int, int, int] | None:
    """(who answered, round trip, ICMP type, code) of one UDP probe."""
    from kubenet.kernel.socket.errqueue import ip_recv_error
    from kubenet.wire.addr import ip4_text

    sys = proc.sys
    fd = sys.socket(AF_INET, SOCK_DGRAM)
    try:
        sys.setsockopt(fd, 0, IP_RECVERR, 1)
        sys.setsockopt(fd, 0, IP_TTL, ttl)
        sys.connect(fd, (address, port))
        began = sys.now()
        sys.send(fd, bytes(32))
        if not sys.poll([(fd, POLLIN | POLLERR)], wait):
            return None
        entry = ip_recv_error(sys.sock(fd))
        return ip4_text(entry.offender), sys.now() - began, entry.type, entry.code
    except OSError:
        return None
    finally:
        sys.close(fd)


@tool("arping")
def arping(proc: Process, argv: list[str]) -> int:
    """arping: not emulated; ip neigh shows what ARP found."""
    proc.err("arping: packet sockets are not available here; use: ping -c 1 ADDRESS; ip neigh\n")
    return 2
