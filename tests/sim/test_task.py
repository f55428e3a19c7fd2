"""Tasks wait only through a wait queue, are woken as events, and end cleanly."""

from __future__ import annotations

import pytest

from kubenet.sim.clock import EventLoop
from kubenet.sim.ledger import BATCH, Ledger
from kubenet.sim.rng import hash64, keyed, stream
from kubenet.sim.task import WAKE_COST, Killed, current, spawn
from kubenet.sim.wait import WaitQueue, sleep, wait_any


def test_a_wait_ends_when_its_predicate_holds(loop: EventLoop) -> None:
    queue, box, log = WaitQueue(loop, "box"), [], []

    def consumer() -> None:
        assert queue.until(lambda: box)
        log.append((loop.now, box.pop()))

    def producer() -> None:
        sleep(loop, 1000)
        box.append("x")
        queue.wake()

    spawn(loop, consumer, name="consumer")
    spawn(loop, producer, name="producer")
    loop.run()
    assert log == [(WAKE_COST + 1000 + WAKE_COST, "x")]


def test_a_wait_times_out_exactly(loop: EventLoop) -> None:
    queue, log = WaitQueue(loop, "never"), []

    def waiter() -> None:
        log.append((queue.until(lambda: False, 700), loop.now))
        log.append((queue.until(lambda: False, 0), loop.now))

    spawn(loop, waiter)
    loop.run()
    assert log == [(False, WAKE_COST + 700), (False, WAKE_COST + 700)]


def test_exclusive_wake_resumes_one(loop: EventLoop) -> None:
    """WQ_FLAG_EXCLUSIVE: one connection, one accept() returns."""
    queue, items, got = WaitQueue(loop, "accept"), [], []

    def worker(name: str) -> None:
        queue.until(lambda: items)
        got.append((name, items.pop(0)))

    for name in "abc":
        spawn(loop, worker, name, name=name)
    loop.run()
    for number in (1, 2):
        items.append(number)
        queue.wake(exclusive=True)
    loop.run()
    assert got == [("a", 1), ("b", 2)]


def test_waiting_on_several_queues(loop: EventLoop) -> None:
    one, two, log = WaitQueue(loop, "one"), WaitQueue(loop, "two"), []
    ready: list[int] = []

    def poller() -> None:
        wait_any((one, two), lambda: ready, None)
        log.append(list(ready))

    spawn(loop, poller)
    loop.run()
    ready.append(2)
    two.wake()
    loop.run()
    assert log == [[2]] and not one.has_waiters and not two.has_waiters


def test_a_kill_runs_finally_blocks(loop: EventLoop) -> None:
    log: list[str] = []

    def victim() -> None:
        try:
            sleep(loop, 10**9)
        except Exception:  # a program that catches everything it may catch
            log.append("caught")
        finally:
            log.append("finally")

    task = spawn(loop, victim)
    loop.run(until=100_000)
    task.kill()
    loop.run(until=200_000)
    assert task.done and task.error is None and log == ["finally"]


def test_a_task_killed_before_it_began_never_runs(loop: EventLoop) -> None:
    log: list[str] = []
    task = spawn(loop, log.append, "ran")
    task.kill()
    loop.run()
    assert task.done and log == []


def test_an_uncaught_exception_stays_in_its_task(loop: EventLoop) -> None:
    def broken() -> None:
        raise ValueError("oops")

    task = spawn(loop, broken)
    loop.run()
    assert task.done and isinstance(task.error, ValueError)


def test_nothing_may_wait_in_the_hub(loop: EventLoop) -> None:
    with pytest.raises(RuntimeError, match="scheduling while atomic"):
        current()
    with pytest.raises(RuntimeError, match="scheduling while atomic"):
        WaitQueue(loop, "q").until(lambda: False)


def test_join_hands_over_the_result(loop: EventLoop) -> None:
    log: list[object] = []
    worker = spawn(loop, lambda: (sleep(loop, 50), 42)[1])
    spawn(loop, lambda: log.append(worker.join()))
    loop.run()
    assert log == [42]


def test_killed_is_not_an_exception() -> None:
    assert not issubclass(Killed, Exception)


def test_the_digest_does_not_depend_on_when_it_is_asked_for() -> None:
    quiet, curious = Ledger(), Ledger()
    for number in range(3 * BATCH + 17):
        line = (number, "dev", "x" * (number % 5))
        quiet.add(line)
        curious.add(line)
        if number % 100 == 0:
            curious.digest()
    assert quiet.digest() == curious.digest() and quiet.lines() == 3 * BATCH + 17


def test_the_digest_sees_every_line() -> None:
    one, two = Ledger(), Ledger()
    one.add((1, "a"))
    one.add((2, "b"))
    two.add((2, "b"))
    two.add((1, "a"))
    assert one.digest() != two.digest()


def test_a_stream_belongs_to_its_names() -> None:
    """A draw for one purpose never moves another."""
    first = [stream(7, "node-1", "isn").bits64() for _ in range(3)]
    assert len(set(first)) == 1
    other = stream(7, "node-1", "ports")
    mine = stream(7, "node-1", "isn")
    for _ in range(10):
        other.bits64()
    assert mine.bits64() == first[0]
    assert keyed(7, "a", "bc") != keyed(7, "ab", "c") and keyed(7, "a") != keyed(8, "a")


def test_dice_are_fair_enough() -> None:
    """10,000 draws of six faces: chi-square with 5 degrees of freedom stays below 20.5 (p = 0.001)."""
    dice, counts = stream(1, "dice"), [0] * 6
    for _ in range(10_000):
        counts[dice.below(6)] += 1
    assert sum((c - 10_000 / 6) ** 2 / (10_000 / 6) for c in counts) < 20.5


def test_hash64_depends_on_every_argument_and_the_key() -> None:
    seen = {hash64(k, a, b) for k in range(8) for a in range(8) for b in (0, 1, 1 << 80)}
    assert len(seen) == 8 * 8 * 3
