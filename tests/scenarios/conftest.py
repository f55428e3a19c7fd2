"""Fixtures of the scenarios: `make` builds a World and closes it after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.scenarios.world import World


@pytest.fixture
def make() -> Iterator[Callable[..., World]]:
    """make(nodes=2, docs=[...], ...) -> World."""
    worlds: list[World] = []

    def build(*args: Any, **kwargs: Any) -> World:
        world = World(*args, **kwargs)
        worlds.append(world)
        return world

    yield build
    for world in worlds:
        world.cluster.close()
