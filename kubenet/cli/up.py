"""`up`, `down`, `status`, `reset`: the life of a session.

A session is its journal; processes come and go. `up` makes a journal or replays the one there is, `down` ends the processes,
`reset` deletes the files. Every other command starts the processes by itself when it needs them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import click

from kubenet.cli.command import Cmd, State, state_of
from kubenet.cli.render import seconds
from kubenet.errors import KubenetError, ManifestError, UsageError, WrongMomentError

Obj = dict[str, Any]
DOWN_PATIENCE = 10.0  # seconds until `down` gives up on a process that does not end
SETTLE = 60_000_000_000


def _complete_profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from kubenet.cli.profiles import PROFILES

    return [name for name in PROFILES if name.startswith(incomplete)]


@click.command(
    "up", cls=Cmd, usage=["up [PROFILE | -f TOPOLOGY.yaml] [--seed N] [--cni-mode MODE]"],
    examples=[("kubenet up", "three nodes, or the session as it was left"), ("kubenet up two-nodes", "the labs' cluster"),
              ("kubenet up -f manifests/topologies/slow-link.yaml", ""),
              ("kubenet up --cni-mode vxlan", "pods of other nodes through flannel.1, MTU 1450"),
              ("kubenet --session other up --seed 8", "a second session")],
    exits="0 running, 2 wrong usage, 4 invalid topology, 6 another session",
)
@click.argument("profile", default="", shell_complete=_complete_profiles)
@click.option("-f", "--file", "file", default="", metavar="FILE", help="a manifest with a Topology")
@click.option("--seed", type=int, default=None, metavar="N", help="the dice's seed; default the topology's, else 7")
@click.option("--cni-mode", type=click.Choice(["host-gw", "vxlan"]), default=None,
              help="the way to other nodes' pods: routes via the nodes (host-gw, default) or flannel's VXLAN tunnel")
@click.option("--allow-pod-code", is_flag=True, help="Python programs that pods bring along may run (see `kubenet allow`)")
@click.option("--replay-anyway", is_flag=True, help="replay a journal that another version wrote, comparing digests")
@click.pass_context
def up(ctx: click.Context, profile: str, file: str, seed: int | None, cni_mode: str | None, allow_pod_code: bool,
       replay_anyway: bool) -> None:
    """Start the session: a new one of a profile or a Topology, or the one there is,
    rebuilt from its journal. Profiles: three-nodes (default), two-nodes.
    """
    from kubenet.cli import client, profiles

    if profile and file:
        raise UsageError("a profile and a file at once", why="both describe the cluster", try_=f"kubenet up {profile}")
    state = state_of(ctx)
    session = state.session()
    topology = topology_of_file(file, state) if file else profiles.profile(profile) if profile else None
    if cni_mode is not None:
        topology = profiles.with_cni_mode(topology, cni_mode)
    new = not session.exists()
    if not new:
        must_match(state, topology, seed)
    with client.connect(state, settings=profiles.settings_for(topology, seed), anyway=replay_anyway) as connection:
        if allow_pod_code:
            connection.call("allow", pod_code=True)
        if new:
            connection.call("settle", max_ns=SETTLE)
        found = connection.call("status")[0]
    click.echo(f"session {session.name}: {', '.join(found['nodes'])} at {seconds(found['now'])}, "
               f"{found['running']} of {found['pods']} pods run")
    state.talk(f"kubectl: export KUBECONFIG={session.kubeconfig}")


def topology_of_file(path: str, state: State) -> Obj:
    """The Topology in a file. Raises ManifestError."""
    from kubenet.cluster.api import decode

    found = decode.load_paths([path])
    topologies = [m for m in found if m.kind == "Topology"]
    if len(topologies) != 1:
        raise ManifestError(f"{path} holds {len(topologies) or 'no'} Topology documents; one is wanted", file=path,
                            try_="kubenet up three-nodes" if not topologies else "")
    decode.check(topologies[0])
    if len(found) > 1:
        state.talk(f"the other {len(found) - 1} documents are not applied by `up`; then: kubenet apply -f {path}")
    return topologies[0].obj


def must_match(state: State, topology: Obj | None, seed: int | None) -> None:
    """Raises WrongMomentError if the session was made of another topology or seed. None matches everything."""
    from kubenet.cli import profiles
    from kubenet.engine.journal import Journal

    session = state.session()
    journal = Journal(session.journal)
    journal.open()
    try:
        have = journal.settings() if journal.header() else {}
    finally:
        journal.close()
    ways = f"kubenet reset   (forgets {session.name}), or kubenet --session OTHER up"
    if have and topology is not None and not profiles.same_cluster(topology, have.get("topology")):
        name = ((have.get("topology") or {}).get("metadata") or {}).get("name", profiles.DEFAULT)
        raise WrongMomentError(f"session {session.name} has another topology", why=f"it was made of {name}", try_=ways)
    if have and seed is not None and seed != have.get("seed"):
        raise WrongMomentError(f"session {session.name} has seed {have.get('seed')}, not {seed}", try_=ways)


@click.command("down", cls=Cmd, usage=["down"], examples=[("kubenet down", "the next command starts it again")])
@click.pass_context
def down(ctx: click.Context) -> None:
    """Stop the session's processes. Its journal stays: the next command rebuilds the
    same state from it."""
    state = state_of(ctx)
    click.echo(f"session {state.session().name} {'stopped' if stop(state) else 'was not running'}")


def stop(state: State) -> bool:
    """The session's processes have ended; False if there were none. Raises KubenetError if they do not end."""
    from kubenet.cli.client import Client, try_connect

    session = state.session()
    if not session.running():
        return False
    sock = try_connect(session, DOWN_PATIENCE)
    if sock is not None:
        with Client(sock) as client:
            try:
                client.call("shutdown")
            except (KubenetError, TimeoutError):
                pass  # it may end before its answer leaves; the lock decides
    end = time.monotonic() + DOWN_PATIENCE
    while session.running():
        if time.monotonic() > end:
            raise KubenetError(f"session {session.name} does not end", why=f"process {session.pid()} holds its lock",
                               try_=f"kill {session.pid()}")
        time.sleep(0.01)
    return True


@click.command("reset", cls=Cmd, usage=["reset [--yes]"], examples=[("kubenet reset --yes", "then: kubenet up")])
@click.option("-y", "--yes", is_flag=True, help="do not ask")
@click.pass_context
def reset(ctx: click.Context, yes: bool) -> None:
    """Stop the session and delete its journal and files."""
    state = state_of(ctx)
    session = state.session()
    if not session.dir.exists():
        click.echo(f"there is no session {session.name}")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("reset deletes the session's journal and cannot ask here", try_="kubenet reset --yes")
        click.confirm(f"Forget session {session.name} and everything in it?", abort=True, err=True)
    stop(state)
    session.remove()
    click.echo(f"session {session.name} forgotten")


@click.command("status", cls=Cmd, usage=["status [-o json]"], examples=[("kubenet status", ""), ("kubenet status -o json", "")],
               exits="0 there is a session, 6 there is none")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="text or json")
@click.pass_context
def status(ctx: click.Context, output: str) -> None:
    """Where the session stands. A stopped session is not started for it."""
    from kubenet.cli.client import Client, no_session, try_connect

    state = state_of(ctx)
    session = state.session()
    sock = try_connect(session)
    if sock is None:
        if not session.exists():
            raise no_session(session)
        found: Obj = {"session": session.name, "mode": "stopped", "journal_bytes": session.journal.stat().st_size}
        click.echo(json.dumps(found, indent=2) if output == "json" else
                   f"session {session.name}: stopped; the next command replays its journal ({found['journal_bytes']} bytes)")
        return
    with Client(sock) as client:
        header = client.call("status")[0]
    found = {key: value for key, value in header.items() if key != "id"}
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return
    for name, text in _lines(found, state):
        click.echo(f"{name:12} {text}")


def _lines(found: Obj, state: State) -> list[tuple[str, str]]:
    """The status as (label, text)."""
    session = state.session()
    home = os.path.expanduser("~")
    kubeconfig = str(session.kubeconfig)
    kubeconfig = "~" + kubeconfig[len(home):] if kubeconfig.startswith(home + os.sep) else kubeconfig
    bounds = found.get("bounds", {})
    beside = f"; outside: {', '.join(found['outside'])}" if found.get("outside") else ""
    return [
        ("session", f"{found['session']}, processes {session.pid()} (front) and {found['engine_pid']} (engine)"),
        ("cluster", f"{found.get('topology', '')}: {', '.join(found['nodes'])}" + beside),
        ("time", f"{seconds(found['now'])}, step {found['step']}, {found['mode']}"),
        ("pods", f"{found['pods']}, {found.get('running', '?')} running"),
        ("seed", str(found["seed"])),
        ("journal", f"{found['inputs']} inputs, {_size(found['journal_bytes'])}"),
        ("checkpoints", f"{len(found['checkpoints'])} of at most {bounds.get('checkpoints', '?')}"),
        ("bounds", f"{bounds.get('traced_packets', '?')} traced packets, {bounds.get('watch_history', '?')} watch events"),
        ("digest", str(found["digest"])),
        ("kubectl", f"export KUBECONFIG={kubeconfig}"),
    ]


def _size(count: int) -> str:
    return f"{count} bytes" if count < 1024 else f"{count / 1024:.0f} KiB" if count < 1 << 20 else f"{count / (1 << 20):.1f} MiB"
