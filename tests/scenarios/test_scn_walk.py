"""kubenet/kernel/README.md cannot go stale: its packet is sent, and its links are followed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from kubenet.cluster.cluster import Cluster
from kubenet.query.trace import packet_json, probe_json, reply_of

ROOT = Path(__file__).resolve().parents[2]
KERNEL = ROOT / "kubenet" / "kernel"
LINK = re.compile(r"\[`(\w+)`\]\(([\w/.]+)\)")
NO_STATION = ("tcp_v4_connect",)  # runs before there is a packet


def _halves() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    text = (KERNEL / "README.md").read_text()
    there, _, back = text.partition("## The way back")
    return LINK.findall(there), LINK.findall(back.partition("## Where")[0])


def test_every_linked_function_is_there() -> None:
    for name, file in [link for half in _halves() for link in half]:
        tree = ast.parse((KERNEL / file).read_text())
        assert any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body), f"{name} is not in {file}"


def test_the_packet_passes_the_stations_in_this_order() -> None:
    there, back = _halves()
    with Cluster.from_manifests(ROOT / "manifests" / "pods") as cluster:
        for _ in range(20):
            found = probe_json(cluster, cluster.trace_probe("client", "web:80"))
            if found["at"] == "web-0":
                break
        reply = packet_json(cluster, reply_of(cluster, found["id"]))
    assert found["at"] == "web-0" and reply is not None
    for links, story in ((there, found), (back, reply)):
        stations = iter(step["func"] for step in story["steps"])
        for name, _ in links:
            if name not in NO_STATION:
                assert any(station == name for station in stations), f"{name} was not passed after the ones before it"
    assert all(step["file"] for step in found["steps"]), [step["func"] for step in found["steps"] if not step["file"]]
