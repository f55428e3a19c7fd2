"""strace: its text against strace 6.1 on Linux 6.18 watching a C program that makes the same calls (`strace ./calls` in a namespace)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kubenet.units import MSEC

RECORDED = r"""
socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 3
setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0
bind(3, {sa_family=AF_INET, sin_port=htons(7000), sin_addr=inet_addr("0.0.0.0")}, 16) = 0
listen(3, 5)                            = 0
socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 4
connect(4, {sa_family=AF_INET, sin_port=htons(7000), sin_addr=inet_addr("127.0.0.1")}, 16) = 0
accept(3, {sa_family=AF_INET, sin_port=htons(46058), sin_addr=inet_addr("127.0.0.1")}, [16]) = 5
setsockopt(4, SOL_TCP, TCP_NODELAY, [1], 4) = 0
sendto(4, "GET / HTTP/1.1\r\n\0001\0x\177", 21, MSG_NOSIGNAL, NULL, 0) = 21
recvfrom(5, "GET / HTTP/1.1\r\n\0001\0x\177", 64, 0, NULL, NULL) = 21
recvfrom(5, 0x7ffdff584f10, 64, MSG_DONTWAIT, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)
poll([{fd=5, events=POLLIN}], 1, 10)    = 0 (Timeout)
sendto(4, "01234567890123456789012345678901"..., 40, 0, NULL, 0) = 40
poll([{fd=5, events=POLLIN}], 1, -1)    = 1 ([{fd=5, revents=POLLIN}])
recvfrom(5, "01234567890123456789012345678901"..., 64, MSG_PEEK, NULL, NULL) = 40
getsockname(3, {sa_family=AF_INET, sin_port=htons(7000), sin_addr=inet_addr("0.0.0.0")}, [16]) = 0
getpeername(4, {sa_family=AF_INET, sin_port=htons(7000), sin_addr=inet_addr("127.0.0.1")}, [16]) = 0
setsockopt(4, SOL_SOCKET, SO_LINGER, {l_onoff=1, l_linger=0}, 8) = 0
getsockopt(4, SOL_SOCKET, SO_ERROR, [0], [4]) = 0
shutdown(4, SHUT_WR)                    = 0
read(5, "0123456789", 10)               = 10
close(4)                                = 0
recvfrom(99, 0x7ffdff584f10, 1, 0, NULL, NULL) = -1 EBADF (Bad file descriptor)
socket(AF_INET, SOCK_DGRAM, IPPROTO_IP) = 4
sendto(4, "hi", 2, 0, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")}, 16) = 2
recvfrom(4, 0x7ffdff584f10, 9, MSG_DONTWAIT, 0x7ffdff584f60, [16]) = -1 EAGAIN (Resource temporarily unavailable)
connect(4, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")}, 16) = 0
socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 6
connect(6, {sa_family=AF_INET, sin_port=htons(1), sin_addr=inet_addr("127.0.0.1")}, 16) = -1 ECONNREFUSED (Connection refused)
openat(AT_FDCWD, "/tmp/strace-file", O_WRONLY|O_CREAT|O_TRUNC, 0644) = 7
write(7, "x\ty\"z\\\n", 7)              = 7
lseek(7, 0, SEEK_SET)                   = 0
newfstatat(7, "", {st_mode=S_IFREG|0644, st_size=7, ...}, AT_EMPTY_PATH) = 0
close(7)                                = 0
openat(AT_FDCWD, "/none", O_RDONLY)     = -1 ENOENT (No such file or directory)
mkdir("/tmp", 0777)                     = -1 EEXIST (File exists)
pipe2([7, 8], 0)                        = 0
dup(3)                                  = 9
dup2(3, 9)                              = 9
kill(17607, 0)                          = 0
clock_nanosleep(CLOCK_REALTIME, 0, {tv_sec=0, tv_nsec=1500000}, NULL) = 0
exit_group(5)                           = ?
+++ exited with 5 +++
"""


def calls(proc: Any, argv: list[str]) -> int:
    """The calls of the C program, in its order."""
    sys = proc.sys

    def fails(call: Any, *args: Any) -> None:
        with pytest.raises(OSError):
            call(*args)

    here = ("127.0.0.1", 7000)
    s = sys.socket(2, 1)
    sys.setsockopt(s, 1, 2, 1)
    sys.bind(s, ("0.0.0.0", 7000))
    sys.listen(s, 5)
    c = sys.socket(2, 1)
    sys.connect(c, here)
    d, _ = sys.accept(s)
    sys.setsockopt(c, 6, 1, 1)
    sys.send(c, b"GET / HTTP/1.1\r\n\0001\0x\x7f", 0x4000)
    sys.recv(d, 64, 0)
    fails(sys.recv, d, 64, 0x40)
    sys.poll([(d, 1)], 10 * MSEC)
    sys.send(c, b"0123456789" * 4)
    sys.poll([(d, 1)], None)
    sys.recv(d, 64, 2)
    sys.getsockname(s)
    sys.getpeername(c)
    sys.setsockopt(c, 1, 13, b"\1\0\0\0\0\0\0\0")
    sys.getsockopt(c, 1, 4)
    sys.shutdown(c, 1)
    sys.read(d, 10)
    sys.close(c)
    fails(sys.recv, 99, 1)
    u = sys.socket(2, 2)
    sys.sendto(u, b"hi", ("127.0.0.1", 9))
    fails(sys.recvfrom, u, 9, 0x40)
    sys.connect(u, ("127.0.0.1", 9))
    fails(sys.connect, sys.socket(2, 1), ("127.0.0.1", 1))
    f = sys.open("/tmp/strace-file", 0o1101, 0o644)
    sys.write(f, b'x\ty"z\\\n')
    sys.lseek(f, 0, 0)
    sys.fstat(f)
    sys.close(f)
    fails(sys.open, "/none", 0)
    fails(sys.mkdir, "/tmp", 0o777)
    sys.pipe()
    sys.dup(3)
    sys.dup2(3, 9)
    sys.kill(proc.pid, 0)
    sys.sleep(1_500_000)
    return 5


def comparable(text: str) -> list[str]:
    """Pointers, ephemeral ports and pids are not the same in any two runs."""
    out = []
    for line in text.strip().splitlines():
        line = re.sub(r"0x7ff[0-9a-f]+, \[16\]", "..., ...", line)
        line = re.sub(r"0x7ff[0-9a-f]+", "...", line)
        line = re.sub(r"htons\((3276[89]|327[7-9]\d|32[89]\d\d|3[3-9]\d{3}|[45]\d{4}|6\d{4})\)", "htons(EPHEMERAL)", line)
        line = re.sub(r"\s+= ", " = ", line) if "..." in line or "kill(" in line else line
        out.append(re.sub(r"^kill\(\d+", "kill(PID", line))
    return out


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command `calls` in the containers of this test."""
    from kubenet.userland import tools

    monkeypatch.setitem(tools.REGISTRY, "calls", calls)


def install(container: Any) -> None:
    from kubenet.userland.vfs import Program

    container.vfs.put("/usr/bin/calls", Program("calls"))


def test_every_line_is_the_real_one(lab: Any, box: Any, program: None) -> None:
    install(box)
    result = lab.run(box, "strace calls")
    first, *rest = result.err.splitlines()
    assert first.startswith('execve("/usr/bin/calls", ["calls"], [/* ') and first.endswith("= 0")
    assert comparable("\n".join(rest)) == comparable(RECORDED)
    assert result.code == 5


def test_only_what_is_asked_for(lab: Any, box: Any, program: None) -> None:
    install(box)
    real = comparable(RECORDED)
    network = [line for line in real if line.split("(")[0] in ("socket", "bind", "connect", "listen", "accept", "sendto", "recvfrom", "shutdown",
                                                               "setsockopt", "getsockopt", "getsockname", "getpeername")]
    for option in ("-e trace=network", "-e network", "-e trace=%network", "-qe %net,network".replace("%net,", "")):
        assert comparable(lab.run(box, f"strace {option} calls").err)[:-1] == network
    assert comparable(lab.run(box, "strace -qq -e mkdir,dup calls").err) == [
        line for line in real if line.startswith(("mkdir", "dup("))]
    assert not any("close(" in line for line in lab.run(box, "strace -e '!close' calls").err.splitlines())
    assert lab.run(box, "strace -o /tmp/log -e trace=listen calls").err == ""
    assert lab.run(box, "cat /tmp/log").out == "listen(3, 5)                            = 0\n+++ exited with 5 +++\n"


def test_children_and_lines_that_another_cuts_through(lab: Any, box: Any) -> None:
    """The texts of `strace -f -e trace=process sh -c 'sleep 0.1; exit 3'` on Linux, where sh is dash."""
    result = lab.run(box, ["strace", "-f", "-e", "trace=process", "sh", "-c", "sleep 0.1; exit 3"])
    lines = result.err.splitlines()
    pid = next(line.split()[2] for line in lines if line.startswith("strace: Process") and line.endswith("attached"))
    assert f'[pid {pid:>5}] execve("/bin/sleep", ["sleep", "0.1"], [/* ' in result.err
    assert f"[pid {pid:>5}] +++ exited with 0 +++" in lines
    assert f"<... wait4 resumed>[{{WIFEXITED(s) && WEXITSTATUS(s) == 0}}], 0, NULL) = {pid}" in lines
    assert lines[-2:] == ["exit_group(3)                           = ?", "+++ exited with 3 +++"] and result.code == 3


def test_a_running_program_and_its_end(lab: Any, box: Any) -> None:
    """strace -p: until Ctrl-C the program is watched and not disturbed, and its end is told."""
    sleeper = lab.start(box, "exec sleep 100")
    for end in ("interrupt", "end"):
        watcher = lab.start(box, f"exec strace -p {sleeper.pid}")
        lab.wait(1)
        assert lab.run(box, f"strace -p {sleeper.pid}").err.endswith("Operation not permitted\n")
        (watcher if end == "interrupt" else sleeper).kill(2 if end == "interrupt" else 15)
        lab.wait(1)
        last = f"strace: Process {sleeper.pid} detached\n" if end == "interrupt" else "+++ killed by SIGTERM +++\n"
        assert watcher.done and watcher.stderr_bytes().decode() == f"strace: Process {sleeper.pid} attached\n{last}"
        assert sleeper.done == (end == "end") and sleeper.sys.tracer is None


def test_a_killed_call_has_no_result(lab: Any, box: Any) -> None:
    """`timeout 1 strace -e clock_nanosleep sleep 5` kills both; the call's line ends with a question mark."""
    watcher = lab.start(box, "exec strace -e trace=clock_nanosleep sleep 5")
    lab.wait(1)
    next(p for p in box.processes.values() if p.argv[0] == "sleep" and p.sys.tracer is not None).kill(9)
    lab.wait(1)
    assert watcher.stderr_bytes().decode().splitlines() == [
        "clock_nanosleep(CLOCK_REALTIME, 0, {tv_sec=5, tv_nsec=0}, NULL <unfinished ...>) = ?", "+++ killed by SIGKILL +++"]


def test_summary(lab: Any, box: Any, program: None) -> None:
    install(box)
    lines = lab.run(box, "strace -c calls").err.splitlines()
    assert lines[0] == "% time     seconds  usecs/call     calls    errors syscall"
    rows = {line.split()[-1]: line.split()[3:-1] for line in lines[2:]}
    assert rows["socket"] == ["4"] and rows["recvfrom"] == ["5", "3"] and rows["connect"] == ["3", "1"]
    assert int(rows["total"][0]) == sum(int(row[0]) for name, row in rows.items() if name not in ("total",) and row and row[0].isdigit())


@pytest.mark.parametrize(("words", "text"), [
    ("strace", "strace: must have PROG [ARGS] or -p PID\nTry 'strace -h' for more information.\n"),
    ("strace -e trace=foo true", "strace: invalid system call 'foo'\n"),
    ("strace nonexist", "strace: Can't stat 'nonexist': No such file or directory\n"),
    ("strace -9 true", "strace: invalid option -- '9'\nTry 'strace -h' for more information.\n"),
    ("strace -p 999999", "strace: attach: ptrace(PTRACE_SEIZE, 999999): No such process\n"),
    ("strace -s", "strace: option requires an argument -- 's'\nTry 'strace -h' for more information.\n"),
])
def test_refusals(lab: Any, box: Any, words: str, text: str) -> None:
    result = lab.run(box, words)
    assert (result.err, result.code) == (text, 1)


def test_watching_changes_nothing_of_the_program(lab: Any, box: Any, web: Any) -> None:
    """The same bytes on the wire, at the same distances, with and without strace."""
    seen: list[list[tuple[int, int, int]]] = []

    class Tap:
        def capture(self, dev: Any, skb: Any, outgoing: bool) -> None:
            if skb.ip is not None and getattr(skb.ip, "proto", 0) == 6:
                seen[-1].append((lab.loop.now, skb.len, skb.l4.flags))

    from kubenet.kernel.dev.device import add_tap

    seen.append([])
    add_tap(box.net.devs["eth0"], Tap())
    lab.run(box, "curl -s http://10.48.1.6/")
    for command in ("curl -s http://10.48.1.6/", "strace -f -tt -T curl -s http://10.48.1.6/"):
        lab.wait(1)
        seen.append([])
        assert lab.run(box, command).code == 0
        lab.wait(1)
    plain, watched = ([(t - frames[0][0], *rest) for t, *rest in frames] for frames in seen[1:])
    assert plain == watched and len(plain) >= 9
