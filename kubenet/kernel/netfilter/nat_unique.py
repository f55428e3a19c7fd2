"""Choosing what NAT makes of a connection: an address and a port that give a tuple nobody has.

get_unique_tuple(), in Linux's order:
  1  SNAT, unless ports are to be random: keep the source if it is in the range and free; else use the mapping that
  another
     connection of this source has already, if that is free
  2  an address of the range, by a hash of the addresses: the same client gets the same address, also after a reboot
  3  keep the port if it is in the range and free
  4  search a port. Without a range: of the same class as the old one, 1-511, 600-1023 or 1024-65535. It starts at a
  random
     place (DNAT: at the first), tries 128 in a row, then half as many from another place, and so on down to 16. Near
     the end of a round a TIME_WAIT entry of an older TCP connection may be evicted to take its port.
If nothing is free the last try is kept; the connection then fails when it is confirmed, and the packet is dropped.

"Free" means: no connection has the inverse of the new tuple, in either direction. So one source port can be used
towards many servers at once, and ports run out per destination.

Sources: Linux nf_nat_core.c: get_unique_tuple(), find_best_ips_proto(), nf_nat_l4proto_unique_tuple(); jhash.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubenet.kernel.netfilter.conntrack.entry import (
    IPS_DYING,
    IPS_FIXED_TIMEOUT,
    IPS_NAT_MASK,
    IPS_SEQ_ADJUST,
    IPS_SRC_NAT,
    NfConn,
)
from kubenet.kernel.netfilter.conntrack.expire import nf_ct_kill
from kubenet.kernel.netfilter.conntrack.tcp_states import SYN_SENT, TIME_WAIT
from kubenet.kernel.netfilter.conntrack.tuple import AF_INET6, IP4, ORIGINAL, REPLY, Tuple, inverse
from kubenet.wire.ipv4 import IPPROTO_ICMP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP

WITH_PORTS = (IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP)  # what a range of ports can mean something for

if TYPE_CHECKING:
    from kubenet.kernel.netfilter.conntrack.table import ConntrackTable

NF_NAT_MANIP_SRC, NF_NAT_MANIP_DST = 0, 1

NF_NAT_RANGE_MAP_IPS = 1
NF_NAT_RANGE_PROTO_SPECIFIED = 2
NF_NAT_RANGE_PROTO_RANDOM = 4
NF_NAT_RANGE_PERSISTENT = 8
NF_NAT_RANGE_PROTO_RANDOM_FULLY = 16
NF_NAT_RANGE_PROTO_OFFSET = 32
NF_NAT_RANGE_PROTO_RANDOM_ALL = NF_NAT_RANGE_PROTO_RANDOM | NF_NAT_RANGE_PROTO_RANDOM_FULLY

NF_NAT_MAX_ATTEMPTS = 128
NF_NAT_HARDER_THRESH = NF_NAT_MAX_ATTEMPTS // 4

M32 = 0xFFFFFFFF


class NatRange:
    """What a rule allows: addresses (with MAP_IPS) and ports (with PROTO_SPECIFIED). Linux: struct nf_nat_range2."""

    __slots__ = ("flags", "min_addr", "max_addr", "min_port", "max_port", "base_port")

    def __init__(self, flags: int = 0, min_addr: int = 0, max_addr: int = 0, min_port: int = 0, max_port: int = 0,
                 base_port: int = 0) -> None:
        self.flags = flags
        self.min_addr = min_addr
        self.max_addr = max_addr
        self.min_port = min_port
        self.max_port = max_port
        self.base_port = base_port


# -- is it free?

def nf_nat_used_tuple(t: Tuple, ct: NfConn) -> bool:
    """Has another connection the answers to `t`? One with the same original tuple does not count: it is the same flow,
    and confirmation settles that. Linux: nf_nat_used_tuple(), nf_conntrack_tuple_taken()."""
    table: ConntrackTable = ct.net.ct
    found = table.lookup(inverse(t), ct.zone)
    if found is None or found[0] is ct or found[0].orig == ct.orig:
        return False
    table.stats["found"] += 1
    return True


def nf_nat_used_tuple_new(t: Tuple, ct: NfConn) -> bool:
    """The same for a source that would stay as it is. Linux: nf_nat_used_tuple_new()."""
    if not nf_nat_used_tuple(t, ct):
        return False
    found = ct.net.ct.lookup(inverse(t), ct.zone)
    if found is None:
        return False
    other = found[0]
    if found[1] == ORIGINAL or other.status & (IPS_NAT_MASK | IPS_SEQ_ADJUST):
        return True
    return not (other.orig == ct.orig and other.reply == ct.reply)


def nf_nat_used_tuple_harder(t: Tuple, ct: NfConn, attempts_left: int) -> bool:
    """The same, but the last tries take the port of an old TCP connection in TIME_WAIT. Linux: same name."""
    if attempts_left > NF_NAT_HARDER_THRESH or t[4] & 0xFF != IPPROTO_TCP or ct.proto.state != SYN_SENT:
        return nf_nat_used_tuple(t, ct)
    found = ct.net.ct.lookup(inverse(t), ct.zone)
    if found is None:
        return False
    old, direction = found
    if direction == ORIGINAL or old.proto.state < TIME_WAIT or not old.status & IPS_SRC_NAT:
        return True
    if old.status & (IPS_FIXED_TIMEOUT | IPS_DYING):
        return True
    if not 0 < (ct.proto.seen[0].td_end - old.proto.seen[0].td_end & M32) < 0x80000000:
        return True  # the server would take the SYN for an old one
    nf_ct_kill(old)
    return False


# -- the range

def l4proto_in_range(t: Tuple, manip: int, rng: NatRange) -> bool:
    """Is the port (or ICMP id) in the range? Linux: l4proto_in_range()."""
    proto = t[4] & 0xFF
    if proto == IPPROTO_ICMP or manip == NF_NAT_MANIP_SRC:
        port = t[1]
    else:
        port = t[3]
    return rng.min_port <= port <= rng.max_port if proto in WITH_PORTS else True


def nf_in_range(t: Tuple, rng: NatRange) -> bool:
    """Is the source of `t` as the range wants it? Linux: nf_in_range()."""
    if rng.flags & NF_NAT_RANGE_MAP_IPS and not rng.min_addr <= t[0] <= rng.max_addr:
        return False
    return not rng.flags & NF_NAT_RANGE_PROTO_SPECIFIED or l4proto_in_range(t, NF_NAT_MANIP_SRC, rng)


def find_appropriate_src(ct: NfConn, t: Tuple, rng: NatRange) -> Tuple | None:
    """`t` with the source that another connection from the same address and port was given. Linux: same name."""
    for other in ct.net.ct.bysource.get((t[0], t[1], t[4], ct.zone.of(ORIGINAL)), ()):
        mapped = inverse(other.reply)
        result: Tuple = (mapped[0], mapped[1], t[2], t[3], t[4])
        if nf_in_range(result, rng):
            return result
    return None


def _rol(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & M32


def jhash2(words: tuple[int, ...], initval: int) -> int:
    """Bob Jenkins' lookup3 over 32-bit words. Linux: include/linux/jhash.h jhash2()."""
    length = len(words)
    a = b = c = 0xDEADBEEF + (length << 2) + initval & M32
    at = 0
    while length > 3:
        a, b, c = a + words[at] & M32, b + words[at + 1] & M32, c + words[at + 2] & M32
        for bits in (4, 6, 8, 16, 19, 4):  # __jhash_mix, its three registers taking turns
            a = (a - c & M32) ^ _rol(c, bits)
            c = c + b & M32
            a, b, c = b, c, a
        length, at = length - 3, at + 3
    if length == 3:
        c = c + words[at + 2] & M32
    if length >= 2:
        b = b + words[at + 1] & M32
    if length >= 1:
        a = a + words[at] & M32
        for x, y, bits in ((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24)):
            regs = [a, b, c]  # __jhash_final
            regs[x] = ((regs[x] ^ regs[y]) - _rol(regs[y], bits)) & M32
            a, b, c = regs
    return c


def _be32(addr: int) -> int:
    """An IPv4 address as a little-endian machine reads its bytes."""
    return int.from_bytes(addr.to_bytes(4, "big"), "little")


def _words6(addr: int) -> tuple[int, ...]:
    """An IPv6 address as four words, as a little-endian machine reads its bytes."""
    raw = addr.to_bytes(16, "big")
    return tuple(int.from_bytes(raw[at : at + 4], "little") for at in (0, 4, 8, 12))


def _best_ip6(t: Tuple, rng: NatRange, ct: NfConn) -> int:
    """An IPv6 address of the range, word by word: below a word that is not the range's last, any value will do."""
    persistent = bool(rng.flags & NF_NAT_RANGE_PERSISTENT)
    dst = _words6(t[2])
    j = jhash2(_words6(t[0]), 0 if persistent else dst[3] ^ ct.zone.id)
    addr, is_full = 0, False
    for shift, word in zip((96, 64, 32, 0), dst, strict=True):
        low, high = rng.min_addr >> shift & M32, rng.max_addr >> shift & M32
        chosen = (j * M32 >> 32) if is_full else low + (j * (high - low + 1) >> 32)
        is_full = is_full or chosen != high
        addr = addr << 32 | chosen
        j ^= 0 if persistent else word
    return addr


def find_best_ips_proto(t: Tuple, rng: NatRange, ct: NfConn, manip: int) -> Tuple:
    """`t` with an address of the range, a function of source and destination. Linux: find_best_ips_proto()."""
    if not rng.flags & NF_NAT_RANGE_MAP_IPS:
        return t
    addr = rng.min_addr
    if rng.min_addr != rng.max_addr:
        if t[4] >> 8 == AF_INET6:
            addr = _best_ip6(t, rng, ct)
            return (addr, *t[1:]) if manip == NF_NAT_MANIP_SRC else (t[0], t[1], addr, t[3], t[4])
        seed = 0 if rng.flags & NF_NAT_RANGE_PERSISTENT else _be32(t[2]) ^ ct.zone.id
        j = jhash2((_be32(t[0]), 0, 0, 0), seed)  # the address as 16 bytes, as a tuple has it
        addr = rng.min_addr + (j * (rng.max_addr - rng.min_addr + 1) >> 32)
    return (addr, *t[1:]) if manip == NF_NAT_MANIP_SRC else (t[0], t[1], addr, t[3], t[4])


# -- the port

def _port_range(t: Tuple, rng: NatRange, manip: int) -> tuple[int, int] | None:
    """(first port, how many), or None: the port must stay. Linux: nf_nat_l4proto_unique_tuple(), first half."""
    proto = t[4] & 0xFF
    if proto not in WITH_PORTS:
        return None
    if rng.flags & NF_NAT_RANGE_PROTO_SPECIFIED:
        low, high = min(rng.min_port, rng.max_port), max(rng.min_port, rng.max_port)
        return low, high - low + 1
    if proto == IPPROTO_ICMP:
        return 0, 65536
    if manip == NF_NAT_MANIP_DST:
        return None
    if t[1] < 512:  # a reserved port may mean something to the server: stay in its class
        return 1, 511
    return (600, 1023 - 600 + 1) if t[1] < 1024 else (1024, 65535 - 1024 + 1)


def _with_port(t: Tuple, manip: int, port: int) -> Tuple:
    if manip == NF_NAT_MANIP_SRC or t[4] == IP4 | IPPROTO_ICMP:
        return (t[0], port, t[2], t[3], t[4])
    return (t[0], t[1], t[2], port, t[4])


def nf_nat_l4proto_unique_tuple(t: Tuple, rng: NatRange, manip: int, ct: NfConn) -> Tuple:
    """`t` with a free port, or with the last one tried. Linux: nf_nat_l4proto_unique_tuple()."""
    ports = _port_range(t, rng, manip)
    if ports is None:
        return t
    first, size = ports
    random = ct.net.random("nat")
    if rng.flags & NF_NAT_RANGE_PROTO_OFFSET:
        off = (t[1] if manip == NF_NAT_MANIP_SRC else t[3]) - rng.base_port
    elif rng.flags & NF_NAT_RANGE_PROTO_RANDOM_ALL or manip != NF_NAT_MANIP_DST:
        off = random.u32() & 0xFFFF
    else:
        off = 0
    attempts = min(size, NF_NAT_MAX_ATTEMPTS)
    while True:
        for i in range(attempts):
            t = _with_port(t, manip, first + (off + i & 0xFFFF) % size)
            if not nf_nat_used_tuple_harder(t, ct, attempts - i):
                return t
        if attempts >= size or attempts < 16:
            ct.no_port = True
            return t
        attempts //= 2
        off = random.u32() & 0xFFFF


def get_unique_tuple(orig: Tuple, rng: NatRange, ct: NfConn, manip: int) -> Tuple:
    """What the connection, now `orig`, becomes under this range. Linux: get_unique_tuple()."""
    if manip == NF_NAT_MANIP_SRC and not rng.flags & NF_NAT_RANGE_PROTO_RANDOM_ALL:
        if nf_in_range(orig, rng):
            if not nf_nat_used_tuple_new(orig, ct):
                return orig
        else:
            mapped = find_appropriate_src(ct, orig, rng)
            if mapped is not None and not nf_nat_used_tuple(mapped, ct):
                return mapped
    t = find_best_ips_proto(orig, rng, ct, manip)
    if not rng.flags & NF_NAT_RANGE_PROTO_RANDOM_ALL:
        if rng.flags & NF_NAT_RANGE_PROTO_SPECIFIED:
            if not rng.flags & NF_NAT_RANGE_PROTO_OFFSET and l4proto_in_range(t, manip, rng):
                if rng.min_port == rng.max_port or not nf_nat_used_tuple(t, ct):
                    return t
        elif not nf_nat_used_tuple(t, ct):
            return t
    return nf_nat_l4proto_unique_tuple(t, rng, manip, ct)


__all__ = ["REPLY", "NatRange", "get_unique_tuple", "jhash2"]
