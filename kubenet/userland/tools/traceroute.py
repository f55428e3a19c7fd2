"""traceroute 2.1.2 and tracepath: who is on the way, by packets whose TTL ends there.

traceroute sends UDP to ports from 33434 up and reads the error queue of its socket; -I sends ICMP echo requests, -T SYNs to one port,
both through raw sockets, which see the routers' errors and the target's answers. tracepath lets the path's MTU limit what it sends and
tells where it shrinks. simplified: one probe at a time, where the real ones have sixteen under way.

Source: traceroute(8), tracepath(8), observed output.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EMSGSIZE
from typing import NamedTuple

from kubenet.kernel.socket.errqueue import ip_recv_error
from kubenet.units import MSEC, SEC
from kubenet.userland.process import Process
from kubenet.userland.resolver import ResolveError, lookup, reverse_lookup
from kubenet.userland.syscalls import AF_INET, SOCK_DGRAM, SOCK_RAW
from kubenet.userland.tools import tool
from kubenet.userland.tools.coreutils import seconds
from kubenet.userland.tools.traceroute_usage import USAGE
from kubenet.wire.addr import ip4, ip4_text
from kubenet.wire.checksum import pseudo_header4
from kubenet.wire.errors import WireError
from kubenet.wire.icmp import IcmpHdr, build_icmp
from kubenet.wire.packet import bytes_to_frame
from kubenet.wire.tcp import ACK, RST, SYN, TcpHdr, TcpOptions, build_tcp

IP_TTL, IP_RECVERR, IP_MTU_DISCOVER, IP_MTU = 2, 11, 10, 14
POLLIN, POLLERR = 1, 8
ICMP, TCP = 1, 6
HEADERS = 28
UNREACHABLE = {0: " !N", 1: " !H", 2: " !P", 4: " !F", 5: " !S", 9: " !X", 10: " !X", 13: " !X"}
OPTIONS = {"-q": "nqueries", "-m": "max_ttl", "-w": "MAX,HERE,NEAR", "-f": "first_ttl", "-p": "port", "-z": "sendwait", "-s": "src_addr",
           "-i": "device", "-N": "squeries", "-t": "tos"}


class Answer(NamedTuple):
    """To one probe: from whom, after how long (ns); type and code of an ICMP error, type -1 for the target's own answer."""

    sender: str
    rtt: int
    type: int
    code: int
    mtu: int = 0


Prober = Callable[[Process, str, int, int, int, int], "Answer | None"]  # (process, address, number, ttl, size, wait)


def udp_probe(proc: Process, address: str, number: int, ttl: int, size: int, wait: int) -> Answer | None:
    """One datagram of `size` bytes as an IP packet."""
    sys = proc.sys
    fd = sys.socket(AF_INET, SOCK_DGRAM)
    try:
        sys.setsockopt(fd, 0, IP_RECVERR, 1)
        sys.setsockopt(fd, 0, IP_TTL, ttl)
        sys.connect(fd, (address, number))
        began = sys.now()
        sys.send(fd, bytes(max(size - HEADERS, 0)))
        if not sys.poll([(fd, POLLIN | POLLERR)], wait):
            return None
        entry = ip_recv_error(sys.sock(fd))
        return Answer(ip4_text(entry.offender), sys.now() - began, entry.type, entry.code, entry.info)
    except OSError:
        return None
    finally:
        sys.close(fd)


def icmp_probe(proc: Process, address: str, number: int, ttl: int, size: int, wait: int) -> Answer | None:
    """One echo request."""
    rest = proc.pid << 16 & 0xFFFF0000 | number & 0xFFFF
    body = bytes(max(size - HEADERS, 0))
    packet = build_icmp(IcmpHdr(8, 0, rest), body) + body

    def mine(kind: int, header: object) -> bool:
        return isinstance(header, IcmpHdr) and header.type == (0 if kind == ICMP else 8) and header.rest == rest

    return _raw_probe(proc, ICMP, packet, address, ttl, wait, mine)


def tcp_probe(port: int) -> Prober:
    """SYNs to one port; the kernel, which knows of no such connection, resets what the target opens."""

    def probe(proc: Process, address: str, number: int, ttl: int, size: int, wait: int) -> Answer | None:
        sport, source = 32768 + number % 28000, _source(proc, address)
        syn = TcpHdr(sport, port, number << 16 & 0xFFFFFFFF, 0, SYN, 5840, TcpOptions(mss=1460))
        packet = build_tcp(syn, b"", pseudo_header4(source, ip4(address), TCP, syn.doff))

        def mine(kind: int, header: object) -> bool:
            if not isinstance(header, TcpHdr):
                return False
            if kind == TCP:
                return header.dport == sport and header.sport == port and bool(header.flags & (SYN | RST)) and bool(header.flags & ACK)
            return header.sport == sport and header.dport == port

        return _raw_probe(proc, TCP, packet, address, ttl, wait, mine)

    return probe


def _source(proc: Process, address: str) -> int:
    """The address from which packets to the target go."""
    sys = proc.sys
    fd = sys.socket(AF_INET, SOCK_DGRAM)
    try:
        sys.connect(fd, (address, 1025))
        return ip4(sys.getsockname(fd)[0])
    finally:
        sys.close(fd)


Mine = Callable[[int, object], bool]  # (protocol of an answer or 0 for a quoted packet, its header)


def _raw_probe(proc: Process, proto: int, packet: bytes, address: str, ttl: int, wait: int, mine: Mine) -> Answer | None:
    """The packet goes out; the first answer that is `mine`: a packet of the same protocol, or an ICMP error that quotes it."""
    sys = proc.sys
    fds = [sys.socket(AF_INET, SOCK_RAW, proto)] + ([sys.socket(AF_INET, SOCK_RAW, ICMP)] if proto != ICMP else [])
    try:
        sys.setsockopt(fds[0], 0, IP_TTL, ttl)
        began = sys.now()
        sys.sendto(fds[0], packet, (address, 0))
        while (left := began + wait - sys.now()) > 0:
            for fd, _ in sys.poll([(fd, POLLIN) for fd in fds], left):
                data, sender = sys.recvfrom(fd, 65535)
                try:
                    frame = bytes_to_frame(data, False)
                except WireError:
                    continue
                if mine(proto, frame.l4):
                    return Answer(sender[0], sys.now() - began, -1, 0)
                if isinstance(frame.l4, IcmpHdr) and frame.l4.type in (3, 11) and frame.inner is not None and mine(0, frame.inner.l4):
                    return Answer(sender[0], sys.now() - began, frame.l4.type, frame.l4.code)
        return None
    except OSError:
        return None
    finally:
        for fd in fds:
            sys.close(fd)


class BadOption(Exception):
    """What traceroute says before it exits with 2."""


class Settings:
    """A command line of traceroute."""

    def __init__(self, args: list[str]) -> None:
        """Raises BadOption."""
        self.numeric = self.icmp = self.tcp = False
        self.target, self.size, self.count = "", 60, len(args)
        self.values = {"-q": "3", "-m": "30", "-w": "5", "-f": "1", "-p": ""}
        rest = list(args)
        while rest:
            word = rest.pop(0)
            if word in ("-n", "-I", "-T", "-4"):
                self.numeric, self.icmp, self.tcp = self.numeric or word == "-n", self.icmp or word == "-I", self.tcp or word == "-T"
            elif word in ("--icmp", "--tcp"):
                self.icmp, self.tcp = self.icmp or word == "--icmp", self.tcp or word == "--tcp"
            elif word[:2] in OPTIONS:
                if not word[2:] and not rest:
                    raise BadOption(f"Option `{word}' (argc {len(args) - len(rest)}) requires an argument: `{word} {OPTIONS[word]}'\n")
                self.values[word[:2]] = word[2:] or rest.pop(0)
            elif word.startswith("-"):
                raise BadOption(f"Bad option `{word}' (argc {len(args) - len(rest)})\n")
            elif not self.target:
                self.target, self.at = word, len(args) - len(rest)
            elif word.isdigit():
                self.size = max(int(word), HEADERS)

    def number(self, option: str) -> int:
        """The value of -q, -m, -f. Raises BadOption."""
        text = self.values[option]
        if not text.isdigit() or not 1 <= int(text) <= 255:
            raise BadOption({"-m": "max hops cannot be more than 255\n", "-f": "first hop out of range\n",
                             "-q": "no more than 10 probes per hop\n"}[option])
        return int(text)


@tool("traceroute")
def traceroute(proc: Process, argv: list[str]) -> int:
    """traceroute [-n] [-I | -T [-p PORT]] [-f FIRST] [-m HOPS] [-q PROBES] [-w SECONDS] HOST [LENGTH]"""
    if len(argv) == 1 or "--help" in argv:
        proc.out(USAGE)
        return 0
    try:
        settings = Settings(argv[1:])
        first, hops, probes = (settings.number(option) for option in ("-f", "-m", "-q"))
        if not settings.target:
            raise BadOption("Specify \"host\" missing argument.\n")
        wait = seconds(settings.values["-w"].partition(",")[0])
        address = lookup(proc, settings.target, AF_INET)[0][0][1]
    except BadOption as bad:
        proc.err(str(bad))
        return 2
    except ValueError:
        proc.err(f"bad wait specifications `{settings.values['-w']}' used\n")
        return 2
    except ResolveError as error:
        proc.err(f"{settings.target}: {error.text}\nCannot handle \"host\" cmdline arg `{settings.target}' on position 1 "
                 f"(argc {settings.at})\n")
        return 2
    probe: Prober = udp_probe
    number = int(settings.values["-p"] or 33434)
    if settings.icmp:
        probe, number = icmp_probe, int(settings.values["-p"] or 1)
    elif settings.tcp:
        probe, number = tcp_probe(int(settings.values["-p"] or 80)), 1
    proc.out(f"traceroute to {settings.target} ({address}), {hops} hops max, {settings.size} byte packets\n")
    for hop in range(first, hops + 1):
        line, last, done = f"{hop:2d} ", "", False
        for _ in range(probes):
            answer = probe(proc, address, number, hop, settings.size, wait)
            number += 1
            if answer is None:
                line += " *"
                continue
            if answer.sender != last:
                name = answer.sender if settings.numeric else f"{reverse_lookup(proc, answer.sender) or answer.sender} ({answer.sender})"
                line += f" {name}"
                last = answer.sender
            line += f"  {answer.rtt // MSEC}.{answer.rtt % MSEC // 1000:03d} ms"
            if answer.type == 3 and answer.code != 3:
                line += UNREACHABLE.get(answer.code, f" !{answer.code}")
            done = done or answer.type in (3, -1)
        proc.out(line + "\n")
        if done:
            break
    return 0


@tool("tracepath")
def tracepath(proc: Process, argv: list[str]) -> int:
    """tracepath [-n] [-m HOPS] HOST"""
    args, numeric, hops, target = argv[1:], False, 30, ""
    while args:
        word = args.pop(0)
        if word == "-n":
            numeric = True
        elif word in ("-m", "-p", "-l") and args:
            hops = int(value) if (value := args.pop(0)).isdigit() and word == "-m" else hops
        elif not word.startswith("-"):
            target = word
    try:
        address = lookup(proc, target, AF_INET)[0][0][1] if target else ""
    except ResolveError as error:
        proc.err(f"tracepath: {target}: {error.text}\n")
        return 1
    if not target:
        proc.err("tracepath: usage error: Destination required\n")
        return 1
    mtu = _path_mtu(proc, address)
    proc.out(f" 1?: [LOCALHOST]                      pmtu {mtu}\n")
    port, ttl, tries = 44444, 1, 0
    while ttl <= hops:
        answer = _sized_probe(proc, address, port, ttl, mtu)
        port += 1
        if isinstance(answer, int):  # too long for the way as it is known now
            mtu = answer
            proc.out(f"{ttl:2d}:  pmtu {mtu}\n")
            continue
        if answer is None:
            proc.out(f"{ttl:2d}:  no reply\n")
        elif answer.type == 3 and answer.code == 4:
            mtu = answer.mtu
            proc.out(f"{ttl:2d}:  {answer.sender:<51} {_time(answer.rtt)} pmtu {mtu}\n")
            continue
        else:
            name = answer.sender if numeric else reverse_lookup(proc, answer.sender) or answer.sender
            done = answer.type == 3
            proc.out(f"{ttl:2d}:  {name:<51} {_time(answer.rtt)}{'reached' if done else ''}\n")
            if done:
                proc.out(f"     Resume: pmtu {mtu} hops {ttl} back {ttl} \n")
                return 0
        if ttl == 1 and not tries and answer is not None:
            tries = 1  # the first hop is asked twice, once the MTU of the way out is known
            continue
        ttl += 1
    proc.out(f"     Too many hops: pmtu {mtu}\n     Resume: pmtu {mtu} \n")
    return 0


def _time(ns: int) -> str:
    return f"{ns // MSEC:3d}.{ns % MSEC // 1000:03d}ms "


def _path_mtu(proc: Process, address: str) -> int:
    sys = proc.sys
    fd = sys.socket(AF_INET, SOCK_DGRAM)
    try:
        sys.connect(fd, (address, 1025))
        return int(sys.getsockopt(fd, 0, IP_MTU))
    finally:
        sys.close(fd)


def _sized_probe(proc: Process, address: str, port: int, ttl: int, mtu: int) -> Answer | int | None:
    """A datagram as large as the way allows, which no router may cut; the new MTU if it is too large to be sent."""
    sys = proc.sys
    fd = sys.socket(AF_INET, SOCK_DGRAM)
    try:
        sys.setsockopt(fd, 0, IP_RECVERR, 1)
        sys.setsockopt(fd, 0, IP_MTU_DISCOVER, 2)
        sys.setsockopt(fd, 0, IP_TTL, ttl)
        sys.connect(fd, (address, port))
        began = sys.now()
        sys.send(fd, bytes(mtu - HEADERS))
        if not sys.poll([(fd, POLLIN | POLLERR)], SEC):
            return None
        entry = ip_recv_error(sys.sock(fd))
        return Answer(ip4_text(entry.offender), sys.now() - began, entry.type, entry.code, entry.info)
    except OSError as error:
        return int(sys.getsockopt(fd, 0, IP_MTU)) if error.errno == EMSGSIZE else None
    finally:
        sys.close(fd)
