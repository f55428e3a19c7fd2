"""One scenario for the digest matrix, run by itself with `python scenario.py MODE`: prints the digest.

It has what a session has: manifests applied, DNS, a Service, connections to both endpoints, a refused one, a lookup of nothing, a
deleted pod, tools that look, and time that passes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kubenet.cluster.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
SEC = 1_000_000_000


def play(cluster: Cluster) -> str:
    """The scenario; its digest."""
    cluster.apply(ROOT / "manifests" / "shop")
    cluster.settle()
    for _ in range(4):
        assert cluster.exec("client", "curl -s http://web").code == 0
    assert cluster.exec("client", "curl -s -m 2 http://web:81").code != 0
    cluster.exec("client", ["dig", "+short", "nobody.default.svc.cluster.local"])
    cluster.exec("client", "ss -tan; cat /etc/resolv.conf; ip route")
    cluster.exec("node-1", ["conntrack", "-L"])
    first = next(p["metadata"]["name"] for p in cluster.store.iter("Pod", "default") if p["metadata"]["name"].startswith("web"))
    cluster.store.delete("Pod", ("default", first), grace=1)
    cluster.run(5 * SEC)
    cluster.settle()
    cluster.exec("client", "for i in 1 2 3; do curl -s http://web; done")
    cluster.run(70 * SEC)
    return cluster.digest()


class Lossless:
    """A tap that turns every frame into bytes, as a capture does."""

    def __init__(self) -> None:
        self.count = 0

    def capture(self, dev: Any, skb: Any, outgoing: bool) -> None:
        from kubenet.fabric.capture import skb_to_bytes

        self.count += len(skb_to_bytes(skb))


TUNNEL: dict[str, Any] = {"metadata": {"name": "tunnel"}, "spec": {"cniMode": "vxlan", "nodes": [{"name": "node-1"}, {"name": "node-2"}]}}


def build(mode: str, topology: dict[str, Any] | None = None) -> Cluster:
    """A cluster, watched or run in the way `mode` names; none of them may matter."""
    cluster = Cluster(topology)
    loop = cluster.loop
    if mode == "untraced":
        loop.tracer.rate = loop.tracer.left = 0
    elif mode == "all-traced":
        loop.tracer.arm_all = True
    elif mode == "captured":
        for machine in cluster.nodes:
            cluster.start_capture(machine, "any")
    elif mode == "watched":
        for kind in ("Pod", "Service", "EndpointSlice"):
            cluster.store.watch(kind)
        loop.tracer.subscribers.append(lambda trace, station: None)
    elif mode == "collected-often":
        loop.gc_steps = 500
        loop._next_gc = 500
    elif mode == "collected-never":
        loop.gc_steps = loop._next_gc = 1 << 60
    elif mode == "asked":
        real = loop.ledger.add

        def add(line: Any) -> None:
            real(line)
            if loop.step % 97 == 0:
                loop.ledger.digest()

        loop.ledger.add = add
    return cluster


def slices(cluster: Cluster) -> None:
    """Make every run() happen in slices of seven events, as a paced or polled engine does."""
    loop = cluster.loop
    real = type(loop).run

    class Sliced(type(loop)):  # type: ignore[misc]
        __slots__ = ()

        def run(self, until: int = 1 << 62, events: int = 1 << 62) -> int:
            left = events
            while left > 0:
                state = real(self, until, min(7, left))
                left -= 7
                if state != 2:  # BUDGET
                    return state
            return 2

    loop.__class__ = Sliced


MODES = ("plain", "untraced", "all-traced", "captured", "watched", "collected-often", "collected-never", "asked")

if __name__ == "__main__":
    print(play(build(sys.argv[1] if len(sys.argv) > 1 else "plain", TUNNEL if "tunnel" in sys.argv else None)))
