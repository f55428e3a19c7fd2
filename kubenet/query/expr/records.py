"""What a question sees of one thing: a kind and named fields, each read from the emulation when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Fields = Mapping[str, Callable[[Any], Any]]


class Record:
    """One thing. `fields`: name -> function of the thing behind it, which questions cannot reach."""

    __slots__ = ("kind", "fields", "_thing")

    def __init__(self, kind: str, fields: Fields, thing: Any) -> None:
        self.kind = kind
        self.fields = fields
        self._thing = thing

    def get(self, name: str) -> Any:
        """The field's value now."""
        return self.fields[name](self._thing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and other._thing is self._thing

    __hash__ = None  # type: ignore[assignment]  # no place in a set, whose order would be that of addresses in memory

    def __repr__(self) -> str:
        return f"<{self.kind} " + " ".join(f"{name}={self.get(name)!r}" for name in self.fields) + ">"


class Counter(int):
    """A counter: its value is what it gained since the question was first asked, `.total` what it counted at all."""

    total: int

    @staticmethod
    def of(total: int, since: int) -> Counter:
        """The counter at `total`, looked at first when it was `since`."""
        counter = Counter(total - since)
        counter.total = total
        return counter
