"""When kube-proxy reads its watches, and when it writes: what one node's proxy and a group of them have in common.

    schedule.listen(store)      the watches are open; the first sync comes when both lists have arrived
    schedule.request_sync()     a sync as soon as minSyncPeriod allows

A subclass says what to do with what was heard (`note`) and with a sync that is due (`carry_out`). At least minSyncPeriod
passes between the end of one sync and the start of the next; what arrives meanwhile is taken along.

Source: pkg/util/async BoundedFrequencyRunner, pkg/proxy/config.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from kubenet.cluster.api.status import ApiError
from kubenet.cluster.api.views import Obj

WATCHED = ("Service", "EndpointSlice", "Node")
NEVER = -1


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

    def copy(self) -> EventSource:
        """Another reader at the same place."""

    def close(self) -> None:
        """No more of them."""


class WatchableStore(Protocol):
    """Where the watches come from."""

    def watch(self, kind: str) -> Any:
        """An EventSource that begins with the present state as ADDED events."""


class SyncSchedule:
    """Watches, what was heard of them, and the time of the next sync."""

    def __init__(self, loop: Clock, min_sync_period: int, latency: int) -> None:
        self.loop = loop
        self.min_sync_period = min_sync_period
        self.latency = latency
        self.is_paused = False
        self.syncs = 0
        self._watches: dict[str, EventSource] = {}
        self._known: dict[str, dict[tuple[str, str], Obj]] = {}
        """Objects by kind, as last heard; a kind is there once its first list has arrived."""
        self._store: WatchableStore | None = None
        self._due = NEVER
        self._last_end = NEVER
        self._queued_since = NEVER
        self._generation = 0

    # What a subclass does

    def note(self, kind: str, obj: Obj, is_gone: bool) -> bool:
        """Take in one change; true if a sync has something to do."""
        raise NotImplementedError

    def carry_out(self) -> bool:
        """A sync is due: do it; false if it did not work and nothing is settled."""
        raise NotImplementedError

    # Watches

    def listen(self, store: WatchableStore) -> None:
        """Open the watches."""
        self._store = store
        for kind in WATCHED:
            self._open(kind)
            self.later(self.latency, self._read, kind)

    def stop_listening(self) -> None:
        """Close the watches and forget what they said; nothing that was planned happens any more."""
        self._generation += 1
        self._due = NEVER
        for watch in self._watches.values():
            watch.close()
        self._watches = {}
        self._known = {}

    def take_place_of(self, other: SyncSchedule) -> None:
        """Listen from where `other` is now, with its next sync and what it waits for planned here, too."""
        self._store = other._store
        self._known = {kind: dict(known) for kind, known in other._known.items()}
        self._last_end, self._queued_since = other._last_end, other._queued_since
        for kind, watch in other._watches.items():
            self._watches[kind] = watch.copy()
            self._watches[kind].wake = self._waker(kind)
            self.later(self.latency, self._read, kind)
        if other._due != NEVER:
            self._sync_at(other._due)

    def later(self, delay: int, fn: Callable[[Any], object], arg: Any = None) -> None:
        """Call fn(arg) after `delay` ns, unless the program has been stopped by then."""
        self.loop.call_at(self.loop.now + delay, self._if_current, (self._generation, fn, arg))

    def _if_current(self, call: tuple[int, Callable[[Any], object], Any]) -> None:
        generation, fn, arg = call
        if generation == self._generation:
            fn(arg)

    def _waker(self, kind: str) -> Callable[[], object]:
        def wake() -> None:
            self.later(self.latency, self._read, kind)

        return wake

    def _open(self, kind: str) -> None:
        assert self._store is not None, "listen() was called"
        watch: EventSource = self._store.watch(kind)
        watch.wake = self._waker(kind)
        self._watches[kind] = watch

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
            has_work = self.note(kind, obj, is_gone) or has_work
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

    # Syncs

    def is_waiting(self) -> bool:
        """Whether rules will still be written because of something that has happened already."""
        return self._due != NEVER or self.syncs == 0 or any(watch.pending() for watch in self._watches.values())

    def waits_since(self) -> int:
        """When the oldest update that is in no sync yet was heard; NEVER if there is none."""
        return self._queued_since

    def request_sync(self) -> None:
        """A sync will run as soon as minSyncPeriod allows; nothing happens before both lists are known."""
        if "Service" not in self._known or "EndpointSlice" not in self._known:
            return
        if self._queued_since == NEVER:
            self._queued_since = self.loop.now
        earliest = 0 if self._last_end == NEVER else self._last_end + self.min_sync_period
        self._sync_at(max(self.loop.now, earliest))

    def _sync_at(self, when: int) -> None:
        if self._due == NEVER or when < self._due:
            self._due = when
            self.later(when - self.loop.now, self._run, when)

    def _run(self, when: int) -> None:
        if when != self._due:
            return  # an earlier one took over
        self._due = NEVER
        if self.is_paused:
            return  # resume() asks again
        worked = self.carry_out()
        self.syncs += 1
        self._last_end = self.loop.now
        if worked:
            self._queued_since = NEVER
