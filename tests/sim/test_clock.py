"""Virtual time: order (time, insertion), jumps, positions, livelocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.errors import StuckError
from kubenet.sim.clock import BUDGET, IDLE, STOPPED, UNTIL, EventLoop
from kubenet.sim.timer import Timer


def test_events_run_in_order_of_time_then_insertion(loop: EventLoop) -> None:
    seen: list[str] = []
    loop.call_at(20, seen.append, "c")
    loop.call_at(10, seen.append, "a")
    loop.call_at(10, seen.append, "b")
    assert loop.run() == IDLE
    assert seen == ["a", "b", "c"] and loop.now == 20 and loop.step == 3


def test_an_event_queued_for_now_runs_after_those_already_due(loop: EventLoop) -> None:
    seen: list[str] = []

    def first(_: object) -> None:
        loop.call_soon(seen.append, "soon")
        seen.append("first")

    loop.call_at(5, first)
    loop.call_at(5, seen.append, "second")
    loop.run()
    assert seen == ["first", "second", "soon"]


def test_the_past_means_now(loop: EventLoop) -> None:
    seen: list[int] = []
    loop.call_at(100, lambda _: loop.call_at(7, lambda _: seen.append(loop.now)))
    loop.run()
    assert seen == [100]


def test_run_until_a_time_leaves_later_events_alone(loop: EventLoop) -> None:
    seen: list[int] = []
    for t in (10, 20, 30):
        loop.call_at(t, seen.append, t)
    assert loop.run(until=20) == UNTIL
    assert seen == [10, 20] and loop.now == 20
    assert loop.run(until=25) == UNTIL and loop.now == 25 and loop.step == 2


def test_a_budget_and_a_stop_end_between_events(loop: EventLoop) -> None:
    for t in range(5):
        loop.call_at(t, lambda _: None)
    assert loop.run(events=2) == BUDGET and loop.step == 2
    loop.call_at(10, lambda _: loop.stop())
    loop.call_at(10, lambda _: None)
    assert loop.run() == STOPPED and loop.pending() == 1


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3)), max_size=40), st.integers(1, 7))
def test_slices_never_change_the_order(plan: list[tuple[int, int]], slice_: int) -> None:
    """However run() is cut up, the same events happen at the same times."""

    def record(cut: int | None) -> list[tuple[int, int]]:
        loop = EventLoop()
        log: list[tuple[int, int]] = []

        def event(item: tuple[int, int]) -> None:
            log.append((loop.now, item[0]))
            if item[1]:
                loop.call_at(loop.now + item[1] - 1, event, (item[0] + 100, item[1] - 1))

        for number, (when, more) in enumerate(plan):
            loop.call_at(when, event, (number, more))
        if cut is None:
            loop.run()
        else:
            while loop.run(events=cut) != IDLE:
                pass
        return log

    assert record(slice_) == record(None)


def test_an_endless_instant_is_named(loop: EventLoop) -> None:
    loop.instant_cap, loop.gc_steps, loop._next_gc = 1000, 500, 500

    def storm(_: object) -> None:
        loop.call_soon(storm)

    loop.storm_hints.append(lambda: "broadcast storm on cni0")
    loop.call_soon(storm)
    with pytest.raises(StuckError, match="livelock") as caught:
        loop.run()
    assert "storm" in caught.value.why and "cni0" in caught.value.why


def test_a_timer_fires_once_at_its_last_setting(loop: EventLoop) -> None:
    fired: list[int] = []
    timer = Timer(loop, lambda _: fired.append(loop.now), None)
    timer.mod(50)
    timer.mod(5000)
    timer.mod(300)
    loop.run()
    assert fired == [300] and not timer.pending


def test_a_cancelled_timer_stays_silent_until_set_again(loop: EventLoop) -> None:
    fired: list[int] = []
    timer = Timer(loop, lambda _: fired.append(loop.now), None)
    timer.mod(50)
    timer.cancel()
    loop.run(until=100)
    assert fired == []
    timer.mod(200)
    loop.run(until=1000)
    assert fired == [200]


@given(st.lists(st.one_of(st.integers(1, 100), st.none()), min_size=1, max_size=20))
def test_a_lazy_timer_equals_an_eager_one(moves: list[int | None]) -> None:
    """Each step of 10 ns sets (relative), or cancels, the timer; a model that scans every ns must agree."""
    loop = EventLoop()
    fired: list[int] = []
    timer = Timer(loop, lambda _: fired.append(loop.now), None)
    expected: list[int] = []
    due: int | None = None
    for number, move in enumerate(moves):
        at = number * 10
        loop.run(until=at)
        for t in range(at - 9, at + 1):
            if due is not None and t == due:
                expected.append(t)
                due = None
        if move is None:
            timer.cancel()
            due = None
        else:
            timer.mod(at + move)
            due = at + move
    loop.run()
    if due is not None:
        expected.append(due)
    assert fired == expected
