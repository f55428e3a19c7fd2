"""`kubenet fault` as processes, with a real engine: what is broken stays broken through a crash, and a replay breaks the same packets."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest
from test_end_to_end import PODS, Shell

STATE = ("digest", "now", "step")


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The labs' cluster with its pods, running."""
    found = Shell(tmp_path_factory.mktemp("f"), "faults")
    found("apply", "-f", PODS)
    yield found
    found("reset", "--yes")


def _state(shell: Shell) -> list[object]:
    found = shell.status()
    return [found[key] for key in STATE]


def test_a_session_with_faults_comes_back_the_same(shell: Shell) -> None:
    """Every kind, at several moments, with traffic; then the engine is killed, and what follows is what would have followed."""
    shell("fault", "add", "loss", "node-1", "10%")
    shell("fault", "add", "delay", "web-0", "3ms", "--jitter", "1ms")
    shell("fault", "add", "reorder", "node-2", "20%", "--hold", "2ms")
    shell("fault", "add", "duplicate", "client", "5%")
    shell("fault", "add", "corrupt", "web-1", "2%")
    shell("fault", "add", "rate", "node-2", "50mbit", "--queue", "20")
    shell("fault", "add", "mtu", "outside", "1200")
    shell("fault", "add", "drop", "web-0", "--flags", "S", "--count", "1")
    shell("exec", "client", "--", "ping", "-c", "20", "-i", "0.1", "10.48.2.7")
    for _ in range(3):
        shell("exec", "client", "--", "curl", "-s", "-m", "60", "-o", "/dev/null", "http://web/")
    shell("fault", "rm", "1", "5")
    shell("fault", "add", "freeze", "web-1")
    shell("fault", "add", "freeze", "kube-proxy/node-2")
    shell("fault", "add", "partition", "outside", "node-1,node-2")
    shell("run", "10s")
    shell("fault", "rm", "9")
    shell("fault", "add", "kill", "web-1")
    shell("fault", "add", "cut", "outside")
    shell("run", "5s")
    shell("fault", "add", "freeze", "node-2")
    shell("run", "60s")
    before, faults = _state(shell), json.loads(shell("fault", "list", "-o", "json"))
    assert [f["id"] for f in faults] == [2, 3, 4, 6, 7, 8, 10, 11, 13, 14]
    os.kill(int(str(shell.status()["engine_pid"])), signal.SIGKILL)
    shell("get", "nodes")
    assert _state(shell) == before
    assert json.loads(shell("fault", "list", "-o", "json")) == faults
    shell("fault", "clear")
    shell("exec", "client", "--", "ping", "-c", "20", "-i", "0.1", "10.48.2.7")
    after = _state(shell)
    shell("undo", "2")
    assert _state(shell) == before
    assert json.loads(shell("fault", "list", "-o", "json")) == faults
    shell("fault", "clear")
    shell("exec", "client", "--", "ping", "-c", "20", "-i", "0.1", "10.48.2.7")
    assert _state(shell) == after


def test_the_words_of_a_fault(shell: Shell) -> None:
    assert shell("fault", "add", "delay", "web-0", "50ms") == "fault 1: delay web-0, 50ms\n"
    assert shell("fault", "add", "drop", "--to", "web-0", "--flags", "SA", "--count", "2") == "fault 2: drop web-0, flags SA to web-0 count 2\n"
    assert shell("fault", "list") == """\
ID    KIND    TARGET   WHAT                        SINCE         HITS   STATE
1     delay   web-0    50ms                        t=1.000000s   -      active
2     drop    web-0    flags SA to web-0 count 2   t=1.000000s   0      active
"""
    assert "time=100 ms" in shell("exec", "client", "--", "ping", "-c", "2", "10.48.2.7")
    assert shell("fault", "rm", "1") == "fault 1 is over: delay web-0\n"
    assert shell("fault", "clear") == "fault 2 is over: drop web-0\n"
    assert shell("fault", "list") == "" and shell.err == "nothing is broken\n"
    assert shell("fault", "add", "kill", "web-0") == "killed web-0\n"


@pytest.mark.parametrize(("words", "code", "text"), [
    (["loss", "node-1"], 2, "error: `fault loss` makes no sense\n  why: it is: list, add, rm, clear\n  try: kubenet fault add loss node-1\n"),
    (["add", "loss", "nod-1", "5%"], 3, 'error: no pod or node "nod-1" in namespace default. Did you mean node-1?\n'),
    (["add", "loss", "node-1", "5"], 2, "error: fault loss: '5' is no chance; write it like 10%\n  try: kubenet fault add loss node-1 10%\n"),
    (["add", "freeze", "web"], 2, 'error: "web" is a service; commands run in pods or on nodes.\n'),
    (["rm", "7"], 3, "error: there is no fault 7\n  why: active: none\n"), (["rm"], 2, "error: which faults?"),
    (["list", "--flags", "S"], 2, "error: `fault list` takes no such options"), (["clear", "1"], 2, "error: `fault clear` takes no names"),
])
def test_refused_faults_are_no_inputs(shared_faults: Shell, words: list[str], code: int, text: str) -> None:
    before = shared_faults.status()["inputs"]
    shared_faults("fault", *words, code=code)
    assert shared_faults.err.startswith(text)
    assert shared_faults.status()["inputs"] == before


@pytest.fixture(scope="module")
def shared_faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A session in which nothing is ever broken."""
    found = Shell(tmp_path_factory.mktemp("s"), "whole")
    found("apply", "-f", PODS)
    yield found
    found("reset", "--yes")
