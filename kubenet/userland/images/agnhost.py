"""agnhost, the image of Kubernetes' own network tests, and the small echo servers of tutorials.

    agnhost netexec [--http-port 8080] [--udp-port 8081]      /hostname /echo?msg= /clientip /header?key= /healthz /exit?code= /shell?cmd=
    agnhost serve-hostname [--port 9376]    agnhost pause    agnhost connect HOST:PORT    agnhost porter / nothing else
    http-echo -text=hello -listen=:5678     echoserver (what it was sent, port 8080)

Source: the agnhost README of Kubernetes, observed answers.
"""

from __future__ import annotations

import json

from kubenet.units import SEC, parse_duration
from kubenet.userland.images.httpserver import Request, Response, Server
from kubenet.userland.process import SIGINT, SIGTERM, Process
from kubenet.userland.resolver import ResolveError, lookup
from kubenet.userland.syscalls import AF_INET, SOCK_DGRAM, SOCK_STREAM
from kubenet.userland.tools import tool

TEXT = [("Content-Type", "text/plain; charset=utf-8")]


def flags_of(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """--name=value, --name value, -name=value; and what is left."""
    found: dict[str, str] = {}
    rest: list[str] = []
    args = list(argv)
    while args:
        arg = args.pop(0)
        if arg.startswith("-"):
            name, equals, value = arg.lstrip("-").partition("=")
            if not equals and args and not args[0].startswith("-"):
                value = args.pop(0)
            found[name] = value if equals or value else "true"
        else:
            rest.append(arg)
    return found, rest


class NetExec:
    """netexec's HTTP handlers."""

    def __init__(self, proc: Process) -> None:
        self.proc = proc
        self.unhealthy = False

    def __call__(self, request: Request) -> Response:
        path, query = request.path, request.query
        name = self.proc.container.hostname
        if path in ("/", ""):
            return Response(200, f"NOW: {self._now()}".encode(), TEXT)
        if path in ("/hostname", "/hostName"):
            return Response(200, name.encode(), TEXT)
        if path == "/clientip":
            return Response(200, f"{request.client[0]}:{request.client[1]}".encode(), TEXT)
        if path == "/echo":
            code = int(query.get("code", "200") or "200")
            return Response(code, query.get("msg", "").encode(), TEXT)
        if path == "/header":
            return Response(200, request.headers.get(query.get("key", "").lower(), "").encode(), TEXT)
        if path in ("/healthz", "/readyz"):
            return Response(500 if self.unhealthy else 200, b"", TEXT)
        if path == "/exit":
            wait = query.get("wait", "0s")
            if parse_duration(wait):
                self.proc.sys.sleep(parse_duration(wait))
            return Response(200, b"", TEXT, close=True, shutdown=int(query.get("code", "0") or "0"))
        if path == "/shell":
            return self._shell(query.get("cmd", "") or query.get("shellCommand", ""))
        if path == "/dial":
            return self._dial(query)
        if path == "/redirect":
            return Response(int(query.get("code", "302")), b"", [*TEXT, ("Location", query.get("location", "/"))])
        return Response(404, b"404 page not found\n", TEXT)

    def _now(self) -> str:
        from kubenet.userland.tools.coreutils import format_time

        now = self.proc.sys.time()
        return format_time(now, "%Y-%m-%d %H:%M:%S") + f".{now % SEC:09d} +0000 UTC m=+{self.proc.container.loop.now / SEC:.9f}"

    def _shell(self, command: str) -> Response:
        sys = self.proc.sys
        reader, writer = sys.pipe()
        pid = sys.spawn(["/bin/sh", "-c", command], {1: writer, 2: writer}, self.proc.env, self.proc.cwd)
        sys.close(writer)
        output = sys.read_all(reader)
        sys.close(reader)
        _, code = sys.waitpid(pid, False, None)
        answer = {"output": output.decode(errors="replace")}
        if code:
            answer["error"] = f"exit status {code}"
        return Response(200, json.dumps(answer, separators=(",", ":")).encode(), TEXT)

    def _dial(self, query: dict[str, str]) -> Response:
        """/dial?host=&port=&request=&protocol=&tries=: ask another netexec, as the connectivity tests do."""
        from kubenet.userland.tools.curl import Client, CurlError, Options

        answers: list[str] = []
        errors: list[str] = []
        host, port = query.get("host", ""), query.get("port", "80")
        for _ in range(int(query.get("tries", "1"))):
            if query.get("protocol", "http") == "udp":
                text, problem = _udp_dial(self.proc, host, int(port), query.get("request", "hostname"))
            else:
                client = Client(self.proc, Options(output="/tmp/.dial", max_time=5 * SEC), False)
                try:
                    client.run(f"http://{host}:{port}/{query.get('request', 'hostname')}")
                    text, problem = self.proc.vfs.read("/tmp/.dial").decode(errors="replace"), ""
                except CurlError as error:
                    text, problem = "", str(error)
            (errors if problem else answers).append(problem or text)
        found: dict[str, list[str]] = {"responses": answers} if answers else {}
        if errors:
            found["errors"] = errors
        return Response(200, json.dumps(found, separators=(",", ":")).encode(), TEXT)


def _udp_dial(proc: Process, host: str, port: int, text: str) -> tuple[str, str]:
    fd = proc.sys.socket(AF_INET, SOCK_DGRAM)
    try:
        proc.sys.connect(fd, (host, port))
        proc.sys.send(fd, text.encode())
        return proc.sys.recv(fd, 4096, 0, 5 * SEC).decode(errors="replace"), ""
    except OSError as error:
        return "", f"read udp: {error.strerror}"
    finally:
        proc.sys.close(fd)


def _udp_server(proc: Process, port: int) -> None:
    """hostname, clientip, echo TEXT over UDP."""
    sys = proc.sys
    fd = sys.socket(AF_INET, SOCK_DGRAM)
    sys.bind(fd, ("", port))
    while True:
        try:
            data, peer = sys.recvfrom(fd, 2048)
        except OSError:
            continue
        word, _, rest = data.decode(errors="replace").strip().partition(" ")
        answer = {"hostname": proc.container.hostname, "hostName": proc.container.hostname, "clientip": f"{peer[0]}:{peer[1]}",
                  "echo": rest}.get(word, "unknown command: " + word)
        try:
            sys.sendto(fd, answer.encode(), peer)
        except OSError:
            continue


@tool("agnhost", "serve-hostname")
def agnhost(proc: Process, argv: list[str]) -> int:
    """agnhost COMMAND [flags]"""
    args = argv[1:]
    command = args.pop(0) if args else "pause"
    flags, rest = flags_of(args)
    if command == "netexec":
        server = Server(proc, NetExec(proc), backlog=4096)
        server.listen(int(flags.get("http-port", "8080")))
        udp = int(flags.get("udp-port", "8081"))
        if udp > 0:
            proc.thread(_udp_server, proc, udp)
        proc.err(f"I0101 00:00:00.000000       1 log.go:195] Started HTTP server on port {flags.get('http-port', '8080')}\n")
        return server.run((), (SIGTERM, SIGINT))
    if command == "serve-hostname":
        name = proc.container.hostname
        server = Server(proc, lambda request: Response(200, name.encode(), TEXT), backlog=4096)
        server.listen(int(flags.get("port", "9376")))
        return server.run((), (SIGTERM, SIGINT))
    if command == "connect":
        return _connect(proc, rest, flags)
    if command == "pause":
        proc.out("Paused\n")
        from kubenet.userland.images.pause import main

        return int(main(proc, argv))
    if command in ("--version", "version"):
        proc.out("2.53\n")
        return 0
    proc.err(f'Error: unknown command "{command}" for "app"\nRun \'app --help\' for usage.\n')
    return 1


def _connect(proc: Process, rest: list[str], flags: dict[str, str]) -> int:
    """agnhost connect HOST:PORT [--timeout 3s] [--protocol tcp]: silent, or REFUSED, TIMEOUT, DNS, OTHER."""
    host, _, port = rest[0].rpartition(":")
    fd = proc.sys.socket(AF_INET, SOCK_STREAM)
    try:
        address = lookup(proc, host, AF_INET)[0][0][1]
        proc.sys.connect(fd, (address, int(port)), parse_duration(flags["timeout"]) if "timeout" in flags else None)
        return 0
    except ResolveError as error:
        proc.err(f"DNS: {error.text}\n")
    except OSError as error:
        words = {111: "REFUSED", 110: "TIMEOUT", 115: "TIMEOUT", 11: "TIMEOUT"}
        proc.err(words.get(error.errno or 0, f"OTHER: {error.strerror}") + "\n")
    return 1


@tool("http-echo")
def http_echo(proc: Process, argv: list[str]) -> int:
    """http-echo -text=TEXT [-listen=:5678] [-status-code=200]"""
    flags, _ = flags_of(argv[1:])
    text = flags.get("text", proc.env.get("ECHO_TEXT", ""))
    if not text:
        proc.err("Missing -text option!\n")
        return 127
    port = int(flags.get("listen", ":5678").rpartition(":")[2])
    server = Server(proc, lambda request: Response(int(flags.get("status-code", "200")), text.encode() + b"\n", [
        ("Content-Type", "text/plain; charset=utf-8"), ("X-App-Name", "http-echo"), ("X-App-Version", "1.0.0")]), backlog=4096)
    server.listen(port)
    proc.out(f"[INFO] server is listening on :{port}\n")
    return server.run((), (SIGTERM, SIGINT))


@tool("echoserver")
def echoserver(proc: Process, argv: list[str]) -> int:
    """What the server was sent, as text, on port 8080 (or $PORT)."""

    def answer(request: Request) -> Response:
        lines = [f"Hostname: {proc.container.hostname}", "", "Request Information:", f"\tclient_address={request.client[0]}",
                 f"\tmethod={request.method}", f"\treal path={request.target}", f"\trequest_version={request.version[5:]}", "",
                 "Request Headers:", *[f"\t{n.lower()}={v}" for n, v in request.raw_headers], "", "Request Body:",
                 f"\t{request.body.decode(errors='replace') or '-no body in request-'}", ""]
        return Response(200, "\n".join(lines).encode(), TEXT)

    server = Server(proc, answer, backlog=511)
    server.listen(int(proc.env.get("PORT", "8080")))
    return server.run((), (SIGTERM, SIGINT))
