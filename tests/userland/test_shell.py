"""sh: the Shell Command Language (POSIX.1-2017 XCU 2). Each line is a script, its output and its exit status."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.userland.shell_parse import NEST_MAX, ShellSyntaxError, parse

SCRIPTS = [
    # 2.2 quoting
    ("echo 'a  $x' \"b  $HOME\" c\\ d", "a  $x b  /root c d\n", 0),
    ("x='1  2'; echo $x \"$x\"", "1 2 1  2\n", 0),
    ("echo \"a\\$b\\\"c\"", "a$b\"c\n", 0),
    # 2.6.2 parameter expansion
    ("echo ${no:-dflt} ${no-d2} ${HOME:+set} ${#HOME}", "dflt d2 set 5\n", 0),
    ("f=a.b.c; echo ${f%.*} ${f%%.*} ${f#*.} ${f##*.}", "a.b a b.c c\n", 0),
    (": ${new:=v}; echo $new", "v\n", 0),
    ("set -- a 'b c'; echo $# \"$2\"; for i in \"$@\"; do echo [$i]; done", "2 b c\n[a]\n[b c]\n", 0),
    # 2.6.3, 2.6.4, 2.6.5
    ("echo $(echo a; echo b) `echo c`", "a b c\n", 0),
    ("echo $(( (1 << 4) + 7 % 4 * 2 )) $((3 > 2 && 0))", "22 0\n", 0),
    ("i=5; echo $((i += 2)) $i $((i++)) $i", "7 7 7 8\n", 0),
    ("IFS=:; x=a:b::c; set -- $x; echo $#", "4\n", 0),
    # 2.7 redirection
    ("echo a > /tmp/f; echo b >> /tmp/f; cat < /tmp/f; wc -l < /tmp/f", "a\nb\n2\n", 0),
    ("cat <<E\nx $HOME\nE", "x /root\n", 0),
    ("cat <<'E'\nx $HOME\nE", "x $HOME\n", 0),
    ("{ echo out; echo err >&2; } 2>&1 | tr a-z A-Z", "OUT\nERR\n", 0),
    ("cat /nope 2>/dev/null; echo $?", "1\n", 0),
    # 2.8.2 exit status, 2.9 commands
    ("nope 2>/dev/null; echo $?", "127\n", 0),
    ("false; echo $?; ! false; echo $?; exit 7", "1\n0\n", 7),
    ("true && echo y || echo n; false && echo y || echo n", "y\nn\n", 0),
    ("yes | head -n 2", "y\ny\n", 0),
    ("echo a | cat | tr a b", "b\n", 0),
    ("(cd /tmp; pwd); pwd", "/tmp\n/\n", 0),
    ("if false; then echo a; elif true; then echo b; else echo c; fi", "b\n", 0),
    ("i=0; while [ $i -lt 3 ]; do i=$((i+1)); [ $i = 2 ] && continue; echo $i; done", "1\n3\n", 0),
    ("for i in 1 2 3; do for j in a b; do [ $j = b ] && continue 2; echo $i$j; done; done", "1a\n2a\n3a\n", 0),
    ("until true; do echo no; done; echo end", "end\n", 0),
    ("case web-0 in db*) echo db;; web-[0-9]|x) echo web;; *) echo other;; esac", "web\n", 0),
    ("f() { local x=2; echo $1 $x; return 3; }; x=1; f a; echo $? $x", "a 2\n3 1\n", 0),
    ("seq 3 | while read n; do echo \"<$n>\"; done", "<1>\n<2>\n<3>\n", 0),
    ("set -e; false; echo never", "", 1),
    ("set -e; if false; then :; fi; false || true; echo ok", "ok\n", 0),
    ("trap 'echo bye' EXIT; echo hi", "hi\nbye\n", 0),
    ("trap 'echo got' TERM; kill -TERM $$; echo on", "got\non\n", 0),
    ("sh -c 'kill -9 $$'; echo $?", "137\n", 0),
    ("sleep 3 & wait $!; echo $?", "0\n", 0),
    ("echo /etc/host*", "/etc/hostname /etc/hosts\n", 0),
    ("echo /no*match", "/no*match\n", 0),
    ("x=1; (x=2); echo $x; { x=3; }; echo $x", "1\n3\n", 0),
    ("read a b <<E\n1 2 3\nE\necho $b/$a", "2 3/1\n", 0),
    ("printf '%s=%03d\\n' a 5 b 6", "a=005\nb=006\n", 0),
    ("eval 'x=5; echo $x'; echo 'y=6' > /tmp/s; . /tmp/s; echo $y", "5\n6\n", 0),
    ("[ -f /etc/hosts -a ! -d /etc/hosts ] && test -d /etc && echo ok", "ok\n", 0),
    ("exec 3>/tmp/x; echo three >&3; exec 3>&-; cat /tmp/x", "three\n", 0),
    ("A=1 env | grep ^A=; export B=2; env | grep ^B=", "A=1\nB=2\n", 0),
    ("echo a | cat - /etc/hostname", "a\nclient\n", 0),
    ("exec sh -c 'exit 9'; echo never", "", 9),
]


@pytest.mark.parametrize("script, out, code", SCRIPTS)
def test_script(lab: Any, box: Any, script: str, out: str, code: int) -> None:
    result = lab.run(box, script)
    assert (result.out, result.code) == (out, code), result.err


def test_bash_has_brace_expansion_and_sh_has_not(lab: Any, box: Any) -> None:
    assert lab.run(box, ["bash", "-c", "echo {1..3} a{b,c}"]).out == "1 2 3 ab ac\n"
    assert lab.run(box, ["sh", "-c", "echo {1..3}"]).out == "{1..3}\n"


def test_syntax_error_is_status_2(lab: Any, box: Any) -> None:
    result = lab.run(box, "if true; then")
    assert result.code == 2
    assert "syntax error: unexpected end of file" in result.err


def test_a_script_file_runs_through_its_interpreter_line(lab: Any, box: Any) -> None:
    """execve(2): interpreter scripts."""
    script = "printf '#!/bin/sh\\necho \"$0 $1\"\\n' > /tmp/s.sh; chmod +x /tmp/s.sh; /tmp/s.sh x"
    assert lab.run(box, script).out == "/tmp/s.sh x\n"


def test_interactive_shell_prompts_and_reads_open_constructs(lab: Any, box: Any) -> None:
    """PS2 while a construct is open; exit ends it; the terminal echoes and adds carriage returns."""
    seen: list[bytes] = []
    proc = box.exec(["sh"], stdin=True, tty=True, on_output=lambda _stream, data: seen.append(data))
    lab.wait(0.1)
    from kubenet.userland.container import feed

    feed(proc, b"for i in 1 2\r")
    lab.wait(0.1)
    feed(proc, b"do echo n$i; done\rexit 4\r")
    lab.wait(0.1)
    text = b"".join(seen).decode()
    assert text.startswith("/ # for i in 1 2\r\n> ")
    assert "n1\r\nn2\r\n" in text
    assert proc.exit_code == 4


def test_control_c_interrupts_the_foreground_program(lab: Any, box: Any) -> None:
    """termios(3) VINTR; a shell reports 130."""
    from kubenet.userland.container import feed

    seen: list[bytes] = []
    proc = box.exec(["sh"], stdin=True, tty=True, on_output=lambda _stream, data: seen.append(data))
    feed(proc, b"sleep 1000\r")
    lab.wait(1)
    feed(proc, b"\x03")
    lab.wait(0.1)
    feed(proc, b"echo status=$?\rexit\r")
    lab.wait(0.1)
    assert "status=130" in b"".join(seen).decode()
    assert proc.done


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab $\"'`\\(){};|&<>\n=!#*?[]%:-+/~1", max_size=60))
def test_any_text_parses_or_is_a_syntax_error(text: str) -> None:
    try:
        parse(text)
    except ShellSyntaxError:
        pass


DEEP = [("(", "echo x", ")"), ("{ ", "echo x;", "};"), ("if true; then ", "echo x;", "fi;"), ("for i in 1; do ", "echo x;", "done;"),
        ("case x in x) ", "echo x;", "esac;"), ("echo $(", "echo x", ")"), ("echo \"$(", "echo x", ")\""), ("echo ${no:-$(", "echo x", ")}"), ("f() ", "(echo x)", "")]


@pytest.mark.parametrize("before, middle, after", DEEP)
def test_nesting_ends_in_a_syntax_error(lab: Any, box: Any, before: str, middle: str, after: str) -> None:
    """Thirty levels run; thousands are refused in words, and the pod's program shows no Python trace."""
    assert lab.run(box, before * 30 + middle + after * 30).code == 0
    for levels in (NEST_MAX, 5000):
        result = lab.run(box, before * levels + middle + after * levels)
        assert result.code == 2 and "Traceback" not in result.err
        assert "nested too deeply" in result.err


def test_endless_recursion_is_dash_s_error(lab: Any, box: Any) -> None:
    """dash 0.5.12: evalfun() stops; exit 2. Nothing of ours shows."""
    for script in ("f() { f; }; f", "f() { f x; echo no; }; f; echo no"):
        found = lab.run(box, script)
        assert (found.code, found.out) == (2, "") and found.err.endswith(": 1: Maximum function recursion depth (1000) reached\n"), found


def test_deep_nesting_is_no_traceback(lab: Any, box: Any) -> None:
    """dash counts 200 parentheses; we may refuse, but say so."""
    found = lab.run(box, f"echo $(({'(' * 200}1{')' * 200}))")
    assert (found.code, found.out) == (0, "1\n") or (found.code == 2 and "nested too deeply" in found.err), found
