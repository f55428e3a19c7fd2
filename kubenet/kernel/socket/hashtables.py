"""Who owns a port, who gets a segment: bind buckets, listeners and the table of connections of one namespace.

One dict holds every connection by (remote address, remote port, local address, local port): full sockets, request socks
(SYN-RECV) and TIME-WAIT socks alike, so demultiplexing is one look-up. Listeners are found by port, then by how well they
fit (a specific address beats the wildcard). Ports are owned through buckets: a bucket knows all sockets on its port, and
two sockets may share it only under the rules of inet_csk_bind_conflict().

Ports are chosen as Linux does: connect() takes even ones, from a start that depends on a keyed hash of the destination,
in small random steps; bind(0) takes random odd ones; each falls back to the other parity.

Sources: Linux net/ipv4/inet_hashtables.c, inet_connection_sock.c.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EADDRINUSE, EADDRNOTAVAIL
from typing import TYPE_CHECKING, Any

from kubenet.kernel.socket.sock import TCP_LISTEN, TCP_TIME_WAIT, Sock, oserror
from kubenet.sim.rng import hash64

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

PERTURB_SIZE = 1 << 16  # INET_TABLE_PERTURB_SIZE
Key = tuple[int, int, int, int]


class BindBucket:
    """One local port and the sockets on it. `auto`: made by connect(), so only other connects may join without a check.

    Linux: struct inet_bind_bucket; auto is fastreuse == -1.
    """

    __slots__ = ("port", "owners", "auto")

    def __init__(self, port: int, auto: bool) -> None:
        self.port = port
        self.owners: list[Any] = []
        self.auto = auto


class InetHashtables:
    """All TCP sockets of one namespace. Linux: struct inet_hashinfo."""

    __slots__ = ("net", "ehash", "listeners", "bhash", "af_ops", "reuse_groups", "port_secret", "reuse_secret")

    def __init__(self, net: NetNamespace, af_ops: dict[int, Any]) -> None:
        self.net = net
        self.af_ops = af_ops  # family -> AfOps
        self.ehash: dict[Key, Any] = {}
        self.listeners: dict[int, list[Sock]] = {}
        self.bhash: dict[int, BindBucket] = {}
        self.reuse_groups: dict[tuple[int, int], list[Sock]] = {}  # (address, port) -> SO_REUSEPORT listeners
        self.port_secret: int = net.host.secret("ports")
        self.reuse_secret: int = net.host.secret("reuseport")

    def lookup_listener(self, saddr: int, sport: int, daddr: int, dport: int, dif: int) -> Sock | None:
        """The listener that fits best: bound device and specific address count. Linux: __inet_lookup_listener()."""
        best, best_score = None, 0
        for sk in self.listeners.get(dport, ()):
            score = _listener_score(sk, daddr, dif)
            if score > best_score:
                best, best_score = sk, score
        if best is not None and best.reuseport:
            group = self.reuse_groups.get((best.saddr, best.sport))
            if group is not None and len(group) > 1:
                h = hash64(self.reuse_secret, saddr, sport, daddr, dport) >> 32
                return group[h * len(group) >> 32]
        return best

    def hash_listener(self, sk: Sock) -> None:
        """Segments to the port reach `sk` from now on. Newest first, except in a SO_REUSEPORT group. Linux: inet_hash()."""
        bucket = self.listeners.setdefault(sk.sport, [])
        if sk.reuseport:
            bucket.append(sk)
            self.reuse_groups.setdefault((sk.saddr, sk.sport), []).append(sk)
        else:
            bucket.insert(0, sk)
        sk.hashed = 1

    def hash_established(self, sk: Sock) -> None:
        """Segments of the connection reach `sk` from now on. Linux: inet_ehash_insert()."""
        self.ehash[(sk.daddr, sk.dport, sk.saddr, sk.sport)] = sk
        sk.hashed = 2

    def unhash(self, sk: Sock) -> None:
        """No segment reaches `sk` any more. Linux: inet_unhash()."""
        if sk.hashed == 1:
            self._unhash_listener(sk)
        elif sk.hashed == 2:
            key = (sk.daddr, sk.dport, sk.saddr, sk.sport)
            if self.ehash.get(key) is sk:
                del self.ehash[key]
        sk.hashed = 0

    def _unhash_listener(self, sk: Sock) -> None:
        bucket = self.listeners[sk.sport]
        bucket.remove(sk)
        if not bucket:
            del self.listeners[sk.sport]
        if sk.reuseport:
            group = self.reuse_groups[(sk.saddr, sk.sport)]
            at = group.index(sk)  # the last one takes its slot. Linux: reuseport_detach_sock()
            group[at] = group[-1]
            group.pop()
            if not group:
                del self.reuse_groups[(sk.saddr, sk.sport)]

    def bind_to(self, sk: Any, port: int, auto: bool) -> None:
        """`sk` owns (a share of) the port. Linux: inet_bind_hash()."""
        bucket = self.bhash.get(port)
        if bucket is None:
            bucket = self.bhash[port] = BindBucket(port, auto)
        bucket.owners.append(sk)
        sk.bind_bucket = bucket
        sk.sport = port

    def put_port(self, sk: Any) -> None:
        """`sk` gives up its share of the port; the last owner frees it. Linux: inet_put_port(), inet_twsk_bind_unhash()."""
        bucket = sk.bind_bucket
        if bucket is not None:
            bucket.owners.remove(sk)
            sk.bind_bucket = None
            if not bucket.owners:
                del self.bhash[bucket.port]

    def dump(self) -> list[Any]:
        """Every socket that `ss` may show, listeners first, in order of creation of their keys."""
        out: list[Any] = [sk for bucket in self.listeners.values() for sk in bucket]
        out.extend(self.ehash.values())
        return out


def _listener_score(sk: Sock, daddr: int, dif: int) -> int:
    """0 if it does not fit. Linux: compute_score() (inet_hashtables.c)."""
    if sk.saddr and sk.saddr != daddr:
        return 0
    if sk.bound_dev and sk.bound_dev != dif:
        return 0
    return 1 + (2 if sk.saddr else 0) + (1 if sk.bound_dev else 0)


def _bind_conflict(sk: Sock, other: Any, relax: bool, reuseport_ok: bool) -> bool:
    """May two sockets with overlapping addresses not share a port? Linux: inet_bind_conflict()."""
    if sk.bound_dev and other.bound_dev and sk.bound_dev != other.bound_dev:
        return False
    both_reuseport = (
        sk.reuseport and other.reuseport and (other.state == TCP_TIME_WAIT or sk.uid == other.uid)
    )
    if sk.reuse and other.reuse and other.state != TCP_LISTEN:
        return not relax or (not reuseport_ok and both_reuseport)
    return not (reuseport_ok and both_reuseport)


def inet_csk_bind_conflict(sk: Sock, bucket: BindBucket, relax: bool, reuseport_ok: bool) -> bool:
    """True if `sk` may not join this port. Different specific addresses never conflict. Linux: the same."""
    for other in bucket.owners:
        if other is sk:
            continue
        if sk.saddr and other.saddr and sk.saddr != other.saddr:
            continue
        if _bind_conflict(sk, other, relax, reuseport_ok):
            return True
    return False


def inet_csk_get_port(sk: Sock, port: int) -> None:
    """`sk` owns `port`, or a free one if that is 0. Raises EADDRINUSE. Linux: the same."""
    table: InetHashtables = sk.net.socks
    if port == 0:
        port = inet_csk_find_open_port(sk, table)
    else:
        bucket = table.bhash.get(port)
        if bucket is not None and inet_csk_bind_conflict(sk, bucket, True, True):
            raise oserror(EADDRINUSE)
    if sk.bind_bucket is None:
        table.bind_to(sk, port, False)
    bucket = sk.bind_bucket
    if bucket.auto and not (sk.reuse and sk.state != TCP_LISTEN):
        bucket.auto = False


def inet_csk_find_open_port(sk: Sock, table: InetHashtables) -> int:
    """A random port for bind(0), odd ones first; with SO_REUSEADDR the lower half first. Linux: the same."""
    low, high = sk.net.sysctl.ipv4.ip_local_port_range
    high += 1
    halves = [(low, high)]
    if sk.reuse and high - low >= 4:
        middle = low + (((high - low) >> 2) << 1)
        halves = [(low, middle), (middle, high)]
    relaxes = (False, True) if sk.net.sysctl.ipv4.ip_autobind_reuse else (False,)
    for relax in relaxes:
        for start, end in halves:
            port = _find_in_half(sk, table, start, end, relax)
            if port:
                return port
    raise oserror(EADDRINUSE)


def _find_in_half(sk: Sock, table: InetHashtables, low: int, high: int, relax: bool) -> int:
    remaining = high - low
    if remaining > 1:
        remaining &= ~1
    offset = sk.net.random("bind_port").below(remaining) | 1
    for parity_offset in (offset, offset - 1):
        port = low + parity_offset
        for _ in range(0, remaining, 2):
            if port >= high:
                port -= remaining
            bucket = table.bhash.get(port)
            if bucket is None or not inet_csk_bind_conflict(sk, bucket, relax, False):
                return port
            port += 2
    return 0


def inet_hash_connect(sk: Sock, unique: Callable[[Sock, Any, bool], bool]) -> None:
    """`sk`, whose addresses are set, has a local port and receives its segments. Raises EADDRNOTAVAIL.

    `unique(sk, tw, auto)` decides whether a TIME-WAIT sock with the same four values may be taken over.
    Linux: __inet_hash_connect().
    """
    table: InetHashtables = sk.net.socks
    if sk.sport:
        if not check_established(table, sk, sk.sport, unique, False):
            raise oserror(EADDRNOTAVAIL)
    else:
        _choose_port(sk, table, unique)
    table.hash_established(sk)


def _choose_port(sk: Sock, table: InetHashtables, unique: Callable[[Sock, Any, bool], bool]) -> None:
    low, high = sk.net.sysctl.ipv4.ip_local_port_range
    high += 1
    remaining = high - low
    if remaining > 1:
        remaining &= ~1
    perturb: dict[int, int] = sk.net.host.extra.setdefault("table_perturb", {})
    port_offset = hash64(table.port_secret, sk.saddr, sk.daddr, sk.dport)
    index = port_offset & (PERTURB_SIZE - 1)
    start = perturb.get(index)
    if start is None:
        start = hash64(table.port_secret, index) & 0xFFFF_FFFF
    offset = (start + (port_offset >> 32)) % remaining & ~1
    for parity in (0, 1):
        port = low + offset + parity
        for i in range(0, remaining, 2):
            if port >= high:
                port -= remaining
            if _port_is_free_to_connect(sk, table, port, unique):
                step = sk.net.random("connect_port").below(8) * 2
                perturb[index] = start + max(i, step) + 2
                table.bind_to(sk, port, True)
                return
            port += 2
    raise oserror(EADDRNOTAVAIL)


def _port_is_free_to_connect(
    sk: Sock, table: InetHashtables, port: int, unique: Callable[[Sock, Any, bool], bool]
) -> bool:
    bucket = table.bhash.get(port)
    if bucket is None:
        return True
    return bucket.auto and check_established(table, sk, port, unique, True)


def check_established(
    table: InetHashtables, sk: Sock, port: int, unique: Callable[[Sock, Any, bool], bool], auto: bool
) -> bool:
    """True if the connection's four values are free, perhaps by taking over a TIME-WAIT. Linux: the same, with __inet_."""
    key = (sk.daddr, sk.dport, sk.saddr, port)
    other = table.ehash.get(key)
    if other is None:
        return True
    if other.state == TCP_TIME_WAIT and unique(sk, other, auto):
        other.deschedule()
        return True
    return False
