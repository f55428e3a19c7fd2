"""`kubenet pcap replay FILE TARGET[:DEV]`: the frames of a capture file are received by a device.

The file is read here and sent to the engine, which journals the frames themselves: undo, goto and a replay of the session do not
need the file again.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from kubenet.cli.command import State
from kubenet.errors import KubenetError, UsageError

Obj = dict[str, Any]
EXAMPLE = "kubenet pcap replay capture.pcap node-1:eth0 --dst-mac auto"
DEFAULTS: Obj = {"speed": None, "asap": False, "dst_mac": "", "interface": "", "outgoing": False, "limit": 0, "fix_checksums": False}


def replay_options(command: Any) -> Any:
    """The options that only `replay` takes."""
    for option in reversed([
        click.option("--speed", type=float, default=None, metavar="N", help="replay: N times faster than the file"),
        click.option("--asap", is_flag=True, help="replay: all at one instant, in the file's order"),
        click.option("--dst-mac", default="", metavar="MAC", help="replay: destination of unicast frames; `auto` is the device's own"),
        click.option("--interface", default="", metavar="NAME", help="replay: of a pcapng file, only this interface's packets"),
        click.option("--outgoing", is_flag=True, help="replay: also packets that were sent where they were captured"),
        click.option("--limit", type=click.IntRange(0), default=0, metavar="N", help="replay: the first N packets only"),
        click.option("--fix-checksums", is_flag=True, help="replay: take wrong transport checksums (offload) for right"),
    ]):
        command = option(command)
    return command


def target_and_device(text: str) -> tuple[str, str]:
    """`node-1:eth0` is ("node-1", "eth0")."""
    target, _, dev = text.partition(":")
    return target, dev


def must_not_replay(options: Obj) -> None:
    """Raises UsageError if an option of `replay` was given to another verb."""
    given = [name for name, value in options.items() if value != DEFAULTS[name]]
    if given:
        raise UsageError(f"--{given[0].replace('_', '-')} belongs to `pcap replay`", try_=EXAMPLE)


def replay(state: State, words: tuple[str, ...], namespace: str, output: str, options: Obj, others: bool) -> int:
    """Send the file to the session, say what came of it; 0."""
    if others:
        raise UsageError("`pcap replay` takes no -w, --for and --", try_=EXAMPLE)
    if len(words) != 2:
        raise UsageError("`pcap replay` needs a file and a device", try_=EXAMPLE)
    if options["asap"] and options["speed"] is not None:
        raise UsageError("--speed and --asap exclude each other", try_=EXAMPLE)
    file, (target, dev) = words[0], target_and_device(words[1])
    data = _contents(file)
    wanted = {**options, "speed": 1.0 if options["speed"] is None else options["speed"]}
    with state.client() as client:
        answer = client.call("pcap_replay", body=data, target=target, dev=dev, namespace=namespace, file=file, options=wanted)[0]
    found: Obj = answer["replay"]
    if output == "json":
        click.echo(json.dumps(found, indent=2))
        return 0
    for line in _lines(found):
        click.echo(line)
    for note in _notes(found):
        state.talk(note)
    return 0


def _contents(file: str) -> bytes:
    try:
        if file == "-":
            return sys.stdin.buffer.read()
        with open(file, "rb") as source:
            return source.read()
    except OSError as error:
        raise KubenetError(f"cannot read {file}: {error.strerror}", try_=EXAMPLE) from None


def _lines(found: Obj) -> list[str]:
    from kubenet.units import format_ns

    frames = found["frames"]
    out = [f"{frames} frame{'' if frames == 1 else 's'} ({found['bytes']} bytes) received on {found['place']} {found['device']} "
           f"in {format_ns(found['took_ns'])}"]
    if frames:
        out.append(f"packets {found['first_packet']} to {found['last_packet']}: kubenet trace --packet {found['first_packet']}")
    return out


def _notes(found: Obj) -> list[str]:
    notes = []
    if found["outgoing"]:
        notes.append(f"note: {found['outgoing']} packets were sent where they were captured, so they were left out (--outgoing takes them)")
    if found["for_others"]:
        notes.append(f"note: {found['for_others']} frames are for another MAC address, which a device drops unless it is a bridge's port "
                     "(--dst-mac auto)")
    if found["bad_checksums"] and not found["checksums_fixed"]:
        notes.append(f"note: {found['bad_checksums']} frames have wrong checksums and are dropped; a sender's capture has them where its "
                     "card computes them (--fix-checksums)")
    if found["cut"]:
        notes.append(f"note: {found['cut']} packets were cut when they were captured (tcpdump -s 0)")
    if found["lost"]:
        notes.append(f"note: {found['lost']} frames found the device gone")
    return notes
