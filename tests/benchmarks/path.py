"""What a packet costs from pod to pod through a ClusterIP on another node: CPU seconds per GB, calls and events per packet.

    python -m tests.benchmarks.path [MEGABYTES]

Calls and events are exact (tests/cluster/test_path_cost.py holds them); seconds depend on the machine, so a calibration loop is
timed beside them.
"""

from __future__ import annotations

import cProfile
import gc
import pstats
import sys
import time
from typing import Any

from tests.benchmarks.scenario import AF_INET, SOCK_STREAM, VIP, build, client, serve


def calibration() -> float:
    """Seconds for ten million steps of the simplest loop: how fast this machine runs Python."""
    began = time.process_time()
    n = 0
    for _ in range(10_000_000):
        n += 1
    return time.process_time() - began


def bulk(size: int, offload: bool, profile: bool = False) -> dict[str, Any]:
    """Send `size` bytes through the Service; what it cost."""
    cluster = build()
    if not offload:
        for machine in cluster.fabric.machines.values():
            machine.nic.set_features(0)
            machine.link.offload = False
        for host in (m.host for m in cluster.fabric.machines.values()):
            for net in host.namespaces.values():
                for dev in net.devs.values():
                    dev.features = 0
    got = serve(cluster)
    chunk = bytes(1 << 20)

    def main(proc: Any, argv: list[str]) -> int:
        fd = proc.sys.socket(AF_INET, SOCK_STREAM)
        proc.sys.connect(fd, VIP)
        left = size
        while left:
            piece = chunk[:left]
            proc.sys.send_all(fd, piece)
            left -= len(piece)
        proc.sys.close(fd)
        return 0

    nets = [cluster.container(name).net for name in ("client", "server")]
    segments = sum(net.snmp["TcpOutSegs"] for net in nets)
    steps, packets = cluster.loop.step, cluster.loop.ids
    profiler = cProfile.Profile()
    gc.disable()
    began = time.process_time()
    if profile:
        profiler.enable()
    client(cluster, main)
    cluster.run(1_000_000_000)
    if profile:
        profiler.disable()
    spent = time.process_time() - began
    assert got[0] == size, f"{got[0]} of {size} bytes arrived"
    packets = cluster.loop.ids - packets
    calls = pstats.Stats(profiler).total_calls if profile else 0  # type: ignore[attr-defined]
    out = {"cpu_s": spent, "per_gb": spent / size * 1e9, "packets": packets, "us_per_packet": spent / packets * 1e6,
           "events_per_packet": (cluster.loop.step - steps) / packets, "calls_per_packet": calls / packets,
           "segments": sum(net.snmp["TcpOutSegs"] for net in nets) - segments, "profiler": profiler}
    cluster.close()
    return out


def connections(count: int) -> dict[str, Any]:
    """connect() and close() through the Service, one after the other."""
    cluster = build()
    serve(cluster)

    def main(proc: Any, argv: list[str]) -> int:
        for _ in range(count):
            fd = proc.sys.socket(AF_INET, SOCK_STREAM)
            proc.sys.connect(fd, VIP)
            proc.sys.close(fd)
        return 0

    began = time.process_time()
    client(cluster, main)
    spent = time.process_time() - began
    cluster.close()
    return {"cpu_s": spent, "per_second": count / spent, "us_each": spent / count * 1e6}


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(f"calibration: {calibration():.2f} s for 10 million loop steps")
    for name, offload, size in (("MSS-sized segments", False, megabytes), ("super-segments", True, megabytes * 20)):
        r = bulk(size * 1_000_000, offload)
        print(f"{name:20} {r['per_gb']:8.2f} CPU s/GB  {r['us_per_packet']:6.1f} us/packet  {r['packets']} packets  "
              f"{r['events_per_packet']:.2f} events/packet")
    r = bulk(3_000_000, False, profile=True)
    print(f"calls per packet (MSS-sized, ACKs included): {r['calls_per_packet']:.1f}")
    if "--profile" in sys.argv:
        pstats.Stats(r["profiler"]).sort_stats("tottime").print_stats(40)
    r = connections(2000)
    print(f"connect+close through the ClusterIP: {r['per_second']:.0f} per CPU second ({r['us_each']:.0f} us each)")


if __name__ == "__main__":
    main()
