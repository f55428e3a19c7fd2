"""What a forwarded packet costs is exact: Python calls and events, from pod to pod through a ClusterIP on another node."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks.path import bulk

SIZE = 1_000_000


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="calls are counted as CPython 3.11 makes them")
def test_calls_and_events_per_packet() -> None:
    """262 calls and 3.07 events, and no more; the same in every run, so that a change which moves them is seen."""
    bulk(200_000, offload=False, profile=True)  # modules that are imported at first use
    first, second = (bulk(SIZE, offload=False, profile=True) for _ in range(2))
    for measured in (first, second):
        assert measured["calls_per_packet"] < 262 and measured["events_per_packet"] < 3.07, measured
    assert (first["events_per_packet"], first["packets"]) == (second["events_per_packet"], second["packets"])
    assert abs(first["calls_per_packet"] - second["calls_per_packet"]) < 0.5
