"""What a kubelet remembers of its pods: one PodWorker a pod, one ContainerRecord a container, and the restart back-off.

A record is a container through all its restarts. Its state is one of WAITING (with the reason that `get pods` shows), RUNNING and
TERMINATED; `last` is the end before the present state. Three kinds: "init" runs to its end before the next one starts; "sidecar"
(an init container with restartPolicy Always) only has to be started; "main".

    started    its startup probe, if any, has succeeded       (the status's `started`)
    is_ready   it runs, is started, and its readiness probe, if any, says so

The back-off is client-go's, with the kubelet's 10 s and 300 s: the first restart is immediate, then 10, 20, 40 ... 300 s after the
container ended; one that ran for twice the maximum begins again. Source: Kubernetes kuberuntime_manager.go doBackOff(),
client-go flowcontrol/backoff.go, kubelet/prober/results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubenet.cluster.pod_volumes import PodVolumes
from kubenet.kernel.netns import NetNamespace
from kubenet.units import SEC
from kubenet.userland.container import Container

if TYPE_CHECKING:
    from kubenet.cluster.probes import ProbeWorker

Obj = dict[str, Any]
Log = list[tuple[int, int, bytes]]

WAITING, RUNNING, TERMINATED = "waiting", "running", "terminated"
INIT, SIDECAR, MAIN = "init", "sidecar", "main"
BACKOFF_FIRST, BACKOFF_MAX = 10 * SEC, 300 * SEC


class BackOff:
    """How long one thing that keeps failing is left alone. client-go: flowcontrol.Backoff, one entry."""

    __slots__ = ("delay", "updated")

    def __init__(self) -> None:
        self.delay = 0  # 0: never failed, or long ago
        self.updated = 0

    def _expired(self, when: int) -> bool:
        return not self.delay or when - self.updated > 2 * BACKOFF_MAX

    def remaining(self, now: int, failed: int) -> int:
        """ns still to wait after the failure at `failed`. IsInBackOffSince()."""
        return 0 if self._expired(failed) else max(failed + self.delay - now, 0)

    def next(self, now: int, failed: int) -> None:
        """It is tried once more now: the wait after the next failure is longer. Next()."""
        self.delay = BACKOFF_FIRST if self._expired(failed) else min(self.delay * 2, BACKOFF_MAX)
        self.updated = now


class ContainerRecord:
    """What the kubelet knows of one container of a pod."""

    __slots__ = ("spec", "name", "kind", "state", "reason", "message", "container", "restarts", "began", "finished", "exit_code",
                 "ended_as", "last", "backoff", "pull_backoff", "not_before", "started", "probes", "readiness", "hook", "killing",
                 "failing")

    def __init__(self, spec: Obj, kind: str) -> None:
        self.spec = spec
        self.name: str = spec["name"]
        self.kind = kind
        self.state = WAITING
        self.reason = "ContainerCreating"
        self.message = ""
        self.container: Container | None = None
        self.restarts = 0
        self.began = 0  # when the present or last container was started
        self.finished = 0
        self.exit_code = 0
        self.ended_as: Obj = {}  # the present or last container's `terminated` state, once it has ended
        self.last: Obj = {}
        self.backoff = BackOff()
        self.pull_backoff = BackOff()
        self.not_before = 0  # for what is tried again at a fixed time: configuration that is missing, a pull
        self.started = False
        self.probes: dict[str, ProbeWorker] = {}
        self.readiness = True  # what the readiness probe last decided; True without one
        self.hook = False  # its postStart hook is under way
        self.killing = False  # it was told to end
        self.failing = ""  # why its readiness or startup probe fails, once that is decided

    @property
    def is_running(self) -> bool:
        """True while its process lives."""
        return self.container is not None and self.container.running

    @property
    def is_ready(self) -> bool:
        """The status's `ready`: an init container when it has succeeded, others while they serve."""
        if self.kind == INIT:
            return self.state == TERMINATED and self.exit_code == 0
        return self.state == RUNNING and self.started and self.readiness

    @property
    def has_succeeded(self) -> bool:
        """It ended with 0."""
        return self.state == TERMINATED and self.exit_code == 0

    @property
    def image(self) -> str:
        """The image it is made from."""
        return str(self.spec["image"])


class PodWorker:
    """One pod on this node: sandbox and containers."""

    __slots__ = ("key", "uid", "net", "ip", "inits", "mains", "volumes", "sandbox_at", "starting_at", "deadline", "grace",
                 "mount_error", "mount_delay", "refresh_at",
                 "host_network", "began", "logs", "previous_logs", "final", "reason", "message", "sandbox_gone", "ports")

    def __init__(self, key: tuple[str, str], pod: Obj, now: int) -> None:
        spec = pod["spec"]
        self.key = key
        self.uid: str = pod["metadata"]["uid"]
        self.net: NetNamespace | None = None
        self.ip = ""
        self.inits = [ContainerRecord(c, SIDECAR if c.get("restartPolicy") == "Always" else INIT)
                      for c in spec.get("initContainers") or []]
        self.mains = [ContainerRecord(c, MAIN) for c in spec["containers"]]
        if self.inits:
            for record in [*self.inits[1:], *self.mains]:
                record.reason = "PodInitializing"
        self.volumes = PodVolumes()
        self.mount_error = ""  # why a volume could not be set up, the last time
        self.mount_delay = 0
        self.refresh_at = 0  # when changed ConfigMaps and Secrets show in its volumes; 0: nothing has changed
        self.sandbox_at = 0
        self.starting_at = 0
        self.deadline = 0  # the end of the grace period, once the pod has to end
        self.grace = -1
        self.host_network = bool(spec.get("hostNetwork"))
        self.began = now
        self.logs: dict[str, Log] = {}
        self.previous_logs: dict[str, Log] = {}
        self.final = ""  # Succeeded or Failed, once that is decided: nothing is started any more
        self.reason = ""
        self.message = ""
        self.sandbox_gone = False
        self.ports = False  # host ports lead to it

    @property
    def records(self) -> list[ContainerRecord]:
        """All containers, in the order in which they start."""
        return [*self.inits, *self.mains]

    @property
    def sidecars(self) -> list[ContainerRecord]:
        """The init containers that stay."""
        return [r for r in self.inits if r.kind == SIDECAR]

    @property
    def is_initialized(self) -> bool:
        """Every init container has succeeded, every sidecar is started."""
        return all(r.started if r.kind == SIDECAR else r.has_succeeded for r in self.inits)

    def failing(self) -> str:
        """Why the pod is not ready and will not become so by itself, as far as its probes say; "" if they do not."""
        return next((r.failing for r in [*self.sidecars, *self.mains] if r.state == RUNNING and r.failing), "")
