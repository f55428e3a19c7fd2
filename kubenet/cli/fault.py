"""`kubenet fault`: break something, see what is broken, mend it.

    fault add loss node-1 10%       begins at this moment; time stands still
    fault list                      what is broken now
    fault rm 1, fault clear         as it was
"""

from __future__ import annotations

import json
from typing import Any

import click

from kubenet.cli.command import Cmd, State, namespace_option, state_of
from kubenet.cli.completion import complete_targets
from kubenet.cli.render import seconds, table
from kubenet.errors import UsageError

VERBS = ("list", "add", "rm", "clear")


@click.command(
    "fault", cls=Cmd,
    usage=["fault add loss|duplicate|corrupt|reorder WIRE PERCENT", "fault add delay WIRE TIME [--jitter TIME]",
           "fault add rate WIRE RATE [--queue N]", "fault add mtu WIRE BYTES", "fault add cut WIRE",
           "fault add drop WIRE [--flags S|SA|A|F|R] [--to X] [--count N] ...",
           "fault add partition MACHINE,... MACHINE,...",
           "fault add freeze|kill POD|NODE|kube-proxy/NODE", "fault add race NODE [TIME] [--kernel VERSION]",
           "fault list", "fault rm ID...", "fault clear"],
    examples=[("kubenet fault add loss node-1 10%", "the cable between node-1 and the LAN"),
              ("kubenet fault add delay web-0 50ms --jitter 5ms", "the pod's veth pair, both ways"),
              ("kubenet fault add drop --flags S --to web-0 --count 2", "its next two SYNs"),
              ("kubenet fault add partition node-1 node-2,node-3", ""),
              ("kubenet fault add freeze kube-proxy/node-2", "its rules stay as they are"),
              ("kubenet fault add race node-1 50us --kernel 4.6", "two CPUs: conntrack entries clash"),
              ("kubenet fault list", ""), ("kubenet fault rm 1", ""), ("kubenet fault clear", "")],
    exits="0 done, 2 wrong usage, 3 no such thing, 6 not possible now",
)
@click.argument("words", nargs=-1, required=True, metavar="add|list|rm|clear ...", shell_complete=complete_targets)
@namespace_option
@click.option("--jitter", default="", metavar="TIME", help="delay: by chance up to this much more or less")
@click.option("--hold", default="", metavar="TIME", help="reorder: how long a frame is held back; default 1ms")
@click.option("--queue", default="", metavar="N", help="rate: frames that may wait; default 1000")
@click.option("--kernel", default="", metavar="VERSION", help="race: resolved as by this Linux: 4.6 drops, 4.7 joins, 5.7 keeps both")
@click.option("--flags", default="", metavar="FLAGS", help="drop: TCP with these of S, A, F, R set and no others")
@click.option("--proto", default="", metavar="PROTO", help="drop: tcp, udp or icmp")
@click.option("--from", "from_", default="", metavar="X", help="drop: from this pod, machine, service, address")
@click.option("--to", default="", metavar="X", help="drop: to this one; also the wire, if none is named")
@click.option("--sport", default="", metavar="PORT", help="drop: from this port")
@click.option("--dport", default="", metavar="PORT", help="drop: to this port")
@click.option("--direction", type=click.Choice(["in", "out", "both"]), default=None, help="drop: towards the pod or machine, or out of it")
@click.option("--min-len", default="", metavar="BYTES", help="drop: packets at least this long")
@click.option("--skip", default="", metavar="N", help="drop: let the first N pass")
@click.option("--count", default="", metavar="N", help="drop: only N packets")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="text or json")
@click.pass_context
def fault(ctx: click.Context, /, words: tuple[str, ...], namespace: str, output: str, from_: str, min_len: str,
          **options: str | None) -> None:
    """Break the network, or a part of the cluster, on purpose.

    A WIRE is a machine's cable (node-1) or a pod's veth pair (web-0), or the
    device named behind a colon (node-1:eth0). `undo` takes faults back as it does
    all else, and a replay loses the same packets."""
    state = state_of(ctx)
    verb, rest = words[0], list(words[1:])
    chosen = {key: value for key, value in {**options, "from": from_, "min-len": min_len}.items() if value}
    if verb not in VERBS:
        raise UsageError(f"`fault {verb}` makes no sense", why="it is: " + ", ".join(VERBS),
                         try_=f"kubenet fault add {' '.join(words)}" if len(words) > 1 else "kubenet fault list")
    if verb != "add" and chosen:
        raise UsageError(f"`fault {verb}` takes no such options", try_=f"kubenet fault {verb}")
    if verb in ("list", "clear") and rest:
        raise UsageError(f"`fault {verb}` takes no names", try_="kubenet fault rm 1" if verb == "clear" else "kubenet fault list")
    if verb == "add":
        if not rest:
            raise UsageError("which fault?", try_="kubenet fault add loss node-1 10%")
        return _do(state, output, action="add", kind=rest[0], values=rest[1:], options=chosen, namespace=namespace)
    if verb == "rm":
        if not rest or not all(word.isdigit() for word in rest):
            raise UsageError("which faults? Numbers from the list belong here", try_="kubenet fault list")
        return _do(state, output, action="rm", ids=[int(word) for word in dict.fromkeys(rest)])
    if verb == "clear":
        return _do(state, output, action="clear")
    return _list(state, output)


def _do(state: State, output: str, action: str, **more: Any) -> None:
    with state.client(start=action == "add") as client:
        faults = client.call("fault", action=action, **more)[0]["faults"]
    if output == "json":
        click.echo(json.dumps(faults, indent=2))
        return
    for found in faults:
        if action != "add":
            click.echo(f"fault {found['id']} is over: {found['kind']} {found['target']}")
        elif found["kind"] == "kill" and found["what"] == "SIGKILL":
            click.echo(f"killed {found['target']}")
        else:
            click.echo(f"fault {found['id']}: {found['kind']} {found['target']}, {found['what']}")
    if not faults:
        state.talk("there was no fault")


def _list(state: State, output: str) -> None:
    with state.client(start=False) as client:
        faults = client.call("fault", action="list")[0]["faults"]
    if output == "json":
        click.echo(json.dumps(faults, indent=2))
    elif faults:
        rows = [["ID", "KIND", "TARGET", "WHAT", "SINCE", "HITS", "STATE"]]
        for f in faults:
            hits = "-" if f["hits"] is None else str(f["hits"])
            rows.append([str(f["id"]), f["kind"], f["target"], f["what"], seconds(f["since"]), hits, f["state"]])
        click.echo(table(rows), nl=False)
    else:
        state.talk("nothing is broken")
