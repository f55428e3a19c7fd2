"""A small world for userland's tests: one node with a bridge, two pods on it, and containers in all three."""

from __future__ import annotations

from dataclasses import dataclass

from kubenet.kernel.dev.bridge import Bridge
from kubenet.kernel.dev.device import dev_change_flags, register_netdevice
from kubenet.kernel.dev.veth import create_veth_pair
from kubenet.kernel.host import Host
from kubenet.kernel.ipv4.devinet import inet_addr_add
from kubenet.kernel.ipv4.fib import fib_add
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.stack import new_namespace
from kubenet.sim.clock import EventLoop
from kubenet.units import SEC
from kubenet.userland.container import Container, feed, feed_eof
from kubenet.userland.process import Process
from kubenet.wire.addr import ip4


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


class Lab:
    """node-1 with cni0 10.48.1.1/24, pods client 10.48.1.5 and web 10.48.1.6."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self.host = Host(self.loop, "node-1")
        self.node_net = new_namespace(self.host, "node-1")
        self.bridge = Bridge(self.node_net, "cni0")
        if "cni0" not in self.node_net.devs:
            register_netdevice(self.node_net, self.bridge)
        dev_change_flags(self.bridge, True)
        inet_addr_add(self.bridge, ip4("10.48.1.1"), 24)
        self.containers: dict[str, Container] = {}
        self.node = self.container("node-1", "node", self.node_net)
        self.node.start()

    def pod_net(self, name: str, address: str) -> NetNamespace:
        """A pod's namespace on the bridge."""
        net = new_namespace(self.host, f"default/{name}")
        eth0, veth = create_veth_pair(net, "eth0", self.node_net, f"veth-{name}")
        self.bridge.add_port(veth, hairpin=True)
        dev_change_flags(veth, True)
        dev_change_flags(eth0, True)
        inet_addr_add(eth0, ip4(address), 24)
        fib_add(net, 0, 0, gateway=ip4("10.48.1.1"))
        return net

    def container(self, name: str, image: str, net: NetNamespace, **options: object) -> Container:
        """A container, not started."""
        made = Container(self.host, net, name, image, **options)  # type: ignore[arg-type]
        self.containers[name] = made
        return made

    def pod(self, name: str, address: str, image: str = "netshoot", **options: object) -> Container:
        """A running pod."""
        options.setdefault("command", ["sleep", "infinity"] if image == "netshoot" else None)
        made = self.container(name, image, self.pod_net(name, address), **options)
        made.start()
        self.loop.run(self.loop.now + SEC)
        return made

    def start(self, container: Container, command: str | list[str], **options: object) -> Process:
        """A command that goes on."""
        argv = ["sh", "-c", command] if isinstance(command, str) else command
        return container.exec(argv, **options)  # type: ignore[arg-type]

    def run(self, container: Container, command: str | list[str], limit: int = 300 * SEC, **options: object) -> Result:
        """A command to its end."""
        proc = self.start(container, command, **options)
        assert self.loop.run_until(lambda: proc.done, self.loop.now + limit), f"{command}: {proc.task}"
        return Result(proc.exit_code, proc.stdout_bytes().decode(), proc.stderr_bytes().decode())

    def python(self, container: Container, source: str, **options: object) -> Result:
        """A Python program to its end."""
        options.setdefault("limit", 7200 * SEC)
        return self.run(container, ["python3", "-c", source], **options)  # type: ignore[arg-type]

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.loop.run(self.loop.now + int(seconds * SEC))


__all__ = ["Lab", "Result", "feed", "feed_eof"]
