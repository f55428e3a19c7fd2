"""iptables, iptables-save, iptables-restore and conntrack: the namespace's tables through the kernel's own front doors.

The texts, options and exit codes belong to the rule engine (kernel/netfilter/xtables) and to conntrack/tool.py; here only
streams and files are joined to them. The ip6tables family sees IPv6's tables.
"""

from __future__ import annotations

from typing import Any

from kubenet.sim.wait import WaitQueue
from kubenet.userland.process import Process
from kubenet.userland.tools import tool

AF_INET, AF_INET6 = 2, 10


def _family(name: str) -> int:
    return AF_INET6 if name.rpartition("/")[2].startswith("ip6") else AF_INET


def finish(proc: Process, result: tuple[int, str, str]) -> int:
    """Write a command's output and hand on its exit code."""
    code, out, err = result
    if out:
        proc.out(out)
    if err:
        proc.err(err)
    return code


@tool("iptables", "iptables-legacy", "iptables-nft", "ip6tables")
def iptables(proc: Process, argv: list[str]) -> int:
    """iptables [-t TABLE] COMMAND ..."""
    from kubenet.kernel.netfilter.xtables.command import iptables_command

    return finish(proc, iptables_command(proc.net, _family(argv[0]), argv[1:]))


@tool("iptables-save", "iptables-legacy-save", "ip6tables-save")
def iptables_save(proc: Process, argv: list[str]) -> int:
    """iptables-save [-c] [-t TABLE] [-f FILE]"""
    from kubenet.kernel.netfilter.xtables import save

    args = argv[1:]
    tables: list[str] | None = None
    counters = False
    path = ""
    while args:
        arg = args.pop(0)
        if arg in ("-t", "--table") and args:
            tables = [args.pop(0)]
        elif arg in ("-c", "--counters"):
            counters = True
        elif arg in ("-f", "--file") and args:
            path = args.pop(0)
        elif arg not in ("-M", "--modprobe"):
            proc.err(f"iptables-save: unrecognized option '{arg}'\n")
            return 1
    try:
        text = save.iptables_save(proc.net, _family(argv[0]), tables, counters)
    except Exception as error:
        if not hasattr(error, "code"):
            raise
        proc.err(f"{error}\n")
        return int(error.code)
    if path:
        proc.vfs.write(path, text, cwd=proc.cwd)
    else:
        proc.out(text)
    return 0


@tool("iptables-restore", "iptables-legacy-restore", "ip6tables-restore")
def iptables_restore(proc: Process, argv: list[str]) -> int:
    """iptables-restore [-nctvw] [FILE]"""
    from kubenet.kernel.netfilter.xtables.restore import iptables_restore_command

    args = argv[1:]
    file = args[-1] if args and not args[-1].startswith("-") and (len(args) < 2 or args[-2] not in ("-T", "-w", "-W", "--table")) else ""
    if file:
        args = args[:-1]
        try:
            data = proc.read_file(file)
        except OSError as error:
            proc.err(f"Can't open {file}: {error.strerror}\n")
            return 1
    else:
        data = proc.read_stdin()
    return finish(proc, iptables_restore_command(proc.net, _family(argv[0]), args, data.decode("utf-8", "replace")))


@tool("conntrack")
def conntrack(proc: Process, argv: list[str]) -> int:
    """conntrack -L|-D|-F|-C|-S|-E|-G ..."""
    from kubenet.kernel.netfilter.conntrack.tool import conntrack_command

    args = argv[1:]
    code = finish(proc, conntrack_command(proc.net, args))
    if code or not any(a in ("-E", "--event") or (a.startswith("-E") and a[1:2] == "E") for a in args):
        return code
    return _follow(proc, args)


def _follow(proc: Process, args: list[str]) -> int:
    """conntrack -E: print events until the process is told to end."""
    from kubenet.kernel.netfilter.conntrack import tool as ct_tool

    net, queue, lines = proc.net, WaitQueue(proc.container.loop, "conntrack -E"), list[str]()
    render: Any = getattr(ct_tool, "event_line", None)
    if render is None:
        return 0

    def watch(kind: str, ct: Any) -> None:
        if kind in ("NEW", "UPDATE", "DESTROY"):
            line = render(net, args, kind, ct)
            if line:
                lines.append(line + "\n")
                queue.wake()

    net.watchers.append(watch)
    asked: list[int] = []
    proc.handlers[2] = proc.handlers[15] = asked.append
    count = 0
    try:
        while not asked:
            proc.sys.wait_on(queue, lambda: lines or asked, None)
            count += len(lines)
            proc.out("".join(lines))
            lines.clear()
    finally:
        net.watchers.remove(watch)
    proc.err(f"conntrack v1.4.7 (conntrack-tools): {count} flow events have been shown.\n")
    return 0
