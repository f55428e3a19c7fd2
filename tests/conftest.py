"""Fixtures that every floor uses; and how hypothesis behaves on a busy machine."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from kubenet.sim.clock import EventLoop

settings.register_profile("kubenet", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
settings.load_profile("kubenet")  # a slow machine is no failure: no test here asserts a time


@pytest.fixture
def loop() -> EventLoop:
    return EventLoop()
