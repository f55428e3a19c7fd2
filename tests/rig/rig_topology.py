"""The places of the cases, as data: namespaces, cables, bridges, addresses, routes, sysctls. Both worlds are built from it.

    pair      a 10.1.0.2 -- b 10.1.0.1
    router    a 10.1.0.2 -- r 10.1.0.1, 10.2.0.1 -- b 10.2.0.2
    cluster   two nodes, three pods and an outside client, as in the profile's cast:

        c1 10.48.1.5  w1 10.48.1.6         w2 10.48.2.7
              \\        /                       |
          cni0 10.48.1.1 [n1] 172.18.0.2   cni0 10.48.2.1 [n2] 172.18.0.3     out 172.18.0.100
                               \\______________ lan _________/__________________/

MAC addresses are numbered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatch


@dataclass(frozen=True)
class Cable:
    """A veth pair. A cidr or a bridge ("" for neither) at each end."""

    ns_a: str
    dev_a: str
    cidr_a: str
    ns_b: str
    dev_b: str
    cidr_b: str = ""
    bridge_b: str = ""
    mtu: int = 1500


@dataclass(frozen=True)
class Topology:
    """Everything that is there before a case's own settings."""

    spaces: tuple[str, ...]
    cables: tuple[Cable, ...]
    bridges: tuple[tuple[str, str, str], ...] = ()  # namespace, name, cidr
    routes: tuple[tuple[str, str, str], ...] = ()  # namespace, prefix, via
    sysctls: tuple[tuple[str, str, str], ...] = ()  # namespace, name, value
    br_netfilter: tuple[str, ...] = ()  # where bridge-nf-call-iptables exists and is 1
    taps: tuple[str, ...] = ("*/eth*",)

    def watches(self, space: str, device: str) -> bool:
        """True if the frames of this device are compared."""
        return any(fnmatch(f"{space}/{device}", pattern) for pattern in self.taps)


PAIR = Topology(("a", "b"), (Cable("a", "eth0", "10.1.0.2/24", "b", "eth0", "10.1.0.1/24"),), taps=("a/eth0", "a/lo"))

ROUTER = Topology(
    ("a", "r", "b"),
    (Cable("a", "eth0", "10.1.0.2/24", "r", "eth0", "10.1.0.1/24"),
     Cable("b", "eth0", "10.2.0.2/24", "r", "eth1", "10.2.0.1/24")),
    routes=(("a", "0.0.0.0/0", "10.1.0.1"), ("b", "0.0.0.0/0", "10.2.0.1")),
    sysctls=(("r", "net.ipv4.ip_forward", "1"),),
    taps=("a/eth0", "b/eth0"),
)

NODE_SYSCTLS = (
    ("net.ipv4.ip_forward", "1"), ("net.ipv4.conf.all.route_localnet", "1"),
    ("net.netfilter.nf_conntrack_tcp_timeout_established", "86400"),
    ("net.netfilter.nf_conntrack_tcp_timeout_close_wait", "3600"),
)

CLUSTER = Topology(
    ("lan", "n1", "n2", "c1", "w1", "w2", "out"),
    (Cable("n1", "eth0", "172.18.0.2/16", "lan", "p1", bridge_b="br0"),
     Cable("n2", "eth0", "172.18.0.3/16", "lan", "p2", bridge_b="br0"),
     Cable("out", "eth0", "172.18.0.100/16", "lan", "p3", bridge_b="br0"),
     Cable("c1", "eth0", "10.48.1.5/24", "n1", "vc1", bridge_b="cni0"),
     Cable("w1", "eth0", "10.48.1.6/24", "n1", "vw1", bridge_b="cni0"),
     Cable("w2", "eth0", "10.48.2.7/24", "n2", "vw2", bridge_b="cni0")),
    bridges=(("lan", "br0", ""), ("n1", "cni0", "10.48.1.1/24"), ("n2", "cni0", "10.48.2.1/24")),
    routes=(("n1", "10.48.2.0/24", "172.18.0.3"), ("n2", "10.48.1.0/24", "172.18.0.2"), ("n1", "0.0.0.0/0", "172.18.0.1"),
            ("n2", "0.0.0.0/0", "172.18.0.1"), ("c1", "0.0.0.0/0", "10.48.1.1"), ("w1", "0.0.0.0/0", "10.48.1.1"),
            ("w2", "0.0.0.0/0", "10.48.2.1")),
    sysctls=tuple((node, name, value) for node in ("n1", "n2") for name, value in NODE_SYSCTLS),
    br_netfilter=("n1", "n2"),
    taps=("*/eth0", "n*/cni0"),
)

TOPOLOGIES = {"pair": PAIR, "router": ROUTER, "cluster": CLUSTER}


def mac(cable: int, end: int) -> int:
    """The MAC address of a cable's end (0 or 1)."""
    return 0x02_00_00_00_00_00 | (cable + 1) << 8 | end + 1


@dataclass(frozen=True)
class Case:
    """One row of the table. `script`: lines "HOST: OP args" or "wait 0.5"; `rules`: iptables per namespace."""

    name: str
    topology: str
    script: str
    sysctls: tuple[tuple[str, str, str], ...] = ()
    rules: tuple[tuple[str, str], ...] = ()  # namespace, kind of rule set (rig_rules.py) or "+ARGS" for iptables ARGS
    gap: float = 0.005
    doc: str = ""
    tags: tuple[str, ...] = field(default=())

    def steps(self) -> list[tuple[str, str, list[str]]]:
        """(host or "", operation, arguments) of each line."""
        found = []
        for line in self.script.strip().splitlines():
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            if line.startswith("wait "):
                found.append(("", "wait", [line.split()[1]]))
            else:
                host, _, rest = line.partition(": ")
                op, *args = rest.split()
                found.append((host.strip(), op, args))
        return found

    def hosts(self) -> list[str]:
        """The namespaces where something is done."""
        return list(dict.fromkeys(host for host, _, _ in self.steps() if host))
