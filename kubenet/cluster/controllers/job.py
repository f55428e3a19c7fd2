"""Job: pods that run to completion. Kubernetes: pkg/controller/job/job_controller.go.

Pods are made up to `parallelism` until `completions` have succeeded; a failed pod is replaced after a back-off of 10 s,
doubled per failure up to 10 min, and `backoffLimit` failures (or the active deadline) fail the Job and stop its pods.
A finished Job is removed `ttlSecondsAfterFinished` later.

simplified: NonIndexed only; no pod failure policy, success policy or tracking finalizers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubenet.cluster.api.table import seconds_of
from kubenet.cluster.controller import Controller
from kubenet.cluster.controllers.common import claim, condition, is_active, is_ready, owner_key, pod_from_template, set_condition
from kubenet.cluster.events import EventRecorder
from kubenet.cluster.store import Event, Key, Store, key_of
from kubenet.units import SEC

Obj = dict[str, Any]

BACKOFF, BACKOFF_MAX = 10 * SEC, 600 * SEC


def backoff(failures: int) -> int:
    """How long after the last failure the next pod is made."""
    return min(BACKOFF << max(failures - 1, 0), BACKOFF_MAX) if failures else 0


class JobController(Controller):
    """Runs each Job's pods until enough have succeeded."""

    name = "job-controller"
    kinds = ("Job", "Pod")

    def __init__(self, store: Store, **kwargs: Any) -> None:
        super().__init__(store, **kwargs)
        self.recorder = EventRecorder(store, self.name)

    def keys_for(self, event: Event) -> Iterable[Key]:
        if event.obj["kind"] == "Job":
            return (key_of(event.obj),)
        key = owner_key(event.obj, "Job")
        return (key,) if key else ()

    def reconcile(self, key: Key) -> int | None:
        job = self.store.get("Job", key)
        if job is None or "deletionTimestamp" in job["metadata"]:
            return None
        if condition(job, "Complete") or condition(job, "Failed"):
            return self._expire(job)
        pods = claim(self.store, job)
        active = [p for p in pods if is_active(p)]
        phase = [(p.get("status") or {}).get("phase") for p in pods]
        done, failed = phase.count("Succeeded"), phase.count("Failed")
        status = {k: v for k, v in (job.get("status") or {}).items() if k == "conditions"}
        status.update({k: v for k, v in (job.get("status") or {}).items() if k == "startTime"})
        status.setdefault("startTime", self.store.now_text())
        wait: int | None = None
        why = self._failure(job, status, failed)
        completions = job["spec"].get("completions")
        complete = done >= completions if completions is not None else done > 0 and not active
        if why:
            self._finish(job, status, active, "Failed", *why)
            active = []
        elif complete:
            self._finish(job, status, active, "Complete", "CompletionsReached", "Reached expected number of succeeded pods")
            status["completionTime"] = self.store.now_text()
            active = []
        elif job["spec"].get("suspend"):
            for pod in active:
                self.store.delete("Pod", key_of(pod))
            active = []
        else:
            active, wait = self._fill(job, pods, active, done, failed, status)
        self._write(key, status, active, done, failed)
        return wait

    def _failure(self, job: Obj, status: Obj, failed: int) -> tuple[str, str] | None:
        if failed > job["spec"].get("backoffLimit", 6):
            return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        deadline: int | None = job["spec"].get("activeDeadlineSeconds")
        start = (seconds_of(status["startTime"]) or 0) - self.store.epoch_s
        if deadline is not None and self.clock.now >= (start + deadline) * SEC:
            return "DeadlineExceeded", "Job was active longer than specified deadline"
        return None

    def _finish(self, job: Obj, status: Obj, active: list[Obj], type_: str, reason: str, message: str) -> None:
        for pod in active:
            self.store.delete("Pod", key_of(pod))
        conditions = list(status.get("conditions", ()))
        for name in ("FailureTarget" if type_ == "Failed" else "SuccessCriteriaMet", type_):
            conditions = set_condition(conditions, {"type": name, "status": "True", "reason": reason, "message": message},
                                       self.store.now_text())
        status["conditions"] = [{k: v for k, v in c.items() if k != "lastUpdateTime"} for c in conditions]
        if type_ == "Failed":
            self.recorder.event(job, "Warning", reason, message)
        else:
            self.recorder.event(job, "Normal", "Completed", "Job completed")

    def _fill(
        self, job: Obj, pods: list[Obj], active: list[Obj], done: int, failed: int, status: Obj
    ) -> tuple[list[Obj], int | None]:
        """(the active pods, ns until something is due) after making or removing what the numbers ask for."""
        spec = job["spec"]
        wanted = spec.get("parallelism", 1)
        if spec.get("completions") is not None:
            wanted = min(wanted, spec["completions"] - done)
        elif done:
            wanted = len(active)
        for pod in active[wanted:]:
            self.store.delete("Pod", key_of(pod))
        active = active[:wanted]
        wait = self._until_retry(pods, failed) if len(active) < wanted else 0
        if wait == 0:
            for _ in range(wanted - len(active)):
                pod = self.store.create(pod_from_template(self.store, job, spec["template"]))
                self.recorder.event(job, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
                active = [*active, pod]
        waits = [wait] if wait else []
        if spec.get("activeDeadlineSeconds") is not None:
            start = (seconds_of(status["startTime"]) or 0) - self.store.epoch_s
            waits.append(max((start + int(spec["activeDeadlineSeconds"])) * SEC - self.clock.now, 1))
        return active, min(waits) if waits else None

    def _until_retry(self, pods: list[Obj], failed: int) -> int:
        if not failed:
            return 0
        ended = [seconds_of(((c.get("state") or {}).get("terminated") or {}).get("finishedAt")) or 0
                 for p in pods if (p.get("status") or {}).get("phase") == "Failed"
                 for c in p["status"].get("containerStatuses", ())]
        last = (max(ended, default=self.store.epoch_s) - self.store.epoch_s) * SEC
        return max(last + backoff(failed) - self.clock.now, 0)

    def _write(self, key: Key, status: Obj, active: list[Obj], done: int, failed: int) -> None:
        for name, value in (("active", len(active)), ("succeeded", done), ("failed", failed)):
            if value:
                status[name] = value
        status["ready"] = sum(1 for p in active if is_ready(p))
        status["terminating"] = 0
        status["uncountedTerminatedPods"] = {}
        self.store.set_status("Job", key, status)

    def _expire(self, job: Obj) -> int | None:
        ttl: int | None = job["spec"].get("ttlSecondsAfterFinished")
        if ttl is None:
            return None
        ended = condition(job, "Complete") or condition(job, "Failed")
        since = seconds_of((ended or {}).get("lastTransitionTime")) or 0
        left = (since - self.store.epoch_s + ttl) * SEC - self.clock.now
        if left > 0:
            return left
        self.store.delete("Job", key_of(job), policy="Foreground")
        return None
