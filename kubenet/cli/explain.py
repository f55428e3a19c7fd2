"""`kubenet explain`: a packet's way through a real node, from what the node's own tools printed.

    kubenet explain --iptables-save rules --routes routes --ip-addr addr --from 10.48.1.5 --to 10.96.0.1:80

Nothing is sent anywhere and no session is needed. The work is in query/offline (node.py builds the node, explain.py asks it).
"""

from __future__ import annotations

import json
import os
from typing import Any

import click

from kubenet.cli.command import Cmd, State, state_of
from kubenet.errors import ManifestError, UsageError

Obj = dict[str, Any]

EXAMPLE = "kubenet explain --iptables-save r --from 10.48.1.5 --to 10.96.0.1:80"
WORDS = {"leaves": "leaves", "delivered": "is delivered to the node itself", "dropped": "is dropped", "rejected": "is rejected",
         "no route": "has no route", "unknown": "cannot be told"}


@click.command(
    "explain", cls=Cmd,
    usage=["explain --iptables-save FILE --from IP[:PORT] --to IP:PORT"],
    examples=[(EXAMPLE, "the rules alone"),
              (f"{EXAMPLE} -o json", "for scripts")],
    exits="0 gets through, 1 does not, 2 wrong usage, 3 no file, 4 bad file",
)
@click.option("--iptables-save", "rules", required=True, metavar="FILE", help="iptables-save's output")
@click.option("--conntrack", default="", metavar="FILE", help="conntrack -L's output")
@click.option("--routes", default="", metavar="FILE", help="ip route show table all's output")
@click.option("--ip-addr", "addresses", default="", metavar="FILE", help="ip addr's output")
@click.option("--sysctl", "sysctls", default="", metavar="FILE", help="sysctl -a's output")
@click.option("--ipset", "sets", default="", metavar="FILE", help="ipset save's output")
@click.option("--dump", default="", metavar="DIR", help="kubectl get -o yaml's output: whose address, whose rule")
@click.option("--from", "source", required=True, metavar="IP[:PORT]", help="the packet's source")
@click.option("--to", "dest", required=True, metavar="IP:PORT", help="its destination")
@click.option("--protocol", default="tcp", metavar="PROTO", help="tcp (default), udp or sctp")
@click.option("--in-interface", default="", metavar="DEV", help="the device it comes in by; default: where the route to its source leads")
@click.option("-v", "--verbose", count=True, help="every station of the trace")
@click.option("-n", "--numeric", is_flag=True, help="addresses instead of letters")
@click.option("--width", type=click.IntRange(min=40), default=None, metavar="N", help="columns; default the terminal's")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="text or json")
@click.pass_context
def explain(ctx: click.Context, rules: str, conntrack: str, routes: str, addresses: str, sysctls: str, sets: str, dump: str, source: str,
            dest: str, protocol: str, in_interface: str, verbose: int, numeric: bool, width: int | None, output: str) -> int:
    """What a real node does with a packet, from what its tools printed: the rules it
    meets, whom each was written for, and where it ends. What no file says is named,
    never guessed."""
    from kubenet.query.offline.explain import Behind, Explainer, Question
    from kubenet.query.offline.node import Dumps, build_node

    flow, sport = _packet(source, dest, protocol, in_interface)
    text = _read(rules)
    node = build_node(Dumps(text, _read(conntrack), _read(routes), _read(addresses), _read(sysctls), _read(sets)))
    answer = Explainer(node, Behind(_manifests(dump)), text[1]).answer(Question(flow, sport))
    if output == "json":
        click.echo(json.dumps(answer, indent=1))
    else:
        state = state_of(ctx)
        click.echo(explain_text(answer, state, width or state.width(), verbose, numeric), color=state.colored())
    return 0 if answer["outcome"] in ("leaves", "delivered", ["leaves", "delivered"], ["delivered", "leaves"]) else 1


def _packet(source: str, dest: str, protocol: str, in_interface: str) -> tuple[Any, int]:
    from kubenet.cli.trace import destination
    from kubenet.query.offline.explain import Question
    from kubenet.query.offline.inputs import FlowError, make_flow

    host, port = destination(dest)
    from_host, sport = destination(source) if ":" in source else (source, Question._field_defaults["sport"])
    try:
        return make_flow(from_host, host, port, protocol, in_interface), sport
    except FlowError as error:
        raise UsageError(str(error), try_=EXAMPLE) from None


def _read(path: str) -> tuple[str, str]:
    """(name, text); ("", "") for no file."""
    if not path:
        return "", ""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return path, stream.read()
    except FileNotFoundError:
        from kubenet.errors import NotFoundError

        raise NotFoundError(f"there is no file {path}", try_="iptables-save > rules; ip route show table all > routes") from None
    except OSError as error:
        raise ManifestError(f"cannot read {path}", path, why=str(error)) from None


def _manifests(path: str) -> list[Any]:
    from kubenet.cluster.api.yamldoc import load_paths

    if path and not os.path.exists(path):
        from kubenet.errors import NotFoundError

        raise NotFoundError(f"there is no directory {path}", try_="mkdir dump; kubectl get services,pods -A -o yaml > dump/all.yaml")
    return load_paths([path]) if path else []


def explain_text(answer: Obj, state: State, width: int, verbose: int = 0, numeric: bool = False) -> str:
    """The trace, whom the rules were written for, the verdict, and what is not known."""
    from kubenet.cli import trace_view

    lines: list[str] = []
    if answer["trace"] is not None:
        picture = trace_view.render(answer["trace"], width=width, verbose=verbose, numeric=numeric, plain=state.plain,
                                    color=state.colored(), hints=False)
        lines += [picture.rstrip(), ""]
    named = [rule for rule in answer["rules"] if rule["for"] or rule["verdict"] == "unknown"]
    if named:
        lines.append("RULES  written for")
        for rule in named:
            words = rule["for"] or f"cannot be evaluated: {rule['rule']}"
            lines.append(f"  line {rule['line']:<5} {rule['table']} {rule['chain']} #{rule['number']}  {words}")
    many = len(answer["ends"]) > 1
    lines.append("VERDICT" + ("  the dice decide" if many else ""))
    lines += [f"  {_end_words(end)}" for end in answer["ends"]]
    if answer["unknown"]:
        lines.append("NOT KNOWN  it passed all else of these rules")
        lines += [f"  {'line ' + str(u['line']) + ': ' if u['line'] else ''}{u['part']}  ({u['why']})" for u in answer["unknown"]]
    if answer["assumed"]:
        lines.append("ASSUMED")
        lines += [f"  {one}" for one in answer["assumed"]]
    return "\n".join(lines)


def _end_words(end: Obj) -> str:
    words = WORDS[end["outcome"]]
    if end["outcome"] == "unknown":
        rest = {k: v for k, v in end.items() if k != "otherwise"}
        return f"{words}; if what is not known below does nothing, it {_end_words({**rest, 'outcome': end['otherwise']})}"
    if end["outcome"] == "leaves":
        words += f" by {end['dev']}" + (f" via {end['via']}" if end["via"] else "")
    ends = f": {end['source']} > {end['to']}" if end["to"] else ""
    return f"{words}{ends}" + (f"  ({end['rule']})" if end["rule"] else "")
