"""The kubelet: one per node; makes the pods bound to its node true, and says in their status how far that is.

    Pending     sandbox (namespace, address) -> init containers, one after the other -> containers
    Running     every container was started; an exit is answered by restartPolicy, with CrashLoopBackOff 10 s doubling to 300 s
    Succeeded / Failed   all ended and none is started again; sidecars are ended, the network goes
    deleted     preStop, SIGTERM, the grace period, SIGKILL, sidecars last; then sandbox and object go (delete with grace 0)

Level-triggered: reconcile(key) looks at the Pod as it is and at what runs, and takes the next step. What takes time on a real
node (sandbox, container creation, taking the sandbox down) takes SANDBOX_COST, START_COST and TEARDOWN_COST of virtual time: the
last packets of a container that ended, its FINs, still leave. What is done with a container is in runtime.py, its memory in
pod_worker.py, the status object in pod_status.py. The kubelet is also a process on its node: probes and hooks are its threads.

simplified: images need no time to be pulled; the periodic sync of a pod has no jitter, and takes place only if it has to; no static
pods, no eviction, no cgroups, no ephemeral containers. Sources: Kubernetes kubelet.go SyncPod(), SyncTerminatingPod();
kuberuntime_manager.go computePodActions(); active_deadline.go.
"""

from __future__ import annotations

from typing import Any

from kubenet.cluster.cni import Cni
from kubenet.cluster.controller import Controller
from kubenet.cluster.events import EventRecorder
from kubenet.cluster.ipam import PoolFull
from kubenet.cluster.pod_env import ServiceEnv
from kubenet.cluster.pod_status import Place, final_phase, pod_status
from kubenet.cluster.pod_volumes import config_objects, labels_of
from kubenet.cluster.pod_worker import SIDECAR, TERMINATED, ContainerRecord, PodWorker
from kubenet.cluster.portmap import host_ports, portmap_add, portmap_del
from kubenet.cluster.runtime import MIN_GRACE, Runtime, grace_of
from kubenet.cluster.store import Event, Key, Store, key_of, rfc3339
from kubenet.kernel.host import Host
from kubenet.kernel.netns import NetNamespace
from kubenet.units import MSEC, SEC
from kubenet.userland.container import Container
from kubenet.userland.process import Process

Obj = dict[str, Any]

SANDBOX_COST = 100 * MSEC
START_COST = 50 * MSEC
TEARDOWN_COST = 50 * MSEC  # from the last container's end to the end of the pod's network; less than SANDBOX_COST
SANDBOX_RETRY = 10 * SEC
MOUNT_RETRY, MOUNT_RETRY_MAX = 500 * MSEC, 122 * SEC
SYNC_PERIOD = 60 * SEC  # syncFrequency


class PodFeed(Controller):
    """One watch of all pods for all kubelets: each is told of its own, as by a watch with spec.nodeName as field selector."""

    name = "kubelet"
    kinds = ("Pod", "ConfigMap", "Secret")

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.kubelets: dict[str, Kubelet] = {}

    def keys_for(self, event: Event) -> tuple[Key, ...]:
        """None of the feed's own: the kubelet of the pod's node is told, of configuration every kubelet."""
        if event.obj["kind"] != "Pod":
            for each in self.kubelets.values():
                each.config_changed(event.obj["kind"], key_of(event.obj))
            return ()
        kubelet = self.kubelets.get(event.obj["spec"].get("nodeName", ""))
        if kubelet is not None:
            kubelet.enqueue(key_of(event.obj))
        return ()


def _process_main(proc: Process, argv: list[str]) -> int:
    """The kubelet as a process: its threads do the work."""
    while True:
        proc.sys.pause()


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
        self.node_resolv_conf: str = settings.get("nodeResolvConf", "nameserver 172.18.0.1\n")
        self.node_hosts: str = settings.get("nodeHosts", "127.0.0.1\tlocalhost\n")
        self.service_env: ServiceEnv = settings.get("serviceEnv") or ServiceEnv(store)
        self.workers: dict[Key, PodWorker] = {}
        self._wish: int | None = None  # ns until the key at hand should be looked at again
        self.events = EventRecorder(store, "kubelet", host.name)
        machine: Container | None = settings.get("container")
        self.runtime = Runtime(self, machine.run_native(_process_main, ["/usr/bin/kubelet"]) if machine is not None else None)

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

    @property
    def place(self) -> Place:
        """Node, time, and how times are written."""
        return Place(self.node_ip, self.loop.now, self._time)

    def _time(self, ns: int) -> str:
        return rfc3339(self.store.epoch_s + ns // SEC)

    # ---- one step

    def reconcile(self, key: Key) -> int | None:
        """One look at one pod; returns when to look again."""
        self._wish = None
        self._sync_pod(key)
        return self._wish

    def _look_again(self, delay: int) -> None:
        """Not later than in `delay` ns; 0 is no wish."""
        if delay and (self._wish is None or delay < self._wish):
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
        if worker is None:
            if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
                return
            worker = self.workers[key] = PodWorker(key, pod, self.loop.now)
            worker.sandbox_at = self.loop.now + SANDBOX_COST
        self._check_deadline(pod, worker)
        if not worker.final:
            if worker.net is None:
                self._make_sandbox(pod, worker)
            elif worker.refresh_at or worker.volumes.payloads and worker.volumes.seen != labels_of(pod):
                self._refresh_volumes(pod, worker)
            if worker.net is not None:
                self._run_containers(pod, worker)
            worker.final = final_phase(pod, worker)
        if worker.final:
            self._finish(pod, worker)
        self._write_status(pod, worker)

    def _check_deadline(self, pod: Obj, worker: PodWorker) -> None:
        """activeDeadlineSeconds. Kubernetes: active_deadline.go."""
        seconds = pod["spec"].get("activeDeadlineSeconds")
        if seconds is None or worker.final:
            return
        left = worker.began + int(seconds) * SEC - self.loop.now
        if left > 0:
            self._look_again(left)
            return
        worker.final, worker.reason = "Failed", "DeadlineExceeded"
        worker.message = "Pod was active on the node longer than the specified deadline"
        self.events.event(pod, "Normal", worker.reason, worker.message)

    def _make_sandbox(self, pod: Obj, worker: PodWorker) -> None:
        if self.loop.now < worker.sandbox_at:
            self._look_again(worker.sandbox_at - self.loop.now)
            return
        if not self._mount_volumes(pod, worker):
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
                worker.sandbox_at = self.loop.now + SANDBOX_RETRY
                self._look_again(SANDBOX_RETRY)
                return
            if ports := host_ports(pod):
                worker.ports = True
                portmap_add(self.net, worker.uid, worker.ip, self.cni.pod_cidr, ports)
        worker.starting_at = self.loop.now + START_COST

    def _mount_volumes(self, pod: Obj, worker: PodWorker) -> bool:
        """Every volume is there; else the pod waits. Kubernetes: volumemanager WaitForAttachAndMount(), exponentialbackoff.go."""
        if self._sync_volumes(pod, worker):
            return True
        worker.mount_delay = min(max(worker.mount_delay * 2, MOUNT_RETRY), MOUNT_RETRY_MAX)
        worker.sandbox_at = self.loop.now + worker.mount_delay
        self._look_again(worker.mount_delay)
        return False

    def _sync_volumes(self, pod: Obj, worker: PodWorker) -> bool:
        failed = worker.volumes.sync(self.store, pod, self.loop.now)
        worker.mount_error = "; ".join(message for _, message in failed)
        for name, message in failed:
            self.events.event(pod, "Warning", "FailedMount", f'MountVolume.SetUp failed for volume "{name}" : {message}')
        return not failed

    def config_changed(self, kind: str, key: Key) -> None:
        """A ConfigMap or Secret was written: pods that show it in a volume get it with their next periodic sync."""
        for worker in self.workers.values():
            if worker.key[0] == key[0] and not worker.refresh_at and (pod := self.store.get("Pod", worker.key)) is not None:
                if (kind, key[1]) in config_objects(pod):
                    worker.refresh_at = worker.began + ((self.loop.now - worker.began) // SYNC_PERIOD + 1) * SYNC_PERIOD
                    self.enqueue(worker.key)

    def _refresh_volumes(self, pod: Obj, worker: PodWorker) -> None:
        """Volumes show what is true now: at the periodic sync, and at once when the pod itself was changed."""
        if worker.volumes.seen == labels_of(pod) and self.loop.now < worker.refresh_at:
            self._look_again(worker.refresh_at - self.loop.now)
            return
        worker.refresh_at = 0
        self._sync_volumes(pod, worker)

    def _run_containers(self, pod: Obj, worker: PodWorker) -> None:
        """Start what should run now: the next init container, else every main container. Kubernetes: computePodActions()."""
        if self.loop.now < worker.starting_at:
            self._look_again(worker.starting_at - self.loop.now)
            return
        self._follow_changes(pod, worker)
        if not self._run_inits(pod, worker):
            return
        policy = pod["spec"].get("restartPolicy", "Always")
        for record in worker.mains:
            if record.state == TERMINATED and (policy == "Never" or (policy == "OnFailure" and record.exit_code == 0)):
                continue
            self._look_again(self.runtime.start_if_due(pod, worker, record))
            if record.hook:
                return  # a postStart hook holds up what comes after it

    def _run_inits(self, pod: Obj, worker: PodWorker) -> bool:
        """True once the main containers may be started."""
        initialized = any(r.container is not None for r in worker.mains)
        policy = pod["spec"].get("restartPolicy", "Always")
        for record in worker.inits:
            if record.kind == SIDECAR:
                self._look_again(self.runtime.start_if_due(pod, worker, record))
                if not record.started and not initialized:
                    return False
            elif not initialized and not record.has_succeeded:
                if not (record.state == TERMINATED and policy == "Never"):
                    self._look_again(self.runtime.start_if_due(pod, worker, record))
                return False
        return True

    def _follow_changes(self, pod: Obj, worker: PodWorker) -> None:
        """A container whose image was changed in the Pod is ended; its successor gets the new one."""
        specs = {c["name"]: c for c in [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]}
        for record in worker.records:
            new = specs.get(record.name, record.spec)
            if new is record.spec or new == record.spec:
                continue
            changed = new["image"] != record.image
            record.spec = new
            if changed:
                record.not_before = 0
                self.runtime.kill(worker, record, grace_of(pod), f"Container {record.name} definition changed, will be restarted")

    # ---- ends

    def _finish(self, pod: Obj, worker: PodWorker) -> None:
        """The pod has done what it was for: what still runs ends, then its network goes."""
        if not worker.deadline:
            worker.deadline = self.loop.now + grace_of(pod)
        if not self._end_containers(worker) and worker.net is not None and self._may_take_down(worker):
            self._take_down(worker)
            worker.sandbox_gone = True

    def _terminate(self, pod: Obj, worker: PodWorker | None) -> None:
        """The pod was deleted: stop its containers, then confirm. Kubernetes: pod_workers.go SyncTerminatingPod()."""
        if worker is not None:
            self._start_grace(pod, worker)
            if self._end_containers(worker) or worker.net is not None and not self._may_take_down(worker):
                self._write_status(pod, worker)
                return
            self._tear_down(worker)
        self.store.delete("Pod", (pod["metadata"].get("namespace", ""), pod["metadata"]["name"]), grace=0)

    def _start_grace(self, pod: Obj, worker: PodWorker) -> None:
        """The grace period runs; a second delete may shorten it."""
        grace = int(pod["metadata"].get("deletionGracePeriodSeconds") or 0) * SEC
        if 0 <= worker.grace <= grace:
            return
        for record in worker.records:
            if record.killing and record.container is not None:
                record.container.stop(grace)
        worker.grace = grace
        worker.deadline = max(self.loop.now + grace, 1)

    def _end_containers(self, worker: PodWorker) -> bool:
        """Every container is told to end: sidecars after all others, in reverse order. True while any of them runs."""
        left = worker.deadline - self.loop.now
        alive = [r for r in worker.records if r.is_running]
        first = [r for r in alive if r.kind != SIDECAR] or alive[-1:]
        for record in first:
            grace = left if record.kind != SIDECAR else max(left, MIN_GRACE)
            self.runtime.kill(worker, record, max(grace, 0), f"Stopping container {record.name}")
        return bool(alive)

    def _may_take_down(self, worker: PodWorker) -> bool:
        """Some time after the last container's end."""
        due = max((r.finished for r in worker.records), default=0) + TEARDOWN_COST
        if self.loop.now < due:
            self._look_again(due - self.loop.now)
        return bool(self.loop.now >= due)

    def _take_down(self, worker: PodWorker) -> None:
        """The pod's namespace, cable, address and ports are free."""
        if worker.net is not None and not worker.host_network:
            self.cni.delete("/".join(worker.key))
            if worker.ports:
                portmap_del(self.net, worker.uid)
        worker.net = None

    def _tear_down(self, worker: PodWorker) -> None:
        """Nothing of the pod is left; where containers still ran (deleted by force), their network goes TEARDOWN_COST later."""
        killed = False
        for record in worker.records:
            self.runtime.stop_probes(record)
            if record.is_running and record.container is not None:
                record.container.on_exit = None
                record.container.kill()
                killed = True
        self.workers.pop(worker.key, None)
        if killed and worker.net is not None:
            self.loop.call_later(TEARDOWN_COST, self._take_down, worker)
        else:
            self._take_down(worker)

    # ---- status

    def _write_status(self, pod: Obj, worker: PodWorker) -> None:
        if self.store.get("Pod", worker.key) is not None:
            self.store.set_status("Pod", worker.key, pod_status(pod, worker, self.place))


__all__ = ["ContainerRecord", "Kubelet", "PodFeed", "PodWorker"]
