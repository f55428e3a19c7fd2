"""Our ip6tables against the real one: every recorded case gives the same text, the same errors, the same exit codes.

recordings/six.json was made by record6.py with the tool and on the kernel it names. Dates are not compared.
"""

from __future__ import annotations

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
from kubenet.kernel.netns import AF_INET, AF_INET6, NetNamespace
from kubenet.sim.clock import EventLoop

RECORDED = json.loads((Path(__file__).parent / "recordings" / "six.json").read_text())
DATE = re.compile(r" on \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}$", re.M)


def undated(text: str) -> str:
    return DATE.sub("", text)


@pytest.fixture
def net() -> NetNamespace:
    return NetNamespace(Host(EventLoop(), "node-1"), "node-1")


@pytest.mark.parametrize("case", RECORDED["rules"], ids=lambda case: f"{case['table']} {case['text']}")
def test_rule6(net: NetNamespace, case: dict[str, Any]) -> None:
    """-A with this rule: exit code and words; then how it is saved and listed."""
    table, chain = case["table"], case["chain"]
    got = iptables_command(net, AF_INET6, ["-t", table, "-A", chain, *shlex.split(case["text"])])
    assert got == (case["add"]["rc"], case["add"]["out"], case["add"]["err"])
    if "save" not in case:
        return
    assert undated(iptables_save(net, AF_INET6, [table])) == undated(case["save"])
    assert iptables_command(net, AF_INET6, ["-t", table, "-L", chain, "-n", "-v"])[1] == case["list"]
    assert iptables_command(net, AF_INET6, ["-t", table, "-L", chain])[1] == case["names"]


@pytest.mark.parametrize("name", RECORDED["commands"])
def test_commands6(net: NetNamespace, name: str) -> None:
    """A sequence of commands, each with its output, errors and exit code."""
    for step in RECORDED["commands"][name]:
        got = iptables_command(net, AF_INET6, shlex.split(step["argv"]))
        assert got == (step["rc"], step["out"], step["err"]), step["argv"]


@pytest.mark.parametrize("name", RECORDED["restores"])
def test_restore6(net: NetNamespace, name: str) -> None:
    """Inputs of ip6tables-restore; afterwards `ip6tables-save -c`."""
    case = RECORDED["restores"][name]
    for step in case["steps"]:
        got = iptables_restore_command(net, AF_INET6, shlex.split(step["flags"]), step["in"])
        assert got == (step["rc"], step["out"], step["err"]), step["in"]
    assert undated(iptables_save(net, AF_INET6, counters=True)) == undated(case["save"])


def test_families_have_tables_of_their_own(net: NetNamespace) -> None:
    """iptables and ip6tables are two tools over two sets of tables."""
    assert iptables_command(net, AF_INET6, ["-A", "INPUT", "-s", "::1", "-j", "DROP"])[0] == 0
    assert iptables_command(net, AF_INET, ["-S", "INPUT"])[1] == "-P INPUT ACCEPT\n"
