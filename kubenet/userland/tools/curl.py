"""curl and wget, for http.

curl's texts and exit codes are 7.88's: 6 could not resolve, 7 refused, 22 -f and an error status, 28 timeout, 47 too many
redirects, 52 empty reply, 56 reset while receiving. One connection a URL, HTTP/1.1 with Content-Length, chunked and
until-close bodies, -L redirects, -w variables. Source: curl(1), observed output; RFC 9110, 9112.
Leaves out: TLS (exit 1 "not supported"), proxies, cookies, HTTP/2, authentication other than -u (Basic).
"""

from __future__ import annotations

import base64
import errno
import re
from dataclasses import dataclass, field

from kubenet.units import MSEC, SEC
from kubenet.userland.process import Process
from kubenet.userland.resolver import ResolveError, lookup
from kubenet.userland.syscalls import AF_INET, AF_INET6, SOCK_STREAM
from kubenet.userland.tools import tool

POLLIN = 1
VERSION = "7.88.1"


class CurlError(Exception):
    """A transfer failed: exit code and message."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Options:
    """The command line."""

    urls: list[str] = field(default_factory=list)
    method: str = ""
    data: bytes | None = None
    headers: list[str] = field(default_factory=list)
    output: str = ""
    write_out: str = ""
    silent: bool = False
    show_error: bool = False
    verbose: bool = False
    include: bool = False
    head: bool = False
    fail: bool = False
    follow: bool = False
    get: bool = False
    max_time: int = 0
    connect_timeout: int = 0
    retry: int = 0
    retry_delay: int = 0
    retry_refused: bool = False
    retry_all: bool = False
    interface: str = ""
    local_port: int = 0
    user: str = ""
    agent: str = f"curl/{VERSION}"
    resolve: dict[tuple[str, int], str] = field(default_factory=dict)
    http10: bool = False
    dump_header: str = ""
    remote_name: bool = False
    max_redirects: int = 50
    no_keepalive: bool = False


_VALUES = {"-X": "method", "--request": "method", "-o": "output", "--output": "output", "-w": "write_out", "--write-out": "write_out",
           "--interface": "interface", "-u": "user", "--user": "user", "-A": "agent", "--user-agent": "agent", "-D": "dump_header",
           "--dump-header": "dump_header"}
_TIMES = {"-m": "max_time", "--max-time": "max_time", "--connect-timeout": "connect_timeout", "--retry-delay": "retry_delay"}
_NUMBERS = {"--retry": "retry", "--local-port": "local_port", "--max-redirs": "max_redirects"}
_SWITCHES = {"-s": "silent", "--silent": "silent", "-S": "show_error", "--show-error": "show_error", "-v": "verbose", "-G": "get",
             "--verbose": "verbose", "-i": "include", "--include": "include", "-I": "head", "--head": "head", "-f": "fail",
             "--fail": "fail", "-L": "follow", "--location": "follow", "--retry-connrefused": "retry_refused", "--get": "get",
             "-0": "http10", "--http1.0": "http10", "-O": "remote_name", "--retry-all-errors": "retry_all",
             "--no-keepalive": "no_keepalive"}
_IGNORED = ("-k", "--insecure", "-4", "--ipv4", "-N", "--no-buffer", "--http1.1", "--compressed", "-q", "-g", "--globoff", "--tcp-nodelay",
            "--no-progress-meter", "-#", "--progress-bar", "-Z", "--parallel")


def parse_args(proc: Process, args: list[str]) -> Options:
    """Options from a command line. Raises CurlError 2."""
    o = Options()
    args = list(args)
    while args:
        arg = args.pop(0)
        if not arg.startswith("-") or arg == "-":
            o.urls.append(arg)
            continue
        if not arg.startswith("--") and len(arg) > 2:  # -sSo FILE, -XPOST
            if arg[:2] in _VALUES or arg[:2] in _TIMES or arg[:2] in ("-d", "-H"):
                args.insert(0, arg[2:])
            else:
                args.insert(0, "-" + arg[2:])
            arg = arg[:2]
        elif arg.startswith("--") and "=" in arg:
            pass
        if arg in _SWITCHES:
            setattr(o, _SWITCHES[arg], True)
        elif arg in _IGNORED:
            continue
        elif arg in _VALUES:
            setattr(o, _VALUES[arg], _value(arg, args))
        elif arg in _TIMES:
            setattr(o, _TIMES[arg], _seconds(arg, _value(arg, args)))
        elif arg in _NUMBERS:
            setattr(o, _NUMBERS[arg], int(_value(arg, args)))
        elif arg in ("-H", "--header"):
            o.headers.append(_value(arg, args))
        elif arg in ("-d", "--data", "--data-raw", "--data-binary", "--data-ascii", "--json", "--data-urlencode"):
            _add_data(proc, o, arg, _value(arg, args))
        elif arg in ("-T", "--upload-file"):
            o.data, o.method = proc.read_file(_value(arg, args)), o.method or "PUT"
        elif arg == "--resolve":
            host, port, address = _value(arg, args).split(":", 2)
            o.resolve[(host.lower(), int(port))] = address
        elif arg == "--url":
            o.urls.append(_value(arg, args))
        elif arg in ("-V", "--version"):
            proc.out(f"curl {VERSION} (x86_64-pc-linux-gnu) libcurl/{VERSION}\nProtocols: http\n")
            raise CurlError(0, "")
        else:
            raise CurlError(2, f"curl: option {arg}: is unknown\ncurl: try 'curl --help' or 'curl --manual' for more information")
    return o


def _value(arg: str, args: list[str]) -> str:
    if not args:
        raise CurlError(2, f"curl: option {arg}: requires parameter\ncurl: try 'curl --help' or 'curl --manual' for more information")
    return args.pop(0)


def _seconds(arg: str, text: str) -> int:
    try:
        return int(float(text) * 1000) * MSEC
    except ValueError:
        raise CurlError(2, f"curl: option {arg}: expected a proper numerical parameter\n"
                           "curl: try 'curl --help' or 'curl --manual' for more information") from None


def _add_data(proc: Process, o: Options, arg: str, value: str) -> None:
    if value.startswith("@") and arg != "--data-raw":
        raw = proc.read_stdin() if value == "@-" else proc.read_file(value[1:])
        data = raw if arg == "--data-binary" else raw.replace(b"\n", b"").replace(b"\r", b"")
    else:
        data = value.encode("utf-8", "surrogateescape")
    if arg == "--json":
        o.headers = ["Content-Type: application/json", "Accept: application/json", *o.headers]
    o.data = data if o.data is None else o.data + b"&" + data


@dataclass
class Url:
    """The parts of a URL."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host, as the Host header has it."""
        return self.host if self.port == {"http": 80, "https": 443}.get(self.scheme) else f"{self.host}:{self.port}"


def split_url(text: str) -> Url:
    """Parts of a URL; http is the default. Raises CurlError 1 or 3."""
    scheme, sep, rest = text.partition("://")
    if not sep:
        scheme, rest = "http", text
    scheme = scheme.lower()
    if scheme not in ("http", "https"):
        raise CurlError(1, f'Protocol "{scheme}" not supported or disabled in libcurl')
    found = re.match(r"(?:[^@/]*@)?(\[[0-9a-fA-F:]+\]|[^:/?#]*)(?::(\d*))?([/?#].*)?$", rest)
    if not found or not found[1]:
        raise CurlError(3, "URL using bad/illegal format or missing URL" if rest else "No host part in the URL")
    path = (found[3] or "/").partition("#")[0]
    port = int(found[2]) if found[2] else 443 if scheme == "https" else 80
    return Url(scheme, found[1], port, path if path.startswith("/") else "/" + path)


@dataclass
class Transfer:
    """What -w can tell."""

    url: str = ""
    code: int = 0
    size: int = 0
    remote_ip: str = ""
    remote_port: int = 0
    local_ip: str = ""
    local_port: int = 0
    began: int = 0
    namelookup: int = 0
    connect: int = 0
    starttransfer: int = 0
    total: int = 0
    redirects: int = 0
    content_type: str = ""
    upload: int = 0
    connects: int = 0
    error: str = ""
    exit: int = 0
    version: str = "0"
    header_size: int = 0
    method: str = "GET"
    redirect_url: str = ""


class Client:
    """One URL's transfer."""

    def __init__(self, proc: Process, o: Options, progress: bool) -> None:
        self.proc, self.o = proc, o
        self.t = Transfer()
        self.fd = -1
        self.buffer = b""
        self.deadline = 0
        self.progress = progress
        self.headers_done = False

    def note(self, text: str) -> None:
        """A `* ` line of -v."""
        if self.o.verbose:
            self.proc.err(f"* {text}\n")

    def elapsed(self) -> int:
        return self.proc.sys.now() - self.t.began

    def left(self, least: int = 0) -> int | None:
        """How long the next wait may take; None without --max-time."""
        if not self.deadline:
            return least or None
        left = max(self.deadline - self.proc.sys.now(), 1)
        return min(left, least) if least else left

    # ---- connecting ---------------------------------------------------------------------------------------------

    def addresses(self, url: Url) -> list[tuple[int, str]]:
        pinned = self.o.resolve.get((url.host.lower(), url.port))
        if pinned:
            self.note(f"Added {url.host}:{url.port}:{pinned} to DNS cache")
            self.note(f"Hostname {url.host} was found in DNS cache")
            return [(AF_INET, pinned)]
        host = url.host.strip("[]")
        if host == "localhost":
            return [(AF_INET, "127.0.0.1")]
        try:
            return lookup(self.proc, host, 0)[0]
        except ResolveError:
            self.note(f"Could not resolve host: {host}")
            self.note("Closing connection 0")
            raise CurlError(6, f"Could not resolve host: {host}") from None

    def connect(self, url: Url) -> None:
        """A connection to the URL's host."""
        addresses = self.addresses(url)
        self.t.namelookup = self.elapsed()
        error: OSError | None = None
        limit = self.o.connect_timeout
        for family, address in addresses:
            shown = f"[{address}]" if family == AF_INET6 else address
            self.note(f"  Trying {shown}:{url.port}...")
            try:
                self.fd = self.proc.sys.socket(family, SOCK_STREAM)
                self._bind()
                self.proc.sys.connect(self.fd, (address, url.port), self.left(limit))
            except OSError as problem:
                if self.fd >= 0:
                    self.proc.sys.close(self.fd)
                    self.fd = -1
                if problem.errno in (errno.EINPROGRESS, errno.EAGAIN):
                    ms = self.elapsed() // MSEC
                    if limit and (not self.deadline or self.proc.sys.now() < self.deadline):
                        text = f"Failed to connect to {url.host} port {url.port} after {ms} ms: Timeout was reached"
                    else:
                        text = f"Connection timed out after {ms} milliseconds"
                    self.note(text)
                    self.note("Closing connection 0")
                    raise CurlError(28, text) from None
                if problem.errno != errno.EAFNOSUPPORT or error is None:
                    error = problem
                self.note(f"connect to {address} port {url.port} failed: {problem.strerror}" if problem.errno != errno.ENETUNREACH else
                          f"Immediate connect fail for {shown}: {problem.strerror}")
                continue
            self.t.remote_ip, self.t.remote_port = address, url.port
            self.t.local_ip, self.t.local_port = self.proc.sys.getsockname(self.fd)[:2]
            self.t.connect, self.t.connects = self.elapsed(), self.t.connects + 1
            self.note(f"Connected to {url.host} ({address}) port {url.port} (#0)")
            return
        ms = self.elapsed() // MSEC
        text = f"Failed to connect to {url.host} port {url.port} after {ms} ms: Couldn't connect to server"
        self.note(text)
        if self.o.verbose:
            self.note("Closing connection 0")
        raise CurlError(28 if error is not None and error.errno == errno.ETIMEDOUT else 7, text)

    def _bind(self) -> None:
        if self.o.interface:
            if self.o.interface.replace(".", "").isdigit():
                self.proc.sys.bind(self.fd, (self.o.interface, self.o.local_port))
            else:
                self.proc.sys.setsockopt(self.fd, 1, 25, self.o.interface.encode())
        elif self.o.local_port:
            self.proc.sys.bind(self.fd, ("", self.o.local_port))

    # ---- receiving ----------------------------------------------------------------------------------------------

    def fill(self) -> bool:
        """More bytes in the buffer; False at the end. Raises CurlError 28, 56."""
        try:
            data = self.proc.sys.recv(self.fd, 16384, 0, self.left())
        except OSError as error:
            if error.errno == errno.EAGAIN:
                ms = self.elapsed() // MSEC
                text = f"Operation timed out after {ms} milliseconds with {self.t.size} bytes received"
                if self.headers_done and self.expected >= 0:
                    text = f"Operation timed out after {ms} milliseconds with {self.t.size} out of {self.expected} bytes received"
                self.note(text)
                self.note("Closing connection 0")
                raise CurlError(28, text) from None
            if not self.t.starttransfer and error.errno == errno.ECONNRESET:
                pass
            text = f"Recv failure: {error.strerror}"
            self.note(text)
            self.note("Closing connection 0")
            raise CurlError(56, text) from None
        if data and not self.t.starttransfer:
            self.t.starttransfer = self.elapsed()
        self.buffer += data
        return bool(data)

    expected = -1

    def line(self) -> bytes:
        while b"\n" not in self.buffer:
            if not self.fill():
                break
        line, sep, self.buffer = self.buffer.partition(b"\n")
        return line + sep

    def request(self, url: Url) -> None:
        o = self.o
        method = o.method or ("HEAD" if o.head else "POST" if o.data is not None and not o.get else "GET")
        self.t.method = method
        path = url.path
        if o.get and o.data is not None:
            path += ("&" if "?" in path else "?") + o.data.decode()
        given = {h.partition(":")[0].strip().lower(): h for h in o.headers}
        lines = [f"{method} {path} HTTP/{'1.0' if o.http10 else '1.1'}"]
        lines.append(given.pop("host", f"Host: {url.authority}"))
        if o.user:
            lines.append("Authorization: Basic " + base64.b64encode(o.user.encode()).decode())
        if "user-agent" not in given:
            lines.append(f"User-Agent: {o.agent}")
        if "accept" not in given:
            lines.append("Accept: */*")
        lines += [h for name, h in given.items() if name not in ("content-length",) and not h.endswith(":")]
        body = o.data if o.data is not None and not o.get else b""
        if body or (o.data is not None and not o.get):
            lines.append(f"Content-Length: {len(body)}")
            if "content-type" not in given:
                lines.append("Content-Type: application/x-www-form-urlencoded")
        if o.verbose:
            self.proc.err("".join(f"> {line}\n" for line in lines) + "> \n")
        text = "".join(line + "\r\n" for line in lines) + "\r\n"
        try:
            self.proc.sys.send_all(self.fd, text.encode() + body, self.left())
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ECONNRESET):
                return  # the answer, or its absence, tells more
            raise CurlError(55, f"Send failure: {error.strerror}") from None
        self.t.upload = len(body)
        if body and o.verbose:
            self.proc.err("} " + f"[{len(body)} bytes data]\n")

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """(status, headers by lower-case name, the head as it came)."""
        while True:
            first = self.line()
            if not first:
                self.note("Empty reply from server")
                self.note("Closing connection 0")
                raise CurlError(52, "Empty reply from server")
            found = re.match(rb"HTTP/(\d)(?:\.(\d))? (\d{3})", first)
            if not found:
                self.note("Received HTTP/0.9 when not allowed")
                self.note("Closing connection 0")
                raise CurlError(1, "Received HTTP/0.9 when not allowed")
            self.t.version = found[1].decode() + (f".{found[2].decode()}" if found[2] else "")
            raw, headers = first, {}
            while (line := self.line()).strip():
                raw += line
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.strip().lower()] = value.strip()
            raw += line
            if self.o.verbose:
                self.proc.err("".join(f"< {text}\n" for text in raw.decode("latin-1").replace("\r", "").splitlines() if text) + "< \n"
                              if not self.o.head else
                              "".join(f"< {text}\n" for text in raw.decode("latin-1").replace("\r", "").splitlines() if text))
            self.t.code = int(found[3])
            self.t.header_size += len(raw)
            if not 100 <= self.t.code < 200:
                return self.t.code, headers, raw

    def body(self, headers: dict[str, str], sink: list[bytes]) -> None:
        """The body, to `sink`."""
        self.headers_done = True
        if self.t.method == "HEAD" or self.t.code in (204, 304):
            return
        if "chunked" in headers.get("transfer-encoding", ""):
            while True:
                size_line = self.line()
                if not size_line:
                    raise CurlError(18, "transfer closed with outstanding read data remaining")
                size = int(size_line.split(b";")[0], 16)
                self.take(size, sink)
                self.line()
                if size == 0:
                    return
        length = headers.get("content-length")
        if length is not None:
            self.expected = int(length)
            self.take(self.expected, sink)
            return
        while self.buffer or self.fill():
            self.t.size += len(self.buffer)
            sink.append(self.buffer)
            self.flush(sink)
            self.buffer = b""

    def take(self, size: int, sink: list[bytes]) -> None:
        while size > 0:
            if not self.buffer and not self.fill():
                text = f"transfer closed with {size} bytes remaining to read"
                self.note(text)
                self.note("Closing connection 0")
                raise CurlError(18, text)
            part, self.buffer = self.buffer[:size], self.buffer[size:]
            size -= len(part)
            self.t.size += len(part)
            sink.append(part)
            self.flush(sink)

    def flush(self, sink: list[bytes]) -> None:
        """Bodies for standard output go there as they come."""
        if not self.o.output and not self.o.remote_name:
            self.emit(b"".join(sink))
            sink.clear()

    def emit(self, data: bytes) -> None:
        if not data:
            return
        if self.o.verbose:
            self.proc.err("{ " + f"[{len(data)} bytes data]\n")
        self.proc.out(data)

    # ---- the whole ----------------------------------------------------------------------------------------------

    def run(self, text: str) -> None:
        """Do it, redirects included. Raises CurlError."""
        self.t.began = self.proc.sys.now()
        if self.o.max_time:
            self.deadline = self.t.began + self.o.max_time
        try:
            while True:
                url = split_url(text)
                if url.scheme == "https":
                    raise CurlError(1, 'Protocol "https" not supported or disabled in libcurl')
                self.t.url = text if "://" in text else f"http://{text}"
                if not self.t.url.partition("://")[2].count("/"):
                    self.t.url += "/"
                self.connect(url)
                self.request(url)
                target = self.once(url)
                if target is None:
                    return
                if self.t.redirects >= self.o.max_redirects:
                    raise CurlError(47, f"Maximum ({self.o.max_redirects}) redirects followed")
                self.t.redirects += 1
                self.note(f"Issue another request to this URL: '{target}'")
                if self.t.code in (301, 302, 303) and not self.o.method:
                    self.o.data = None
                text = target
        finally:
            self.t.total = self.elapsed()
            if self.fd >= 0:
                self.proc.sys.close(self.fd)

    def once(self, url: Url) -> str | None:
        """One exchange; where a redirect leads, if it is to be followed."""
        o = self.o
        code, headers, raw = self.response()
        self.t.content_type = headers.get("content-type", "")
        location = headers.get("location")
        follow = o.follow and location is not None and 300 <= code < 400
        if location is not None and 300 <= code < 400:
            self.t.redirect_url = location if "://" in location else f"{url.scheme}://{url.authority}{location}"
        if o.fail and code >= 400:
            self.note(f"The requested URL returned error: {code}")
            self.note("Closing connection 0")
            if o.include or o.head:
                self.proc.out(raw)
            raise CurlError(22, f"The requested URL returned error: {code}")
        sink: list[bytes] = []
        if o.dump_header:
            self._save(o.dump_header, raw)
        if o.include or o.head:
            if o.output:
                sink.append(raw)
            else:
                self.proc.out(raw)
        if follow:
            self.note("Ignoring the response-body")
            quiet = Options(output="discard")
            keep, self.o = self.o, quiet
            self.body(headers, [])
            self.o = keep
            self.proc.sys.close(self.fd)
            self.fd = -1
            return self.t.redirect_url
        self.body(headers, sink)
        closing = headers.get("connection", "").lower() == "close" or self.t.version == "1.0" or (
            "content-length" not in headers and "chunked" not in headers.get("transfer-encoding", "") and self.t.method != "HEAD")
        self.note("Closing connection 0" if closing else f"Connection #0 to host {url.host} left intact")
        name = o.output or (url.path.rpartition("/")[2].partition("?")[0] if o.remote_name else "")
        if name:
            self._save(name, b"".join(sink))
        return None

    def _save(self, path: str, data: bytes) -> None:
        if path == "-":
            self.proc.out(data)
        elif path != "/dev/null":
            self.proc.vfs.write(path, data, cwd=self.proc.cwd)


def write_out(fmt: str, t: Transfer) -> str:
    """-w: %{name} replaced, \\n and \\t unescaped."""
    def secs(ns: int) -> str:
        return f"{ns // SEC}.{ns % SEC // 1000:06d}"

    total = t.total or 1
    values = {
        "http_code": f"{t.code:03d}", "response_code": f"{t.code:03d}", "time_total": secs(t.total), "time_connect": secs(t.connect),
        "time_namelookup": secs(t.namelookup), "time_starttransfer": secs(t.starttransfer), "size_download": str(t.size),
        "time_appconnect": secs(0), "time_pretransfer": secs(t.connect), "time_redirect": secs(0), "remote_ip": t.remote_ip,
        "remote_port": str(t.remote_port), "local_ip": t.local_ip, "local_port": str(t.local_port), "url_effective": t.url,
        "num_redirects": str(t.redirects), "content_type": t.content_type, "size_upload": str(t.upload), "num_connects": str(t.connects),
        "speed_download": str(t.size * SEC // total), "speed_upload": str(t.upload * SEC // total), "exitcode": str(t.exit),
        "errormsg": t.error, "http_version": t.version, "size_header": str(t.header_size), "method": t.method, "scheme": "HTTP",
        "redirect_url": t.redirect_url, "url": t.url, "http_connect": "000",
    }
    text = re.sub(r"%\{(\w+)\}", lambda m: values.get(m[1], ""), fmt)
    return text.replace("%%", "%").replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r")


METER_HEAD = ("  % Total    % Received % Xferd  Average Speed   Time    Time     Time  Current\n"
              "                                 Dload  Upload   Total   Spent    Left  Speed\n")
METER_ZERO = "\r  0     0    0     0    0     0      0      0 --:--:-- --:--:-- --:--:--     0"


@tool("curl")
def curl(proc: Process, argv: list[str]) -> int:
    """curl [-sSvifLIGkO4] [-o FILE] [-w FORMAT] [-X METHOD] [-d DATA] [-H HEADER] [-m SECONDS] [--connect-timeout S] URL ..."""
    try:
        o = parse_args(proc, argv[1:])
    except CurlError as error:
        if str(error):
            proc.err(f"{error}\n")
        return error.code
    except OSError as error:
        proc.err(f"curl: (26) Failed to open {error.filename or ''}\n")
        return 26
    if not o.urls:
        proc.err("curl: try 'curl --help' or 'curl --manual' for more information\n")
        return 2
    code = 0
    stdout = proc.fds.files.get(1)
    for url in o.urls:
        meter = not o.silent and (bool(o.output) or stdout is None or stdout.name != "tty")
        code = _with_retries(proc, o, url, meter)
    return code


def _with_retries(proc: Process, o: Options, url: str, meter: bool) -> int:
    delay = SEC
    for attempt in range(o.retry + 1):
        client = Client(proc, o, meter)
        code, message = 0, ""
        if meter:
            proc.err(METER_HEAD + METER_ZERO)
        try:
            client.run(url)
        except CurlError as error:
            code, message = error.code, str(error)
        t = client.t
        t.exit, t.error = code, message
        transient = code in (28,) or (code == 7 and o.retry_refused) or (code and o.retry_all) or t.code in (408, 429, 500, 502, 503, 504)
        if attempt < o.retry and transient:
            pause = o.retry_delay or delay
            what = "timeout" if code == 28 else "connection refused" if code == 7 else "HTTP error" if not code else "(retrying all errors)"
            if not o.silent or o.show_error:
                proc.err(f"Warning: Problem : {what}. Will retry in {pause // SEC} seconds. {o.retry - attempt} \nWarning: "
                         f"{'retry' if o.retry - attempt == 1 else 'retries'} left.\n")
            proc.sys.sleep(pause)
            delay = min(delay * 2, 600 * SEC)
            continue
        if meter:
            proc.err(_meter(t) if not code else METER_ZERO + "\n")
        if code and (not o.silent or o.show_error):
            proc.err(f"curl: ({code}) {message}\n")
        if o.write_out:
            proc.out(write_out(o.write_out, t))
        return code
    return 0


def _meter(t: Transfer) -> str:
    """The last line of the progress meter."""
    speed = t.size * SEC // (t.total or 1)
    text = str(speed) if speed < 100_000 else f"{speed // 1024}k" if speed < 10_000 * 1024 else f"{speed // 1024 // 1024}M"
    return f"\r100 {t.size:5d}  100 {t.size:5d}    0     0 {text:>6}      0 --:--:-- --:--:-- --:--:-- {text:>5}\n"


@tool("wget")
def wget(proc: Process, argv: list[str]) -> int:
    """wget [-qO FILE] [-T SECONDS] [-S] [--spider] [--post-data DATA] [--header H] URL (busybox's texts)"""
    o, args, spider, timeout = Options(silent=True, follow=True, agent="Wget"), argv[1:], False, 900 * SEC
    url = ""
    quiet = False
    while args:
        arg = args.pop(0)
        if arg.startswith("--"):
            name, _, value = arg[2:].partition("=")
            if name == "spider":
                spider = True
            elif name in ("timeout", "header", "post-data", "output-document", "tries"):
                value = value or (args.pop(0) if args else "")
                if name == "timeout":
                    timeout = int(float(value) * SEC)
                elif name == "header":
                    o.headers.append(value)
                elif name == "post-data":
                    o.data = value.encode()
                elif name == "output-document":
                    o.output = value
            continue
        if arg.startswith("-") and arg != "-":
            letters = arg[1:]
            while letters:
                c, letters = letters[0], letters[1:]
                if c in "OTtUPo":
                    value = letters or (args.pop(0) if args else "")
                    letters = ""
                    if c == "O":
                        o.output = value
                    elif c == "T":
                        timeout = int(float(value) * SEC)
                quiet = quiet or c == "q"
        else:
            url = arg
    return _wget(proc, o, url, quiet, spider, timeout)


def _wget(proc: Process, o: Options, url: str, quiet: bool, spider: bool, timeout: int) -> int:
    o.connect_timeout = timeout
    o.max_time = timeout
    o.fail = True
    try:
        parts = split_url(url)
    except CurlError as error:
        proc.err(f"wget: not an http or ftp url: {url}\n" if error.code else "")
        return 1
    target = o.output or parts.path.rpartition("/")[2].partition("?")[0] or "index.html"
    o.output = "-" if target == "-" else "/tmp/.wget"
    client = Client(proc, o, False)
    try:
        addresses = client.addresses(parts)
    except CurlError:
        proc.err(f"wget: bad address '{parts.host}'\n")
        return 1
    if not quiet:
        proc.err(f"Connecting to {parts.authority if parts.port != 80 else parts.host} ({addresses[0][1]}:{parts.port})\n")
    try:
        client.run(url)
    except CurlError as error:
        words = {7: f"can't connect to remote host ({addresses[0][1]}): Connection refused", 28: "download timed out",
                 22: f"server returned error: HTTP/1.1 {client.t.code} {REASONS.get(client.t.code, '')}",
                 52: "error getting response", 56: "error getting response: Connection reset by peer"}.get(error.code, str(error))
        proc.err(f"wget: {words}\n")
        return 1
    if spider:
        if not quiet:
            proc.err("remote file exists\n")
    elif target != "-":
        proc.vfs.write(target, proc.vfs.read("/tmp/.wget"), cwd=proc.cwd)
        if not quiet:
            size = client.t.size
            proc.err(f"saving to '{target}'\n{target:<20.20} 100% |{'*' * 32}| {size:5d}  0:00:00 ETA\n'{target}' saved\n")
    return 0


REASONS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
           500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Temporarily Unavailable", 504: "Gateway Time-out"}
