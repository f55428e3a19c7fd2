"""`save` and `load`: a session as one file, to keep, to send, to compare (engine/archive.py has the format)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kubenet.cli.command import Cmd, State, state_of
from kubenet.cli.render import seconds
from kubenet.errors import KubenetError, ManifestError, UsageError, WrongMomentError

if TYPE_CHECKING:
    from kubenet.engine.archive import Archive

output_option = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="text or json")


@click.command(
    "save", cls=Cmd, usage=["save FILE [--force]"],
    examples=[("kubenet save lost-syn.kubenet", "then send it to somebody"), ("kubenet save --force lost-syn.kubenet", "")],
    exits="0 written, 1 cannot be written, 2 the file exists, 6 no session",
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("-f", "--force", is_flag=True, help="replace the file")
@output_option
@click.pass_context
def save(ctx: click.Context, file: Path, force: bool, output: str) -> None:
    """Write the session into one file: its topology, its seed and every command.
    `load` rebuilds from it the same state, to the last event."""
    from kubenet.engine import archive
    from kubenet.engine.journal import Journal

    state = state_of(ctx)
    with state.client(start=False) as client:
        at = client.call("save")[0]
    journal = Journal(state.session().journal)
    try:
        found = archive.take(journal, int(at["now"]), int(at["step"]), str(at["digest"]))
    finally:
        journal.close()
    size = archive.write(found, file, force)
    if output == "json":
        click.echo(json.dumps({"file": str(file), "bytes": size, "inputs": len(found.inputs), "now": found.now, "step": found.step,
                               "digest": found.digest}, indent=2))
    else:
        click.echo(f"{file}: {len(found.inputs)} inputs, {size} bytes, up to {seconds(found.now)}")


@click.command(
    "load", cls=Cmd, usage=["load FILE [--allow-pod-code]", "--session NAME load FILE"],
    examples=[("kubenet --session theirs load lost-syn.kubenet", "beside your own"),
              ("kubenet load --replay-anyway old.kubenet", "of another version")],
    exits="0 rebuilt, 2 not allowed, 3 no file, 4 no session's file, 6 not now",
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--allow-pod-code", is_flag=True, help="Python programs of its pods may run (see `kubenet allow`)")
@click.option("--replay-anyway", is_flag=True, help="rebuild what another version wrote, comparing digests")
@output_option
@click.pass_context
def load(ctx: click.Context, file: Path, allow_pod_code: bool, replay_anyway: bool, output: str) -> None:
    """Make a session from a file that `save` wrote: every command happens again, and
    the state must come out with the same digest. The session must be a new one."""
    from kubenet.engine import archive
    from kubenet.engine.journal import differences

    state = state_of(ctx)
    session = state.session()
    found = archive.read(file)
    if session.exists():
        raise WrongMomentError(f"session {session.name} is there already", why="`load` makes a new one",
                               try_=f"kubenet --session other load {file}, or first: kubenet reset")
    facts = differences(found.header)
    if facts and not replay_anyway:
        raise WrongMomentError("this session was recorded by another kubenet, so a replay might differ", why=facts,
                               try_=f"kubenet load --replay-anyway {file}   (compares digests)")
    if found.needs_pod_code() and not allow_pod_code:
        _ask(file)
    session.make()
    archive.restore(found, session.journal)
    at = _rebuild(state, found, file, bool(facts))
    if output == "json":
        click.echo(json.dumps({"session": session.name, "inputs": len(found.inputs), **at}, indent=2))
    else:
        click.echo(f"session {session.name}: {len(found.inputs)} inputs, at {seconds(at['now'])}, the same digest")


def _ask(file: Path) -> None:
    """Consent, each time, by whoever loads: the one that is in the file was somebody else's. UsageError."""
    fact = f"{file} runs Python programs that its pods bring along, on this machine"
    if not sys.stdin.isatty():
        raise UsageError(fact, why="nobody is here to be asked", try_=f"kubenet load --allow-pod-code {file}   (if you trust it)")
    click.confirm(f"{fact}. Allow that?", abort=True, err=True)


def _rebuild(state: State, archive: Archive, file: Path, anyway: bool) -> dict[str, Any]:
    """The session runs and stands where it stood; if it cannot, it is gone. Raises KubenetError."""
    from kubenet.cli.client import connect
    from kubenet.cli.up import stop

    session = state.session()
    try:
        with connect(state, start=False, anyway=anyway) as client:
            status = client.call("status")[0]
        at = {key: status[key] for key in ("now", "step", "digest")}
        if at != {"now": archive.now, "step": archive.step, "digest": archive.digest}:
            raise ManifestError(f"{file} does not lead where it says", file=str(file), why=f"digest {at['digest']} at {seconds(at['now'])} "
                                f"instead of {archive.digest} at {seconds(archive.now)}", try_="ask whoever saved it to save it again")
        return at
    except KubenetError as error:
        stop(state)
        session.remove()
        if error.exit_code not in (WrongMomentError.exit_code, 70):
            raise
        raise ManifestError(f"{file} cannot be replayed", file=str(file), why=f"{error.what}; {error.why}".rstrip("; ")) from error
