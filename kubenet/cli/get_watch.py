"""`kubenet get --watch`: what is there, then every change, one row each, until Ctrl-C.

As kubectl: a list first, then a watch from the list's resourceVersion on. Columns remember the widest cell they have shown. While
it runs, virtual time goes with the wall clock.
"""

from __future__ import annotations

import json
from typing import Any

import click

from kubenet.cli.command import State
from kubenet.cli.get import Obj, Options, Wanted, cells, heading, render_objects
from kubenet.cli.kube import TABLE, Kube, path_of, status_error
from kubenet.cli.render import MIN_WIDTH, PADDING, cell_text
from kubenet.cluster.api.kinds import KindInfo
from kubenet.errors import UsageError


class Widths:
    """Rows aligned one by one, each column as wide as its widest cell so far."""

    def __init__(self) -> None:
        self.columns: list[int] = []

    def text(self, rows: list[list[Any]]) -> str:
        """The rows as lines."""
        texts = [[cell_text(cell) for cell in row] for row in rows]
        for row in texts:
            self.columns += [MIN_WIDTH] * (len(row) - len(self.columns))
            self.columns = [max(w, len(t) + PADDING) for w, t in zip(self.columns, row, strict=False)]
        return "".join("".join(t.ljust(w) for t, w in zip(row[:-1], self.columns, strict=False)) + row[-1] + "\n" for row in texts)


def follow(kube: Kube, wanted: Wanted, options: Options, state: State) -> int:
    """Print the list and its changes; 0 at the end of the stream or at Ctrl-C. Raises KubenetError."""
    if len(wanted) != 1:
        raise UsageError("--watch follows one kind, or one object", try_="kubenet get pods --watch")
    info, name = wanted[0]
    fields = f"metadata.name={name}" if name else options.fields
    if name:
        kube.get(info, options.namespace, name)
    first = kube.list(info, options.namespace, table=options.is_table, labels=options.labels, fields=fields)
    printer = _Printer(info, options, first)
    query = {"watch": "true", "resourceVersion": str(first["metadata"].get("resourceVersion", "")), "labelSelector": options.labels,
             "fieldSelector": fields}
    stream = kube.client.stream("watch", path=path_of(info, options.namespace), query={k: [v] for k, v in query.items() if v},
                                headers={"accept": TABLE if options.is_table else "application/json"})
    try:
        for header, body in stream:
            if header.get("rewound"):
                state.talk("the session went back in time (undo); this watch ends")
            for line in body.splitlines() if header.get("event") else ():
                printer.event(json.loads(line))
    except KeyboardInterrupt:
        stream.tell("cancel")
    return 0


class _Printer:
    """Prints the list when it is made, then events."""

    def __init__(self, info: KindInfo, options: Options, first: Obj) -> None:
        self.info = info
        self.options = options
        self.widths = Widths()
        self.columns: list[Obj] = first.get("columnDefinitions") or []
        self.headed = options.no_headers
        if options.is_table:
            self._rows(first["rows"])
        else:
            for item in first["items"]:
                self._object({"apiVersion": info.api_version, "kind": info.kind, **item})

    def event(self, event: Obj) -> None:
        """One event. Bookmarks print nothing. Raises KubenetError for an ERROR."""
        obj = event["object"]
        if event["type"] == "ERROR":
            raise status_error(int(obj.get("code", 500)), obj)
        if event["type"] == "BOOKMARK":
            return
        if self.options.is_table:
            self.columns = obj.get("columnDefinitions") or self.columns
            self._rows(obj["rows"])
        else:
            self._object(obj)

    def _rows(self, rows: list[Obj]) -> None:
        lines = [cells(row, self.columns, self.info, self.options, False) for row in rows]
        if lines and not self.headed:
            lines.insert(0, heading(self.columns, self.info, self.options))
            self.headed = True
        click.echo(self.widths.text(lines), nl=False)

    def _object(self, obj: Obj) -> None:
        click.echo(render_objects([obj], True, self.options), nl=self.options.format == "jsonpath")
