"""IP sets: lists of addresses, networks, ports and combinations, which rules ask with -m set and change with -j SET.

    sets = ip_sets(net)                      name -> IpSet, in order of creation
    new = IpSet("hash:ip,port", ...)         what a type's elements are made of is in its name
    found = sets["a"].test(key, now)         key: one value for each part, as elem_of(skb) reads them off a packet

Parts: ip (address), net (address, prefix length), port (protocol, number; ICMP: type and code), iface (name). A packet is in a set of
networks if the longest one that holds it is there without `nomatch`. An element may have a timeout, counters and a comment.

Sources: Linux ip_set_core.c, ip_set_hash_gen.h mtype_add(), mtype_test_cidrs(), ip_set_bitmap_gen.h, ip_set_list_set.c, pfxlen.c;
ip_set_getport.c. simplified: members are kept in the order in which they were added, not in that of a hash with a random key; the size
in memory is that of a table without collisions; hash:mac and hash:net,net are "not supported", as on kernels without those modules.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import product
from typing import Any

from kubenet.kernel.netns import AF_INET, AF_INET6, NetNamespace
from kubenet.kernel.skbuff import SkBuff
from kubenet.units import SEC

Key = tuple[Any, ...]
BITS = {AF_INET: 32, AF_INET6: 128}
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58

# type -> (revision, bytes of an empty set, bytes of an element, IPv4); recorded from Linux 6.18 and ipset 7.17
TYPES = {
    "hash:ip": (6, 216, 4), "hash:net": (7, 208, 8), "hash:ip,port": (7, 216, 8), "hash:net,port": (8, 208, 12),
    "hash:ip,port,ip": (6, 208, 12), "hash:ip,port,net": (8, 208, 16), "hash:net,iface": (8, 216, 32), "hash:ip,mark": (3, 216, 8),
    "bitmap:port": (3, 72, 0), "bitmap:ip": (3, 88, 0), "list:set": (3, 80, 48),
}
UNSUPPORTED = ("hash:mac", "hash:ip,mac", "hash:net,net", "hash:net,port,net", "bitmap:ip,mac")


class SetError(Exception):
    """What ipset says, behind its name and version."""


class Member:
    """One element's extensions. expires: ns, 0 for never."""

    __slots__ = ("expires", "packets", "bytes", "comment", "nomatch")

    def __init__(self, expires: int = 0, packets: int = 0, bytes: int = 0, comment: str | None = None, nomatch: bool = False) -> None:
        self.expires = expires
        self.packets = packets
        self.bytes = bytes
        self.comment = comment
        self.nomatch = nomatch


class IpSet:
    """One set."""

    def __init__(self, name: str, type: str, family: int = AF_INET) -> None:
        self.name = name
        self.type = type
        self.family = family
        self.parts = tuple(type.partition(":")[2].split(","))
        self.hashsize, self.maxelem, self.bucketsize, self.initval = 1024, 65536, 12, 0
        self.netmask = 0  # of hash:ip: addresses are cut to it
        self.timeout: int | None = None  # seconds; None: elements have none
        self.counters = self.comment = False
        self.range = (0, 0)  # of a bitmap
        self.size = 8  # of a list
        self.members: dict[Key, Member] = {}

    # ---- elements

    def alive(self, now: int) -> list[tuple[Key, Member]]:
        """The elements whose time is not up; the others are gone. Bitmaps in order."""
        for key in [key for key, member in self.members.items() if member.expires and member.expires <= now]:
            del self.members[key]
        return sorted(self.members.items()) if self.type.startswith("bitmap") else list(self.members.items())

    def normal(self, key: Key) -> Key:
        """The element as it is stored: addresses cut to the netmask, networks to their length."""
        bits = BITS[self.family]
        out = []
        for part, value in zip(self.parts, key, strict=True):
            if part == "net":
                value = (value[0] >> (bits - value[1]) << (bits - value[1]), value[1])
            elif part == "ip" and self.netmask:
                value = value >> (bits - self.netmask) << (bits - self.netmask)
            out.append(value)
        return tuple(out)

    def add(self, key: Key, member: Member, now: int, exist: bool = False) -> None:
        """The element is in the set. SetError if it was, without `exist`, or if there is no room."""
        key = self.normal(key)
        old = self.members.get(key)
        if old is not None and (not old.expires or old.expires > now) and not exist:
            raise SetError("Element cannot be added to the set: it's already added")
        if old is None and self.type.startswith("hash") and len(self.members) >= self.maxelem and len(self.alive(now)) >= self.maxelem:
            raise SetError("Hash is full, cannot add more elements")
        if self.type.startswith("bitmap") and not self.range[0] <= key[0] <= self.range[1]:
            raise SetError("Element is out of the range of the set")
        if self.type == "list:set" and old is None and len(self.members) >= self.size:
            raise SetError("Set is full, more elements cannot be added.")
        self.members[key] = member

    def remove(self, key: Key, now: int, exist: bool = False) -> None:
        """The element is not in the set. SetError if it was not, without `exist`."""
        member = self.members.pop(self.normal(key), None)
        if (member is None or member.expires and member.expires <= now) and not exist:
            raise SetError("Element cannot be deleted from the set: it's not added")

    def find(self, key: Key, now: int) -> Member | None:
        """The element that decides about this key: of networks, the longest that holds it."""
        if "net" not in self.parts:
            return self._live(self.normal(key), now)
        lengths = []
        for at, part in enumerate(self.parts):
            whole = key[at][1] if part == "net" else 0
            lengths.append(sorted({each[at][1] for each in self.members if each[at][1] <= whole}, reverse=True) if part == "net" else [0])
        for choice in product(*lengths):
            tried = tuple((value[0], plen) if part == "net" else value for part, value, plen in zip(self.parts, key, choice, strict=True))
            found = self._live(self.normal(tried), now)
            if found is not None:
                return found
        return None

    def _live(self, key: Key, now: int) -> Member | None:
        member = self.members.get(key)
        return None if member is None or member.expires and member.expires <= now else member

    def elem_of(self, skb: SkBuff, dirs: tuple[str, ...]) -> Key | None:
        """The packet's element, each part from the source or destination as `dirs` says; None if it has none."""
        if len(dirs) < len(self.parts) or self.family != (AF_INET6 if skb.ip.daddr >> 32 or skb.ip.saddr >> 32 else AF_INET):
            return None
        out: list[Any] = []
        for part, side in zip(self.parts, dirs, strict=False):
            src = side == "src"
            addr = skb.ip.saddr if src else skb.ip.daddr
            if part == "ip":
                out.append(addr)
            elif part == "net":
                out.append((addr, BITS[self.family]))
            elif part == "port":
                port = _port_of(skb, src)
                if port is None:
                    return None
                out.append(port[1] if self.type == "bitmap:port" else port)
            elif part == "mark":
                out.append(skb.mark)
            else:
                dev = skb.indev if src else skb.outdev
                if dev is None:
                    return None
                out.append(dev.name)
        return tuple(out)

    def test(self, net: NetNamespace, skb: SkBuff, dirs: tuple[str, ...], count: bool = True) -> Member | None:
        """The element that holds the packet, `nomatch` ones too. Linux: ip_set_test()."""
        now = net.loop.now
        if self.type == "list:set":
            for key, member in self.alive(now):
                inner = ip_sets(net).get(key[0])
                if inner is not None and (found := inner.test(net, skb, dirs, count)) is not None and not found.nomatch:
                    return member
            return None
        elem = self.elem_of(skb, dirs)
        hit = self.find(elem, now) if elem is not None else None
        if hit is not None and self.counters and count and not hit.nomatch:
            hit.packets += 1
            hit.bytes += skb.len
        return hit

    # ---- how it is printed

    def memory(self, now: int) -> int:
        """Bytes, as `ipset list` shows them. Linux: mtype_memsize() of a table without collisions."""
        _, empty, size = TYPES[self.type]
        if self.type == "list:set":
            return empty + size * len(self.members)
        if self.type.startswith("bitmap"):
            return empty + (self.range[1] - self.range[0] + 64) // 64 * 8
        addrs = sum(part in ("ip", "net") for part in self.parts)
        if self.family == AF_INET6:
            size, empty = size + 12 * addrs, empty + 8 * ("ip" in self.parts and self.type == "hash:ip")
        extended = self.timeout is not None or self.counters or self.comment
        size = (size + 7) // 8 * 8 if extended else size
        size += 16 * self.counters + 8 * self.comment + 8 * (self.timeout is not None)
        return empty + len(self.alive(now)) * (32 + 2 * size)


def ip_sets(net: NetNamespace) -> dict[str, IpSet]:
    """The namespace's sets."""
    found: dict[str, IpSet] = net.extra.setdefault("ip_set", {})
    return found


def initval(net: NetNamespace, name: str) -> int:
    """The key of a set's hash: random on Linux, here the same in every run of the same cluster."""
    return int.from_bytes(blake2b(f"{net.host.name}/{net.name}/{name}/{net.loop.now}".encode(), digest_size=4).digest(), "big")


def references(net: NetNamespace, name: str) -> int:
    """How many rules and lists hold a set: it cannot be destroyed before."""
    count = sum((name,) in each.members for each in ip_sets(net).values() if each.type == "list:set")
    for tables in net.xt.values():
        for table in tables.values():
            for chain in table.chains.values():
                for rule in chain.rules:
                    count += sum(name in getattr(ext, "set_names", ()) for ext in (*rule.matches, rule.target))
    return count


def expiry(net: NetNamespace, timeout: int | None) -> int:
    """When an element with this timeout ends; 0: never."""
    return net.loop.now + timeout * SEC if timeout else 0


def _port_of(skb: SkBuff, src: bool) -> tuple[int, int] | None:
    """Linux: get_port()."""
    proto, l4 = skb.ip.proto, skb.l4
    if l4 is None:
        return None
    if proto in (ICMP, ICMP6):
        return proto, l4.type << 8 | l4.code
    if hasattr(l4, "sport"):
        return proto, l4.sport if src else l4.dport
    return None
