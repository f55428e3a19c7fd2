"""`run`, `time`, `undo`, `history`: virtual time.

Time stands still between commands. `run 5s` lets it pass. `run PATH -- POD CMD` is another thing under the same name: a
whole cluster in this process, one command in it, no session and no files (oneprocess.py); the `--` tells them apart.
"""

from __future__ import annotations

import json

import click

from kubenet.cli.command import Cmd, after, state_of
from kubenet.cli.render import seconds
from kubenet.errors import UsageError


@click.command(
    "run", cls=Cmd, dashdash=True, usage=["run TIME", "run PATH... [-f FILE] [--seed N] [--trace] -- POD COMMAND..."],
    examples=[("kubenet run 5s", "five seconds pass"), ("kubenet run 1m30s", ""),
              ("kubenet run manifests/shop -- client curl -s http://web", "one command in a cluster of its own")],
    exits="0 time has passed; with --: the command's own, 125 to 128+n",
)
@click.argument("words", nargs=-1, required=True, metavar="TIME | PATH...")
@click.option("-f", "--topology", default="", metavar="FILE", help="(with --) the cluster's Topology")
@click.option("--allow-pod-code", is_flag=True, help="with PATH: Python programs that pods bring along may run")
@click.option("--seed", type=int, default=None, metavar="N", help="(with --) the dice's seed")
@click.option("--trace", "with_trace", is_flag=True, help="(with --) then show the way of the last packet, on stderr")
@click.option("-i", "--stdin", "stdin", is_flag=True, help="(with --) hand on standard input")
@click.option("-n", "--namespace", default="default", metavar="NS", help="(with --) the pod's namespace")
@click.pass_context
def run(ctx: click.Context, words: tuple[str, ...], topology: str, seed: int | None, with_trace: bool, stdin: bool,
        namespace: str, allow_pod_code: bool) -> int:
    """Let virtual time pass in the session; or, with --, apply manifests to a cluster
    of its own, run one command in it and forget it."""
    command = after(ctx)
    state = state_of(ctx)
    if command is not None:
        from kubenet.cli.oneprocess import run_once

        return run_once(state, list(words), command, topology=topology, seed=seed, with_trace=with_trace, stdin=stdin,
                        namespace=namespace, allow_pod_code=allow_pod_code)
    if len(words) != 1 or topology or seed is not None or with_trace or stdin:
        raise UsageError("`run TIME` takes one time; with a path, a pod and a command stand after --",
                         try_="kubenet run 5s, or kubenet run manifests/shop -- client curl -s http://web")
    ns = _time(words[0])
    with state.client() as client:
        answer = client.call("run", ns=ns)[0]
    click.echo(seconds(answer["now"]))
    return 0


def _time(text: str) -> int:
    """The ns of `run 5s`. Raises UsageError, which knows about the other form."""
    import os

    from kubenet.units import parse_duration

    try:
        ns = parse_duration(text)
    except ValueError as error:
        if os.path.exists(text):
            raise UsageError(f"{text} is a path: a pod and a command must follow after --",
                             try_=f"kubenet run {text} -- client curl -s http://web") from None
        raise UsageError(str(error), try_="kubenet run 5s") from None
    if ns <= 0:
        raise UsageError(f"{text} is no time to pass", try_="kubenet run 5s")
    return ns


@click.command("time", cls=Cmd, usage=["time [-o json]"], examples=[("kubenet time", "")], exits="0 shown, 6 no session")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="text or json")
@click.pass_context
def time_(ctx: click.Context, output: str) -> None:
    """The virtual time: since the cluster's start, in events, and as a date inside."""
    with state_of(ctx).client(start=False) as client:
        found = client.call("status")[0]
    date = _date(int(found["epoch"]), int(found["now"]))
    if output == "json":
        click.echo(json.dumps({"now": found["now"], "step": found["step"], "date": date}))
        return
    click.echo(f"{seconds(found['now'])}   step {found['step']}   {date}")


def _date(epoch: int, ns: int) -> str:
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(epoch + ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % 1_000_000_000 // 1_000_000:03d}Z"


@click.command(
    "undo", cls=Cmd, usage=["undo [N]"], examples=[("kubenet undo", "the last command"), ("kubenet undo 3", "the last three")],
    exits="0 done, 6 nothing to undo",
)
@click.argument("count", type=click.IntRange(min=1), default=1)
@click.pass_context
def undo(ctx: click.Context, count: int) -> None:
    """Go back to the moment before the last N commands that changed something.
    Commands that only looked do not count."""
    with state_of(ctx).client(start=False) as client:
        answer = client.call("undo", n=count)[0]
    for text in answer["undone"]:
        click.echo(f"undone: {text}")
    click.echo(f"back to {seconds(answer['now'])}")


@click.command("history", cls=Cmd, usage=["history [-o json]"], examples=[("kubenet history", "")], exits="0 shown, 6 no session")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="text or json")
@click.pass_context
def history(ctx: click.Context, output: str) -> None:
    """The commands that changed the session, oldest first, with the virtual time at
    which each began."""
    with state_of(ctx).client(start=False) as client:
        commands = client.call("history")[0]["commands"]
    if output == "json":
        click.echo(json.dumps(commands, indent=2))
        return
    if not commands:
        click.echo("nothing was done yet", err=True)
    for number, entry in enumerate(commands, 1):
        click.echo(f"{number:4}  {seconds(entry['time']):16}  {entry['cmd']}")
