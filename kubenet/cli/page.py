"""A page of `Label:   value` lines, as `kubectl describe` lays them out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubenet.cli.render import table

Obj = dict[str, Any]
NONE = "<none>"


class Page:
    """Lines of `Label:   value`, with values aligned within the page's top level."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str] | str] = []

    def field(self, label: str, value: Any) -> None:
        """One label with its value."""
        self.rows.append((label + ":", str(value) if value not in ("", None) else NONE))

    def fields(self, label: str, values: Iterable[str]) -> None:
        """One label with several values, one a line."""
        first, *rest = list(values) or [NONE]
        self.rows.append((label + ":", first))
        self.rows += [("", value) for value in rest]

    def block(self, label: str, lines: Iterable[str]) -> None:
        """A label, and below it indented lines."""
        self.rows.append(label + ":")
        self.rows += ["  " + line for line in lines]

    def facts(self, label: str, facts: Iterable[tuple[str, Any]]) -> None:
        """A label, and below it names with their values, aligned."""
        found = [(name + ":", str(value)) for name, value in facts if value not in (None, "")]
        width = max([len(name) for name, _ in found], default=0) + 2
        self.block(label, [f"{name:{width}}{value}" for name, value in found] or [NONE])

    def table(self, label: str, rows: list[list[Any]]) -> None:
        """A label, and below it a table; `<none>` beside it if only the heading is there."""
        if len(rows) < 2:
            self.field(label, NONE)
            return
        head = rows[0]
        self.block(label, table([head, ["-" * len(str(h)) for h in head], *rows[1:]]).splitlines())

    def text(self) -> str:
        """The page."""
        width = max(len(row[0]) for row in self.rows if isinstance(row, tuple)) + 2
        return "\n".join(row if isinstance(row, str) else (row[0].ljust(width) + row[1]).rstrip() for row in self.rows)


def pairs(values: Obj | None, separator: str = "=") -> list[str]:
    """A map as sorted `key=value` texts."""
    return [f"{k}{separator}{v}" for k, v in sorted((values or {}).items())]
