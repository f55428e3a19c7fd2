"""`save`, `load`, `wait` and `events` as processes, with a real engine."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_end_to_end import PODS, Shell

STATE = ("digest", "now", "step")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    found = Shell(tmp_path_factory.mktemp("s"), "mine")
    found("apply", "-f", PODS)
    found("exec", "client", "--", "curl", "-s", "http://web")
    yield found
    found("reset", "--yes")


def _other(shell: Shell, name: str) -> Shell:
    return Shell(shell.dir.parent.parent, name)


def test_a_loaded_session_is_the_saved_one(shell: Shell, tmp_path: Path) -> None:
    """Saved running and saved stopped is the same file; loaded, it stands where it stood, and goes on in the same way."""
    files = [tmp_path / "running.kn", tmp_path / "stopped.kn"]
    before = shell.status()
    shell("save", str(files[0]))
    shell("down")
    shell("save", str(files[1]))
    assert files[0].read_bytes() == files[1].read_bytes()
    other = _other(shell, "theirs")
    found = json.loads(other("load", str(files[0]), "-o", "json"))
    assert [found[key] for key in STATE] == [before[key] for key in STATE] and found["session"] == "theirs"
    for each in (shell, other):
        each("exec", "client", "--", "curl", "-s", "http://web")
    assert [other.status()[key] for key in STATE] == [shell.status()[key] for key in STATE]
    assert other("history") == shell("history")
    other("load", str(files[0]), code=6)
    other("reset", "--yes")


def test_what_cannot_be_loaded_leaves_no_session(shell: Shell, tmp_path: Path) -> None:
    file, other = tmp_path / "s.kn", _other(shell, "broken")
    shell("save", str(file))
    shell("save", str(file), code=2)
    other("load", str(tmp_path / "nix"), code=3)
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    other("load", str(file), code=4)
    assert "checksum" in other.err or "cut off" in other.err
    file.write_bytes(_resealed(whole, b'"seed\\": 7', b'"seed\\": 8'))
    other("load", str(file), code=4)
    assert "cannot be replayed" in other.err and "the recording had reached" in other.err
    file.write_bytes(_resealed(whole, b'"digest": "', b'"digest": "0'))
    other("load", str(file), code=4)
    assert "does not lead where it says" in other.err
    file.write_bytes(_resealed(whole, b'"nodes\\": ', b'"noodles\\": '))
    other("load", str(file), code=4)
    file.write_bytes(_resealed(whole, b'"python": "3.', b'"python": "2.'))
    other("load", str(file), code=6)
    assert "python was 2." in other.err
    other("load", "--replay-anyway", str(file))
    other("reset", "--yes")
    assert not other.dir.exists()


def _resealed(whole: bytes, old: bytes, new: bytes) -> bytes:
    """The file as a stranger would change it: with a checksum that fits."""
    from hashlib import blake2b

    assert old in whole
    *lines, last = whole.replace(old, new, 1).splitlines(keepends=True)
    data = b"".join(lines)
    return data + json.dumps({**json.loads(last), "check": blake2b(data, digest_size=16).hexdigest()}).encode() + b"\n"


def test_consent_to_pod_code_does_not_travel(shell: Shell, tmp_path: Path) -> None:
    mine, file = _other(shell, "coder"), tmp_path / "s.kn"
    mine("up", "--allow-pod-code")
    mine("save", str(file))
    mine("reset", "--yes")
    mine("load", str(file), code=2)
    assert "Python programs" in mine.err and not mine.dir.exists()
    mine("load", "--allow-pod-code", str(file))
    mine("reset", "--yes")


def test_wait_says_and_does_as_kubectl(shell: Shell) -> None:
    """The same words for the same wishes; kubectl's own error for what it cannot find."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here")
    for words in (["--for=condition=Ready", "pod/web-0"], ["--for=condition=ready", "pod", "--all"],
                  ["--for=jsonpath={.status.phase}=Running", "pod", "-l", "app=web"], ["--for=create", "svc/web"],
                  ["--for=delete", "pod/nobody"]):
        theirs = subprocess.run(["kubectl", "wait", *words], env=shell.env, capture_output=True, text=True, timeout=60)
        ours = shell("wait", *words)
        assert (theirs.returncode, theirs.stdout) == (0, ours), theirs.stderr
    shell("wait", "--for=condition=Ready", "pod/nobody", code=3)
    shell("wait", "--for=condition=Ready", "pod", "-l", "app=nobody", code=3)
    shell("wait", "--for=condition=Ready", "pod", code=2)


def test_wait_stops_at_the_moment(shell: Shell) -> None:
    """A pod of one second's start: not before, and a replay stops there, too."""
    shell("exec", "client", "--", "true")
    before = int(str(shell.status()["now"]))
    shell("wait", "--for=condition=Ready=false", "pod/web-0", "--timeout", "3s", code=5)
    assert "still not so at" in shell.err
    assert int(str(shell.status()["now"])) == before + 3 * 10**9
    shell("wait", "--for=condition=Ready=false", "pod/web-0", "--timeout", "0", code=5)
    assert int(str(shell.status()["now"])) == before + 3 * 10**9
    subprocess.run(["kubectl", "delete", "--wait=false", "pod", "web-1"], env=shell.env, check=True, timeout=60)
    shell("wait", "--for=delete", "pod/web-1")
    shell("get", "pod", "web-1", code=3)
    state = [shell.status()[key] for key in STATE]
    shell("down")
    shell("time")
    assert [shell.status()[key] for key in STATE] == state


def test_events_oldest_first_and_about_one(shell: Shell) -> None:
    """The columns of `kubectl events`; object as Kind/name."""
    lines = shell("events", "--for", "pod/web-0").splitlines()
    assert lines[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    reasons = [line.split()[2] for line in lines[1:]]
    assert reasons == ["Pulled", "Created", "Started"]
    assert all("Pod/web-0" in line for line in lines[1:])
    if shutil.which("kubectl") is not None:
        theirs = subprocess.run(["kubectl", "events", "--for", "pod/web-0"], env=shell.env, capture_output=True, text=True, timeout=60)
        assert [line.split()[1:] for line in theirs.stdout.splitlines()[1:]] == [line.split()[1:] for line in lines[1:]]
    assert shell("events", "-A", "--types", "warning").startswith(("NAMESPACE", ""))
    shell("events", "--types", "Bad", code=2)
    shell("events", "--for", "web-0", code=2)
    assert json.loads(shell("events", "--for", "pod/web-0", "-o", "json"))["items"][0]["reason"] == "Pulled"


def test_doctor_says_what_is_wrong_and_ends_with_one(shell: Shell) -> None:
    other = _other(shell, "ill")
    assert "there is no session ill" in other("doctor")
    other("apply", "-f", PODS)
    assert "error: service db has no endpoints" in other("doctor", code=1)
    other("delete", "svc", "db")
    assert other("doctor").endswith(": nothing is wrong\n")
    before = other.status()
    found = json.loads(other("doctor", "-o", "json"))
    assert found["wrong"] == 0 and "conntrack" in found["checks"] and other.status() == before
    other("reset", "--yes")
