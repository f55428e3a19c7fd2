"""`kubenet doctor`: what is wrong here, on this machine and in the cluster, and what to try."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

import click

from kubenet.cli.command import Cmd, State, state_of

Obj = dict[str, Any]


@click.command(
    "doctor", cls=Cmd, usage=["doctor [-o json]"],
    examples=[("kubenet doctor", ""), ("kubenet doctor -o json", "")],
    exits="0 nothing is wrong, 1 something is",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="text or json")
@click.pass_context
def doctor(ctx: click.Context, output: str) -> int:
    """Say what is wrong: nodes, pods, services that lead nowhere, kube-proxy, routes,
    settings, conntrack, faults. It looks and changes nothing."""
    state = state_of(ctx)
    found = host(state)
    checks = ["this machine"]
    if state.session().exists():
        with state.client(start=False) as client:
            answer = client.call("doctor")[0]
        found += answer["findings"]
        checks += answer["checks"]
    else:
        found.append(_finding("note", "session", f"there is no session {state.session().name}", "so there is no cluster to look at",
                              "kubenet up"))
    wrong = [each for each in found if each["severity"] != "note"]
    if output == "json":
        click.echo(json.dumps({"checks": checks, "findings": found, "wrong": len(wrong)}, indent=2))
        return int(bool(wrong))
    for each in found:
        click.echo(f"{each['severity']}: {each['what']}")
        for label in ("why", "try"):
            if each[label]:
                click.echo(f"  {label}: {each[label]}")
    counts = ", ".join(f"{n} {name}{'s' if n != 1 else ''}" for name in ("error", "warning", "note")
                       if (n := sum(each["severity"] == name for each in found)))
    click.echo(f"looked at {', '.join(checks)}: {counts or 'nothing is wrong'}")
    return int(bool(wrong))


def _finding(severity: str, check: str, what: str, why: str, try_: str) -> Obj:
    return {"severity": severity, "check": check, "what": what, "why": why, "try": try_}


def host(state: State) -> list[Obj]:
    """What this machine has to say: room for the session, kubectl, sessions of others that nobody serves."""
    from kubenet.server.session import home

    found: list[Obj] = []
    base = home()
    at = next((path for path in (base, *base.parents) if path.exists()), base)
    free = shutil.disk_usage(at).free
    if free < 50 << 20:
        found.append(_finding("error", "disk", f"{free >> 20} MiB are free at {at}", "a session's journal needs room: "
                              "an input that cannot be written is refused", f"df -h {at}"))
    if shutil.which("kubectl") is None:
        found.append(_finding("note", "kubectl", "there is no kubectl on PATH", "kubenet does not need it; it would work here, too", ""))
    if sys.flags.optimize:
        found.append(_finding("warning", "python", "Python runs with -O", "it leaves out checks that catch our own mistakes",
                              "env -u PYTHONOPTIMIZE kubenet doctor"))
    return found
