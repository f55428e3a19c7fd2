"""`kubenet describe`: one object for people, with what belongs to it and its events.

The layout is kubectl's: labels in a column, lists below their label (page.py). The forms of the kinds are in describe_forms.py.
"""

from __future__ import annotations

from typing import Any

import click

from kubenet.cli.command import Cmd, namespace_option, state_of
from kubenet.cli.completion import complete_kinds_and_names
from kubenet.cli.describe_forms import form
from kubenet.cli.get import parse_words
from kubenet.cli.kube import Kube
from kubenet.cli.page import Obj, Page
from kubenet.cluster.api.kinds import KINDS, KindInfo


@click.command(
    "describe", cls=Cmd, usage=["describe KIND [NAME...] [-n NS] [-l SELECTOR]", "describe KIND/NAME ..."],
    examples=[("kubenet describe pod web-0", ""), ("kubenet describe svc web", "with its endpoints"),
              ("kubenet describe node node-1", "")],
    exits="0 found, 3 not found, 2 wrong usage",
)
@click.argument("words", nargs=-1, required=True, metavar="KIND [NAME...]", shell_complete=complete_kinds_and_names)
@namespace_option
@click.option("-l", "--selector", default="", metavar="SELECTOR", help="all with these labels")
@click.pass_context
def describe(ctx: click.Context, words: tuple[str, ...], namespace: str, selector: str) -> int:
    """Show one thing for people: its fields, what belongs to it, its events."""
    wanted = parse_words(words)
    state = state_of(ctx)
    with state.client() as client:
        kube = Kube(client, state.talk)
        texts: list[str] = []
        for info, name in wanted:
            found = [kube.get(info, namespace, name)] if name else kube.list(info, namespace, labels=selector)["items"]
            texts += [text_of(kube, info, obj) for obj in found]
    if not texts:
        state.talk(f"No resources found in {namespace} namespace.")
    click.echo("\n\n".join(texts), nl=bool(texts))
    return 0


def text_of(kube: Kube, info: KindInfo, obj: Obj) -> str:
    """The whole description of one object, without the last line break."""
    meta = obj["metadata"]
    page = Page()
    page.field("Name", meta["name"])
    if info.namespaced:
        page.field("Namespace", meta.get("namespace", ""))
    form(info.kind)(page, kube, obj)
    _events(page, kube, info, obj)
    return page.text()


def _events(page: Page, kube: Kube, info: KindInfo, obj: Obj) -> None:
    """What components said about the object, oldest first, ages as the server renders them."""
    if info.kind == "Event":
        return
    meta = obj["metadata"]
    fields = f"involvedObject.kind={info.kind},involvedObject.name={meta['name']}"
    if meta.get("uid"):
        fields += f",involvedObject.uid={meta['uid']}"
    found = kube.list(KINDS["Event"], meta.get("namespace") or "default", table=True, fields=fields, include="Object")
    rows: list[list[Any]] = [["Type", "Reason", "Age", "From", "Message"]]
    last_seen = next(i for i, c in enumerate(found["columnDefinitions"]) if c["name"] == "Last Seen")
    for row in sorted(found["rows"], key=lambda r: r["object"].get("lastTimestamp") or ""):
        event = row["object"]
        age = row["cells"][last_seen] + (f" (x{event['count']})" if event.get("count", 1) > 1 else "")
        rows.append([event.get("type"), event.get("reason"), age, (event.get("source") or {}).get("component", ""),
                     event.get("message", "").strip()])
    page.table("Events", rows)
