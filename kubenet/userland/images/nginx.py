"""nginx and httpd: static files over HTTP.

nginx serves its root (/usr/share/nginx/html, ConfigMap volumes included) as nginx 1.27 does: Server, Last-Modified, ETag and
Accept-Ranges headers, index.html, 301 for directories, its 404 page, combined access log on standard output, SIGQUIT graceful and
SIGTERM fast. /etc/nginx/conf.d/*.conf is read for listen, server_name, root, location ... { return CODE [TEXT]; } and
proxy_pass http://host:port.

Leaves out: everything else a configuration can say (a line it does not know is ignored); TLS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kubenet.units import SEC
from kubenet.userland.images.httpserver import REASONS, Request, Response, Server
from kubenet.userland.process import SIGINT, SIGQUIT, SIGTERM, Process
from kubenet.userland.tools import tool
from kubenet.userland.tools.coreutils import format_time
from kubenet.userland.vfs import Dir, RegFile

VERSION = "nginx/1.27.4"
TYPES = {"html": "text/html", "htm": "text/html", "css": "text/css", "js": "application/javascript", "json": "application/json",
         "txt": "text/plain", "xml": "text/xml", "png": "image/png", "jpg": "image/jpeg", "gif": "image/gif", "svg": "image/svg+xml",
         "ico": "image/x-icon"}


@dataclass
class Location:
    """location PREFIX { return ...; | proxy_pass ...; | root ...; }"""

    prefix: str
    exact: bool = False
    code: int = 0
    text: str = ""
    proxy: str = ""
    root: str = ""
    type: str = ""


@dataclass
class ServerBlock:
    """server { ... }"""

    ports: list[int] = field(default_factory=list)
    root: str = "/usr/share/nginx/html"
    locations: list[Location] = field(default_factory=list)


def parse_conf(text: str) -> list[ServerBlock]:
    """The server blocks of a configuration."""
    tokens = re.findall(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[{};]|[^\s{};\"']+", re.sub(r"#[^\n]*", "", text))
    out: list[ServerBlock] = []
    words: list[str] = []
    stack: list[str] = []
    location: Location | None = None
    for token in tokens:
        if token == "{":
            kind = words[0] if words else ""
            stack.append(kind)
            if kind == "server":
                out.append(ServerBlock())
            elif kind == "location" and out:
                location = Location(words[-1], "=" in words[1:-1])
                out[-1].locations.append(location)
            words = []
        elif token == "}":
            if stack and stack.pop() == "location":
                location = None
            words = []
        elif token == ";":
            if words and out:
                _directive(out[-1], location, words)
            words = []
        else:
            words.append(token.strip("\"'").replace('\\"', '"').replace("\\n", "\n") if token[0] in "\"'" else token)
    return out


def _directive(block: ServerBlock, location: Location | None, words: list[str]) -> None:
    name, args = words[0], words[1:]
    if name == "listen" and args:
        port = args[0].rpartition(":")[2]
        if port.isdigit() and "[" not in args[0]:
            block.ports.append(int(port))
    elif name == "root" and args:
        if location is not None:
            location.root = args[0]
        else:
            block.root = args[0]
    elif location is not None and name == "return" and args:
        location.code = int(args[0]) if args[0].isdigit() else 302
        location.text = " ".join(args[1:] if args[0].isdigit() else args)
    elif location is not None and name == "proxy_pass" and args:
        location.proxy = args[0]
    elif location is not None and name in ("default_type", "add_header") and args:
        location.type = args[-1] if name == "default_type" or args[0].lower() == "content-type" else location.type


class Site:
    """Answers requests from files and locations."""

    def __init__(self, proc: Process, block: ServerBlock, name: str) -> None:
        self.proc, self.block, self.name = proc, block, name

    def __call__(self, request: Request) -> Response:
        path = request.path
        best: Location | None = None
        for location in self.block.locations:
            if location.exact:
                if path == location.prefix:
                    best = location
                    break
            elif path.startswith(location.prefix) and (best is None or len(location.prefix) > len(best.prefix)):
                best = location
        if best is not None and best.code:
            text = self._variables(best.text, request)
            if best.code in (301, 302, 303, 307, 308):
                return self.page(best.code, [("Location", text)])
            return Response(best.code, text.encode(), [("Content-Type", best.type or "text/plain")]) if text else self.page(best.code)
        if best is not None and best.proxy:
            return self._proxy(best, request)
        if request.method not in ("GET", "HEAD"):
            return self.page(405)
        return self.file((best.root if best is not None and best.root else self.block.root), path, request)

    def _variables(self, text: str, request: Request) -> str:
        values = {"hostname": self.proc.container.hostname, "remote_addr": request.client[0], "remote_port": str(request.client[1]),
                  "server_addr": request.local[0], "server_port": str(request.local[1]),
                  "host": request.headers.get("host", "").split(":")[0],
                  "request_uri": request.target, "uri": request.path, "request_method": request.method, "scheme": "http"}
        return re.sub(r"\$\{?(\w+)\}?", lambda m: values.get(m[1], ""), text)

    def page(self, code: int, headers: list[tuple[str, str]] | None = None) -> Response:
        """nginx's own page for a status."""
        words = f"{code} {REASONS.get(code, '')}"
        body = (f"<html>\r\n<head><title>{words}</title></head>\r\n<body>\r\n<center><h1>{words}</h1></center>\r\n"
                f"<hr><center>{VERSION}</center>\r\n</body>\r\n</html>\r\n")
        return Response(code, body.encode(), [("Content-Type", "text/html"), *(headers or [])])

    def file(self, root: str, path: str, request: Request) -> Response:
        """A file below the root."""
        vfs = self.proc.vfs
        full = root.rstrip("/") + "/" + "/".join(p for p in path.split("/") if p not in ("", ".", ".."))
        if path.endswith("/") and not full.endswith("/"):
            full += "/"
        try:
            node = vfs.lookup(full or "/")
            if isinstance(node, Dir):
                if not path.endswith("/"):
                    host = request.headers.get("host", "localhost")
                    return self.page(301, [("Location", f"http://{host}{path}/")])
                full = full.rstrip("/") + "/index.html"
                if not vfs.exists(full):
                    self._error(f'directory index of "{root}{path}" is forbidden', request)
                    return self.page(403)
                node = vfs.lookup(full)
            if not isinstance(node, RegFile):
                return self.page(403)
            data = bytes(node.data)
        except OSError:
            self._error(f'open() "{root}{path}" failed (2: No such file or directory)', request)
            return self.page(404)
        kind = TYPES.get(full.rpartition(".")[2], "application/octet-stream" if "." in full.rpartition("/")[2] else "text/plain")
        when = node.mtime // SEC or self.proc.container.epoch // SEC
        stamp = format_time(when * SEC, "%a, %d %b %Y %H:%M:%S GMT")
        etag = f'"{when:x}-{len(data):x}"'
        if request.headers.get("if-none-match") == etag:
            return Response(304, b"", [("Last-Modified", stamp), ("ETag", etag)])
        return Response(200, data, [("Content-Type", kind), ("Last-Modified", stamp), ("ETag", etag), ("Accept-Ranges", "bytes")])

    def _error(self, text: str, request: Request) -> None:
        when = format_time(self.proc.sys.time(), "%Y/%m/%d %H:%M:%S")
        host = request.headers.get("host", "")
        self.proc.err(f'{when} [error] {self.proc.pid}#{self.proc.pid}: *1 {text}, client: {request.client[0]}, server: localhost, '
                      f'request: "{request.method} {request.target} {request.version}", host: "{host}"\n')

    def _proxy(self, location: Location, request: Request) -> Response:
        """Ask the upstream and hand its answer on; 502 and 504 as nginx."""
        from kubenet.userland.tools.curl import Client, CurlError, Options

        url = location.proxy
        if url.count("/") <= 2:
            url += request.target
        else:
            url = url.rstrip("/") + "/" + request.target[len(location.prefix) :].lstrip("/")
        options = Options(method=request.method, data=request.body or None, output="/dev/null", max_time=60 * SEC, agent="",
                          headers=["Connection: close", f"X-Real-IP: {request.client[0]}"])
        client = Client(self.proc, options, False)
        sink: list[bytes] = []
        client.flush = lambda sink: None  # type: ignore[method-assign]
        body = client.body
        client.body = lambda headers, _: body(headers, sink)  # type: ignore[method-assign,assignment]
        try:
            client.run(url)
        except CurlError as error:
            self._error(f"connect() failed (111: Connection refused) while connecting to upstream: {error}", request)
            return self.page(504 if error.code == 28 else 502)
        return Response(client.t.code, b"".join(sink), [("Content-Type", client.t.content_type or "text/plain")])

    def log(self, request: Request, response: Response) -> None:
        """The combined access log."""
        when = format_time(self.proc.sys.time(), "%d/%b/%Y:%H:%M:%S +0000")
        size = 0 if request.method == "HEAD" else len(response.body)
        agent = request.headers.get("user-agent", "-")
        self.proc.out(f'{request.client[0]} - - [{when}] "{request.method} {request.target} {request.version}" {response.status} {size} '
                      f'"{request.headers.get("referer", "-")}" "{agent}"' + (' "-"\n' if self.name == "nginx" else "\n"))


def _start(proc: Process, blocks: list[ServerBlock], name: str, server_text: str) -> int:
    servers = []
    for block in blocks:
        site = Site(proc, block, name)
        server = Server(proc, site, server_text, log=site.log)
        for port in block.ports or [80]:
            try:
                server.listen(port)
            except OSError as error:
                proc.err(f"{format_time(proc.sys.time(), '%Y/%m/%d %H:%M:%S')} [emerg] 1#1: bind() to 0.0.0.0:{port} failed "
                         f"({error.errno}: {error.strerror})\n{name}: [emerg] bind() to 0.0.0.0:{port} failed "
                         f"({error.errno}: {error.strerror})\n")
                return 1
        servers.append(server)
    for extra in servers[1:]:
        for fd in extra.listeners:
            proc.thread(extra._accept, fd, [])
    return servers[0].run((SIGQUIT,) if name == "nginx" else (SIGQUIT, 28), (SIGTERM, SIGINT))


@tool("nginx")
def nginx(proc: Process, argv: list[str]) -> int:
    """nginx [-g DIRECTIVES] [-t] [-v]; also the image's /docker-entrypoint.sh, which runs what it is given."""
    if argv[0].endswith("docker-entrypoint.sh") and len(argv) > 1 and argv[1] not in ("nginx", "nginx-debug"):
        main, real = proc.container.resolve(argv[1:], proc.env, proc.cwd)
        proc.argv = real
        return main(proc, real) or 0
    if "-v" in argv or "-V" in argv:
        proc.err(f"nginx version: {VERSION}\n")
        return 0
    proc.argv = ["nginx:", "master", "process", "nginx", "-g", "daemon off;"]
    text = ""
    for path in proc.vfs.glob("/etc/nginx/conf.d/*.conf") or []:
        text += proc.vfs.read(path).decode(errors="replace") + "\n"
    main_conf = proc.vfs.read("/etc/nginx/nginx.conf").decode(errors="replace") if proc.vfs.exists("/etc/nginx/nginx.conf") else ""
    if "server {" in main_conf or "server{" in main_conf:
        text = main_conf + ("\n" + text if "conf.d" in main_conf else "")
    blocks = parse_conf(text) or [ServerBlock([80])]
    if "-t" in argv:
        proc.err("nginx: the configuration file /etc/nginx/nginx.conf syntax is ok\n"
                 "nginx: configuration file /etc/nginx/nginx.conf test is successful\n")
        return 0
    return _start(proc, blocks, "nginx", VERSION)


@tool("httpd")
def httpd(proc: Process, argv: list[str]) -> int:
    """httpd (Apache): /usr/local/apache2/htdocs on port 80."""
    return _start(proc, [ServerBlock([80], "/usr/local/apache2/htdocs")], "httpd", "Apache/2.4.63 (Unix)")
