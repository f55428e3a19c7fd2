"""The digest matrix: one scenario, many ways to run it and to look at it, one digest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scenario import MODES, TUNNEL, build, play

from kubenet.cluster.cluster import SETTLE_STEP, Cluster
from kubenet.engine.engine import Engine, Wait
from kubenet.engine.journal import Journal

HERE = Path(__file__).parent
SEC = 1_000_000_000


@pytest.fixture(scope="module")
def plain() -> str:
    with Cluster() as cluster:
        return play(cluster)


@pytest.mark.parametrize("mode", MODES[1:])
def test_looking_changes_nothing(plain: str, mode: str) -> None:
    with build(mode) as cluster:
        assert play(cluster) == plain


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_hash_seeds_change_nothing(plain: str, seed: str) -> None:
    done = subprocess.run([sys.executable, str(HERE / "scenario.py"), "plain"], env={**os.environ, "PYTHONHASHSEED": seed},
                          capture_output=True, text=True, check=True)
    assert done.stdout.strip() == plain


@pytest.fixture(scope="module")
def tunnelled() -> str:
    with Cluster(TUNNEL) as cluster:
        return play(cluster)


@pytest.mark.parametrize("mode", ["untraced", "all-traced", "captured"])
def test_looking_into_a_tunnel_changes_nothing(tunnelled: str, plain: str, mode: str) -> None:
    with build(mode, TUNNEL) as cluster:
        assert play(cluster) == tunnelled != plain


def test_hash_seeds_change_nothing_in_a_tunnel(tunnelled: str) -> None:
    done = subprocess.run([sys.executable, str(HERE / "scenario.py"), "plain", "tunnel"], env={**os.environ, "PYTHONHASHSEED": "4242"},
                          capture_output=True, text=True, check=True)
    assert done.stdout.strip() == tunnelled


def test_another_seed_is_another_run(plain: str) -> None:
    with Cluster(seed=8) as cluster:
        assert play(cluster) != plain


def _build(settings: dict[str, Any]) -> Cluster:
    return Cluster(topology=settings["topology"], seed=settings["seed"], epoch=settings["epoch"])


SETTINGS: dict[str, Any] = {"topology": None, "seed": 7, "epoch": 1_767_225_600}


def _session(path: Path) -> Engine:
    engine = Engine(Journal(path / "journal.sqlite"), _build)
    engine.can_fork = False
    engine.start(SETTINGS)
    return engine


def _exec(engine: Engine, target: str, argv: list[str]) -> int:
    """As the service does it: an input, a wait until it ends, a mark."""
    data = {"target": target, "argv": argv, "namespace": "default", "container": "", "tty": False, "stdin": False}
    handle = engine.put("exec", data)
    handle.on_exit.append(lambda _: engine.cluster.loop.stop())
    done: list[bool] = []
    engine.waits.append(Wait(engine.cluster.loop.now + 60 * SEC, lambda: handle.done, done.append))
    while engine.waits:
        engine.work()
    engine.mark()
    return int(handle.exit_code)


def _apply(engine: Engine, name: str) -> None:
    import base64
    import json

    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "busybox:1.36", "command": ["sleep", "infinity"]}]}}
    path = f"/api/v1/namespaces/default/pods/{name}"
    response = engine.put("api", {"method": "PATCH", "path": path, "query": {"fieldManager": ["t"]},
                                  "headers": {"content-type": "application/apply-patch+yaml"},
                                  "body": base64.b64encode(json.dumps(body).encode()).decode()})
    assert response.code == 201, response.body
    engine.waits.append(Wait(engine.cluster.loop.now + 60 * SEC, engine.cluster.settled, lambda ok: None, SETTLE_STEP))
    while engine.waits:
        engine.work()
    engine.mark()


def test_a_replay_ends_in_the_same_digest(tmp_path: Path) -> None:
    """Crash recovery: a new engine on the same journal is the old one, and goes on alike."""
    first = _session(tmp_path)
    _apply(first, "one")
    _apply(first, "two")
    assert _exec(first, "one", ["nslookup", "kubernetes"]) == 0
    digest, now, step = first.cluster.digest(), first.cluster.loop.now, first.cluster.loop.step
    first.journal.close()
    first.cluster.close()
    second = _session(tmp_path)
    assert (second.cluster.digest(), second.cluster.loop.now, second.cluster.loop.step) == (digest, now, step)
    assert _exec(second, "two", ["ip", "route"]) == 0
    second.cluster.close()


def test_a_promoted_fork_is_the_engine_it_was_taken_from(tmp_path: Path) -> None:
    """A fork goes on from its checkpoint to the digest that its parent reaches."""
    engine = _session(tmp_path)
    _apply(engine, "one")
    reader, writer = os.pipe()
    engine.journal.close()
    child = os.fork()
    if child == 0:
        try:
            engine.cluster.run(30 * SEC)
            os.write(writer, engine.cluster.digest().encode())
        finally:
            os._exit(0)
    os.close(writer)
    engine.cluster.run(30 * SEC)
    told = os.read(reader, 100).decode()
    os.waitpid(child, 0)
    assert told == engine.cluster.digest()
    engine.cluster.close()


def test_undo_goes_back_to_where_the_command_began(tmp_path: Path) -> None:
    engine = _session(tmp_path)
    _apply(engine, "one")
    before = (engine.cluster.digest(), engine.cluster.loop.now)
    _exec(engine, "one", ["nslookup", "kubernetes"])
    entry, texts = engine.rewind_point(1)
    assert texts == ["exec"]
    engine.journal.truncate(entry.seq)
    engine.restart()
    engine.replay()
    engine.advance(entry.step, entry.time)
    assert (engine.cluster.digest(), engine.cluster.loop.now) == before
    engine.cluster.close()
