"""The scene of the benchmarks: two nodes, a client pod on node-1, a Service, one server pod behind it on node-2."""

from __future__ import annotations

from typing import Any

from kubenet.cluster.cluster import Cluster
from kubenet.userland.process import Process

AF_INET, SOCK_STREAM = 2, 1

TWO_NODES = {"kind": "Topology", "metadata": {"name": "bench"}, "spec": {"nodes": [{"name": "node-1"}, {"name": "node-2"}]}}


def pod(name: str, node: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "busybox:1.36", "command": ["sleep", "infinity"]}]}}


SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sink", "namespace": "default"},
           "spec": {"clusterIP": "10.96.0.77", "selector": {"app": "sink"}, "ports": [{"port": 80, "targetPort": 8080}]}}
VIP = ("10.96.0.77", 80)


def build(tracing: bool = False) -> Cluster:
    """The cluster, settled. tracing: as people have it; off for bulk, where it would stop by itself."""
    cluster = Cluster(TWO_NODES)
    if not tracing:
        cluster.loop.tracer.rate = cluster.loop.tracer.left = 0
    cluster.apply_documents([pod("client", "node-1", {"app": "client"}), pod("server", "node-2", {"app": "sink"}), SERVICE])
    cluster.settle()
    cluster.run(2_000_000_000)
    return cluster


def serve(cluster: Cluster, read_size: int = 1 << 20) -> list[int]:
    """A server that reads every connection to its end; the counter of bytes it got."""
    got = [0]

    def main(proc: Process, argv: list[str]) -> int:
        sys = proc.sys
        listener = sys.socket(AF_INET, SOCK_STREAM)
        sys.bind(listener, ("0.0.0.0", 8080))
        sys.listen(listener, 4096)
        while True:
            fd, _ = sys.accept(listener)
            while data := sys.recv(fd, read_size):
                got[0] += len(data)
            sys.close(fd)

    cluster.container("server").run_native(main, ["sink"])
    cluster.run(1_000_000)
    return got


def client(cluster: Cluster, main: Any) -> Process:
    """Run a native program in the client pod to its end."""
    process = cluster.container("client").run_native(main, ["bench"])
    cluster.run_until(lambda: process.done, 3600 * 10**9)
    return process
