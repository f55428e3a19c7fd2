"""The command line against a fake session (fake.py): one in a directory of its own, and a way to run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake import FakeSession

from kubenet.cli.main import main


@dataclass
class Outcome:
    """What one command line did."""

    code: int
    out: str
    err: str


Kubenet = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sessions live in a directory of this test's, and no variable of the outside world counts."""
    path = tmp_path_factory.mktemp("h")
    monkeypatch.setenv("KUBENET_HOME", str(path))
    for name in ("KUBENET_SESSION", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.fixture
def fake() -> Iterator[FakeSession]:
    """A running session with a namespace and two machines' worth of nothing."""
    session = FakeSession()
    session.namespace("default")
    session.session.journal.touch()
    yield session
    session.stop()


@pytest.fixture
def kubenet(capfdbinary: pytest.CaptureFixture[bytes]) -> Kubenet:
    """Run a command line in this process: kubenet("get", "pods")."""
    def run(*words: str) -> Outcome:
        capfdbinary.readouterr()
        code = main(list(words))
        out, err = capfdbinary.readouterr()
        return Outcome(code, out.decode(), err.decode())

    return run
