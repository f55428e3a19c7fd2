"""ping.

ping uses a raw ICMP socket (root's way in iputils), so it sees errors that routers send: "Destination Host Unreachable",
"Time to live exceeded", "Frag needed". Texts are iputils 20221126's. Source: ping(8), observed output.
"""

from __future__ import annotations

from errno import EMSGSIZE

from kubenet.units import MSEC, SEC
from kubenet.userland.process import Process
from kubenet.userland.resolver import ResolveError, lookup
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
SOL_SOCKET, SO_BROADCAST, SO_BINDTODEVICE = 1, 6, 25
LIMITS = {"c": (1, (1 << 63) - 1), "s": (0, (1 << 31) - 1), "t": (0, 255), "i": (0, 0), "W": (0, 0), "w": (0, 0)}

USAGE = """\

Usage
  ping [options] <destination>

Options:
  <destination>      dns name or ip address
  -a                 use audible ping
  -A                 use adaptive ping
  -B                 sticky source address
  -c <count>         stop after <count> replies
  -C                 call connect() syscall on socket creation
  -D                 print timestamps
  -d                 use SO_DEBUG socket option
  -e <identifier>    define identifier for ping session, default is random for
                     SOCK_RAW and kernel defined for SOCK_DGRAM
                     Imply using SOCK_RAW (for IPv4 only for identifier 0)
  -f                 flood ping
  -h                 print help and exit
  -I <interface>     either interface name or address
  -i <interval>      seconds between sending each packet
  -L                 suppress loopback of multicast packets
  -l <preload>       send <preload> number of packages while waiting replies
  -m <mark>          tag the packets going out
  -M <pmtud opt>     define mtu discovery, can be one of <do|dont|want>
  -n                 no dns name resolution
  -O                 report outstanding replies
  -p <pattern>       contents of padding byte
  -q                 quiet output
  -Q <tclass>        use quality of service <tclass> bits
  -s <size>          use <size> as number of data bytes to be sent
  -S <size>          use <size> as SO_SNDBUF socket option value
  -t <ttl>           define time to live
  -U                 print user-to-user latency
  -v                 verbose output
  -V                 print version and exit
  -w <deadline>      reply wait <deadline> in seconds
  -W <timeout>       time to wait for response

IPv4 options:
  -4                 use IPv4
  -b                 allow pinging broadcast
  -R                 record route
  -T <timestamp>     define timestamp, can be one of <tsonly|tsandaddr|tsprespec>

IPv6 options:
  -6                 use IPv6
  -F <flowlabel>     define flow label, default is random
  -N <nodeinfo opt>  use icmp6 node info query, try <help> as argument

For more details see ping(8).
"""


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
        self.dont_fragment = self.stamps = self.broadcast = self.bad_value = False
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
            if letter in LIMITS and not self._in_range(letter, value):
                return None
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
            elif letter in "qnf4Db":
                self.quiet = self.quiet or letter == "q"
                self.flood = self.flood or letter == "f"
                self.stamps = self.stamps or letter == "D"
                self.broadcast = self.broadcast or letter == "b"
            else:
                self.proc.err(f"ping: invalid option -- '{letter}'\n{USAGE}")
                return None
        if target is None:
            self.proc.err("ping: usage error: Destination address required\n")
        return target

    def _in_range(self, letter: str, text: str) -> bool:
        """iputils: strtol_or_err(), ping_strtod()."""
        low, high = LIMITS[letter]
        self.bad_value = True
        if letter in "iWw":
            try:
                seconds(text)
            except ValueError:
                self.proc.err(f"ping: invalid argument: '{text}'\n")
                return False
            self.bad_value = False
            return True
        if not text.lstrip("-").isdigit():
            self.proc.err(f"ping: invalid argument: '{text}'\n")
            return False
        if not low <= int(text) <= high:
            self.proc.err(f"ping: invalid argument: '{text}': out of range: {low} <= value <= {high}\n")
            return False
        self.bad_value = False
        return True

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
        if self.source and not self._bind(fd):
            return 2
        probe = sys.socket(AF_INET, SOCK_DGRAM)
        try:
            if self.source and not self.source.replace(".", "").isdigit():
                sys.setsockopt(probe, SOL_SOCKET, SO_BINDTODEVICE, self.source.encode())
            try:
                sys.connect(probe, (address, 1025))
            except PermissionError:
                if not self.broadcast:
                    proc.err("ping: Do you want to ping broadcast? Then -b. If not, check your local firewall rules\n")
                    return 2
                proc.err("WARNING: pinging broadcast address\n")
                for each in (probe, fd):
                    sys.setsockopt(each, SOL_SOCKET, SO_BROADCAST, 1)
                sys.connect(probe, (address, 1025))
            source = sys.getsockname(probe)[0]
        except OSError as error:
            proc.err(f"ping: connect: {error.strerror}\n")
            return 2
        finally:
            sys.close(probe)
        if address == "0.0.0.0":
            address = source
        proc.handlers[2] = self.stop.append
        origin = "" if not self.source else f" from {source} {'' if self.source == source else self.source}:"
        proc.out(f"PING {target} ({address}){origin} {self.size}({self.size + 28}) bytes of data.\n")
        self.loop(fd, address)
        return self.summary(target)

    def _bind(self, fd: int) -> bool:
        """To -I: an address, or a device. False, with a word, if that cannot be."""
        try:
            if self.source.replace(".", "").isdigit():
                self.proc.sys.bind(fd, (self.source, 0))
            else:
                self.proc.sys.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, self.source.encode())
        except OSError as error:
            what = "bind" if self.source.replace(".", "").isdigit() else f"SO_BINDTODEVICE {self.source}"
            self.proc.err(f"ping: {what}: {error.strerror}\n")
            return False
        return True

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
            if error.errno == EMSGSIZE and len(raw) > 65535:
                return  # the kernel says so without a word in the error queue
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

    def _stamp(self) -> str:
        """-D: the time of day before the line. iputils: print_timestamp()."""
        if not self.stamps:
            return ""
        us = self.proc.sys.time() // 1000
        return f"[{us // 1_000_000}.{us % 1_000_000:06d}] "

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
            self.proc.out(f"{self._stamp()}{len(frame.payload) + 8} bytes from {sender}: icmp_seq={number} ttl={ttl} "
                          f"time={rtt_text(rtt)} ms{' (DUP!)' if again else ''}\n")

    def error(self, head: IcmpHdr, sender: str, number: int) -> None:
        if head.type == 5:
            words = f"Redirect Host(New nexthop: {head.rest >> 24}.{head.rest >> 16 & 255}.{head.rest >> 8 & 255}.{head.rest & 255})"
        else:
            self.errors += 1
            words = UNREACHABLE.get(head.code, f"Dest Unreachable, Bad Code: {head.code}") if head.type == 3 else "Time to live exceeded"
            if head.type == 3 and head.code == 4:
                words += f" (mtu = {head.rest & 0xFFFF})"
        if not self.quiet:
            self.proc.out(self._stamp() + f"From {sender} icmp_seq={number} {words}\n")

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
        return 1 if len(argv) == 1 or run.bad_value else 2
    return run.run(target)
