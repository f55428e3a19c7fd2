"""kube-proxy as a program on a node: it watches, waits its turn, and applies what the modes write.

    proxy = KubeProxy(loop, options, backend)
    proxy.start(store)            canaries, watches; the first sync comes when both lists have arrived
    proxy.pause(), proxy.resume() a kube-proxy that hangs: events pile up, the kernel keeps the old rules
    proxy.stop()                  the program is gone; its rules stay
    proxy.start(store, group)     the same, sharing its ears with other nodes' (group.py)

The backend is the node's kernel as seen through the tools a real kube-proxy runs, so that nothing here knows tables:

    restore(family, text) -> str         iptables-restore -w 5 --noflush --counters; "" or what it complained about
    run(family, argv) -> int             an iptables command; its exit status
    nat_chains(family) -> list           the chains `iptables-save -t nat` names
    delete_udp(family, is_stale) -> int  delete the UDP entries of conntrack for which is_stale(...) holds

When it syncs is schedule.py's. A sync that fails is tried again after syncPeriod, as a full one. After an hour without a
full sync there is one. Every syncPeriod the canary chains are looked at: when somebody flushed the tables they are gone,
and everything is written again.

simplified: a sync takes no time of its own (code never does here); `latency` delays what the watches say, for studying
what happens while rules are stale.

Source: pkg/proxy/iptables/proxier.go (syncRunner, forceSyncProxyRules), pkg/util/async BoundedFrequencyRunner,
pkg/util/iptables Monitor().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from kubenet.cluster.api.ips import AF_INET
from kubenet.cluster.api.views import Obj, ViewCache
from kubenet.cluster.proxy.base import CHAIN, ProxyMode, Step, SyncResult, ensure, find_mode
from kubenet.cluster.proxy.changes import Changes, ServiceName
from kubenet.cluster.proxy.health import health_ports
from kubenet.cluster.proxy.iptables import FULL_SYNC_PERIOD, canary_steps
from kubenet.cluster.proxy.options import ProxyOptions
from kubenet.cluster.proxy.schedule import NEVER, Clock, SyncSchedule, WatchableStore
from kubenet.units import MSEC, SEC

if TYPE_CHECKING:
    from kubenet.cluster.proxy.group import ProxyGroup
    from kubenet.cluster.proxy.health_server import HealthServer

FLUSH_POLL = 100 * MSEC
FLUSH_TIMEOUT = 5 * SEC

IsStale = Callable[[int, int, int, int], bool]


class Backend(Protocol):
    """The node's kernel through the tools kube-proxy runs. See the file's head."""

    def restore(self, family: int, text: str) -> str:
        """Feed iptables-restore --noflush --counters; "" or its complaint."""

    def run(self, family: int, argv: list[str]) -> int:
        """Run an iptables command; its exit status."""

    def nat_chains(self, family: int) -> list[str]:
        """The chains of the nat table."""

    def delete_udp(self, family: int, is_stale: IsStale) -> int:
        """Delete UDP entries of conntrack by (original dst, dport, reply src, sport); how many."""


class KubeProxy(SyncSchedule):
    """One node's kube-proxy: a proxier per address family, kept in step with the store and the kernel."""

    def __init__(
        self,
        loop: Clock,
        options: ProxyOptions,
        backend: Backend,
        families: Sequence[int] = (AF_INET,),
        mode: str = "iptables",
        latency: int = 0,
        views: ViewCache | None = None,
    ) -> None:
        super().__init__(loop, options.min_sync_period, latency)
        self.options = options
        self.backend = backend
        make = find_mode(mode)
        self.proxiers: list[ProxyMode] = [make(options, family, views) for family in families]
        self.group: ProxyGroup | None = None
        self.health: HealthServer | None = None
        """The health check ports; set by whoever gives the program a machine."""
        self.is_running = False
        self.failures = 0
        self.udp_entries_deleted = 0
        self.last_error = ""
        self.last_results: list[SyncResult] = []
        self.last_sync = NEVER
        """When the last sync that worked ended."""

    # Life

    def start(self, store: WatchableStore, group: ProxyGroup | None = None) -> None:
        """Run from now on; the canaries exist, the watches are open and the first sync is on its way."""
        self.is_running, self.is_paused = True, False
        self._generation += 1
        if group is not None:
            self.group = group
            group.join(self, store)
            return
        self.ensure_canaries()
        self.listen(store)
        self.later(self.options.sync_period, self._look_at_canaries)
        self.later(FULL_SYNC_PERIOD + 1, self._hourly)

    def leave_group(self) -> None:
        """From now on this proxy listens and writes for itself, from where the group is."""
        group = self.group
        if group is None:
            return
        for proxier in self.proxiers:
            self.backend.nat_chains(proxier.family)  # a look at the tables: deferred rules are written first
        self.group = None
        group.dismiss(self)
        self.take_place_of(group)
        self.later(group.canaries_at - self.loop.now, self._look_at_canaries)
        self.later(group.hourly_at - self.loop.now, self._hourly)

    def stop(self) -> None:
        """The program ended: no more syncs; the rules it wrote stay in the kernel."""
        self.leave_group()
        self.is_running = False
        self.stop_listening()
        if self.health is not None:
            self.health.close()

    def pause(self) -> None:
        """Hang: nothing is read or written until `resume()`."""
        self.leave_group()
        self.is_paused = True

    def resume(self) -> None:
        """Go on, beginning with what was missed."""
        self.is_paused = False
        for kind in self._watches:
            self._read(kind)
        if self._queued_since != NEVER:
            self.request_sync()

    @property
    def has_pending(self) -> bool:
        """Whether rules will still be written because of something that has happened already."""
        if not self.is_running or self.is_paused:
            return False
        return self.group.is_waiting() if self.group is not None else self.is_waiting()

    def is_healthy(self) -> bool:
        """Whether no update has waited for two sync periods (/healthz, without what it says of the node)."""
        since = self.group.waits_since() if self.group is not None else self._queued_since
        waiting = 0 if since == NEVER else self.loop.now - since
        return self.is_running and waiting < 2 * self.options.sync_period

    # Events and syncs

    def note(self, kind: str, obj: Obj, is_gone: bool) -> bool:
        """Every proxier hears of it."""
        old, new = (obj, None) if is_gone else (None, obj)
        has_work = False
        for proxier in self.proxiers:
            if kind == "Service":
                has_work |= proxier.on_service(old, new)
            elif kind == "EndpointSlice":
                has_work |= proxier.on_slice(old, new)
            else:
                has_work |= proxier.on_node(new)
        return has_work

    def force_full_sync(self) -> None:
        """Write everything, now."""
        self.leave_group()
        for proxier in self.proxiers:
            proxier.sync_failed()
        self._sync_at(self.loop.now)

    def carry_out(self) -> bool:
        """A sync of every family; if one fails, everything is written after syncPeriod."""
        self.last_results = []
        errors = [error for proxier in self.proxiers if (error := self._sync(proxier, self.loop.now, None))]
        if self.health is not None:
            self.sync_health({name: port for p in self.proxiers for name, port in health_ports(p.trackers.services.ports.values()).items()})
        return self._settle(errors)

    def carry_out_shared(self, now: int, changes: dict[int, Changes]) -> None:
        """A sync with what the group has taken over at `now`."""
        self.last_results = []
        errors = [error for proxier in self.proxiers if (error := self._sync(proxier, now, changes[proxier.family]))]
        if errors:
            self.leave_group()
        self._settle(errors)

    def sync_health(self, wanted: dict[ServiceName, int]) -> None:
        """The health check ports are those of the rules. At the end of every sync, even of one that failed."""
        if self.health is not None and (wanted or self.health.open):
            self.health.sync(wanted)

    def _settle(self, errors: list[str]) -> bool:
        self.last_error = "\n".join(errors)
        if errors:
            self.failures += 1
            self._sync_at(self.loop.now + self.options.sync_period)
        else:
            self.last_sync = self.loop.now
        return not errors

    def _sync(self, proxier: ProxyMode, now: int, changes: Changes | None) -> str:
        """One family's rules are in the kernel, or the complaint of the tool that failed."""
        family = proxier.family
        result = proxier.sync(self.backend.nat_chains(family), now, changes)
        self.last_results.append(result)
        steps = [step for jump in result.jumps for step in jump.steps()]
        failed = ensure(steps, self._runner(family), family)
        error = f"iptables failed: {' '.join(failed[0].argv(family=family))}" if failed else ""
        error = error or self.backend.restore(family, result.text)
        if error:
            proxier.sync_failed()
        else:
            self._clean_conntrack(proxier, result)
        return error

    def _clean_conntrack(self, proxier: ProxyMode, result: SyncResult) -> None:
        """UDP entries that lead to endpoints that serve no longer are gone."""
        has_gone = bool(result.gone_udp) and self.options.clean_empty_udp_services
        if not result.udp_endpoints_changed and not has_gone:
            return
        cleanup = proxier.udp_cleanup(result)
        if cleanup.has_work:
            self.udp_entries_deleted += self.backend.delete_udp(proxier.family, cleanup.is_stale)

    def _hourly(self, _: object) -> None:
        """One shared timer: an hour without a full sync is over (the proxier decides what is due)."""
        self.request_sync()
        self.later(FULL_SYNC_PERIOD + 1, self._hourly)

    # Canaries

    def ensure_canaries(self) -> None:
        """The empty chains that tell of a flush exist."""
        for proxier in self.proxiers:
            ensure(canary_steps(), self._runner(proxier.family), proxier.family)

    def _runner(self, family: int) -> Callable[[list[str]], int]:
        def run(argv: list[str]) -> int:
            return self.backend.run(family, argv)

        return run

    def _has_canary(self, family: int, step: Step) -> bool:
        return self.backend.run(family, step.argv("-S", family)) == 0

    def _look_at_canaries(self, _: object) -> None:
        """Every syncPeriod: the mangle table's canary tells whether somebody flushed everything."""
        if gone := self.families_without_canary():
            self._await_flush((gone, self.loop.now + FLUSH_TIMEOUT))
        else:
            self.later(self.options.sync_period, self._look_at_canaries)

    def families_without_canary(self) -> list[int]:
        """The families whose tables somebody has flushed."""
        mangle = canary_steps()[0]
        return [p.family for p in self.proxiers if not self.is_paused and not self._has_canary(p.family, mangle)]

    def found_flushed(self, families: list[int]) -> None:
        """A member's tables were flushed: it deals with that on its own."""
        self.leave_group()
        self._await_flush((families, self.loop.now + FLUSH_TIMEOUT))

    def _await_flush(self, state: tuple[list[int], int]) -> None:
        """Whoever flushes goes from table to table: wait until the other canaries are gone too, then write again."""
        families, deadline = state
        others = [step for step in canary_steps() if step.op == CHAIN][1:]
        is_flushed = not any(self._has_canary(family, step) for family in families for step in others)
        if not is_flushed and self.loop.now < deadline:
            self.later(FLUSH_POLL, self._await_flush, state)
            return
        self.force_full_sync()
        self.ensure_canaries()
        self.later(self.options.sync_period, self._look_at_canaries)
