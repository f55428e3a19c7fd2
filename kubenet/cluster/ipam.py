"""Who gets which address: pod CIDRs for nodes, pod addresses on a node, cluster IPs and node ports for Services.

    NodeCidrs            10.48.0.0/16 cut into /24s; node-k has 10.48.k.0/24, as the node IPAM controller would hand out
    PodIps               one node's host-local range: .1 is the bridge, pods from .2 upwards, round robin
    ServiceAllocator     cluster IPs and node ports, with the two bands of the API server

The bands (KEP-3070, KEP-3668): the first min(max(16, size/16), 256) addresses, and the first min(max(16, size/32), 128)
ports, are kept for those that ask by number; automatic allocation draws from the rest and comes back to the low band
only when that is full. The real allocator draws at random; so do we, from the seed and the Service's own name, so that
a Service gets the same address whatever was created before it, unless two collide.

Addresses are ints; texts at the edge. Nothing here knows packets or the store.
"""

from __future__ import annotations

from collections.abc import Callable

from kubenet.wire.addr import ip4, ip4_text, parse_cidr

NODE_PORTS = (30000, 32767)


class PoolFull(Exception):
    """No free number is left; str() is the API server's sentence."""


class NodeCidrs:
    """Pod CIDRs for nodes, by order of asking, or by the number a node's name ends in ("node-3" -> 10.48.3.0/24)."""

    def __init__(self, cluster_cidr: str = "10.48.0.0/16", node_bits: int = 24) -> None:
        self.base, self.plen = parse_cidr(cluster_cidr)
        self.node_bits = node_bits
        self.used: dict[int, str] = {}

    def pin(self, node: str, cidr: str) -> None:
        """The node has this CIDR."""
        base, _ = parse_cidr(cidr)
        self.used[(base - self.base) >> (32 - self.node_bits)] = node

    def allocate(self, node: str) -> str:
        """A free CIDR as text. PoolFull if there is none."""
        digits = node[len(node.rstrip("0123456789")):]
        count = 1 << (self.node_bits - self.plen)
        wanted = int(digits) if digits else 1
        for index in (wanted, *range(1, count), 0):
            if 0 <= index < count and index not in self.used:
                self.used[index] = node
                return f"{ip4_text(self.base + (index << (32 - self.node_bits)))}/{self.node_bits}"
        raise PoolFull("CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range")

    def release(self, node: str) -> None:
        for index in [i for i, n in self.used.items() if n == node]:
            del self.used[index]


class PodIps:
    """One node's pod addresses. CNI host-local: the next one after the last handed out, wrapping round."""

    def __init__(self, cidr: str) -> None:
        self.base, self.plen = parse_cidr(cidr)
        self.gateway = self.base + 1
        self.first = self.base + 2
        self.end = self.base + (1 << (32 - self.plen)) - 1          # broadcast, not handed out
        self.used: dict[int, str] = {}
        self._last = self.first - 1

    def allocate(self, owner: str, pinned: str = "") -> str:
        """An address as text; the pinned one if given. PoolFull if it is taken, or none is left."""
        if pinned:
            ip = ip4(pinned)
            if self.used.get(ip, owner) != owner:
                raise PoolFull(f"address {pinned} is already in use by {self.used[ip]}")
            if not self.base < ip < self.end:
                raise PoolFull(f"address {pinned} is not in this node's range {ip4_text(self.base)}/{self.plen}")
            self.used[ip] = owner
            return ip4_text(ip)
        size = self.end - self.first
        for step in range(size):
            ip = self.first + (self._last - self.first + 1 + step) % size
            if ip not in self.used:
                self.used[ip] = owner
                self._last = ip
                return ip4_text(ip)
        raise PoolFull(f"failed to allocate for range 0: no IP addresses available in range set: "
                       f"{ip4_text(self.first - 1)}-{ip4_text(self.end - 1)}")

    def release(self, owner: str) -> None:
        for ip in [i for i, o in self.used.items() if o == owner]:
            del self.used[ip]


class Band:
    """Numbers first..last, each held by at most one owner; the lowest `static` of them only for those who ask."""

    def __init__(self, first: int, last: int, static: int) -> None:
        self.first = first
        self.last = last
        self.static = min(static, last - first + 1)
        self.used: dict[int, str] = {}

    def take(self, number: int, owner: str) -> bool:
        """True if the number is now (or already was) the owner's."""
        return self.used.setdefault(number, owner) == owner

    def draw(self, owner: str, random: int) -> int | None:
        """A free number for the owner, from the upper band first; None if all are taken."""
        for low, high in ((self.first + self.static, self.last), (self.first, self.first + self.static - 1)):
            size = high - low + 1
            for step in range(size):
                number = low + (random + step) % size
                if number not in self.used:
                    self.used[number] = owner
                    return number
        return None

    def release(self, owner: str) -> None:
        for number in [n for n, o in self.used.items() if o == owner]:
            del self.used[number]


class ServiceAllocator:
    """Cluster IPs (IPv4) and node ports. `random(name)` gives a number from the seed for a Service's name."""

    def __init__(
        self, cidr: str = "10.96.0.0/16", ports: tuple[int, int] = NODE_PORTS,
        random: Callable[[str], int] = lambda name: 0,
    ) -> None:
        self.cidr = cidr
        self.base, self.plen = parse_cidr(cidr)
        size = 1 << (32 - self.plen)
        count = ports[1] - ports[0] + 1
        self.ips = Band(self.base + 1, self.base + size - 2, min(max(16, size // 16), 256))
        self.ports: dict[str, Band] = {
            proto: Band(*ports, min(max(16, count // 32), 128)) for proto in ("TCP", "UDP", "SCTP")
        }
        self._random = random

    def in_range(self, ip: str) -> bool:
        """True if the address can be given to a Service."""
        return self.ips.first <= ip4(ip) <= self.ips.last

    def take_ip(self, ip: str, owner: str) -> bool:
        return self.ips.take(ip4(ip), owner)

    def new_ip(self, owner: str) -> str:
        """A cluster IP as text. PoolFull when the range is exhausted."""
        number = self.ips.draw(owner, self._random(owner + "/ip"))
        if number is None:
            raise PoolFull("failed to allocate a serviceIP: range is full")
        return ip4_text(number)

    def take_port(self, port: int, protocol: str, owner: str) -> bool:
        return self.ports[protocol].take(port, owner)

    def new_port(self, owner: str, protocol: str, name: str, other: list[str]) -> int:
        """A node port free for `protocol` (and for the protocols in `other`, which share the number). PoolFull."""
        band = self.ports[protocol]
        random = self._random(f"{owner}/{name}/port")
        skipped: list[int] = []
        while True:
            port = band.draw(owner, random)
            if port is None or all(self.ports[p].used.get(port, owner) == owner for p in other):
                break
            skipped.append(port)
        for number in skipped:
            del band.used[number]
        if port is None:
            raise PoolFull("failed to allocate a nodePort: range is full")
        return port

    def release(self, owner: str, keep_ip: str = "", keep_ports: list[tuple[str, int]] | None = None) -> None:
        """Give back everything the owner holds but what is to be kept."""
        for ip in [n for n, o in self.ips.used.items() if o == owner and ip4_text(n) != keep_ip]:
            del self.ips.used[ip]
        for protocol, band in self.ports.items():
            for port in [n for n, o in band.used.items() if o == owner and (protocol, n) not in (keep_ports or [])]:
                del band.used[port]
