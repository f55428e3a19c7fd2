"""`status`, `down`, `reset`, `run`, `undo`, `history`, `time`, completion: the session seen from outside."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from kubenet.cli import client as client_module
from kubenet.cli.completion import names
from kubenet.cli.profiles import PROFILES, profile, same_cluster, settings_for, with_cni_mode
from kubenet.errors import UsageError
from kubenet.server import front
from kubenet.server.session import Session

STATUS = {"session": "default", "engine_pid": 42, "now": 2_110_000_000, "step": 1234, "seed": 7, "epoch": 1767225600, "digest": "d1",
          "inputs": 12, "journal_bytes": 20480, "checkpoints": [{"input": 1, "time": 0, "step": 0}], "mode": "frozen",
          "bounds": {"traced_packets": 20000, "watch_history": 2000, "checkpoints": 16}, "nodes": ["node-1", "node-2"],
          "outside": ["outside"], "pods": 4, "running": 3, "topology": "two-nodes"}


def test_status(kubenet: Any, fake: Any) -> None:
    fake.answers["status"] = STATUS
    lines = dict(line.split(maxsplit=1) for line in kubenet("status").out.splitlines())
    assert lines["cluster"] == "two-nodes: node-1, node-2; outside: outside"
    assert lines["time"] == "t=2.110000s, step 1234, frozen"
    assert lines["pods"] == "4, 3 running" and lines["journal"] == "12 inputs, 20 KiB"
    assert lines["kubectl"] == f"export KUBECONFIG={fake.session.kubeconfig}"
    assert json.loads(kubenet("status", "-o", "json").out)["digest"] == "d1"


def test_status_of_a_stopped_session_starts_nothing(kubenet: Any, fake: Any) -> None:
    fake.stop()
    found = kubenet("status")
    assert found.code == 0 and found.out.startswith("session default: stopped; the next command replays its journal")
    assert not fake.session.running()


def test_down_waits_for_the_lock(kubenet: Any, fake: Any) -> None:
    assert kubenet("down").out == "session default stopped\n"
    assert [r["op"] for r in fake.asked] == ["shutdown"]
    assert not fake.session.running()
    assert kubenet("down").out == "session default was not running\n"


def test_reset_asks(kubenet: Any, fake: Any) -> None:
    found = kubenet("reset")
    assert found.code == 2 and "try: kubenet reset --yes" in found.err and fake.session.exists()
    assert kubenet("reset", "--yes").out == "session default forgotten\n"
    assert not fake.session.dir.exists()


def test_run_time_undo_history(kubenet: Any, fake: Any) -> None:
    fake.answers.update(run={"now": 7_110_000_000, "step": 9}, undo={"now": 2_000_000_000, "step": 5, "undone": ["apply -f web.yaml"]},
                        status=STATUS, history={"commands": [{"cmd": "up", "time": 0, "step": 0},
                                                             {"cmd": "run 5s", "time": 2_110_000_000, "step": 5}]})
    assert kubenet("run", "5s").out == "t=7.110000s\n"
    assert (fake.asked[0]["ns"], fake.asked[0]["cmd"]) == (5_000_000_000, "run 5s")
    assert kubenet("undo", "2").out == "undone: apply -f web.yaml\nback to t=2.000000s\n" and fake.asked[-1]["n"] == 2
    assert kubenet("time").out == "t=2.110000s   step 1234   2026-01-01T00:00:02.110Z\n"
    assert kubenet("history").out == "   1  t=0.000000s       up\n   2  t=2.110000s       run 5s\n"


@pytest.mark.parametrize("words, text", [
    (["soon"], "error: 'soon' is not a duration"), (["0"], "error: 0 is no time to pass"),
    (["5s", "6s"], "error: `run TIME` takes one time"),
    (["."], "error: . is a path: a pod and a command must follow after --"), (["5s", "--trace"], "error: `run TIME` takes one time"),
    (["manifests", "--", "client"], "error: after -- come a pod and a command"),
])
def test_run_usage(kubenet: Any, fake: Any, words: list[str], text: str) -> None:
    found = kubenet("run", *words)
    assert found.code == 2 and found.err.startswith(text) and fake.asked == []


def test_an_error_of_the_engine_keeps_its_form_and_code(kubenet: Any, fake: Any) -> None:
    fake.errors["undo"] = {"what": "nothing to undo", "why": "the session is at its beginning", "try": "kubenet status", "exit": 6}
    found = kubenet("undo")
    assert found.code == 6
    assert found.err == "error: nothing to undo\n  why: the session is at its beginning\n  try: kubenet status\n"


def test_profiles() -> None:
    assert [n["name"] for n in profile("two-nodes")["spec"]["nodes"]] == ["node-1", "node-2"]
    assert profile("two-nodes")["spec"]["kubernetesService"] == "10.96.0.2"
    assert len(profile("three-nodes")["spec"]["nodes"]) == 3
    with pytest.raises(UsageError, match="Did you mean two-nodes"):
        profile("two-node")


def test_seed_of_a_new_session() -> None:
    """The one given, else the topology's, else 7."""
    topology = {"spec": {"seed": 11, "nodes": [{"name": "a"}]}}
    assert settings_for(None, None)["seed"] == 7
    assert settings_for(topology, None)["seed"] == 11
    assert settings_for(topology, 3)["seed"] == 3


def test_the_default_topology_is_three_nodes() -> None:
    assert same_cluster(None, PROFILES["three-nodes"][1])
    assert not same_cluster(None, PROFILES["two-nodes"][1])
    without = {"spec": {"nodes": PROFILES["two-nodes"][1]["spec"]["nodes"], "kubernetesService": "10.96.0.2"}}
    assert same_cluster(without, PROFILES["two-nodes"][1])


def test_two_commands_start_one_front(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is taken while nobody listens yet: another command is starting the front. We wait and connect, and start none."""
    from kubenet.cli.command import State

    started: list[int] = []
    answers = [None, None, None]
    real = client_module.try_connect

    def late(session: Any, timeout: float | None = None) -> Any:
        return answers.pop() if answers else real(session, timeout)

    monkeypatch.setattr(client_module, "try_connect", late)
    monkeypatch.setattr(client_module, "_start_front", lambda *_: started.append(1))
    client_module.connect(State()).close()
    assert (answers, started) == ([], [])


def test_a_front_that_cannot_start_says_why(kubenet: Any, monkeypatch: pytest.MonkeyPatch, home: Any) -> None:
    """The starting process reports an error on its pipe: that error is ours."""
    script = ("import os, sys, json; fd = int(sys.argv[sys.argv.index('--ready-fd') + 1]); "
              "os.write(fd, json.dumps({'error': {'what': 'no room', 'why': '', 'try': '', 'at': '', 'exit': 4}}).encode() + b'\\n')")
    real = subprocess.Popen

    def popen(argv: list[str], **more: Any) -> Any:
        return real([sys.executable, "-c", script, *argv], **more)

    monkeypatch.setattr(subprocess, "Popen", popen)
    found = kubenet("get", "pods")
    assert (found.code, found.err) == (4, "error: no room\n")


def test_completion_asks_a_running_front(fake: Any) -> None:
    fake.answers["names"] = {"names": {"pods": ["client", "web-0"], "nodes": ["node-1"], "services": ["web"]}}
    assert _complete("kubenet exec w", fake) == ["web-0"]
    assert _complete("kubenet get pods c", fake) == ["client"]
    assert _complete("kubenet trace client w", fake) == ["web", "web-0"]
    assert "services" in _complete("kubenet get s", fake)
    assert _complete("kubenet ge", fake) == ["get"]
    assert _complete("kubenet up t", fake) == ["three-nodes", "two-nodes"]


def _complete(line: str, fake: Any) -> list[str]:
    """What Tab offers in bash at the end of the line."""
    import os

    env = {**os.environ, "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_KUBENET_COMPLETE": "bash_complete"}
    done = subprocess.run([sys.executable, "-m", "kubenet.cli.main"], env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [row.partition(",")[2] for row in done.stdout.splitlines()]


def test_completion_never_waits_and_never_starts(fake: Any, home: Any) -> None:
    """A front that is busy has 50 ms; where none runs there are no names."""
    fake.silent = True
    begin = time.monotonic()
    assert names() == {}
    assert time.monotonic() - begin < 0.5
    fake.stop()
    assert names() == {} and not fake.session.running()


def test_a_front_that_cannot_write_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """On a full disk it has no log to leave its last words in."""
    def full(session: Session) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(session.lock))

    monkeypatch.setenv("KUBENET_HOME", str(tmp_path))
    monkeypatch.setattr(Session, "acquire", full)
    reader, writer = os.pipe()
    assert front.main(["--session", "s", "--ready-fd", str(writer)]) == 1
    os.close(writer)
    with os.fdopen(reader) as pipe:
        error = json.loads(pipe.read())["error"]
    assert error["what"] == "the session's directory cannot be written" and "No space left" in error["why"]


def test_the_cni_mode_is_part_of_the_cluster() -> None:
    """`up --cni-mode` overrides the Topology's cniMode; host-gw is what a Topology without one means."""
    plain = PROFILES["two-nodes"][1]
    tunnel = with_cni_mode(plain, "vxlan")
    assert tunnel["spec"]["cniMode"] == "vxlan" and "cniMode" not in plain["spec"]
    assert same_cluster(plain, with_cni_mode(tunnel, "host-gw")) and not same_cluster(plain, tunnel)
    assert with_cni_mode(None, "vxlan")["metadata"]["name"] == "three-nodes"
