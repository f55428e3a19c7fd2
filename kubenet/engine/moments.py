"""`until`, `step`, `goto`, `wait`: time that passes to a moment that is described, and back to one that was.

Each is a group of the journal as `run` is: a mark where it began, a mark where it ended. The question of an `until`, asked after every
event, is no input: a replay needs only the place where it came true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kubenet.errors import KubenetError, NotFoundError, NotReachedError, UsageError, WrongMomentError
from kubenet.query.crossings import Crossings
from kubenet.query.expr import Facts, Question, parse
from kubenet.query.expr.records import Absent
from kubenet.query.waiting import Wish
from kubenet.units import MSEC, SEC, format_ns

if TYPE_CHECKING:
    from kubenet.engine.service import Service

Header = dict[str, Any]

LOOK = 10 * MSEC  # between two looks at a question about time itself
STEP_PATIENCE = 60 * SEC  # virtual time that a step waits for a packet


class Until:
    """A question that is waited for: done() after every event. It remembers how near its left side came."""

    def __init__(self, question: Question, facts: Facts) -> None:
        self.question = question
        self.facts = facts
        self.error: KubenetError | None = None
        self.best: tuple[float, int] | None = None  # nearest value, and when it was first seen
        self.step = -1
        self.over = False

    def done(self) -> bool:
        """True once the answer is yes, or can never be given."""
        if self.over:
            return True
        try:
            self.over, number = self.question.look(self.facts)
        except KubenetError as error:
            self.error, self.over = error, True
            return True
        if number is not None and (self.best is None or self.question.nearer(number, self.best[0])):
            self.best = (number, self.facts.now)
        return self.over

    def answer(self, ok: bool, began: int) -> Header:
        """What goes back; nothing is looked at any more. NotReachedError if the time was up."""
        self.facts.close()
        if self.error is not None:
            raise self.error
        now = self.facts.now
        if ok:
            return {"now": now, "passed": now - began}
        seen = ""
        if self.best is not None:
            value = f"{self.best[0]:g}" if isinstance(self.best[0], float) else self.best[0]
            seen = f"; {self.question.extreme} value seen: {value} at {format_ns(self.best[1])}"
        raise NotReachedError(f"not reached within {(now - began) / SEC:g} virtual seconds{seen}",
                              why=f"still not so: {self.question.text}")


def until(service: Service, header: Header) -> Header | None:
    """Let time pass until an expression holds, at most `max_ns`. A name that is nobody's is refused before anything happens."""
    cluster = service.cluster
    question, facts = parse(header["expr"]), Facts(cluster, header.get("namespace", "default"))
    try:
        question.value(facts)
    except Absent:
        pass  # a socket that is not open yet
    except (UsageError, NotFoundError):
        facts.close()
        raise
    except KubenetError:
        pass  # a pod that does not run yet
    began = cluster.loop.now
    waiting = Until(question, facts)
    if waiting.done():
        return waiting.answer(True, began)  # nothing happens, so nothing is journaled
    service.join(header)
    service.wait(header, began + int(header["max_ns"]), waiting.done, lambda ok: waiting.answer(ok, began),
                 LOOK if question.reads_time else 0, exact=True)
    return None


def step(service: Service, header: Header) -> None:
    """Let the next `n` packets cross, or the next `n` events happen."""
    loop = service.cluster.loop
    count, began = int(header.get("n", 1)), loop.step
    crossings = Crossings(service.cluster)
    events = bool(header.get("events"))

    def done() -> bool:
        found = crossings.look()
        return loop.step - began >= count if events else found >= count

    def answer(ok: bool) -> Header:
        if not ok and not crossings.found and loop.step == began:
            raise NotReachedError("nothing happens any more", why=f"no event within {STEP_PATIENCE // SEC} virtual seconds")
        if not ok and not events and not crossings.found:
            raise NotReachedError(f"no packet crosses within {STEP_PATIENCE // SEC} virtual seconds", why="nobody sends anything",
                                  try_="kubenet step --events 1, or start something: kubenet exec client -- curl -s web")
        return {"now": loop.now, "step": loop.step, "events": loop.step - began, "crossings": crossings.json()}

    service.join(header)
    service.wait(header, loop.now + STEP_PATIENCE, done, answer, exact=True)


def goto(service: Service, header: Header) -> Header | None:
    """Let time pass up to `time`; or go back to it, and all that was done later never was."""
    loop, time = service.cluster.loop, int(header["time"])
    if time > loop.now:
        service.join(header)
        service.wait(header, time, lambda: loop.now >= time, lambda ok: {"now": loop.now, "step": loop.step, "undone": [], "cut": ""})
        return None
    if time == loop.now:
        return {"now": loop.now, "step": loop.step, "undone": [], "cut": ""}
    if service.engine.waits:
        raise WrongMomentError("a command is still running", try_="wait for it, or press Ctrl-C there")
    first, texts, cut = service.engine.moment(time)
    return {**service.rewind({"id": header["id"], "first": first, "time": time, "undone": texts, "cut": cut})}


class Objects:
    """Objects that are waited for, each until its wish is true; what was true once stays so. `delete` means this very one, by uid."""

    def __init__(self, service: Service, wish: Wish, wanted: list[tuple[str, tuple[str, str], str]]) -> None:
        self.store, self.wish = service.cluster.store, wish
        self.wanted = wanted
        self.met: list[int] = []
        self.version = -1
        self.error: KubenetError | None = None

    def done(self) -> bool:
        """True once every one is so. Asked after every event; looked at only if something was written."""
        if self.version != self.store.rv and self.error is None:
            self.version = self.store.rv
            try:
                self._look()
            except KubenetError as error:
                self.error = error
        return self.error is not None or len(self.met) == len(self.wanted)

    def _look(self) -> None:
        for index, (kind, key, uid) in enumerate(self.wanted):
            if index not in self.met:
                obj = self.store.get(kind, key)
                if self.wish.kind == "delete" and obj is not None and obj["metadata"]["uid"] != uid:
                    obj = None
                if self.wish.holds(obj):
                    self.met.append(index)

    def answer(self) -> Header:
        """Which are so, in the order in which they became it."""
        if self.error is not None:
            raise self.error
        return {"met": self.met, "now": self.store.clock.now}


def wait_for(service: Service, header: Header) -> Header | None:
    """Let time pass until all `objects` ([kind, namespace, name, uid]) are as `wish` says, at most `max_ns`."""
    waiting = Objects(service, Wish(header["wish"]), [(kind, (ns, name), uid) for kind, ns, name, uid in header["objects"]])
    if waiting.done() or int(header["max_ns"]) <= 0:
        return waiting.answer()
    service.join(header)
    service.wait(header, service.cluster.loop.now + int(header["max_ns"]), waiting.done, lambda ok: waiting.answer(), exact=True)
    return None


OPERATIONS: dict[str, Callable[[Any, Header], Header | None]] = {"until": until, "step": step, "goto": goto, "wait_for": wait_for}
