"""`until`, `step`, `goto`: let time pass to a moment that is described, or go back to one that was.

`until` stops behind the very event that made its expression true. The language is kubenet/query/expr: what sockets, conntrack, rules,
counters and Kubernetes say, compared and combined as in Python.
"""

from __future__ import annotations

import json
from typing import Any

import click

from kubenet.cli.command import Cmd, namespace_option, state_of
from kubenet.cli.render import seconds
from kubenet.errors import UsageError

MAX = "60s"


def positive_time(text: str, example: str) -> int:
    """The ns of a time given on the command line. Raises UsageError."""
    from kubenet.units import parse_duration

    try:
        ns = parse_duration(text)
    except ValueError as error:
        raise UsageError(str(error), try_=example) from None
    if ns <= 0:
        raise UsageError(f"{text} is no time to pass", try_=example)
    return ns


@click.command(
    "until", cls=Cmd, usage=["until 'EXPRESSION' [--timeout TIME]"],
    examples=[("kubenet until \"ready('web-0')\"", ""),
              ("kubenet until \"listener('web-0', 8080).recv_q >= 10\" --timeout 2m", ""),
              ("kubenet until \"ct('node-1', orig_dst='10.96.0.1:80').state == 'TIME_WAIT'\"", ""),
              ("kubenet until \"any(s.timer == 'persist' for s in socks('client'))\"", ""),
              ("kubenet until \"nstat('web-0', 'ListenOverflows') >= 1\"", "counted from now on")],
    exits="0 it is so, 2 bad expression, 3 no such pod or node, 5 not reached",
)
@click.argument("expression", metavar="EXPRESSION")
@namespace_option
@click.option("--timeout", "--max", "timeout", default=MAX, metavar="TIME", help=f"virtual time to wait at most; default {MAX}")
@click.pass_context
def until(ctx: click.Context, expression: str, namespace: str, timeout: str) -> None:
    """Let virtual time pass until an expression holds, and stop right there.

    Functions: socks sock listener (sockets), ct cts ct_count (conntrack), chain
    rule (iptables), nstat dev (counters), app, ready pod node svc endpoints, count
    sum min max any all abs approx between. Times: 50ms, 2s; `now` is one."""
    ns = positive_time(timeout, "kubenet until \"ready('web-0')\" --timeout 2m")
    with state_of(ctx).client() as client:
        answer = client.call("until", expr=expression, namespace=namespace, max_ns=ns)[0]
    click.echo(seconds(answer["now"]))


@click.command(
    "step", cls=Cmd, usage=["step [N]", "step --events N"],
    examples=[("kubenet step", "until the next packet has crossed"), ("kubenet step 5", ""), ("kubenet step --events 1", "")],
    exits="0 done, 5 nothing moves",
)
@click.argument("count", type=click.IntRange(min=1, max=10_000), default=1)
@click.option("--events", type=click.IntRange(min=1), default=None, metavar="N", help="N events of the emulation instead of packets")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="text or json")
@click.pass_context
def step(ctx: click.Context, count: int, events: int | None, output: str) -> None:
    """Let time pass until N packets have crossed a cable or a veth: each line is one
    packet that has just come in somewhere."""
    state = state_of(ctx)
    with state.client() as client:
        answer = client.call("step", n=events or count, events=events is not None)[0]
    if output == "json":
        click.echo(json.dumps({key: answer[key] for key in ("now", "step", "events", "crossings")}, indent=2))
        return
    for crossing in answer["crossings"]:
        click.echo(_line(crossing))
    if events or len(answer["crossings"]) < count:
        click.echo(f"{seconds(answer['now'])}   {answer['events']} event{'s' if answer['events'] != 1 else ''}")


def _line(crossing: dict[str, Any]) -> str:
    where = f"{crossing['place']} {crossing['dev']}"
    return f"{seconds(crossing['t'])}  {where:22}  {crossing['src']} > {crossing['dst']}  {crossing['what']}  {crossing['len']} bytes"


@click.command(
    "goto", cls=Cmd, usage=["goto TIME"],
    examples=[("kubenet goto 30s", "30 s after the cluster's start"), ("kubenet goto 1.204310s", "as `time` prints it")],
    exits="0 done, 2 no time, 6 a command is under way",
)
@click.argument("time", metavar="TIME")
@click.pass_context
def goto(ctx: click.Context, time: str) -> None:
    """Go to a virtual time, counted from the cluster's start. A later one: time
    passes. An earlier one: the state is again what it was when that moment was
    over, and what was done after it never was, as with `undo`."""
    from kubenet.units import parse_duration

    try:
        goal = parse_duration(time.removeprefix("t="))
    except ValueError as error:
        raise UsageError(str(error), try_="kubenet goto 30s") from None
    state = state_of(ctx)
    with state.client(start=False) as client:
        answer = client.call("goto", time=goal)[0]
    for text in answer["undone"]:
        click.echo(f"undone: {text}")
    if answer["cut"]:
        click.echo(f"in the middle of: {answer['cut']}")
    click.echo(seconds(answer["now"]))
