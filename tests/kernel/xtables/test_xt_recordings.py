"""Our iptables against the real one: every recorded case gives the same text, the same errors, the same exit codes.

The recordings were made by record.py with the tool and on the kernel named in each file. The only thing not compared is the
date in iptables-save's comment lines.
"""

from __future__ import annotations

# ruff: noqa: E501  (rules and packets read best as one line each)
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from kubenet.kernel.host import Host
from kubenet.kernel.netfilter.xtables.command import iptables_command
from kubenet.kernel.netfilter.xtables.restore import iptables_restore_command
from kubenet.kernel.netfilter.xtables.save import iptables_save
from kubenet.kernel.netns import AF_INET, NetNamespace
from kubenet.sim.clock import EventLoop

HERE = Path(__file__).parent / "recordings"
DATE = re.compile(r" on \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}$", re.M)


def load(name: str) -> Any:
    return json.loads((HERE / f"{name}.json").read_text())[name]


def undated(text: str) -> str:
    return DATE.sub("", text)


@pytest.fixture
def net() -> NetNamespace:
    return NetNamespace(Host(EventLoop(), "node-1"), "node-1")


@pytest.mark.parametrize("case", load("rules"), ids=lambda case: f"{case['table']} {case['text']}")
def test_rule(net: NetNamespace, case: dict[str, Any]) -> None:
    """-A with this rule: exit code and words; then how it is saved and listed."""
    table, chain = case["table"], case["chain"]
    got = iptables_command(net, AF_INET, ["-t", table, "-A", chain, *shlex.split(case["text"])])
    assert got == (case["add"]["rc"], case["add"]["out"], case["add"]["err"])
    if "save" not in case:
        return
    assert undated(iptables_save(net, AF_INET, [table])) == undated(case["save"])
    assert iptables_command(net, AF_INET, ["-t", table, "-L", chain, "-n", "-v"])[1] == case["list"]
    assert iptables_command(net, AF_INET, ["-t", table, "-L", chain])[1] == case["names"]


@pytest.mark.parametrize("name", load("commands"))
def test_commands(net: NetNamespace, name: str) -> None:
    """A sequence of commands, each with its output, errors and exit code."""
    for step in load("commands")[name]:
        got = iptables_command(net, AF_INET, shlex.split(step["argv"]))
        assert got == (step["rc"], step["out"], step["err"]), step["argv"]


@pytest.mark.parametrize("name", load("restores"))
def test_restore(net: NetNamespace, name: str) -> None:
    """Inputs of iptables-restore; afterwards `iptables-save -c`."""
    case = load("restores")[name]
    for step in case["steps"]:
        got = iptables_restore_command(net, AF_INET, shlex.split(step["flags"]), step["in"])
        assert got == (step["rc"], step["out"], step["err"]), step["in"]
    assert undated(iptables_save(net, AF_INET, counters=True)) == undated(case["save"])
