r"""Neighbours: which MAC address the next hop has, and whether it still answers (NUD).

            packet, nothing known                   answer
    NONE ---------------------> INCOMPLETE ----------------> REACHABLE <--------------+
      ^                             | 3 requests unanswered      | 15-45 s (random)   | answer, or TCP
      |                             v                            v                    | progress
      +---- new packet ---------- FAILED <---- PROBE <-- DELAY <-- STALE              |
                                          3 unicast  5 s   packet   |                 |
                                             |______________________|_________________+

Packets wait in the entry while it is INCOMPLETE (unres_qlen_bytes, the oldest gives way). When nobody answers, each of
them goes to `error_report`, which sends ICMP host unreachable: to the sender of a forwarded packet, or to the local
socket. STALE entries are used at once and confirmed behind the back of the packet (DELAY, PROBE).

This file is the state machine alone; how one asks is `solicit` (arp.py). A timer runs in INCOMPLETE, REACHABLE, DELAY
and PROBE only, so idle neighbours cost nothing. Entries above gc_thresh3 (per machine) are refused: "neighbour table
overflow". simplified: gc_stale_time is not modelled below gc_thresh1, as entries are few. Sources: Linux
net/core/neighbour.c; RFC 4861 7.3; linux Documentation/networking/ip-sysctl.rst neigh/.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from kubenet.kernel.dev.device import (
    ETH_BROADCAST,
    IFF_LOOPBACK,
    IFF_NOARP,
    NETDEV_CHANGE,
    NETDEV_CHANGEADDR,
    NETDEV_DOWN,
    NETDEV_UNREGISTER,
    NetDevice,
    dev_queue_xmit,
    netdev_chain,
)
from kubenet.kernel.skbuff import DropReason, SkBuff, drop, station
from kubenet.sim.timer import Timer
from kubenet.units import MSEC, SEC
from kubenet.wire.ethernet import EthHdr

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

NUD_NONE, NUD_INCOMPLETE, NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE = 0, 1, 2, 4, 8, 0x10
NUD_FAILED, NUD_NOARP, NUD_PERMANENT = 0x20, 0x40, 0x80
NUD_CONNECTED = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE
NUD_VALID = NUD_CONNECTED | NUD_PROBE | NUD_STALE | NUD_DELAY
NUD_IN_TIMER = NUD_INCOMPLETE | NUD_REACHABLE | NUD_DELAY | NUD_PROBE
NUD_NAMES = {1: "INCOMPLETE", 2: "REACHABLE", 4: "STALE", 8: "DELAY", 0x10: "PROBE", 0x20: "FAILED", 0x40: "NOARP",
             0x80: "PERMANENT", 0: "NONE"}

REACHABLE_REDRAW = 300 * SEC
OVERFLOW = "neighbour: arp_cache: neighbor table overflow!"


class Neighbour:
    """One entry. ha: MAC; confirmed, updated, used: ns; dead: it was removed, ask the table again.

    Linux: struct neighbour.
    """

    __slots__ = ("table", "dev", "ip", "ha", "state", "confirmed", "updated", "used", "probes", "queue", "queue_bytes",
                 "timer", "dead")

    def __init__(self, table: NeighTable, dev: NetDevice, ip: int) -> None:
        now = table.net.loop.now
        self.table = table
        self.dev = dev
        self.ip = ip
        self.ha: int = 0
        self.state: int = NUD_NONE
        self.confirmed: int = now
        self.updated: int = now
        self.used: int = now
        self.probes: int = 0
        self.queue: deque[SkBuff] = deque()
        self.queue_bytes: int = 0
        self.timer: Timer | None = None
        self.dead: bool = False

    def __repr__(self) -> str:
        return f"<neigh {self.ip:#x} {self.dev.name} {NUD_NAMES[self.state]}>"


class NeighTable:
    """All neighbours of one namespace and family. Linux: struct neigh_table (arp_tbl)."""

    __slots__ = ("net", "family", "entries", "solicit", "error_report", "constructor", "proxies", "allocs", "lookups",
                 "table_fulls", "res_failed")

    def __init__(
        self,
        net: NetNamespace,
        family: int,
        solicit: Callable[[Neighbour, SkBuff | None], None],
        error_report: Callable[[SkBuff], None],
        constructor: Callable[[Neighbour], None],
    ) -> None:
        self.net = net
        self.family = family
        self.entries: dict[tuple[int, int], Neighbour] = {}  # (ifindex, address)
        self.solicit = solicit
        self.error_report = error_report
        self.constructor = constructor
        self.proxies: dict[tuple[int, int], bool] = {}  # `ip neigh add proxy`
        self.allocs: int = 0
        self.lookups: int = 0
        self.table_fulls: int = 0
        self.res_failed: int = 0

    def lookup(self, dev: NetDevice, ip: int) -> Neighbour | None:
        """The entry, if there is one. Linux: neigh_lookup()."""
        return self.entries.get((dev.ifindex, ip))

    def create(self, dev: NetDevice, ip: int) -> Neighbour | None:
        """The entry, made if need be; None when the machine's table is full. Linux: __neigh_create(), neigh_alloc()."""
        found = self.entries.get((dev.ifindex, ip))
        if found is not None:
            return found
        host = self.net.host
        _, thresh2, thresh3 = host.neigh_gc_thresh
        if host.neigh_count >= thresh2:
            self.forced_gc()
        if host.neigh_count >= thresh3:
            self.table_fulls += 1
            host.printk(OVERFLOW)
            return None
        neigh = Neighbour(self, dev, ip)
        self.constructor(neigh)
        self.entries[(dev.ifindex, ip)] = neigh
        if not neigh.state & (NUD_NOARP | NUD_PERMANENT):
            host.neigh_count += 1
        self.allocs += 1
        return neigh

    def forced_gc(self) -> None:
        """Entries nobody waits for are removed. Linux: neigh_forced_gc()."""
        now = self.net.loop.now
        for neigh in list(self.entries.values()):
            if neigh.state in (NUD_NONE, NUD_STALE, NUD_FAILED) and now - neigh.updated > 5 * SEC:
                self.remove(neigh)

    def remove(self, neigh: Neighbour) -> None:
        """The entry is gone and its waiting packets with it. Linux: neigh_release(), neigh_destroy()."""
        if self.entries.pop((neigh.dev.ifindex, neigh.ip), None) is None:
            return
        neigh.dead = True
        if neigh.timer is not None:
            neigh.timer.cancel()
        if not neigh.state & (NUD_NOARP | NUD_PERMANENT):
            self.net.host.neigh_count -= 1
        while neigh.queue:
            drop(neigh.queue.popleft(), DropReason.NEIGH_DEAD)

    def flush_dev(self, dev: NetDevice, keep_permanent: bool = False) -> None:
        """No entries of this device are left. Linux: neigh_ifdown(), neigh_changeaddr()."""
        for neigh in [n for n in self.entries.values() if n.dev is dev]:
            if not (keep_permanent and neigh.state & NUD_PERMANENT):
                self.remove(neigh)

    def dump(self) -> list[Neighbour]:
        """What `ip neigh` shows; NOARP entries only with `nud all`."""
        return list(self.entries.values())


def reachable_time(dev: NetDevice) -> int:
    """How long a confirmation holds on this device, ns: base x 0.5..1.5, drawn anew every 300 s.

    Linux: neigh_rand_reach_time().
    """
    now = dev.net.loop.now
    if now >= dev.reachable_until:
        base = dev.neigh_conf.base_reachable_time_ms * MSEC
        dev.reachable_time = base // 2 + dev.net.random(f"neigh {dev.name}").bits64() % base if base else 0
        dev.reachable_until = now + REACHABLE_REDRAW
    return dev.reachable_time


# -- using an entry --------------------------------------------------------------------------------------------------


def neigh_output(skb: SkBuff) -> int:
    """The packet has its Ethernet header and is sent, or waits for one. 0 or -errno.

    Linux: ip_finish_output2(), neigh_output().
    """
    dst = skb.dst
    neigh: Neighbour | None = dst.neigh
    if neigh is None or neigh.dead:
        neigh = skb.net.neigh[2].create(dst.dev, dst.nexthop)
        if neigh is None:
            drop(skb, DropReason.NEIGH_FAILED)
            return -105  # ENOBUFS
        dst.neigh = neigh
    dev = neigh.dev
    neigh.used = skb.net.loop.now
    if neigh.state & NUD_CONNECTED or not neigh_event_send(neigh, skb):
        skb.dev = dev
        skb.eth = EthHdr(neigh.ha, dev.addr, skb.protocol)
        return dev_queue_xmit(skb)
    return 0


def neigh_event_send(neigh: Neighbour, skb: SkBuff | None) -> bool:
    """A packet wants to use the entry. True: `skb` waits (or was dropped) here; False: send it.

    Linux: __neigh_event_send().
    """
    state = neigh.state
    now = neigh.table.net.loop.now
    if state & (NUD_CONNECTED | NUD_DELAY | NUD_PROBE):
        return False
    if state & NUD_STALE:
        neigh.state = NUD_DELAY
        neigh.updated = now
        _add_timer(neigh, now + neigh.dev.neigh_conf.delay_first_probe_time * SEC)
        return False
    if not state & NUD_INCOMPLETE:
        conf = neigh.dev.neigh_conf
        if conf.mcast_solicit + conf.app_solicit == 0:
            neigh.state = NUD_FAILED
            neigh.updated = now
            if skb is not None:
                drop(skb, DropReason.NEIGH_FAILED)
            return True
        neigh.probes = conf.ucast_solicit
        neigh.state = NUD_INCOMPLETE
        neigh.updated = now
        _add_timer(neigh, now + conf.retrans_time_ms * MSEC)
        if skb is not None:
            _enqueue(neigh, skb)
        neigh.probes += 1
        neigh.table.solicit(neigh, skb)
        return True
    if skb is not None:
        _enqueue(neigh, skb)
    return True


def _enqueue(neigh: Neighbour, skb: SkBuff) -> None:
    """The packet waits for the answer; the oldest ones give way when there are too many bytes."""
    if skb.tr is not None:
        station(skb, "neigh_event_send", f"waits for the MAC address of the next hop on {neigh.dev.name}")
    size = _truesize(skb)
    limit = neigh.dev.neigh_conf.unres_qlen_bytes
    while neigh.queue and neigh.queue_bytes + size > limit:
        old = neigh.queue.popleft()
        neigh.queue_bytes -= _truesize(old)
        drop(old, DropReason.NEIGH_QUEUEFULL)
    neigh.queue.append(skb)
    neigh.queue_bytes += size


def _truesize(skb: SkBuff) -> int:
    return skb.len + 768  # struct sk_buff and the head's rounding


def neigh_confirm(neigh: Neighbour) -> None:
    """Something above saw the neighbour answer (TCP got an ACK for new data).

    Linux: neigh_confirm(), dst_confirm_neigh().
    """
    neigh.confirmed = neigh.table.net.loop.now


# -- the state machine -----------------------------------------------------------------------------------------------


def _add_timer(neigh: Neighbour, when: int) -> None:
    if neigh.timer is None:
        neigh.timer = Timer(neigh.table.net.loop, neigh_timer_handler, neigh)
    neigh.timer.mod(when)


def neigh_timer_handler(neigh: Neighbour) -> None:
    """Time has passed in a state that does not last. Linux: neigh_timer_handler()."""
    now = neigh.table.net.loop.now
    conf = neigh.dev.neigh_conf
    delay = conf.delay_first_probe_time * SEC
    if neigh.state & NUD_REACHABLE:
        limit = neigh.confirmed + reachable_time(neigh.dev)
        if now < limit:
            return _add_timer(neigh, limit)
        neigh.updated = now
        if now <= neigh.used + delay:
            neigh.state = NUD_DELAY
            return _add_timer(neigh, now + delay)
        neigh.state = NUD_STALE
        return None
    if neigh.state & NUD_DELAY:
        neigh.updated = now
        if now <= neigh.confirmed + delay:
            neigh.state = NUD_REACHABLE
            return _add_timer(neigh, neigh.confirmed + reachable_time(neigh.dev))
        neigh.state = NUD_PROBE
        neigh.probes = 0
    elif not neigh.state & (NUD_PROBE | NUD_INCOMPLETE):
        return None
    most = conf.ucast_solicit + conf.app_solicit
    most += conf.mcast_resolicit if neigh.state & NUD_PROBE else conf.mcast_solicit
    if neigh.probes >= most:
        neigh.state = NUD_FAILED
        neigh.updated = now
        return neigh_invalidate(neigh)
    _add_timer(neigh, now + conf.retrans_time_ms * MSEC)
    neigh.probes += 1
    return neigh.table.solicit(neigh, neigh.queue[0] if neigh.queue else None)


def neigh_invalidate(neigh: Neighbour) -> None:
    """Nobody answered: every waiting packet is reported and dropped. Linux: neigh_invalidate(), arp_error_report()."""
    neigh.table.res_failed += 1
    queue, neigh.queue, neigh.queue_bytes = neigh.queue, deque(), 0
    for skb in queue:
        neigh.table.error_report(skb)
        drop(skb, DropReason.NEIGH_FAILED)


def neigh_update(neigh: Neighbour, lladdr: int | None, new: int, override: bool = False, admin: bool = False) -> None:
    """The entry is in state `new` with `lladdr`, where the rules allow that; waiting packets go out.

    override: a different known address may be replaced; admin: PERMANENT and NOARP too (`ip neigh`). Linux: __neigh_update().
    """
    now = neigh.table.net.loop.now
    old = neigh.state
    if not admin and old & (NUD_NOARP | NUD_PERMANENT):
        return
    if not new & NUD_VALID:
        if neigh.timer is not None:
            neigh.timer.cancel()
        neigh.state = new
        neigh.updated = now
        if old & (NUD_INCOMPLETE | NUD_PROBE) and new & NUD_FAILED:
            neigh_invalidate(neigh)
        return
    if lladdr is None:
        lladdr = neigh.ha
    if new & NUD_CONNECTED:
        neigh.confirmed = now
    if old & NUD_VALID:
        if lladdr != neigh.ha and not override:
            return
        if lladdr == neigh.ha and new == NUD_STALE and not admin:
            new = old
    if new != old or lladdr != neigh.ha:
        neigh.updated = now
    if new != old:
        _account(neigh, old, new)
        neigh.state = new
        if neigh.timer is not None:
            neigh.timer.cancel()
        if new & NUD_REACHABLE:
            _add_timer(neigh, now + reachable_time(neigh.dev))
        elif new & NUD_IN_TIMER:
            _add_timer(neigh, now)
    elif new & NUD_REACHABLE:
        pass  # the running timer sees `confirmed`
    if lladdr != neigh.ha:
        neigh.ha = lladdr
        if not new & NUD_CONNECTED:
            neigh.confirmed = now - 2 * neigh.dev.neigh_conf.base_reachable_time_ms * MSEC
    if not old & NUD_VALID:
        _send_queued(neigh)


def _account(neigh: Neighbour, old: int, new: int) -> None:
    """PERMANENT entries are not limited by gc_thresh."""
    fixed = NUD_NOARP | NUD_PERMANENT
    if bool(old & fixed) != bool(new & fixed):
        neigh.table.net.host.neigh_count += 1 if old & fixed else -1


def _send_queued(neigh: Neighbour) -> None:
    """The address is known: what waited goes out, in order."""
    queue, neigh.queue, neigh.queue_bytes = neigh.queue, deque(), 0
    dev = neigh.dev
    for skb in queue:
        skb.dev = dev
        skb.eth = EthHdr(neigh.ha, dev.addr, skb.protocol)
        dev_queue_xmit(skb)


def neigh_set_static(table: NeighTable, dev: NetDevice, ip: int, mac: int, state: int = NUD_PERMANENT) -> Neighbour:
    """`ip neigh replace IP lladdr MAC dev DEV nud STATE`."""
    neigh = table.create(dev, ip)
    if neigh is None:
        raise OSError(105, "No buffer space available")
    neigh_update(neigh, mac, state, override=True, admin=True)
    return neigh


def map_noarp(neigh: Neighbour, is_broadcast: bool, is_multicast: bool) -> bool:
    """True if the entry needs no asking: devices without ARP, broadcast, multicast. Linux: arp_constructor()."""
    dev = neigh.dev
    if dev.flags & (IFF_NOARP | IFF_LOOPBACK):
        neigh.ha = dev.addr
    elif is_multicast:
        neigh.ha = 0x01005E000000 | neigh.ip & 0x7FFFFF  # RFC 1112 6.4
    elif is_broadcast:
        neigh.ha = ETH_BROADCAST
    else:
        return False
    neigh.state = NUD_NOARP
    return True


def neigh_netdev_event(event: str, dev: NetDevice) -> None:
    """Neighbours follow their device. Linux: arp_netdev_event()."""
    for table in dev.net.neigh.values():
        if event == NETDEV_CHANGEADDR or (event == NETDEV_CHANGE and not dev.carrier):
            table.flush_dev(dev, keep_permanent=True)
        elif event in (NETDEV_DOWN, NETDEV_UNREGISTER):
            table.flush_dev(dev)


netdev_chain.append(neigh_netdev_event)
