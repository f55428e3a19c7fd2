"""A program that computes without end is stopped and named; a replay stops it at the same call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubenet.cluster.cluster import Cluster
from kubenet.engine.engine import Engine, Wait
from kubenet.engine.journal import Journal
from kubenet.userland import watchdog

SEC = 1_000_000_000
LOOP = "import os\nprint('begin', flush=True)\nos.getpid()\nwhile True: pass\n"


def _engine(path: Path) -> Engine:
    engine = Engine(Journal(path / "journal.sqlite"), lambda settings: Cluster(seed=7))
    engine.can_fork = False
    engine.start({"seed": 7})
    return engine


def _exec(engine: Engine, argv: list[str]) -> Any:
    handle = engine.put("exec", {"target": "node-1", "argv": argv})
    handle.on_exit.append(lambda _: engine.cluster.loop.stop())
    engine.waits.append(Wait(engine.cluster.loop.now + 60 * SEC, lambda: handle.done, lambda ok: None))
    while engine.waits:
        engine.work()
    engine.mark()
    return handle


def test_a_runaway_is_stopped_named_and_replayed(tmp_path: Path) -> None:
    engine = _engine(tmp_path)
    watchdog.enable(0.3)
    try:
        handle = _exec(engine, ["python3", "-c", LOOP])
    finally:
        watchdog.disable()
    assert handle.exit_code == 137
    said = b"".join(data for stream, data in handle.process.output if stream == 2).decode()
    assert "stopped at" in said and "without a system call" in said
    assert [entry.kind for entry in engine.journal.inputs()].count("runaway") == 1
    digest = engine.cluster.digest()
    engine.journal.close()
    engine.cluster.close()
    again = _engine(tmp_path)  # no watchdog runs now: the journal alone must stop the program
    assert again.cluster.digest() == digest
    again.cluster.close()


def test_pod_code_needs_consent() -> None:
    with Cluster(allow_pod_code=False) as cluster:
        refused = cluster.exec("node-1", ["python3", "-c", "print(1)"])
        assert refused.code == 126 and "consent" in refused.err
        cluster.allow_pod_code(True)
        assert cluster.exec("node-1", ["python3", "-c", "print(1)"]).out == "1\n"


@pytest.mark.parametrize("argv", [["curl", "-s", "http://127.0.0.1:1"], ["ip", "route"]])
def test_native_programs_never_ask(argv: list[str]) -> None:
    with Cluster(allow_pod_code=False) as cluster:
        assert cluster.exec("node-1", argv).code != 126
