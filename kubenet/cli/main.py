"""`kubenet`: the command line's entrance. It knows which commands there are, and turns every failure into a message and a code.

A command's module is imported when that command runs, so `kubenet --help` costs no more than click itself. Nothing here
imports the emulator: commands speak with a front process over a socket (client.py), except `run PATH`, which is the emulator.

Failures, always on stderr: `error:` what, `at:` where, `why:` the fact, `try:` one command that helps (errors.py). Exit codes:
0 done, 1 a question answered "no", 2 wrong usage, 3 no such thing, 4 invalid manifest, 5 not reached in virtual time, 6 wrong
moment, 70 a bug of ours; `exec` and `run PATH` hand on their command's code and keep 125, 126, 127 and 128+n for themselves.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from kubenet.cli.command import Cmd, State, shared_options, state_of

# topic -> {command: (module, function, short help)}
TOPICS: dict[str, dict[str, tuple[str, str, str]]] = {
    "Cluster": {
        "up": ("up", "up", "start the session, or a new one of a profile"),
        "down": ("up", "down", "stop the session's processes; its journal stays"),
        "status": ("up", "status", "where the session stands"),
        "reset": ("up", "reset", "forget the session"),
        "doctor": ("doctor", "doctor", "what is wrong, and what to try"),
        "save": ("save", "save", "the session as one file"),
        "load": ("save", "load", "a session from such a file"),
    },
    "Manifests": {
        "apply": ("apply", "apply", "create or change what manifests say"),
        "create": ("create", "create", "create a namespace"),
        "delete": ("apply", "delete", "delete objects"),
        "get": ("get", "get", "list things"),
        "describe": ("describe", "describe", "one thing, its parts and its events"),
        "events": ("events", "events", "what components said, oldest first"),
        "wait": ("wait", "wait", "let time pass until objects are so"),
    },
    "Inside": {
        "exec": ("exec", "exec_", "run a command in a pod or on a node"),
        "logs": ("logs", "logs", "what a container printed"),
        "allow": ("allow", "allow", "consent to Python programs that pods bring along"),
    },
    "See": {
        "trace": ("trace", "trace", "the way of a packet, station by station"),
        "topo": ("topo", "topo", "the map: nodes, pods, wires"),
        "pcap": ("pcap", "pcap", "capture packets into a file for Wireshark"),
    },
    "Time": {
        "run": ("clock", "run", "let time pass, or run one command in a cluster of its own"),
        "step": ("moments", "step", "let the next packets cross"),
        "until": ("moments", "until", "let time pass until something is so"),
        "goto": ("moments", "goto", "to a moment, later or earlier"),
        "time": ("clock", "time_", "the virtual time"),
        "undo": ("clock", "undo", "go back before the last commands"),
        "history": ("clock", "history", "the commands of the session"),
    },
    "Break": {
        "fault": ("fault", "fault", "lose, delay, cut, freeze, kill; and mend"),
    },
    "Offline": {
        "proxy": ("proxy", "proxy", "kube-proxy's rules from files, and where a packet goes"),
        "explain": ("explain", "explain", "a packet's way through a real node, from what its tools printed"),
    },
    "Places": {
        "completion": ("completion", "completion", "completion for bash, zsh or fish"),
        "version": ("version", "version", "versions"),
        "help": ("help", "help_", "these commands, or one topic"),
    },
}
COMMANDS = {name: entry for topic in TOPICS.values() for name, entry in topic.items()}
PLANNED = ("profile", "scale", "edit", "diff", "ladder", "plot", "watch", "flows",
           "lab", "shell", "web", "packetdrill", "tap")

WELCOME = """\
kubenet: a Kubernetes network you can stop, rewind and look inside.
Nothing here needs root, Docker or the internet.

Try this:
  kubenet up                          three nodes, DNS, kube-proxy
  kubenet apply -f manifests/shop     a client, a service, two servers
  kubenet exec client -- curl web     it works
  kubenet trace client web:80         see why it works

Commands by topic: kubenet help      One topic: kubenet help trace
"""


class Root(click.Group):
    """`kubenet` itself: commands are found by name and imported when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        from importlib import import_module

        module, function, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"kubenet.cli.{module}"), function)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None:
            raise unknown_command(name)
        return name, command, args[1:]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super(click.Group, self).shell_complete(ctx, incomplete)
        return [CompletionItem(name, help=entry[2]) for name, entry in COMMANDS.items() if name.startswith(incomplete)]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(commands_text())
        formatter.write("\nOptions of all commands, before or after the command's name:\n")
        formatter.width = 80
        formatter.indent()
        formatter.write_dl([r for p in self.params if (r := p.get_help_record(ctx)) is not None], col_max=26)
        formatter.dedent()


def commands_text() -> str:
    """The commands by topic, as `kubenet help` prints them."""
    lines = ["usage: kubenet COMMAND ...", ""]
    for topic, commands in TOPICS.items():
        for name, (_, _, text) in commands.items():
            lines.append(f"  {topic:10} {name:11} {text}")
            topic = ""
    lines += ["", "One command: kubenet help COMMAND      The first steps: kubenet"]
    return "\n".join(lines) + "\n"


def unknown_command(name: str) -> Exception:
    """The error for a word that is no command."""
    from kubenet.cli.render import did_you_mean
    from kubenet.errors import UsageError

    if name in PLANNED:
        return UsageError(f"`kubenet {name}` is not there yet", try_="kubenet help")
    return UsageError(f"no command {name!r}.{did_you_mean(name, list(COMMANDS))}", try_="kubenet help")


@click.group("kubenet", cls=Root, invoke_without_command=True, params=shared_options(hidden=False))
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A Kubernetes networking lab in one process."""
    if ctx.invoked_subcommand is None:
        click.echo(WELCOME, nl=False)


def main(argv: list[str] | None = None) -> int:
    """Run one command line; its exit code."""
    if argv is None and "_KUBENET_COMPLETE" in os.environ:
        cli.main(prog_name="kubenet")  # the shell asks for completions: click answers and exits
    words = sys.argv[1:] if argv is None else argv
    state = State()
    state.words = words
    try:
        code = _run(words, state)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return _quiet_end()


def _run(words: list[str], state: State) -> int:
    """As main, except that a closed pipe is still an exception."""
    from kubenet.errors import KubenetError

    try:
        with cli.make_context("kubenet", list(words), obj=state) as ctx:
            code = cli.invoke(ctx)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("", err=True)
        return 130
    except click.ClickException as error:
        return _usage_error(error)
    except KubenetError as error:
        return _known_error(error, words)
    except BrokenPipeError:
        raise
    except Exception as error:
        return _bug(error, state)


def _usage_error(error: click.ClickException) -> int:
    """What click found wrong, in our form; 2."""
    ctx = getattr(error, "ctx", None)
    name = ctx.command.name if ctx is not None and isinstance(ctx.command, Cmd) else ""
    text = error.format_message()
    text = text[:1].lower() + text[1:]
    click.echo(f"error: {text.rstrip('.')}\n  try: kubenet help{' ' + name if name else ''}", err=True)
    return 2


def _known_error(error: Any, words: list[str]) -> int:
    """An error that a person can cause. Commands that hand on a code keep 125 for ours, wrong usage apart."""
    click.echo("\n".join(error.lines()), err=True)
    code: int = error.exit_code
    if code not in (2, 126, 127) and _hands_on_code(words):
        return 125
    return code


def _hands_on_code(words: list[str]) -> bool:
    """True for `exec` and for `run PATH -- ...`."""
    names = [word for word in words if word in COMMANDS]
    return bool(names) and (names[0] == "exec" or names[0] == "run" and "--" in words)


def _bug(error: Exception, state: State) -> int:
    """Something that must not happen, with what to send; 70."""
    if state.debug:
        import traceback

        traceback.print_exc()
    click.echo(f"error: a bug in kubenet: {type(error).__name__}: {error}", err=True)
    try:
        journal = state.session().journal
    except Exception:  # the name of the session itself is wrong, or there is no home: there is no journal to name
        journal = None
    if journal is not None and journal.exists():
        click.echo(f"  why: the session's journal, {journal}, holds all that led here; please send it", err=True)
    if not state.debug:
        click.echo("  try: the same command with --debug shows the traceback", err=True)
    return 70


def _quiet_end() -> int:
    """Whoever read our output has enough. What is still in the buffer must not be written at exit; 141 as with SIGPIPE."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)
    return 141


__all__ = ["cli", "main", "state_of"]

if __name__ == "__main__":
    sys.exit(main())
