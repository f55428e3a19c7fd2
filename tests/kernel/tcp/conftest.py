"""Fixtures for TCP scripts."""

from __future__ import annotations

import pytest
from wire import Wire


@pytest.fixture
def wire() -> Wire:
    """One namespace with default settings, and nothing open."""
    return Wire()
