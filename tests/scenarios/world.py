"""Helpers for tests over whole clusters: a cluster with a cast, programs that run in it, and what its wires carry.

    w = World()                                 node-1..2 (or more), outside; client 10.48.1.5, web-0 on node-2, web-1 on node-1
    w.do("client", fn, ...)                     fn(sys, ...) runs as a program there; its return value, or its OSError raised
    job = w.go("client", fn, ...)               the same, begun; job.done, job.value, job.error
    w.entries("node-1", proto="tcp")            conntrack entries as text: "10.48.1.5:41000>10.96.0.1:80 10.48.2.7:8080>..."
    tap = w.tap("client", "eth0")               every frame of a device from now on, as Frame records

Expected values in the tests come from the sources they name, never from what the emulator printed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kubenet.cluster.cluster import Cluster
from kubenet.units import SEC
from kubenet.userland.process import Process
from kubenet.userland.procfs import write_sysctl
from kubenet.wire.addr import ip4_text

Obj = dict[str, Any]

AF_INET, STREAM, DGRAM = 2, 1, 2
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
SOL_SOCKET, SO_REUSEADDR, SO_SNDBUF, SO_RCVBUF, SO_LINGER, SO_REUSEPORT = 1, 2, 7, 8, 13, 15
IPPROTO_TCP, TCP_NODELAY = 6, 1
EPERM, EAGAIN, EPIPE, EADDRINUSE, EADDRNOTAVAIL = 1, 11, 32, 98, 99
ENETUNREACH, ECONNRESET, ETIMEDOUT, ECONNREFUSED, EHOSTUNREACH = 101, 104, 110, 111, 113

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.53"
CLIENT, WEB0, WEB1, VIP = "10.48.1.5", "10.48.2.7", "10.48.1.6", "10.96.0.1"


def topology(nodes: int = 2, links: Any = None, **spec: Any) -> Obj:
    """Nodes node-1.., the client `outside`; 10.96.0.1 is the cast's, so the API server's Service moves."""
    out: Obj = {"nodes": [{"name": f"node-{n}"} for n in range(1, nodes + 1)], "outside": [{"name": "outside"}],
                "kubernetesService": "10.96.0.2", **spec}
    if links is not None:
        out["links"] = links
    return {"kind": "Topology", "metadata": {"name": "test"}, "spec": out}


def pod(name: str, node: str = "", ip: str = "", labels: Obj | None = None, image: str = "busybox:1.36",
        command: list[str] | None = None, args: list[str] | None = None, **spec: Any) -> Obj:
    """A Pod with one container; without args it sleeps."""
    container: Obj = {"name": "c", "image": image}
    if args is not None:
        container["args"] = args
    else:
        container["command"] = command or ["sleep", "infinity"]
    meta: Obj = {"name": name, "labels": labels or {"app": name}}
    if ip:
        meta["annotations"] = {"kubenet.dev/ip": ip}
    if node:
        spec["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container], **spec}}


def netexec(name: str, node: str, ip: str = "", app: str = "web", **spec: Any) -> Obj:
    """A Pod that runs agnhost netexec: HTTP on 8080, UDP on 8081."""
    return pod(name, node, ip, {"app": app}, AGNHOST, args=["netexec", "--http-port=8080"], **spec)


def service(name: str, ip: str = "", selector: Obj | None = None, ports: list[Obj] | None = None, **spec: Any) -> Obj:
    """A Service; port 80 -> 8080 unless told otherwise."""
    body: Obj = {"selector": selector or {"app": name}, "ports": ports or [{"name": "http", "port": 80, "targetPort": 8080}], **spec}
    if ip:
        body["clusterIP"] = ip
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body}


def deployment(name: str, replicas: int, image: str = AGNHOST, args: list[str] | None = None, **spec: Any) -> Obj:
    """A Deployment of netexec pods."""
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
        {"name": "c", "image": image, "args": args or ["netexec"]}]}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template, **spec}}


class Frame(NamedTuple):
    """One frame that passed a device."""

    t: int
    out: bool
    proto: int
    src: str
    sport: int
    dst: str
    dport: int
    flags: int
    seq: int
    ack: int
    window: int
    plen: int
    ttl: int
    dev: str
    l4: Any
    quote: Any
    ip: Any
    gso: int = 0


class Tap:
    """Records the frames of one device."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def capture(self, dev: Any, skb: Any, outgoing: bool) -> None:
        ip, l4 = skb.ip, skb.l4
        if skb.protocol != 0x0800:
            self.frames.append(Frame(dev.net.loop.now, outgoing, 0, ip4_text(ip.spa), 0, ip4_text(ip.tpa), 0, ip.op, 0, 0, 0, 0, 0,
                                     dev.name, ip.copy(), None, None))
            return
        quote = skb.inner.copy() if skb.inner is not None and ip.proto == 1 else None
        self.frames.append(Frame(
            dev.net.loop.now, outgoing, ip.proto, ip4_text(ip.saddr), getattr(l4, "sport", 0), ip4_text(ip.daddr),
            getattr(l4, "dport", 0), getattr(l4, "flags", 0), getattr(l4, "seq", 0), getattr(l4, "ack_seq", 0),
            getattr(l4, "window", 0), skb.plen, ip.ttl, dev.name, l4.copy() if l4 is not None else None, quote, ip.copy(), skb.gso_size))

    def tcp(self, flags: int | None = None, out: bool | None = None, data: bool | None = None) -> list[Frame]:
        """TCP frames: with exactly these flags, in this direction, with or without data."""
        return [f for f in self.frames if f.proto == 6 and (flags is None or f.flags == flags)
                and (out is None or f.out == out) and (data is None or (f.plen > 0) == data)]

    def icmp(self) -> list[Frame]:
        """ICMP frames."""
        return [f for f in self.frames if f.proto == 1]


class Job:
    """A program under way."""

    def __init__(self) -> None:
        self.value: Any = None
        self.error: OSError | None = None
        self.done = False
        self.began = 0
        self.ended = 0
        self.process: Process

    @property
    def took(self) -> int:
        return self.ended - self.began


class World:
    """A cluster with the cast; a context manager."""

    def __init__(self, nodes: int = 2, docs: list[Obj] | None = None, cast: bool = True, links: Any = None,
                 seed: int | None = None, **spec: Any) -> None:
        self.cluster = Cluster(topology(nodes, links, **spec), seed)
        self.loop = self.cluster.loop
        parts: list[Obj] = []
        if cast:
            parts = [pod("client", "node-1", CLIENT, image="nicolaka/netshoot"), netexec("web-0", "node-2", WEB0),
                     netexec("web-1", "node-1", WEB1)]
        self.apply(*parts, *(docs or []))

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.close()

    def apply(self, *docs: Obj) -> None:
        """Applied, and settled, and kube-proxy has written its rules."""
        self.cluster.apply_documents(docs)
        self.cluster.settle()
        self.run(2)

    def delete(self, kind: str, name: str, grace: int = 0) -> None:
        self.cluster.store.delete(kind, ("default", name), grace=grace)

    def run(self, seconds: float) -> None:
        self.cluster.run(int(seconds * SEC))

    def net(self, place: str) -> Any:
        return self.cluster.container(place).net

    def sh(self, place: str, command: str) -> str:
        """A shell line's standard output."""
        return self.cluster.exec(place, command).out

    def go(self, place: str, fn: Callable[..., Any], *args: Any) -> Job:
        job = Job()

        def main(proc: Process, argv: list[str]) -> int:
            job.began = self.loop.now
            try:
                job.value = fn(proc.sys, *args)
            except OSError as error:
                job.error = error
            job.ended = self.loop.now
            job.done = True
            return 0

        job.process = self.cluster.container(place).run_native(main, [fn.__name__])
        return job

    def wait(self, job: Job, seconds: float = 600) -> Any:
        """The job's value, when it is done; its OSError raised."""
        self.cluster.run_until(lambda: job.done or job.process.done, int(seconds * SEC))
        assert job.done, f"the program ended with {job.process.exit_code}: {job.process.stderr_bytes().decode()}"
        if job.error is not None:
            raise job.error
        return job.value

    def do(self, place: str, fn: Callable[..., Any], *args: Any) -> Any:
        return self.wait(self.go(place, fn, *args))

    def errno(self, place: str, fn: Callable[..., Any], *args: Any) -> int:
        """The errno that the program ended with; 0 for none."""
        job = self.go(place, fn, *args)
        self.cluster.run_until(lambda: job.done or job.process.done, 600 * SEC)
        assert job.done, job.process.stderr_bytes().decode()
        return job.error.errno or 0 if job.error is not None else 0

    def get(self, place: str, addr: tuple[str, int], path: str = "/clientip") -> str:
        """The body of an HTTP answer."""
        return str(self.do(place, http_get, addr, path))

    def tap(self, place: str, dev: str = "eth0") -> Tap:
        from kubenet.kernel.dev.device import add_tap

        tap = Tap()
        add_tap(self.net(place).devs[dev], tap)
        return tap

    def sysctl(self, place: str, name: str, value: int | str) -> None:
        write_sysctl(self.net(place), name, str(value))

    def entries(self, node: str, **wanted: Any) -> list[Any]:
        """Live conntrack entries that involve these: proto=6, dport=80 (original)."""
        found = []
        for ct in self.net(node).ct.entries():
            o = ct.orig
            values = {"proto": ct.protonum, "saddr": ip4_text(o[0]), "sport": o[1], "daddr": ip4_text(o[2]), "dport": o[3]}
            if all(values[k] == v for k, v in wanted.items()):
                found.append(ct)
        return found

    def tuples(self, node: str, **wanted: Any) -> list[str]:
        """The same, as text: "src:sport>dst:dport src:sport>dst:dport"."""
        return [f"{_ends(ct.orig)} {_ends(ct.reply)}" for ct in self.entries(node, **wanted)]


def _ends(t: tuple[int, ...]) -> str:
    return f"{ip4_text(t[0])}:{t[1]}>{ip4_text(t[2])}:{t[3]}"


# ---- programs


def http_get(sys: Any, addr: tuple[str, int], path: str = "/clientip") -> str:
    """GET, HTTP/1.0; the body."""
    fd = sys.socket(AF_INET, STREAM)
    sys.connect(fd, addr)
    sys.send_all(fd, f"GET {path} HTTP/1.0\r\nHost: test\r\n\r\n".encode())
    data = b""
    while chunk := sys.recv(fd, 65536):
        data += chunk
    sys.close(fd)
    return data.partition(b"\r\n\r\n")[2].decode()


def connect(sys: Any, addr: tuple[str, int], timeout: int | None = None) -> int:
    """A connected socket's descriptor."""
    fd: int = sys.socket(AF_INET, STREAM)
    sys.connect(fd, addr, timeout)
    return fd


def udp_ask(sys: Any, addr: tuple[str, int], text: str = "clientip", timeout: int = 2 * SEC) -> str:
    """A datagram over a connected socket, and its answer."""
    fd = sys.socket(AF_INET, DGRAM)
    sys.connect(fd, addr)
    sys.send(fd, text.encode())
    return str(sys.recv(fd, 2048, 0, timeout).decode())


def listener(sys: Any, port: int, backlog: int = 128, reuse: bool = False) -> int:
    """A listening socket's descriptor."""
    fd: int = sys.socket(AF_INET, STREAM)
    if reuse:
        sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    sys.bind(fd, ("0.0.0.0", port))
    sys.listen(fd, backlog)
    return fd


def read_all(sys: Any, fd: int, timeout: int | None = None) -> bytes:
    """Everything up to the peer's FIN."""
    out = b""
    while data := sys.recv(fd, 65536, 0, timeout):
        out += data
    return out
