"""`lab`, and a client and a web server in it (pod_lab.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pod_lab import Lab

from kubenet.userland.container import Container


@pytest.fixture
def lab() -> Iterator[Lab]:
    yield Lab()


@pytest.fixture
def box(lab: Lab) -> Container:
    """A netshoot pod."""
    return lab.pod("client", "10.48.1.5")


@pytest.fixture
def web(lab: Lab) -> Container:
    """An nginx pod."""
    return lab.pod("web", "10.48.1.6", "nginx:1.27")
