"""The kubelet: one per node; makes the pods bound to its node true, and says in their status how far that is.

    Pending     sandbox (namespace, address) -> init containers, one after the other -> containers
    Running     every container was started; an exit is answered by restartPolicy, with CrashLoopBackOff 10 s doubling to 300 s
    Succeeded / Failed   all ended and none is started again
    deleted     SIGTERM, the grace period, SIGKILL; then sandbox and object go (delete with grace 0)

Level-triggered: reconcile(key) looks at the Pod as it is and at what runs, and takes the next step. What takes time on a real
node (sandbox, container creation, taking the sandbox down) takes SANDBOX_COST, START_COST and TEARDOWN_COST of virtual time: the
last packets of a container that ended, its FINs, still leave. Unknown images end in ErrImagePull and
ImagePullBackOff. The kubelet's own iptables chains are written at start.

simplified: readiness is "the container runs" (probes are warned about at apply); images need no time to be pulled; no static pods,
no eviction, no cgroups. Sources: Kubernetes kubelet.go SyncPod(), kuberuntime_manager.go computePodActions(),
pod_workers.go, status/generate.go, images/image_manager.go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from kubenet.cluster.cni import Cni
from kubenet.cluster.controller import Controller
from kubenet.cluster.events import EventRecorder
from kubenet.cluster.ipam import PoolFull
from kubenet.cluster.pod_env import ConfigMissing, ServiceEnv, container_env, container_mounts, expand, hosts_file, resolv_conf
from kubenet.cluster.store import Event, Key, Store, key_of, rfc3339
from kubenet.kernel.host import Host
from kubenet.kernel.netns import NetNamespace
from kubenet.units import MSEC, SEC
from kubenet.userland.container import Container, ExecError

Obj = dict[str, Any]

SANDBOX_COST = 100 * MSEC
START_COST = 50 * MSEC
TEARDOWN_COST = 50 * MSEC  # from the last container's end to the end of the pod's network; less than SANDBOX_COST
BACKOFF_FIRST, BACKOFF_MAX, BACKOFF_RESET = 10 * SEC, 300 * SEC, 600 * SEC

WAITING, RUNNING, TERMINATED = "waiting", "running", "terminated"


class ContainerRecord:
    """What the kubelet knows of one container of a pod: its present state, its last end, its back-off."""

    __slots__ = ("spec", "name", "state", "reason", "message", "container", "restarts", "started", "finished", "exit_code",
                 "last", "backoff", "not_before", "ready", "pull_failed")

    def __init__(self, spec: Obj) -> None:
        self.spec = spec
        self.name: str = spec["name"]
        self.state = WAITING
        self.reason = "ContainerCreating"
        self.message = ""
        self.container: Container | None = None
        self.restarts = 0
        self.started = 0
        self.finished = 0
        self.exit_code = 0
        self.last: Obj = {}
        self.backoff = 0
        self.not_before = 0
        self.ready = False
        self.pull_failed = False


class PodWorker:
    """One pod on this node: sandbox and containers."""

    __slots__ = ("key", "uid", "net", "ip", "inits", "mains", "shared", "sandbox_at", "starting_at", "deadline", "host_network",
                 "started", "logs")

    def __init__(self, key: Key, pod: Obj) -> None:
        self.key = key
        self.uid: str = pod["metadata"]["uid"]
        self.net: NetNamespace | None = None
        self.ip = ""
        self.inits = [ContainerRecord(c) for c in pod["spec"].get("initContainers") or []]
        self.mains = [ContainerRecord(c) for c in pod["spec"]["containers"]]
        self.shared: dict[str, Any] = {}
        self.sandbox_at = 0
        self.starting_at = 0
        self.deadline = 0  # the end of the grace period, once the pod is being deleted
        self.host_network = bool(pod["spec"].get("hostNetwork"))
        self.started = 0
        self.logs: dict[str, list[tuple[int, int, bytes]]] = {}

    @property
    def records(self) -> list[ContainerRecord]:
        return [*self.inits, *self.mains]


class PodFeed(Controller):
    """One watch of all pods for all kubelets: each is told of its own, as by a watch with spec.nodeName as field selector."""

    name = "kubelet"
    kinds = ("Pod",)

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.kubelets: dict[str, Kubelet] = {}

    def keys_for(self, event: Event) -> tuple[Key, ...]:
        """None of the feed's own: the kubelet of the pod's node is told."""
        kubelet = self.kubelets.get(event.obj["spec"].get("nodeName", ""))
        if kubelet is not None:
            kubelet.enqueue(key_of(event.obj))
        return ()


class Kubelet(Controller):
    """Runs the pods of one node."""

    name = "kubelet"

    def __init__(self, store: Store, loop: Any, host: Host, net: NetNamespace, cni: Cni, settings: Obj, feed: PodFeed) -> None:
        super().__init__(store, loop)
        self.feed = feed
        self.loop = loop
        self.host = host
        self.net = net
        self.cni = cni
        self.node_ip: str = settings["nodeIP"]
        self.dns_ip: str = settings["dnsIP"]
        self.domain: str = settings["domain"]
        self.service_env: ServiceEnv = settings.get("serviceEnv") or ServiceEnv(store)
        self.workers: dict[Key, PodWorker] = {}
        self._wish: int | None = None  # ns until the key at hand should be looked at again
        self.events = EventRecorder(store, "kubelet", host.name)

    def start(self) -> None:
        """Hear of this node's pods from now on, beginning with those there are."""
        self.feed.kubelets[self.host.name] = self
        here = [key_of(pod) for pod in self.store.iter("Pod") if pod["spec"].get("nodeName") == self.host.name]
        for key in dict.fromkeys((*here, *self.workers)):
            self.enqueue_after(key, self.latency)

    def stop(self) -> None:
        """Hear nothing more; what runs goes on."""
        self.feed.kubelets.pop(self.host.name, None)
        super().stop()

    # ---- one step

    def reconcile(self, key: Key) -> int | None:
        """One look at one pod; returns when to look again."""
        self._wish = None
        self._sync_pod(key)
        return self._wish

    def _look_again(self, delay: int) -> None:
        """Not later than in `delay` ns."""
        if self._wish is None or delay < self._wish:
            self._wish = delay

    def _sync_pod(self, key: Key) -> None:
        pod = self.store.get("Pod", key)
        worker = self.workers.get(key)
        if worker is not None and (pod is None or pod["metadata"]["uid"] != worker.uid):
            self._tear_down(worker)
            worker = None
        if pod is None or pod["spec"].get("nodeName") != self.host.name:
            return
        if pod["metadata"].get("deletionTimestamp"):
            self._terminate(pod, worker)
            return
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed") and worker is None:
            return
        if worker is None:
            worker = self.workers[key] = PodWorker(key, pod)
            worker.sandbox_at = self.loop.now + SANDBOX_COST
            worker.started = self.loop.now
        if worker.net is None:
            self._make_sandbox(pod, worker)
        if worker.net is not None:
            self._run_containers(pod, worker)
        self._write_status(pod, worker)

    def _make_sandbox(self, pod: Obj, worker: PodWorker) -> None:
        if self.loop.now < worker.sandbox_at:
            self._look_again(worker.sandbox_at - self.loop.now)
            return
        if worker.host_network:
            worker.net, worker.ip = self.net, self.node_ip
        else:
            wanted = (pod["metadata"].get("annotations") or {}).get("kubenet.dev/ip", "")
            try:
                worker.net, worker.ip = self.cni.add("/".join(worker.key), wanted)
            except PoolFull as full:
                self.events.event(pod, "Warning", "FailedCreatePodSandBox",
                                  f'Failed to create pod sandbox: plugin type="bridge" failed (add): {full}')
                worker.sandbox_at = self.loop.now + 10 * SEC
                self._look_again(10 * SEC)
                return
        worker.starting_at = self.loop.now + START_COST

    def _run_containers(self, pod: Obj, worker: PodWorker) -> None:
        """Start what should run now: the next init container, else every main container."""
        if self.loop.now < worker.starting_at:
            self._look_again(worker.starting_at - self.loop.now)
            return
        policy = pod["spec"].get("restartPolicy", "Always")
        for record in worker.inits:
            if record.state == TERMINATED and record.exit_code == 0:
                continue
            if not (record.state == TERMINATED and policy == "Never"):
                self._start_if_due(pod, worker, record)
            return
        for record in worker.mains:
            if record.state == TERMINATED and (policy == "Never" or (policy == "OnFailure" and record.exit_code == 0)):
                continue
            self._start_if_due(pod, worker, record)

    def _start_if_due(self, pod: Obj, worker: PodWorker, record: ContainerRecord) -> None:
        now = self.loop.now
        if record.state == RUNNING:
            return
        if now < record.not_before:
            self._look_again(record.not_before - now)
            if record.state == TERMINATED:
                self._crash_loop(record)
            elif record.pull_failed and now < record.finished + SEC:
                self._look_again(record.finished + SEC - now)  # ErrImagePull is seen for a moment, then the back-off
            elif record.pull_failed:
                record.reason = "ImagePullBackOff"
                record.message = f'Back-off pulling image "{record.spec["image"]}"'
            return
        self._start(pod, worker, record)

    def _crash_loop(self, record: ContainerRecord) -> None:
        record.last = {TERMINATED: self._terminated(record)}
        record.state, record.reason = WAITING, "CrashLoopBackOff"
        record.message = f"back-off {record.backoff // SEC}s restarting failed container={record.name}"

    def _start(self, pod: Obj, worker: PodWorker, record: ContainerRecord) -> None:
        """Create and start the container, or say why it waits."""
        spec, image = record.spec, record.spec["image"]
        if record.state == TERMINATED:
            record.last = {TERMINATED: self._terminated(record)}
        try:
            env = container_env(self.service_env, pod, spec)
            mounts = container_mounts(self.store, pod, spec, worker.shared)
            container = self._container(pod, worker, spec, env, mounts)
        except ConfigMissing as missing:
            record.state, record.reason, record.message = WAITING, "CreateContainerConfigError", str(missing)
            self.events.event(pod, "Warning", "Failed", f"Error: {missing}")
            record.not_before = self.loop.now + 10 * SEC
            self._look_again(10 * SEC)
            return
        except LookupError as unknown:
            self._pull_failed(pod, worker, record, str(unknown.args[0] if unknown.args else unknown))
            return
        record.pull_failed = False
        if not record.restarts and record.state != TERMINATED:
            self.events.event(pod, "Normal", "Pulled", f'Container image "{image}" already present on machine')
        container.on_exit = lambda ended, code: self._exited(worker, record, ended, code)
        self._restart_count(record)
        record.container = container
        try:
            container.start()
        except ExecError as error:
            record.state, record.reason, record.message = TERMINATED, "StartError", f"failed to create containerd task: {error}"
            record.exit_code, record.finished, record.started = 128, self.loop.now, self.loop.now
            self.events.event(pod, "Warning", "Failed", f"Error: {record.message}")
            self._back_off(record)
            self._look_again(record.backoff)
            return
        self.events.event(pod, "Normal", "Created", f"Created container: {record.name}")
        self.events.event(pod, "Normal", "Started", f"Started container {record.name}")
        record.state, record.reason, record.message = RUNNING, "", ""
        record.started = self.loop.now
        record.ready = True

    def _restart_count(self, record: ContainerRecord) -> None:
        if record.container is not None:
            record.restarts += 1

    def _container(self, pod: Obj, worker: PodWorker, spec: Obj, env: Mapping[str, str], mounts: dict[str, Any]) -> Container:
        assert worker.net is not None
        namespace, name = worker.key
        command = [expand(word, env) for word in spec.get("command") or []] or None
        args = [expand(word, env) for word in spec.get("args") or []] or None
        log = worker.logs.setdefault(spec["name"], [])
        hostname = self.host.name if worker.host_network else pod["spec"].get("hostname") or name
        return Container(
            self.host, worker.net, f"{namespace}/{name}/{spec['name']}", spec["image"], command=command, args=args, env=env,
            workdir=spec.get("workingDir", ""), mounts=mounts, hostname=hostname,
            resolv_conf=resolv_conf(pod, self.dns_ip, self.domain, "nameserver 172.18.0.1\n"),
            hosts=hosts_file(pod, worker.ip), log=log,
        )

    def _pull_failed(self, pod: Obj, worker: PodWorker, record: ContainerRecord, why: str) -> None:
        """ErrImagePull now, ImagePullBackOff while the back-off lasts. Kubernetes: images/image_manager.go."""
        image = record.spec["image"]
        record.state, record.reason = WAITING, "ErrImagePull"
        record.message = f'failed to pull and unpack image "{image}": {why}'
        record.pull_failed = True
        self.events.event(pod, "Normal", "Pulling", f'Pulling image "{image}"')
        self.events.event(pod, "Warning", "Failed", f'Failed to pull image "{image}": {why}')
        self.events.event(pod, "Warning", "Failed", "Error: ErrImagePull")
        record.finished = self.loop.now
        self._back_off(record)
        self._look_again(SEC)

    def _back_off(self, record: ContainerRecord) -> None:
        record.backoff = min(record.backoff * 2, BACKOFF_MAX) if record.backoff else BACKOFF_FIRST
        record.not_before = self.loop.now + record.backoff

    # ---- ends

    def _exited(self, worker: PodWorker, record: ContainerRecord, container: Container, code: int) -> None:
        """pid 1 of a container is gone; called in the emulated node, so only note it and look again."""
        if record.container is not container:
            return
        now = self.loop.now
        record.state = TERMINATED
        record.exit_code, record.finished = code, now
        record.reason = "Completed" if code == 0 else "Error"
        record.message = ""
        record.ready = False
        if worker.deadline == 0 and record in worker.mains:
            if now - record.started > BACKOFF_RESET:
                record.backoff = 0
            if record.backoff or record.restarts:
                self._back_off(record)
            else:
                record.backoff = BACKOFF_FIRST // 2  # the first restart comes at once, the second waits 10 s
                record.not_before = now
        self.enqueue(worker.key)

    def _terminate(self, pod: Obj, worker: PodWorker | None) -> None:
        """The pod was deleted: stop its containers, then confirm. Kubernetes: pod_workers.go SyncTerminatingPod()."""
        if worker is not None:
            alive = [r for r in worker.records if r.container is not None and r.container.running]
            if worker.deadline == 0:
                grace = int(pod["metadata"].get("deletionGracePeriodSeconds") or 0) * SEC
                worker.deadline = self.loop.now + grace
                for record in alive:
                    self.events.event(pod, "Normal", "Killing", f"Stopping container {record.name}")
                    assert record.container is not None
                    record.container.stop(grace)
            if alive:
                self._write_status(pod, worker)
                return
            ended = max((r.finished for r in worker.records), default=0) + TEARDOWN_COST
            if worker.net is not None and self.loop.now < ended:
                self._write_status(pod, worker)
                self._look_again(ended - self.loop.now)
                return
            self._tear_down(worker)
        self.store.delete("Pod", (pod["metadata"].get("namespace", ""), pod["metadata"]["name"]), grace=0)

    def _tear_down(self, worker: PodWorker) -> None:
        """Nothing of the pod is left; where containers still ran (deleted by force), their network goes TEARDOWN_COST later."""
        killed = False
        for record in worker.records:
            if record.container is not None and record.container.running:
                record.container.on_exit = None
                record.container.kill()
                killed = True
        if worker.net is not None and not worker.host_network:
            sandbox = "/".join(worker.key)
            if killed:
                self.loop.call_later(TEARDOWN_COST, self.cni.delete, sandbox)
            else:
                self.cni.delete(sandbox)
        self.workers.pop(worker.key, None)

    # ---- status

    def _write_status(self, pod: Obj, worker: PodWorker) -> None:
        if self.store.get("Pod", worker.key) is None:
            return
        self.store.set_status("Pod", worker.key, self._status(pod, worker))

    def _status(self, pod: Obj, worker: PodWorker) -> Obj:
        old = pod.get("status") or {}
        phase = self._phase(pod, worker)
        inited = all(r.state == TERMINATED and r.exit_code == 0 for r in worker.inits)
        ready = inited and phase == "Running" and all(r.ready for r in worker.mains)
        done = phase == "Succeeded"
        unready = [r.name for r in worker.mains if not r.ready]
        why = "PodCompleted" if done else "ContainersNotReady"
        message = "" if done else f"containers with unready status: [{' '.join(unready)}]"
        wanted = [
            ("PodReadyToStartContainers", worker.net is not None and phase not in ("Succeeded", "Failed"), "", ""),
            ("Initialized", inited, "" if inited else "ContainersNotInitialized", ""),
            ("Ready", ready, "" if ready else why, "" if ready else message),
            ("ContainersReady", ready, "" if ready else why, "" if ready else message),
        ]
        kept = {c["type"]: c for c in old.get("conditions") or []}
        conditions = [self._condition(kept.get(kind), kind, value, reason, text) for kind, value, reason, text in wanted]
        scheduled = kept.get("PodScheduled") or self._condition(None, "PodScheduled", True, "", "")
        status: Obj = {
            **old, "phase": phase, "conditions": [*conditions, scheduled], "hostIP": self.node_ip,
            "hostIPs": [{"ip": self.node_ip}], "startTime": self._time(worker.started),
            "containerStatuses": [self._container_status(r) for r in worker.mains], "qosClass": _qos(pod),
        }
        if worker.ip:
            status["podIP"] = worker.ip
            status["podIPs"] = [{"ip": worker.ip}]
        if worker.inits:
            status["initContainerStatuses"] = [self._container_status(r) for r in worker.inits]
        return status

    def _phase(self, pod: Obj, worker: PodWorker) -> str:
        policy = pod["spec"].get("restartPolicy", "Always")
        if policy == "Never" and any(r.state == TERMINATED and r.exit_code for r in worker.inits):
            return "Failed"
        if any(r.container is None and not r.last for r in worker.mains):
            return "Pending"
        if policy != "Always" and all(r.state == TERMINATED for r in worker.mains):
            if all(r.exit_code == 0 for r in worker.mains):
                return "Succeeded"
            if policy == "Never":
                return "Failed"
        return "Running"

    def _condition(self, old: Obj | None, kind: str, value: bool, reason: str, message: str) -> Obj:
        status = "True" if value else "False"
        when = old["lastTransitionTime"] if old is not None and old["status"] == status else self._time(self.loop.now)
        out: Obj = {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": when}
        if reason:
            out["reason"] = reason
        if message:
            out["message"] = message
        return out

    def _container_status(self, r: ContainerRecord) -> Obj:
        if r.state == RUNNING:
            state: Obj = {"running": {"startedAt": self._time(r.started)}}
        elif r.state == TERMINATED:
            state = {"terminated": self._terminated(r)}
        else:
            state = {"waiting": {"reason": r.reason, **({"message": r.message} if r.message else {})}}
        out: Obj = {
            "name": r.name, "state": state, "lastState": r.last, "ready": r.ready, "restartCount": r.restarts,
            "image": r.spec["image"], "imageID": _image_id(r.spec["image"]) if r.container is not None else "",
            "started": r.state == RUNNING,
        }
        if r.container is not None:
            out["containerID"] = self._container_id(r)
        return out

    def _terminated(self, r: ContainerRecord) -> Obj:
        out: Obj = {"exitCode": r.exit_code, "reason": r.reason if r.reason != "CrashLoopBackOff" else "Error",
                    "startedAt": self._time(r.started), "finishedAt": self._time(r.finished)}
        if r.message and r.reason == "StartError":
            out["message"] = r.message
        if r.container is not None:
            out["containerID"] = self._container_id(r)
        return out

    def _container_id(self, r: ContainerRecord) -> str:
        text = f"{self.host.seed}/{r.container.name if r.container else ''}/{r.restarts}"
        return "containerd://" + hashlib.sha256(text.encode()).hexdigest()

    def _time(self, ns: int) -> str:
        return rfc3339(self.store.epoch_s + ns // SEC)


def _image_id(image: str) -> str:
    """A digest for an image name: nothing is pulled, so it is the name's."""
    repository = image.rpartition(":")[0] if ":" in image.rpartition("/")[2] else image
    return f"{repository}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"


def _qos(pod: Obj) -> str:
    """Guaranteed, Burstable or BestEffort by requests and limits. Kubernetes: qos.GetPodQOS()."""
    resources = [c.get("resources") or {} for c in pod["spec"]["containers"]]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"
    for r in resources:
        limits, requests = r.get("limits") or {}, r.get("requests") or r.get("limits") or {}
        if not {"cpu", "memory"} <= set(limits) or any(requests.get(k) != limits[k] for k in ("cpu", "memory")):
            return "Burstable"
    return "Guaranteed"
