"""A learning Ethernet switch between machines: the LAN the nodes are on.

Each port has a cable. The switch looks at a frame when it is sent, not in an event of its own: it knows the time the
frame will arrive and passes it to the next cable with that time, so a frame from card to card over two cables is one
event. Only where the outgoing cable has a queue or dice (not Link.plain) does the frame wait for its turn in an event
at the switch, because there the order of arrival matters. MAC addresses are forgotten after 300 s; unknown ones and
groups go to every port.
"""

from __future__ import annotations

from typing import Any

from kubenet.fabric.link import Link, LinkEnd
from kubenet.kernel.skbuff import DropReason, SkBuff, drop
from kubenet.sim.clock import EventLoop
from kubenet.units import SEC

AGEING_TIME = 300 * SEC


class SwitchPort:
    """One port: the device at a cable's end."""

    __slots__ = ("switch", "number", "link", "end")

    def __init__(self, switch: Switch, number: int) -> None:
        self.switch = switch
        self.number = number
        self.link: Any = None
        self.end: Any = None

    def set_link(self, link: Link) -> None:
        """The cable is plugged in or its settings changed."""
        self.link = link
        self.end = link.ends[0] if link.ends[0].device is self else link.ends[1]

    def arrive(self, skb: SkBuff, at: int) -> None:
        """The frame is here at time `at`: learn its source, and pass it on."""
        switch = self.switch
        eth = skb.eth
        assert eth is not None
        switch.fdb[eth.src] = (self, at)
        dst = eth.dst
        found = switch.fdb.get(dst)
        if found is not None and at - found[1] <= AGEING_TIME:
            port = found[0]
            if port is self:
                return drop(skb, DropReason.BRIDGE_DEAD_END)
            return port.emit(skb, at)
        return switch.flood(skb, at, self)

    def emit(self, skb: SkBuff, at: int) -> None:
        """The frame leaves through this port at time `at`."""
        link: Link = self.link
        if link.plain:
            link.relay(skb, at, self.end)
        else:
            self.switch.loop.call_at(at, _emit_event, (link, skb, self.end))


def _emit_event(job: tuple[Link, SkBuff, LinkEnd]) -> None:
    """The switch's event for cables with a queue or dice."""
    link, skb, end = job
    link.relay(skb, link.loop.now, end)


class Switch:
    """fdb: MAC -> (port, time of the last frame from it)."""

    __slots__ = ("loop", "name", "ports", "fdb")

    def __init__(self, loop: EventLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.ports: list[SwitchPort] = []
        self.fdb: dict[int, tuple[SwitchPort, int]] = {}

    def add_port(self) -> SwitchPort:
        """A new port, without cable."""
        port = SwitchPort(self, len(self.ports) + 1)
        self.ports.append(port)
        return port

    def flood(self, skb: SkBuff, at: int, source: SwitchPort) -> None:
        """A copy leaves through every other port that has a cable which is up."""
        targets = [port for port in self.ports if port is not source and port.link is not None and port.link.up]
        if not targets:
            return drop(skb, DropReason.BRIDGE_NO_PORT)
        last = targets.pop()
        for port in targets:
            port.emit(skb.clone(), at)
        return last.emit(skb, at)

    def macs(self) -> list[tuple[int, int]]:
        """(MAC, port number) of what is known now."""
        return [(mac, port.number) for mac, (port, at) in self.fdb.items() if self.loop.now - at <= AGEING_TIME]
