"""The journal keeps every input that was answered, or refuses it; and says who wrote it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.cluster.replay import to_journal
from kubenet.engine import frames
from kubenet.engine.checkpoint import KEEP, NEWEST, Checkpoint, thin
from kubenet.engine.engine import Engine
from kubenet.engine.journal import Input, Journal
from kubenet.engine.main import build
from kubenet.errors import KubenetError, WrongMomentError


def _journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "s" / "journal.sqlite")
    journal.open()
    journal.start({"seed": 7, "epoch": 0, "topology": None})
    return journal


def test_inputs_come_back_as_they_went_in(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    entries = [Input(n, 1 + n // 2, n * 10, n * 1000, "exec", {"argv": ["ss", str(n)]}, "d" * n) for n in range(1, 6)]
    for entry in entries:
        journal.append(entry)
    journal.close()
    again = Journal(journal.path)
    again.open()
    assert list(again.inputs()) == entries
    assert list(again.inputs(after=2, until=4)) == entries[2:4]
    assert again.last() == entries[-1] and again.group_start(2) == entries[1]


def test_truncate_forgets_the_tail(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    for n in range(1, 6):
        journal.append(Input(n, n, 0, 0, "mark", {}))
    journal.truncate(3)
    assert [entry.seq for entry in journal.inputs()] == [1, 2]


def test_a_killed_writer_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """What append() returned for is readable by another process's connection, without any close()."""
    journal = _journal(tmp_path)
    journal.append(Input(1, 1, 5, 6, "api", {"method": "POST"}))
    other = Journal(journal.path)
    other.open()
    assert [entry.seq for entry in other.inputs()] == [1]


def test_a_full_disk_refuses_the_input(tmp_path: Path) -> None:
    """SQLite reports the disk as full (page limit reached): the error says so and nothing is half written."""
    journal = _journal(tmp_path)
    pages = journal.db.execute("PRAGMA page_count").fetchone()[0]
    journal.db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(KubenetError, match="could not be written") as caught:
        for n in range(1, 500):
            journal.append(Input(n, n, 0, 0, "api", {"body": "x" * 1000}))
    assert "full" in caught.value.why
    kept = [entry.seq for entry in journal.inputs()]
    assert kept == list(range(1, len(kept) + 1)) and not journal.db.in_transaction


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"this is not a database, it only has its name" * 100)
    with pytest.raises(KubenetError, match="cannot be opened"):
        Journal(path).open()


@pytest.mark.parametrize("key, value", [("format", "0"), ("version", "9.9.9"), ("sources", "beef"), ("python", "2.7")])
def test_another_writer_is_named(tmp_path: Path, key: str, value: str) -> None:
    journal = _journal(tmp_path)
    journal.check_header()
    journal.db.execute("UPDATE header SET value = ? WHERE key = ?", (value, key))
    with pytest.raises(WrongMomentError) as caught:
        journal.check_header()
    assert f"{key} was {value}" in caught.value.why and "reset" in caught.value.try_
    assert caught.value.exit_code == 6


def test_a_checkpoint_holds_no_connection(tmp_path: Path) -> None:
    """A forked copy has no file of the journal open: SQLite must not be carried across a fork."""
    engine = Engine(_journal(tmp_path), build)
    engine.start({})
    engine.checkpoint()
    child = engine.checkpoints[-1].pid
    opened = Path(f"/proc/{child}/maps").read_text().splitlines()  # the WAL's index is mapped, the files are open
    for number in os.listdir(f"/proc/{child}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it closes its parent's end of the socket just now
            opened.append(os.readlink(f"/proc/{child}/fd/{number}"))
    assert opened and not [name for name in opened if str(tmp_path) in name]
    engine.checkpoints[-1].end()
    os.waitpid(child, 0)
    engine.cluster.close()


def test_a_closed_journal_is_connected_again_when_needed(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    journal.close()
    journal.append(Input(1, 1, 0, 0, "mark", {}))
    assert [entry.seq for entry in journal.inputs()] == [1]
    journal.close()
    journal.path.unlink()
    journal.path.mkdir()
    with pytest.raises(KubenetError, match="cannot be opened again"):
        journal.append(Input(2, 2, 0, 0, "mark", {}))


@given(st.lists(st.tuples(st.dictionaries(st.text(max_size=5), st.integers()), st.binary(max_size=50)), max_size=8),
       st.integers(1, 9))
def test_frames_survive_any_cutting(messages: list[tuple[dict[str, int], bytes]], piece: int) -> None:
    stream = b"".join(frames.pack(header, body) for header, body in messages)
    unpacker, out = frames.Unpacker(), []
    for at in range(0, len(stream), piece):
        out += unpacker.feed(stream[at : at + piece])
    assert out == messages


def test_a_senseless_frame_is_refused() -> None:
    with pytest.raises(ValueError):
        frames.Unpacker().feed(b"\xff" * 16)


class _Sock:
    def close(self) -> None:
        pass


def test_checkpoints_thin_out_with_age() -> None:
    """About KEEP are kept: the newest all, the oldest (the beginning) too, gaps growing with age."""
    kept: list[Checkpoint] = []
    for seq in range(500):
        kept.append(Checkpoint(0, seq, seq, seq, seq, _Sock()))  # type: ignore[arg-type]
        thin(kept)
    seqs = [c.seq for c in kept]
    assert len(seqs) == KEEP and seqs[0] == 0 and seqs[-NEWEST:] == list(range(500 - NEWEST, 500))
    gaps = [b - a for a, b in zip(seqs, seqs[1:], strict=False)]
    assert max(gaps[:4]) > max(gaps[-4:])


def test_replayed_frames_are_in_the_journal(tmp_path: Path) -> None:
    """The journal alone rebuilds what the frames of a capture did."""
    journal = _journal(tmp_path)
    engine = Engine(journal, build)
    engine.can_fork = False
    engine.start({"seed": 7, "epoch": 0, "topology": None})
    mac = engine.cluster.nodes["node-1"].net.devs["eth0"].addr.to_bytes(6, "big")
    arp = mac + bytes.fromhex("020000000009080600010800060400010200000000090a3001090000000000000a300105")
    ping = mac + bytes.fromhex("0200000000090800450000200001000040012276ac120064ac1200020800f7fd0001000161626364")
    running = engine.put("frames", {"target": "node-1", "dev": "eth0", "frames": to_journal([(0, arp), (5_000_000, ping)])})
    while not running.done:
        engine.cluster.loop.run()
    engine.mark()
    digest, received = engine.cluster.digest(), running.received
    assert received == 2
    again = Engine(Journal(journal.path), build)
    again.can_fork = False
    again.start({})
    assert again.cluster.digest() == digest
    for one in (engine, again):
        one.cluster.close()
