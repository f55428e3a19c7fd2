"""_random: the Mersenne Twister of the host, seeded by the process's own entropy when nobody gives a seed."""

from __future__ import annotations

import _random as _kn_host
from typing import Any

from kubenet.userland.shims import proc


class Random(_kn_host.Random):
    """_random.Random."""

    def __init__(self, *args: Any) -> None:
        super().__init__()
        self.seed(*args)

    def seed(self, n: Any = None, /) -> None:
        if n is None:
            n = int.from_bytes(proc().urandom(32), "little")
        super().seed(n)


def exports() -> dict[str, Any]:
    """The names of _random."""
    return {"Random": Random}
