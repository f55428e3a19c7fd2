"""Packets that die: the trace says where, why, what the program saw, and where a packet that arrived had gone another way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubenet.cluster.cluster import Cluster
from kubenet.query.trace import probe_json

ROOT = Path(__file__).resolve().parents[2]
LONELY = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"},
          "spec": {"selector": {"app": "database"}, "ports": [{"port": 5432}]}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.from_manifests(ROOT / "manifests" / "pods") as made:
        made.apply_documents([LONELY])
        made.settle()
        yield made


def trace(cluster: Cluster, target: str) -> dict[str, Any]:
    return probe_json(cluster, cluster.trace_probe("client", target))


def to_both(cluster: Cluster) -> None:
    """Delivered probes to both pods of the service, web-0 on the other node last."""
    seen: set[str] = set()
    while seen != {"web-0", "web-1"}:
        seen.add(trace(cluster, "web:80")["at"])


@pytest.mark.parametrize("rule, error, gave_up", [("DROP", "Connection timed out", True), ("REJECT", "Connection refused", False)])
def test_a_rule_somebody_added(cluster: Cluster, rule: str, error: str, gave_up: bool) -> None:
    """Compared with a SYN that went to the same pod, so the difference is the rule, neither the dice nor that it is a SYN."""
    to_both(cluster)
    cluster.exec("node-1", f"iptables -I FORWARD -p tcp --dport 8080 -j {rule}")
    try:
        found = trace(cluster, "web:80")
    finally:
        cluster.exec("node-1", "iptables -D FORWARD 1")
    assert (found["outcome"], found["at"], found["drop"]["rule"]["verdict"]) == ("dropped", "node-1", rule)
    assert (found["probe"]["error"], found["probe"]["gave_up"]) == (error, gave_up)
    difference = found["first_difference"]
    assert difference["here"] == f"filter FORWARD #1 {rule}"
    assert difference["there"].startswith("filter FORWARD #1 ") and difference["good_from"] == "client"


def test_a_service_without_endpoints(cluster: Cluster) -> None:
    found = trace(cluster, "db:5432")
    assert found["drop"]["rule"]["comment"] == "default/db has no endpoints" and found["first_difference"] is None
    assert (found["probe"]["error"], found["probe"]["gave_up"]) == ("Connection refused", False)


def test_a_port_nobody_listens_on(cluster: Cluster) -> None:
    found = trace(cluster, f"{cluster.exec('web-0', 'hostname -i').out.strip()}:81")
    assert (found["at"], found["drop"]["reason"], found["probe"]["error"]) == ("web-0", "NO_SOCKET", "Connection refused")
