"""kube-proxy as a program on a node: it watches, waits its turn, and applies what the modes write.

    proxy = KubeProxy(loop, options, backend)
    proxy.start(store)            canaries, watches; the first sync comes when both lists have arrived
    proxy.pause(), proxy.resume() a kube-proxy that hangs: events pile up, the kernel keeps the old rules
    proxy.stop()                  the program is gone; its rules stay

The backend is the node's kernel as seen through the tools a real kube-proxy runs, so that nothing here knows tables:

    restore(family, text) -> str         iptables-restore -w 5 --noflush --counters; "" or what it complained about
    run(family, argv) -> int             an iptables command; its exit status
    nat_chains(family) -> list           the chains `iptables-save -t nat` names
    delete_udp(family, is_stale) -> int  delete the UDP entries of conntrack for which is_stale(...) holds

At least minSyncPeriod passes between the end of one sync and the start of the next; what arrives meanwhile is taken
along. A sync that fails is tried again after syncPeriod, as a full one. After an hour without a full sync there is one.
Every syncPeriod the canary chains are looked at: when somebody flushed the tables they are gone, and everything is
written again.

simplified: a sync takes no time of its own (code never does here); `latency` delays what the watches say, for studying
what happens while rules are stale.

Source: pkg/proxy/iptables/proxier.go (syncRunner, forceSyncProxyRules), pkg/util/async BoundedFrequencyRunner,
pkg/util/iptables Monitor().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from kubenet.cluster.api.ips import AF_INET
from kubenet.cluster.api.status import ApiError
from kubenet.cluster.api.views import Obj, ViewCache
from kubenet.cluster.proxy.base import CHAIN, ProxyMode, Step, SyncResult, ensure, find_mode
from kubenet.cluster.proxy.iptables import FULL_SYNC_PERIOD, canary_steps
from kubenet.cluster.proxy.options import ProxyOptions
from kubenet.units import MSEC, SEC

WATCHED = ("Service", "EndpointSlice", "Node")
FLUSH_POLL = 100 * MSEC
FLUSH_TIMEOUT = 5 * SEC
NEVER = -1

IsStale = Callable[[int, int, int, int], bool]


class Clock(Protocol):
    """What is needed of the event loop."""

    @property
    def now(self) -> int:
        """Virtual time in ns."""

    def call_at(self, when: int, fn: Callable[[Any], object], arg: Any = None) -> None:
        """Run fn(arg) at that time."""


class WatchEvent(Protocol):
    """One change in the store."""

    @property
    def type(self) -> str:
        """ADDED, MODIFIED or DELETED."""

    @property
    def obj(self) -> dict[str, Any]:
        """The object after it, or the last state of a deleted one."""


class EventSource(Protocol):
    """One kind's watch."""

    wake: Callable[[], object] | None

    def poll(self) -> Sequence[WatchEvent]:
        """The events since the last call."""

    def pending(self) -> bool:
        """Whether `poll()` would return something."""

    def close(self) -> None:
        """No more of them."""


class WatchableStore(Protocol):
    """Where the watches come from."""

    def watch(self, kind: str) -> Any:
        """An EventSource that begins with the present state as ADDED events."""


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


class KubeProxy:
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
        self.loop = loop
        self.options = options
        self.backend = backend
        self.latency = latency
        make = find_mode(mode)
        self.proxiers: list[ProxyMode] = [make(options, family, views) for family in families]
        self.is_running = False
        self.is_paused = False
        self.syncs = 0
        self.failures = 0
        self.udp_entries_deleted = 0
        self.last_error = ""
        self.last_results: list[SyncResult] = []
        self.last_sync = NEVER
        """When the last sync that worked ended."""
        self._watches: dict[str, EventSource] = {}
        self._known: dict[str, dict[tuple[str, str], Obj]] = {}
        """Objects by kind, as last heard; a kind is there once its first list has arrived."""
        self._store: WatchableStore | None = None
        self._due = NEVER
        self._last_end = NEVER
        self._queued_since = NEVER
        self._generation = 0

    # Life

    def start(self, store: WatchableStore) -> None:
        """Run from now on; the canaries exist, the watches are open and the first sync is on its way."""
        self.is_running, self.is_paused = True, False
        self._store = store
        self._generation += 1
        self._ensure_canaries()
        for kind in WATCHED:
            self._open(kind)
            self._later(self.latency, self._read, kind)
        self._later(self.options.sync_period, self._look_at_canaries)
        self._later(FULL_SYNC_PERIOD + 1, self._hourly)

    def stop(self) -> None:
        """The program ended: no more syncs; the rules it wrote stay in the kernel."""
        self.is_running = False
        self._generation += 1
        self._due = NEVER
        for watch in self._watches.values():
            watch.close()
        self._watches = {}
        self._known = {}

    def pause(self) -> None:
        """Hang: nothing is read or written until `resume()`."""
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
        return self._due != NEVER or self.syncs == 0 or any(watch.pending() for watch in self._watches.values())

    def is_healthy(self) -> bool:
        """Whether no update has waited for two sync periods (/healthz, without what it says of the node)."""
        waiting = 0 if self._queued_since == NEVER else self.loop.now - self._queued_since
        return self.is_running and waiting < 2 * self.options.sync_period

    # Events

    def _later(self, delay: int, fn: Callable[[Any], object], arg: Any = None) -> None:
        """Call fn(arg) after `delay` ns, unless the program has been stopped by then."""
        self.loop.call_at(self.loop.now + delay, self._if_current, (self._generation, fn, arg))

    def _if_current(self, call: tuple[int, Callable[[Any], object], Any]) -> None:
        generation, fn, arg = call
        if generation == self._generation:
            fn(arg)

    def _waker(self, kind: str) -> Callable[[], object]:
        def wake() -> None:
            self._later(self.latency, self._read, kind)

        return wake

    def _read(self, kind: str) -> None:
        """Take over what a watch has to say; the first time it is the whole list."""
        if self.is_paused or kind not in self._watches:
            return
        is_first = kind not in self._known
        known = self._known.setdefault(kind, {})
        has_work = is_first
        for obj, is_gone in self._poll(kind, known):
            meta = obj["metadata"]
            key = (meta.get("namespace", ""), meta["name"])
            if is_gone:
                known.pop(key, None)
            else:
                known[key] = obj
            has_work = self._note(kind, obj, is_gone) or has_work
        if has_work:
            self.request_sync()

    def _poll(self, kind: str, known: dict[tuple[str, str], Obj]) -> list[tuple[Obj, bool]]:
        """What happened, as (object, whether it is gone). A watch that fell too far behind starts over with a list."""
        try:
            return [(event.obj, event.type == "DELETED") for event in self._watches[kind].poll()]
        except ApiError as error:
            if error.code != 410:
                raise
        self._open(kind)
        listed = [event.obj for event in self._watches[kind].poll()]
        here = {(obj["metadata"].get("namespace", ""), obj["metadata"]["name"]) for obj in listed}
        return [(obj, True) for key, obj in known.items() if key not in here] + [(obj, False) for obj in listed]

    def _open(self, kind: str) -> None:
        assert self._store is not None, "start() was called"
        watch: EventSource = self._store.watch(kind)
        watch.wake = self._waker(kind)
        self._watches[kind] = watch

    def _note(self, kind: str, obj: Obj, is_gone: bool) -> bool:
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

    # Syncs

    def request_sync(self) -> None:
        """A sync will run as soon as minSyncPeriod allows; nothing happens before both lists are known."""
        if "Service" not in self._known or "EndpointSlice" not in self._known:
            return
        if self._queued_since == NEVER:
            self._queued_since = self.loop.now
        earliest = 0 if self._last_end == NEVER else self._last_end + self.options.min_sync_period
        self._sync_at(max(self.loop.now, earliest))

    def force_full_sync(self) -> None:
        """Write everything, now."""
        for proxier in self.proxiers:
            proxier.sync_failed()
        self._sync_at(self.loop.now)

    def _sync_at(self, when: int) -> None:
        if self._due == NEVER or when < self._due:
            self._due = when
            self._later(when - self.loop.now, self._run, when)

    def _run(self, when: int) -> None:
        if when != self._due:
            return  # an earlier one took over
        self._due = NEVER
        if self.is_paused:
            return  # resume() asks again
        self.last_results = []
        errors = [error for proxier in self.proxiers if (error := self._sync(proxier))]
        self.syncs += 1
        self._last_end = self.loop.now
        self.last_error = "\n".join(errors)
        if errors:
            self.failures += 1
            self._sync_at(self.loop.now + self.options.sync_period)
        else:
            self.last_sync = self.loop.now
            self._queued_since = NEVER

    def _sync(self, proxier: ProxyMode) -> str:
        """One family's rules are in the kernel, or the complaint of the tool that failed."""
        family = proxier.family
        result = proxier.sync(self.backend.nat_chains(family), self.loop.now)
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
        self._later(FULL_SYNC_PERIOD + 1, self._hourly)

    # Canaries

    def _ensure_canaries(self) -> None:
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
        mangle = canary_steps()[0]
        gone = [p.family for p in self.proxiers if not self.is_paused and not self._has_canary(p.family, mangle)]
        if gone:
            self._await_flush((gone, self.loop.now + FLUSH_TIMEOUT))
        else:
            self._later(self.options.sync_period, self._look_at_canaries)

    def _await_flush(self, state: tuple[list[int], int]) -> None:
        """Whoever flushes goes from table to table: wait until the other canaries are gone too, then write again."""
        families, deadline = state
        others = [step for step in canary_steps() if step.op == CHAIN][1:]
        is_flushed = not any(self._has_canary(family, step) for family in families for step in others)
        if not is_flushed and self.loop.now < deadline:
            self._later(FLUSH_POLL, self._await_flush, state)
            return
        self.force_full_sync()
        self._ensure_canaries()
        self._later(self.options.sync_period, self._look_at_canaries)
