"""The connection table of one namespace: find, insert, delete, count, and what happens when there is no room.

`table` maps the tuple of either direction to (connection, direction), so finding the entry of a packet is one dict
lookup. Entries are in it once confirmed. One whose time is over is gone for everybody: find() removes it, and a
collector (one loop event, at the earliest time that matters) removes the rest.

A full table (nf_conntrack_max of the machine, counted per namespace) evicts like Linux: from the hash slot of the new
tuple and the seven slots after it, every entry of this namespace that is not ASSURED. Slots are a keyed hash of the
tuple modulo nf_conntrack_buckets; they are computed only while the table is crowded. With a table far smaller than its
buckets (a lab that sets nf_conntrack_max to 64) those eight slots are nearly always empty, so new connections are
dropped: as on a real machine.

`watchers` of the namespace get ("NEW" | "UPDATE" | "DESTROY", connection).

Sources: Linux nf_conntrack_core.c: __nf_conntrack_find_get(), nf_ct_delete(), early_drop(), gc_worker(). simplified:
entries end exactly at their timeout (Linux's collector comes by up to two minutes later, which shows in
nf_conntrack_count and in the time of DESTROY events only); after a drop it makes room 60 s later (Linux:
within 60 s); a table is listed in the order of its entries, not of the hash.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from kubenet.kernel.netfilter.conntrack.entry import (
    DEFAULT_ZONE,
    IPS_ASSURED,
    IPS_DYING,
    IPS_NAT_CLASH,
    NfConn,
    Zone,
)
from kubenet.kernel.netfilter.conntrack.tcp import tcp_can_early_drop
from kubenet.kernel.netfilter.conntrack.tuple import IP4, ORIGINAL, REPLY, Key, Tuple, key_of
from kubenet.sim.rng import hash64
from kubenet.units import SEC

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

GC_SCAN_INTERVAL_MAX = 60 * SEC
GC_SCAN_EXPIRED_MAX = 64  # 64000 / HZ
EVICTION_RANGE = 8  # slots looked at for something to evict. Linux: NF_CT_EVICTION_RANGE

STATS = ("found", "invalid", "insert", "insert_failed", "drop", "early_drop", "error", "search_restart", "clash_resolve",
         "chaintoolong")


def can_early_drop(ct: NfConn) -> bool:
    """An ASSURED entry that may go under pressure: TCP being closed. Linux: nf_conntrack_l4proto can_early_drop."""
    return ct.proto is not None and tcp_can_early_drop(ct)


class ConntrackTable:
    """All tracked connections of a namespace. `users`: how many rules and subsystems keep tracking switched on."""

    __slots__ = ("net", "table", "count", "stats", "users", "secret", "clash_resolution", "race_ns", "bysource",
                 "forget", "_heap", "_gc_when", "_seq", "_slots", "_pressed")

    def __init__(self, net: NetNamespace) -> None:
        self.net = net
        self.table: dict[Key, tuple[NfConn, int]] = {}
        self.count: int = 0
        self.stats: dict[str, int] = dict.fromkeys(STATS, 0)
        self.users: dict[int, int] = {}  # family -> uses
        self.secret: int = net.host.secret(f"conntrack/{net.name}")
        self.clash_resolution: int = 2  # 0: none (before 4.7); 1: same NAT only (before 5.7); 2: as now
        self.race_ns: int = 0  # > 0: packets this close together do not see each other's entry, as on two CPUs
        self.bysource: dict[Key, list[NfConn]] = {}  # original source -> connections, latest first (NAT)
        self.forget: list[Callable[[NfConn], None]] = []  # told of every entry that goes
        self._heap: list[tuple[int, int, NfConn]] = []
        self._gc_when: int = 0
        self._seq: int = 0
        self._slots: dict[int, list[NfConn]] | None = None
        self._pressed: bool = False  # gc_pressure() is on its way

    # -- finding

    def lookup(self, t: Tuple, zone: Zone = DEFAULT_ZONE) -> tuple[NfConn, int] | None:
        """The live connection with this tuple, and the direction it is of. Linux: __nf_conntrack_find_get()."""
        if zone.id == 0:
            return self._live(t)
        for direction in (ORIGINAL, REPLY):
            found = self._live(key_of(t, zone.of(direction)))
            if found is not None and found[1] == direction:
                return found
        return None

    def _live(self, key: Key) -> tuple[NfConn, int] | None:
        found = self.table.get(key)
        if found is not None and found[0].timeout <= self.net.loop.now:
            self.delete(found[0])
            return None
        return found

    def entries(self) -> list[NfConn]:
        """Every live connection, oldest first."""
        now = self.net.loop.now
        return [ct for ct, direction in self.table.values()
                if direction == REPLY and ct.timeout > now and not ct.status & IPS_NAT_CLASH]

    def find(self, *, saddr: int | None = None, sport: int | None = None, daddr: int | None = None,
             dport: int | None = None, proto: int | None = None) -> NfConn | None:
        """The first live connection whose original tuple has these values."""
        for ct in self.entries():
            have = ct.orig
            want = (saddr, sport, daddr, dport)
            if proto not in (None, have[4] & 0xFF):
                continue
            if all(w is None or w == h for w, h in zip(want, have[:4], strict=True)):
                return ct
        return None

    # -- changing

    def insert(self, ct: NfConn, reply_only: bool = False) -> None:
        """A confirmed connection is found from now on, in both directions. Linux: __nf_conntrack_hash_insert()."""
        if not reply_only:
            self.table[key_of(ct.orig, ct.zone.of(ORIGINAL))] = (ct, ORIGINAL)
        self.table[key_of(ct.reply, ct.zone.of(REPLY))] = (ct, REPLY)
        self.count += 1
        self.gc_add(ct)
        if self._slots is not None:
            self._slot_add(ct)

    def delete(self, ct: NfConn) -> bool:
        """The connection is gone, and its watchers know. False if it was already. Linux: nf_ct_delete()."""
        if ct.status & IPS_DYING:
            return False
        ct.status |= IPS_DYING
        for direction, t in enumerate(ct.tuples):
            key = key_of(t, ct.zone.of(direction))
            found = self.table.get(key)
            if found is not None and found[0] is ct:
                del self.table[key]
                if found[1] == REPLY:
                    self.count -= 1
        if self._slots is not None:
            self._slot_remove(ct)
        for forget in self.forget:
            forget(ct)
        if not ct.status & IPS_NAT_CLASH:
            self.tell("DESTROY", ct)
        return True

    def flush(self, wanted: Callable[[NfConn], bool] | None = None) -> int:
        """Delete every connection that is wanted gone. Linux: nf_ct_iterate_cleanup_net()."""
        everything = [ct for ct, direction in self.table.values() if direction == REPLY]
        gone = [ct for ct in everything if wanted is None or wanted(ct)]
        return sum([self.delete(ct) for ct in gone])

    def tell(self, event: str, ct: NfConn) -> None:
        """Watchers hear of it. Linux: nf_conntrack_eventmask_report()."""
        for watcher in list(self.net.watchers):
            watcher(event, ct)

    # -- time

    def gc_add(self, ct: NfConn) -> None:
        """The collector will look at this entry when its present timeout is over."""
        when = ct.gc_at = ct.timeout
        self._seq += 1
        heappush(self._heap, (when, self._seq, ct))
        if not self._gc_when or when < self._gc_when:
            self._gc_when = when
            self.net.loop.call_at(when, self.gc_worker, when)

    def gc_worker(self, when: int) -> None:
        """Entries whose time is over are gone; those that were refreshed meanwhile are looked at later. Linux:
        gc_worker()."""
        if when != self._gc_when:
            return  # an earlier event has taken over
        heap, now = self._heap, self.net.loop.now
        self._gc_when = 0
        while heap and heap[0][0] <= now:
            at, _, ct = heappop(heap)
            if ct.status & IPS_DYING or ct.gc_at != at:
                continue
            if ct.timeout <= now:
                self.delete(ct)
            else:
                self.gc_add(ct)
        if len(heap) > 64 and len(heap) > 4 * self.count:  # flushed or closed long before their time
            heap[:] = [item for item in heap if not item[2].status & IPS_DYING and item[2].gc_at == item[0]]
            heapify(heap)
        if heap and not self._gc_when:
            self._gc_when = heap[0][0]
            self.net.loop.call_at(self._gc_when, self.gc_worker, self._gc_when)

    # -- room

    def max95(self) -> int:
        """Down to this count the collector makes room; 0 (a limit below 100): never. Linux: nf_conntrack_max95."""
        return self.net.host.nf_conntrack_max // 100 * 95

    def gc_pressure(self, _: None) -> None:
        """After a drop the table loses what is not ASSURED or is being closed, down to 95 %; no more than one batch of
        the collector (257 entries on a 6.18 with HZ=250, so 65 with HZ=1000). Linux: gc_worker()."""
        self._pressed = False
        limit, left = self.max95(), GC_SCAN_EXPIRED_MAX + 1
        for ct, direction in list(self.table.values()):
            if not 0 < limit <= self.count or left == 0:
                return
            if direction == REPLY and (not ct.status & IPS_ASSURED or can_early_drop(ct)):
                self.delete(ct)
                left -= 1

    def bucket(self, t: Tuple) -> int:
        """The hash slot of a tuple. Linux: scale_hash(hash_conntrack_raw())."""
        return ((hash64(self.secret, *t) >> 32) * self.net.host.nf_conntrack_buckets) >> 32

    def early_drop(self, t: Tuple) -> bool:
        """Entries that are not ASSURED, in the first slot near this tuple that has any, are evicted. Linux:
        early_drop()."""
        if self._slots is None:
            self._slots = {}
            for ct, direction in self.table.values():
                if direction == REPLY:
                    self._slot_add(ct)
        buckets, now = self.net.host.nf_conntrack_buckets, self.net.loop.now
        start = self.bucket(t)
        for i in range(EVICTION_RANGE):
            drops = 0
            for ct in list(self._slots.get((start + i) % buckets, ())):
                if ct.timeout <= now:
                    self.delete(ct)
                elif not ct.status & (IPS_ASSURED | IPS_DYING) and self.delete(ct):
                    drops += 1
            if drops:
                self.stats["early_drop"] += drops
                return True
        if not self._pressed:
            self._pressed = True
            self.net.loop.call_later(GC_SCAN_INTERVAL_MAX, self.gc_pressure, None)
        return False

    def _slot_add(self, ct: NfConn) -> None:
        assert self._slots is not None
        for t in ct.tuples:
            self._slots.setdefault(self.bucket(t), []).append(ct)

    def _slot_remove(self, ct: NfConn) -> None:
        assert self._slots is not None
        for t in ct.tuples:
            slot = self._slots.get(self.bucket(t))
            if slot is not None and ct in slot:
                slot.remove(ct)
        if self.count * 2 < self.net.host.nf_conntrack_max:
            self._slots = None  # not crowded any more

    def conn_id(self, t: Tuple) -> int:
        """A number for `conntrack -o id`. Linux: nf_ct_get_id()."""
        return hash64(self.secret, self.net.loop.now, *t) & 0xFFFFFFFF


__all__ = ["IP4", "STATS", "ConntrackTable"]
