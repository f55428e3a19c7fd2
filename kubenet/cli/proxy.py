"""`kubenet proxy render` and `kubenet proxy flow`: kube-proxy's rules without a cluster.

    proxy render --node NODE.yaml -f OBJECTS...               the input of iptables-restore in a full sync
    proxy render ... --kernel                                 what iptables-save prints afterwards
    proxy render ... --steps FILE                             the inputs of a sequence of syncs, a JSON list
    proxy flow --node NODE.yaml -f OBJECTS... --from IP --to IP:PORT
    proxy flow ... --flows FILE                               a JSON list of packets, answered with a JSON list

No session, no clock, no dice: the same files give the same answer. The work is in query/offline.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from kubenet.cli.command import Cmd
from kubenet.errors import ManifestError, UsageError

if TYPE_CHECKING:
    from kubenet.cluster.proxy.options import ProxyOptions
    from kubenet.query.offline.inputs import Flow

Obj = dict[str, Any]

EXAMPLE = "kubenet proxy flow --node n.yaml -f web --from 10.48.1.5 --to 10.96.0.1:80"


class ProxyGroup(Cmd, click.Group):
    """`kubenet proxy`: a word of its own for each question."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands:
            raise UsageError(f"no command `kubenet proxy {args[0]}`", why=f"there are {' and '.join(self.commands)}",
                             try_="kubenet help proxy")
        return super().resolve_command(ctx, args)


@click.group(
    "proxy", cls=ProxyGroup, invoke_without_command=True,
    usage=["proxy render --node NODE.yaml -f OBJECTS...",
           "proxy flow --node NODE.yaml -f OBJECTS... --from IP --to IP:PORT"],
    examples=[("kubenet proxy render --node node.yaml -f web.yaml", "restore input"), (EXAMPLE, "where a packet goes")],
    exits="0 answered, 2 wrong usage, 3 no such mode, 4 invalid file",
)
@click.pass_context
def proxy(ctx: click.Context) -> None:
    """kube-proxy's rules without a cluster, from files:

    render   what kube-proxy feeds to iptables-restore on a node
    flow     where a packet goes through those rules

    One of them: kubenet proxy render --help
    """
    if ctx.invoked_subcommand is None:
        raise UsageError("which one? There are render and flow", try_="kubenet help proxy")


def _source_options(command: Any) -> Any:
    for option in (
        click.option("-f", "--filename", "files", multiple=True, metavar="FILE",
                     help="Services, EndpointSlices, Nodes: a file or directory; may be repeated"),
        click.option("--node", "node_file", required=True, metavar="NODE.yaml", help="kube-proxy's options on the node"),
        click.option("--mode", default="iptables", metavar="MODE", help="kube-proxy's mode: iptables"),
        click.argument("more", nargs=-1, metavar="[FILE]..."),
    ):
        command = option(command)
    return command


def _node(node_file: str, mode: str) -> ProxyOptions:
    from kubenet.cluster.proxy.base import find_mode
    from kubenet.query.offline.inputs import load_node

    find_mode(mode)
    return load_node(node_file)


# ---- render


@proxy.command(
    "render", cls=Cmd,
    usage=["proxy render --node NODE.yaml -f OBJECTS... [--kernel] [--steps FILE]"],
    examples=[("kubenet proxy render --node node.yaml -f web.yaml", "restore input"),
              ("kubenet proxy render --node node.yaml -f manifests/ --kernel", "as iptables-save prints it"),
              ("kubenet proxy render --node node.yaml --steps steps.json", "each sync of a sequence")],
    exits="0 printed, 2 wrong usage, 3 no such mode, 4 invalid file",
)
@_source_options
@click.option("--kernel", is_flag=True, help="what iptables-save prints afterwards, jumps from built-in chains included")
@click.option("--steps", "steps_file", default="", metavar="FILE", help='a JSON list of {"events": [{"op", "object"}]}; prints a list')
def render(files: tuple[str, ...], more: tuple[str, ...], node_file: str, mode: str, kernel: bool, steps_file: str) -> None:
    """What kube-proxy feeds to iptables-restore on a node, in a full sync.

    With --steps a JSON list: the input of each sync, from the second one on partial
    unless an event forces a full one.
    """
    options = _node(node_file, mode)
    from kubenet.query.offline.inputs import load_objects, load_steps
    from kubenet.query.offline.render import kernel_text, restore_text, restore_texts

    if not files and not more and not steps_file:
        raise UsageError("no objects are given", try_=f"kubenet proxy render --node {node_file} -f FILE")
    objects = load_objects([*files, *more])
    if not steps_file:
        text = restore_text(objects, options)
        click.echo(kernel_text([text], options) if kernel else text, nl=False)
        return
    texts = restore_texts(load_steps(steps_file), options, objects)
    if kernel:
        texts = [kernel_text(texts[: at + 1], options) for at in range(len(texts))]
    click.echo(json.dumps(texts, indent=1))


# ---- flow


@proxy.command(
    "flow", cls=Cmd,
    usage=["proxy flow --node NODE.yaml -f OBJECTS... --from IP --to IP:PORT", "proxy flow --node NODE.yaml -f OBJECTS... --flows FILE"],
    examples=[(EXAMPLE, "one packet"), ("kubenet proxy flow --node node.yaml -f web.yaml --flows flows.json -o json", "a list of packets")],
    exits="0 answered, 2 wrong usage, 3 no such mode, 4 invalid file",
)
@_source_options
@click.option("--rules", "rules_file", default="", metavar="FILE", help="these rules (iptables-save's, or restore input), no objects")
@click.option("--from", "source", default="", metavar="IP", help="the packet's source")
@click.option("--to", "dest", default="", metavar="IP:PORT", help="its destination")
@click.option("--protocol", default="tcp", metavar="PROTO", help="tcp (default), udp or sctp")
@click.option("--in-interface", default="", metavar="DEV", help="the device it comes in by")
@click.option("--flows", "flows_file", default="", metavar="FILE",
              help="a JSON list of {name, sourceIP, destIP, destPort, protocol, inInterface}")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="text or json")
def flow(files: tuple[str, ...], more: tuple[str, ...], node_file: str, mode: str, rules_file: str, source: str, dest: str,
         protocol: str, in_interface: str, flows_file: str, output: str) -> None:
    """Where a packet goes through kube-proxy's rules, for every throw of the dice.

    The answer has the endpoints it may end at, or REJECT, DROP or ACCEPT, or nothing
    ([]: neither translated nor filtered); whether its source is replaced (null: that
    depends on the endpoint); and the rules it matched on its first way.
    """
    from kubenet.query.offline.inputs import load_flows

    options = _node(node_file, mode)
    if bool(flows_file) == bool(source or dest):
        raise UsageError("a packet is --from and --to, or many are --flows", try_=EXAMPLE)
    flows = load_flows(flows_file) if flows_file else [_one(source, dest, protocol, in_interface)]
    tracer = _tracer(options, [*files, *more], rules_file, node_file)
    answers = []
    for each in flows:
        answer = tracer.answer(each)
        answers.append({"name": each.name, **answer} if flows_file else answer)
    if output == "json":
        click.echo(json.dumps(answers if flows_file else answers[0], indent=1))
        return
    for each, answer in zip(flows, answers, strict=True):
        click.echo(flow_text(each, answer))


def _one(source: str, dest: str, protocol: str, in_interface: str) -> Flow:
    from kubenet.cli.trace import destination
    from kubenet.query.offline.inputs import FlowError, make_flow

    if not source or not dest:
        raise UsageError("a packet needs --from and --to", try_=EXAMPLE)
    host, port = destination(dest)
    try:
        return make_flow(source, host, port, protocol, in_interface)
    except FlowError as error:
        raise UsageError(str(error), try_=EXAMPLE) from None


def _tracer(options: ProxyOptions, paths: list[str], rules_file: str, node_file: str) -> Any:
    from kubenet.query.offline.flow import FlowTracer
    from kubenet.query.offline.inputs import load_objects
    from kubenet.query.offline.render import restore_text

    if bool(rules_file) == bool(paths):
        raise UsageError("the rules come from objects (-f) or from --rules", try_=f"kubenet proxy flow --node {node_file} -f FILE ...")
    if not rules_file:
        return FlowTracer(options, [restore_text(load_objects(paths), options)])
    try:
        with open(rules_file, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"cannot read {rules_file}", rules_file, why=str(error)) from None
    return FlowTracer(options, [text], has_jumps="-A PREROUTING" in text or "-A OUTPUT" in text)


def flow_text(each: Flow, answer: Obj) -> str:
    """The answer in words, with the rules below."""
    outcome = answer["outcome"]
    words = outcome if isinstance(outcome, str) else ", ".join(outcome) or "untouched"
    source = {True: "source replaced", False: "source kept", None: "source replaced or kept, by endpoint"}[answer["masquerade"]]
    host = f"[{each.dest.text}]" if ":" in each.dest.text else each.dest.text
    name = f"{each.name}: " if each.name else ""
    lines = [f"{name}{each.protocol} {each.source.text} -> {host}:{each.port}  {words}  ({source})"]
    lines += [f"  {rule['hook']:11} {rule['table']:6} #{rule['number']:<4} {rule['rule']}" for rule in answer["path"]]
    return "\n".join(lines)
