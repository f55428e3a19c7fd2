"""nstat, sysctl, dmesg, ethtool: counters and settings of the namespace.

nstat keeps its last values in /tmp, as the real one does, and shows what was added since; -a shows totals, -z zeroes too.
Source: nstat(8), sysctl(8), observed output.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

from kubenet.kernel.dev.device import NETIF_F_GRO, NETIF_F_GSO, NETIF_F_TSO
from kubenet.kernel.snmp import NAMES, SECTIONS
from kubenet.units import SEC
from kubenet.userland.process import Process
from kubenet.userland.procfs import read_sysctl, sysctl_names, write_sysctl
from kubenet.userland.tools import tool


@tool("nstat")
def nstat(proc: Process, argv: list[str]) -> int:
    """nstat [-asznrj] [PATTERN ...]"""
    flags, patterns = "", []
    for arg in argv[1:]:
        if arg.startswith("--"):
            flags += {"--zeros": "z", "--ignore": "a", "--reset": "r", "--noupdate": "s", "--json": "j"}.get(arg, "")
        elif arg.startswith("-"):
            flags += arg[1:]
        else:
            patterns.append(arg)
    history = "/tmp/.nstat.u0"
    before: dict[str, int] = {}
    if "a" not in flags and "r" not in flags and proc.vfs.exists(history):
        before = json.loads(proc.vfs.read(history))
    values = {name: proc.net.snmp[name] for name in NAMES}
    rows = []
    for name, value in values.items():
        if patterns and not any(fnmatchcase(name, p) for p in patterns):
            continue
        shown = value - before.get(name, 0)
        if shown or "z" in flags:
            rows.append((name, shown))
    if "j" in flags:
        proc.out(json.dumps({"kernel": dict(rows)}, separators=(",", ":")) + "\n")
    else:
        proc.out("#kernel\n" + "".join(f"{name:<32}{value:<19d}0.0\n" for name, value in rows))
    if "s" not in flags:
        proc.vfs.write(history, json.dumps({name: value for name, value in values.items() if value}))
    return 0


def netstat_s(proc: Process) -> str:
    """netstat -s, by section, the counters that moved."""
    out = ""
    for section, names in SECTIONS:
        rows = [(name, proc.net.snmp[section + name]) for name in names]
        out += f"{section}:\n" + "".join(f"    {name}: {value}\n" for name, value in rows if value)
    return out


@tool("sysctl")
def sysctl(proc: Process, argv: list[str]) -> int:
    """sysctl [-anweqN] [-p FILE] [NAME[=VALUE] ...]"""
    flags, names = "", []
    for arg in argv[1:]:
        if arg.startswith("-") and "=" not in arg:
            flags += {"--all": "a", "--values": "n", "--names": "N", "--write": "w", "--ignore": "e", "--quiet": "q"}.get(arg, arg[1:])
        else:
            names.append(arg)
    if "a" in flags or "A" in flags:
        for name in sysctl_names(proc.net):
            proc.out(f"{name}\n" if "N" in flags else f"{name} = {read_sysctl(proc.net, name)}\n")
        return 0
    if "p" in flags:
        names = _read_file(proc, names[0] if names else "/etc/sysctl.conf")
    if not names:
        proc.err("\nUsage:\n sysctl [options] [variable[=value] ...]\n")
        return 1
    status = 0
    for item in names:
        name, equals, value = item.partition("=")
        status |= _one(proc, name.strip().replace("/", "."), value.strip() if equals else None, flags)
    return status


def _read_file(proc: Process, path: str) -> list[str]:
    lines = [line.strip() for line in proc.read_file(path).decode().splitlines()]
    return [line for line in lines if line and line[0] not in "#;"]


def _one(proc: Process, name: str, value: str | None, flags: str) -> int:
    path = "/proc/sys/" + name.replace(".", "/")
    if name not in sysctl_names(proc.net):
        inside = [n for n in sysctl_names(proc.net) if n.startswith(name + ".")]
        if inside and value is None:
            proc.out("".join(f"{n} = {read_sysctl(proc.net, n)}\n" for n in inside))
            return 0
        if value is None or not name.startswith(("vm.", "kernel.", "fs.")):
            if "e" not in flags:
                proc.err(f"sysctl: cannot stat {path}: No such file or directory\n")
            return 1
    if value is None:
        text = read_sysctl(proc.net, name)
        proc.out(f"{text}\n" if "n" in flags else f"{name} = {text}\n")
        return 0
    try:
        write_sysctl(proc.net, name, value)
    except OSError as error:
        if error.errno == 13:
            proc.err(f'sysctl: permission denied on key "{name}"\n')
        else:
            proc.err(f'sysctl: setting key "{name}": {error.strerror}\n')
        return 1
    if "q" not in flags:
        proc.out(f"{value}\n" if "n" in flags else f"{name} = {value}\n")
    return 0


@tool("dmesg")
def dmesg(proc: Process, argv: list[str]) -> int:
    """dmesg: the machine's kernel log."""
    for when, text in proc.container.host.dmesg:
        proc.out(f"[{when // SEC:5d}.{when % SEC // 1000:06d}] {text}\n")
    return 0


@tool("ethtool")
def ethtool(proc: Process, argv: list[str]) -> int:
    """ethtool [-k|-K|-S] DEV. Texts and exit codes of ethtool 6.1; leaves out features and settings this stack does not have."""
    args = list(argv[1:])
    mode = args.pop(0) if args and args[0].startswith("-") else ""
    if not args:
        proc.err("ethtool: bad command line argument(s)\nFor more information run ethtool -h\n")
        return 1
    dev = proc.net.devs.get(args[0])
    if dev is None:
        proc.err("netlink error: no device matches name (offset 24)\nnetlink error: No such device\n")
        return 75
    features = {"tcp-segmentation-offload": NETIF_F_TSO, "generic-segmentation-offload": NETIF_F_GSO,
                "generic-receive-offload": NETIF_F_GRO}
    bits = {"tso": NETIF_F_TSO, "gso": NETIF_F_GSO, "gro": NETIF_F_GRO, **features}
    if mode in ("-k", "--show-features", "--show-offload"):
        proc.out(f"Features for {dev.name}:\n")
        for name, bit in features.items():
            proc.out(f"{name}: {'on' if dev.features & bit else 'off'}\n")
    elif mode in ("-K", "--features", "--offload"):
        for name, value in zip(args[1::2], args[2::2], strict=False):
            if name not in bits:
                proc.err("netlink error: bit name not found (offset 56)\nnetlink error: Operation not supported\n")
                return 92
            if value not in ("on", "off"):
                proc.err("ethtool: bad command line argument(s)\nFor more information run ethtool -h\n")
                return 1
            dev.features = dev.features | bits[name] if value == "on" else dev.features & ~bits[name]
    elif mode in ("-S", "--statistics"):
        if dev.kind in ("loopback", "bridge", "dummy"):
            proc.err("no stats available\n")
            return 94
        if dev.kind == "veth":  # veth_get_ethtool_stats(): no XDP here
            stats = {"peer_ifindex": dev.peer.ifindex if dev.peer is not None else 0}
        else:
            stats = {name: getattr(dev, name) for name in ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes")}
        proc.out("NIC statistics:\n" + "".join(f"     {name}: {value}\n" for name, value in stats.items()))
    elif mode:
        proc.err(f"ethtool: {mode} is not available here; use -k, -K or -S\n")
        return 1
    else:
        proc.out(f"Settings for {dev.name}:\n\tLink detected: {'yes' if dev.carrier else 'no'}\n")
    return 0
