"""The status of a pod, from what its kubelet remembers: phase, conditions, container states. No side effects.

    pod_status(pod, worker, place) -> the whole status object; `place` says the node's address and turns ns into times

Conditions keep their lastTransitionTime while their status stays. Sources: Kubernetes kubelet_pods.go getPhase(),
convertStatusToAPIStatus(), status/generate.go (the words of the conditions), qos.GetPodQOS().
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from kubenet.cluster.pod_worker import INIT, RUNNING, SIDECAR, TERMINATED, WAITING, ContainerRecord, PodWorker

Obj = dict[str, Any]


class Place(NamedTuple):
    """Where and when: the node's address, now, and how a time in ns is written."""

    node_ip: str
    now: int
    time: Callable[[int], str]


def pod_status(pod: Obj, worker: PodWorker, place: Place) -> Obj:
    """The status that the API server should be told. Fields of others (nominatedNodeName, extra conditions) stay."""
    old = pod.get("status") or {}
    phase = pod_phase(pod, worker)
    status: Obj = {
        **old, "phase": phase, "conditions": _conditions(old, worker, phase, place), "hostIP": place.node_ip,
        "hostIPs": [{"ip": place.node_ip}], "startTime": place.time(worker.began),
        "containerStatuses": [container_status(r, place) for r in worker.mains], "qosClass": qos_class(pod),
    }
    if worker.ip:
        status["podIP"] = worker.ip
        status["podIPs"] = [{"ip": worker.ip}]
    if worker.inits:
        status["initContainerStatuses"] = [container_status(r, place) for r in worker.inits]
    if worker.reason:
        status["reason"], status["message"] = worker.reason, worker.message
    return status


def pod_phase(pod: Obj, worker: PodWorker) -> str:
    """Pending, Running, Succeeded or Failed. What is final is said when nothing runs any more. Kubernetes: getPhase()."""
    running = any(r.is_running for r in worker.records)
    if worker.final:
        return "Running" if running else worker.final
    if not worker.is_initialized and not any(r.container for r in worker.mains):
        return "Pending"
    if any(r.state == WAITING and not r.last for r in worker.mains):
        return "Pending"
    if worker.deadline and not running:
        return "Succeeded" if all(r.exit_code == 0 for r in worker.mains) else "Failed"
    return "Running"


def final_phase(pod: Obj, worker: PodWorker) -> str:
    """Succeeded or Failed if nothing of the pod will be started again, else "". Kubernetes: computePodActions(), getPhase()."""
    policy = pod["spec"].get("restartPolicy", "Always")
    if policy == "Always":
        return ""
    if policy == "Never" and any(r.kind == INIT and r.state == TERMINATED and r.exit_code for r in worker.inits):
        return "Failed"
    if all(r.state == TERMINATED for r in worker.mains):
        if all(r.exit_code == 0 for r in worker.mains):
            return "Succeeded"
        return "Failed" if policy == "Never" else ""
    return ""


def _conditions(old: Obj, worker: PodWorker, phase: str, place: Place) -> list[Obj]:
    kept = {c["type"]: c for c in old.get("conditions") or []}
    waiting = [r.name for r in worker.inits if not (r.started if r.kind == SIDECAR else r.has_succeeded)]
    if any(r.container for r in worker.mains):
        waiting = []  # once initialized, always initialized
    unready = [r.name for r in [*worker.sidecars, *worker.mains] if not r.is_ready]
    ready = not unready and not waiting and phase == "Running"
    if phase == "Succeeded":
        why, words = "PodCompleted", ""
    elif phase == "Failed":
        why, words = "PodFailed", ""
    else:
        why, words = "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    wanted = [
        ("PodReadyToStartContainers", worker.net is not None and not worker.sandbox_gone, "", ""),
        _initialized(phase, waiting),
        ("Ready", ready, "" if ready else why, "" if ready else words),
        ("ContainersReady", ready, "" if ready else why, "" if ready else words),
    ]
    ours = [_condition(kept.get(kind), kind, value, reason, text, place) for kind, value, reason, text in wanted]
    names = [c["type"] for c in ours]
    scheduled = kept.get("PodScheduled") or _condition(None, "PodScheduled", True, "", "", place)
    others = [c for name, c in kept.items() if name not in names and name != "PodScheduled"]
    return [*ours, scheduled, *others]


def _initialized(phase: str, waiting: list[str]) -> tuple[str, bool, str, str]:
    if phase == "Succeeded":
        return "Initialized", True, "PodCompleted", ""
    if not waiting:
        return "Initialized", True, "", ""
    return "Initialized", False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(waiting)}]"


def _condition(old: Obj | None, kind: str, value: bool, reason: str, message: str, place: Place) -> Obj:
    status = "True" if value else "False"
    when = old["lastTransitionTime"] if old is not None and old["status"] == status else place.time(place.now)
    out: Obj = {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": when}
    if reason:
        out["reason"] = reason
    if message:
        out["message"] = message
    return old if old is not None and old == out else out  # what has not changed is shared by all versions of the pod


def container_status(r: ContainerRecord, place: Place) -> Obj:
    """One entry of containerStatuses."""
    if r.state == RUNNING:
        state: Obj = {"running": {"startedAt": place.time(r.began)}}
    elif r.state == TERMINATED:
        state = {"terminated": r.ended_as}
    else:
        state = {"waiting": {"reason": r.reason, **({"message": r.message} if r.message else {})}}
    out: Obj = {
        "name": r.name, "state": state, "lastState": {"terminated": r.last} if r.last else {}, "ready": r.is_ready,
        "restartCount": r.restarts,
        "image": r.image, "imageID": image_id(r.image) if r.container is not None else "",
        "started": r.state == RUNNING and r.started,
    }
    if r.container is not None:
        out["containerID"] = container_id(r)
    return out


def terminated(r: ContainerRecord, reason: str, place: Place, message: str = "", never_ran: bool = False) -> Obj:
    """The `terminated` state of a container that has just ended. One that never ran has no times, as containerd tells it."""
    out: Obj = {"exitCode": r.exit_code, "reason": reason,
                "startedAt": "1970-01-01T00:00:00Z" if never_ran else place.time(r.began), "finishedAt": place.time(r.finished)}
    if message:
        out["message"] = message
    if r.container is not None:
        out["containerID"] = container_id(r)
    return out


def container_id(r: ContainerRecord) -> str:
    """64 hex digits that belong to this container of this record."""
    assert r.container is not None
    text = f"{r.container.host.seed}/{r.container.name}/{r.restarts}"
    return "containerd://" + hashlib.sha256(text.encode()).hexdigest()


def image_id(image: str) -> str:
    """A digest for an image name: nothing is pulled, so it is the name's."""
    repository = image.rpartition(":")[0] if ":" in image.rpartition("/")[2] else image
    return f"{repository}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"


def qos_class(pod: Obj) -> str:
    """Guaranteed, Burstable or BestEffort by requests and limits. Kubernetes: qos.GetPodQOS()."""
    spec = pod["spec"]
    resources = [c.get("resources") or {} for c in [*spec["containers"], *(spec.get("initContainers") or [])]]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"
    for r in resources:
        limits, requests = r.get("limits") or {}, r.get("requests") or r.get("limits") or {}
        if not {"cpu", "memory"} <= set(limits) or any(requests.get(k) != limits[k] for k in ("cpu", "memory")):
            return "Burstable"
    return "Guaranteed"
