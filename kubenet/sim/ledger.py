"""The ledger: what always happens is folded into one digest, whoever watches.

One line per frame that reaches a device of another host or namespace, per dropped packet, per system call that returned and
per write to the object store. A line is a tuple of ints and strings: times, names, lengths, addresses, flags, sequence numbers;
never payload bytes, never an address in memory. Two runs are the same run when their digests are equal: under any
PYTHONHASHSEED, paced or fast, live or replayed, traced or not.

Lines are collected and folded into blake2b every BATCH lines, by count, so asking for the digest moves nothing.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable
from hashlib import blake2b

Line = tuple[int | str, ...]
BATCH = 1024


class Ledger:
    """Append lines with add(); read digest() at any time."""

    __slots__ = ("count", "_lines", "_folded", "_hash", "add", "keep")

    def __init__(self) -> None:
        self.count: int = 0
        self.keep: list[Line] | None = None  # tests set a list to look at the lines themselves
        self._hash = blake2b(digest_size=16)
        self._lines: list[Line] = []
        self._folded: list[Line] = []  # the batch before
        self.add: Callable[[Line], None] = self._add

    def _add(self, line: Line) -> None:
        self._lines.append(line)
        if len(self._lines) >= BATCH:
            self._fold()

    def _fold(self) -> None:
        self._hash.update(_bytes(self._lines))
        self.count += len(self._lines)
        if self.keep is not None:
            self.keep.extend(self._lines)
        self._folded, self._lines = self._lines, []

    def lines(self) -> int:
        """How many lines there are so far."""
        return self.count + len(self._lines)

    def newest(self, count: int) -> list[Line]:
        """The last `count` lines, at most BATCH. Asking changes nothing."""
        return [*self._folded, *self._lines][-count:] if count > len(self._lines) else self._lines[-count:]

    def recent(self) -> list[Line]:
        """The lines not folded yet, and all kept ones."""
        return [*(self.keep or []), *self._lines]

    def digest(self) -> str:
        """32 hex digits over every line so far. Asking changes nothing."""
        h = self._hash.copy()
        if self._lines:
            h.update(_bytes(self._lines))
        return h.hexdigest()


def _bytes(lines: list[Line]) -> bytes:
    """Version 0 of marshal has no references and no interning: equal lines give equal bytes."""
    return b"".join([marshal.dumps(line, 0) for line in lines])
