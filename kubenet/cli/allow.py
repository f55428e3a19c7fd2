"""`kubenet allow pod-code`: consent, once per session, to running Python programs that pods bring along."""

from __future__ import annotations

import click

from kubenet.cli.command import Cmd, state_of


@click.command(
    "allow", cls=Cmd, usage=["allow pod-code [--no]"],
    examples=[("kubenet allow pod-code", "Python programs of pods may run from now on"),
              ("kubenet allow pod-code --no", "and not any more")],
    exits="0 done, 2 wrong usage",
)
@click.argument("what", type=click.Choice(["pod-code"]))
@click.option("--no", "no", is_flag=True, help="withdraw it")
@click.pass_context
def allow(ctx: click.Context, what: str, no: bool) -> None:
    """Let Python programs that come with pods (python -c, files from ConfigMaps) run.
    They run inside kubenet's own process, in an import world of their own, which is
    a separation of names and not a sandbox: allow only what you would run yourself.
    Built-in images and tools never need this.
    """
    state = state_of(ctx)
    with state.client() as client:
        client.call("allow", pod_code=not no)
    click.echo("Python programs of pods may run in this session" if not no else "Python programs of pods are refused in this session")
