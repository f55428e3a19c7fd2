"""_thread: a thread is a task of the process. threading.py runs over this unchanged.

RLock and _local are left out on purpose: threading.py has both in Python for platforms without them. Only one task runs at a
time and switches happen only in system calls, so a lock that is free is taken without any.

Source: _thread in the Python manual, CPython Modules/_threadmodule.c.
"""

from __future__ import annotations

from typing import Any

from kubenet.sim.task import Killed, current
from kubenet.sim.wait import WaitQueue
from kubenet.userland.shims import proc

TIMEOUT_MAX = 9223372036.0
error = RuntimeError
_NO_QUEUE: Any = None


class lock:  # noqa: N801
    """A mutual exclusion lock."""

    __slots__ = ("_locked", "_queue", "__weakref__", "_serial")

    def __init__(self) -> None:
        self._locked = False
        self._queue: WaitQueue | None = None
        world = current().ctx.world
        world.lock_count += 1
        self._serial: int = world.lock_count

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        if not self._locked:
            self._locked = True
            return True
        if not blocking:
            return False
        p = proc()
        if self._queue is None:
            self._queue = WaitQueue(p.container.loop, "lock")
        limit = None if timeout == -1 else int(timeout * 1e9)
        return p.sys.wait_on(self._queue, self._take, limit)

    def _take(self) -> bool:
        if self._locked:
            return False
        self._locked = True
        return True

    def release(self) -> None:
        if not self._locked:
            raise RuntimeError("release unlocked lock")
        self._locked = False
        if self._queue is not None:
            self._queue.wake(exclusive=True)

    def locked(self) -> bool:
        return self._locked

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: Any) -> None:
        self.release()

    def _at_fork_reinit(self) -> None:
        self._locked = False

    acquire_lock, release_lock, locked_lock = acquire, release, locked

    def __hash__(self) -> int:
        return self._serial

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<{'locked' if self._locked else 'unlocked'} _thread.lock object at 0x7f{self._serial:010x}>"


LockType = lock
allocate_lock = allocate = lock


def _tids() -> dict[Any, int]:
    return proc().extra.setdefault("tids", {})  # type: ignore[no-any-return]


def get_ident() -> int:
    """A number for the running thread: the same in every run."""
    task = current()
    tids = _tids()
    number = tids.get(task)
    if number is None:
        p = task.ctx
        number = tids[task] = 140_000_000_000_000 + p.pid * 65536 + (0 if task is p.task else len(tids) + 1)
    return number


def get_native_id() -> int:
    return get_ident() % 65536 + proc().pid


def start_new_thread(function: Any, args: Any, kwargs: Any = None, /) -> int:
    """Run function(*args) in a thread; its identifier."""
    if not callable(function):
        raise TypeError("first arg must be callable")
    p = proc()
    p.extra.setdefault("tids", {})
    task = p.thread(_bootstrap, function, args, kwargs or {})
    number = 140_000_000_000_000 + p.pid * 65536 + len(_tids()) + 1
    _tids()[task] = number
    counter = p.extra.setdefault("thread_count", [0])
    counter[0] += 1
    return number


start_new = start_new_thread


def _bootstrap(function: Any, args: Any, kwargs: Any) -> None:
    task = current()
    p = task.ctx
    try:
        function(*args, **kwargs)
    except SystemExit:
        pass
    except Killed:
        raise
    except Exception as problem:
        from kubenet.userland.python import format_exception

        p.err(f"Exception ignored in thread started by: {function!r}\n{format_exception(p.world, problem)}")
    finally:
        if not p.done:
            p.extra["thread_count"][0] -= 1
            sentinel = p.extra.get("sentinels", {}).pop(task, None)
            if sentinel is not None and sentinel._locked:
                sentinel.release()
            p.extra["tids"].pop(task, None)
            if task in p.threads:
                p.threads.remove(task)


def _set_sentinel() -> lock:
    """A lock that is released when the running thread ends."""
    sentinel = lock()
    proc().extra.setdefault("sentinels", {})[current()] = sentinel
    return sentinel


def _count() -> int:
    return proc().extra.get("thread_count", [0])[0]  # type: ignore[no-any-return]


def exit() -> None:
    raise SystemExit


exit_thread = exit


def interrupt_main(signum: int = 2, /) -> None:
    proc().kill(signum)


def stack_size(size: int = 0, /) -> int:
    return 0


def exports() -> dict[str, Any]:
    """The names of _thread."""
    return {name: globals()[name] for name in (
        "TIMEOUT_MAX error lock LockType allocate_lock allocate get_ident get_native_id start_new_thread start_new _set_sentinel "
        "_count exit exit_thread interrupt_main stack_size").split()}
