"""Fixtures that every floor uses."""

from __future__ import annotations

import pytest

from kubenet.sim.clock import EventLoop


@pytest.fixture
def loop() -> EventLoop:
    return EventLoop()
