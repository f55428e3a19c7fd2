"""`kubenet logs`: what a container printed, and with -f what it prints from now on.

With -f, virtual time runs along with the wall clock.
"""

from __future__ import annotations

import click

from kubenet.cli.command import Cmd, namespace_option, state_of
from kubenet.cli.completion import complete_targets
from kubenet.cli.exec import write


@click.command(
    "logs", cls=Cmd, usage=["logs POD|deploy/NAME [-n NS] [-c CONTAINER] [-f] [--tail N]"],
    examples=[("kubenet logs web-0", ""), ("kubenet logs deploy/web --tail 5", ""), ("kubenet logs web-0 -f", "until Ctrl-C"),
              ("kubenet logs web-0 --since 10s --timestamps", "")],
    exits="0 shown, 3 not found, 6 not started yet",
)
@click.argument("target", shell_complete=complete_targets)
@namespace_option
@click.option("-c", "--container", default="", metavar="NAME", help="which container of the pod; default the first")
@click.option("-f", "--follow", is_flag=True, help="go on until Ctrl-C or the container's end")
@click.option("-p", "--previous", is_flag=True, help="of the container before the last restart")
@click.option("--tail", type=int, default=-1, metavar="N", help="the last N lines")
@click.option("--since", default="", metavar="TIME", help="not older than this much virtual time: 10s, 5m")
@click.option("--timestamps", is_flag=True, help="the virtual time before each line")
@click.pass_context
def logs(ctx: click.Context, target: str, namespace: str, container: str, follow: bool, previous: bool, tail: int, since: str,
         timestamps: bool) -> int:
    """Print a container's log."""
    from kubenet.cli.apply import duration

    since_ns = duration(since) if since else None
    with state_of(ctx).client() as client:
        stream = client.stream("logs", namespace=namespace, target=target, container=container, follow=follow, previous=previous,
                               tail=tail if tail >= 0 else None, timestamps=timestamps, since_ns=since_ns)
        try:
            for header, body in stream:
                if header.get("data"):
                    write(1, body)
        except KeyboardInterrupt:
            stream.tell("cancel")
            return 130
    return 0
