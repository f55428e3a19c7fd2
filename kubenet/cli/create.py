"""`kubenet create namespace`: the one thing that is quicker to say than to write down. Everything else comes from manifests."""

from __future__ import annotations

import click

from kubenet.cli.command import Cmd, state_of
from kubenet.cli.kube import MANAGER, Kube, status_error
from kubenet.cluster.api.kinds import KINDS


@click.command("create", cls=Cmd, usage=["create namespace NAME"],
               examples=[("kubenet create namespace shop", "then: kubenet apply -n shop -f ...")],
               exits="0 created, 1 it exists, 2 wrong usage, 4 no valid name")
@click.argument("kind", type=click.Choice(["namespace", "ns"]))
@click.argument("name")
@click.pass_context
def create(ctx: click.Context, kind: str, name: str) -> None:
    """Create a namespace. Other things: kubenet apply -f FILE."""
    state = state_of(ctx)
    with state.client() as client:
        kube = Kube(client, state.talk)
        obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        code, answer = kube.request("POST", KINDS["Namespace"].path(), {"fieldManager": MANAGER}, obj)
    if code >= 400:
        raise status_error(code, answer, f'namespace "{name}" not created')
    click.echo(f"namespace/{answer['metadata']['name']} created")
