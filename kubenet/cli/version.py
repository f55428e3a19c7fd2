"""`kubenet version`: of this program, of the Kubernetes API it speaks and of the Linux it plays."""

from __future__ import annotations

import json

import click

from kubenet import __version__
from kubenet.cli.command import Cmd, state_of

KUBERNETES = "v1.32.4+kubenet"
PROFILE = "linux-6.18"


@click.command("version", cls=Cmd, usage=["version [--client] [-o json]"],
               examples=[("kubenet version", ""), ("kubenet version --client -o json", "")])
@click.option("--client", "only_client", is_flag=True, help="do not look at the running session")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="text or json")
@click.pass_context
def version(ctx: click.Context, only_client: bool, output: str) -> None:
    """Print versions. Nothing is started for it."""
    import platform

    found = {"kubenet": __version__, "kubernetes": KUBERNETES, "kernel": PROFILE, "python": platform.python_version()}
    if not only_client:
        found["session"] = _running(state_of(ctx).session_name)
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    for name, text in found.items():
        click.echo(f"{name:11} {text}")


def _running(name: str) -> str:
    """The session's state in words."""
    from kubenet.server.session import Session

    session = Session(name)
    state = "running" if session.running() else "stopped" if session.exists() else "none"
    return f"{session.name} ({state})"
