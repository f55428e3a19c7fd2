"""A cable or a veth pair to which faults are done and undone: what it was, what each of them adds, and what comes of it together.

    wire = Wire.of_link(machine.link)          or Wire.of_veth(pod's eth0, seed)
    wire.put(3, {"loss": 0.1, "latency": 50 * MSEC}, [DropMatching(flags=SYN)])
    wire.take(3)                               as it was, apart from other faults

Delays add up, of rates and MTUs the smallest counts, and a frame survives two losses only if it survives each. A veth pair is given a
link of its own while there are faults on it; end 0 is the pod's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubenet.fabric.link import SETTINGS, Link
from kubenet.kernel.dev.veth import Veth

CHANCES = ("loss", "reorder", "duplicate", "corrupt")
SMALLEST = ("rate", "mtu", "queue_packets")

Settings = dict[str, Any]


class Wire:
    """One of them. `link` is None for a veth pair without faults."""

    def __init__(self, name: str, link: Link | None, pair: tuple[Veth, Veth] | None = None, seed: int = 0) -> None:
        self.name = name
        self.link = link
        self.pair = pair
        self.seed = seed
        self.base: Settings = {key: getattr(link, key) for key in SETTINGS} if link is not None else {}
        self.changes: dict[int, tuple[Settings, Sequence[Any]]] = {}

    @classmethod
    def of_link(cls, link: Link) -> Wire:
        """A machine's cable."""
        return cls(link.name, link)

    @classmethod
    def of_veth(cls, inside: Veth, seed: int) -> Wire:
        """A pod's veth pair, by its end in the pod."""
        return cls(inside.ledger_name, None, (inside, inside.peer), seed)

    @property
    def exists(self) -> bool:
        """False once the pod's devices are gone."""
        return self.pair is None or self.pair[0].peer is not None

    def put(self, number: int, settings: Settings, rules: Sequence[Any] = ()) -> None:
        """Fault `number` adds these settings and rules."""
        if self.link is None:
            assert self.pair is not None
            inside, outside = self.pair
            self.link = Link(inside.net.loop, self.name, latency=0, seed=self.seed)
            self.base = {key: getattr(self.link, key) for key in SETTINGS}
            self.link.attach(0, inside)
            self.link.attach(1, outside)
        self.changes[number] = (settings, rules)
        for rule in rules:
            self.link.add_rule(rule)
        self._apply()

    def take(self, number: int) -> None:
        """Fault `number` is over. No error if there is none."""
        _, rules = self.changes.pop(number, ({}, ()))
        if self.link is None:
            return
        for rule in rules:
            self.link.remove_rule(rule)
        self._apply()
        if self.pair is not None and not self.changes:
            self.link = None
            for device in self.pair:
                device.set_link(None)

    def _apply(self) -> None:
        assert self.link is not None
        self.link.set(**together(self.base, [settings for settings, _ in self.changes.values()]))


def together(base: Settings, changes: Sequence[Settings]) -> Settings:
    """What a wire is like under all these changes."""
    out = dict(base)
    for change in changes:
        for key, value in change.items():
            if key in CHANCES:
                out[key] = 1 - (1 - out[key]) * (1 - value)
            elif key in SMALLEST:
                out[key] = min(out[key], value) if out[key] else value
            elif key == "up":
                out[key] = out[key] and value
            elif key == "reorder_hold":
                out[key] = value
            else:
                out[key] += value
    return out
