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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long runs and runs on a real kernel are left out unless `-m` says what is wanted (pyproject.toml, markers)."""
    if config.getoption("-m"):
        return
    left_out = [item for item in items if item.get_closest_marker("full") or item.get_closest_marker("kernel")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
