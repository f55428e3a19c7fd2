"""`kubenet events`: what components said about objects, oldest first, as `kubectl events` prints it.

Source: kubectl pkg/cmd/events: events.go SortableEvents, event_printer.go getInterval().
"""

from __future__ import annotations

from typing import Any

import click

from kubenet.cli.command import Cmd, namespace_option, state_of
from kubenet.cli.get import Options, render_objects
from kubenet.cli.kube import Kube, kinds
from kubenet.cli.render import table
from kubenet.cluster.api.kinds import KINDS
from kubenet.errors import UsageError

Obj = dict[str, Any]
TYPES = ("Normal", "Warning")


@click.command(
    "events", cls=Cmd, usage=["events [-n NS | -A] [--for KIND/NAME] [--types TYPE,...]"],
    examples=[("kubenet events", ""), ("kubenet events --for pod/web-0", ""), ("kubenet events -A --types Warning", "")],
    exits="0 shown, 2 wrong usage",
)
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="all namespaces")
@click.option("--for", "about", default="", metavar="KIND/NAME", help="about one object")
@click.option("--types", default="", metavar="TYPES", help="Normal, Warning or both, with commas")
@click.option("--no-headers", is_flag=True, help="rows only")
@click.option("-o", "--output", type=click.Choice(["table", "json", "yaml", "name"]), default="table", help="table, json, yaml or name")
@click.pass_context
def events(ctx: click.Context, namespace: str, all_namespaces: bool, about: str, types: str, no_headers: bool, output: str) -> None:
    """What components said about objects, oldest first."""
    wanted = [word.strip().lower() for word in types.split(",") if word.strip()]
    if unknown := [word for word in wanted if word.capitalize() not in TYPES]:
        raise UsageError(f"no type of event {unknown[0]!r}", why="types are Normal and Warning", try_="kubenet events --types Warning")
    place = "" if all_namespaces else namespace
    state = state_of(ctx)
    with state.client() as client:
        found = Kube(client, state.talk).list(KINDS["Event"], place, table=True, fields=_fields(about), include="Object")
    ages = [c["name"] for c in found["columnDefinitions"]]
    last, first = ages.index("Last Seen"), ages.index("First Seen")
    rows = [(row["object"], row["cells"][last], row["cells"][first]) for row in found["rows"]
            if not wanted or row["object"].get("type", "").lower() in wanted]
    rows.sort(key=lambda row: row[0].get("lastTimestamp") or row[0].get("eventTime") or "")
    if output != "table":
        items = [{"apiVersion": "v1", "kind": "Event", **event} for event, _, _ in rows]
        click.echo(render_objects(items, False, Options(output, place, "", "", "", no_headers, False, "")), nl=False)
        return
    if not rows:
        state.talk(f"No events found{f' in {place} namespace' if place else ''}.")
        return
    head = [] if no_headers else [["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]]
    lines = head + [_line(*row) for row in rows]
    if not place:
        spaces = ["NAMESPACE"] * len(head) + [event["metadata"]["namespace"] for event, _, _ in rows]
        lines = [[space, *line] for space, line in zip(spaces, lines, strict=True)]
    click.echo(table(lines), nl=False)


def _line(event: Obj, last: str, first: str) -> list[str]:
    about = event.get("involvedObject") or {}
    seen = f"{last} (x{event['count']} over {first})" if event.get("count", 1) > 1 else first
    return [seen, event.get("type", ""), event.get("reason", ""), f"{about.get('kind', '')}/{about.get('name', '')}",
            str(event.get("message", "")).strip()]


def _fields(about: str) -> str:
    """The field selector for --for. UsageError."""
    if not about:
        return ""
    kind, slash, name = about.partition("/")
    found = kinds(kind)
    if not slash or not name or len(found) != 1:
        raise UsageError(f"--for {about} is not KIND/NAME", try_="kubenet events --for pod/web-0")
    return f"involvedObject.kind={found[0].kind},involvedObject.name={name}"
