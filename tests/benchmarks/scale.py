"""What a large cluster costs: many nodes, many pods, until the first packet to a Service is answered; memory per pod.

    python -m tests.benchmarks.scale [NODES PODS SERVICES]

CPU time is taken from an empty process (imports excluded) to the end of `wget http://SERVICE` in a pod. `--profile` says where
the time went. Without arguments: 50 nodes with 1,000 pods, then 100 nodes with 3,000 pods and 500 services.
"""

from __future__ import annotations

import cProfile
import gc
import pstats
import sys
import time
from typing import Any

from tests.benchmarks.path import calibration
from tests.benchmarks.start import measure_here, rss


def topology(nodes: int) -> dict[str, Any]:
    return {"kind": "Topology", "metadata": {"name": "large"}, "spec": {"nodes": [{"name": f"node-{n}"} for n in range(1, nodes + 1)]}}


def manifests(pods: int, services: int) -> list[dict[str, Any]]:
    """One Deployment of nginx per Service, which share the pods evenly, and one pod to ask from."""
    docs: list[dict[str, Any]] = []
    for n in range(services):
        replicas = pods // services + (n < pods % services)
        docs.append({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": f"app-{n}", "namespace": "default"},
                     "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": f"app-{n}"}},
                              "template": {"metadata": {"labels": {"app": f"app-{n}"}},
                                           "spec": {"containers": [{"name": "c", "image": "nginx:1.27", "ports": [{"containerPort": 80}]}]}}}})
        docs.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"svc-{n}", "namespace": "default"},
                     "spec": {"selector": {"app": f"app-{n}"}, "ports": [{"port": 80}]}})
    docs.append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "namespace": "default"},
                 "spec": {"containers": [{"name": "c", "image": "busybox:1.36", "command": ["sleep", "infinity"]}]}})
    return docs


def first_answer(nodes: int, pods: int, services: int) -> str:
    """Boot, apply, settle, ask the last Service: seconds of each, and the memory it took."""
    from kubenet.cluster.cluster import Cluster

    before = rss()
    marks = [time.process_time()]
    cluster = Cluster(topology(nodes))
    marks.append(time.process_time())
    cluster.apply_documents(manifests(pods, services))
    marks.append(time.process_time())
    cluster.settle()
    marks.append(time.process_time())
    result = cluster.exec("client", f"wget -q -O - http://svc-{services - 1}")
    marks.append(time.process_time())
    assert result.code == 0, result.err
    gc.collect()
    used = (rss() - before) / 1024
    parts = " + ".join(f"{b - a:.2f}" for a, b in zip(marks, marks[1:], strict=False))
    return f"{marks[-1] - marks[0]:.2f} s (boot + apply + settle + wget: {parts}), {used:.0f} MB"


def main() -> None:
    args = [int(a) for a in sys.argv[1:] if a.isdigit()]
    sizes = [(args[0], args[1], args[2])] if len(args) == 3 else [(50, 1000, 50), (100, 3000, 500)]
    import kubenet.cluster.cluster  # noqa: F401  so that imports are not counted

    print(f"calibration: {calibration():.2f} s for 10 million loop steps")
    for nodes, pods, services in sizes:
        name = f"{nodes} nodes, {pods} pods, {services} services"
        if "--profile" in sys.argv:
            profiler = cProfile.Profile()
            print(name, profiler.runcall(first_answer, nodes, pods, services))
            pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
            pstats.Stats(profiler).sort_stats("cumulative").print_stats(60)
        else:
            print(measure_here(name, lambda n=nodes, p=pods, s=services: first_answer(n, p, s)))


if __name__ == "__main__":
    main()
