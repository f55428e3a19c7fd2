"""`kubenet wait`: let virtual time pass until objects are as they should be, as `kubectl wait` says it."""

from __future__ import annotations

import json
from typing import Any

import click

from kubenet.cli.command import Cmd, namespace_option, state_of
from kubenet.cli.completion import complete_kinds_and_names
from kubenet.cli.get import full_name, parse_words
from kubenet.cli.kube import Kube
from kubenet.cli.moments import positive_time
from kubenet.cli.render import seconds
from kubenet.cluster.api.kinds import KindInfo
from kubenet.errors import NotFoundError, NotReachedError, UsageError

Wanted = list[tuple[KindInfo, str, str, str]]  # kind, namespace, name, uid


@click.command(
    "wait", cls=Cmd, usage=["wait --for=WISH KIND/NAME ... [--timeout TIME]", "wait --for=WISH KIND [-l SELECTOR | --all]"],
    examples=[("kubenet wait --for=condition=Ready pod/web-0", ""),
              ("kubenet wait --for=condition=Available deploy --all", ""),
              ("kubenet wait --for=delete pod/web-0 --timeout 1m", ""),
              ("kubenet wait --for=jsonpath='{.status.phase}'=Running pod -l app=web", "")],
    exits="0 all are so, 2 wrong usage, 3 not found, 5 not reached",
)
@click.argument("words", nargs=-1, required=True, metavar="KIND [NAME...]", shell_complete=complete_kinds_and_names)
@click.option("--for", "wish", required=True, metavar="WISH",
              help="condition=NAME[=VALUE], jsonpath='{PATH}'[=VALUE], create or delete")
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="in all namespaces")
@click.option("-l", "--selector", default="", metavar="SELECTOR", help="all with these labels")
@click.option("--all", "everything", is_flag=True, help="all of the kind")
@click.option("--timeout", default="30s", metavar="TIME", help="virtual time to wait at most; default 30s; 0: only look")
@click.option("-o", "--output", type=click.Choice(["text", "name", "json"]), default="text", help="text, name or json")
@click.pass_context
def wait(ctx: click.Context, words: tuple[str, ...], wish: str, namespace: str, all_namespaces: bool, selector: str, everything: bool,
         timeout: str, output: str) -> None:
    """Let virtual time pass until objects are so, and stop right there."""
    from kubenet.query.waiting import Wish

    what = Wish(wish)
    limit = 0 if timeout in ("0", "0s") else positive_time(timeout, "kubenet wait --for=condition=Ready pod/web-0 --timeout 1m")
    state = state_of(ctx)
    with state.client() as client:
        wanted = _wanted(Kube(client, state.talk), words, "" if all_namespaces else namespace, selector, everything, what.kind)
        answer = client.call("wait_for", objects=[[i.kind, *rest] for i, *rest in wanted], max_ns=limit, wish=wish)[0]
    names = [full_name(info, name) for info, _, name, _ in wanted]
    met = [names[index] for index in answer["met"]]
    missed = [name for index, name in enumerate(names) if index not in answer["met"]]
    if output == "json":
        click.echo(json.dumps({"for": wish, "met": met, "missed": missed, "now": answer["now"]}, indent=2))
    else:
        for name in met:
            click.echo(name if output == "name" else f"{name} condition met")
    if missed:
        raise NotReachedError(f"timed out waiting for {wish} on {', '.join(missed)}", why=f"still not so at {seconds(answer['now'])}",
                              try_=f"kubenet describe {missed[0]}")


def _wanted(kube: Kube, words: tuple[str, ...], namespace: str, selector: str, everything: bool, wish: str) -> Wanted:
    """Who is waited for. NotFoundError if there is nobody; UsageError for a kind without name, selector or --all."""
    out: Wanted = []
    for info, name in parse_words(words):
        place = namespace if info.namespaced else ""
        if name:
            if not place and info.namespaced:
                raise UsageError("a name together with -A makes no sense",
                                 try_=f"kubenet wait --for={wish} {info.singular}/{name} -n default")
            found = kube.find(info, place, name)
            if found is None and wish not in ("create", "delete"):
                raise kube.not_found(info, place, name)
            if found is not None or wish != "delete":  # what is gone already is not spoken of
                out.append((info, place, name, found["metadata"]["uid"] if found else ""))
            continue
        if not selector and not everything:
            raise UsageError(f"{info.plural} without a name", why="-l SELECTOR or --all says which",
                             try_=f"kubenet wait --for={wish} {info.plural} --all")
        for item in kube.list(info, place, labels=selector)["items"]:
            meta: dict[str, Any] = item["metadata"]
            out.append((info, meta.get("namespace", ""), meta["name"], meta["uid"]))
    if not out and wish != "delete":
        raise NotFoundError("no matching resources found", try_=f"kubenet get {words[0].partition('/')[0]} --show-labels")
    return out
