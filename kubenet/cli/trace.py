"""`kubenet trace`: the way of a packet, station by station.

    trace SRC DST:PORT           sends a probe (a connection that is closed at once) and shows its first packet
    trace --last [TARGET]        the newest packet that was traced          trace --packet ID    that one, of any age
    trace --reply ID             the answer to that one                     trace --flow SRC DST:PORT    all packets of a flow

Only the first form sends anything. A packet of the past that nobody was watching is run again in a copy of the past, where it is
watched; it comes with the same id. The pictures are drawn in trace_view.py; the facts are query/trace.py's.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from kubenet.cli.command import Cmd, State, state_of
from kubenet.cli.completion import complete_destinations
from kubenet.errors import NotFoundError, UsageError

Obj = dict[str, Any]
ONLY = ("nat", "drop")


@click.command(
    "trace", cls=Cmd,
    usage=["trace SRC DST:PORT [--proto udp]", "trace --last [TARGET] | --packet ID | --reply ID",
           "trace --flow SRC DST:PORT [--oneline]"],
    examples=[("kubenet trace client web:80", "from a pod to a Service"),
              ("kubenet trace node-1 web:80", "from a node"),
              ("kubenet trace --last client", "its newest packet; nothing is sent"),
              ("kubenet trace --reply 17", "the answer to 17"),
              ("kubenet trace --flow client web:80 --oneline", "a line for each packet"),
              ("kubenet trace client web:80 --only nat,drop", "only what changed it or ended it"),
              ("kubenet trace client web:80 --dry", "in a copy: no packet is sent here"),
              ("kubenet trace client web:80 --diagram", "the hooks as a picture")],
    exits="0 delivered or on its way, 1 dropped, 2 wrong usage, 3 no packet",
)
@click.argument("words", nargs=-1, metavar="[SRC DST:PORT]", shell_complete=complete_destinations)
@click.option("--last", is_flag=True, help="the newest traced packet, of TARGET if one is given")
@click.option("--packet", type=int, default=None, metavar="ID", help="the packet of this number")
@click.option("--reply", type=int, default=None, metavar="ID", help="the answer to the packet of this number")
@click.option("--flow", is_flag=True, help="the packets between SRC and DST:PORT, both ways; sends nothing")
@click.option("--proto", type=click.Choice(["tcp", "udp"]), default="tcp", help="of the probe: tcp (default) or udp")
@click.option("--namespace", default="default", metavar="NS", help="namespace of pods and services; `default` if not given")
@click.option("--only", default="", metavar="WHAT", help="only these steps: nat, drop, or nat,drop")
@click.option("--oneline", is_flag=True, help="one line for each packet")
@click.option("-n", "--numeric", is_flag=True, help="addresses instead of letters")
@click.option("-v", "--verbose", count=True, help="unfold all steps; -vv: rules that did not match, too")
@click.option("--width", type=click.IntRange(min=40), default=None, metavar="N", help="columns; default the terminal's")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="text or json")
@click.option("--dry", is_flag=True, help="what if: the probe runs in a copy of the state, and nothing of it stays")
@click.option("--diagram", is_flag=True, help="the hooks that it passed, as a picture of the machine that changed it")
@click.pass_context
def trace(ctx: click.Context, words: tuple[str, ...], last: bool, packet: int | None, reply: int | None, flow: bool, proto: str,
          namespace: str, only: str, oneline: bool, numeric: bool, verbose: int, width: int | None, output: str,
          dry: bool, diagram: bool) -> int:
    """Show the way of a packet: every device, rule, translation and route it met, and
    what the socket and the wire saw of it. SRC is a pod or a node, DST a service, a
    pod or an address."""
    state = state_of(ctx)
    if sum((last, packet is not None, reply is not None, flow)) > 1:
        raise UsageError("--last, --packet, --reply and --flow exclude each other", try_="kubenet trace --last")
    kept = _only(only)
    if last or packet is not None or reply is not None or flow:
        traces = _past(state, words, namespace, last, packet, reply, flow)
    else:
        traces = [_probe(state, words, namespace, proto, dry)]
    if output == "json":
        click.echo(json.dumps(traces[0] if len(traces) == 1 and not flow else traces, indent=2))
    else:
        view = View(state, numeric=numeric, verbose=verbose, width=width, only=kept, oneline=oneline, diagram=diagram)
        click.echo(("\n" if oneline else "\n\n").join(view.text(each) for each in traces), color=state.colored())
    return 1 if any(each.get("outcome") == "dropped" for each in traces) else 0


def _only(text: str) -> tuple[str, ...]:
    words = tuple(word for word in text.split(",") if word)
    for word in words:
        if word not in ONLY:
            raise UsageError(f"--only {word}: there are {' and '.join(ONLY)}", try_="kubenet trace client web:80 --only nat,drop")
    return words


def destination(text: str) -> tuple[str, int]:
    """("web", 80) of `web:80`, ("::1", 80) of `[::1]:80`. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"{text!r} is no destination", why="it is NAME:PORT or ADDRESS:PORT",
                         try_=f"kubenet trace client {host or text or 'web'}:80")
    return host.strip("[]"), int(port)


def _probe(state: State, words: tuple[str, ...], namespace: str, proto: str, dry: bool) -> Obj:
    """Send a probe and return its first packet's trace."""
    if len(words) != 2:
        raise UsageError("trace needs a source and a destination with a port", try_="kubenet trace client web:80")
    dst, port = destination(words[1])
    with state.client() as client:
        found: Obj = client.call("trace", namespace=namespace, src=words[0], dst=dst, port=port, proto=proto, dry=dry)[0]["trace"]
    return found


def _past(state: State, words: tuple[str, ...], namespace: str, last: bool, packet: int | None, reply: int | None,
          flow: bool) -> list[Obj]:
    """Traces of packets that were sent already. Raises NotFoundError if there is none."""
    request: Obj = {"namespace": namespace}
    if flow:
        if len(words) != 2:
            raise UsageError("--flow needs a source and a destination with a port", try_="kubenet trace --flow client web:80")
        dst, port = destination(words[1])
        request["flow"] = {"src": words[0], "dst": dst, "port": port}
    elif last:
        if len(words) > 1:
            raise UsageError("--last takes at most one pod or node", try_=f"kubenet trace --last {words[0]}")
        request.update(last=True, target=words[0] if words else "")
    elif words:
        raise UsageError("a packet's number is enough", try_=f"kubenet trace --packet {packet or reply}")
    else:
        request.update({"packet": packet} if packet is not None else {"reply": reply})
    with state.client(start=False) as client:
        traces: list[Obj] = client.call("trace_get", **request)[0]["traces"]
    if not traces:
        raise NotFoundError("no such packet was traced", why="nothing was sent there, or too long ago",
                            try_=f"kubenet trace {' '.join(words)}" if flow else "kubenet trace client web:80")
    return traces


class View:
    """How to draw: the choices of the command line, made once."""

    def __init__(self, state: State, numeric: bool = False, verbose: int = 0, width: int | None = None,
                 only: tuple[str, ...] = (), oneline: bool = False, diagram: bool = False) -> None:
        self.state = state
        self.numeric = numeric
        self.verbose = verbose
        self.width = width or state.width()
        self.only = only
        self.oneline = oneline
        self.diagram = diagram

    def text(self, found: Obj) -> str:
        """One packet's picture."""
        from kubenet.cli import trace_view

        if self.oneline:
            text = trace_view.oneline(found)
            return text.replace("→", ">").replace("µ", "u") if self.state.plain else text
        if self.diagram:
            return trace_view.diagram(found)
        text = trace_view.render(found, width=self.width, verbose=self.verbose, numeric=self.numeric, plain=self.state.plain,
                                 color=self.state.colored(), only=self.only,
                                 hints=not self.state.quiet and sys.stdout.isatty())
        return text.rstrip("\n")


def show(state: State, found: Obj) -> str:
    """A packet's picture with everything at its default."""
    return View(state).text(found)
