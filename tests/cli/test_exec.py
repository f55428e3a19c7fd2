"""`exec`, `logs`, `pcap`: streams and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest


def test_output_and_exit_code_pass_through(kubenet: Any, fake: Any) -> None:
    fake.output = [(1, b"hello\n"), (2, b"oh\n")]
    fake.exit_code = 7
    found = kubenet("exec", "client", "--", "curl", "-s", "http://web")
    assert (found.code, found.out, found.err) == (7, "hello\n", "oh\n")
    asked = fake.asked[0]
    assert asked["argv"] == ["curl", "-s", "http://web"] and asked["target"] == "client" and asked["namespace"] == "default"
    assert (asked["stdin"], asked["tty"], asked["cmd"]) == (False, False, "exec client -- curl -s http://web")


def test_options_of_the_command_are_its_own(kubenet: Any, fake: Any) -> None:
    """Everything after -- is the command's, further -- and --help included."""
    kubenet("exec", "client", "-n", "shop", "-c", "web", "--", "sh", "-c", "x", "--", "--help", "-n", "y")
    assert fake.asked[0]["argv"] == ["sh", "-c", "x", "--", "--help", "-n", "y"]
    assert (fake.asked[0]["namespace"], fake.asked[0]["container"]) == ("shop", "web")


@pytest.mark.parametrize("error, code", [
    ({"what": 'no pod or node "clent"', "exit": 3}, 125),
    ({"what": "not running", "exit": 6}, 125),
    ({"what": '"web" is a service; commands run in pods or on nodes.', "exit": 2}, 2),
    ({"what": "permission denied", "exit": 126}, 126),
    ({"what": "curl: not found", "exit": 127}, 127),
])
def test_failures_of_its_own(kubenet: Any, fake: Any, error: dict[str, Any], code: int) -> None:
    fake.errors["exec"] = error
    found = kubenet("exec", "clent", "--", "ls")
    assert found.code == code and found.err == f"error: {error['what']}\n"


@pytest.mark.parametrize("words", [["exec", "client"], ["exec", "client", "ls"], ["exec", "client", "--"],
                                   ["exec", "client", "x", "--", "ls"]])
def test_the_command_stands_after_the_dashes(kubenet: Any, fake: Any, words: list[str]) -> None:
    found = kubenet(*words)
    assert found.code == 2 and "error: the command to run stands after --" in found.err
    assert fake.asked == []


def _process(*words: str, **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "kubenet.cli.main", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **more)


def test_stdin_is_streamed_with_i(fake: Any) -> None:
    """More than a pipe holds, in both directions at once."""
    fake.echo_stdin = True
    data = bytes(range(256)) * 8000
    out, err = _process("exec", "-i", "client", "--", "cat").communicate(data)
    assert (out, err) == (data, b"")


def test_without_i_stdin_is_left_alone(kubenet: Any, fake: Any) -> None:
    kubenet("exec", "client", "--", "cat")
    assert [r["op"] for r in fake.asked] == ["exec"]


def test_ctrl_c_is_a_sigint_for_the_command(fake: Any) -> None:
    fake.wait_for_signal = True
    fake.output = [(1, b"ready\n")]
    process = _process("exec", "client", "--", "sleep", "infinity")
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    process.communicate()
    assert fake.asked[-1]["op"] == "signal" and fake.asked[-1]["signal"] == 2


def test_the_end_of_the_session_is_said(fake: Any) -> None:
    """The engine dies under a running command: 125, not a traceback."""
    fake.wait_for_signal = True
    fake.output = [(1, b"ready\n")]
    fake.op_signal = lambda connection, header, body: connection.shutdown(2)
    process = _process("exec", "client", "--", "x")
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 125 and err.startswith(b"error: the session's process is gone\n")


def test_virtual_time_limit(kubenet: Any, fake: Any) -> None:
    kubenet("exec", "client", "--timeout", "1m", "--", "ls")
    assert fake.asked[0]["timeout_ns"] == 60_000_000_000
    assert kubenet("exec", "client", "--timeout", "soon", "--", "ls").code == 2


def test_logs(kubenet: Any, fake: Any) -> None:
    fake.log = b"one\ntwo\n"
    assert kubenet("logs", "deploy/web", "--tail", "2", "--since", "10s", "--timestamps", "-c", "web").out == "one\ntwo\n"
    asked = fake.asked[0]
    assert (asked["target"], asked["tail"], asked["since_ns"], asked["timestamps"], asked["container"]) == (
        "deploy/web", 2, 10_000_000_000, True, "web")
    kubenet("logs", "web-0")
    assert (fake.asked[1]["tail"], fake.asked[1]["since_ns"], fake.asked[1]["follow"]) == (None, None, False)


def test_pcap_around_a_command(kubenet: Any, fake: Any, tmp_path: Path) -> None:
    fake.answers["pcap_start"] = {"ok": True, "devices": ["node-1/eth0"]}
    fake.exit_code = 3
    file = tmp_path / "x.pcapng"
    found = kubenet("pcap", "node-1:eth0", "-w", str(file), "--", "client", "curl", "web")
    assert (found.code, found.err) == (3, f"3 packets in {file}\n")
    assert file.read_bytes() == b"PCAP"
    assert [r["op"] for r in fake.asked] == ["pcap_start", "exec", "pcap_stop"]
    assert (fake.asked[0]["target"], fake.asked[0]["dev"]) == ("node-1", "eth0")


def test_pcap_for_a_time_and_across_commands(kubenet: Any, fake: Any, tmp_path: Path) -> None:
    fake.answers["pcap_start"] = {"ok": True, "devices": ["node-1/cni0", "node-1/eth0"]}
    fake.answers["pcap_list"] = {"captures": [{"name": "default", "devices": ["node-1/eth0"], "packets": 4}]}
    kubenet("pcap", "node-1", "-w", "-", "--for", "5s")
    assert [r["op"] for r in fake.asked] == ["pcap_start", "run", "pcap_stop"] and fake.asked[1]["ns"] == 5_000_000_000
    assert kubenet("pcap", "start", "node-1").out == "capturing at node-1/cni0, node-1/eth0\n"
    assert kubenet("pcap", "list").out == "NAME      PACKETS   DEVICES\ndefault   4         node-1/eth0\n"
    assert kubenet("pcap", "stop", "-w", str(tmp_path / "y")).code == 0


@pytest.mark.parametrize("words", [["node-1"], ["node-1", "-w", "x"], ["node-1", "--for", "5s"], ["stop"], ["start"],
                                   ["node-1", "-w", "/nowhere/x", "--for", "5s"], ["node-1", "-w", "x", "--", "client"]])
def test_pcap_usage(kubenet: Any, fake: Any, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert kubenet("pcap", *words).code == 2
    assert fake.asked == [] and os.listdir(tmp_path) == []


def test_pcap_replay(kubenet: Any, fake: Any, tmp_path: Path) -> None:
    """The file's bytes go to the session; notes say what was left out or will be dropped."""
    file = tmp_path / "x.pcap"
    file.write_bytes(b"PCAP")
    found = {"place": "node-1", "device": "eth0", "frames": 2, "bytes": 120, "lost": 0, "bad_checksums": 1, "checksums_fixed": False,
             "took_ns": 1_500_000_000, "first_packet": 7, "last_packet": 9, "outgoing": 3, "cut": 0, "for_others": 2, "span_ns": 5}
    fake.answers["pcap_replay"] = {"replay": found}
    shown = kubenet("pcap", "replay", str(file), "node-1:eth0", "--speed", "2", "--dst-mac", "auto")
    assert shown.out == ("2 frames (120 bytes) received on node-1 eth0 in 1.500000s\n"
                         "packets 7 to 9: kubenet trace --packet 7\n")
    assert [line.split()[1] for line in shown.err.splitlines()] == ["3", "2", "1"]
    asked = fake.asked[0]
    assert (asked["op"], asked["target"], asked["dev"], asked["body"]) == ("pcap_replay", "node-1", "eth0", b"PCAP")
    assert asked["options"] == {"speed": 2.0, "asap": False, "dst_mac": "auto", "interface": "", "outgoing": False, "limit": 0,
                                "fix_checksums": False}
    assert json.loads(kubenet("pcap", "replay", str(file), "client", "--asap", "-o", "json").out) == found
    assert fake.asked[1]["dev"] == "" and fake.asked[1]["options"]["asap"]


@pytest.mark.parametrize("words, code", [
    (["replay"], 2), (["replay", "x"], 2), (["replay", "x", "node-1", "-w", "y"], 2), (["replay", "x", "node-1", "--for", "5s"], 2),
    (["replay", "x", "node-1", "--asap", "--speed", "2"], 2), (["replay", "nosuch", "node-1"], 1), (["list", "--asap"], 2),
    (["node-1", "-w", "x", "--for", "5s", "--dst-mac", "auto"], 2), (["replay", "x", "node-1", "--limit", "-1"], 2),
])
def test_pcap_replay_usage(kubenet: Any, fake: Any, words: list[str], code: int) -> None:
    assert kubenet("pcap", *words).code == code and fake.asked == []


def test_threads_of_the_fake_are_daemons() -> None:
    assert all(t.daemon for t in threading.enumerate() if t is not threading.main_thread())
