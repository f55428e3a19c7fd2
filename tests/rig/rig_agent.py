"""The hands of a case: sockets that a script names, in a real network namespace or in an emulated one.

In the real one this file is a program of its own (no import of kubenet): it reads one JSON list per line from standard
input, does it, and answers with one JSON line. A packet socket that is open from the start has seen every frame of every
device of the namespace, with the kernel's times. In the emulator rig_emulated.py makes the same Agent inside an emulated
process, over the socket module that pods get. So both sides run the same calls.

A result is a short text: "ok", "5" (bytes), "EOF", "10.1.0.1:8080", an errno's name, or TIMEOUT.
"""

from __future__ import annotations

import errno
import json
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

ISN = 10_000_000  # every hand-made segment counts from here
SOL = {"SO_": 1, "IP_": 0, "TCP": 6}
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32, "E": 64, "W": 128}
POLL_NAMES = ((1, "IN"), (4, "OUT"), (8, "ERR"), (16, "HUP"), (0x2000, "RDHUP"))
Frame = tuple[float, str, bool, bytes]


def endpoint(text: str) -> tuple[str, int]:
    """"10.1.0.1:80" or "80" (every address)."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def outcome(call: Callable[[], Any]) -> str:
    """What a call came to, in a word."""
    try:
        value = call()
    except KeyError as error:
        return f"no socket {error}"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error)) if error.errno else "TIMEOUT"
    return "ok" if value is None else str(value)


class Agent:
    """Named sockets and what can be done with them. `sockets` has socket.socket and the constants of the socket module."""

    def __init__(self, sockets: Any, frames: Callable[[], list[Frame]], poll: Callable[[Any], int]) -> None:
        self.mod = sockets
        self.frames = frames
        self.poll_mask = poll
        self.socks: dict[str, Any] = {}
        self.raw: Any = None

    def do(self, op: str, args: list[str]) -> str:
        """Run one line of a script."""
        words = [a for a in args if "=" not in a]
        named = dict(a.split("=", 1) for a in args if "=" in a)
        method = getattr(self, "op_" + op)
        return outcome(lambda: method(*words, **{("from_" if k == "from" else k): v for k, v in named.items()}))

    def _new(self, name: str, kind: int, from_: str = "", opts: str = "") -> Any:
        sk = self.mod.socket(2, kind)
        if kind == 1:
            sk.setsockopt(6, 13, b"reno")  # TCP_CONGESTION: machines differ in their default
        sk.settimeout(3)
        self.socks[name] = sk
        for one in opts.split(",") if opts else []:
            self._option(sk, *one.split(":"))
        if from_:
            sk.bind(endpoint(from_))
        return sk

    def _option(self, sk: Any, name: str, value: str = "1") -> None:
        number = getattr(self.mod, name) if hasattr(self.mod, name) else {"IP_MTU_DISCOVER": 10, "IP_RECVERR": 11}[name]
        data: Any = int(value.partition("/")[0])
        if name == "SO_LINGER":
            data = struct.pack("ii", *map(int, value.split("/")))
        sk.setsockopt(SOL[name[:3]], number, data)

    # -- making and connecting

    def op_tcp(self, name: str, from_: str = "", opts: str = "") -> None:
        self._new(name, 1, from_, opts)

    def op_udp(self, name: str, from_: str = "", opts: str = "") -> None:
        self._new(name, 2, from_, opts)

    def op_bind(self, name: str, where: str) -> None:
        self.socks[name].bind(endpoint(where))

    def op_listen(self, name: str, where: str = "", backlog: str = "16", opts: str = "") -> None:
        if name not in self.socks:
            self._new(name, 1, "", "SO_REUSEADDR" + ("," + opts if opts else "")).bind(endpoint(where))
        self.socks[name].listen(int(backlog))

    def op_connect(self, name: str, where: str, from_: str = "", opts: str = "", timeout: str = "3") -> None:
        sk = self.socks[name] if name in self.socks else self._new(name, 1, from_, opts)
        sk.settimeout(float(timeout))
        sk.connect(endpoint(where))

    def op_start(self, name: str, where: str, from_: str = "", opts: str = "") -> None:
        """connect() that does not wait."""
        sk = self.socks[name] if name in self.socks else self._new(name, 1, from_, opts)
        sk.settimeout(0)
        sk.connect(endpoint(where))

    def op_accept(self, name: str, listener: str, timeout: str = "1") -> str:
        self.socks[listener].settimeout(float(timeout))
        self.socks[name], peer = self.socks[listener].accept()
        return f"{peer[0]}:{peer[1]}"

    # -- data

    def op_send(self, name: str, size: str, timeout: str = "1", flags: str = "0") -> str:
        self.socks[name].settimeout(float(timeout))
        return str(self.socks[name].send(b"x" * int(size), int(flags)))

    def op_fill(self, name: str, limit: str = "100000000") -> str:
        """Send without waiting until nothing more is taken; how much that was is no result."""
        sk, sent = self.socks[name], 0
        sk.settimeout(0)
        try:
            while sent < int(limit):
                sent += sk.send(b"x" * min(65536, int(limit) - sent))
        except BlockingIOError:
            return "full"
        return str(sent)

    def op_recv(self, name: str, size: str, timeout: str = "1", flags: str = "0") -> str:
        self.socks[name].settimeout(float(timeout))
        data = self.socks[name].recv(int(size), int(flags))
        return str(len(data)) if data else "EOF"

    def op_drain(self, name: str) -> str:
        """Read all there is."""
        sk, total = self.socks[name], 0
        sk.settimeout(0)
        try:
            while data := sk.recv(65536):
                total += len(data)
        except BlockingIOError:
            return str(total)
        return f"{total} EOF"

    def op_sendto(self, name: str, where: str, size: str) -> str:
        return str(self.socks[name].sendto(b"x" * int(size), endpoint(where)))

    def op_recvfrom(self, name: str, size: str, timeout: str = "1") -> str:
        self.socks[name].settimeout(float(timeout))
        data, peer = self.socks[name].recvfrom(int(size))
        return f"{len(data)} {peer[0]}:{peer[1]}"

    # -- the rest of a socket's life

    def op_shutdown(self, name: str, how: str) -> None:
        self.socks[name].shutdown({"rd": 0, "wr": 1, "rdwr": 2}[how])

    def op_close(self, name: str) -> None:
        self.socks.pop(name).close()

    def op_opt(self, name: str, option: str, value: str = "1") -> None:
        self._option(self.socks[name], option, value)

    def op_getopt(self, name: str, option: str) -> str:
        number = getattr(self.mod, option) if hasattr(self.mod, option) else {"IP_MTU": 14}[option]
        value = self.socks[name].getsockopt(SOL[option[:3]], number)
        return errno.errorcode.get(value, "0") if option == "SO_ERROR" else str(value)

    def op_poll(self, name: str) -> str:
        mask = self.poll_mask(self.socks[name])
        return "|".join(word for bit, word in POLL_NAMES if mask & bit) or "nothing"

    def op_sockname(self, name: str) -> str:
        return "%s:%d" % self.socks[name].getsockname()

    def op_peername(self, name: str) -> str:
        return "%s:%d" % self.socks[name].getpeername()

    # -- hand-made packets

    def _send_raw(self, src: str, dst: str, proto: int, body: bytes, ttl: int = 64, frag: int = 0x4000) -> None:
        if self.raw is None:
            self.raw = self.mod.socket(2, 3, 255)
        pack = self.mod.inet_aton
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 7, frag, ttl, proto, 0, pack(src), pack(dst))
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        self.raw.sendto(head + body, (dst, 0))

    def op_seg(self, flow: str, flags: str, seq: str = "0", ack: str = "", win: str = "1000", len: str = "0", opt: str = "",
               ttl: str = "64") -> None:
        """One TCP segment: `seg 10.1.0.2:40000>10.1.0.1:8080 S opt=mss/1460,sack,ts/100,ws/7`. seq counts from ISN, ack from
        the last SYN the other end has sent; `ts/VAL` echoes its last timestamp, `ts/VAL/0` does not."""
        (src, sport), (dst, dport) = (endpoint(x) for x in flow.split(">"))
        peer_isn, peer_ts = self._peer(src, sport, dst, dport)
        number = 0
        bits = sum(FLAGS[c] for c in flags)
        if ack:
            bits |= 16
            number = (peer_isn + int(ack)) & 0xFFFFFFFF
        options = self._options(opt, peer_ts)
        head = struct.pack("!HHIIBBHHH", sport, dport, (ISN + int(seq)) & 0xFFFFFFFF, number, (20 + options.__len__()) << 2,
                           bits, int(win), 0, 0)
        body = head + options + b"y" * int(len)
        pseudo = self.mod.inet_aton(src) + self.mod.inet_aton(dst) + struct.pack("!BBH", 0, 6, body.__len__())
        body = body[:16] + struct.pack("!H", checksum(pseudo + body)) + body[18:]
        self._send_raw(src, dst, 6, body, int(ttl))

    def _peer(self, src: str, sport: int, dst: str, dport: int) -> tuple[int, int]:
        """(ISN, last timestamp) of what dst:dport has sent here."""
        want = self.mod.inet_aton(dst) + self.mod.inet_aton(src) + struct.pack("!HH", dport, sport)
        isn = ts = 0
        for _, _, _, data in self.frames():
            if data[12:14] != b"\x08\x00" or data[23] != 6 or data[26:34] + data[34:38] != want:
                continue
            if data[47] & 2:
                isn = int.from_bytes(data[38:42], "big")
            ts = find_timestamp(data[54 : 34 + (data[46] >> 4 << 2)]) or ts
        return isn, ts

    def _options(self, text: str, peer_ts: int) -> bytes:
        out = b""
        for word in text.split(",") if text else []:
            name, *values = word.split("/")
            if name == "mss":
                out += struct.pack("!BBH", 2, 4, int(values[0]))
            elif name == "sack":
                out += b"\x01\x01\x04\x02"
            elif name == "ws":
                out += struct.pack("!BBBB", 1, 3, 3, int(values[0]))
            elif name == "ts":
                echo = int(values[1]) if len(values) > 1 else peer_ts
                out += struct.pack("!BBBBII", 1, 1, 8, 10, int(values[0]), echo)
        return out

    def op_icmp(self, src: str, dst: str, size: str = "56", ttl: str = "64", df: str = "1", id: str = "77", seq: str = "1") -> None:
        """An echo request."""
        body = struct.pack("!BBHHH", 8, 0, 0, int(id), int(seq)) + b"z" * int(size)
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        self._send_raw(src, dst, 1, body, int(ttl), 0x4000 if df == "1" else 0)


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) & 1:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def find_timestamp(options: bytes) -> int:
    """tsval among TCP options, 0 without."""
    at = 0
    while at < len(options) and options[at]:
        if options[at] == 1:
            at += 1
        elif options[at] == 8:
            return int.from_bytes(options[at + 2 : at + 6], "big")
        else:
            at += max(options[at + 1], 2)
    return 0


# ---- the program in a real namespace


class Sniffer:
    """A packet socket over all devices of the namespace, read at once by a thread: a queued copy would hold on to the
    sender's data, and the kernel does not merge segments that somebody else still holds."""

    def __init__(self, socket: Any) -> None:
        import threading

        self.sk = socket.socket(17, 3, socket.htons(3))
        self.sk.setsockopt(1, 33, 64 << 20)  # SO_RCVBUFFORCE
        self.sk.setsockopt(1, 35, 1)  # SO_TIMESTAMPNS
        self.seen: list[Frame] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            data, anc, _, addr = self.sk.recvmsg(70000, 256)
            when = next((s + ns / 1e9 for _, t, d in anc if t == 35 for s, ns in [struct.unpack("qq", d[:16])]), 0.0)
            self.seen.append((when, addr[0], addr[2] == 4, data))

    def frames(self) -> list[Frame]:
        """All frames so far: (seconds, device, outgoing, bytes)."""
        count = -1
        while count != len(self.seen):
            count = len(self.seen)
            time.sleep(0.002)
        return list(self.seen)


def offload_off(socket: Any, device: str) -> str:
    """Segmentation offloads of a device are off, so that every frame is what a wire would carry (ethtool(8)), and what it
    receives is not handled inside the sender's system call, where a locked socket ignores ICMP errors."""
    import fcntl

    try:
        with open(f"/sys/class/net/{device}/queues/rx-0/rps_cpus", "w") as file:
            file.write("2")  # frames are received on another CPU than the one that sends, as on separate machines
    except OSError:
        pass
    sk = socket.socket(2, 2)
    for command in (0x1F, 0x24, 0x2C, 0x26):  # STSO, SGSO, SGRO, (SUFO)
        value = bytearray(struct.pack("II", command, 0))
        import array

        holder = array.array("B", value)
        request = struct.pack("16sP", device.encode(), holder.buffer_info()[0])
        try:
            fcntl.ioctl(sk, 0x8946, request)
        except OSError:
            pass
    return "ok"


def snmp() -> dict[str, int]:
    """/proc/net/snmp and netstat, names as nstat prints them."""
    found: dict[str, int] = {}
    for path in ("/proc/net/snmp", "/proc/net/netstat"):
        with open(path) as file:
            lines = [line.split() for line in file]
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            head = names[0].rstrip(":")
            found.update((head + name, int(value)) for name, value in zip(names[1:], values[1:], strict=True))
    return found


def main() -> None:
    """Serve until standard input ends."""
    import base64
    import os
    import select
    import socket

    sniffer = Sniffer(socket)
    os.sched_setaffinity(0, {0})

    def poll(sk: Any) -> int:
        p = select.poll()
        p.register(sk, 0x2005)
        ready = p.poll(0)
        return ready[0][1] if ready else 0

    agent = Agent(socket, sniffer.frames, poll)
    for line in sys.stdin:
        op, args = json.loads(line)
        if op == "frames":
            answer: Any = [(t, d, o, base64.b64encode(b).decode()) for t, d, o, b in sniffer.frames()]
        elif op == "snmp":
            answer = snmp()
        elif op == "time":
            answer = time.time()
        elif op == "offload_off":
            answer = offload_off(socket, *args)
        else:
            answer = agent.do(op, args)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
