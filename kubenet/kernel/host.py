"""One machine: a node, a router, an outside client. What Linux keeps per kernel, shared by its namespaces.

Identity never comes from a counter that laziness could shift: MAC addresses, secrets and random streams are functions of
(seed, host, name of the thing). Two runs that create namespaces in another order have the same addresses and dice.

Sources: Linux init_net and the __read_mostly globals of net/: nf_conntrack_max, tcp_memory_allocated, secure_seq.c's net_secret,
softnet_data (the backlog).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubenet.sim.clock import EventLoop
from kubenet.sim.rng import Stream, keyed, stream

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

CPUS = 8
MEMORY = 24 << 30


class Host:
    """One kernel and what all its namespaces share."""

    def __init__(self, loop: EventLoop, name: str, seed: int = 7) -> None:
        self.loop = loop
        self.name = name
        self.seed = seed
        self.cpus: int = CPUS
        self.memory: int = MEMORY
        self.kernel_release: str = "6.18.0-kubenet"
        self.namespaces: dict[str, NetNamespace] = {}
        self.nf_conntrack_max: int = 262144
        self.nf_conntrack_buckets: int = 262144
        self.neigh_gc_thresh: tuple[int, int, int] = (128, 512, 1024)
        self.neigh_count: int = 0
        self.tcp_orphans: int = 0
        self.tcp_tw_count: int = 0
        self.ids: dict[str, int] = {}
        self.dmesg: list[tuple[int, str]] = []
        self.alive: bool = True  # False: frozen or powered off; its devices neither send nor receive
        self.sysctl_other: dict[str, str] = {}  # vm.*, kernel.*: remembered and printed, without effect
        self.extra: dict[str, Any] = {}

    def secret(self, purpose: str) -> int:
        """A 64-bit boot-time secret for ISNs, ports, timestamps, cookies."""
        return keyed(self.seed, self.name, "secret", purpose)

    def stream(self, *names: object) -> Stream:
        """A random sequence for one purpose on this machine."""
        return stream(self.seed, self.name, *names)

    def mac(self, netns: str, device: str) -> int:
        """A locally administered unicast MAC address that belongs to this device for ever."""
        return keyed(self.seed, self.name, "mac", netns, device) & 0xFCFFFFFFFFFF | 0x020000000000

    def printk(self, text: str) -> None:
        """A line in the kernel log. Bounded, as the ring buffer is."""
        self.dmesg.append((self.loop.now, text))
        if len(self.dmesg) > 5000:
            del self.dmesg[:1000]
