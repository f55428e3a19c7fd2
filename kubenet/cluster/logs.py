"""What `logs` shows: a container's output so far, and then what comes. Polled; reading changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubenet.cluster.store import key_of, rfc3339
from kubenet.errors import NotFoundError, WrongMomentError
from kubenet.units import SEC

if TYPE_CHECKING:
    from kubenet.cluster.cluster import Cluster

Line = tuple[int, int, bytes]


class LogSource:
    """One reader of one container's log. `ended` is True once nothing more can come."""

    def __init__(self, cluster: Cluster, target: str, namespace: str, container: str, previous: bool, tail: int | None,
                 timestamps: bool, since_ns: int | None) -> None:
        self.cluster = cluster
        self.timestamps = timestamps
        self.log, self.record = _find(cluster, target, namespace, container, previous)
        self.place = self.record.container if self.record is not None else None  # its successor has a log of its own
        self.at = 0
        lines = self.log
        if since_ns is not None:
            limit = cluster.loop.now - since_ns
            self.at = next((n for n, line in enumerate(lines) if line[0] >= limit), len(lines))
        if tail is not None:
            self.at = max(self.at, _tail(lines, tail))

    @property
    def ended(self) -> bool:
        """True when the container has ended and everything was read."""
        running = self.record is not None and self.place is not None and self.place.running
        return not running and self.at >= len(self.log)

    def poll(self) -> bytes:
        """What was written since the last call."""
        new = self.log[self.at :]
        self.at = len(self.log)
        if not self.timestamps:
            return b"".join(data for _, _, data in new)
        return b"".join(self._stamped(when, data) for when, _, data in new)

    def _stamped(self, when: int, data: bytes) -> bytes:
        stamp = f"{rfc3339(self.cluster.epoch + when // SEC)[:-1]}.{when % SEC:09d}Z "
        return b"".join(stamp.encode() + line for line in data.splitlines(keepends=True))


def _tail(lines: list[Line], count: int) -> int:
    """The index from which on there are at least the last `count` lines."""
    seen = 0
    for at in range(len(lines) - 1, -1, -1):
        if seen >= count:
            return at + 1
        seen += max(1, lines[at][2].count(b"\n"))
    return 0


def _find(cluster: Cluster, target: str, namespace: str, container: str, previous: bool) -> tuple[list[Line], Any]:
    """(log, the kubelet's record) of a pod's container, running or ended."""
    from kubenet.cluster import resolve

    kind, _, name = target.rpartition("/")
    pod = cluster.store.get("Pod", (namespace, name)) if kind in ("", "pod", "po", "pods") else None
    if pod is None:
        place = resolve.find_container(cluster, target, namespace, container)
        found = next((r for n in cluster.nodes.values() if n.kubelet for w in n.kubelet.workers.values() for r in w.records
                      if r.container is place), None)
        return place.log, found
    names = [c["name"] for c in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]]
    wanted = container or names[0]
    if wanted not in names:
        raise NotFoundError(f"container {wanted} is not valid for pod {name}", why=f"it has: {', '.join(names)}")
    node = cluster.nodes.get(pod["spec"].get("nodeName", ""))
    worker = node.kubelet.workers.get(key_of(pod)) if node is not None and node.kubelet is not None else None
    record = next((r for r in worker.records if r.name == wanted), None) if worker is not None else None
    if worker is None or record is None or record.container is None:
        reason = record.reason if record is not None else "ContainerCreating"
        raise WrongMomentError(f'container "{wanted}" in pod "{name}" is waiting to start: {reason}', try_=f"kubenet describe pod {name}")
    if not previous:
        return worker.logs.setdefault(wanted, []), record
    if wanted not in worker.previous_logs:
        raise NotFoundError(f'previous terminated container "{wanted}" in pod "{name}" not found', why="it was not restarted yet",
                            try_=f"kubenet logs {name}")
    return worker.previous_logs[wanted], None
