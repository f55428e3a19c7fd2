"""`cp`: a control plane on a virtual clock (control_plane.py)."""

from __future__ import annotations

import pytest
from control_plane import ControlPlane


@pytest.fixture
def cp() -> ControlPlane:
    return ControlPlane()
