"""Tasks: programs that block like ordinary Python while the event loop runs everything else.

A task is a greenlet. It runs when an event resumes it and goes back to the hub (the greenlet that runs the loop) when it
waits; only sim/wait.py makes it wait. Kernel code runs in the hub and must not block. A switch pair costs 0.36 us at any
depth, so pod programs are unmodified blocking code. This file and wait.py are the only ones that know greenlet.

    task = spawn(loop, fn, *args, name="web/1")      starts WAKE_COST later
    current()                                        the task that runs now; raises outside of one
    task.kill()                                      raises Killed inside it at its next resumption
    task.join(timeout)                               waits, from another task, for its result

`ctx` is the user's: userland keeps its Process there. An exception that leaves a task is kept in `task.error` and given to
`on_exit`; it never ends the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import greenlet

from kubenet.sim.clock import EventLoop
from kubenet.units import USEC

WAKE_COST = 5 * USEC  # from a wake-up to the task's next instruction


class Killed(BaseException):
    """Raised inside a task that was killed. Programs must let it pass (it is not an Exception)."""


class Task:
    """One program counter with its own stack. States: ready or blocked, running, done."""

    __slots__ = ("loop", "name", "ctx", "done", "result", "error", "on_exit", "blocked_on", "until", "_greenlet", "_fn", "_args",
                 "_scheduled", "_pending", "_joiners", "frozen", "_held")

    def __init__(self, loop: EventLoop, fn: Callable[..., Any], args: tuple[Any, ...], name: str, ctx: Any) -> None:
        self.loop = loop
        self.name = name
        self.ctx = ctx
        self.done: bool = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.on_exit: Callable[[Task], None] | None = None
        self.blocked_on: str = "start"
        self.until: int = 0  # ns; when its wait will end by itself, 0: never
        self._fn = fn
        self._args = args
        self._greenlet: greenlet.greenlet | None = None
        self._scheduled: bool = False
        self._pending: BaseException | None = None
        self._joiners: list[Callable[[], None]] = []
        self.frozen: bool = False
        self._held: bool = False  # it would have run, but is frozen

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def schedule(self, delay: int = WAKE_COST) -> None:
        """Resume the task `delay` ns from now; once, however often it is asked for before."""
        if not self._scheduled and not self.done:
            self._scheduled = True
            self.loop.call_at(self.loop.now + delay, Task._resume, self)

    def interrupt(self, error: BaseException) -> None:
        """Raise `error` inside the task at its next resumption, which is soon: a signal, a kill."""
        if not self.done:
            self._pending = error
            self.schedule()

    def kill(self) -> None:
        """End the task: Killed is raised where it waits. Its finally-blocks run. A frozen one dies too, as in a frozen cgroup v2."""
        self.thaw()
        self.interrupt(Killed())

    def freeze(self) -> None:
        """The task does not run until thaw(); what wakes it meanwhile is remembered. Linux: the cgroup v2 freezer."""
        self.frozen = True

    def thaw(self) -> None:
        """A frozen task goes on."""
        self.frozen = False
        if self._held:
            self._held = False
            self.loop.call_soon(Task._resume, self)

    def join(self, timeout: int | None = None) -> Any:
        """From another task: wait until this one is done and return its result, or raise TimeoutError after `timeout` ns."""
        from kubenet.sim.wait import WaitQueue

        queue = WaitQueue(self.loop, f"join {self.name}")
        self._joiners.append(queue.wake)
        if not queue.until(lambda: self.done, timeout):
            raise TimeoutError(f"{self.name} still runs")
        return self.result

    def _resume(self) -> None:
        """The loop's event: run the task until it waits or ends."""
        if self.frozen and not self.done:
            self._held = True
            return
        self._scheduled = False
        if self.done:
            return
        if self._greenlet is None:
            self._greenlet = greenlet.greenlet(self._main)
        self._greenlet.parent = greenlet.getcurrent()
        _running.append(self)
        try:
            self._greenlet.switch()
        finally:
            _running.pop()

    def _main(self) -> None:
        try:
            if self._pending is not None:
                error, self._pending = self._pending, None
                raise error
            self.result = self._fn(*self._args)
        except Killed:
            self.error = None
        except BaseException as error:  # handed to on_exit, which prints it as the program's own traceback
            self.error = error
        self.done = True
        self.blocked_on = "done"
        if self.on_exit is not None:
            self.on_exit(self)
        for wake in self._joiners:
            wake()
        self._fn = _nothing
        self._args = ()

    def pause(self, what: str) -> None:
        """Go back to the hub until schedule() resumes this task. Only wait.py calls this."""
        self.blocked_on = what
        assert self._greenlet is not None and self._greenlet.parent is not None
        self._greenlet.parent.switch()
        if self._pending is not None:
            error, self._pending = self._pending, None
            raise error


_running: list[Task] = []


def _nothing(*_: Any) -> None:
    return None


def current() -> Task:
    """The task that is running. Raises RuntimeError in the hub, where nothing may block."""
    if not _running:
        raise RuntimeError("BUG: scheduling while atomic (kernel code or a timer tried to wait)")
    return _running[-1]


def current_or_none() -> Task | None:
    """The running task, or None in the hub (timers, softirq)."""
    return _running[-1] if _running else None


def spawn(loop: EventLoop, fn: Callable[..., Any], *args: Any, name: str = "task", ctx: Any = None) -> Task:
    """A new task that will call fn(*args) WAKE_COST from now."""
    task = Task(loop, fn, args, name, ctx)
    task.schedule()
    return task
