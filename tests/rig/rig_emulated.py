"""A case in the emulated kernel: the same topology from kernel pieces, the same Agent inside emulated processes.

    outcome = run_emulated(case)

Every namespace has a container with a node's tools and one process, a native program that waits for lines of the script.
Frames are turned into bytes by a tap, so that they go through the same reader as real ones.
"""

from __future__ import annotations

import shlex
from typing import Any

import rig_normal as normal
from rig_agent import Agent, Frame
from rig_real import normalised
from rig_rules import rule_steps
from rig_topology import TOPOLOGIES, Case, mac

from kubenet.fabric.capture import skb_to_bytes
from kubenet.kernel.dev.bridge import Bridge
from kubenet.kernel.dev.device import NetDevice, add_tap, dev_change_flags, dev_set_addr
from kubenet.kernel.dev.veth import create_veth_pair
from kubenet.kernel.host import Host
from kubenet.kernel.ipv4.br_netfilter import br_netfilter_init
from kubenet.kernel.ipv4.devinet import inet_addr_add
from kubenet.kernel.ipv4.fib import fib_add
from kubenet.kernel.netfilter.xtables.command import iptables_command
from kubenet.kernel.netfilter.xtables.restore import iptables_restore_command
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import SkBuff
from kubenet.kernel.stack import new_namespace
from kubenet.sim.clock import EventLoop
from kubenet.sim.wait import WaitQueue
from kubenet.units import MSEC, SEC
from kubenet.userland.container import Container
from kubenet.userland.process import Process
from kubenet.userland.procfs import write_sysctl
from kubenet.userland.shims import socket_
from kubenet.wire.addr import ip4, parse_cidr

AF_INET = 2


class RigSocket(socket_.socket):
    """_socket.socket with the accept() that socket.py adds."""

    __slots__ = ()

    def accept(self) -> tuple[RigSocket, Any]:
        fd, peer = self._accept()
        return RigSocket(self.family, self.type, self.proto, fd), peer


class SocketModule:
    """What the agent uses of the socket module."""

    def __init__(self) -> None:
        self.__dict__.update(socket_.exports())
        self.socket = RigSocket


class Tap:
    """Frames as bytes, with the virtual time."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.frames: list[Frame] = []

    def capture(self, dev: NetDevice, skb: SkBuff, outgoing: bool) -> None:
        self.frames.append((self.loop.now / SEC, dev.name, outgoing, skb_to_bytes(skb)))


class Station:
    """One namespace: its container, its agent, its capture."""

    def __init__(self, world: EmulatedWorld, net: NetNamespace) -> None:
        self.net = net
        self.tap = Tap(world.loop)
        self.container = Container(world.host, net, net.name, "node")
        self.container.start()
        self.inbox = WaitQueue(world.loop, "script")
        self.request: tuple[str, list[str]] | None = None
        self.answer: str | None = None
        self.process = self.container.run_native(self._program, ["agent"])

    def _program(self, proc: Process, argv: list[str]) -> int:
        def poll(sk: Any) -> int:
            ready = proc.sys.poll([(sk.fileno(), 0x2005)], 0)
            return ready[0][1] if ready else 0

        proc.handlers[13] = "ignore"  # SIGPIPE, as Python does
        agent = Agent(SocketModule(), lambda: self.tap.frames, poll)
        while True:
            proc.sys.wait_on(self.inbox, lambda: self.request is not None)
            assert self.request is not None
            op, args = self.request
            self.request = None
            self.answer = agent.do(op, args)


class EmulatedWorld:
    """The namespaces of one case on an event loop of their own."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.topo = TOPOLOGIES[case.topology]
        self.loop = EventLoop()
        self.host = Host(self.loop, "rig", 7)
        new_namespace(self.host, "init")
        self.nets = {space: new_namespace(self.host, space) for space in self.topo.spaces}
        self._build()
        self.stations = {space: Station(self, net) for space, net in self.nets.items() if space != "lan"}
        for space, station in self.stations.items():
            for dev in self.nets[space].devs.values():
                add_tap(dev, station.tap)
        self.run(20 * MSEC)

    def run(self, ns: int) -> None:
        self.loop.run(self.loop.now + ns)

    def _build(self) -> None:
        topo, nets = self.topo, self.nets
        for space in topo.br_netfilter:
            br_netfilter_init(nets[space])
        for space, name, cidr in topo.bridges:
            bridge = Bridge(nets[space], name)
            dev_change_flags(bridge, True)
            if cidr:
                inet_addr_add(bridge, *parse_cidr(cidr))
        for number, cable in enumerate(topo.cables):
            ends = create_veth_pair(nets[cable.ns_a], cable.dev_a, nets[cable.ns_b], cable.dev_b)
            for index, end in enumerate(ends):
                dev_set_addr(end, mac(number, index))
                end.features = 0
                end.mtu = cable.mtu
            if cable.bridge_b:
                owner = nets[cable.ns_b].devs[cable.bridge_b]
                assert isinstance(owner, Bridge)
                owner.add_port(ends[1], hairpin=cable.bridge_b == "cni0")
            for end, cidr in zip(ends, (cable.cidr_a, cable.cidr_b), strict=True):
                if cidr:
                    inet_addr_add(end, *parse_cidr(cidr))
                dev_change_flags(end, True)
        for space, prefix, via in topo.routes:
            fib_add(nets[space], *parse_cidr(prefix), gateway=ip4(via))
        for space, key, value in (*topo.sysctls, *self.case.sysctls):
            write_sysctl(nets[space], key, value)
        for space, kind in self.case.rules:
            for what, text in rule_steps(space, kind):
                if what == "cmd":
                    code, _, error = iptables_command(nets[space], AF_INET, shlex.split(text))
                    assert code == 0 or " -N " in f" {text}", error
                else:
                    code, _, error = iptables_restore_command(nets[space], AF_INET, ["--noflush", "--counters"], text)
                    assert code == 0, error

    def tool(self, space: str, argv: list[str], stdin: bytes = b"") -> Process:
        """Run a tool to its end."""
        proc = self.stations[space].container.exec(argv, stdin)
        assert self.loop.run_until(lambda: proc.done, self.loop.now + 10 * SEC), argv
        return proc

    def run_step(self, host: str, op: str, args: list[str]) -> str:
        """What a line of the script came to."""
        if op == "ct":
            return self.tool(host, ["conntrack", "-L"]).stdout_bytes().decode()
        if op == "ss":
            return self.tool(host, ["ss", "-Htano"]).stdout_bytes().decode()
        if op in ("ip", "sysctl", "iptables", "conntrack"):
            done = self.tool(host, [op, *(["-q"] if op == "sysctl" else []), *args])
            return "ok" if done.exit_code == 0 else f"{done.exit_code} {done.stderr_bytes().decode().strip().splitlines()[-1]}"
        station = self.stations[host]
        station.answer = None
        station.request = (op, args)
        station.inbox.wake()
        assert self.loop.run_until(lambda: station.answer is not None, self.loop.now + 1000 * SEC), (
            f"{host}: {op} {args} {station.process.stderr_bytes().decode()}")
        assert station.answer is not None
        return station.answer

    def collect(self, host: str) -> dict[str, str]:
        """Raw texts of a namespace's state."""
        texts = {}
        for key, argv in (("ss", ["ss", "-Htuano"]), ("ct", ["conntrack", "-L"]), ("rules", ["iptables-save", "-c"])):
            texts[key] = self.tool(host, argv).stdout_bytes().decode()
        return texts


def run_emulated(case: Case, begins: list[float]) -> dict[str, Any]:
    """Run the case and return what happened, normalised. `begins`: at how many ms each step begins, and the end: the
    real run's times, since a real call, and more so a real tool, takes a while."""
    ports = normal.Ports(case.script)
    world = EmulatedWorld(case)
    before = {space: dict(station.net.snmp) for space, station in world.stations.items()}
    start = world.loop.now
    results: list[list[str]] = []
    for (host, op, args), at in zip(case.steps(), begins[:-1], strict=True):
        world.loop.run(max(world.loop.now, start + int(at * MSEC)))
        if op != "wait":
            results.append([f"{host}: {op} {' '.join(args)}", world.run_step(host, op, args)])
    world.loop.run(max(world.loop.now, start + int(begins[-1] * MSEC)))
    after = {space: dict(station.net.snmp) for space, station in world.stations.items()}
    raw = {space: [f for f in station.tap.frames if f[0] >= start / SEC] for space, station in world.stations.items()}
    texts = {space: world.collect(space) for space in world.stations}
    return normalised(case, ports, results, raw, dict.fromkeys(raw, start / SEC), before, after, texts)
