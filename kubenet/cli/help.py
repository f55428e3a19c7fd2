"""`kubenet help`: the commands by topic, or the help of one. `kubenet help COMMAND` is `kubenet COMMAND --help`."""

from __future__ import annotations

import click

from kubenet.cli.command import Cmd


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from kubenet.cli.main import COMMANDS

    return [name for name in COMMANDS if name.startswith(incomplete)]


@click.command("help", cls=Cmd, usage=["help [COMMAND]"], examples=[("kubenet help", "all commands"), ("kubenet help get", "")])
@click.argument("topic", default="", shell_complete=_complete)
@click.pass_context
def help_(ctx: click.Context, topic: str) -> None:
    """The commands by topic, or one command's help."""
    from kubenet.cli.main import unknown_command

    root = ctx.find_root()
    if not topic:
        click.echo(root.command.get_help(root), nl=True)
        return
    group = root.command
    assert isinstance(group, click.Group)
    command = group.get_command(root, topic)
    if command is None:
        raise unknown_command(topic)
    with click.Context(command, info_name=topic, parent=root) as inner:
        click.echo(command.get_help(inner))
