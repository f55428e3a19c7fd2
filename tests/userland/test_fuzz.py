"""Parsers of what people type: any text is understood or refused with the documented error, never with another."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.userland.images import find_image
from kubenet.userland.images.nginx import parse_conf
from kubenet.userland.shell_expand import ExpansionError, arithmetic
from kubenet.userland.tools.awk import AwkError
from kubenet.userland.tools.awk import Parser as AwkParser
from kubenet.userland.tools.coreutils import evaluate_test, printf_text, seconds
from kubenet.userland.tools.curl import CurlError, Transfer, split_url, write_out
from kubenet.userland.tools.files import regex_of
from kubenet.userland.tools.sed import SedError, parse_script
from kubenet.userland.vfs import Dir, RegFile, Vfs, normpath

FEW = settings(max_examples=150, deadline=None)
TEXT = st.text(alphabet="ab01 $/\\{}()[];:,.\"'\n|&=<>!%*+-?^#@~ns", max_size=40)


class Nobody:
    """What the functions need of a process."""

    cwd = "/"
    vfs = Vfs(Dir({"f": RegFile(b"x")}))

    class fds:  # noqa: N801
        files: dict[int, Any] = {}


class Variables:
    """What arithmetic needs of a shell."""

    def __init__(self) -> None:
        self.vars: dict[str, str] = {"a": "3", "b": "x"}

    def get(self, name: str, default: str) -> str:
        return self.vars.get(name, default)

    def set(self, name: str, value: str) -> None:
        self.vars[name] = value


@FEW
@given(TEXT)
def test_awk(text: str) -> None:
    try:
        AwkParser(text).program()
    except AwkError:
        pass


@FEW
@given(TEXT, st.booleans())
def test_sed(text: str, extended: bool) -> None:
    try:
        parse_script(text, extended)
    except (SedError, re.error):
        pass


@FEW
@given(TEXT, st.booleans())
def test_posix_patterns(text: str, extended: bool) -> None:
    try:
        regex_of(text, extended, False, False)
    except re.error:
        pass


@FEW
@given(TEXT)
def test_nginx_configuration(text: str) -> None:
    parse_conf(f"server {{ listen 80; location / {{ {text} }} }}")


@FEW
@given(TEXT)
def test_url(text: str) -> None:
    try:
        split_url(text)
    except CurlError as error:
        assert error.code in (1, 3)


@FEW
@given(TEXT)
def test_write_out(text: str) -> None:
    write_out(text, Transfer())


@FEW
@given(TEXT, st.lists(TEXT, max_size=3))
def test_printf(fmt: str, args: list[str]) -> None:
    printf_text(fmt, args)


@FEW
@given(st.lists(st.sampled_from(["!", "(", ")", "-a", "-o", "-f", "-z", "-n", "=", "!=", "-eq", "-lt", "a", "1", "", "/f"]), max_size=7))
def test_test(words: list[str]) -> None:
    try:
        evaluate_test(Nobody(), words)  # type: ignore[arg-type]
    except ValueError:
        pass


@FEW
@given(st.text(alphabet="0123ab+-*/%()<>=!&|^~?:, ", max_size=20))
def test_arithmetic(text: str) -> None:
    try:
        arithmetic(Variables(), text)  # type: ignore[arg-type]
    except (ExpansionError, ValueError):
        pass


@FEW
@given(TEXT)
def test_durations_and_images(text: str) -> None:
    try:
        seconds(text)
    except ValueError:
        pass
    try:
        find_image(text)
    except LookupError:
        pass


@FEW
@given(st.text(alphabet="a./", max_size=20))
def test_a_normal_path_names_the_same_thing(path: str) -> None:
    """normpath() agrees with path resolution where there are no links."""
    inner = Dir({"a": Dir({"a": RegFile()})})
    vfs = Vfs(Dir({"a": inner}))
    try:
        node = vfs.lookup("/" + path)
    except OSError:
        return
    assert vfs.lookup(normpath("/" + path)) is node


FILES = ["/a", "/b", "/d/x", "/d/y"]
STEP = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(FILES), st.binary(max_size=4)),
    st.tuples(st.just("unlink"), st.sampled_from(FILES), st.just(b"")),
)


@FEW
@given(st.lists(STEP, max_size=12))
def test_a_layer_behaves_as_a_plain_tree_and_leaves_the_lower_one_alone(steps: list[tuple[str, str, bytes]]) -> None:
    """Copy-up: reads see the changes, the shared layer never does."""
    lower = Dir({"a": RegFile(b"low"), "d": Dir({"x": RegFile(b"deep")})})
    vfs = Vfs(Dir(lower=lower))
    model = {"/a": b"low", "/d/x": b"deep"}
    for kind, path, data in steps:
        if kind == "write":
            vfs.write(path, data)
            model[path] = data
        elif path in model:
            vfs.unlink(path)
            del model[path]
    assert {path: vfs.read(path) for path in FILES if vfs.exists(path)} == model
    assert vfs.listdir("/d") == sorted(path[3:] for path in model if path.startswith("/d/"))
    assert (lower.get("a").data, lower.get("d").names()) == (b"low", ["x"])  # type: ignore[union-attr]
