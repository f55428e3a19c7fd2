"""TCP tests that read like tcpdump with a clock: one namespace, whose way to IP is a recorder, against a script.

    wire.run('''
        +0   listen(8)
        +0   < S 0:0(0) win 64240 <mss 1460,sackOK,nop,wscale 7>
        +0   > S. 0:0(0) ack 1 win 64240 <mss 1460,nop,nop,sackOK,nop,wscale 10>
        +.1  < . 1:1(0) ack 1 win 257
        +0   accept()
        +0   write(4000) = 4000
        +0   > P. 1:4001(4000) ack 1
    ''')

A line is a time and an event. `+.1` is that much after the previous event, in virtual time. `<` arrives, `>` must leave at
that time (to TOLERANCE); a packet that leaves and is not in the script fails the test. Sequence numbers are relative to the
initial ones, and the peer's begins just below 2^32. Without `win` the window is not compared; without options there must be
none, `<...>` stands for any. Large segments may leave in several packets. `@40001` after the arrow is another peer's port.
Data is a pattern that both directions check. Calls do not wait; `+0...0.5 read(100) = 100` is a call that does, and its end.
`= -1 EAGAIN` is the errno. The notation is packetdrill's, the interpreter is not.
"""

from __future__ import annotations

import errno
import re
from types import SimpleNamespace
from typing import Any

from kubenet.kernel.host import Host
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import ETH_P_IP, SkBuff
from kubenet.kernel.socket import inet
from kubenet.kernel.socket.sock import AF_INET, SOCK_STREAM, TCP_LISTEN
from kubenet.kernel.tcp import tcp_net_init
from kubenet.kernel.tcp.input import tcp_v4_err, tcp_v4_rcv
from kubenet.kernel.tcp.sock import TcpSock
from kubenet.sim.clock import EventLoop
from kubenet.sim.task import Task, spawn
from kubenet.units import SEC, USEC
from kubenet.wire.addr import ip4
from kubenet.wire.icmp import IcmpHdr, Quote
from kubenet.wire.ipv4 import IpHdr
from kubenet.wire.tcp import TcpHdr, TcpOptions

LOCAL, REMOTE = ip4("192.168.0.1"), ip4("192.0.2.1")
PEER_ISN = 0xFFFF_F000  # so that the peer's numbers wrap soon
TOLERANCE = 500 * USEC
M32 = 0xFFFF_FFFF
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32, "E": 64, "W": 128}
PATTERN = bytes(n % 251 for n in range(251)) * 2

_LINE = re.compile(r"\s*\+([\d.]+?)(?:\.\.\.([\d.]+))?\s+(.*)")
_PACKET = re.compile(
    r"([<>])\s*(?:@(\d+)\s+)?([FSRP.UEW]+|-)\s+(\d+):(\d+)\((\d+)\)(?:\s+ack\s+(\d+))?(?:\s+win\s+(\d+))?(?:\s*<(.*)>)?\s*$")
_CALL = re.compile(r"(\w+)\((.*?)\)(?:\s*=\s*(.*))?$")


def pattern(start: int, size: int) -> bytes:
    """The data at stream offsets start .. start+size (the first byte of a stream is 0)."""
    return (PATTERN * (size // 251 + 2))[start % 251 :][:size]


class Dst:
    """As much of a route as TCP looks at."""

    def __init__(self, features: int, mtu: int = 1500) -> None:
        self.dev = SimpleNamespace(features=features)
        self.type, self.prefsrc, self.pmtu = 1, LOCAL, mtu
        self.obsolete, self.genid = False, 0


class Recorder:
    """An AfOps that keeps what it is given. `refuse`: -errno for every packet; `mtu`: the route's."""

    family = 2
    net_header_len = 20
    header_cls = IpHdr

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.sent: list[tuple[int, SkBuff]] = []
        self.features = 0
        self.mtu_value = 1500
        self.refuse = 0
        self.unreachable = 0

    def route(self, net: NetNamespace, sk: Any, daddr: int, saddr: int, oif: int, dport: int = 0) -> Dst:
        if self.unreachable:
            raise OSError(self.unreachable, "no route")
        return Dst(self.features, self.mtu_value)

    def inet_addr_type(self, net: NetNamespace, addr: int) -> int:
        return 2 if addr in (LOCAL, LOCAL + 1, 0x7F000001) else 1

    def queue_xmit(self, sk: Any, skb: SkBuff) -> int:
        skb.ip = IpHdr(sk.saddr, sk.daddr, 6, sk.ip_ident, 0x4000, sk.ttl or 64, sk.tos)
        return self._xmit(skb)

    def build_and_send(self, net: Any, sk: Any, skb: SkBuff, saddr: int, daddr: int, dst: Any, ttl: int = 0) -> int:
        skb.ip = IpHdr(saddr, daddr, 6)
        return self._xmit(skb)

    def _xmit(self, skb: SkBuff) -> int:
        if self.refuse:
            return self.refuse
        th, payload = skb.l4.copy(), bytes(skb.payload)
        assert len(payload) == skb.plen and skb.len == 20 + th.doff + skb.plen
        assert th.doff == TcpHdr(0, 0, 0, 0, 0, 0, th.options).doff
        keep = SkBuff(skb.net, ETH_P_IP, skb.ip, th, payload, skb.plen, skb.len)
        keep.gso_size, keep.gso_segs = skb.gso_size, skb.gso_segs
        self.sent.append((self.loop.now, keep))
        return 0

    def mtu(self, dst: Any) -> int:
        return self.mtu_value

    def advmss(self, dst: Any) -> int:
        return max(self.mtu_value - 40, 256)

    def local_mtu_reduced(self, sk: Any, mtu: int) -> None:
        self.mtu_value = mtu


class Flow:
    """The numbers of one peer: its port, ours, and our initial sequence number once it was seen."""

    def __init__(self, remote_port: int) -> None:
        self.remote_port = remote_port
        self.local_port = 0
        self.isn: int | None = None


class Wire:
    """The namespace, the script's sockets, and what has left so far."""

    def __init__(self, seed: int = 7, **sysctls: Any) -> None:
        self.loop = EventLoop()
        self.host = Host(self.loop, "host", seed)
        self.net = NetNamespace(self.host, "test")
        self.ops = Recorder(self.loop)
        inet.inet_net_init(self.net, self.ops)
        tcp_net_init(self.net)
        for name, value in sysctls.items():
            self.sysctl(name, value)
        self.loop.run(until=SEC)  # scripts begin at one second, not at zero
        self.last = self.loop.now
        self.flows: dict[int, Flow] = {}
        self.port = 40000
        self.listener: TcpSock | None = None
        self.socket: TcpSock | None = None
        self.written = self.was_read = 0
        self.ts_base: int | None = None
        self.blocked: tuple[Task, int, str, str] | None = None

    def sysctl(self, name: str, value: Any) -> None:
        setattr(self.net.sysctl.ipv4, name, value)

    @property
    def sk(self) -> TcpSock:
        assert self.socket is not None
        return self.socket

    @property
    def snmp(self) -> dict[str, int]:
        return self.net.snmp

    # ---- the script

    def run(self, text: str) -> None:
        """Play the script; a difference raises AssertionError with the line."""
        for line in text.splitlines():
            line = line.split("//")[0].strip()
            if line:
                self.step(line)
        self._finish_blocked()
        assert not self.ops.sent, f"left without being in the script: {[self.text(p) for p in self.ops.sent]}"

    def step(self, line: str) -> None:
        match = _LINE.match(line)
        assert match, f"not a line of a script: {line}"
        at = self.last + round(float(match[1]) * SEC)
        self.line = line
        packet = _PACKET.match(match[3])
        if packet and packet[1] == ">":
            self._expect(at, packet)
            return
        self._advance(at)
        self.last = at
        if packet:
            self._inject(packet)
            return
        call = _CALL.match(match[3])
        assert call, f"not an event: {line}"
        if match[2]:
            self._block(call, self.last + round((float(match[2]) - float(match[1])) * SEC))
        else:
            self._check(self._call(call[1], call[2], False), call[3])

    def _advance(self, at: int) -> None:
        """Run to `at`; nothing may leave on the way."""
        self.loop.run(until=at)
        late = [p for p in self.ops.sent if p[0] < at - TOLERANCE]
        assert not late, f"{self.line}: left before it without being in the script: {[self.text(p) for p in late]}"

    def text(self, sent: tuple[int, SkBuff]) -> str:
        """A recorded packet as the script would write it."""
        when, skb = sent
        th, flow = skb.l4, self._flow(skb.l4.dport)
        names = "".join(name for name, bit in FLAGS.items() if th.flags & bit and bit != 16) + ("." if th.flags & 16 else "")
        seq = (th.seq - (flow.isn or 0)) & M32
        ack = f" ack {(th.ack_seq - PEER_ISN) & M32}" if th.flags & 16 else ""
        return f"+{(when - self.last) / SEC:.6f} > {names} {seq}:{seq + skb.plen}({skb.plen}){ack} win {th.window}"

    # ---- packets

    def _flow(self, port: int) -> Flow:
        return self.flows.setdefault(port, Flow(port))

    def _inject(self, m: re.Match[str]) -> None:
        flow = self._flow(int(m[2]) if m[2] else self.port)
        seq, size = int(m[4]), int(m[6])
        assert int(m[5]) == seq + size, f"{self.line}: end is not start + length"
        flags = sum(FLAGS[c] for c in m[3] if c != "-")
        ack = (flow.isn or 0) + int(m[7]) if m[7] else 0
        options = self._options(m[9] or "", flow, True)
        local = flow.local_port or 8080
        th = TcpHdr(flow.remote_port, local, (PEER_ISN + seq) & M32, ack & M32, flags, int(m[8] or 0), options)
        ip = IpHdr(REMOTE, LOCAL, 6)
        skb = SkBuff(self.net, ETH_P_IP, ip, th, pattern(seq - 1, size), size, 20 + th.doff + size)
        skb.iif = 2
        tcp_v4_rcv(skb)

    def _options(self, text: str, flow: Flow, inbound: bool) -> TcpOptions:
        opt = TcpOptions()
        for item in filter(None, (part.strip() for part in text.split(","))):
            word, *rest = item.split()
            if word == "mss":
                opt.mss = int(rest[0])
            elif word == "wscale":
                opt.wscale = int(rest[0])
            elif word == "sackOK":
                opt.sack_perm = True
            elif word == "TS":
                opt.ts, opt.tsval, opt.tsecr = True, int(rest[1]), int(rest[3])
                if inbound and opt.tsecr and self.ts_base is not None:
                    opt.tsecr = (opt.tsecr + self.ts_base) & M32
            elif word == "sack":
                base = (flow.isn or 0) if inbound else PEER_ISN
                edges = [edge.split(":") for edge in rest]
                opt.sacks = tuple(((int(a) + base) & M32, (int(b) + base) & M32) for a, b in edges)
            else:
                assert word in ("nop", "eol"), f"{self.line}: unknown option {word}"
        return opt

    def _expect(self, at: int, m: re.Match[str]) -> None:
        self.loop.run_until(self._something_left, at + TOLERANCE)
        when, skb = self._take(int(m[6]))
        shown = self.text((when, skb))
        assert abs(when - at) <= TOLERANCE, f"{self.line}: time, was {shown}"
        self.last = when
        th, flow = skb.l4, self._flow(skb.l4.dport)
        flow.local_port = th.sport
        if th.flags & 2 and flow.isn is None or th.flags & 18 == 2:
            flow.isn = th.seq
        if m[2]:
            assert th.dport == int(m[2]), f"{self.line}: to port {th.dport}"
        flags = sum(FLAGS[c] for c in m[3] if c != "-")
        seq, size = int(m[4]), int(m[6])
        assert th.flags == flags, f"{self.line}: flags, was {shown}"
        assert ((th.seq - (flow.isn or 0)) & M32, skb.plen) == (seq & M32, size), f"{self.line}: sequence, was {shown}"
        if m[7]:
            assert (th.ack_seq - PEER_ISN) & M32 == int(m[7]), f"{self.line}: ack, was {shown}"
        if m[8]:
            assert th.window == int(m[8]), f"{self.line}: window, was {shown}"
        if size:
            assert skb.payload == pattern(seq - 1, size), f"{self.line}: the data is not what was written"
        if m[9] != "...":
            self._compare_options(th.options, self._options(m[9] or "", flow, False))

    def _something_left(self) -> bool:
        return bool(self.ops.sent)

    def _take(self, size: int) -> tuple[int, SkBuff]:
        """The next packet, or as many as together have `size` bytes."""
        assert self.ops.sent, f"{self.line}: nothing left"
        when, skb = self.ops.sent.pop(0)
        while skb.plen < size and self.ops.sent:
            then, more = self.ops.sent[0]
            if not skb.plen or more.l4.seq != (skb.l4.seq + skb.plen) & M32 or then - when > TOLERANCE:
                break
            self.ops.sent.pop(0)
            skb.payload, skb.plen = skb.payload + more.payload, skb.plen + more.plen
            skb.l4.flags, skb.l4.window, skb.l4.ack_seq = more.l4.flags, more.l4.window, more.l4.ack_seq
        return when, skb

    def _compare_options(self, got: TcpOptions, want: TcpOptions) -> None:
        got = got.copy()
        if got.ts and want.ts:
            if self.ts_base is None:
                self.ts_base = (got.tsval - want.tsval) & M32
            got.tsval = (got.tsval - self.ts_base) & M32
        assert got == want, f"{self.line}: options, was {got}"

    def icmp(self, type_: int, code: int, mtu: int = 0, seq: int = 1, port: int | None = None) -> None:
        """An ICMP error about a segment with relative number `seq` that was sent to the peer."""
        flow = self._flow(port or self.port)
        quoted = TcpHdr(flow.local_port, flow.remote_port, ((flow.isn or 0) + seq) & M32, 0, 16, 0)
        skb = SkBuff(self.net, ETH_P_IP, IpHdr(REMOTE + 1, LOCAL, 1), IcmpHdr(type_, code, mtu), b"", 0, 56)
        skb.inner = Quote(IpHdr(LOCAL, REMOTE, 6), quoted, b"")
        tcp_v4_err(skb, mtu)

    # ---- calls

    def _call(self, name: str, args: str, wait: bool) -> Any:
        timeout = None if wait else 0
        values = [int(a, 0) for a in args.split(",") if a.strip()]
        try:
            return getattr(self, f"do_{name}")(timeout, *values)
        except OSError as error:
            return f"-1 {errno.errorcode[error.errno or 0]}"

    def _check(self, got: Any, want: str | None) -> None:
        if want is None:
            assert not (isinstance(got, str) and got.startswith("-1")), f"{self.line}: {got}"
        elif want.startswith("-1 "):
            assert got == want.strip(), f"{self.line}: returned {got}"
        else:
            assert got == int(want, 0), f"{self.line}: returned {got}"

    def _block(self, call: re.Match[str], end: int) -> None:
        assert self.blocked is None, f"{self.line}: another call is still waiting"
        task = spawn(self.loop, self._blocking, call[1], call[2], name=call[1])
        self.blocked = (task, end, call[3] or "", self.line)

    def _blocking(self, name: str, args: str) -> tuple[Any, int]:
        result = self._call(name, args, True)
        return result, self.loop.now

    def _finish_blocked(self) -> None:
        if self.blocked is None:
            return
        task, end, want, line = self.blocked
        self.blocked = None
        self.loop.run_until(lambda: task.done, end + TOLERANCE)
        self.line = line
        assert task.done, f"{line}: still waits"
        assert task.error is None, f"{line}: {task.error!r}"
        result, when = task.result
        assert abs(when - end) <= TOLERANCE, f"{line}: returned {(when - end) / SEC:+.6f} s from then"
        self._check(result, want or None)

    def do_wait(self, timeout: int | None) -> int:
        """The blocked call has returned by now."""
        self._finish_blocked()
        return 0

    def do_socket(self, timeout: int | None) -> int:
        self.socket = inet.sock_create(self.net, AF_INET, SOCK_STREAM)  # type: ignore[assignment]
        self.written = self.was_read = 0
        return 0

    def do_bind(self, timeout: int | None, port: int) -> int:
        inet.inet_bind(self.sk, (0, port))
        return 0

    def do_listen(self, timeout: int | None, backlog: int) -> int:
        """A listener on 8080; sockets options may be set before, between socket() and listen()."""
        if self.socket is None:
            self.do_socket(timeout)
        sk = self.sk
        if sk.state != TCP_LISTEN and not sk.sport:
            inet.inet_bind(sk, (0, 8080))
        inet.inet_listen(sk, backlog)
        self.listener = sk
        return 0

    def do_accept(self, timeout: int | None) -> int:
        assert self.listener is not None
        self.socket = inet.inet_accept(self.listener, timeout)  # type: ignore[assignment]
        self.written = self.was_read = 0
        return 0

    def do_connect(self, timeout: int | None) -> int:
        """To port 8080 of the peer."""
        if self.socket is None:
            self.do_socket(timeout)
        self.port = 8080
        inet.inet_connect(self.sk, (REMOTE, 8080), timeout)
        return 0

    def do_write(self, timeout: int | None, size: int, flags: int = 0) -> int:
        taken = inet.inet_sendmsg(self.sk, pattern(self.written, size), flags, None, timeout)
        self.written += taken
        return taken

    def do_read(self, timeout: int | None, size: int, flags: int = 0) -> int:
        data = inet.inet_recvmsg(self.sk, size, flags, timeout)[0]
        assert data == pattern(self.was_read, len(data)), f"{self.line}: the data is not what was sent"
        if not flags & 2:
            self.was_read += len(data)
        return len(data)

    def do_close(self, timeout: int | None) -> int:
        inet.inet_release(self.sk)
        return 0

    def do_close_listener(self, timeout: int | None) -> int:
        assert self.listener is not None
        inet.inet_release(self.listener)
        return 0

    def do_shutdown(self, timeout: int | None, how: int) -> int:
        inet.inet_shutdown(self.sk, how)
        return 0

    def do_poll(self, timeout: int | None) -> int:
        return inet.sock_poll(self.sk)

    def do_setsockopt(self, timeout: int | None, level: int, name: int, value: int) -> int:
        inet.sock_setsockopt(self.sk, level, name, value)
        return 0

    def do_getsockopt(self, timeout: int | None, level: int, name: int) -> int:
        value = inet.sock_getsockopt(self.sk, level, name)
        assert isinstance(value, int)
        return value

    def do_ioctl(self, timeout: int | None, cmd: int) -> int:
        return self.sk.prot.ioctl(self.sk, cmd)

    def do_state(self, timeout: int | None) -> int:
        return self.sk.state

    # ---- beginnings that many scripts share

    def established(self, timestamps: bool = False, sack: bool = False, win: int = 257, wscale: int = 7, mss: int = 1000,
                    our_wscale: int = 10) -> None:
        """A connection that the peer opened, without RTT, accepted."""
        offer = f"mss {mss}" + (",sackOK" if timestamps and sack else ",nop,nop,sackOK" if sack else ",nop,nop" if timestamps else "")
        answer = offer.replace(f"mss {mss}", "mss 1460")
        if timestamps:
            offer, answer = offer + ",TS val 100 ecr 0", answer + ",TS val 500 ecr 100"
        self.run(f"""
            +0 listen(8)
            +0 < S 0:0(0) win 65535 <{offer},nop,wscale {wscale}>
            +0 > S. 0:0(0) ack 1 <{answer},nop,wscale {our_wscale}>
            +0 < . 1:1(0) ack 1 win {win} {"<nop,nop,TS val 100 ecr 500>" if timestamps else ""}
            +0 accept()
        """)
