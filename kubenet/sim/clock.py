"""Virtual time: one event queue, and a clock that jumps from event to event.

An event is a function and one argument. Events run in the order (time, insertion): those of a later instant wait
in a heap, those of the present instant in a deque, because most packets are handed on within the instant and a
deque costs a tenth of a heap. Time is int nanoseconds since the cluster's boot and passes only between events.

    loop.call_soon(fn, arg)          this instant, after what is queued
    loop.call_at(when, fn, arg)      later; a `when` in the past means now
    loop.run(until=..., events=...)  until a time, a number of events, loop.stop(), or nothing is left

`step` counts executed events. Together with `now` it is a position in the run: inputs are journaled at (step, now)
and enter only between events, so a replay meets each of them at the same place. How `run` is cut into slices, or
paced against a wall clock by its caller, never changes the order.

Timers do not cancel heap entries; they re-check when they fire (sim/timer.py). A run that never leaves one instant
is a livelock (a broadcast storm, two programs waking each other): after `instant_cap` events it stops and names the
functions that ran. Python's cyclic garbage collector is an event like any other: it runs every GC_STEPS steps and
never in between, since a collected socket sends a FIN and must do so at the same step in every run.
"""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from kubenet.errors import StuckError
from kubenet.units import format_ns

Event = Callable[[Any], object]

IDLE = 0  # nothing left to do
UNTIL = 1  # the time was reached
BUDGET = 2  # the number of events was used up
STOPPED = 3  # loop.stop() was called

FOREVER = 1 << 62
GC_STEPS = 1 << 17
INSTANT_CAP = 1_000_000


class EventLoop:
    """The queue of events and the virtual clock. One per cluster; single-threaded."""

    __slots__ = ("now", "step", "instant_cap", "gc_steps", "storm_hints", "_heap", "_soon", "_seq", "_stop", "_instant",
                 "_instant_step", "_next_gc", "tracer", "ledger", "ids")

    def __init__(self) -> None:
        self.now: int = 0
        self.step: int = 0
        self.instant_cap: int = INSTANT_CAP
        self.gc_steps: int = GC_STEPS
        self.storm_hints: list[Callable[[], str]] = []  # who can explain a livelock ("broadcast storm on cni0")
        self._heap: list[tuple[int, int, Event, Any]] = []
        self._soon: deque[tuple[Event, Any]] = deque()
        self._seq: int = 0
        self._stop: bool = False
        self._instant: int = 0
        self._instant_step: int = 0
        self._next_gc: int = GC_STEPS
        from kubenet.sim.ledger import Ledger
        from kubenet.sim.trace import Tracer

        self.ledger: Ledger = Ledger()
        self.tracer: Tracer = Tracer()
        self.ids: int = 0  # packet ids, one sequence for the whole cluster

    def call_soon(self, fn: Event, arg: Any = None) -> None:
        """Run fn(arg) in this instant, after everything already queued for it."""
        self._soon.append((fn, arg))

    def call_at(self, when: int, fn: Event, arg: Any = None) -> None:
        """Run fn(arg) at time `when` (ns), after everything queued for that instant so far."""
        if when <= self.now:
            self._soon.append((fn, arg))
        else:
            self._seq += 1
            heappush(self._heap, (when, self._seq, fn, arg))

    def call_later(self, delay: int, fn: Event, arg: Any = None) -> None:
        """Run fn(arg) `delay` ns from now."""
        self.call_at(self.now + delay, fn, arg)

    def next_time(self) -> int:
        """The time of the next event; FOREVER if there is none."""
        if self._soon:
            return self.now
        return self._heap[0][0] if self._heap else FOREVER

    def pending(self) -> int:
        """How many events are queued."""
        return len(self._soon) + len(self._heap)

    def stop(self) -> None:
        """End run() after the present event: what its caller waits for has happened."""
        self._stop = True

    def run(self, until: int = FOREVER, events: int = FOREVER) -> int:
        """Execute events up to time `until` or `events` of them; returns IDLE, UNTIL, BUDGET or STOPPED.

        After UNTIL the clock stands at `until`, although no event may have happened there. Raises StuckError when one
        instant takes more than `instant_cap` events.
        """
        heap, soon = self._heap, self._soon
        left = events
        self._stop = False
        while left > 0:
            if heap and heap[0][0] <= self.now:
                _, _, fn, arg = heappop(heap)
            elif soon:
                fn, arg = soon.popleft()
            elif heap and heap[0][0] <= until:
                self.now, _, fn, arg = heappop(heap)
            elif until != FOREVER:
                if until > self.now:
                    self.now = until
                return UNTIL
            else:
                return IDLE
            self.step += 1
            left -= 1
            fn(arg)
            if self._stop:
                return STOPPED
            if self.step >= self._next_gc:
                self._housekeeping()
        return BUDGET

    def run_until(self, done: Callable[[], bool], deadline: int = FOREVER) -> bool:
        """Execute events until done() or the virtual time `deadline`; True if done() holds."""
        while not done():
            if self.next_time() > deadline:
                self.run(deadline)
                return done()
            if self.run(deadline, events=1) == IDLE:
                return done()
        return True

    def _housekeeping(self) -> None:
        """Every gc_steps steps: collect garbage here and nowhere else, and notice an instant that never ends."""
        self._next_gc = self.step + self.gc_steps
        gc.collect()
        if self.now != self._instant:
            self._instant, self._instant_step = self.now, self.step
        elif self.step - self._instant_step > self.instant_cap:
            raise self._livelock()

    def _livelock(self) -> StuckError:
        names = Counter(getattr(fn, "__qualname__", repr(fn)) for fn, _ in self._soon)
        busiest = ", ".join(f"{name} x{count}" for name, count in names.most_common(4))
        hints = [text for hint in self.storm_hints if (text := hint())]
        self._soon.clear()
        return StuckError(
            f"livelock: over {self.instant_cap} events at one instant, {format_ns(self.now)}",
            why="; ".join([*hints, f"queued: {busiest or 'nothing'}"]),
            try_="kubenet topo   (look for a loop of bridges, or a program that wakes itself)",
        )
