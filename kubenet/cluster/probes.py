"""Probes and hooks: what the kubelet asks of containers, over real sockets and with real processes.

    ProbeWorker          one probe of one running container: a thread of the node's kubelet process, ticking by its period
    run_handler()        one exec, httpGet or tcpSocket action -> (outcome, text); lifecycle hooks use it, too

The kubelet connects from the node's namespace, so the server sees the address of cni0. When each probe runs:

    ticks             every periodSeconds since the pod came to the node; readiness: since the container was started
    the first         a tick at which initialDelaySeconds (whole seconds) have passed; readiness at once if there is no delay
    startup           alone until it has succeeded; then readiness at once, and liveness at the next tick
    a decision        after successThreshold or failureThreshold equal results in a row; an error of the probing itself counts
                      for neither
    after failure     of liveness or startup the worker rests until there is a new container

simplified: no random first delay after the kubelet's own start; a readiness probe that fails is not run again at every
status update; grpc and httpGet with scheme HTTPS cannot be asked (grpc is warned about at apply).
Sources: Kubernetes prober/worker.go, prober.go, prober_manager.go, probe/{http,tcp,exec}, lifecycle/handlers.go.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, NamedTuple

from kubenet.sim.task import current
from kubenet.sim.wait import WaitQueue
from kubenet.units import SEC
from kubenet.userland.container import Container, ExecError
from kubenet.userland.process import SIGKILL, Process

Obj = dict[str, Any]

SUCCESS, FAILURE, ERROR = "success", "failure", "error"
READINESS, LIVENESS, STARTUP = "Readiness", "Liveness", "Startup"
FIELDS = {STARTUP: "startupProbe", LIVENESS: "livenessProbe", READINESS: "readinessProbe"}
MAX_TEXT = 10 << 10  # bytes of a body or an output that are kept
MAX_REDIRECTS = 10
AF_INET, SOCK_STREAM = 2, 1
USER_AGENT = "kube-probe/1.32"

Outcome = tuple[str, str]


class Target(NamedTuple):
    """Who is asked: the container, its manifest (for named ports) and the pod's address."""

    container: Container
    spec: Obj
    ip: str


class ProbeWorker:
    """One probe of one container, as long as that container runs. `decide(kind, outcome, text)` is told of decisions and
    `report(kind, outcome, text)` of every single failure."""

    def __init__(self, kind: str, target: Target, spec: Obj, began: int, ticks_from: int,
                 decide: Callable[[str, bool, str], None], report: Callable[[str, str, str], None]) -> None:
        self.kind = kind
        self.target = target
        self.period: int = max(int(spec.get("periodSeconds") or 10), 1) * SEC
        self.timeout: int = max(int(spec.get("timeoutSeconds") or 1), 1) * SEC
        self.initial_delay: int = int(spec.get("initialDelaySeconds") or 0)
        self.thresholds = {SUCCESS: int(spec.get("successThreshold") or 1), FAILURE: int(spec.get("failureThreshold") or 3)}
        self.spec = spec
        self.began = began
        self.ticks_from = ticks_from
        self.decide = decide
        self.report = report
        self.stopped = False
        self.queue = WaitQueue(target.container.loop, f"{kind.lower()} probe")
        self._last = ""
        self._run = 0

    @property
    def wanted(self) -> bool:
        """True while the container it was made for runs and nobody stopped it."""
        return not self.stopped and self.target.container.running

    def start(self, agent: Process) -> None:
        """The probe runs in the kubelet's process."""
        agent.thread(self._main, agent, name=f"{agent.label}/{self.target.container.name}/{self.kind.lower()}")

    def stop(self) -> None:
        """It does not run any more; what is under way is not counted."""
        self.stopped = True
        self.queue.wake()

    def _main(self, agent: Process) -> None:
        try:
            self._loop(agent)
        finally:
            task = current()
            if task in agent.threads:
                agent.threads.remove(task)

    def _loop(self, agent: Process) -> None:
        loop = self.target.container.loop
        at_once = self.kind == READINESS
        tick = self.ticks_from + ((loop.now - self.ticks_from) // self.period + 1) * self.period
        while self.wanted:
            if not at_once:
                agent.sys.wait_on(self.queue, self._is_over, max(tick - loop.now, 0))
                tick += self.period
            at_once = False
            if self.wanted and (loop.now - self.began) // SEC >= self.initial_delay:
                self._probe(agent)
                while tick + self.period <= loop.now:  # a tick that was missed is made up for, more are dropped
                    tick += self.period

    def _is_over(self) -> bool:
        return not self.wanted

    def _probe(self, agent: Process) -> None:
        outcome, text = ERROR, ""
        for _ in range(3):  # maxProbeRetries: only for errors
            outcome, text = run_handler(agent, self.target, self.spec, self.timeout)
            if outcome != ERROR or not self.wanted:
                break
        if not self.wanted:
            return
        if outcome != SUCCESS:
            self.report(self.kind, outcome, text)
        if outcome == ERROR:
            return
        self._run = self._run + 1 if outcome == self._last else 1
        self._last = outcome
        if self._run < self.thresholds[outcome]:
            return
        if outcome == FAILURE and self.kind != READINESS or outcome == SUCCESS and self.kind == STARTUP:
            self.stopped = True
        self.decide(self.kind, outcome == SUCCESS, text)


# ---- actions


def run_handler(agent: Process, target: Target, spec: Obj, timeout: int) -> Outcome:
    """Do what a probe or a hook says, from the kubelet's process, in at most `timeout` ns."""
    if "exec" in spec:
        return run_exec(agent, target.container, list(spec["exec"].get("command") or []), timeout)
    try:
        if "httpGet" in spec:
            return run_http(agent, target, spec["httpGet"], timeout)
        if "tcpSocket" in spec:
            return run_tcp(agent, target, spec["tcpSocket"], timeout)
    except LookupError as error:
        return ERROR, str(error.args[0])
    return ERROR, "missing probe handler"


def run_exec(agent: Process, container: Container, command: list[str], timeout: int) -> Outcome:
    """A process in the container; its output is the text. Kubernetes: probe/exec."""
    try:
        process = container.exec(command)
    except ExecError as error:
        return ERROR, f"rpc error: code = Unknown desc = failed to exec in container: failed to start exec: {error}"
    if not agent.sys.wait_on(process.exit_wait, lambda: process.done, timeout):
        process.kill(SIGKILL, outside=True)
        return FAILURE, f'command "{" ".join(command)}" timed out'
    text = b"".join(data for _, data in process.output)[:MAX_TEXT].decode(errors="replace")
    return (SUCCESS if process.exit_code == 0 else FAILURE), text


def port_number(port: Any, spec: Obj) -> int:
    """A number, or the container's port of that name. LookupError. Kubernetes: probe.ResolveContainerPort()."""
    if isinstance(port, int) or str(port).isdigit():
        return int(port)
    for entry in spec.get("ports") or []:
        if entry.get("name") == port:
            return int(entry["containerPort"])
    raise LookupError(f"couldn't find port: {port}")


def address_for(agent: Process, host: str) -> str:
    """The address of a host given by name or address. OSError."""
    from kubenet.userland.resolver import ResolveError, getaddrinfo

    if host.replace(".", "").isdigit():
        return host
    try:
        return str(getaddrinfo(agent, host, 0, AF_INET)[0][4][0])
    except ResolveError as error:
        raise OSError(errno.EHOSTUNREACH, str(error)) from None


def run_tcp(agent: Process, target: Target, action: Obj, timeout: int) -> Outcome:
    """Connect and close. Kubernetes: probe/tcp."""
    where = f"{action.get('host') or target.ip}:{port_number(action.get('port'), target.spec)}"
    connection = _Connection(agent, timeout)
    try:
        connection.open(where)
    except OSError as error:
        return FAILURE, f"dial tcp {where}: {'i/o timeout' if _is_timeout(error) else _go_words('connect', error)}"
    finally:
        connection.close()
    return SUCCESS, ""


def run_http(agent: Process, target: Target, action: Obj, timeout: int) -> Outcome:
    """GET; 200 to 399 is success. Redirects are followed on the same host. Kubernetes: probe/http."""
    host = str(action.get("host") or target.ip)
    port, path = port_number(action.get("port"), target.spec), str(action.get("path") or "/")
    path = path if path.startswith("/") else "/" + path
    scheme = str(action.get("scheme") or "HTTP").lower()
    deadline = agent.container.loop.now + timeout
    headers = {h["name"]: str(h["value"]) for h in action.get("httpHeaders") or []}
    for _ in range(MAX_REDIRECTS + 1):
        url = f"{scheme}://{host}:{port}{path}"
        if scheme == "https":
            return FAILURE, f'Get "{url}": there is no TLS for probes in this lab'
        connection = _Connection(agent, deadline - agent.container.loop.now)
        try:
            status, location, body = connection.get(f"{host}:{port}", path, headers)
        except OSError as error:
            return FAILURE, f'Get "{url}": {connection.words(f"{host}:{port}", error)}'
        finally:
            connection.close()
        if not 300 <= status < 400 or not location:
            return (SUCCESS, body) if 200 <= status < 400 else (FAILURE, f"HTTP probe failed with statuscode: {status}")
        found = _same_host(location, host, port, path)
        if found is None:
            return SUCCESS, f"Probe terminated redirects, Response body: {body}"
        port, path = found
    return FAILURE, f'Get "{path}": stopped after {MAX_REDIRECTS} redirects'


def _same_host(location: str, host: str, port: int, path: str) -> tuple[int, str] | None:
    """(port, path) of a redirect on the same host name; None if it leads elsewhere."""
    if "://" not in location:
        return port, location if location.startswith("/") else path.rpartition("/")[0] + "/" + location
    scheme, _, rest = location.partition("://")
    authority, slash, tail = rest.partition("/")
    name, _, number = authority.partition(":")
    if scheme != "http" or name != host:
        return None
    return (int(number) if number.isdigit() else 80), slash + tail or "/"


class _Connection:
    """One TCP connection with a deadline for all it does."""

    def __init__(self, agent: Process, timeout: int) -> None:
        self.agent = agent
        self.sys = agent.sys
        self.deadline = agent.container.loop.now + max(timeout, 0)
        self.fd = -1
        self.is_open = False

    @property
    def left(self) -> int:
        return max(self.deadline - self.agent.container.loop.now, 1)

    def open(self, where: str) -> None:
        """Connected to "host:port". OSError."""
        host, _, port = where.rpartition(":")
        self.fd = self.sys.socket(AF_INET, SOCK_STREAM)
        self.sys.connect(self.fd, (address_for(self.agent, host), int(port)), self.left)
        self.is_open = True

    def get(self, where: str, path: str, headers: dict[str, str]) -> tuple[int, str, str]:
        """(status, Location, body) of a GET. OSError, EPROTO for what is no HTTP."""
        self.open(where)
        names = {name.lower(): name for name in headers}
        lines = [f"GET {path} HTTP/1.1", f"Host: {headers[names['host']] if 'host' in names else where}"]
        for name, value in (("User-Agent", USER_AGENT), ("Accept", "*/*")):
            if name.lower() not in names:
                lines.append(f"{name}: {value}")
        lines += [f"{name}: {value}" for name, value in headers.items() if name.lower() != "host"]
        self.sys.send_all(self.fd, "\r\n".join([*lines, "Connection: close", "", ""]).encode(), self.left)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more(data)
        head, _, body = data.partition(b"\r\n\r\n")
        status, found = _parse_head(head)
        length = int(found["content-length"]) if found.get("content-length", "").isdigit() else MAX_TEXT
        while len(body) < min(length, MAX_TEXT):
            chunk = self.sys.recv(self.fd, 65536, 0, self.left)
            if not chunk:
                break
            body += chunk
        return status, found.get("location", ""), body[:MAX_TEXT].decode(errors="replace")

    def _more(self, data: bytes) -> bytes:
        chunk: bytes = self.sys.recv(self.fd, 65536, 0, self.left)
        if not chunk:
            raise OSError(errno.EPROTO, "unexpected EOF" if data else "EOF")
        return chunk

    def words(self, where: str, error: OSError) -> str:
        """What Go's HTTP client says of a failure."""
        if _is_timeout(error):
            return "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        if error.errno == errno.EPROTO:
            return str(error.strerror)
        if not self.is_open:
            return f"dial tcp {where}: {_go_words('connect', error)}"
        local, peer = self.sys.getsockname(self.fd), where
        return f"read tcp {local[0]}:{local[1]}->{peer}: {_go_words('read', error)}"

    def close(self) -> None:
        """Closed, if it was opened."""
        if self.fd >= 0 and not self.agent.dead:
            self.sys.close(self.fd)
            self.fd = -1


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split()
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        raise OSError(errno.EPROTO, f'net/http: HTTP/1.x transport connection broken: malformed HTTP response "{lines[0]}"')
    return int(words[1]), {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])}


def _is_timeout(error: OSError) -> bool:
    return error.errno in (errno.EAGAIN, errno.EINPROGRESS, errno.ETIMEDOUT, errno.EALREADY)


def _go_words(call: str, error: OSError) -> str:
    """Go's "connect: connection refused"."""
    text = str(error.strerror or error)
    return f"{call}: {text[:1].lower() + text[1:]}"
