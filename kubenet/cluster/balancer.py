"""The lab's load balancer: the LAN's gateway, which then has a route to every load balancer address.

    balancer = Balancer(loop, machine, files)
    balancer.serve(("default", "web"), vip, [("node-1", "172.18.0.2"), ...], 31234)
    balancer.withdraw(("default", "web"))

Load balancer addresses (203.0.113.0/24 unless the Topology says otherwise) are on no wire: whoever is not a node sends what is for
them to its default gateway. The gateway passes it on, unchanged, to one node; there kube-proxy's rules for the address take over, and
answers go straight back to the client. Such a balancer is called passthrough, with direct server return; it is what a cloud's layer 4
balancer does (and ipMode VIP means). It keeps the client's address, so loadBalancerSourceRanges and externalTrafficPolicy Local work.

Which node: with policy Cluster any node that is Ready. With Local only a node that answers 200 on the Service's healthCheckNodePort,
asked every 8 s, with 1 s for the answer: one success makes it healthy, three failures in a row make it unhealthy (the intervals of
GCE's health checks for Kubernetes). With no node to go to, packets are dropped.

Of several nodes the address's hash chooses one, as MetalLB's layer-2 mode does: all connections go there until it fails, and when a
better-placed node comes back they go there, including those already open.
simplified: no spreading of flows over nodes, since routes here have one next hop.

Nothing of this exists until the first Service wants it: until then the gateway forwards nothing. From then on what it has no route
for is still dropped without a word (a blackhole route).

Sources: MetalLB speaker/layer2_controller.go ShouldAnnounce(); legacy-cloud-providers gce_healthchecks.go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from kubenet.cluster.probes import SUCCESS, Target, run_http
from kubenet.kernel.ipv4.fib import RTN_BLACKHOLE, fib_add, fib_del
from kubenet.sim.clock import EventLoop
from kubenet.sim.task import current
from kubenet.sim.wait import WaitQueue
from kubenet.units import SEC
from kubenet.userland.container import Container
from kubenet.userland.process import Process
from kubenet.userland.procfs import write_sysctl
from kubenet.wire.addr import ip4

if TYPE_CHECKING:
    from kubenet.fabric.graph import Machine

Key = tuple[str, str]

CHECK_INTERVAL, CHECK_TIMEOUT = 8 * SEC, 1 * SEC
UNHEALTHY_THRESHOLD = 3
SYSCTLS = {"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.send_redirects": "0", "net.ipv4.conf.eth0.send_redirects": "0"}


class NodeCheck:
    """One node as one Service's balancer sees it. `healthy` is None until the first decision."""

    def __init__(self, name: str, ip: str) -> None:
        self.name = name
        self.ip = ip
        self.healthy: bool | None = None
        self.failures = 0
        self.wanted = True

    def note(self, ok: bool) -> None:
        """One check's result."""
        self.failures = 0 if ok else self.failures + 1
        if ok:
            self.healthy = True
        elif self.failures >= UNHEALTHY_THRESHOLD:
            self.healthy = False


class Announced:
    """One Service's address: its nodes, and the node that has the route now ("" for none)."""

    def __init__(self, vip: str, check_port: int) -> None:
        self.vip = vip
        self.check_port = check_port
        self.nodes: dict[str, NodeCheck] = {}
        self.chosen = ""

    def rank(self, name: str) -> bytes:
        """Nodes in an order that differs from address to address. MetalLB: sha256(node + "#" + ip)."""
        return hashlib.sha256(f"{name}#{self.vip}".encode()).digest()

    def best(self) -> str:
        """The node that should have the traffic; "" if none can."""
        able = [node.name for node in self.nodes.values() if node.healthy or not self.check_port]
        return min(able, key=self.rank, default="")

    @property
    def pending(self) -> bool:
        """No node can have the traffic, and some node's checks are not decided."""
        return not self.chosen and any(node.healthy is None for node in self.nodes.values()) and bool(self.check_port)


class Balancer:
    """The gateway's second job. `on_start(container)` hears of the container in which its tools run."""

    def __init__(self, loop: EventLoop, machine: Machine, resolv_conf: str, hosts: str,
                 on_start: Callable[[Container], None] | None = None) -> None:
        self.loop = loop
        self.machine = machine
        self.resolv_conf = resolv_conf
        self.hosts = hosts
        self.on_start = on_start
        self.announced: dict[Key, Announced] = {}
        self.container: Container | None = None
        self.agent: Process | None = None
        self.changed = WaitQueue(loop, "balancer")

    def serve(self, key: Key, vip: str, nodes: list[tuple[str, str]], check_port: int) -> None:
        """The address leads to one of these nodes from now on; check_port 0: no health checks."""
        self._start()
        entry = self.announced.get(key)
        if entry is None or (entry.vip, entry.check_port) != (vip, check_port):
            self.withdraw(key)
            entry = self.announced[key] = Announced(vip, check_port)
        for name, check in list(entry.nodes.items()):
            if (name, check.ip) not in nodes:
                del entry.nodes[name]
                check.wanted = False
        self.changed.wake()
        for name, ip in nodes:
            if name not in entry.nodes:
                check = entry.nodes[name] = NodeCheck(name, ip)
                if check_port:
                    assert self.agent is not None
                    self.agent.thread(self._checks, self.agent, entry, check, name=f"{self.agent.label}/{'/'.join(key)}/{name}")
        self._route(entry)

    def withdraw(self, key: Key) -> None:
        """The address leads nowhere."""
        entry = self.announced.pop(key, None)
        if entry is None:
            return
        for check in entry.nodes.values():
            check.wanted = False
        entry.nodes.clear()
        self.changed.wake()
        self._route(entry)

    def pending(self) -> list[str]:
        """Services whose health checks have not found a node yet, and may."""
        return [f"service/{name}: no node has passed the load balancer's health check yet"
                for (_, name), entry in self.announced.items() if entry.pending]

    # ---- the machine

    def _start(self) -> None:
        if self.container is not None:
            return
        net = self.machine.net
        for name, value in SYSCTLS.items():
            write_sysctl(net, name, value)
        fib_add(net, 0, 0, type=RTN_BLACKHOLE)
        self.container = Container(self.machine.host, net, self.machine.name, "node", hostname=self.machine.name,
                                   resolv_conf=self.resolv_conf, hosts=self.hosts)
        self.container.start()
        self.agent = self.container.run_native(_wait, ["load-balancer"])
        if self.on_start is not None:
            self.on_start(self.container)

    def _route(self, entry: Announced) -> None:
        best = entry.best()
        if best == entry.chosen:
            return
        net, vip = self.machine.net, ip4(entry.vip)
        if entry.chosen:
            fib_del(net, vip, 32)
        if best:
            fib_add(net, vip, 32, gateway=ip4(entry.nodes[best].ip))
        entry.chosen = best

    def _checks(self, agent: Process, entry: Announced, check: NodeCheck) -> None:
        """A thread of the balancer's: one node's health checks for one Service."""
        try:
            assert self.container is not None
            target = Target(self.container, {}, check.ip)
            while check.wanted:
                began = self.loop.now
                outcome, _ = run_http(agent, target, {"port": entry.check_port, "path": "/"}, CHECK_TIMEOUT)
                if check.wanted:
                    check.note(outcome == SUCCESS)
                    self._route(entry)
                agent.sys.wait_on(self.changed, lambda: not check.wanted, max(began + CHECK_INTERVAL - self.loop.now, 0))
        finally:
            task = current()
            if task in agent.threads:
                agent.threads.remove(task)


def _wait(proc: Process, argv: list[str]) -> int:
    """The balancer's main program: its threads do the work."""
    while True:
        proc.sys.pause()
