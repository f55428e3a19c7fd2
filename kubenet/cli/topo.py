"""`kubenet topo`: the map in text, as JSON, or as a graph for Graphviz.

One box for each node: its pods with their addresses and the node's end of their wire, the bridge they hang on, and the cable that
leaves it. Boxes stand side by side where there is room: two in 80 columns, three in 120, if names are short. A Service is in no
box: it has no place, only rules; with --service its endpoints are marked and the last line says where its address lives.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from kubenet.cli.command import Cmd, namespace_option, state_of
from kubenet.errors import NotFoundError

Obj = dict[str, Any]
BOX = 38  # the least columns of a box with its borders: two of them and a gap are 78


@click.command(
    "topo", cls=Cmd, usage=["topo [--service NAME] [-n NS | -A] [-o json|dot]"],
    examples=[("kubenet topo", ""), ("kubenet topo --service web", "its endpoints are marked"),
              ("kubenet topo -o dot | dot -Tsvg > map.svg", "")],
    exits="0 drawn, 3 no such service",
)
@click.option("--service", default="", metavar="NAME", help="mark the endpoints of this Service, leave other pods out")
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="pods of all namespaces")
@click.option("-o", "--output", type=click.Choice(["text", "json", "dot"]), default="text", help="text, json or dot")
@click.pass_context
def topo(ctx: click.Context, service: str, namespace: str, all_namespaces: bool, output: str) -> None:
    """Draw the cluster: nodes, pods, wires."""
    state = state_of(ctx)
    with state.client() as client:
        graph: Obj = client.call("topo")[0]["graph"]
    if output == "json":
        click.echo(json.dumps(graph, indent=2))
        return
    chosen = _service(graph, service, namespace) if service else None
    if output == "dot":
        click.echo(dot(graph), nl=False)
        return
    click.echo(picture(graph, "" if all_namespaces else namespace, chosen, state.width()), nl=False)


def _service(graph: Obj, name: str, namespace: str) -> Obj:
    """The Service to mark. Raises NotFoundError."""
    from kubenet.cli.render import did_you_mean

    names = [s["name"] for s in graph["services"] if s["namespace"] == namespace]
    for each in graph["services"]:
        if (each["namespace"], each["name"]) == (namespace, name):
            found: Obj = each
            return found
    raise NotFoundError(f'no service "{name}" in namespace {namespace}.{did_you_mean(name, names)}', try_="kubenet get svc")


def picture(graph: Obj, namespace: str, service: Obj | None, width: int) -> str:
    """The map as text of at most `width` columns (but at least one box). namespace "" shows all pods."""
    links = {link["between"][0]: link for link in graph["links"]}
    rows = {node["name"]: [_pod_row(pod, service) for pod in shown(node, namespace, service)] for node in graph["nodes"]}
    columns = min(max([BOX, *(_needed(each) for each in rows.values())]), max(width - 2, BOX))
    boxes = [box(node, links.get(node["name"]), rows[node["name"]], columns) for node in graph["nodes"]]
    per_row = max(1, (width - 1 + 2) // (columns + 2))
    lines: list[str] = []
    for at in range(0, len(boxes), per_row):
        lines += _beside(boxes[at : at + per_row])
        lines.append("")
    lines += _foot(graph, namespace, service, links)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _needed(rows: list[tuple[str, str, str]]) -> int:
    """The columns of a box in which no name is cut."""
    return max([len(name) for name, _, _ in rows], default=0) + max([len(ip) + len(veth) for _, ip, veth in rows], default=0) + 8


def box(node: Obj, link: Obj | None, rows: list[tuple[str, str, str]], columns: int) -> list[str]:
    """One node's lines, all `columns` wide."""
    names = max([len(row[0]) for row in rows], default=0)
    inside = columns - 4
    out = [f"{node['name']}  {node['ip']}".ljust(columns), "+" + "-" * (columns - 2) + "+"]
    for name, ip, veth in rows:
        text = f"{name:{names}} {ip}"
        out.append(f"| {_fit(text, veth + '-+', inside)} |")
    out.append(f"| {_fit('pods ' + node['podCIDR'], node['bridge'] + '-+', inside)} |")
    entries = f"conntrack {node['conntrack']['count']} / {node['conntrack']['max']}"
    out.append(f"| {_fit(entries, node['nic'] + '---', inside + 1)}|")
    out.append("+" + "-" * (columns - 2) + "+")
    out.append(cable(link).rjust(columns))
    return out


def shown(node: Obj, namespace: str, service: Obj | None) -> list[Obj]:
    """The node's pods that are drawn."""
    pods: list[Obj] = [pod for pod in node["pods"] if not namespace or pod["namespace"] == namespace]
    if service is None:
        return pods
    return [pod for pod in pods if pod["namespace"] == service["namespace"] and service["name"] in pod["services"]]


def _pod_row(pod: Obj, service: Obj | None) -> tuple[str, str, str]:
    mark = " *" if service is not None and service["name"] in pod["services"] else ""
    where = pod["ip"] or pod["phase"]
    return pod["name"] + mark, where, pod["veth"] or "(host network)"


def _fit(left: str, right: str, width: int) -> str:
    """Both ends of a line; the left one is cut with an ellipsis rather than the line's end."""
    room = width - len(right) - 1
    if len(left) > room:
        left = left[: max(room - 1, 0)] + "…"
    return f"{left:{room}} {right}"


def cable(link: Obj | None) -> str:
    """What the node's cable is like: `25us 1gbit mtu 1400`, `cut`."""
    if link is None:
        return ""
    if not link.get("up", True):
        return "cable: cut"
    parts = [_time(int(link["latency_ns"]))]
    if link.get("rate"):
        parts.append(_rate(int(link["rate"])))
    if link.get("mtu", 1500) != 1500:
        parts.append(f"mtu {link['mtu']}")
    if link.get("loss"):
        parts.append(f"loss {100 * link['loss']:g}%")
    return "cable: " + ", ".join(parts)


def _time(ns: int) -> str:
    return next(f"{ns / factor:g}{unit}" for factor, unit in ((10**9, "s"), (10**6, "ms"), (10**3, "us"), (1, "ns"))
                if ns >= factor or factor == 1)


def _rate(bits: int) -> str:
    return next(f"{bits / factor:g}{unit}" for factor, unit in ((10**9, "gbit"), (10**6, "mbit"), (10**3, "kbit"), (1, "bit"))
                if bits >= factor or factor == 1)


def _beside(boxes: list[list[str]]) -> Iterator[str]:
    """Boxes side by side; shorter ones grow before their last four lines."""
    height = max(len(lines) for lines in boxes)
    empty = "|" + " " * (len(boxes[0][0]) - 2) + "|"
    tall = [[*lines[:-4], *[empty] * (height - len(lines)), *lines[-4:]] for lines in boxes]
    for row in zip(*tall, strict=True):
        yield " " + "  ".join(row)


def _foot(graph: Obj, namespace: str, service: Obj | None, links: dict[str, Obj]) -> Iterator[str]:
    """The LAN, who else is on it, and what is not drawn."""
    yield " lan: " + ", ".join([node["name"] for node in graph["nodes"]] + [f"{o['name']} {o['ip']}" for o in graph["outside"]])
    for each in graph["outside"]:
        text = cable(links.get(each["name"]))
        if text:
            yield f"      {each['name']}'s {text}"
    hidden = sum(len(node["pods"]) - len(shown(node, namespace, service)) for node in graph["nodes"])
    if service is not None:
        ports = ", ".join(f"{service['clusterIP']}:{port['port']}" for port in service["ports"])
        yield f" V {ports} lives in the nodes' rules only        * endpoint of {service['name']}"
    if hidden:
        yield f" ({hidden} more pod{'s' if hidden > 1 else ''}{'' if service else ' in other namespaces, use -A'})"


def dot(graph: Obj) -> str:
    """The map for Graphviz."""
    lines = ["graph kubenet {", "  rankdir=LR;", "  node [shape=box, fontname=monospace];", "  lan [shape=ellipse];"]
    for node in graph["nodes"]:
        lines.append(f"  {_quoted(node['name'])} [label={_label(node['name'], node['ip'])}];")
        for pod in node["pods"]:
            full = f"{pod['namespace']}/{pod['name']}"
            lines.append(f"  {_quoted(full)} [label={_label(pod['name'], pod['ip'] or pod['phase'])}, style=rounded];")
            lines.append(f"  {_quoted(full)} -- {_quoted(node['name'])} [label={_quoted(pod['veth'])}];")
    for each in graph["outside"]:
        lines.append(f"  {_quoted(each['name'])} [label={_label(each['name'], each['ip'])}];")
    for link in graph["links"]:
        if link["between"][0] != "gateway":
            lines.append(f"  {_quoted(link['between'][0])} -- lan [label={_quoted(cable(link).removeprefix('cable: '))}];")
    return "\n".join([*lines, "}"]) + "\n"


def _label(name: str, below: str) -> str:
    """Two lines of a node's label; Graphviz reads \\n."""
    return _quoted(name + "\\n" + below)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'
