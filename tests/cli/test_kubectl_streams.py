"""A real kubectl's logs and exec against a real front and engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_end_to_end import PODS, Shell

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")

CRASHES = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "crashes"}, "spec": {"containers": [
    {"name": "c", "image": "busybox", "command": ["sh", "-c", "echo try at $(date +%s); sleep 2; exit 1"]}]}}


# kubectl reads before it has made its streams: the first, empty message may be too early for it, with any server
EARLY = re.compile(r"E\d{4} .* websocket\.go:\d+\] Unknown stream id 1, discarding message")


class Kubectl:
    """Runs kubectl in a session."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        for _ in range(100):
            if (shell.dir / "kubeconfig").exists():
                break
            time.sleep(0.05)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["kubectl", *words], env=self.shell.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def __call__(self, *words: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
        process = self.start(*words)
        out, err = process.communicate(stdin, timeout=60)
        said = [line for line in err.decode().splitlines(keepends=True) if not EARLY.match(line)]
        return process.returncode, out, "".join(said)


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    shell = Shell(tmp_path_factory.mktemp("k"), "kubectl")
    shell("apply", "-f", PODS)
    yield Kubectl(shell)
    shell("reset", "--yes")


def test_exec_hands_on_output_and_exit_code(kubectl: Kubectl) -> None:
    assert kubectl("exec", "client", "--", "sh", "-c", "echo out; echo err >&2; exit 7") == (
        7, b"out\n", "err\ncommand terminated with exit code 7\n")
    assert kubectl("exec", "client", "--", "sh", "-c", "kill -9 $$")[0] == 137
    assert kubectl("exec", "client", "--", "curl", "-s", "http://web/hostname")[1] in (b"web-0", b"web-1")


def test_exec_input_ends_and_is_journaled(kubectl: Kubectl) -> None:
    """End of file crosses (v5); every byte comes back; a replay of the journal gives the same digest."""
    data = bytes(range(256)) * 2000
    assert kubectl("exec", "-i", "client", "--", "cat", stdin=data) == (0, data, "")
    shell = kubectl.shell
    before = shell.rest()
    assert "kubectl exec client -- cat" in shell("history")
    shell("down")
    after = shell.status() if shell("time") else {}
    assert [after[k] for k in ("now", "step", "digest")] == [before[k] for k in ("now", "step", "digest")]


def test_much_input_does_not_make_time_leap(kubectl: Kubectl) -> None:
    """Between two pieces of input the program waits for a person, so the clock may not rush to the next timer."""
    before = int(str(kubectl.shell.status()["now"]))
    kubectl("exec", "-i", "client", "--", "wc", "-c", stdin=bytes(1 << 20))
    assert int(str(kubectl.shell.status()["now"])) - before < 30 * 10**9


def test_exec_with_a_terminal(kubectl: Kubectl) -> None:
    """script(1) gives kubectl a terminal; the emulated one turns the line end into CR LF."""
    if shutil.which("script") is None:
        pytest.skip("no script(1) here")
    done = subprocess.run(["script", "-qec", "kubectl exec -it client -- sh -c 'tty; exit 3'", "/dev/null"], env=kubectl.shell.env,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == 3 and b"/dev/pts/0\r\n" in done.stdout


@pytest.mark.parametrize(("words", "error"), [
    (["exec", "nope", "--", "ls"], 'Error from server (NotFound): pods "nope" not found\n'),
    (["exec", "client", "-c", "bad", "--", "ls"], "Error from server (BadRequest): container bad is not valid for pod client\n"),
    (["exec", "client", "--", "nosuch"], 'exec: "nosuch": executable file not found in $PATH: unknown\n'),
    (["logs", "web-0", "--previous"], 'Error from server (BadRequest): previous terminated container "web" in pod "web-0" not found\n'),
    (["attach", "client"], "kubenet does not serve attach: use exec, logs or port-forward\n"),
])
def test_refusals_are_shown(kubectl: Kubectl, words: list[str], error: str) -> None:
    code, out, err = kubectl(*words)
    assert (code, out) == (1, b"") and err.endswith(error), err


def test_logs(kubectl: Kubectl) -> None:
    line = b"Started HTTP server on port 8080\n"
    assert kubectl("logs", "web-0")[1].endswith(line)
    assert kubectl("logs", "web-0", "--tail=0") == (0, b"", "")
    assert kubectl("logs", "web-0", "--limit-bytes=5")[1] == kubectl("logs", "web-0")[1][:5]
    stamped = kubectl("logs", "web-0", "--timestamps")[1]
    assert stamped.startswith(b"2026-01-01T00:00:00.") and stamped.endswith(line)
    assert kubectl("logs", "-l", "app=web", "--prefix")[1].count(line) == 2


def test_followed_and_previous_logs(kubectl: Kubectl, tmp_path: Path) -> None:
    """-f goes on until the container's end; --previous then shows the one before, kept across its restart."""
    file = tmp_path / "crashes.json"
    file.write_text(json.dumps(CRASHES))
    kubectl.shell("apply", "-f", str(file), "--no-wait")
    for _ in range(50):
        if kubectl("get", "pod", "crashes", "-o", "jsonpath={.status.containerStatuses[0].state.running}")[1]:
            break
        kubectl.shell("run", "100ms")
    code, followed, _ = kubectl("logs", "-f", "crashes")
    assert code == 0 and followed.startswith(b"try at 1767")
    kubectl.shell("run", "2s")
    assert kubectl("logs", "--previous", "crashes")[1] == followed
    assert kubectl("logs", "crashes")[1] not in (b"", followed)
    kubectl.shell("delete", "pod", "crashes")
