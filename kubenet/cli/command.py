"""What every command has in common: the shared options, the words after `--`, and how help looks.

    @click.command("run", cls=Cmd, usage=[...], examples=[(line, comment)], exits="...", dashdash=True)

The options --session, --plain, --color, -q and --debug may stand before or after the command's name. Their values, and the way to
the session, are in one State, the `obj` of click's context. A command with `dashdash` gets what stands after the first `--` from
`after(ctx)`; the words before it are parsed alone, so that `kubenet exec client -- ls -l` never mistakes -l for its own.

Help is plain text within 80 columns: usage, what it does, examples that work when pasted, options, exit codes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kubenet.cli.client import Client
    from kubenet.server.session import Session

AFTER = "kubenet.after"


class State:
    """The shared options of this call, and how to get at the session."""

    def __init__(self) -> None:
        self.session_name = ""
        self.plain = False
        self.color = "auto"
        self.quiet = False
        self.debug = False
        self.words: list[str] = sys.argv[1:]

    def session(self) -> Session:
        """The session that is meant. Raises UsageError for a bad name."""
        from kubenet.server.session import Session

        return Session(self.session_name)

    def client(self, start: bool = True) -> Client:
        """A connection to the session's front, started if need be. Raises KubenetError."""
        from kubenet.cli import client

        return client.connect(self, start=start)

    @property
    def line(self) -> str:
        """The command line as it is kept in the session's history."""
        import shlex

        return shlex.join(self.words)

    def talk(self, text: str) -> None:
        """A sentence for the person, on stderr; nothing with -q."""
        if not self.quiet:
            click.echo(text, err=True)

    def colored(self) -> bool:
        """True if the output may carry colour."""
        if self.color != "auto":
            return self.color == "always"
        return not self.plain and not os.environ.get("NO_COLOR") and sys.stdout.isatty()

    def width(self) -> int:
        """Columns of the terminal; $COLUMNS, else 80 where there is none."""
        import shutil

        return shutil.get_terminal_size((80, 24)).columns


def state_of(ctx: click.Context) -> State:
    """The State of this call."""
    state: State = ctx.ensure_object(State)
    return state


def after(ctx: click.Context) -> list[str] | None:
    """The words after `--`; None if there was no `--`."""
    words: list[str] | None = ctx.meta.get(AFTER)
    return words


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value not in (None, False):
        setattr(state_of(ctx), str(param.name), value)


def _complete_sessions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from kubenet.server.session import Session

    return [s.name for s in Session.all() if s.name.startswith(incomplete)]


def shared_options(hidden: bool) -> list[click.Parameter]:
    """The options that every command takes."""
    def option(*names: str, **more: Any) -> click.Parameter:
        return click.Option(names, expose_value=False, callback=_remember, hidden=hidden, **more)

    return [
        option("--session", "session_name", metavar="NAME", help="which session; default $KUBENET_SESSION or `default`",
               shell_complete=_complete_sessions),
        option("--plain", "plain", is_flag=True, help="ASCII only, no colour"),
        option("--color", "color", type=click.Choice(["auto", "always", "never"]), help="colour; NO_COLOR is honoured"),
        option("-q", "--quiet", "quiet", is_flag=True, help="data only: no hints, no progress"),
        option("--debug", "debug", is_flag=True, help="show a traceback if kubenet itself fails"),
    ]


class Cmd(click.Command):
    """A command with the shared options and this project's help."""

    def __init__(self, *args: Any, usage: Sequence[str] = (), examples: Sequence[tuple[str, str]] = (), exits: str = "",
                 dashdash: bool = False, passes_exit_code: bool = False, **more: Any) -> None:
        super().__init__(*args, **more)
        self.usage_lines = list(usage)
        self.examples = list(examples)
        self.exits = exits
        self.dashdash = dashdash
        self.passes_exit_code = passes_exit_code
        self.params += shared_options(hidden=True)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if self.dashdash and "--" in args:
            at = args.index("--")
            ctx.meta[AFTER] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)

    def get_usage(self, ctx: click.Context) -> str:
        return "\n       ".join(["usage: kubenet " + line for line in self.usage_lines] or [super().get_usage(ctx)])

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        import inspect

        formatter.width = 80
        formatter.write(self.get_usage(ctx).replace("\n       usage: ", "\n       ") + "\n\n")
        formatter.write(_indented(inspect.cleandoc(self.help or "")) + "\n")
        if self.examples:
            widest = max([len(line) for line, _ in self.examples if len(line) <= 44], default=44)
            formatter.write("\nExamples:\n")
            for line, comment in self.examples:
                together = f"  {line:{widest}}  {comment}".rstrip()
                formatter.write((together if len(together) <= 80 else f"  {line}\n      {comment}") + "\n")
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        records = [r for p in options if (r := p.get_help_record(ctx)) is not None and r[0] != "--help"]
        if records:
            formatter.write("\nOptions:\n")
            formatter.indent()
            formatter.write_dl(records, col_max=26)
            formatter.dedent()
        formatter.write("\nOptions of all commands: kubenet help\n")
        if self.exits:
            formatter.write(f"Exit codes: {self.exits}\n")


def _indented(text: str) -> str:
    """Docstrings of click commands are cleaned of all indentation; lines after one that ends in a colon get theirs back."""
    out: list[str] = []
    listing = False
    for line in text.splitlines():
        out.append("  " + line if listing and line else line)
        listing = line.endswith(":") or listing and bool(line)
    return "\n".join(out)


namespace_option = click.option("-n", "--namespace", default="default", metavar="NS", help="namespace; `default` if not given")
