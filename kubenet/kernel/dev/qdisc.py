"""The queue in front of a network card, as `tc -s qdisc` shows it.

A card without a rate limit never queues, so a queue is only a set of numbers: the link computes at send time when the
wire will be free, which frame waits and which one finds the queue full, and keeps count here. pfifo_fast holds 1000
packets (txqueuelen). simplified: one band instead of three, because nothing here sets a priority that would matter.

Source: Linux net/sched/sch_generic.c (pfifo_fast), Documentation tc-pfifo_fast(8).
"""

from __future__ import annotations

from collections import deque


class PfifoFast:
    """`waiting`: the times at which the queued frames will leave, oldest first; those in the past are gone."""

    __slots__ = ("kind", "waiting", "backlog_max", "bytes", "packets", "drops", "overlimits", "requeues")

    def __init__(self) -> None:
        self.kind: str = "pfifo_fast"
        self.waiting: deque[int] = deque()
        self.backlog_max: int = 0
        self.bytes: int = 0
        self.packets: int = 0
        self.drops: int = 0
        self.overlimits: int = 0
        self.requeues: int = 0

    def qlen(self, now: int) -> int:
        """How many frames wait at time `now`."""
        waiting = self.waiting
        while waiting and waiting[0] <= now:
            waiting.popleft()
        return len(waiting)

    def enqueue(self, leaves: int, size: int) -> None:
        """A frame of `size` bytes will leave at time `leaves`."""
        self.waiting.append(leaves)
        self.packets += 1
        self.bytes += size
        if len(self.waiting) > self.backlog_max:
            self.backlog_max = len(self.waiting)
