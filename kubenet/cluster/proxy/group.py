"""kube-proxies that hear the same at the same time: they listen once, and a node's rules are written when they are needed.

    group = ProxyGroup(loop, options, views=views)
    for node in nodes:
        proxy.start(store, group)                   all at the same instant, with equal options
        nf_defer(net, lambda: group.catch_up(proxy))

A thousand nodes would read a thousand copies of every event and write millions of rules, of which packets meet a few
hundred. So the events are noted once, in trackers that all members share, and one sync of the group is a sync of every
member: carried out at once where the rules have been made, and remembered where nobody has looked yet (`rounds`). The
first look makes the rules as the syncs that took place would have left them, byte for byte (a test compares).

The group's events are the same whoever has looked, so that looking moves no step of the loop. A proxy that differs from
the others (paused, stopped, flushed tables, a restore that fails, new topology labels) leaves the group for good.

Kept rounds: one, the present state, except in a large cluster, where stale chains stay for a sync period; then all since the
last sync that deleted them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from kubenet.cluster.api.ips import AF_INET
from kubenet.cluster.api.views import Obj, ViewCache
from kubenet.cluster.proxy.changes import Changes, Trackers
from kubenet.cluster.proxy.health import health_ports
from kubenet.cluster.proxy.iptables import FULL_SYNC_PERIOD, LARGE_CLUSTER_ENDPOINTS, Cadence, IptablesProxier
from kubenet.cluster.proxy.options import ProxyOptions
from kubenet.cluster.proxy.schedule import Clock, SyncSchedule, WatchableStore

if TYPE_CHECKING:
    from kubenet.cluster.proxy.controller import KubeProxy


class Round(NamedTuple):
    """One sync of the group: when, what had changed, and all that was known after it."""

    now: int
    changes: dict[int, Changes]
    trackers: dict[int, Trackers]


class ProxyGroup(SyncSchedule):
    """The common ears and clock of its members."""

    def __init__(self, loop: Clock, options: ProxyOptions, families: Sequence[int] = (AF_INET,), latency: int = 0,
                 views: ViewCache | None = None) -> None:
        super().__init__(loop, options.min_sync_period, latency)
        self.options = options
        self.trackers = {family: Trackers(family, options.allow_external_ips, views) for family in families}
        self.cadence = {family: Cadence() for family in families}
        self.members: dict[str, KubeProxy] = {}
        self.cold: dict[str, KubeProxy] = {}
        """Those whose rules nobody has looked at."""
        self.rounds: list[Round] = []
        self.canaries_at = 0
        self.hourly_at = 0

    def takes(self, options: ProxyOptions, latency: int) -> bool:
        """Whether a proxy with these options that starts now hears and does what the members do."""
        mine, now = self.options, self.loop.now
        return self.syncs == 0 and self.canaries_at in (0, now + mine.sync_period) and latency == self.latency and (
            mine.min_sync_period, mine.sync_period, mine.allow_external_ips) == (
            options.min_sync_period, options.sync_period, options.allow_external_ips)

    def join(self, proxy: KubeProxy, store: WatchableStore) -> None:
        """The proxy hears with the others; the first member opens the watches."""
        if not self.members:
            self.listen(store)
            self._plan_canaries()
            self._plan_hourly()
        self.members[proxy.options.node_name] = self.cold[proxy.options.node_name] = proxy
        for proxier in proxy.proxiers:
            assert isinstance(proxier, IptablesProxier)
            proxier.trackers = self.trackers[proxier.family]

    def dismiss(self, proxy: KubeProxy) -> None:
        """The proxy goes its own way with all that is known now."""
        del self.members[proxy.options.node_name]
        for proxier in proxy.proxiers:
            assert isinstance(proxier, IptablesProxier)
            proxier.trackers = self.trackers[proxier.family].copy()

    # Events and syncs

    def note(self, kind: str, obj: Obj, is_gone: bool) -> bool:
        """The shared trackers hear of it; new topology labels are one member's own affair."""
        old, new = (obj, None) if is_gone else (None, obj)
        if kind != "Node":
            has_work = False
            for trackers in self.trackers.values():
                tracker = trackers.services if kind == "Service" else trackers.slices
                has_work |= tracker.update(old, new)
            return has_work
        member = self.members.get(obj["metadata"]["name"])
        if member is not None and not is_gone and self._has_moved(member, obj):
            member.leave_group()
            if member.note(kind, obj, False):
                member.request_sync()
        return False

    def _has_moved(self, member: KubeProxy, node: Obj) -> bool:
        labels = node["metadata"].get("labels") or {}
        there = {key: value for key, value in labels.items() if key.startswith("topology.kubernetes.io/")}
        return any(isinstance(p, IptablesProxier) and p.topology != there for p in member.proxiers)

    def carry_out(self) -> bool:
        """A sync of every member."""
        now = self.loop.now
        changes = {family: trackers.apply() for family, trackers in self.trackers.items()}
        self._remember(now, changes)
        for name, member in list(self.members.items()):
            member.syncs += 1
            if name in self.cold:
                member.last_sync = now
            else:
                member.carry_out_shared(now, changes)
        wanted = {name: port for t in self.trackers.values() for name, port in health_ports(t.services.ports.values()).items()}
        for member in list(self.members.values()):
            member.sync_health(wanted)
        return True

    def _remember(self, now: int, changes: dict[int, Changes]) -> None:
        """Keep what a member needs to catch up: the present state, and earlier ones if they left stale chains behind."""
        clean = True
        for family, trackers in self.trackers.items():
            is_large, cadence = trackers.count_endpoints() > LARGE_CLUSTER_ENDPOINTS, self.cadence[family]
            if self.syncs == 0 or cadence.needs_full(now, is_large):
                cadence.last_full = now
            clean = cadence.cleans(now, is_large, self.options.sync_period) and clean
        if clean or not self.cold:
            self.rounds = []
        if self.cold:
            self.rounds.append(Round(now, changes, {family: trackers.copy() for family, trackers in self.trackers.items()}))

    def catch_up(self, proxy: KubeProxy) -> None:
        """The proxy's canaries and rules are in the kernel, as the syncs so far would have left them."""
        self.cold.pop(proxy.options.node_name, None)
        proxy.ensure_canaries()
        for number, (now, changes, trackers) in enumerate(self.rounds):
            for proxier in proxy.proxiers:
                assert isinstance(proxier, IptablesProxier)
                proxier.trackers = trackers[proxier.family]
            known = {family: t.everything() for family, t in trackers.items()}
            proxy.carry_out_shared(now, changes if number else known)
        for proxier in proxy.proxiers:
            assert isinstance(proxier, IptablesProxier)
            proxier.trackers = self.trackers[proxier.family]
            cadence = self.cadence[proxier.family]
            proxier.cadence = Cadence(cadence.last_full, cadence.last_cleanup)

    # What every member does now and then: one timer for all

    def _plan_canaries(self) -> None:
        self.canaries_at = self.loop.now + self.options.sync_period
        self.later(self.options.sync_period, self._look_at_canaries)

    def _look_at_canaries(self, _: object) -> None:
        self._plan_canaries()
        for name, member in list(self.members.items()):
            if name not in self.cold and (gone := member.families_without_canary()):
                member.found_flushed(gone)

    def _plan_hourly(self) -> None:
        self.hourly_at = self.loop.now + FULL_SYNC_PERIOD + 1
        self.later(FULL_SYNC_PERIOD + 1, self._hourly)

    def _hourly(self, _: object) -> None:
        self.request_sync()
        self._plan_hourly()
