"""A session as one file: what `save` writes and `load` reads.

Lines of JSON, in the order in which they are needed, so that a person can read, compare and search them:

    {"kubenet-session": 1, "header": {...}, "now": NS, "step": N, "digest": "..."}      the journal's header; where the session stood
    [seq, group, step, time, kind, digest, data]                                       one input a line, as in journal.py
    {"end": COUNT, "check": "..."}                                                     blake2b over all bytes before this line

A file comes from strangers: everything is checked before anything is made of it, and it is no database, because SQLite files
carry programs (triggers, views). The consent to run pods' Python code does not travel: needs_pod_code() says that the session
had it, and whoever loads the file is asked.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NoReturn

from kubenet.engine.journal import FORMAT, Input, Journal
from kubenet.errors import KubenetError, ManifestError, NotFoundError, UsageError

MAGIC = "kubenet-session"
VERSION = 1
BIGGEST = 1 << 30  # bytes; a session that somebody typed has some thousand inputs

# kind of input -> the fields it cannot do without, and what they are (engine.py apply())
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "api": {"method": str, "path": str, "query": dict, "headers": dict, "body": str},
    "exec": {"target": str, "argv": list},
    "forward": {"target": str, "port": int},
    "stdin": {"exec": int, "bytes": str},
    "eof": {"exec": int},
    "signal": {"exec": int, "signal": int},
    "probe": {},
    "frames": {"target": str, "dev": str, "frames": list},
    "mark": {},
    "fault": {"action": str},
    "allow": {"pod_code": bool},
    "runaway": {"process": str, "started": int, "calls": int, "where": str},
}


@dataclass(slots=True)
class Archive:
    """A session's file in memory."""

    header: dict[str, str]
    inputs: list[Input]
    now: int
    step: int
    digest: str

    def needs_pod_code(self) -> bool:
        """True if Python code of pods was allowed to run at any time."""
        settings = json.loads(self.header["settings"])
        return bool(settings.get("allow_pod_code")) or any(i.kind == "allow" and i.data["pod_code"] for i in self.inputs)


def take(journal: Journal, now: int, step: int, digest: str) -> Archive:
    """The journal up to (step, now), read without disturbing its writer."""
    inputs = [entry for entry in journal.inputs() if (entry.step, entry.time) <= (step, now)]
    return Archive(journal.header(), inputs, now, step, digest)


def write(archive: Archive, path: Path, force: bool = False) -> int:
    """The file is there, whole, or it is as it was before. Returns its size. UsageError if it exists; KubenetError."""
    if path.exists() and not force:
        raise UsageError(f"{path} is there already", try_=f"kubenet save --force {path}   (replaces it), or another name")
    lines = [{MAGIC: VERSION, "header": archive.header, "now": archive.now, "step": archive.step, "digest": archive.digest},
             *([i.seq, i.group, i.step, i.time, i.kind, i.digest, i.data] for i in archive.inputs)]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    data += (json.dumps({"end": len(archive.inputs), "check": _check(data)}) + "\n").encode()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise KubenetError(f"{path} cannot be written", why=error.strerror or str(error),
                           try_="another directory, or free some space; the session is as it was") from error
    return len(data)


def _check(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def read(path: Path) -> Archive:
    """What the file says. NotFoundError if there is none; ManifestError, with the line, if it is not a session's file."""
    try:
        if path.is_file() and path.stat().st_size > BIGGEST:
            _bad(path, 0, f"it has {path.stat().st_size} bytes, more than {BIGGEST}")
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}", try_=f"kubenet save {path}   (in the session that you want to keep)") from None
    except OSError as error:
        raise KubenetError(f"{path} cannot be read", why=error.strerror or str(error)) from error
    return parse(data, path)


def parse(data: bytes, path: Path) -> Archive:
    """read(), of bytes."""
    lines = data.splitlines(keepends=True)
    first = _object(path, 1, lines[0]) if lines and lines[0].startswith(b"{") else {}
    if MAGIC not in first:
        _bad(path, 1, f"it does not begin with {{\"{MAGIC}\": ...", "a file that `kubenet save` wrote")
    if first[MAGIC] != VERSION:
        _bad(path, 1, f"format {first[MAGIC]!r}; this kubenet reads format {VERSION}", "the kubenet that wrote it")
    last = _object(path, len(lines), lines[-1]) if lines[-1].startswith(b'{"end"') and len(lines) > 1 else None
    if last is None:
        _bad(path, len(lines), "its last line is missing: it was cut off, or is still being written")
    if last.get("check") != _check(b"".join(lines[:-1])) or last.get("end") != len(lines) - 2:
        _bad(path, len(lines), "it is not as it was written: its checksum differs")
    header = _header(path, first)
    inputs: list[Input] = []
    at = (0, 0)
    for number, line in enumerate(lines[1:-1], start=2):
        entry = _input(path, number, line)
        if entry.seq != len(inputs) + 1 or not 1 <= entry.group <= entry.seq or (entry.step, entry.time) < at or entry.time < at[1]:
            _bad(path, number, "the inputs are not in order")
        at = (entry.step, entry.time)
        inputs.append(entry)
    now, step, digest = first.get("now"), first.get("step"), first.get("digest")
    if not (_number(now) and _number(step) and isinstance(digest, str)) or (step, now) < at:
        _bad(path, 1, "it does not say where the session stood")
    assert isinstance(now, int) and isinstance(step, int)
    return Archive(header, inputs, now, step, digest)


def _header(path: Path, first: dict[str, Any]) -> dict[str, str]:
    header = first.get("header")
    if not isinstance(header, dict) or not all(isinstance(v, str) for v in header.values()):
        _bad(path, 1, "the header is not a table of texts")
    missing = [key for key in ("format", "version", "sources", "python", "settings") if key not in header]
    if missing:
        _bad(path, 1, f"the header lacks {', '.join(missing)}")
    if header["format"] != str(FORMAT):
        _bad(path, 1, f"journal format {header['format']}; this kubenet reads format {FORMAT}", "the kubenet that wrote it")
    settings = _json(path, 1, header["settings"])
    if not (isinstance(settings, dict) and _number(settings.get("seed"), least=None) and _number(settings.get("epoch"))
            and isinstance(settings.get("topology"), dict | None)):
        _bad(path, 1, "the settings lack seed, epoch or topology")
    return header


def _input(path: Path, number: int, line: bytes) -> Input:
    row = _json(path, number, line)
    if not isinstance(row, list) or len(row) != 7:
        _bad(path, number, "an input is a list of seven")
    seq, group, step, time, kind, digest, data = row
    if not all(_number(n) for n in (seq, group, step, time)) or not isinstance(digest, str) or not isinstance(data, dict):
        _bad(path, number, "an input is [seq, group, step, time, kind, digest, data]")
    if kind not in FIELDS:
        _bad(path, number, f"there is no kind of input {kind!r}")
    for name, type_ in FIELDS[kind].items():
        if not isinstance(data.get(name), type_) or type_ is int and isinstance(data[name], bool):
            _bad(path, number, f"an input of kind {kind} has no {name}, or one of the wrong type")
    try:
        for name in ("body", "bytes"):
            base64.b64decode(data.get(name, ""), validate=True)
    except (ValueError, TypeError):
        _bad(path, number, "its bytes are not base64")
    return Input(seq, group, step, time, kind, data, digest)


def _number(value: Any, least: int | None = 0) -> bool:
    """An integer that SQLite can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and (-(1 << 62) if least is None else least) <= value < 1 << 62


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    found = _json(path, number, line)
    return found if isinstance(found, dict) else {}


def _json(path: Path, number: int, text: bytes | str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        _bad(path, number, f"not JSON: {error}")


def _bad(path: Path, line: int, why: str, try_: str = "") -> NoReturn:
    raise ManifestError(f"{path} is no session that can be loaded", file=str(path), line=line, why=why, try_=try_)


def restore(archive: Archive, journal: Path) -> None:
    """The archive is a journal, where there was none. It appears whole, or not at all. KubenetError."""
    beside = journal.with_name(f"{journal.name}.loading")
    made = Journal(beside)
    try:
        _forget(beside)
        made.open()
        made.fill(archive.header, archive.inputs)
        made.settle()
        made.close()
        beside.replace(journal)
    except OSError as error:
        raise KubenetError(f"the journal {journal} cannot be written", why=error.strerror or str(error), try_="df -h") from error
    finally:
        made.close()
        _forget(beside)


def _forget(path: Path) -> None:
    for each in path.parent.glob(path.name + "*"):
        each.unlink(missing_ok=True)
