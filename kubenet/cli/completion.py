"""`kubenet completion`, and the names that Tab offers.

Commands and options come from click. Names come from a front that already runs, which has 50 ms to answer; if none runs, or
it is busy, there are no names: pressing Tab never starts an emulator and never waits.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import click

from kubenet.cli.command import Cmd

PATIENCE = 0.05  # seconds
NAME = "kubenet"


@click.command(
    "completion", cls=Cmd, usage=["completion bash|zsh|fish"],
    examples=[('eval "$(kubenet completion bash)"', "for this shell"),
              ("kubenet completion fish > ~/.config/fish/completions/kubenet.fish", "for good")],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the shell's completion script: commands, options, kinds, names of pods,
    nodes and services, profiles. Completion never starts the emulator."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, NAME, "_KUBENET_COMPLETE").source())


def names() -> dict[str, Any]:
    """The names that the running session knows, by kind; {} if it does not say so within the patience."""
    from kubenet.cli.client import Client, try_connect
    from kubenet.server.session import Session

    with contextlib.suppress(Exception):  # whatever is wrong, a person pressing Tab must not see it
        session = Session(_session_option())
        sock = try_connect(session, PATIENCE)
        if sock is not None:
            sock.settimeout(PATIENCE)
            with Client(sock) as client, contextlib.suppress(socket.timeout):
                found: dict[str, Any] = client.call("names")[0].get("names", {})
                return found
    return {}


def _session_option() -> str:
    """The --session of the line that is being completed: click runs no callbacks then."""
    import os
    import shlex

    with contextlib.suppress(ValueError):
        words = shlex.split(os.environ.get("COMP_WORDS", ""))
        for at, word in enumerate(words):
            if word == "--session" and at + 1 < len(words):
                return words[at + 1]
            if word.startswith("--session="):
                return word.partition("=")[2]
    return ""


def _of(found: dict[str, Any], *kinds: str) -> list[str]:
    out: list[str] = []
    for kind in kinds:
        out += [str(name) for name in found.get(kind, [])]
    return list(dict.fromkeys(out))


def complete_targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Pods, then nodes."""
    return [n for n in _of(names(), "pods", "nodes") if n.startswith(incomplete)]


def complete_destinations(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """For trace: pods and nodes first, then services with their ports."""
    found = names()
    given = ctx.params.get("words") or ()
    pool = _of(found, "service_ports", "services", "pods", "nodes") if given else _of(found, "pods", "nodes")
    return [n for n in pool if n.startswith(incomplete)]


def complete_kinds_and_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Kinds; after a kind its names."""
    from kubenet.cluster.api.kinds import SERVED, by_name

    given = ctx.params.get("words") or ()
    if not given:
        return [info.plural for info in SERVED if info.plural.startswith(incomplete)]
    info = by_name(str(given[0]))
    return [n for n in _of(names(), info.plural if info else "") if n.startswith(incomplete)]
