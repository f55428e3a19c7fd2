"""`kubenet proxy render` of random clusters, loaded into the real kernel by both iptables backends: `--kernel` is what they save.

Each text goes into a network namespace of its own, after the jumps kube-proxy ensures. The tables are compared by name, as
their order is the backend's own. nfacct objects are left out: nothing here can create them.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kubenet.cluster.proxy import jump_rules
from kubenet.cluster.proxy.options import ProxyOptions
from kubenet.query.offline.render import kernel_text, restore_text

sys.path.insert(0, str(Path(__file__).parent.parent / "cluster" / "proxy"))
from test_proxy_reading import cluster, node  # noqa: E402

BACKENDS = ("legacy", "nft")


def real_save(text: str, family: int, backend: str) -> str:
    """What iptables-save prints in a fresh namespace after kube-proxy's jumps and this text."""
    program = f"{'iptables' if family == 4 else 'ip6tables'}-{backend}"
    lines = []
    for jump in jump_rules():
        lines.append(f"{program} -w 5 -N {jump.target} -t {jump.table} 2>/dev/null || test $? = 1")
        lines.append(f"{program} -w 5 -I {jump.chain} -t {jump.table} {shlex.join(jump.args)}")
    lines += [f"{program}-restore -w 5 --noflush --counters <<'END'\n{text}END", f"{program}-save"]
    done = subprocess.run(["unshare", "-n", "sh", "-e", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tables(saved: str) -> dict[str, list[str]]:
    """The lines of each table, without comments."""
    found: dict[str, list[str]] = {}
    for line in saved.splitlines():
        if line.startswith("*"):
            lines = found[line[1:]] = []
        elif not line.startswith("#"):
            lines.append(line)
    return found


def compare(seed: int, backend: str) -> None:
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which(f"iptables-{backend}-restore"):
        pytest.skip("needs root, unshare and both backends of iptables")
    rng = random.Random(seed)
    objects, options = cluster(rng), {**node(rng), "nfacct": []}
    for family in (4, 6):
        parsed = ProxyOptions.parse({**options, "ipFamily": f"IPv{family}"})
        text = restore_text(objects, parsed)
        assert tables(kernel_text([text], parsed)) == tables(real_save(text, family, backend))


@pytest.mark.kernel
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(4))
def test_the_kernel_takes_and_prints_it(seed, backend):
    compare(seed, backend)


@pytest.mark.full
@pytest.mark.kernel
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_kernel_takes_and_prints_many(backend):
    for seed in range(100, 180):
        compare(seed, backend)
