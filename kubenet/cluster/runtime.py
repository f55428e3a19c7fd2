"""Containers of pods: started, watched by probes, told to end. The kubelet decides what should run (kubelet.py); this does it.

    start()     image, configuration, container, postStart hook, probes; what fails leaves its reason in the record
    kill()      preStop hook, stop signal, and SIGKILL when the grace period is over; the hook's time counts
    on exit     the record says how it ended, and the kubelet looks at the pod again

Hooks and probes run as threads of the node's kubelet process, so their packets come from the node. A container whose program is
not there ends as StartError with exit code 128, as containerd reports it.

Sources: Kubernetes kuberuntime_container.go startContainer(), killContainer(); images/image_manager.go; lifecycle/handlers.go;
prober/prober.go (the words of Unhealthy events).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from kubenet.cluster import probes
from kubenet.cluster.pod_env import (
    MAX_NAMESERVERS,
    ConfigMissing,
    container_env,
    dns_config,
    expand,
    hosts_file,
    node_hosts_file,
    resolv_conf,
)
from kubenet.cluster.pod_status import Place, terminated
from kubenet.cluster.pod_worker import INIT, RUNNING, TERMINATED, WAITING, ContainerRecord, PodWorker
from kubenet.sim.task import current
from kubenet.units import SEC
from kubenet.userland.container import Container, ExecError
from kubenet.userland.images import find_image
from kubenet.userland.process import Process

if TYPE_CHECKING:
    from kubenet.cluster.kubelet import Kubelet

Obj = dict[str, Any]

MIN_GRACE = 2 * SEC  # what is left for the stop signal, however long a preStop hook took
CONFIG_RETRY = 10 * SEC
PULL_SHOWN = START_FAILED_SHOWN = SEC  # ErrImagePull, RunContainerError are seen for a moment, then the back-off
FOREVER = 1 << 60
HANDLERS = ("exec", "httpGet", "tcpSocket")


class Runtime:
    """The containers of one node's pods."""

    def __init__(self, kubelet: Kubelet, agent: Process | None) -> None:
        self.kubelet = kubelet
        self.loop = kubelet.loop
        self.store = kubelet.store
        self.agent = agent  # the kubelet's process: whoever it is that connects

    @property
    def place(self) -> Place:
        """Node, time, and how times are written."""
        return self.kubelet.place

    def _event(self, worker: PodWorker, record: ContainerRecord, type_: str, reason: str, message: str) -> None:
        pod = self.store.get("Pod", worker.key)
        if pod is not None and pod["metadata"]["uid"] == worker.uid:
            kind = "containers" if record in worker.mains else "initContainers"
            self.kubelet.events.event(pod, type_, reason, message, f"spec.{kind}{{{record.name}}}")

    # ---- start

    def start_if_due(self, pod: Obj, worker: PodWorker, record: ContainerRecord) -> int:
        """The container is started, or waits: 0, or the ns until it should be looked at again."""
        now: int = self.loop.now
        if record.state == RUNNING or record.hook or record.is_running:
            return 0
        if now < record.not_before:
            return self._still_waits(worker, record)
        if record.ended_as:
            left = record.backoff.remaining(now, record.finished)
            if left:
                self._crash_loop(worker, record)
                return left
            record.backoff.next(now, record.finished)
        return self._start(pod, worker, record)

    def _still_waits(self, worker: PodWorker, record: ContainerRecord) -> int:
        """Configuration that is missing, or an image that could not be pulled."""
        left: int = record.not_before - self.loop.now
        if record.reason == "ErrImagePull":
            shown: int = record.not_before - record.pull_backoff.delay + PULL_SHOWN - self.loop.now
            if shown > 0:
                return min(shown, left)
            record.message = f'Back-off pulling image "{record.image}": ErrImagePull: {record.message}'
            record.reason = "ImagePullBackOff"
            self._event(worker, record, "Normal", "BackOff", f'Back-off pulling image "{record.image}"')
            self._event(worker, record, "Warning", "Failed", "Error: ImagePullBackOff")
        return left

    def _crash_loop(self, worker: PodWorker, record: ContainerRecord) -> None:
        """Between an end and the next start. Kubernetes: doBackOff()."""
        if record.reason == "CrashLoopBackOff":
            return
        name = f"{worker.key[1]}_{worker.key[0]}({worker.uid})"
        record.last, record.state, record.reason = record.ended_as, WAITING, "CrashLoopBackOff"
        record.message = f"back-off {go_duration(record.backoff.delay)} restarting failed container={record.name} pod={name}"
        self._event(worker, record, "Warning", "BackOff", f"Back-off restarting failed container {record.name} in pod {name}")

    def _start(self, pod: Obj, worker: PodWorker, record: ContainerRecord) -> int:
        try:
            find_image(record.image)
        except LookupError as unknown:
            return self._pull_failed(worker, record, str(unknown.args[0] if unknown.args else unknown))
        self._event(worker, record, "Normal", "Pulled", f'Container image "{record.image}" already present on machine')
        try:
            env = container_env(self.kubelet.service_env, pod, record.spec)
            mounts = worker.volumes.mounts(record.spec, env)
        except ConfigMissing as missing:
            record.state, record.reason, record.message = WAITING, "CreateContainerConfigError", str(missing)
            record.not_before = self.loop.now + CONFIG_RETRY
            self._event(worker, record, "Warning", "Failed", f"Error: {missing}")
            return CONFIG_RETRY
        self._new_log(worker, record)
        container = self._container(pod, worker, record.spec, env, mounts)
        container.on_exit = partial(self._exited, worker, record)
        record.restarts += record.container is not None
        record.container, record.last = container, record.ended_as or record.last
        record.began, record.exit_code, record.killing, record.failing = self.loop.now, 0, False, ""
        self._event(worker, record, "Normal", "Created", f"Created container: {record.name}")
        try:
            container.start()
        except ExecError as error:
            self._start_failed(pod, worker, record, error)
            return START_FAILED_SHOWN
        self._event(worker, record, "Normal", "Started", f"Started container {record.name}")
        self._after_start(worker, record, container)
        return 0

    def _new_log(self, worker: PodWorker, record: ContainerRecord) -> None:
        """Every container has a log of its own; that of the one before is kept for `logs -p`."""
        if record.container is not None:
            worker.previous_logs[record.name] = worker.logs.get(record.name, [])
        worker.logs[record.name] = []

    def _container(self, pod: Obj, worker: PodWorker, spec: Obj, env: Mapping[str, str], mounts: dict[str, Any]) -> Container:
        assert worker.net is not None
        kubelet = self.kubelet
        namespace, name = worker.key
        command = [expand(word, env) for word in spec.get("command") or []] or None
        args = [expand(word, env) for word in spec.get("args") or []] or None
        dns = dns_config(pod, kubelet.dns_ip, kubelet.domain, kubelet.node_resolv_conf)
        if len(dns.servers) > MAX_NAMESERVERS:
            kubelet.events.event(pod, "Warning", "DNSConfigForming", "Nameserver limits were exceeded, some nameservers have been omitted, "
                                 f"the applied nameserver line is: {' '.join(dns.servers[:MAX_NAMESERVERS])}")
        hosts = node_hosts_file(pod, kubelet.node_hosts) if worker.host_network else hosts_file(pod, worker.ip, kubelet.domain)
        return Container(
            kubelet.host, worker.net, f"{namespace}/{name}/{spec['name']}", spec["image"], command=command, args=args, env=env,
            workdir=spec.get("workingDir", ""), mounts=mounts,
            hostname=kubelet.host.name if worker.host_network else pod["spec"].get("hostname") or name,
            resolv_conf=resolv_conf(dns), hosts=hosts,
            log=worker.logs[spec["name"]],
        )

    def _pull_failed(self, worker: PodWorker, record: ContainerRecord, why: str) -> int:
        """ErrImagePull now, ImagePullBackOff while the back-off lasts. Kubernetes: EnsureImageExists()."""
        now, image = self.loop.now, record.image
        record.state, record.reason = WAITING, "ErrImagePull"
        record.message = f'failed to pull and unpack image "{image}": {why}'
        record.pull_backoff.next(now, now)
        record.not_before = now + record.pull_backoff.delay
        self._event(worker, record, "Normal", "Pulling", f'Pulling image "{image}"')
        self._event(worker, record, "Warning", "Failed", f'Failed to pull image "{image}": {why}')
        self._event(worker, record, "Warning", "Failed", "Error: ErrImagePull")
        return PULL_SHOWN

    def _start_failed(self, pod: Obj, worker: PodWorker, record: ContainerRecord, error: ExecError) -> None:
        """There is no such program. containerd: exit code 128, reason StartError, no times."""
        detail = str(error).rpartition("unable to start container process: ")[2]
        text = ("failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
                f"unable to start container process: error during container init: {detail}: unknown")
        record.exit_code, record.finished = 128, self.loop.now
        record.ended_as = terminated(record, "StartError", self.place, text, never_ran=True)
        self._event(worker, record, "Warning", "Failed", f"Error: {text}")
        if pod["spec"].get("restartPolicy", "Always") == "Never":
            record.state, record.reason, record.message = TERMINATED, "StartError", text
        else:
            record.state, record.reason, record.message, record.last = WAITING, "RunContainerError", text, record.ended_as
            record.not_before = self.loop.now + START_FAILED_SHOWN

    def _after_start(self, worker: PodWorker, record: ContainerRecord, container: Container) -> None:
        record.ended_as = {}
        hook = (record.spec.get("lifecycle") or {}).get("postStart")
        if hook and self._thread(self._post_start, worker, record, container, hook):
            record.hook, record.state = True, WAITING
            record.reason = record.reason if record.reason == "PodInitializing" else "ContainerCreating"
            record.message = ""
        else:
            self._runs(worker, record)

    def _post_start(self, agent: Process, worker: PodWorker, record: ContainerRecord, container: Container, hook: Obj) -> None:
        """The hook decides whether the container stays. Nothing else of the pod starts meanwhile."""
        outcome, _ = self._run_hook(agent, worker, record, container, hook, FOREVER)
        if record.container is not container or not container.running:
            return
        record.hook = False
        if outcome == probes.SUCCESS:
            self._runs(worker, record)
        else:
            self._event(worker, record, "Warning", "FailedPostStartHook", "PostStartHook failed")
            record.reason, record.message = "PostStartHookError", "PostStartHook failed"
            pod = self.store.get("Pod", worker.key)
            self.kill(worker, record, grace_of(pod), "FailedPostStartHook")
        self.kubelet.enqueue(worker.key)

    def _run_hook(self, agent: Process, worker: PodWorker, record: ContainerRecord, container: Container, hook: Obj,
                  timeout: int) -> probes.Outcome:
        if "sleep" in hook:
            agent.sys.sleep(min(int(hook["sleep"].get("seconds") or 0) * SEC, timeout))
            return probes.SUCCESS, ""
        if not any(h in hook for h in HANDLERS):
            return probes.ERROR, "invalid handler"
        return probes.run_handler(agent, probes.Target(container, record.spec, worker.ip), hook, timeout)

    def _thread(self, fn: Any, *args: Any) -> bool:
        """fn(agent, *args) runs as a thread of the kubelet's process; False if that is not there."""
        agent = self.agent
        if agent is None or agent.dead:
            return False

        def run() -> None:
            try:
                fn(agent, *args)
            finally:
                if (task := current()) in agent.threads:
                    agent.threads.remove(task)

        agent.thread(run, name=f"{agent.label}/hook")
        return True

    # ---- probes

    def _runs(self, worker: PodWorker, record: ContainerRecord) -> None:
        """The container is Running; its probes begin. Regular init containers have none."""
        record.state, record.reason, record.message = RUNNING, "", ""
        found = {kind: spec for kind, field in probes.FIELDS.items() if (spec := self._probe_of(record, field))}
        record.readiness = probes.READINESS not in found
        record.started = probes.STARTUP not in found
        for kind in found if record.started else (probes.STARTUP,):
            self._probe(worker, record, kind, found[kind])

    def _probe_of(self, record: ContainerRecord, field: str) -> Obj | None:
        spec: Obj | None = record.spec.get(field)
        usable = spec and any(h in spec for h in HANDLERS) and record.kind != INIT
        return spec if usable and self.agent is not None and not self.agent.dead else None

    def _probe(self, worker: PodWorker, record: ContainerRecord, kind: str, spec: Obj) -> None:
        assert record.container is not None and self.agent is not None
        target = probes.Target(record.container, record.spec, worker.ip)
        ticks_from = self.loop.now if kind == probes.READINESS else worker.began
        found = probes.ProbeWorker(kind, target, spec, record.began, ticks_from, partial(self._decided, worker, record, target.container),
                                   partial(self._report, worker, record))
        record.probes[kind] = found
        found.start(self.agent)

    def _report(self, worker: PodWorker, record: ContainerRecord, kind: str, outcome: str, text: str) -> None:
        """One failure of a probe, as an event."""
        how = "failed" if outcome == probes.FAILURE else "errored"
        self._event(worker, record, "Warning", "Unhealthy", f"{kind} probe {how}: {text}")

    def _decided(self, worker: PodWorker, record: ContainerRecord, container: Container, kind: str, healthy: bool, text: str) -> None:
        """A probe's threshold was reached."""
        if record.container is not container or not container.running:
            return
        if kind == probes.READINESS:
            record.readiness = healthy
            record.failing = "" if healthy else f"Readiness probe failed: {text}"
        elif kind == probes.STARTUP and healthy:
            record.started = True
            for other in (probes.LIVENESS, probes.READINESS):
                spec = self._probe_of(record, probes.FIELDS[other])
                if spec:
                    self._probe(worker, record, other, spec)
        elif not healthy:
            self._unhealthy(worker, record, kind)
        self.kubelet.enqueue(worker.key)

    def _unhealthy(self, worker: PodWorker, record: ContainerRecord, kind: str) -> None:
        """Liveness or startup has failed: the container ends, and is restarted by the pod's policy."""
        pod = self.store.get("Pod", worker.key)
        own = record.spec[probes.FIELDS[kind]].get("terminationGracePeriodSeconds")
        message = f"Container {record.name} failed {kind.lower()} probe"
        if pod is not None and pod["spec"].get("restartPolicy", "Always") != "Never":
            message += ", will be restarted"
        self.kill(worker, record, grace_of(pod) if own is None else int(own) * SEC, message)

    # ---- end

    def kill(self, worker: PodWorker, record: ContainerRecord, grace: int, message: str) -> None:
        """The container is told to end, once. Kubernetes: killContainer()."""
        container = record.container
        if container is None or not container.running or record.killing:
            return
        record.killing = True
        self._event(worker, record, "Normal", "Killing", message)
        for kind in (probes.LIVENESS, probes.STARTUP):
            if kind in record.probes:
                record.probes[kind].stop()
        hook = (record.spec.get("lifecycle") or {}).get("preStop")
        if not (hook and grace > 0 and self._thread(self._pre_stop, worker, record, container, hook, grace)):
            container.stop(grace)

    def _pre_stop(self, agent: Process, worker: PodWorker, record: ContainerRecord, container: Container, hook: Obj,
                  grace: int) -> None:
        """The hook, for at most the grace period; then the stop signal with what is left. Kubernetes: executePreStopHook()."""
        began = self.loop.now
        outcome, _ = self._run_hook(agent, worker, record, container, hook, grace)
        if outcome != probes.SUCCESS and container.running:
            self._event(worker, record, "Warning", "FailedPreStopHook", "PreStopHook failed")
        container.stop(max(grace - (self.loop.now - began), MIN_GRACE))

    def _exited(self, worker: PodWorker, record: ContainerRecord, container: Container, code: int) -> None:
        """pid 1 of a container is gone; called in the emulated node, so only note it and look again."""
        if record.container is not container:
            return
        self.stop_probes(record)
        record.exit_code, record.finished = code, self.loop.now
        record.ended_as = terminated(record, "Completed" if code == 0 else "Error", self.place)
        if record.reason == "PostStartHookError":
            record.last = record.ended_as
        else:
            record.state, record.reason, record.message = TERMINATED, record.ended_as["reason"], ""
        record.hook = record.killing = record.started = False
        self.kubelet.enqueue(worker.key)

    def stop_probes(self, record: ContainerRecord) -> None:
        """Nothing asks this container any more."""
        for probe in record.probes.values():
            probe.stop()
        record.probes = {}


def grace_of(pod: Obj | None) -> int:
    """The pod's grace period in ns."""
    seconds = (pod or {}).get("spec", {}).get("terminationGracePeriodSeconds")
    return (30 if seconds is None else int(seconds)) * SEC


def go_duration(ns: int) -> str:
    """Whole seconds as Go prints a Duration: 10s, 1m20s, 5m0s."""
    minutes, seconds = divmod(ns // SEC, 60)
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
