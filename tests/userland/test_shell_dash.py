"""The shell against the real one: dash decides which texts are commands, and what they print.

Skipped where there is no dash. Texts of our own; the expected value of each is what dash says when asked.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.userland.shell_parse import ShellSyntaxError, parse

DASH = shutil.which("dash") or ""
pytestmark = pytest.mark.skipif(not DASH, reason="no dash here to compare with")

TEXTS = [
    "echo a; echo b &", "if true; then echo x; fi", "if true; then echo x", "fi", "echo fi", "do", "then", "for i; do echo $i; done",
    "for i in; do a; done", "for i\nin a; do b; done", "for 1 in a; do b; done", "for in in in; do echo $in; done",
    "case $x in a|b) echo 1;; (c) echo 2;; *) ;; esac", "case x in esac", "case x in a) b", "case x in a) b esac", "case a in\n a)\n x\n ;;\nesac",
    "cat <<A <<B\n1\nA\n2\nB\n", "cat <<E | wc -l\na\nb\nE\necho z", "cat <<-E\n\ta\n\tE\n", "x=$(cat <<E\nhi\nE\n)", "cat <<\"E O\"\na\nE O\n",
    "f() { echo $1; }; f 2", "f() (echo a)", "f() echo x", "f () { echo; } >/tmp/x", "function f { a; }", "(cd /; ls)", "! a | b", "!", "()", "{ }", "{",
    "echo }", "{ echo a }", "x=1 y=2 cmd", "x= cmd", ">f", "2>&1 ls", "ls >&2", "echo 1>2", "echo >a b >c", "echo ${x:-$(a \"b\")}",
    "echo \"${x:-\"a b\"}\"", "echo ${x#*/} ${x%%.*} ${#x}", "echo ${x", "echo $(", "echo $((1+2*(3)))", "echo `a \\`b\\``", "echo \"a $(echo \"b c\") d\"",
    "a\\\nb", "# comment", "echo a#b # c", "echo a |\n cat", "a &&\n\nb", "a | ", "a &&", "a || ;", ";", "a ;; b", ")", "a )", "( a", "a & b", "a & ; b",
    "while true; done", "while ; do a; done", "while :; do a; done &", "until a; do b; done", "if ; then a; fi", "if true; then fi", "if a; then b; else fi",
    "if a; then b; elif c; then d; else e; fi", "echo \"unterminated", "echo 'unterminated", "select x in a; do b; done", "a=(1 2)", "echo $% $ a$",
    "echo \"$\"", "\n", "", "a||b", "a |& b", "x=1; { y; } && (z) || w", "trap 'echo hi' EXIT", "echo a!b", "echo \"a\\\"b\"",
]

WORDS = ["a", "$x", "\"b c\"", "'d'", "${x:-y}", "$(e)", "`f`", "$((1+2))", "if", "then", "fi", "else", "elif", "while", "do", "done", "for", "i", "in",
         "case", "esac", "a)", "(", ")", "{", "}", ";", ";", ";;", "&", "&&", "||", "|", "\n", "!", ">", "<f", "2>&1", "x=1", "f()"]

RUNS = [
    "echo 'a  $x' \"b  $PATHX\" c\\ d", "x='1  2'; echo $x \"$x\"", "f=a.b.c; echo ${f%.*} ${f%%.*} ${f#*.} ${f##*.}", ": ${new:=v}; echo $new ${#new}",
    "set -- a 'b c'; echo $# \"$2\"; for i in \"$@\"; do echo [$i]; done; for i; do echo $i; done", "echo $(echo a; echo b) `echo c`",
    "echo $(( (1 << 4) + 7 % 4 * 2 )) $((3 > 2 && 0)) $((-7 / 2)) $((-7 % 3)) $((010 + 0x10))", "i=5; echo $((i += 2)) $i", "IFS=:; x=a:b::c; set -- $x; echo $#",
    "IFS=,; set -- a b; echo \"$*\" $*", "cat <<A; cat <<B\n1\nA\n2\nB\n", "x=5; cat <<E\n$x $((x+1)) $(echo hi) \\$x \\\\ \\a \"q\"\nE\n",
    "false; echo $?; ! false; echo $?; exit 7", "true && echo y || echo n; false && echo y || echo n", "! true | false; echo $?", "(exit 3); echo $?",
    "i=0; while [ $i -lt 3 ]; do i=$((i+1)); [ $i = 2 ] && continue; echo $i; done", "for i in 1 2 3; do for j in a b; do [ $j = b ] && continue 2; echo $i$j; done; done",
    "case web-0 in db*) echo db;; web-[0-9]|x) echo web;; *) echo other;; esac", "case '*' in \\*) echo star;; esac; case a in [!b]) echo nb;; esac",
    "f() { local x=2; echo $1 $x; return 3; }; x=1; f a; echo $? $x", "set -e; false; echo never", "set -e; if false; then :; fi; false || true; echo ok",
    "set -u; echo ${nope-d}; echo $nope; echo never", "trap 'echo bye' EXIT; echo hi", "x=1; (x=2); echo $x; { x=3; }; echo $x", "eval 'x=5; echo $x'; echo \"$x\"",
    "x=a; x=b eval 'echo $x'; echo $x", "echo a | { read y; echo got $y; }; echo \"[$y]\"", "printf '%s=%03d\\n' a 5 b 6", "echo \"${x:-\"a  b\"}\" ${x:-c  d}",
    "x=; echo \"${x:-e}${x-n}${x:+p}${x+s}\"", "echo ${nope:?gone}; echo never", "set -- 1 2 3; shift; echo $*; shift 2; echo $#",
    "while read a b; do echo \"$b/$a\"; done <<E\n1 2 3\nx\nE\n", "read a <<E\nb\\\nc\nE\necho $a", "read -r a <<'E'\nb\\tc\nE\nprintf '%s\\n' \"$a\"",
    "for i in a b c; do [ $i = b ] && break; echo $i; done; echo $i", "f() { f2() { echo in; }; }; f; f2", "test a = a -a ! b = c && echo t; [ -n '' ] || echo e; [ 3 -gt 20 ]; echo $?",
    "echo a\\\nb", "x='a*'; echo \"$x\"'b'", "unset x; x=1; unset x; echo [$x]", "echo ${10} $10", "exit_now() { exit 4; }; exit_now; echo never", "echo x >&2 2>/dev/null",
    "a=1 b=$a; echo [$b]", "until false; do break; done; echo $?", "x=$(echo a; exit 5); echo $? $x", "if x=$(false); then echo y; else echo n; fi", "command -v echo; type nope 2>/dev/null; echo $?",
]


def dash(*argv: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([DASH, *argv], capture_output=True, stdin=subprocess.DEVNULL, timeout=20, cwd="/", env={"PATH": "/usr/bin:/bin"})


def accepts(text: str) -> bool:
    try:
        parse(text)
    except ShellSyntaxError:
        return False
    return True


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_a_command(text: str) -> None:
    """`dash -n` reads without running."""
    assert accepts(text) == (dash("-n", "-c", text).returncode == 0)


@given(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join))
@settings(max_examples=120, deadline=None)
def test_random_words(text: str) -> None:
    """Reserved words, operators and words in any order: the same texts are commands."""
    assert accepts(text) == (dash("-n", "-c", text).returncode == 0)


@pytest.mark.parametrize("script", RUNS)
def test_what_it_prints(lab: Any, box: Any, script: str) -> None:
    """Output and exit status are dash's."""
    real = dash("-c", script)
    result = lab.run(box, script)
    assert (result.out, result.code) == (real.stdout.decode(), real.returncode), result.err
