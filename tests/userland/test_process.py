"""Containers and processes: pid 1, signals, exit codes, exec, logs (signal(7), pid_namespaces(7), OCI runtime)."""

from __future__ import annotations

from typing import Any

import pytest

from kubenet.units import SEC
from kubenet.userland.container import ExecError, feed, feed_eof
from kubenet.userland.vfs import volume


def test_pid_1_without_handler_ignores_sigterm_and_dies_of_sigkill(lab: Any, box: Any) -> None:
    """pid_namespaces(7): only signals with a handler reach pid 1; a grace period ends in SIGKILL: 128 + 9."""
    ended: list[tuple[int, int]] = []
    box.on_exit = lambda container, code: ended.append((code, lab.loop.now))
    began = lab.loop.now
    box.stop(30 * SEC)
    lab.wait(29)
    assert ended == []
    lab.wait(2)
    assert ended[0][0] == 137
    assert 30 * SEC <= ended[0][1] - began < 30 * SEC + SEC // 1000


def test_nginx_ends_at_once_when_asked(lab: Any, web: Any) -> None:
    """STOPSIGNAL SIGQUIT is nginx's graceful shutdown: exit 0."""
    ended: list[int] = []
    web.on_exit = lambda container, code: ended.append(code)
    web.stop(30 * SEC)
    lab.wait(1)
    assert ended == [0]


def test_exec_gets_its_input_and_its_exit_code_back(lab: Any, box: Any) -> None:
    proc = box.exec(["sh", "-c", "wc -c; exit 3"], stdin=b"12345")
    lab.wait(0.1)
    assert (proc.exit_code, proc.stdout_bytes()) == (3, b"5\n")


def test_exec_input_can_come_in_pieces(lab: Any, box: Any) -> None:
    proc = box.exec(["cat"], stdin=True)
    feed(proc, b"a")
    lab.wait(1)
    assert proc.stdout_bytes() == b"a"
    feed(proc, b"b")
    feed_eof(proc)
    lab.wait(0.1)
    assert (proc.stdout_bytes(), proc.exit_code) == (b"ab", 0)


@pytest.mark.parametrize("argv, code, words", [
    (["nosuch"], 127, 'exec: "nosuch": executable file not found in $PATH'),
    (["/nosuch"], 127, 'exec: "/nosuch": stat /nosuch: no such file or directory'),
    (["/etc/hosts"], 126, 'exec: "/etc/hosts": permission denied'),
])
def test_exec_of_what_is_not_a_program(box: Any, argv: list[str], code: int, words: str) -> None:
    with pytest.raises(ExecError) as caught:
        box.exec(argv)
    assert caught.value.code == code
    assert str(caught.value).endswith(words)


def test_unknown_image_and_unknown_tag_are_lookup_errors(lab: Any) -> None:
    with pytest.raises(LookupError, match="pull access denied"):
        lab.container("x", "no-such-image", lab.node_net)
    with pytest.raises(LookupError, match="nginx:latets: not found"):
        lab.container("x", "nginx:latets", lab.node_net)
    for known in ("nginx", "docker.io/library/nginx:1.27-alpine", "registry.k8s.io/e2e-test-images/agnhost:2.53"):
        lab.container("x", known, lab.node_net)


def test_command_replaces_the_entrypoint_and_args_replace_cmd(lab: Any) -> None:
    """Kubernetes: command is ENTRYPOINT, args is CMD."""
    made = lab.container("x", "nginx:1.27", lab.node_net)
    assert made.entry_argv() == ["/docker-entrypoint.sh", "nginx", "-g", "daemon off;"]
    made.args = ["nginx", "-v"]
    assert made.entry_argv() == ["/docker-entrypoint.sh", "nginx", "-v"]
    made.command = ["sh"]
    assert made.entry_argv() == ["sh", "nginx", "-v"]


def test_the_log_has_time_stream_and_text(lab: Any) -> None:
    made = lab.pod("logger", "10.48.1.9", "busybox:1.36", command=["sh", "-c", "echo out; sleep 2; echo err >&2"])
    lab.wait(3)
    assert [(stream, data) for _, stream, data in made.log] == [(1, b"out\n"), (2, b"err\n")]
    assert made.log[1][0] - made.log[0][0] >= 2 * SEC
    assert not made.running


def test_writing_into_a_closed_pipe_is_sigpipe(lab: Any, box: Any) -> None:
    """pipe(7): 141 = 128 + SIGPIPE."""
    assert lab.run(box, ["bash", "-c", "set -o pipefail; yes | true; echo $?"]).out == "141\n"


def test_a_killed_program_has_no_last_words(lab: Any, box: Any) -> None:
    """SIGKILL: finally-blocks run no system call."""
    proc = lab.start(box, ["python3", "-c", """
import time
try:
    time.sleep(100)
finally:
    open("/tmp/last-words", "w").write("x")
"""])
    lab.wait(1)
    proc.kill(9)
    lab.wait(1)
    assert proc.exit_code == 137
    assert not box.vfs.exists("/tmp/last-words")


def test_every_system_call_is_in_the_ledger_without_payload(lab: Any, box: Any) -> None:
    lab.loop.ledger.keep = []
    lab.run(box, ["echo", "secret"])
    lines = [line for line in lab.loop.ledger.recent() if line[1] == "sys" and line[3] == "write"]
    assert [line[3:] for line in lines[-1:]] == [("write", 7)]
    assert "secret" not in repr(lab.loop.ledger.recent())


def test_spinning_on_the_clock_makes_time_pass(lab: Any, box: Any) -> None:
    """1,000 calls at one instant are charged 1 us."""
    result = lab.python(box, "import time\nt = time.monotonic_ns()\nwhile time.monotonic_ns() < t + 5000: pass\nprint('done')")
    assert result.out == "done\n"


def test_a_volume_can_be_swapped_and_is_read_only(lab: Any) -> None:
    """kubelet's AtomicWriter: names are links through ..data."""
    from kubenet.userland.vfs import update_volume

    config = volume({"a.txt": "one\n"})
    made = lab.pod("config", "10.48.1.9", "busybox:1.36", command=["sleep", "infinity"], mounts={"/etc/app": config})
    assert lab.run(made, "cat /etc/app/a.txt; readlink /etc/app/a.txt; ls /etc/app").out == "one\n..data/a.txt\na.txt\n"
    assert lab.run(made, "echo x > /etc/app/a.txt").err == "sh: can't create /etc/app/a.txt: Read-only file system\n"
    update_volume(config, {"a.txt": "two\n", "b.txt": "new\n"}, "2026_01_01_00_01_00.2")
    assert lab.run(made, "cat /etc/app/*").out == "two\nnew\n"


def test_two_containers_of_an_image_do_not_share_their_changes(lab: Any) -> None:
    one = lab.pod("one", "10.48.1.8", "busybox:1.36", command=["sleep", "infinity"])
    two = lab.pod("two", "10.48.1.9", "busybox:1.36", command=["sleep", "infinity"])
    lab.run(one, "echo changed > /etc/nsswitch.conf; rm /etc/services; mkdir /etc/new")
    assert lab.run(one, "cat /etc/nsswitch.conf; ls /etc/services; ls -d /etc/new").out == "changed\n/etc/new\n"
    assert lab.run(two, "ls /etc/services /etc/nsswitch.conf").out == "/etc/services\n/etc/nsswitch.conf\n"
    assert lab.run(two, "ls -d /etc/new").code == 2


def test_proc_shows_the_process_itself(lab: Any, box: Any) -> None:
    """proc(5)."""
    out = lab.run(box, ["cat", "/proc/self/cmdline"]).out
    assert out == "cat\0/proc/self/cmdline\0"
    assert lab.run(box, "ls -l /proc/$$/fd | grep -c '^l'").out == "3\n"


def test_sysctls_are_files_and_are_coupled(lab: Any, box: Any) -> None:
    """ip-sysctl.rst: ip_forward sets conf.all.forwarding."""
    script = "echo 1 > /proc/sys/net/ipv4/ip_forward; sysctl -n net.ipv4.conf.all.forwarding net.ipv4.conf.eth0.forwarding"
    assert lab.run(box, script).out == "1\n1\n"
    assert lab.run(box, "sysctl -w net.ipv4.tcp_syn_retries=2; sysctl net.ipv4.tcp_rmem").out == (
        "net.ipv4.tcp_syn_retries = 2\nnet.ipv4.tcp_rmem = 4096\t131072\t33554432\n")


def test_watchdog_names_the_line_that_never_ends(lab: Any, box: Any) -> None:
    """A program without system calls is stopped by the host's timer, as by SIGKILL."""
    from kubenet.userland import watchdog

    watchdog.enable(0.2)
    try:
        result = lab.run(box, ["python3", "-c", "x = 1\nwhile True:\n    x += 1\n"])
    finally:
        watchdog.disable()
        watchdog.kills.clear()
    assert result.code == 137
    assert "<string>:" in result.err and "without a system call" in result.err
