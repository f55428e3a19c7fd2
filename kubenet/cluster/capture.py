"""A capture of a pod's or machine's devices, in memory until it is stopped. Looking changes nothing."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from kubenet.errors import NotFoundError
from kubenet.fabric.capture import Capture as Tap
from kubenet.units import SEC
from kubenet.userland.container import Container

if TYPE_CHECKING:
    from kubenet.cluster.cluster import Cluster


class Capture:
    """One running capture."""

    def __init__(self, cluster: Cluster, place: Container, dev: str) -> None:
        net = place.net
        if dev and dev not in ("any", *net.devs):
            raise NotFoundError(f"{place.hostname} has no device {dev}", why=f"it has: {', '.join(net.devs)}",
                                try_=f"kubenet exec {place.hostname} -- ip link")
        self._buffer = BytesIO()
        self._tap = Tap(self._buffer, cluster.epoch * SEC)
        self._names: list[str] = []
        for device in net.devs.values():
            if device.name == dev or dev == "any" or (not dev and device.kind != "loopback"):
                name = f"{place.hostname}/{device.name}"
                self._tap.attach(device, name)
                self._names.append(name)

    def devices(self) -> list[str]:
        """What is captured."""
        return self._names

    @property
    def packets(self) -> int:
        """How many frames so far."""
        return self._tap.count

    def stop(self) -> bytes:
        """The pcapng file; the capture is over."""
        for device, _ in list(self._tap.devices):
            from kubenet.kernel.dev.device import remove_tap

            remove_tap(device, self._tap)
        return self._buffer.getvalue()
