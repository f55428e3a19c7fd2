"""`until`, `step` and `goto` as processes, with a real engine: where they stop, what they refuse, that a replay stops there too."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest
from test_end_to_end import PODS, Shell

STATE = ("digest", "now", "step")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The labs' cluster with its pods, running."""
    found = Shell(tmp_path_factory.mktemp("m"), "moments")
    found("apply", "-f", PODS)
    yield found
    found("reset", "--yes")


def _now(shell: Shell) -> int:
    return int(json.loads(shell("time", "-o", "json"))["now"])


def _background(shell: Shell, script: str) -> None:
    """Begin a script in the client that goes on by itself while virtual time passes."""
    shell("exec", "client", "--", "sh", "-c", f"({script}) >/dev/null 2>&1 &")


def test_until_stops_behind_the_event_that_made_it_true(shell: Shell) -> None:
    """curl's SYN makes the entry at node-1 while the connection is not yet through: nothing can be earlier or later."""
    shell("exec", "client", "--", "ping", "-c", "1", "10.48.1.1")  # so that no ARP comes first
    _background(shell, "sleep 5; curl -s http://10.96.0.1/hostname")
    shell("until", "count(socks('client', peer='10.96.0.1:80')) > 0")
    first = json.loads(shell("step", "-o", "json"))
    assert first["crossings"][0]["what"].startswith("TCP S seq") and first["crossings"][0]["dst"] == "10.96.0.1:80"


def test_until_that_is_not_reached_says_how_near_it_came(shell: Shell) -> None:
    before = _now(shell)
    assert shell("until", "count(socks('web-1', state='CLOSE-WAIT')) > 7", "--timeout", "1500ms", code=5) == ""
    assert shell.err.startswith("error: not reached within 1.5 virtual seconds; highest value seen: 0 at ")
    assert _now(shell) == before + 1_500_000_000


def test_until_of_time_itself(shell: Shell) -> None:
    goal = (_now(shell) // 10**9 + 3) * 10**9
    shell("until", f"now >= {goal}")
    assert 0 <= _now(shell) - goal < 10_000_000


@pytest.mark.parametrize(("expression", "code", "text"), [
    ("ready('web-0'", 2, "error: ')' is missing here\n  at:  column 14:   (the end)\n"),
    ("socks('wbe-0')", 3, 'error: no pod or node "wbe-0" in namespace default. Did you mean web-0?\n'),
    ("listener('web-0', 8080).recvq > 1", 2, "error: a listener has no field recvq. Did you mean recv_q?\n  at:  column 25:"),
])
def test_until_refuses_before_time_passes(shell: Shell, expression: str, code: int, text: str) -> None:
    before = shell.status()
    shell("until", expression, code=code)
    assert shell.err.startswith(text)
    assert [shell.status()[key] for key in STATE] == [before[key] for key in STATE]


def test_step_shows_a_packet_on_its_way(shell: Shell) -> None:
    """To the node's own bridge, where nobody listens: out of the pod, and back into it. The ping finds the neighbours first."""
    shell("exec", "client", "--", "ping", "-c", "1", "10.48.1.1")
    _background(shell, "sleep 3; nc -z -w 1 10.48.1.1 9")
    shell("until", "count(socks('client', state='SYN-SENT')) > 0")
    lines = shell("step", "2").splitlines()
    assert len(lines) == 2 and "node-1 veth" in lines[0] and "> 10.48.1.1:9  TCP S seq" in lines[0]
    assert " client eth0 " in lines[1] and "10.48.1.1:9 > 10.48.1.5:" in lines[1] and "TCP R. seq 0 ack" in lines[1]


def test_step_when_nothing_is_sent(shell: Shell) -> None:
    shell("run", "400s")
    shell("step", code=5)
    assert shell.err.startswith("error: no packet crosses within 60 virtual seconds\n")
    assert shell("step", "--events", "1").endswith("   1 event\n")


def test_undo_and_a_kill_lead_back_to_the_same_moments(shell: Shell) -> None:
    before = shell.status()
    shell("until", "now >= 1s", "--timeout", "5s")  # it is so already: no command that changed something
    _background(shell, "sleep 1; curl -s http://10.96.0.1/")
    shell("until", "count(socks('client', state='ESTAB', peer=80)) == 1")
    shell("exec", "client", "--", "true")
    after = shell.status()
    os.kill(int(str(after["engine_pid"])), signal.SIGKILL)
    shell("get", "nodes")
    assert [shell.status()[key] for key in STATE] == [after[key] for key in STATE]
    shell("undo", "3")
    assert [shell.status()[key] for key in STATE] == [before[key] for key in STATE]


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A session that this test may do anything to."""
    found = Shell(tmp_path_factory.mktemp("g"), "goto")
    found("apply", "-f", PODS)
    yield found
    found("reset", "--yes")


@pytest.mark.parametrize("checkpoints", [True, False])
def test_goto_a_past_moment_and_on_from_there(own: Shell, checkpoints: bool) -> None:
    """The past is reached by a checkpoint, or by a replay after `down`; the same commands then lead to the same present."""

    def play() -> None:
        own("run", "2500ms")
        own("fault", "add", "loss", "node-1", "50%")
        own("exec", "client", "--", "ping", "-c", "4", "-W", "1", "10.48.2.7", code=int(own.lost))  # type: ignore[attr-defined]
        own("run", "10s")

    own("run", "3s")
    own("exec", "client", "--", "curl", "-s", "-o", "/dev/null", "http://10.96.0.1/")
    own.lost = 0  # type: ignore[attr-defined]
    process = own.start("status")
    process.communicate(timeout=60)
    past = own.status()
    play()
    present = own.status()
    if not checkpoints:
        own("down")
    text = own("goto", f"{int(str(past['now'])) / 10**9:.9f}s")
    assert text.splitlines()[:4] == ["undone: run 10s", "undone: exec client -- ping -c 4 -W 1 10.48.2.7",
                                     "undone: fault add loss node-1 50%", "undone: run 2500ms"]
    assert own.status()["now"] == past["now"] and own("fault", "list") == ""
    assert own("history").splitlines()[-1].endswith("curl -s -o /dev/null http://10.96.0.1/")
    play()
    assert [own.status()[key] for key in STATE] == [present[key] for key in STATE]


def test_goto_the_middle_of_a_command_and_undo_it(own: Shell) -> None:
    own("run", "1s")
    before = own.status()
    own("exec", "client", "--", "sleep", "10")
    assert own("goto", "7s") == "in the middle of: exec client -- sleep 10\nt=7.000000s\n"
    assert "sleep" in own("exec", "client", "--", "ps", "-e")
    own("undo", "1")
    own("undo", "1")
    assert [own.status()[key] for key in STATE] == [before[key] for key in STATE]


def test_goto_the_future_and_the_present(own: Shell) -> None:
    assert own("goto", "4s") == "t=4.000000s\n"
    inputs = own.status()["inputs"]
    assert own("goto", "t=4.000000s") == "t=4.000000s\n"
    assert own.status()["inputs"] == inputs
    own("goto", "soon", code=2)
    assert own("goto", "1s") == "undone: goto 4s\nt=1.000000s\n"


def test_goto_survives_a_kill(own: Shell) -> None:
    for _ in range(3):
        own("run", "10s")
    assert own("goto", "13.5s") == "undone: run 10s\nin the middle of: run 10s\nt=13.500000s\n"
    before = own.status()
    os.kill(int(str(before["engine_pid"])), signal.SIGKILL)
    own("get", "nodes")
    assert [own.status()[key] for key in STATE] == [before[key] for key in STATE]
