"""What it takes to start: commands, the first reply, memory, forks.

    python -m tests.benchmarks.start

Each figure is the median of several runs of a real command on this machine; a calibration loop beside them says how fast that is.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KUBENET = [sys.executable, "-m", "kubenet.cli.main"]


def timed(argv: list[str], env: dict[str, str], runs: int = 5) -> float:
    """The median wall time of a command, in ms."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(argv, env=env, cwd=ROOT, check=True, capture_output=True)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def rss() -> int:
    """This process's resident memory in KiB."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    return 0


def measure_here(name: str, fn: Callable[[], str]) -> str:
    """Run fn in a child process, so that memory is its own."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            os.write(writer, fn().encode())
        finally:
            sys.excepthook(*sys.exc_info()) if sys.exc_info()[0] else None  # type: ignore[arg-type]
            os._exit(0)
    os.close(writer)
    text = os.read(reader, 1000).decode()
    os.wait()
    return f"{name:52} {text}"


def one_reply() -> str:
    from kubenet.cluster.cluster import Cluster

    with Cluster.from_manifests(ROOT / "manifests" / "shop") as cluster:
        assert cluster.exec("client", "curl -s http://web").code == 0
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"


def per_pod() -> str:
    """Memory of pods that were started and then left alone, and of namespaces that have spoken."""
    import gc

    from kubenet.cluster.cluster import Cluster

    cluster = Cluster()
    cluster.settle()
    gc.collect()
    before, count = rss(), 200
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{n}", "namespace": "default"},
             "spec": {"containers": [{"name": "c", "image": "busybox:1.36", "command": ["sleep", "infinity"]}]}} for n in range(count)]
    cluster.apply_documents(pods)
    cluster.settle()
    gc.collect()
    idle = rss()
    for n in range(50):
        cluster.exec(f"p{n}", ["ping", "-c", "1", "10.48.2.2"])
    gc.collect()
    return f"{(idle - before) / count:.0f} KB an idle pod, {(rss() - idle) / 50:.0f} KB more for one that has pinged"


def fork_time() -> str:
    from kubenet.cluster.cluster import Cluster

    cluster = Cluster.from_manifests(ROOT / "manifests" / "shop")
    cluster.exec("client", "curl -s http://web")
    import gc

    gc.freeze()
    times = []
    for _ in range(9):
        began = time.perf_counter()
        if os.fork() == 0:
            os._exit(0)
        times.append((time.perf_counter() - began) * 1000)
        os.wait()
    return f"{statistics.median(times):.1f} ms at {rss() / 1024:.0f} MB"


def main() -> None:
    from tests.benchmarks.path import calibration

    print(f"calibration: {calibration():.2f} s for 10 million loop steps")
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "KUBENET_HOME": home}
        print(f"{'kubenet --help':52} {timed([*KUBENET, '--help'], env):.0f} ms")
        print(f"{'kubenet up, first time':52} {timed([*KUBENET, 'up'], env, 1):.0f} ms")
        subprocess.run([*KUBENET, "apply", "-f", "manifests/shop"], env=env, cwd=ROOT, check=True, capture_output=True)
        print(f"{'kubenet get pods, warm session':52} {timed([*KUBENET, 'get', 'pods'], env):.0f} ms")
        print(f"{'kubenet exec client -- curl -s http://web':52} {timed([*KUBENET, 'exec', 'client', '--', 'curl', '-s', 'http://web'], env):.0f} ms")
        print(f"{'kubenet trace client web:80':52} {timed([*KUBENET, 'trace', 'client', 'web:80'], env):.0f} ms")
        subprocess.run([*KUBENET, "down"], env=env, cwd=ROOT, check=True, capture_output=True)
    argv = [*KUBENET, "run", "manifests/shop", "--", "client", "curl", "-s", "http://web"]
    print(f"{'kubenet run manifests/shop -- client curl ...':52} {timed(argv, dict(os.environ)):.0f} ms")
    print(measure_here("memory of a cluster with the shop, after one reply", one_reply))
    print(measure_here("memory", per_pod))
    print(measure_here("fork", fork_time))


if __name__ == "__main__":
    main()
