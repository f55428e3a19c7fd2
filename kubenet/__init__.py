"""kubenet: a Kubernetes networking lab in one Python process.

The public names are few; everything else is reached through them. They load on first use, because `kubenet --help`
must not pay for the emulator.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Cluster": "kubenet.cluster.cluster",
    "Topology": "kubenet.fabric.graph",
    "KubenetError": "kubenet.errors",
}
__all__ = ["Cluster", "KubenetError", "Topology", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'kubenet' has no attribute {name!r}")
