"""`kubenet pcap`: packets into a pcapng file, for Wireshark or tcpdump -r, and from one (pcap_replay.py).

    pcap TARGET[:DEV] -w FILE --for 5s               while time passes
    pcap TARGET[:DEV] -w FILE -- client curl web     while a command runs
    pcap start TARGET[:DEV] ... pcap stop -w FILE    across commands; pcap list
    pcap replay FILE TARGET[:DEV]                    the other way: a file's frames are received by a device

Looking changes nothing: a capture takes no time and loses no packet.
"""

from __future__ import annotations

import json
import os
from typing import Any

import click

from kubenet.cli.client import Client
from kubenet.cli.command import Cmd, State, after, namespace_option, state_of
from kubenet.cli.completion import complete_targets
from kubenet.cli.pcap_replay import must_not_replay, replay, replay_options, target_and_device
from kubenet.cli.render import table
from kubenet.errors import KubenetError, UsageError


@click.command(
    "pcap", cls=Cmd, dashdash=True,
    usage=["pcap TARGET[:DEV] -w FILE --for TIME", "pcap TARGET[:DEV] -w FILE -- POD|NODE COMMAND...",
           "pcap start TARGET[:DEV] [--name N]", "pcap stop [--name N] -w FILE", "pcap list",
           "pcap replay FILE TARGET[:DEV] [--speed N | --asap]"],
    examples=[("kubenet pcap node-1:eth0 -w node.pcapng --for 5s", ""),
              ("kubenet pcap client -w c.pcapng -- client curl -s web", ""),
              ("kubenet pcap start node-1", "all its devices, until ..."), ("kubenet pcap stop -w node.pcapng", "... here"),
              ("kubenet pcap replay real.pcap client:eth0 --dst-mac auto", "what a real machine received"),
              ("kubenet pcap replay node.pcapng node-2 --interface node-1/eth0 --dst-mac auto", "what node-1 received")],
    exits="0 done, 3 not found, 2 wrong usage; with --: the command's own",
)
@click.argument("words", nargs=-1, required=True, metavar="TARGET[:DEV]", shell_complete=complete_targets)
@namespace_option
@click.option("-w", "--write", "file", default="", metavar="FILE", help="the file to write; - is standard output")
@click.option("--for", "time", default="", metavar="TIME", help="let this much virtual time pass meanwhile")
@click.option("--name", default="default", metavar="NAME", help="which capture, where several run")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="of `list` and `replay`: text or json")
@replay_options
@click.pass_context
def pcap(ctx: click.Context, /, words: tuple[str, ...], namespace: str, file: str, time: str, name: str, output: str,
         **options: Any) -> int:
    """Capture packets at a pod or node. TARGET:DEV is one device, TARGET all of them.

    `replay` is the other way: DEV (eth0 if not given) receives the frames of a pcap
    or pcapng file, at the file's relative times, as if they came from its cable.
    """
    state = state_of(ctx)
    command = after(ctx)
    verb, rest = words[0], words[1:]
    if verb == "replay":
        return replay(state, rest, namespace, output, options, bool(file or time or command))
    must_not_replay(options)
    if verb == "list" and not rest and command is None:
        return _list(state, output)
    if verb == "start" and len(rest) == 1 and command is None and not file:
        target, dev = target_and_device(rest[0])
        with state.client() as client:
            answer = client.call("pcap_start", target=target, dev=dev, name=name, namespace=namespace)[0]
        click.echo(f"capturing at {', '.join(answer['devices'])}")
        state.talk(f"next: kubenet pcap stop{' --name ' + name if name != 'default' else ''} -w FILE")
        return 0
    if verb == "stop" and not rest and command is None:
        _need_file(file, "kubenet pcap stop -w capture.pcapng")
        with state.client(start=False) as client:
            return _stop(client, state, name, file)
    if rest or bool(time) == bool(command):
        raise UsageError("what to capture meanwhile: --for TIME, or -- and a pod and a command",
                         try_="kubenet pcap node-1:eth0 -w node.pcapng --for 5s")
    _need_file(file, f"kubenet pcap {verb} -w capture.pcapng --for 5s")
    return _meanwhile(state, verb, namespace, file, time, command or [])


def _need_file(file: str, example: str) -> None:
    """Raises UsageError before anything happens if the packets have nowhere to go."""
    if not file:
        raise UsageError("-w FILE says where the packets go", try_=example)
    folder = os.path.dirname(file) or "."
    if file != "-" and not os.path.isdir(folder):
        raise UsageError(f"there is no directory {folder}")


def _list(state: State, output: str) -> int:
    with state.client(start=False) as client:
        found = client.call("pcap_list")[0]["captures"]
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    elif found:
        rows = [["NAME", "PACKETS", "DEVICES"], *([c["name"], c["packets"], ",".join(c["devices"])] for c in found)]
        click.echo(table(rows), nl=False)
    else:
        state.talk("no capture is running")
    return 0


def _meanwhile(state: State, where: str, namespace: str, file: str, time: str, command: list[str]) -> int:
    """Capture while time passes or a command runs; 0, or the command's exit code."""
    if command and len(command) < 2:
        raise UsageError("after -- come a pod and a command", try_=f"kubenet pcap {where} -w {file} -- client curl -s http://web")
    ns = 0
    if time:
        from kubenet.cli.apply import duration

        ns = duration(time)
    target, dev = target_and_device(where)
    name = "-" + os.urandom(4).hex()
    with state.client() as client:
        client.call("pcap_start", target=target, dev=dev, name=name, namespace=namespace)
        code = 0
        try:
            if command:
                from kubenet.cli.exec import run_remote

                code = run_remote(client, namespace=namespace, target=command[0], container="", argv=command[1:], tty=False,
                                  stdin=False)
            else:
                client.call("run", ns=ns)
        finally:
            _stop(client, state, name, file)
    return code


def _stop(client: Client, state: State, name: str, file: str) -> int:
    """End the capture and write its file."""
    header, data = client.call("pcap_stop", name=name)
    if file == "-":
        from kubenet.cli.exec import write

        write(1, data)
    else:
        try:
            with open(file, "wb") as out:
                out.write(data)
        except OSError as error:
            raise KubenetError(f"cannot write {file}: {error.strerror}") from None
    state.talk(f"{_count(header.get('packets'))} in {file if file != '-' else 'standard output'}")
    return 0


def _count(packets: Any) -> str:
    return f"{packets} packet{'' if packets == 1 else 's'}"
