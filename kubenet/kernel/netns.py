"""A network namespace: one stack, a pod's or the node's own.

A record of tables. The modules that own a table fill it in when they initialise the namespace (kernel/stack.py does that in
order) and are the only ones that change it. Every table is per address family, because an int does not say its family:
::1 is 1, and so is 0.0.0.1.

Source: Linux struct net (include/net/net_namespace.h).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubenet.kernel.host import Host
from kubenet.kernel.netfilter.core import Hooks
from kubenet.kernel.skbuff import SkBuff
from kubenet.kernel.snmp import Snmp
from kubenet.kernel.sysctl import Sysctls
from kubenet.sim.clock import EventLoop
from kubenet.sim.rng import Stream

AF_INET, AF_INET6 = 2, 10


class NetNamespace:
    """Devices, routes, neighbours, hooks, connections and sockets of one stack."""

    __slots__ = (
        "host", "name", "loop", "devs", "dev_by_index", "lo", "sysctl", "snmp", "nf", "ct", "nat", "xt", "fib", "rules",
        "neigh", "dst_cache", "rt_genid", "local_addrs", "ptype", "inet_protos", "socks", "udp", "raw", "unix", "frags",
        "pmtu", "streams", "ip_ident", "tcp", "extra", "watchers", "icmp",
    )

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name
        self.loop: EventLoop = host.loop
        self.devs: dict[str, Any] = {}  # name -> NetDevice, in order of creation
        self.dev_by_index: dict[int, Any] = {}
        self.lo: Any = None
        self.sysctl = Sysctls()
        self.snmp = Snmp()
        self.nf = Hooks()
        self.ct: Any = None  # ConntrackTable, once something needs tracking (nf_ct_netns_get)
        self.nat: Any = None  # NatState, once a nat chain is registered
        self.xt: dict[int, dict[str, Any]] = {}  # family -> table name -> xtables Table, once touched
        self.fib: dict[int, Any] = {}  # family -> FIB tables
        self.rules: dict[int, Any] = {}  # family -> policy routing rules
        self.neigh: dict[int, Any] = {}  # family -> NeighTable
        self.dst_cache: dict[Any, Any] = {}
        self.rt_genid: int = 0  # moves with every change of routes, addresses, rp_filter
        self.local_addrs: dict[int, dict[int, Any]] = {}  # family -> address -> device
        self.ptype: dict[int, Callable[[SkBuff], None]] = {}  # EtherType -> handler
        self.inet_protos: dict[int, tuple[Callable[[SkBuff], None], Callable[[SkBuff, int], None] | None]] = {}
        self.socks: Any = None  # InetHashtables (TCP)
        self.udp: Any = None
        self.raw: Any = None
        self.unix: Any = None
        self.frags: Any = None
        self.pmtu: dict[int, Any] = {}
        self.icmp: Any = None
        self.tcp: Any = None  # per-namespace TCP state (metrics cache, orphans, ...)
        self.ip_ident: dict[int, int] = {}
        self.streams: dict[str, Stream] = {}
        self.extra: dict[str, Any] = {}
        self.watchers: list[Callable[[str, Any], None]] = []  # conntrack -E, ip monitor: told, never asked
        host.namespaces[name] = self

    def random(self, purpose: str) -> Stream:
        """This namespace's random sequence for one purpose, made at the first draw."""
        found = self.streams.get(purpose)
        if found is None:
            found = self.streams[purpose] = self.host.stream(self.name, purpose)
        return found

    def __repr__(self) -> str:
        return f"<netns {self.host.name}/{self.name}>"
