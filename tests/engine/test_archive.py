"""A session as a file: what goes in comes out, and nothing else is taken for one. See engine/archive.py for the format."""

from __future__ import annotations

import inspect
import json
import os
import re
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.engine import archive
from kubenet.engine.archive import Archive, parse, read, restore, write
from kubenet.engine.engine import Engine
from kubenet.engine.journal import Input, Journal
from kubenet.errors import KubenetError, ManifestError, NotFoundError, UsageError

HEADER = {"format": "1", "version": "0", "sources": "ab", "python": "3.11",
          "settings": json.dumps({"seed": 7, "epoch": 1767225600, "topology": None})}
INPUTS = [Input(1, 1, 0, 0, "api", {"method": "GET", "path": "/", "query": {}, "headers": {}, "body": "e30="}, "d0"),
          Input(2, 2, 5, 10, "exec", {"target": "client", "argv": ["ls"], "cmd": "kubenet exec client -- ls"}, "d1"),
          Input(3, 2, 9, 20, "mark", {}, "d2")]


def made() -> Archive:
    return Archive(dict(HEADER), list(INPUTS), 20, 9, "d2")


def sealed(lines: list[Any]) -> bytes:
    """Lines with an end that fits: what a stranger could make by hand."""
    data = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()
    return data + (json.dumps({"end": len(lines) - 1, "check": blake2b(data, digest_size=16).hexdigest()}) + "\n").encode()


def head(**more: Any) -> dict[str, Any]:
    return {archive.MAGIC: archive.VERSION, "header": HEADER, "now": 20, "step": 9, "digest": "d2", **more}


def row(**more: Any) -> list[Any]:
    found = {"seq": 1, "group": 1, "step": 0, "time": 0, "kind": "mark", "digest": "", "data": {}} | more
    return list(found.values())


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "s"
    size = write(made(), file)
    assert size == file.stat().st_size and read(file) == made() and os.listdir(tmp_path) == ["s"]
    restore(read(file), tmp_path / "journal.sqlite")
    journal = Journal(tmp_path / "journal.sqlite")
    assert journal.header() == HEADER and list(journal.inputs()) == INPUTS
    journal.close()


def test_a_file_is_not_replaced_unasked(tmp_path: Path) -> None:
    file = tmp_path / "s"
    file.write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        write(made(), file)
    assert file.read_text() == "mine"
    write(made(), file, force=True)
    assert read(file) == made()


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "s"
    file.write_text("mine")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KubenetError, match="No space left on device"):
        write(made(), file, force=True)
    assert file.read_text() == "mine" and os.listdir(tmp_path) == ["s"]


def test_no_file_and_no_directory(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read(tmp_path / "nix")
    with pytest.raises(KubenetError, match="cannot be read"):
        read(tmp_path)
    with pytest.raises(KubenetError, match="cannot be written"):
        write(made(), tmp_path / "nix" / "s")


@pytest.mark.parametrize(("lines", "line", "why"), [
    ([{"apiVersion": "v1"}], 1, "does not begin"),
    ([head(**{archive.MAGIC: 2})], 1, "format 2"),
    ([head(header={**HEADER, "format": "9"})], 1, "journal format 9"),
    ([head(header={"format": "1"})], 1, "lacks version"),
    ([head(header={**HEADER, "settings": "[]"})], 1, "settings lack"),
    ([head(header={**HEADER, "settings": "{"})], 1, "not JSON"),
    ([head(step=-1)], 1, "where the session stood"),
    ([head(), row(kind="system")], 2, "no kind of input 'system'"),
    ([head(), row(seq=2)], 2, "not in order"),
    ([head(), row(time=5), row(seq=2, time=4)], 3, "not in order"),
    ([head(), row(step=10, time=21)], 1, "where the session stood"),
    ([head(), row(kind="exec", data={"target": "c"})], 2, "has no argv"),
    ([head(), row(kind="eof", data={"exec": True})], 2, "wrong type"),
    ([head(), row(kind="stdin", data={"exec": 1, "bytes": "?"})], 2, "base64"),
    ([head(), row(seq=1 << 70)], 2, "an input is"),
    ([head(), "[" * 100_000], 2, "not JSON"),
    ([head(), "[1]"], 2, "list of seven"),
])
def test_what_is_no_session_is_refused_with_its_line(lines: list[Any], line: int, why: str) -> None:
    with pytest.raises(ManifestError, match=why) as caught:
        parse(sealed(lines), Path("f"))
    assert caught.value.line == line and caught.value.exit_code == 4


@given(st.integers(0, 10_000), st.binary(max_size=8), st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_damage_goes_unseen(at: int, noise: bytes, cut: bool) -> None:
    """Any other bytes in the file's place: refused, never half a session. (Only the very same bytes are the same file.)"""
    good = sealed([head(), *(row(seq=i, group=i) for i in range(1, 4))])
    at %= len(good)
    bad = good[:at] if cut else good[:at] + noise + good[at + len(noise):]
    try:
        found = parse(bad, Path("f"))
    except ManifestError:
        return
    assert bad.strip() == good.strip() or found == parse(good, Path("f"))


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse(data, Path("f"))


def test_consent_is_seen_wherever_it_was_given() -> None:
    found = made()
    assert not found.needs_pod_code()
    found.inputs.append(Input(4, 4, 9, 20, "allow", {"pod_code": False}))
    assert not found.needs_pod_code()
    found.inputs.append(Input(5, 5, 9, 20, "allow", {"pod_code": True}))
    assert found.needs_pod_code()
    found = made()
    found.header["settings"] = json.dumps({"seed": 7, "epoch": 0, "topology": None, "allow_pod_code": True})
    assert found.needs_pod_code()


def test_every_kind_of_input_can_be_saved() -> None:
    """What the engine applies, the archive knows: a new kind cannot be forgotten here."""
    source = inspect.getsource(Engine.apply)
    assert set(re.findall(r'case "(\w+)"', source)) == set(archive.FIELDS)
