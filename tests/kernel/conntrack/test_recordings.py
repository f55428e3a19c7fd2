"""Every recording of a real kernel (record.py) is what happens here too: the packet that leaves, and `conntrack -L` after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from replay import differences

RECORDINGS = sorted((Path(__file__).parent / "recordings").glob("*.json"))


@pytest.mark.parametrize("path", RECORDINGS, ids=[p.stem for p in RECORDINGS])
def test_same_as_the_real_kernel(path: Path) -> None:
    assert not differences(json.loads(path.read_text()))


def test_there_are_recordings() -> None:
    assert len(RECORDINGS) > 20
