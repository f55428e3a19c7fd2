"""A small HTTP/1.1 server for native images: nginx, httpd, agnhost, http-echo are handlers over it.

    serve(proc, port, handler, ...)      handler(Request) -> Response; one task a connection, keep-alive, chunked requests read

Source: RFC 9112. Leaves out: TLS, HTTP/2, ranges, compression.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

from kubenet.units import SEC
from kubenet.userland.process import SIGINT, SIGQUIT, SIGTERM, Process
from kubenet.userland.syscalls import AF_INET, SHUT_WR, SOCK_STREAM, SOL_SOCKET
from kubenet.userland.tools.coreutils import format_time

SO_REUSEADDR = 2
REASONS = {200: "OK", 201: "Created", 204: "No Content", 301: "Moved Permanently", 302: "Found", 304: "Not Modified", 400: "Bad Request",
           403: "Forbidden", 404: "Not Found", 405: "Not Allowed", 408: "Request Time-out", 411: "Length Required",
           414: "Request-URI Too Large", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
           503: "Service Temporarily Unavailable", 504: "Gateway Time-out"}


@dataclass
class Request:
    """One request, and where it came from."""

    method: str
    target: str
    version: str
    headers: dict[str, str]
    body: bytes
    client: tuple[str, int]
    local: tuple[str, int]
    raw_headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, the first value of each."""
        return {k: v[0] for k, v in parse_qs(self.target.partition("?")[2], keep_blank_values=True).items()}


@dataclass
class Response:
    """What goes back. `headers` come after Server and Date; Content-Length is computed."""

    status: int = 200
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    close: bool = False
    shutdown: int = -1  # end the process with this code after the answer


Handler = Callable[[Request], Response]


class Server:
    """A listening socket and the tasks of its connections."""

    def __init__(self, proc: Process, handler: Handler, server: str = "", backlog: int = 511, keepalive: int = 75 * SEC,
                 log: Callable[[Request, Response], None] | None = None) -> None:
        self.proc = proc
        self.handler = handler
        self.server = server
        self.backlog = backlog
        self.keepalive = keepalive
        self.log = log
        self.open: dict[int, bool] = {}
        self.stopping = False
        self.listeners: list[int] = []

    def listen(self, port: int, address: str = "") -> None:
        """Raises OSError."""
        sys = self.proc.sys
        fd = sys.socket(AF_INET, SOCK_STREAM)
        sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1)
        sys.bind(fd, (address, port))
        sys.listen(fd, self.backlog)
        self.listeners.append(fd)

    def start(self) -> None:
        """Accept beside what the process does otherwise, until it ends."""
        for fd in self.listeners:
            self.proc.thread(self._accept, fd, [])

    def run(self, graceful: tuple[int, ...] = (SIGQUIT,), fast: tuple[int, ...] = (SIGTERM, SIGINT)) -> int:
        """Accept until a signal says so. Fast: at once; graceful: when the connections that are open are done."""
        proc = self.proc
        asked: list[int] = []
        for number in (*graceful, *fast):
            proc.handlers[number] = asked.append
        for fd in self.listeners[1:]:
            proc.thread(self._accept, fd, asked)
        self._accept(self.listeners[0], asked)
        if asked[0] in graceful:
            self.stopping = True
            for fd in self.listeners:
                proc.sys.close(fd)
            while self.open:
                proc.sys.sleep(SEC // 100)
        return 0

    def _accept(self, listener: int, asked: list[int]) -> None:
        sys = self.proc.sys
        while not asked:
            if not sys.poll([(listener, 1)], None) or asked:
                continue
            try:
                fd, peer = sys.accept(listener, 0)
            except OSError:
                continue
            self.open[fd] = True
            self.proc.thread(self._connection, fd, peer)

    def _connection(self, fd: int, peer: tuple[str, int]) -> None:
        proc = self.proc
        try:
            local = proc.sys.getsockname(fd)
            buffer = b""
            while True:
                parsed = self._read(fd, buffer, peer, local)
                if parsed is None:
                    break
                request, buffer = parsed
                response = self.handler(request)
                if self.log is not None:
                    self.log(request, response)
                keep = not (response.close or self.stopping or request.headers.get("connection", "").lower() == "close" or
                            (request.version == "HTTP/1.0" and request.headers.get("connection", "").lower() != "keep-alive"))
                proc.sys.send_all(fd, self._render(request, response, keep))
                if response.shutdown >= 0:
                    proc.sys.shutdown(fd, SHUT_WR)
                    proc.finish(response.shutdown)
                    return
                if not keep:
                    break
        except OSError:
            pass
        finally:
            self.open.pop(fd, None)
            if not proc.dead and fd in proc.fds.files:
                proc.sys.close(fd)

    def _read(self, fd: int, buffer: bytes, peer: tuple[str, int], local: tuple[str, int]) -> tuple[Request, bytes] | None:
        """The next request and what was read behind it; None when the connection is over."""
        sys = self.proc.sys
        while b"\r\n\r\n" not in buffer and b"\n\n" not in buffer:
            data = self._more(fd)
            if not data or len(buffer) > 65536:
                return None
            buffer += data
        head, _, rest = buffer.replace(b"\n\n", b"\r\n\r\n", 1).partition(b"\r\n\r\n") if b"\r\n\r\n" not in buffer else buffer.partition(
            b"\r\n\r\n")
        lines = head.decode("latin-1").replace("\r", "").split("\n")
        words = lines[0].split()
        if len(words) != 3 or not re.fullmatch(r"HTTP/\d\.\d", words[2]):
            bad = Response(400, b"Bad Request\n", [("Content-Type", "text/plain")], close=True)
            sys.send_all(fd, self._render(None, bad, False))
            return None
        pairs = [(n.strip(), v.strip()) for n, _, v in (line.partition(":") for line in lines[1:] if line)]
        headers = {n.lower(): v for n, v in pairs}
        if headers.get("expect", "").lower() == "100-continue":
            sys.send_all(fd, b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(headers["content-length"]) if headers.get("content-length", "").isdigit() else 0
        while len(rest) < length:
            data = self._more(fd)
            if not data:
                return None
            rest += data
        return Request(words[0], words[1], words[2], headers, rest[:length], peer, local, pairs), rest[length:]

    def _more(self, fd: int) -> bytes:
        if not self.proc.sys.poll([(fd, 1)], self.keepalive):
            return b""
        return self.proc.sys.recv(fd, 65536)

    def _render(self, request: Request | None, response: Response, keep: bool) -> bytes:
        proc = self.proc
        head = [f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Unknown')}"]
        if self.server:
            head.append(f"Server: {self.server}")
        date = format_time(proc.sys.time(), "%a, %d %b %Y %H:%M:%S GMT")
        names = [n.lower() for n, _ in response.headers]
        if self.server:
            head.append(f"Date: {date}")
        first = [f"{n}: {v}" for n, v in response.headers if n == "Content-Type"]
        others = [f"{n}: {v}" for n, v in response.headers if n != "Content-Type"]
        if self.server:
            head += [*first, f"Content-Length: {len(response.body)}", *[o for o in others if o.startswith("Last-Modified")],
                     f"Connection: {'keep-alive' if keep else 'close'}", *[o for o in others if not o.startswith("Last-Modified")]]
        else:  # Go's net/http: headers sorted, Date, no Server
            go = sorted([*first, *others, f"Date: {date}", f"Content-Length: {len(response.body)}"])
            if "content-type" not in names:
                go.append("Content-Type: text/plain; charset=utf-8")
            head += go + ([] if keep else ["Connection: close"])
        body = b"" if request is not None and request.method == "HEAD" else response.body
        return "".join(line + "\r\n" for line in head).encode("latin-1") + b"\r\n" + body
