"""ip netns, ip monitor. Source: ip-netns(8), observed output."""

from __future__ import annotations

from typing import Any

from kubenet.userland.process import Process
from kubenet.userland.tools.ip.common import IpError, Options, command_of, namespace_of


def netns(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    command = command_of(args, ("list", "show", "exec", "identify"), "list")
    spaces = proc.container.host.namespaces if proc.container.image.name == "node" else {}
    others = [n for n in spaces.values() if n is not proc.net]
    if command in ("list", "show"):
        return "".join(f"{n.name.rpartition('/')[2]} (id: {i})\n" for i, n in enumerate(others))
    if command == "exec" and len(args) > 1:
        found = namespace_of(proc, args[0])
        if found is None:
            raise IpError("", 1)
        main, real = proc.container.resolve(args[1:], proc.env, proc.cwd)
        proc.net, proc.argv = found, real
        raise Became(main(proc, real) or 0)
    return ""


class Became(IpError):
    """The process became another program, which ended with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__("", code)


def monitor(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    raise IpError("ip monitor is not available here; use conntrack -E or tcpdump", 1)
