"""nc (OpenBSD's netcat) and many-connect.

    nc [-klnuvzN] [-w SECONDS] [-p PORT] [-s ADDRESS] [-q SECONDS] HOST PORT[-PORT]      nc -l [-k] [-u] PORT

many-connect HOST:PORT COUNT [--gap 10ms] [--hold 10s] opens connections one after the other without waiting for each, as a load
on a listener's queues, and says how they ended. Source: nc(1), observed output.
"""

from __future__ import annotations

import errno

from kubenet.units import SEC, parse_duration
from kubenet.userland.process import Process
from kubenet.userland.resolver import ResolveError, lookup, service_port
from kubenet.userland.syscalls import AF_INET, SHUT_WR, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET
from kubenet.userland.tools import tool

POLLIN, POLLOUT, POLLERR, POLLHUP = 1, 4, 8, 16
SO_REUSEADDR, SO_ERROR = 2, 4


class Options:
    """nc's flags."""

    def __init__(self) -> None:
        self.listen = self.keep = self.numeric = self.udp = self.verbose = self.zero = self.shutdown = self.detach = False
        self.wait = 0
        self.port = ""
        self.source = ""
        self.quit = -1
        self.operands: list[str] = []


def _parse(proc: Process, args: list[str]) -> Options | None:
    o = Options()
    while args:
        arg = args.pop(0)
        if not arg.startswith("-") or arg == "-":
            o.operands.append(arg)
            continue
        letters = arg[1:]
        while letters:
            c, letters = letters[0], letters[1:]
            if c in "wpsqIOTXxiPVMme":
                value = letters or (args.pop(0) if args else "")
                letters = ""
                if c == "w":
                    o.wait = int(float(value) * SEC)
                elif c == "p":
                    o.port = value
                elif c == "s":
                    o.source = value
                elif c == "q":
                    o.quit = int(value)
            elif c in "lknuvzNd46tDbCrSU":
                name = {"l": "listen", "k": "keep", "n": "numeric", "u": "udp", "v": "verbose", "z": "zero", "N": "shutdown",
                        "d": "detach"}.get(c)
                if name:
                    setattr(o, name, True)
            else:
                proc.err(f"nc: invalid option -- '{c}'\nusage: nc [-46CDdFhklNnrStUuvZz] [-I length] [-i interval] [destination] [port]\n")
                return None
    return o


@tool("nc", "ncat", "netcat")
def nc(proc: Process, argv: list[str]) -> int:
    """nc: see the file's head."""
    o = _parse(proc, argv[1:])
    if o is None:
        return 1
    if o.listen:
        return _listen(proc, o)
    if len(o.operands) < 2:
        proc.err("usage: nc [-46CDdFhklNnrStUuvZz] [-I length] [-i interval] [-M ttl]\n"
                 "\t  [-m minttl] [-O length] [-P proxy_username] [-p source_port]\n"
                 "\t  [-q seconds] [-s sourceaddr] [-T keyword] [-V rtable] [-W recvlimit]\n"
                 "\t  [-w timeout] [-X proxy_protocol] [-x proxy_address[:port]]\n\t  [destination] [port]\n")
        return 1
    return _client(proc, o)


def _ports(proc: Process, text: str, udp: bool) -> list[int] | None:
    low, dash, high = text.partition("-")
    if low.isdigit() and (not dash or high.isdigit()):
        return list(range(int(low), int(high if dash else low) + 1))
    port = service_port(proc, text, "udp" if udp else "tcp")
    return [port] if port is not None else None


def _service(proc: Process, port: int, proto: str, numeric: bool) -> str:
    if numeric:
        return "*"
    try:
        for line in proc.vfs.read("/etc/services").decode().splitlines():
            words = line.split()
            if len(words) > 1 and words[1] == f"{port}/{proto}":
                return words[0]
    except OSError:
        pass
    return "*"


def _client(proc: Process, o: Options) -> int:
    host, ports = o.operands[0], _ports(proc, o.operands[1], o.udp)
    if ports is None:
        proc.err(f"nc: port number invalid: {o.operands[1]}\n")
        return 1
    try:
        address = lookup(proc, host, AF_INET)[0][0][1]
    except ResolveError as error:
        proc.err(f'nc: getaddrinfo for host "{host}" port {o.operands[1]}: {error.text}\n')
        return 1
    proto = "udp" if o.udp else "tcp"
    status = 1
    for port in ports:
        fd = _connect(proc, o, host, address, port)
        if fd < 0:
            continue
        status = 0
        if o.udp and o.zero and not _udp_probe(proc, fd):
            proc.sys.close(fd)
            status = 1
            continue
        if o.verbose:
            service = _service(proc, port, proto, o.numeric)
            shown = host if host == address else f"{host} ({address})"
            proc.err(f"Connection to {shown} {port} port [{proto}/{service}] succeeded!\n")
        if not o.zero:
            _relay(proc, o, fd)
        proc.sys.close(fd)
    return status


def _connect(proc: Process, o: Options, host: str, address: str, port: int) -> int:
    sys = proc.sys
    fd = sys.socket(AF_INET, SOCK_DGRAM if o.udp else SOCK_STREAM)
    try:
        if o.source or o.port:
            sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1)
            sys.bind(fd, (o.source, int(o.port or 0)))
        sys.connect(fd, (address, port), o.wait or None)
        return fd
    except OSError as error:
        sys.close(fd)
        if o.verbose:
            proto = "udp" if o.udp else "tcp"
            shown = host if host == address else f"{host} ({address})"
            timed_out = error.errno in (errno.EINPROGRESS, errno.EAGAIN)
            words = "timed out: Operation now in progress" if timed_out else f"failed: {error.strerror}"
            proc.err(f"nc: connect to {shown} port {port} ({proto}) {words}\n")
        return -1


def _udp_probe(proc: Process, fd: int) -> bool:
    """Four datagrams; a port is taken for open when no error comes back."""
    for _ in range(4):
        try:
            proc.sys.send(fd, b"X")
        except OSError:
            return False
        proc.sys.sleep(SEC)
    return True


def _relay(proc: Process, o: Options, fd: int) -> None:
    """Standard input to the network and back, until the network side ends."""
    sys = proc.sys
    stdin_open = not o.detach
    idle = o.wait or None
    while True:
        wanted = [(fd, POLLIN)] + ([(0, POLLIN)] if stdin_open else [])
        ready = dict(sys.poll(wanted, idle))
        if not ready:
            return
        if 0 in ready:
            data = sys.read(0, 16384)
            if data:
                try:
                    sys.send_all(fd, data)
                except OSError:
                    return
            else:
                stdin_open = False
                if o.shutdown:
                    sys.shutdown(fd, SHUT_WR)
                if o.quit >= 0:
                    idle = o.quit * SEC
                    if o.quit == 0:
                        return
        if fd in ready:
            try:
                data = sys.recv(fd, 16384)
            except OSError as error:
                if o.verbose:
                    proc.err(f"nc: read failed: {error.strerror}\n")
                return
            if not data and not o.udp:
                return
            proc.out(data)


def _listen(proc: Process, o: Options) -> int:
    sys = proc.sys
    operands = o.operands or ([o.port] if o.port else [])
    if not operands:
        proc.err("usage: nc -l [-k] [-u] [-s address] port\n")
        return 1
    address = operands[0] if len(operands) > 1 else o.source
    port = int(o.port or operands[-1])
    fd = sys.socket(AF_INET, SOCK_DGRAM if o.udp else SOCK_STREAM)
    sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    try:
        sys.bind(fd, (address, port))
        if not o.udp:
            sys.listen(fd, 1)
    except OSError as error:
        proc.err(f"nc: {error.strerror}\n")
        return 1
    if o.verbose:
        proc.err(f"{'Bound' if o.udp else 'Listening'} on {address or '0.0.0.0'} {port}\n")
    if o.udp:
        return _listen_udp(proc, o, fd)
    while True:
        conn, peer = sys.accept(fd)
        if o.verbose:
            proc.err(f"Connection received on {peer[0]} {peer[1]}\n")
        if not o.keep:
            sys.close(fd)
        _relay(proc, o, conn)
        sys.close(conn)
        if not o.keep:
            return 0


def _listen_udp(proc: Process, o: Options, fd: int) -> int:
    sys = proc.sys
    data, peer = sys.recvfrom(fd, 16384)
    if not o.keep:
        sys.connect(fd, peer)
    if o.verbose:
        proc.err(f"Connection received on {peer[0]} {peer[1]}\n")
    proc.out(data)
    if o.keep:
        while True:
            proc.out(sys.recvfrom(fd, 16384)[0])
    _relay(proc, o, fd)
    return 0


@tool("many-connect")
def many_connect(proc: Process, argv: list[str]) -> int:
    """many-connect HOST:PORT COUNT [--gap 10ms] [--hold 10s] [--wait 2s]"""
    args, gap, hold, wait = argv[1:], 0, 0, 2 * SEC
    operands = []
    while args:
        arg = args.pop(0)
        if arg == "--gap":
            gap = parse_duration(args.pop(0))
        elif arg == "--hold":
            hold = parse_duration(args.pop(0))
        elif arg == "--wait":
            wait = parse_duration(args.pop(0))
        else:
            operands.append(arg)
    if len(operands) < 2:
        proc.err("usage: many-connect HOST:PORT COUNT [--gap 10ms] [--hold 10s] [--wait 2s]\n")
        return 2
    host, _, port = operands[0].rpartition(":")
    try:
        address = lookup(proc, host, AF_INET)[0][0][1]
    except ResolveError as error:
        proc.err(f"many-connect: {host}: {error.text}\n")
        return 1
    sys, fds = proc.sys, []
    for number in range(int(operands[1])):
        if gap and number:
            sys.sleep(gap)
        fd = sys.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
        try:
            sys.connect(fd, (address, int(port)))
        except OSError as error:
            if error.errno != errno.EINPROGRESS:
                proc.err(f"many-connect: connection {number + 1}: {error.strerror}\n")
        fds.append(fd)
    sys.sleep(wait)
    states: dict[str, int] = {}
    for fd in fds:
        ready = dict(sys.poll([(fd, POLLOUT)], 0))
        problem = sys.getsockopt(fd, SOL_SOCKET, SO_ERROR) if ready else 0
        words = "SYN-SENT" if not ready else "ESTAB" if not problem else errno.errorcode.get(int(problem), str(problem))
        states[words] = states.get(words, 0) + 1
    proc.out("clients: " + ", ".join(f"{count} {state}" for state, count in states.items()) + "\n")
    if hold:
        sys.sleep(hold)
    return 0
