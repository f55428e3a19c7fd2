"""`kubenet run PATH -- POD CMD`: a cluster, one command and its output, all in this process. No session, no server, no files.

It is the library (cluster/cluster.py) with a command line's streams: what the command prints appears as it prints it, and
its exit code is ours. Python's garbage collection is off for as long as it takes, as in every run of the emulator.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from kubenet.errors import UsageError
from kubenet.units import MSEC

if TYPE_CHECKING:
    from kubenet.cli.command import State

Obj = dict[str, Any]


def run_once(state: State, paths: list[str], command: list[str], topology: str, seed: int | None, with_trace: bool, stdin: bool,
             namespace: str, allow_pod_code: bool = False) -> int:
    """The exit code of the command. Raises KubenetError."""
    if len(command) < 2:
        raise UsageError("after -- come a pod and a command", try_=f"kubenet run {paths[0]} -- client curl -s http://web")
    from kubenet.cli.exec import exit_code, write
    from kubenet.cli.up import topology_of_file
    from kubenet.cluster.cluster import Cluster

    plan = topology_of_file(topology, state) if topology else None
    data = sys.stdin.buffer.read() if stdin else b""
    target, *argv = command
    with Cluster.from_manifests(*paths, seed=seed, topology=plan, allow_pod_code=allow_pod_code) as cluster:
        result = cluster.exec(target, argv, stdin=data, namespace=namespace, on_output=write)
        if with_trace:
            _show_last(state, cluster, target, namespace)
    return exit_code(result.code)


def _show_last(state: State, cluster: Any, target: str, namespace: str) -> None:
    """The way of the last packet that the pod sent or got, on stderr."""
    import click

    from kubenet.cli.trace import show
    from kubenet.query import trace as trace_query

    cluster.run(10 * MSEC)  # the command may end while its last packet is still on its way
    found = trace_query.search(cluster, last=True, target=target, namespace=namespace)
    sys.stdout.flush()
    click.echo(show(state, found[-1]), err=True, color=state.colored())
