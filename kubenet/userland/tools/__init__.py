"""The commands that exist: name -> native program, imported at its first use.

    @tool("ss")
    def main(proc, argv) -> int          a native program; several names may share one function

MODULES says where each lives, so that starting a container imports nothing. A new command needs a line there, or an import
of its module before it is used (that is how programs from outside register).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

REGISTRY: dict[str, Callable[..., Any]] = {}

_HERE = "kubenet.userland.tools."
_GROUPS = {
    "kubenet.userland.shell": "sh ash bash dash",
    "kubenet.userland.python": "python3 python",
    _HERE + "coreutils": "echo printf true false test [ sleep date hostname env printenv pwd id whoami uname seq yes timeout "
                         "which basename dirname tty nproc uptime sync clear arch free",
    _HERE + "files": "cat ls head tail wc sort uniq cut tr grep egrep fgrep tee mkdir rmdir rm cp mv touch ln chmod chown stat "
                     "find xargs readlink realpath du df mount base64 md5sum sha256sum rev tac nl od hexdump xxd diff "
                     "mktemp less more watch",
    _HERE + "sed": "sed",
    _HERE + "awk": "awk",
    _HERE + "procs": "ps kill pkill killall pgrep pidof top",
    _HERE + "ss": "ss netstat",
    _HERE + "ip": "ip",
    _HERE + "nettools": "ifconfig route arp",
    _HERE + "bridge": "bridge",
    _HERE + "iptables": "iptables iptables-save iptables-restore iptables-legacy iptables-legacy-save iptables-legacy-restore "
                        "iptables-nft ip6tables ip6tables-save ip6tables-restore conntrack",
    _HERE + "ipset": "ipset",
    _HERE + "nstat": "nstat sysctl dmesg ethtool",
    _HERE + "ping": "ping",
    _HERE + "traceroute": "traceroute tracepath",
    _HERE + "arping": "arping",
    _HERE + "dig": "dig nslookup getent host",
    _HERE + "curl": "curl wget",
    _HERE + "nc": "nc ncat netcat many-connect",
    _HERE + "tcpdump": "tcpdump",
    _HERE + "strace": "strace",
    "kubenet.userland.images.nginx": "nginx httpd",
    "kubenet.userland.images.agnhost": "agnhost serve-hostname http-echo echoserver",
    "kubenet.userland.images.pause": "pause node-init",
}
MODULES: dict[str, str] = {name: module for module, names in _GROUPS.items() for name in names.split()}


def tool(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a native program under these names."""

    def register(fn: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            REGISTRY[name] = fn
        return fn

    return register


def load_tool(name: str) -> Callable[..., Any]:
    """The native program of that name. Raises LookupError naming the ones there are."""
    found = REGISTRY.get(name)
    if found is None and name in MODULES:
        import_module(MODULES[name])
        found = REGISTRY.get(name)
    if found is None:
        raise LookupError(f"no tool {name!r}; there are: {', '.join(sorted({*MODULES, *REGISTRY}))}")
    return found


def tool_names() -> list[str]:
    """Every name, sorted."""
    return sorted({*MODULES, *REGISTRY})
