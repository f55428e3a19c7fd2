"""A whole cluster in one object: machines, wires, API, controllers; and the library's front door.

    from kubenet import Cluster
    with Cluster.from_manifests("manifests/shop") as c:
        result = c.exec("client", "curl -s http://web")
        assert result.code == 0

The same class serves the engine process, `kubenet run` and tests. Nothing happens until time passes: run(), settle(), exec()
let it pass. Same topology, seed and inputs: same digest.

While a Cluster is open, Python's automatic garbage collection is off (the event loop collects at fixed steps): a socket that
dies in a cycle closes its connection, and must do so at the same event in every run.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubenet.cluster import coredns as _coredns  # registers the image
from kubenet.cluster.api.bootstrap import bootstrap, dns_service, put_service
from kubenet.cluster.api.rest import Api
from kubenet.cluster.api.views import ViewCache
from kubenet.cluster.balancer import Balancer
from kubenet.cluster.capture import Capture
from kubenet.cluster.controller import Controller
from kubenet.cluster.controllers import controllers
from kubenet.cluster.controllers.loadbalancer import POOL, LoadBalancerController
from kubenet.cluster.faults import Faults
from kubenet.cluster.flannel import FlannelController
from kubenet.cluster.ipam import NodeCidrs
from kubenet.cluster.kubelet import PodFeed
from kubenet.cluster.logs import LogSource
from kubenet.cluster.node import Node
from kubenet.cluster.pod_env import ServiceEnv
from kubenet.cluster.probe import Probe
from kubenet.cluster.replay import FrameReplay, Frames, find_device
from kubenet.cluster.resolve import address_of, find_container, running_container
from kubenet.cluster.scheduler import Scheduler
from kubenet.cluster.settle import settled, unsettled
from kubenet.cluster.store import EPOCH_S, Event, Store
from kubenet.errors import KubenetError, NotReachedError, StuckError
from kubenet.fabric.graph import Topology, from_manifest, three_nodes
from kubenet.sim.clock import FOREVER, EventLoop
from kubenet.units import MSEC, SEC, format_ns
from kubenet.userland.container import Container, ExecError, feed, feed_eof
from kubenet.userland.process import Process
from kubenet.userland.procfs import write_sysctl
from kubenet.wire.addr import ip4, ip4_text

Obj = dict[str, Any]

SEED = 7
SETTLE_STEP = 50 * MSEC  # virtual time between two looks at whether the cluster has settled
DNS_IMAGE = "coredns/coredns:v1.11.3"

assert _coredns.PORT == 53


def make_topology(manifest: Obj | None) -> Topology:
    """The plan of a Topology document; three nodes without one. ManifestError."""
    return from_manifest(manifest) if manifest else three_nodes()


@dataclass(frozen=True)
class Result:
    """What became of a command: exit code, standard output and error as text, and the virtual ns it took."""

    code: int
    out: str
    err: str
    took: int


class Cluster:
    """An emulated Kubernetes cluster. Context manager; close() gives garbage collection back."""

    def __init__(self, topology: Obj | Topology | None = None, seed: int | None = None, epoch: int = EPOCH_S,
                 allow_pod_code: bool = True) -> None:
        self.topology = topology if isinstance(topology, Topology) else make_topology(topology)
        if seed is not None:
            self.topology.seed = seed
        self.seed = self.topology.seed
        self.epoch = epoch
        self.loop = EventLoop()
        self.store = Store(self.loop, epoch, self.seed)
        self.store.on_write(self._ledger_write)
        self.views = ViewCache()
        self.api = Api(self.store, self.loop, epoch, self.seed, self.topology.service_cidr)
        self.nodes: dict[str, Node] = {}
        self.machines: dict[str, Container] = {}  # nodes and outside clients: where their own tools run
        self.controllers: list[Controller] = []
        self.captures: list[Capture] = []
        self.faults = Faults(self)
        self._gc_was_on = gc.isenabled()
        gc.disable()
        self._boot()
        self.allow_pod_code(allow_pod_code)

    def allow_pod_code(self, yes: bool) -> None:
        """May Python programs that pods bring along run? They live in this process: a private import world, not a sandbox."""
        for machine in self.fabric.machines.values():
            machine.host.extra["allow_pod_code"] = yes

    @classmethod
    def from_manifests(cls, *paths: str | Path, seed: int | None = None, topology: Obj | None = None,
                       allow_pod_code: bool = True) -> Cluster:
        """A cluster with these manifests applied and settled. A Topology among them describes the machines."""
        from kubenet.cluster.manifests import load

        found, docs = load(paths)
        cluster = cls(topology or found, seed, allow_pod_code=allow_pod_code)
        try:
            cluster.apply_documents(docs)
            cluster.settle()
        except BaseException:
            cluster.close()
            raise
        return cluster

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The cluster is not used any more."""
        if self._gc_was_on:
            gc.enable()

    # ---- boot

    def _boot(self) -> None:
        """Machines and wires, the API with what it always holds, then every agent. All at time zero."""
        topology = self.topology
        self.domain = str(topology.spec.get("clusterDomain", "cluster.local"))
        self.dns_ip = str(topology.spec.get("clusterDNS", "10.96.0.10"))
        self.fabric = topology.build(self.loop)
        bootstrap(self.api, str(topology.spec.get("kubernetesService", "10.96.0.1")), ip4_text(topology.nodes[0].ip))
        cidrs = NodeCidrs(topology.pod_cidr)
        for machine in self.fabric.nodes:
            spec = machine.spec
            if spec.pod_cidr:
                cidrs.pin(spec.name, spec.pod_cidr)
        for machine in self.fabric.nodes:
            spec = machine.spec
            node = Node(machine.host, machine.net, ip4_text(spec.ip), spec.labels, spec.spec)
            self.nodes[spec.name] = node
            node.start_network(spec.pod_cidr or cidrs.allocate(spec.name), spec.link.mtu, topology.cni_mode)
        for node in self.nodes.values():
            for other in self.nodes.values():
                if other is not node and node.cni is not None and node.flannel is None:
                    node.cni.add_host_gw_route(other.pod_cidr, ip4(other.ip))
        for machine in self.fabric.machines.values():
            machine.host.extra.update(epoch=self.epoch * SEC, store=self.store, cluster_domain=self.domain)
            for name, value in (machine.spec.spec.get("sysctls") or {}).items():
                write_sysctl(machine.net, name, str(value))
        self._start_agents()
        self._start_outside()
        self._start_dns()

    def _start_agents(self) -> None:
        topology = self.topology
        hosts = ["127.0.0.1\tlocalhost", *(f"{ip4_text(m.ip)}\t{m.name}" for m in topology.machines)]
        proxy = {"clusterCIDR": topology.pod_cidr, **topology.kube_proxy}
        settings = {
            "dnsIP": self.dns_ip, "domain": self.domain, "kubeProxy": proxy, "views": self.views,
            "serviceEnv": ServiceEnv(self.store), "podFeed": PodFeed(self.store),
            "nodeResolvConf": f"nameserver {ip4_text(topology.gateway)}\n", "nodeHosts": "\n".join(hosts) + "\n",
        }
        self._node_settings: Obj = settings
        for node in self.nodes.values():
            node.register(self.store)
        assert self.fabric.gateway is not None
        self.balancer = Balancer(self.loop, self.fabric.gateway, str(settings["nodeResolvConf"]), str(settings["nodeHosts"]),
                                 self._balancer_started)
        balancing = LoadBalancerController(self.store, self.balancer, str(topology.spec.get("loadBalancerCIDR", POOL)))
        self.controllers = [*controllers(self.store, topology.pod_cidr), balancing, Scheduler(self.store), settings["podFeed"]]  # type: ignore[list-item]
        if flannels := {node.name: node.flannel for node in self.nodes.values() if node.flannel is not None}:
            self.controllers.append(FlannelController(self.store, flannels))
        for controller in self.controllers:
            controller.start()
        for node in self.nodes.values():
            node.start_agents(self.store, self.loop, settings)
            assert node.container is not None and node.kubelet is not None
            self.machines[node.name] = node.container
            self.controllers.append(node.kubelet)

    def _balancer_started(self, container: Container) -> None:
        self.machines[container.name] = container

    def _start_outside(self) -> None:
        for client in self.topology.outside:
            machine = self.fabric.machines[client.name]
            container = Container(machine.host, machine.net, client.name, "node", hostname=client.name,
                                  resolv_conf=self._node_settings["nodeResolvConf"], hosts=self._node_settings["nodeHosts"])
            container.start()
            self.machines[client.name] = container

    def _start_dns(self) -> None:
        """kube-dns and one CoreDNS pod: on the second node, where there is one."""
        put_service(self.api, dns_service(self.dns_ip))
        names = list(self.nodes)
        spec: Obj = {"containers": [{"name": "coredns", "image": DNS_IMAGE, "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"}]}],
            "dnsPolicy": "Default", "nodeSelector": {"kubernetes.io/hostname": names[1] if len(names) > 1 else names[0]},
            "tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"},
                            {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}
        labels = {"k8s-app": "kube-dns"}
        self.api.apply({"apiVersion": "apps/v1", "kind": "Deployment",
                        "metadata": {"name": "coredns", "namespace": "kube-system", "labels": labels},
                        "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                                 "template": {"metadata": {"labels": labels}, "spec": spec}}}, "kubeadm")

    def _ledger_write(self, event: Event) -> None:
        meta = event.obj["metadata"]
        self.loop.ledger.add((self.loop.now, "store", event.type, event.obj["kind"], meta.get("namespace", ""), meta["name"], event.rv))

    # ---- state

    def digest(self) -> str:
        """The digest of everything that happened so far."""
        return self.loop.ledger.digest()

    def summary(self) -> Obj:
        """What `kubenet status` shows of the cluster."""
        pods = list(self.store.iter("Pod"))
        return {"nodes": list(self.nodes), "outside": [o.name for o in self.topology.outside], "pods": len(pods),
                "running": sum((p.get("status") or {}).get("phase") == "Running" for p in pods), "topology": self.topology.name}

    def names(self) -> dict[str, list[str]]:
        """Names for completion, by kind."""
        kinds = {"pods": "Pod", "services": "Service", "deployments": "Deployment"}
        out = {plural: sorted({o["metadata"]["name"] for o in self.store.iter(kind)}) for plural, kind in kinds.items()}
        out["nodes"] = list(self.machines)
        out["service_ports"] = [f"{s['metadata']['name']}:{port['port']}" for s in self.store.iter("Service")
                                for port in s["spec"].get("ports") or []]
        return out

    # ---- manifests

    def apply(self, *paths: str | Path) -> list[tuple[str, str]]:
        """Apply manifest files or directories: [("service/web", "created"), ...]. Raises ManifestError, KubenetError."""
        from kubenet.cluster.manifests import load

        _, docs = load(paths)
        return self.apply_documents(docs)

    def apply_documents(self, docs: Iterable[Any]) -> list[tuple[str, str]]:
        """Apply manifests already read, or objects given as dicts."""
        from kubenet.cluster.manifests import apply_documents

        return apply_documents(self.api, docs)

    # ---- time

    def run(self, ns: int) -> None:
        """Let `ns` of virtual time pass."""
        self.loop.run(until=self.loop.now + ns)

    def unsettled(self) -> list[str]:
        """What is still on its way to what was applied, one line each."""
        return unsettled(self)

    def settled(self) -> bool:
        """True when everything applied runs, or cannot and says so."""
        return settled(self)

    def settle(self, max_ns: int = 120 * SEC) -> None:
        """Let time pass until settled(). Raises NotReachedError after `max_ns`."""
        deadline = self.loop.now + max_ns
        while not self.settled():
            if self.loop.now >= deadline or self.loop.next_time() == FOREVER:
                raise NotReachedError(f"the cluster has not settled after {max_ns // SEC} virtual seconds",
                                      why="; ".join(self.unsettled()[:5]))
            self.loop.run(until=min(deadline, self.loop.now + SETTLE_STEP))

    def run_until(self, done: Callable[[], bool], max_ns: int = 60 * SEC) -> None:
        """Let time pass until done(). Raises NotReachedError."""
        if not self.loop.run_until(done, self.loop.now + max_ns):
            raise NotReachedError(f"not reached within {max_ns // SEC} virtual seconds")

    # ---- inside

    def container(self, target: str, namespace: str = "default", container: str = "") -> Container:
        """The running container that a name means."""
        return find_container(self, target, namespace, container)

    def start_exec(
        self, target: str, argv: list[str], namespace: str = "default", container: str = "", tty: bool = False,
        stdin_open: bool = False, on_output: Callable[[int, bytes], None] | None = None,
    ) -> ExecHandle:
        """Begin a command; time must pass for it to do anything. KubenetError with exit code 126 or 127 if it cannot start."""
        place = self.container(target, namespace, container)
        try:
            process = place.exec(argv, stdin=True if stdin_open else None, tty=tty, on_output=on_output)
        except ExecError as error:
            failure = KubenetError(str(error), try_=f"kubenet exec {target} -- ls /bin /usr/bin /usr/sbin")
            failure.exit_code = error.code
            raise failure from None
        return ExecHandle(process)

    def start_forward(self, target: str, port: int, namespace: str = "default",
                      on_output: Callable[[int, bytes], None] | None = None) -> ExecHandle:
        """Begin a connection from inside a pod's namespace to one of its ports; its bytes are the handle's input and output."""
        from kubenet.cluster.forward import Forward

        place = running_container(self, target.rpartition("/")[2], namespace)
        forward = Forward(target.rpartition("/")[2], port)
        return ExecHandle(place.run_native(forward.main, ["kubenet-forward", str(port)], stdin=True, on_output=on_output))

    def exec(self, target: str, argv: list[str] | str, stdin: bytes = b"", namespace: str = "default", container: str = "",
             timeout: int = 3600 * SEC, on_output: Callable[[int, bytes], None] | None = None) -> Result:
        """Run a command to its end; a string goes through sh. NotReachedError after `timeout` ns of virtual time."""
        words = ["sh", "-c", argv] if isinstance(argv, str) else argv
        out: list[tuple[int, bytes]] = []

        def collect(stream: int, data: bytes) -> None:
            out.append((stream, data))
            if on_output is not None:
                on_output(stream, data)

        began = self.loop.now
        handle = self.start_exec(target, words, namespace, container, stdin_open=bool(stdin), on_output=collect)
        if stdin:
            handle.feed_stdin(stdin)
            handle.close_stdin()
        handle.on_exit.append(lambda _: self.loop.stop())
        deadline = began + timeout
        while not handle.done:
            self.loop.run(until=deadline)
            if not handle.done and (self.loop.now >= deadline or self.loop.next_time() == FOREVER):
                raise self.stuck_error(handle)
        text = [b"".join(data for s, data in out if s == stream).decode(errors="replace") for stream in (1, 2)]
        return Result(handle.exit_code, text[0], text[1], self.loop.now - began)

    def stuck_error(self, handle: ExecHandle) -> StuckError:
        """Why a command does not end: who waits for what."""
        task = handle.process.task
        waits = task.blocked_on if task is not None else "nothing"
        return StuckError(f"{handle.process.argv[0]} has not ended at {format_ns(self.loop.now)}", why=f"it waits for: {waits}")

    def logs(self, target: str, namespace: str = "default", container: str = "", previous: bool = False, tail: int | None = None,
             timestamps: bool = False, since_ns: int | None = None) -> LogSource:
        """A container's log, to be polled."""
        return LogSource(self, target, namespace, container, previous, tail, timestamps, since_ns)

    # ---- looking

    def probe(self, data: Obj) -> Probe:
        """Begin a probe: a process that connects to DST:PORT and closes. `done` once time has passed."""
        namespace = data.get("namespace", "default")
        place = self.container(data["src"], namespace)
        known = address_of(self, data["dst"], namespace) if place in self.machines.values() else ""
        probe = Probe(data["src"], data["dst"], int(data["port"]), data.get("proto", "tcp"), known)
        probe.start(place)
        return probe

    def trace_probe(self, src: str, dst: str, namespace: str = "default", proto: str = "tcp") -> Probe:
        """Send a probe to "web:80" and let time pass until it has ended. kubenet.query.trace shows its packets."""
        name, _, port = dst.rpartition(":")
        probe = self.probe({"src": src, "dst": name, "port": int(port), "namespace": namespace, "proto": proto})
        self.run_until(lambda: probe.done)
        return probe

    def start_capture(self, target: str, dev: str = "", namespace: str = "default") -> Capture:
        """Capture packets at one device, or all devices, of a pod or machine."""
        capture = Capture(self, self.container(target, namespace), dev)
        self.captures.append(capture)
        return capture

    def replay_frames(self, target: str, dev: str, frames: Frames, namespace: str = "default", fix_checksums: bool = False) -> FrameReplay:
        """Frames begin to be received by a device of a pod or machine. `done` once time has passed."""
        replay = FrameReplay(find_device(self.container(target, namespace), dev), frames, fix_checksums)
        replay.start()
        return replay

    def topology_json(self) -> Obj:
        """The map with what runs where."""
        from kubenet.cluster.map import topology_json

        return topology_json(self)


class ExecHandle:
    """A command under way, as the engine and the library see it."""

    __slots__ = ("process",)

    def __init__(self, process: Process) -> None:
        self.process = process

    @property
    def done(self) -> bool:
        """True once it has ended."""
        return self.process.done

    @property
    def exit_code(self) -> int:
        """Its exit code; 128 + n for a signal."""
        return self.process.exit_code

    @property
    def on_exit(self) -> list[Callable[[Process], None]]:
        """Called when it ends."""
        return self.process.on_exit

    def feed_stdin(self, data: bytes) -> None:
        """More input."""
        feed(self.process, data)

    def close_stdin(self) -> None:
        """No more input."""
        feed_eof(self.process)

    def kill(self, signal: int) -> None:
        """Send it a signal."""
        if not self.process.done:
            self.process.kill(signal, outside=True)
