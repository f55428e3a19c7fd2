"""The one wait queue under every blocking call.

    queue.until(predicate, timeout)   check, wait, check again, ... ; True when it holds, False when time ran out
    queue.wake()                      readiness may have changed: waiters look again, as events, never by direct switch
    queue.wake(exclusive=True)        wakes one task (accept), as WQ_FLAG_EXCLUSIVE does
    queue.add(fn) / remove(fn)        the other kind of waiter: a callback at once, for epoll's ready list

A wake is an event WAKE_COST later, so a system call never runs inside another's transmit path. Sources:
Linux's wait_event_interruptible() and __wake_up_common(); trio's ParkingLot for the shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kubenet.sim.clock import EventLoop
from kubenet.sim.task import Task, current


class _Alarm:
    """The end of one timed wait. Firing after the wait is over does nothing."""

    __slots__ = ("task", "fired", "over")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.fired = False
        self.over = False

    def fire(self, _: object = None) -> None:
        if not self.over:
            self.fired = True
            self.task.schedule(0)


class WaitQueue:
    """Tasks and callbacks that want to know when something changes. `name` says what, for deadlock reports."""

    __slots__ = ("loop", "name", "_tasks", "_callbacks")

    def __init__(self, loop: EventLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self._tasks: list[Task] = []
        self._callbacks: list[Callable[[], None]] = []

    def until(self, predicate: Callable[[], object], timeout: int | None = None) -> bool:
        """Wait until predicate() is true; False if it is not after `timeout` ns (None: for ever, 0: do not wait)."""
        if predicate():
            return True
        if timeout == 0:
            return False
        return wait_any((self,), predicate, timeout)

    def wake(self, exclusive: bool = False) -> None:
        """Let the waiters look again: all of them, or the first waiting task only."""
        for callback in self._callbacks:
            callback()
        for task in self._tasks:
            if exclusive and task._scheduled:
                continue  # already on its way to take something else from the queue
            task.schedule()
            if exclusive:
                return

    def add(self, callback: Callable[[], None]) -> None:
        """Call `callback` at every wake, in the hub, at once."""
        self._callbacks.append(callback)

    def remove(self, callback: Callable[[], None]) -> None:
        """Undo add(). No error if it is not there."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    @property
    def has_waiters(self) -> bool:
        """True if someone would notice a wake."""
        return bool(self._tasks or self._callbacks)


def wait_any(queues: Sequence[WaitQueue], predicate: Callable[[], object], timeout: int | None = None) -> bool:
    """Wait on several queues at once (select, poll); as WaitQueue.until()."""
    if predicate():
        return True
    if timeout == 0:
        return False
    task = current()
    alarm = _Alarm(task)
    if timeout is not None:
        task.until = task.loop.now + timeout
        task.loop.call_at(task.until, alarm.fire)
    for queue in queues:
        queue._tasks.append(task)
    what = queues[0].name if queues else "sleep"
    try:
        while True:
            task.pause(what)
            if predicate():
                return True
            if alarm.fired:
                return False
    finally:
        alarm.over = True
        task.until = 0
        for queue in queues:
            queue._tasks.remove(task)


def sleep(loop: EventLoop, ns: int) -> None:
    """Block the running task for `ns` of virtual time."""
    wait_any((), _never, max(ns, 1))


def _never() -> bool:
    return False
