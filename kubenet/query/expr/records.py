"""What a question sees of one thing: a kind and named fields, each read from the emulation when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kubenet.errors import KubenetError
from kubenet.units import MSEC

Fields = Mapping[str, Callable[[Any], Any]]


class Absent(KubenetError):
    """The question is about something that is not there now."""

    exit_code = 3


class Record:
    """One thing. `fields`: name -> function of the thing behind it, which questions cannot reach; `methods`: what of it they may call."""

    __slots__ = ("kind", "fields", "methods", "_thing")

    def __init__(self, kind: str, fields: Fields, thing: Any, methods: Sequence[str] = ()) -> None:
        self.kind = kind
        self.fields = fields
        self.methods = methods
        self._thing = thing

    def method(self, name: str) -> Callable[..., Any]:
        """One of the methods."""
        if name not in self.methods:
            raise KeyError(name)
        function: Callable[..., Any] = getattr(self._thing, name)
        return function

    def get(self, name: str) -> Any:
        """The field's value now."""
        return self.fields[name](self._thing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and other._thing is self._thing

    __hash__ = None  # type: ignore[assignment]  # no place in a set, whose order would be that of addresses in memory

    def __repr__(self) -> str:
        return f"<{self.kind} " + " ".join(f"{name}={self.get(name)!r}" for name in self.fields) + ">"


class Series(list[Record]):
    """Packets in the order of time. Questions may ask .first, .last (None of none) and .gaps_ms, the times between them."""

    FIELDS: Fields = {
        "first": lambda found: found[0] if found else None, "last": lambda found: found[-1] if found else None,
        "gaps_ms": lambda found: [(b.get("t") - a.get("t")) / MSEC for a, b in zip(found, found[1:], strict=False)],
    }


class Counter(int):
    """A counter: its value is what it gained since the question was first asked, `.total` what it counted at all."""

    total: int

    @staticmethod
    def of(total: int, since: int) -> Counter:
        """The counter at `total`, looked at first when it was `since`."""
        counter = Counter(total - since)
        counter.total = total
        return counter
