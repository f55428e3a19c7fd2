"""The journal: a session is a seed plus its inputs, each at (step, time), in one SQLite file.

An input is journaled, then applied, then answered; one that cannot be written is refused, so whatever was answered can be
replayed. Inputs are API writes, exec, port-forward, their stdin and signals, probes, frames of a capture, faults, marks: the position
where a run ended, which the host decided. Replaying them rebuilds the state bit for bit, with the same digest.

The header says what wrote the file: journal format, kubenet version, a hash of the sources, the Python minor version, seed,
epoch and topology. On a mismatch nothing is replayed silently: check_header() raises WrongMomentError, which names the
difference and the two ways on. Digests stored beside inputs let `--replay-anyway` name the first one that differs.

SQLite runs with WAL and synchronous=NORMAL: a killed process loses nothing; a power cut may lose the last inputs.

No connection crosses a fork (https://www.sqlite.org/howtocorrupt.html, 2.6): the copy would believe in locks that it does not
hold, and the WAL would be deleted under it. So the engine closes the journal before it forks; whoever needs it opens it again.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from kubenet import __version__
from kubenet.errors import KubenetError, WrongMomentError

FORMAT = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS header (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS inputs (
  seq INTEGER PRIMARY KEY, grp INTEGER NOT NULL, step INTEGER NOT NULL, time INTEGER NOT NULL,
  kind TEXT NOT NULL, data TEXT NOT NULL, digest TEXT NOT NULL DEFAULT '');
"""


@dataclass(slots=True)
class Input:
    """One thing that entered the emulation between two events. `group` joins the inputs of one command: undo takes a group."""

    seq: int
    group: int
    step: int
    time: int
    kind: str
    data: dict[str, Any]
    digest: str = ""  # of the state just before this input


def source_hash() -> str:
    """A hash over the package's Python sources: equal hashes replay equally."""
    root = Path(__file__).resolve().parent.parent
    h = blake2b(digest_size=8)
    for path in sorted(root.rglob("*.py")):
        h.update(path.relative_to(root).as_posix().encode() + b"\0")
        h.update(path.read_bytes())
    return h.hexdigest()


def differences(header: dict[str, str]) -> str:
    """What differs between the kubenet that wrote a header and this one; "" if they are the same."""
    mine = {
        "format": str(FORMAT),
        "version": __version__,
        "sources": source_hash(),
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
    }
    return "; ".join(f"{key} was {header.get(key, 'absent')}, now {value}" for key, value in mine.items() if header.get(key) != value)


def _row(entry: Input) -> tuple[Any, ...]:
    return (entry.seq, entry.group, entry.step, entry.time, entry.kind, json.dumps(entry.data, sort_keys=True), entry.digest)


class Journal:
    """The file. One writer at a time. close() before a fork; the next access connects again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None

    def open(self) -> None:
        """Connect. Raises KubenetError if the file is not a journal or cannot be written."""
        self.close()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = self._connect()
            self._db.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise KubenetError(
                f"the journal {self.path} cannot be opened",
                why=str(error),
                try_="kubenet reset   (forgets this session), or kubenet --session OTHER up",
            ) from error

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=5)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Disconnect."""
        if self._db is not None:
            self._db.close()
            self._db = None

    @property
    def db(self) -> sqlite3.Connection:
        if self._db is None:
            try:
                self._db = self._connect()
            except sqlite3.Error as error:
                raise KubenetError("the journal cannot be opened again", why=f"{self.path}: {error}",
                                   try_="df -h   (is there space? The session is as it was)") from error
        return self._db

    def header(self) -> dict[str, str]:
        """What wrote this file; {} for a new one."""
        return dict(self.db.execute("SELECT key, value FROM header"))

    def start(self, settings: dict[str, Any]) -> None:
        """A new session: the header is written. settings: seed, epoch, topology."""
        rows = {
            "format": str(FORMAT),
            "version": __version__,
            "sources": source_hash(),
            "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
            "settings": json.dumps(settings, sort_keys=True),
        }
        self._write("INSERT OR REPLACE INTO header VALUES (?, ?)", list(rows.items()))

    def settings(self) -> dict[str, Any]:
        """Seed, epoch and topology of the session."""
        found: dict[str, Any] = json.loads(self.header()["settings"])
        return found

    def check_header(self) -> None:
        """Raises WrongMomentError if another kubenet, source tree or Python wrote the journal."""
        if facts := differences(self.header()):
            raise WrongMomentError(
                "this session was recorded by another kubenet, so a replay might differ",
                why=facts,
                try_="kubenet reset   (forget it), or kubenet up --replay-anyway   (compares digests)",
            )

    def append(self, entry: Input) -> None:
        """The input is on disk. Raises KubenetError if it cannot be written; then it must not be applied."""
        self._write("INSERT INTO inputs VALUES (?, ?, ?, ?, ?, ?, ?)", [_row(entry)])

    def fill(self, header: dict[str, str], inputs: list[Input]) -> None:
        """Header and inputs of another journal. Raises KubenetError if they cannot be written."""
        self._write("INSERT OR REPLACE INTO header VALUES (?, ?)", list(header.items()))
        self._write("INSERT INTO inputs VALUES (?, ?, ?, ?, ?, ?, ?)", [_row(entry) for entry in inputs])

    def settle(self) -> None:
        """All is in the one file: nothing in a log beside it."""
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _write(self, sql: str, rows: list[Any]) -> None:
        db = self.db
        try:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(sql, rows)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise KubenetError(
                "the input was refused: it could not be written to the journal",
                why=f"{self.path}: {error}",
                try_="df -h   (free some space; nothing was applied, the session is as it was)",
            ) from error

    def inputs(self, after: int = 0, until: int = 1 << 62, kind: str = "%") -> Iterator[Input]:
        """Inputs with after < seq <= until, in order; of one kind if given."""
        rows = self.db.execute("SELECT * FROM inputs WHERE seq > ? AND seq <= ? AND kind LIKE ? ORDER BY seq", (after, until, kind))
        for seq, group, step, time, kind, data, digest in rows:
            yield Input(seq, group, step, time, kind, json.loads(data), digest)

    def last(self) -> Input | None:
        """The newest input."""
        row = self.db.execute("SELECT * FROM inputs ORDER BY seq DESC LIMIT 1").fetchone()
        return Input(row[0], row[1], row[2], row[3], row[4], json.loads(row[5]), row[6]) if row else None

    def group_start(self, group: int) -> Input | None:
        """The first input of a group."""
        row = self.db.execute("SELECT * FROM inputs WHERE grp = ? ORDER BY seq LIMIT 1", (group,)).fetchone()
        return Input(row[0], row[1], row[2], row[3], row[4], json.loads(row[5]), row[6]) if row else None

    def truncate(self, first: int) -> None:
        """Inputs from seq `first` on are gone."""
        self._write("DELETE FROM inputs WHERE seq >= ?", [(first,)])

    def size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size if self.path.exists() else 0
