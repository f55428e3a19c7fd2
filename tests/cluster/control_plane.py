"""A control plane on a virtual clock, and a stand-in for the kubelet.

`cp` (ControlPlane) has the store, the API and every controller; `cp.settle()` runs until nothing is left to do now;
`cp.run(seconds)` lets time pass. The stand-in kubelet starts a pod one virtual second after it is bound: it gets an
address, turns Running and Ready (unless its image is called "broken"), and goes away one second after it is deleted.
"""

from __future__ import annotations

import json
from typing import Any

from kubenet.cluster.api import Api, Response
from kubenet.cluster.api.bootstrap import bootstrap
from kubenet.cluster.controller import Controller
from kubenet.cluster.controllers import controllers
from kubenet.cluster.ipam import PodIps
from kubenet.cluster.scheduler import Scheduler
from kubenet.cluster.store import Store, key_of
from kubenet.sim.clock import EventLoop
from kubenet.units import SEC

Obj = dict[str, Any]


class FakeKubelet(Controller):
    """All nodes' kubelets in one, doing the least that the control plane needs to see."""

    name = "kubelet"
    kinds = ("Pod",)

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.ranges: dict[str, PodIps] = {}

    def reconcile(self, key: Any) -> int | None:
        pod = self.store.get("Pod", key)
        if pod is None or not pod["spec"].get("nodeName"):
            return None
        age = (self.clock.now - self._seen.setdefault(pod["metadata"]["uid"], self.clock.now))
        if "deletionTimestamp" in pod["metadata"]:
            since = self._dying.setdefault(pod["metadata"]["uid"], self.clock.now)
            if self.clock.now - since < SEC:
                return SEC
            self.store.delete("Pod", key, grace=0)
            return None
        if pod["status"].get("podIP"):
            return None
        if age < SEC:
            return SEC - age
        self._start(pod)
        return None

    _seen: dict[str, int]
    _dying: dict[str, int]

    def start(self) -> None:
        self._seen, self._dying = {}, {}
        super().start()

    def _start(self, pod: Obj) -> None:
        node = self.store.must_get("Node", ("", pod["spec"]["nodeName"]))
        ips = self.ranges.setdefault(node["metadata"]["name"], PodIps(node["spec"]["podCIDR"]))
        pinned = pod["metadata"].get("annotations", {}).get("kubenet.dev/ip", "")
        ip = ips.allocate(pod["metadata"]["uid"], pinned)
        self.status(pod, podIP=ip, podIPs=[{"ip": ip}], phase="Running")
        self.ready(pod["metadata"]["name"], pod["metadata"]["namespace"],
                   not any(c["image"] == "broken" for c in pod["spec"]["containers"]))

    def status(self, pod: Obj, **fields: Any) -> None:
        key = key_of(pod)
        self.store.set_status("Pod", key, {**self.store.must_get("Pod", key)["status"], **fields})

    def ready(self, name: str, namespace: str = "default", ready: bool = True) -> None:
        """The pod's containers run, and its Ready condition is this."""
        pod = self.store.must_get("Pod", (namespace, name))
        now = self.store.now_text()
        kept = [c for c in pod["status"].get("conditions", ()) if c["type"] != "Ready"]
        conditions = [*kept, {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": now}]
        statuses = [{"name": c["name"], "ready": ready, "restartCount": 0, "image": c["image"],
                     "state": {"running": {"startedAt": now}}} for c in pod["spec"]["containers"]]
        self.status(pod, conditions=conditions, containerStatuses=statuses)

    def finish(self, name: str, ok: bool = True) -> None:
        """The pod's only container has exited."""
        pod = self.store.must_get("Pod", ("default", name))
        state = {"terminated": {"exitCode": 0 if ok else 1, "reason": "Completed" if ok else "Error",
                                "finishedAt": self.store.now_text()}}
        self.status(pod, phase="Succeeded" if ok else "Failed", containerStatuses=[
            {"name": "c", "ready": False, "restartCount": 0, "state": state}])


class ControlPlane:
    """Store, API, controllers, scheduler and the stand-in kubelet on one clock."""

    def __init__(self, seed: int = 7, nodes: int = 3) -> None:
        self.loop = EventLoop()
        self.store = Store(self.loop, seed=seed)
        self.api = Api(self.store)
        bootstrap(self.api)
        self.kubelet = FakeKubelet(self.store)
        self.parts: list[Controller] = [*controllers(self.store), Scheduler(self.store), self.kubelet]
        for number in range(1, nodes + 1):
            self.node(f"node-{number}")
        for part in self.parts:
            part.start()
        self.settle()

    def node(self, name: str, **labels: str) -> Obj:
        return self.store.create({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}}, "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}})

    def settle(self) -> None:
        """Run until the work that is due within 100 virtual ms is done."""
        self.loop.run(self.loop.now + SEC // 10)

    def run(self, seconds: float) -> None:
        self.loop.run(self.loop.now + int(seconds * SEC))

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json", table: bool = False,
             manager: str = "test", **query: str) -> Response:
        headers = {"Content-Type": kind, "User-Agent": manager + "/v1",
                   "Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json" if table else "application/json"}
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.api.request(method, path, {k: [v] for k, v in query.items()}, headers, data)

    def ok(self, method: str, path: str, body: Any = None, **kwargs: Any) -> Any:
        """The parsed body of a request that must succeed."""
        response = self.call(method, path, body, **kwargs)
        assert response.code < 300, response.body.decode()
        return response.json()

    def apply(self, obj: Obj) -> Obj:
        return self.api.apply(obj)[0]

    def names(self, kind: str, namespace: str = "default") -> list[str]:
        return [o["metadata"]["name"] for o in self.store.iter(kind, namespace)]

    def get(self, kind: str, name: str, namespace: str = "default") -> Obj:
        return self.store.must_get(kind, (namespace, name))

    def cells(self, path: str) -> list[list[Any]]:
        """The rows of a server-side table."""
        return [r["cells"] for r in self.ok("GET", path, table=True)["rows"]]


def deployment(name: str = "web", replicas: int = 3, image: str = "nginx:1", **spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
                 "template": {"metadata": {"labels": {"app": name}},
                              "spec": {"containers": [{"name": "c", "image": image, "ports": [
                                  {"name": "http", "containerPort": 8080}]}]}}, **spec}}


def service(name: str = "web", **spec: Any) -> Obj:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}], **spec}}


def pod(name: str, image: str = "nginx:1", labels: dict[str, str] | None = None, **spec: Any) -> Obj:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}},
            "spec": {"containers": [{"name": "c", "image": image}], **spec}}
