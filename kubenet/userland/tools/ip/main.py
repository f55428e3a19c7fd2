"""ip: addr, link, route, neigh, rule, netns.

show prints iproute2 6.1's lines to the blank; add, del, set, replace, flush and get change or ask the namespace through the
kernel's own functions, whose errors come out as "RTNETLINK answers: ..." (exit 2) or "Error: ...", as netlink's extended acks do.
Names may be shortened as in the real tool (`ip a`, `ip r`, `ip n`). Source: ip(8), observed output.
Leaves out: IPv6 addresses and routes, tunnels but VXLAN, xfrm, -batch, monitor.
"""

from __future__ import annotations

from kubenet.userland.process import Process
from kubenet.userland.tools import tool
from kubenet.userland.tools.ip.addr import addr
from kubenet.userland.tools.ip.common import IpError, Options, namespace_of
from kubenet.userland.tools.ip.link import link
from kubenet.userland.tools.ip.neigh import neigh_command
from kubenet.userland.tools.ip.netns import monitor, netns
from kubenet.userland.tools.ip.route import route
from kubenet.userland.tools.ip.rule import rule


@tool("ip")
def ip(proc: Process, argv: list[str]) -> int:
    """ip [OPTIONS] OBJECT COMMAND ..."""
    args, options = argv[1:], Options()
    net = proc.net
    while args and args[0].startswith("-"):
        flag = args.pop(0).lstrip("-")
        if flag in ("n", "netns") and args:
            found = namespace_of(proc, args.pop(0))
            if found is None:
                return 1
            net = found
        elif flag in ("o", "oneline"):
            options.oneline = True
        elif flag in ("s", "stats", "statistics"):
            options.stats = True
        elif flag in ("br", "brief"):
            options.brief = True
        elif flag in ("d", "details"):
            options.details = True
        elif flag in ("j", "json"):
            options.json = True
        elif flag in ("N", "Numeric"):
            options.numeric = True
        elif flag in ("p", "pretty"):
            options.pretty = True
        elif flag == "4":
            options.four = True
        elif flag == "6":
            options.six = True
        elif flag in ("V", "Version"):
            proc.out("ip utility, iproute2-6.1.0, libbpf 1.1.0\n")
            return 0
        elif flag not in ("c", "color", "0", "r", "resolve", "h", "human", "t", "f", "force", "a", "all"):
            proc.err(f'Option "-{flag}" is unknown, try "ip -help".\n')
            return 255
    if not args:
        proc.err(USAGE)
        return 255
    handlers = {"address": addr, "link": link, "route": route, "neighbour": neigh_command, "neighbor": neigh_command, "rule": rule,
                "netns": netns, "monitor": monitor}
    name = next((n for n in handlers if n.startswith(args[0])), "")
    if args[0] == "help":
        proc.err(USAGE)
        return 255
    if not name:
        proc.err(f'Object "{args[0]}" is unknown, try "ip help".\n')
        return 1
    try:
        out = handlers[name](proc, net, options, args[1:])
        if out:
            proc.out(out)
        return 0
    except IpError as error:
        if str(error):
            proc.err(f"{error}\n")
        return error.code
    except OSError as error:
        words = error.strerror or str(error)
        extended = words.endswith(".") or words.startswith("ipv4:")
        proc.err(f"Error: {words}\n" if extended else f"RTNETLINK answers: {words}\n")
        return 2


USAGE = """Usage: ip [ OPTIONS ] OBJECT { COMMAND | help }
       ip [ -force ] -batch filename
where  OBJECT := { address | link | monitor | neighbour | netns | route | rule }
"""
