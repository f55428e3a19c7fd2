"""The frame of the command line: screens, help, errors, exit codes, and what starting it must not cost."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Any

import click
import pytest

from kubenet.cli import main as main_module
from kubenet.cli.command import Cmd
from kubenet.cli.main import COMMANDS, cli, main


def test_kubenet_alone_shows_the_first_steps(kubenet: Any) -> None:
    found = kubenet()
    assert found.code == 0 and found.err == ""
    assert found.out.startswith("kubenet: a Kubernetes network you can stop, rewind and look inside.\n")
    assert "  kubenet trace client web:80         see why it works\n" in found.out


def test_help_names_every_command(kubenet: Any) -> None:
    text = kubenet("help").out
    assert text == kubenet("--help").out
    for name in COMMANDS:
        assert f" {name} " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_fits_80_columns_and_has_examples(kubenet: Any, name: str) -> None:
    found = kubenet("help", name)
    assert found.code == 0
    assert found.out.startswith(f"usage: kubenet {name}")
    assert [line for line in found.out.splitlines() if len(line) > 80] == []
    assert "\nExamples:\n" in found.out
    assert found.out == kubenet(name, "--help").out


def _command(name: str) -> Cmd:
    found = cli.get_command(click.Context(cli), name)  # type: ignore[attr-defined]
    assert isinstance(found, Cmd)
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_the_help_parse(name: str) -> None:
    """Every example line that is a plain `kubenet NAME ...` is accepted by that command's own parser."""
    import shlex

    command = _command(name)
    for line, _ in command.examples:
        words = shlex.split(line.split(" < ")[0].split(" > ")[0].removeprefix("echo hello | ").split(" | ")[0])
        if "kubenet" not in words or line.startswith("eval"):
            continue
        words = words[words.index("kubenet") + 1 :]
        while words[0] == "--session":
            words = words[2:]
        assert words[0] == name
        command.make_context(name, words[1:], parent=click.Context(cli))


@pytest.mark.parametrize("words, code, text", [
    (["gte"], 2, "error: no command 'gte'. Did you mean get?\n  try: kubenet help\n"),
    (["lab", "start"], 2, "error: `kubenet lab` is not there yet\n  try: kubenet help\n"),
    (["get"], 2, "error: missing argument 'KIND [NAME...]'\n  try: kubenet help get\n"),
    (["get", "pods", "--colour"], 2, "error: no such option"),
    (["undo", "0"], 2, "error: invalid value for '[COUNT]': 0 is not in the range x>=1\n  try: kubenet help undo\n"),
    (["--session", "no/slash", "status"], 2, "error: 'no/slash' is no name for a session\n"),
    (["help", "gte"], 2, "error: no command 'gte'. Did you mean get?\n  try: kubenet help\n"),
])
def test_wrong_usage(kubenet: Any, words: list[str], code: int, text: str) -> None:
    found = kubenet(*words)
    assert (found.code, found.out) == (code, "")
    assert found.err.startswith(text)


@pytest.mark.parametrize("words", [["undo"], ["history"], ["time"], ["status"], ["pcap", "list"], ["pcap", "stop", "-w", "x"],
                                   ["trace", "--last"], ["delete", "pod", "web-0"]])
def test_commands_without_a_session_say_so_and_start_nothing(kubenet: Any, home: Any, words: list[str]) -> None:
    found = kubenet(*words)
    assert found.code == 6
    assert found.err.startswith("error: there is no session") and "try: kubenet up" in found.err
    assert not (home / "sessions").exists() or not list((home / "sessions").glob("*/front.lock"))


def test_an_unknown_exception_is_a_bug_and_names_the_journal(kubenet: Any, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the sky fell")

    monkeypatch.setattr(main_module.Root, "get_command", broken)
    found = kubenet("status")
    assert found.code == 70
    assert found.err.startswith("error: a bug in kubenet: RuntimeError: the sky fell\n")
    assert str(fake.session.journal) in found.err and "Traceback" not in found.err
    found = kubenet("--debug", "status")
    assert "Traceback" in found.err


def test_shared_options_may_stand_after_the_commands_name(kubenet: Any) -> None:
    assert "session     mine (none)" in kubenet("version", "--session", "mine").out
    assert "session     mine (none)" in kubenet("--session", "mine", "version").out


def test_version_as_json(kubenet: Any) -> None:
    import json

    found = json.loads(kubenet("version", "--client", "-o", "json").out)
    assert found["kubernetes"] == "v1.32.4+kubenet" and found["kernel"] == "linux-6.18" and "session" not in found


def test_a_closed_pipe_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """`kubenet help | head -1`: the reader has enough; nothing is said, and the code is SIGPIPE's."""
    source = "import sys; from kubenet.cli.main import main; sys.exit(main(['help']))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", source], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


HEAVY = ("yaml", "networkx", "aiohttp", "asyncio", "cryptography", "sqlite3", "ssl", "kubenet.kernel", "kubenet.sim",
         "kubenet.cluster.cluster", "kubenet.cluster.api.schema", "kubenet.engine.engine", "subprocess")


@pytest.mark.parametrize("words", [["--help"], ["version", "--client"], ["help", "get"], ["version"]])
def test_light_commands_import_nothing_heavy(words: list[str]) -> None:
    assert _heavy_after(words) == "[]"


def test_get_on_a_warm_session_imports_nothing_heavy(fake: Any) -> None:
    fake.pod("web-0")
    assert _heavy_after(["get", "pods"]) == "[]"


def _heavy_after(words: list[str]) -> str:
    """Which heavy modules a command line has loaded when it ends."""
    source = (f"import sys; from kubenet.cli.main import main; code = main({words!r}); "
              f"print([m for m in {HEAVY!r} if m in sys.modules], code, file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    found, _, code = done.stderr.strip().splitlines()[-1].rpartition(" ")
    assert code == "0"
    return found


def test_main_returns_what_a_command_returns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(["help"]) == 0
