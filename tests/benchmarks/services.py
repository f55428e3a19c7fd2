"""What many Services cost kube-proxy: 10,000 of them with 5 endpoints each, written for the first time, then one changed.

    python -m tests.benchmarks.services [SERVICES ENDPOINTS]

One kube-proxy writes into one node's tables, as in a cluster: Services and EndpointSlices become iptables-restore's input, the
input becomes tables. The first sync is a full one; then one Service gets another endpoint, and a partial sync follows. The first
packet after a change is what pays for compiling the rules it meets, so that is timed, too. `--profile` says where the time went.
"""

from __future__ import annotations

import cProfile
import gc
import pstats
import sys
import time
from collections.abc import Callable
from typing import Any

from kubenet.cluster.cluster import Cluster
from kubenet.cluster.proxy.iptables import IptablesProxier
from kubenet.kernel.netfilter.xtables.restore import iptables_restore
from kubenet.wire.addr import ip4, ip4_text
from tests.benchmarks.path import calibration

AF_INET = 2
Obj = dict[str, Any]


def service(n: int) -> Obj:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"svc-{n}", "namespace": "default", "uid": f"s{n}"},
            "spec": {"type": "ClusterIP", "clusterIP": ip4_text(ip4("10.100.0.0") + n), "selector": {"app": f"app-{n}"},
                     "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]}}


def endpoint_slice(n: int, endpoints: int, first: int = 0) -> Obj:
    """`first` moves the addresses: a rolling update has replaced so many of them."""
    base = ip4("10.48.0.0") + n * 8
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": f"svc-{n}-abcde", "namespace": "default", "uid": f"e{n}", "labels": {"kubernetes.io/service-name": f"svc-{n}"}},
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
            "endpoints": [{"addresses": [ip4_text(base + k)], "conditions": {"ready": True, "serving": True, "terminating": False},
                           "nodeName": f"node-{k % 2 + 1}"} for k in range(first, first + endpoints)]}


def timed(fn: Callable[[], Any], profile: bool) -> tuple[float, Any]:
    """CPU seconds of fn() and what it returned."""
    profiler = cProfile.Profile()
    began = time.process_time()
    out = profiler.runcall(fn) if profile else fn()
    spent = time.process_time() - began
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    return spent, out


def main() -> None:
    args = [int(a) for a in sys.argv[1:] if a.isdigit()]
    services, endpoints = (args[0], args[1]) if len(args) == 2 else (10_000, 5)
    profile = "--profile" in sys.argv
    print(f"calibration: {calibration():.2f} s for 10 million loop steps")
    cluster = Cluster()
    cluster.settle()
    node = next(iter(cluster.nodes.values()))
    net, proxy = node.net, node.proxy
    assert proxy is not None and proxy.backend.nat_chains(AF_INET), "the node has its rules"
    proxier = IptablesProxier(proxy.options, AF_INET)

    def sync() -> str:
        result = proxier.sync(proxy.backend.nat_chains(AF_INET), cluster.loop.now)
        return result.text

    def restore(text: str) -> None:
        iptables_restore(net, AF_INET, text, noflush=True, counters=True)

    def connect() -> None:
        cluster.exec(node.name, ["nc", "-z", "-w", "1", "10.100.0.0", "80"])

    gc.disable()
    for n in range(services):
        proxier.on_service(None, service(n))
        proxier.on_slice(None, endpoint_slice(n, endpoints))
    for what in ("full", "one changed"):
        making, text = timed(sync, profile)
        loading, _ = timed(lambda t=text: restore(t), profile)
        asking, _ = timed(connect, False)
        rules = sum(len(chain.rules) for chain in net.xt[AF_INET]["nat"].chains.values())
        print(f"{services} services x {endpoints} endpoints, {what + ':':12} {making + loading:6.3f} s "
              f"(text {making:.3f} + restore {loading:.3f}), {text.count(chr(10))} lines, {rules} rules in nat, "
              f"a connection after it {asking:.3f} s")
        proxier.on_slice(None, endpoint_slice(services // 2, endpoints, 1))


if __name__ == "__main__":
    main()
