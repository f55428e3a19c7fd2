"""The whole thing: command lines as processes, a real front and a real engine, the labs' cluster.

Each test that stops, kills or resets something has a session of its own; the others share one, and leave it as they found it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PODS = str(ROOT / "manifests" / "pods")


class Shell:
    """Runs kubenet in a session."""

    def __init__(self, home: Path, session: str) -> None:
        self.session = session
        self.dir = home / "sessions" / session
        self.env = {**os.environ, "KUBENET_HOME": str(home), "KUBENET_SESSION": session, "KUBECONFIG": str(self.dir / "kubeconfig")}

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """A command line under way."""
        return subprocess.Popen([sys.executable, "-m", "kubenet.cli.main", *words], env=self.env, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __call__(self, *words: str, stdin: bytes = b"", code: int = 0) -> str:
        """What a command line prints on standard output; its exit code must be `code`."""
        process = self.start(*words)
        out, err = process.communicate(stdin, timeout=60)
        assert process.returncode == code, f"{words}: {process.returncode}\n{out.decode()}\n{err.decode()}"
        self.err = err.decode()
        return out.decode()

    def status(self) -> dict[str, object]:
        """The session's status."""
        found: dict[str, object] = json.loads(self("status", "-o", "json"))
        return found

    def rest(self) -> dict[str, object]:
        """The status once time stands still: what a kubectl wrote may go on to have consequences after it was answered."""
        for _ in range(600):
            found = self.status()
            if found["mode"] == "frozen":
                return found
            time.sleep(0.05)
        raise AssertionError(f"time does not stand still: {found}")


@pytest.fixture(scope="module")
def module_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e")


@pytest.fixture(scope="module")
def shared(module_home: Path) -> Iterator[Shell]:
    """The labs' cluster with its pods, running."""
    shell = Shell(module_home, "shared")
    shell("apply", "-f", PODS)
    yield shell
    shell("reset", "--yes")


@pytest.fixture
def own(module_home: Path, request: pytest.FixtureRequest) -> Iterator[Shell]:
    """A session that this test may do anything to."""
    shell = Shell(module_home, f"own-{abs(hash(request.node.name)) % 10**6}")
    yield shell
    shell("reset", "--yes")


def _gone(pid: int) -> bool:
    """True once no process of that number runs; zombies do not count."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


def test_apply_starts_the_cluster_of_the_manifests(shared: Shell) -> None:
    """manifests/pods brings its Topology: two nodes, pinned addresses."""
    assert shared("get", "nodes", "-o", "name") == "node/node-1\nnode/node-2\n"
    rows = [line.split() for line in shared("get", "pods", "-o", "wide", "--no-headers").splitlines()]
    assert [(r[0], r[1], r[5], r[6]) for r in rows] == [
        ("client", "1/1", "10.48.1.5", "node-1"), ("web-0", "1/1", "10.48.2.7", "node-2"), ("web-1", "1/1", "10.48.1.6", "node-1")]
    assert set(shared("apply", "-f", PODS).splitlines()) == {
        f"{name} unchanged" for name in ("pod/client", "pod/web-0", "pod/web-1", "service/web", "service/db")}


def test_the_service_answers_and_the_exit_code_passes(shared: Shell) -> None:
    assert shared("exec", "client", "--", "curl", "-s", "http://web/hostname").strip() in ("web-0", "web-1")
    shared("exec", "client", "--", "sh", "-c", "exit 9", code=9)
    shared("exec", "client", "--", "curl", "-s", "db:5432", code=7)
    shared("exec", "client", "--", "no-such-command", code=127)
    shared("exec", "clinet", "--", "ls", code=125)
    assert "Did you mean client?" in shared.err
    shared("exec", "web", "--", "ls", code=2)


def test_stdin_goes_through(shared: Shell) -> None:
    data = bytes(range(32, 127)) * 3000
    assert shared("exec", "-i", "client", "--", "cat", stdin=data).encode() == data
    assert shared("exec", "-i", "client", "--", "wc", "-c", stdin=data).strip() == str(len(data))


def test_ctrl_c_ends_the_command_in_the_pod(shared: Shell) -> None:
    process = shared.start("exec", "client", "--", "sh", "-c", "echo ready; sleep infinity")
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    process.communicate()
    assert "sleep" not in shared("exec", "client", "--", "ps")


def test_trace_of_a_service(shared: Shell) -> None:
    """The letter changes on one line, and that line says NAT."""
    text = shared("trace", "client", "web:80", "--width", "80")
    assert text.startswith("TRACE ") and "ok, delivered" in text.splitlines()[0]
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "  C  10.48.1.5:" in text and "  V  10.96.0.1:80" in text
    nat = [line for line in text.splitlines() if " NAT" in line and "C → P" in line]
    assert len(nat) == 1 and "KUBE-SEP-" in nat[0]
    wide = shared("trace", "--last", "client", "--width", "120")
    assert all(len(line) <= 120 for line in wide.splitlines())


def test_a_flooded_copy_is_no_loss(shared: Shell) -> None:
    """A bridge that forgot a MAC (ageing 300 s) floods the frame; the copy that another pod ignores does not make it a drop."""
    shared("run", "301s")
    assert "ok, delivered" in shared("trace", "client", "web:80").splitlines()[0]


def test_trace_of_a_service_without_endpoints_says_no(shared: Shell) -> None:
    """kube-proxy rejects; the question "does it get there" is answered with 1."""
    found = json.loads(shared("trace", "client", "db:5432", "-o", "json", code=1))
    assert found["outcome"] != "delivered"


def test_pcap_around_a_command(shared: Shell, tmp_path: Path) -> None:
    from kubenet.wire.pcap import read_pcapng

    file = tmp_path / "client.pcapng"
    shared("pcap", "client:eth0", "-w", str(file), "--", "client", "curl", "-s", "http://10.96.0.1/")
    with file.open("rb") as stream:
        packets = list(read_pcapng(stream))
    assert f"{len(packets)} packets in {file}\n" == shared.err and len(packets) >= 7


def test_pcap_replay_is_an_input_that_undo_takes_back(shared: Shell, tmp_path: Path) -> None:
    """What client received before is received again; the frames are the journal's, so the file may go before undo replays them."""
    file = tmp_path / "client.pcapng"
    shared("pcap", "client:eth0", "-w", str(file), "--", "client", "curl", "-s", "http://10.96.0.1/")
    before = json.loads(shared("status", "-o", "json"))["digest"]
    found = json.loads(shared("pcap", "replay", str(file), "client:eth0", "-o", "json"))
    assert found["frames"] > 2 and found["outgoing"] > 2 and (found["place"], found["device"]) == ("client", "eth0")
    assert json.loads(shared("status", "-o", "json"))["digest"] != before
    file.unlink()
    shared("run", "1s")
    shared("undo", "2")
    assert json.loads(shared("status", "-o", "json"))["digest"] == before


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
@pytest.mark.parametrize("words", ["get pods", "get pods,svc -A", "get all", "get nodes -o wide", "get pod web-0 -o yaml",
                                   "get svc web -o json", "get pods -o jsonpath={.items[*].status.podIP}", "get pods -l app=web -L app"])
def test_get_prints_what_kubectl_prints(shared: Shell, words: str) -> None:
    for _ in range(100):
        if (shared.dir / "kubeconfig").exists():
            break
        time.sleep(0.05)
    theirs = subprocess.run(["kubectl", *words.split()], env=shared.env, capture_output=True, text=True, timeout=60, check=True)
    assert shared(*words.split()) == theirs.stdout


def test_topo_draws_the_pods_in_their_nodes(shared: Shell) -> None:
    text = shared("topo", "--service", "web")
    assert " node-1  172.18.0.2" in text and "web-1 * 10.48.1.6" in text and "client" not in text
    assert "V 10.96.0.1:80 lives in the nodes' rules only" in text


def test_undo_takes_a_command_back(own: Shell) -> None:
    own("apply", "-f", PODS)
    before = own.status()
    own("delete", "pod", "web-0")
    assert own("get", "pods", "-o", "name") == "pod/client\npod/web-1\n"
    assert "undone: delete pod web-0\n" in own("undo")
    after = own.status()
    assert (after["now"], after["digest"]) == (before["now"], before["digest"])
    assert own("get", "pods", "-o", "name") == "pod/client\npod/web-0\npod/web-1\n"
    assert [line.split(maxsplit=2)[2] for line in own("history").splitlines()] == [f"apply -f {PODS}"]


@pytest.mark.parametrize("way", ["down", "kill"])
def test_a_session_comes_back_after_an_undo(own: Shell, way: str) -> None:
    """The engine that undo made out of a checkpoint writes the same journal that the next one reads."""
    own("apply", "-f", PODS)
    own("exec", "client", "--", "curl", "-s", "web")
    own("run", "60s")
    own("undo")
    own("exec", "client", "--", "nslookup", "web")
    before = own.status()
    if way == "down":
        own("down")
    else:
        os.kill(int(str(before["engine_pid"])), signal.SIGKILL)
    own("get", "pods")
    after = own.status()
    assert (after["now"], after["step"], after["digest"]) == (before["now"], before["step"], before["digest"])
    assert own("history").count("exec client") == 2
    check = sqlite3.connect(own.dir / "journal.sqlite")
    assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    check.close()


def test_a_session_comes_back_the_same(own: Shell) -> None:
    """After `down`, and after the front was killed: the journal rebuilds the state, digest and all."""
    own("up", "two-nodes")
    own("exec", "node-1", "--", "ping", "-c", "2", "172.18.0.3")
    before = own.status()
    own("down")
    assert own("status").startswith(f"session {own.session}: stopped")
    assert own("time").startswith("t=")
    again = own.status()
    assert (again["now"], again["step"], again["digest"]) == (before["now"], before["step"], before["digest"])
    front = int((own.dir / "front.lock").read_text())
    os.kill(front, signal.SIGKILL)
    assert _gone(front) and _gone(int(str(again["engine_pid"])))
    last = own.status() if own("time") else {}
    assert last["digest"] == before["digest"]


def test_an_interrupted_run_stops_and_replays_to_where_it_stopped(own: Shell) -> None:
    """Where Ctrl-C came is the host's decision, so it is journaled; `get` answers meanwhile."""
    own("up", "two-nodes")
    process = own.start("run", "10000000h")
    for _ in range(200):
        if own.status()["mode"] == "fast":
            break
    assert own("get", "nodes", "-o", "name") == "node/node-1\nnode/node-2\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    stopped = own.status()
    assert stopped["mode"] == "frozen" and int(str(stopped["now"])) < 10_000_000 * 3600 * 10**9
    own("down")
    own("time")
    again = own.status()
    assert (again["now"], again["step"], again["digest"]) == (stopped["now"], stopped["step"], stopped["digest"])


def test_two_commands_at_once_start_one_front(own: Shell) -> None:
    processes = [own.start("get", "nodes", "-o", "name") for _ in range(3)]
    outputs = [p.communicate(timeout=60) for p in processes]
    assert [p.returncode for p in processes] == [0, 0, 0], outputs
    assert {out for out, _ in outputs} == {b"node/node-1\nnode/node-2\nnode/node-3\n"}


def test_reset_leaves_nothing_behind(own: Shell) -> None:
    own("up")
    found = own.status()
    front = int((own.dir / "front.lock").read_text())
    own("reset", "--yes")
    assert _gone(front) and _gone(int(str(found["engine_pid"]))) and not own.dir.exists()
    own("status", code=6)


def test_up_with_a_bad_topology_leaves_no_session(own: Shell, tmp_path: Path) -> None:
    """The next `up` must not meet the remains of a session that never was."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("apiVersion: kubenet.dev/v1\nkind: Topology\nmetadata: {name: bad}\nspec:\n  nodes: [{name: a}, {name: a}]\n")
    own("up", "-f", str(bad), code=4)
    own("status", code=6)
    own("up", "two-nodes")


def test_run_once_needs_no_session(module_home: Path) -> None:
    """`run PATH -- POD CMD`: output and exit code of the command, no files left."""
    shell = Shell(module_home, "never")
    assert shell("run", PODS, "--", "client", "curl", "-s", "http://web/hostname").strip() in ("web-0", "web-1")
    shell("run", PODS, "--", "client", "sh", "-c", "echo oh >&2; exit 3", code=3)
    assert shell.err == "oh\n"
    shell("run", PODS, "--", "clinet", "ls", code=125)
    assert shell("run", PODS, "-i", "--", "client", "cat", stdin=b"hello") == "hello"
    shell("run", PODS, "--trace", "--", "client", "curl", "-s", "http://web/hostname")
    assert shell.err.startswith("TRACE ")
    assert not shell.dir.exists()


def test_the_same_seed_gives_the_same_run(module_home: Path) -> None:
    """Three processes, three hash seeds: one output, to the microsecond of a ping."""
    shell = Shell(module_home, "never")
    outputs = set()
    for seed in ("0", "1", "4711"):
        shell.env["PYTHONHASHSEED"] = seed
        outputs.add(shell("run", PODS, "--", "client", "ping", "-c", "2", "10.48.2.7"))
    assert len(outputs) == 1


def test_a_dry_trace_leaves_nothing(shared: Shell) -> None:
    """The probe of --dry is real, in a copy: clock, digest and packet count here stay what they were."""
    before = shared.status()["digest"]
    assert "ok, delivered" in shared("trace", "client", "web:80", "--dry")
    assert shared.status()["digest"] == before


def test_the_diagram_marks_the_hooks_of_the_translating_node(shared: Shell) -> None:
    """A forwarded, DNATed SYN: PREROUTING's conntrack and nat, the route, FORWARD, POSTROUTING; neither INPUT nor OUTPUT."""
    text = shared("trace", "client", "web:80", "--diagram")
    assert "[conntrack*]" in text and "[nat* DNAT]" in text and "(route*)" in text
    assert text.splitlines()[3].count("*") == 0 and max(map(len, text.splitlines())) <= 80
