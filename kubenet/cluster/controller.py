"""Controllers: watches, a keyed queue, and one function that makes the world as it should be.

    class EndpointSliceController(Controller):
        kinds = ("Service", "Pod")
        def keys_for(self, event): ...          which keys this change concerns; by default the object's own
        def reconcile(self, key): ...           level-triggered: look, compute, write the difference, remember nothing

The rules are client-go's workqueue: a key is queued once however often it is named; a key named while it is worked on
comes again afterwards; a reconcile that raises ApiError (a conflict, say) comes again after an exponential back-off, 5
ms to 1000 s; one that returns a number of ns comes again after that time. Each reconcile is one event of the loop, so
packets and other controllers run in between, and everything happens in virtual time.

`latency` is the lag between a write and the controller's noticing it (informer and queue). Raise it to open the
windows in which rules are stale; it is what the labs on rolling updates turn.

simplified: one worker per controller; no resync period, because no event is ever lost here.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubenet.cluster.api.status import ApiError
from kubenet.cluster.store import Clock, Event, Key, Store, Watch, key_of
from kubenet.units import MSEC, SEC

BACKOFF_BASE = 5 * MSEC
BACKOFF_MAX = 1000 * SEC
DEFAULT_LATENCY = 1 * MSEC


class Controller:
    """One control loop. Subclasses give `kinds`, `reconcile`, and `keys_for` if keys are not the objects' own."""

    name = ""
    kinds: tuple[str, ...] = ()

    def __init__(self, store: Store, clock: Clock | None = None, latency: int = DEFAULT_LATENCY) -> None:
        self.store = store
        self.clock = clock or store.clock
        self.latency = latency
        self._watches: list[Watch] = []
        self._queue: dict[Key, None] = {}
        self._failures: dict[Key, int] = {}
        self._due: dict[Key, int] = {}                # keys to come again, and when; the earliest wish wins
        self._pumping = False
        self._working = False

    # -- what subclasses write ------------------------------------------------------------------------------------

    def keys_for(self, event: Event) -> Iterable[Key]:
        """The keys to reconcile after this change."""
        return (key_of(event.obj),)

    def reconcile(self, key: Key) -> int | None:
        """The world is as it should be for this key; or ns until it should be looked at again. ApiError: try later."""
        raise NotImplementedError

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Watching, beginning with everything there is now."""
        for kind in self.kinds:
            watch = self.store.watch(kind)
            watch.wake = self._wake
            watch.durable = True
            self._watches.append(watch)
        self._wake()

    def stop(self) -> None:
        """No more watching; what is queued is dropped."""
        for watch in self._watches:
            watch.close()
        self._watches.clear()
        self._queue.clear()
        self._due.clear()

    def enqueue(self, key: Key) -> None:
        """The key will be reconciled once, soon."""
        self._queue[key] = None
        self._schedule()

    def enqueue_after(self, key: Key, delay: int) -> None:
        """The key will be reconciled in `delay` ns, or earlier if something else asks for it."""
        when = self.clock.now + delay
        if self._due.get(key, when + 1) > when:
            self._due[key] = when
            self.clock.call_at(when, self._fire, (key, when))

    @property
    def idle(self) -> bool:
        """True if nothing is queued and nothing is to be noticed (timers for later do not count)."""
        return not self._queue and not any(w.pending() for w in self._watches)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._pumping:
            self._pumping = True
            self.clock.call_at(self.clock.now + self.latency, self._pump, None)

    def _pump(self, _: object) -> None:
        """Turn what was noticed into queued keys."""
        self._pumping = False
        for watch in self._watches:
            for event in watch.poll():
                for key in self.keys_for(event):
                    self._queue[key] = None
        self._schedule()

    def _schedule(self) -> None:
        if self._queue and not self._working:
            self._working = True
            self.clock.call_soon(self._work, None)

    def _work(self, _: object) -> None:
        self._working = False
        if not self._queue:
            return
        key = next(iter(self._queue))
        del self._queue[key]
        self._due.pop(key, None)
        try:
            again = self.reconcile(key)
        except ApiError:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            again = min(BACKOFF_BASE << min(failures, 20), BACKOFF_MAX)
        else:
            self._failures.pop(key, None)
        if again is not None:
            self.enqueue_after(key, max(again, 1))
        self._schedule()

    def _fire(self, what: tuple[Key, int]) -> None:
        """A wish to come again, if it has not been overtaken."""
        key, when = what
        if self._due.get(key) == when:
            del self._due[key]
            self.enqueue(key)
