"""/proc and /sys of a container, and sysctls by name.

Nothing is stored: names and contents are computed from the namespace and the process table when a program looks. What is here
is what network tools and programs read: /proc/net/*, /proc/sys/net/*, /proc/PID/{cmdline,comm,status,stat,fd,environ,net},
/proc/{uptime,loadavg,meminfo,cpuinfo,stat,version,mounts}, /sys/class/net/DEV/*.

read_sysctl() and write_sysctl() are also what the sysctl tool uses. Sources: proc(5), sysctl(8), Linux
Documentation/networking/ip-sysctl.rst for the couplings (ip_forward, conf.all.forwarding).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from kubenet.kernel.netfilter.core import nf_ready
from kubenet.kernel.netns import AF_INET, NetNamespace
from kubenet.kernel.snmp import SECTIONS
from kubenet.kernel.socket.file import oserror
from kubenet.units import SEC
from kubenet.userland.vfs import Dir, Dynamic, DynamicDir, Node, Symlink, tree
from kubenet.wire.addr import mac_text, prefix_mask

if TYPE_CHECKING:
    from kubenet.userland.container import Container
    from kubenet.userland.process import Process

# ---- sysctls --------------------------------------------------------------------------------------------------------

_HOST_SYSCTLS = ("net.netfilter.nf_conntrack_max", "net.nf_conntrack_max", "net.netfilter.nf_conntrack_buckets",
                 "net.netfilter.nf_conntrack_count", "net.ipv4.neigh.default.gc_thresh1", "net.ipv4.neigh.default.gc_thresh2",
                 "net.ipv4.neigh.default.gc_thresh3")


def sysctl_names(net: NetNamespace) -> list[str]:
    """Every sysctl of the namespace, in the order of `sysctl -a`."""
    names = [f"{prefix}.{leaf.replace('bridge_nf', 'bridge-nf').replace('_', '-') if prefix == 'net.bridge' else leaf}"
             for prefix, section in net.sysctl.sections().items() for leaf in section.names()]
    loaded = _conntrack_loaded(net)
    names += [name for name in _HOST_SYSCTLS if loaded or "conntrack" not in name]
    names += ["kernel.hostname", "kernel.osrelease", "kernel.ostype", *net.host.sysctl_other]
    if not loaded:
        names = [name for name in names if not name.startswith("net.netfilter.nf_conntrack")]
    return sorted(dict.fromkeys(names))


def _conntrack_loaded(net: NetNamespace) -> bool:
    """nf_conntrack is a module of the whole machine: loaded for one namespace, its sysctls are in all of them."""
    for other in net.host.namespaces.values():
        nf_ready(other)
    return any(other.ct is not None for other in net.host.namespaces.values())


def read_sysctl(net: NetNamespace, name: str) -> str:
    """The value as the kernel prints it, lists separated by tabs. Raises ENOENT."""
    host = net.host
    if name in _HOST_SYSCTLS:
        leaf = name.rpartition(".")[2]
        if leaf == "nf_conntrack_count":
            return str(net.ct.count if net.ct is not None else 0)
        if leaf.startswith("gc_thresh"):
            return str(host.neigh_gc_thresh[int(leaf[-1]) - 1])
        return str(host.nf_conntrack_buckets if leaf.endswith("buckets") else host.nf_conntrack_max)
    fixed = {"kernel.hostname": net.name, "kernel.osrelease": host.kernel_release, "kernel.ostype": "Linux"}
    if name in fixed:
        return fixed[name]
    if name in host.sysctl_other:
        return host.sysctl_other[name]
    value = getattr(*_find(net, name))
    return "\t".join(str(v) for v in value) if isinstance(value, tuple) else str(value)


def _find(net: NetNamespace, name: str) -> tuple[Any, str]:
    prefix, _, leaf = name.rpartition(".")
    section = net.sysctl.sections().get(prefix)
    leaf = leaf.replace("-", "_")
    if section is None or leaf not in section.names():
        raise oserror(errno.ENOENT)
    return section, leaf


def write_sysctl(net: NetNamespace, name: str, text: str) -> None:
    """The sysctl has the value. Raises ENOENT, EINVAL, EACCES (read-only ones)."""
    host = net.host
    text = text.strip()
    try:
        if name in _HOST_SYSCTLS:
            return _write_host(net, name.rpartition(".")[2], int(text))
        if name.startswith(("vm.", "kernel.", "fs.")):
            host.sysctl_other[name] = text
            return
        section, leaf = _find(net, name)
        old = getattr(section, leaf)
        if isinstance(old, tuple):
            value: Any = tuple(int(part) for part in text.split())
            if len(value) != len(old):
                raise oserror(errno.EINVAL)
        else:
            value = type(old)(text)
    except ValueError:
        raise oserror(errno.EINVAL) from None
    if leaf == "tcp_congestion_control" and value not in section.tcp_available_congestion_control.split():
        raise oserror(errno.ENOENT)
    if leaf in ("tcp_available_congestion_control",):
        raise oserror(errno.EACCES)
    _store(net, section, name, leaf, value)


def _store(net: NetNamespace, section: Any, name: str, leaf: str, value: Any) -> None:
    """Settings that other tables were computed with go through IPv4's own doors."""
    from kubenet.kernel.ipv4.devinet import inet_conf_write, ip_forward_write

    if name == "net.ipv4.ip_forward":
        ip_forward_write(net, value)
    elif name.startswith("net.ipv4.conf."):
        inet_conf_write(net, name.removeprefix("net.ipv4.conf.").rpartition(".")[0], leaf, value)
    else:
        setattr(section, leaf, value)


def _write_host(net: NetNamespace, leaf: str, value: int) -> None:
    host = net.host
    if leaf == "nf_conntrack_count":
        raise oserror(errno.EACCES)
    if leaf.startswith("gc_thresh"):
        thresholds = list(host.neigh_gc_thresh)
        thresholds[int(leaf[-1]) - 1] = value
        host.neigh_gc_thresh = (thresholds[0], thresholds[1], thresholds[2])
    elif leaf.endswith("buckets"):
        host.nf_conntrack_buckets = value
    else:
        host.nf_conntrack_max = value


def _sysctl_dir(container: Container, prefix: str) -> DynamicDir:
    net = container.net

    def parts() -> list[str]:
        head = prefix + "." if prefix else ""
        return list(dict.fromkeys(n[len(head) :].split(".")[0] for n in sysctl_names(net) if n.startswith(head)))

    def find(name: str) -> Node | None:
        full = f"{prefix}.{name}" if prefix else name
        names = sysctl_names(net)
        if full in names:
            return Dynamic(lambda: (read_sysctl(net, full) + "\n").encode(),
                           lambda data: write_sysctl(net, full, data.decode(errors="replace")))
        return _sysctl_dir(container, full) if any(n.startswith(full + ".") for n in names) else None

    return DynamicDir(parts, find)


# ---- /proc ----------------------------------------------------------------------------------------------------------


def _file(text: Callable[[], str]) -> Dynamic:
    return Dynamic(lambda: text().encode())


def proc_root(container: Container) -> Dir:
    """/proc."""

    def find(name: str) -> Node | None:
        proc = container.processes.get(int(name)) if name.isdigit() else None
        return _process_dir(container, proc) if proc is not None else None

    root = DynamicDir(lambda: [str(pid) for pid in container.processes], find)
    host, loop = container.host, container.loop
    root.children.update({
        "sys": _sysctl_dir(container, ""),
        "self": _SelfLink(),
        "net": Symlink("self/net"),
        "uptime": _file(lambda: f"{loop.now / SEC:.2f} {loop.now * host.cpus / SEC:.2f}\n"),
        "loadavg": _file(lambda: f"0.00 0.00 0.00 1/{max(len(container.processes), 1)} {max(container.processes or [1])}\n"),
        "meminfo": _file(lambda: f"MemTotal:       {host.memory >> 10:8d} kB\nMemFree:        {host.memory >> 11:8d} kB\n"
                                 f"MemAvailable:   {host.memory >> 11:8d} kB\n"),
        "cpuinfo": _file(lambda: "".join(f"processor\t: {n}\nmodel name\t: kubenet virtual CPU\n\n" for n in range(host.cpus))),
        "version": _file(lambda: f"Linux version {host.kernel_release} (kubenet) #1 SMP\n"),
        "mounts": Symlink("self/mounts"),
        "filesystems": _file(lambda: "nodev\tsysfs\nnodev\tproc\nnodev\ttmpfs\nnodev\toverlay\n"),
        "stat": _file(lambda: f"cpu  0 0 0 {loop.now * host.cpus // 10_000_000} 0 0 0 0 0 0\n"
                              f"btime {container.epoch // SEC}\nprocesses {container._next_pid - 1}\n"),
    })
    return root


class _SelfLink(Symlink):
    """/proc/self: the number of whoever looks."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("")

    def __getattribute__(self, name: str) -> Any:
        if name == "target":
            from kubenet.sim.task import current_or_none

            task = current_or_none()
            return str(task.ctx.pid if task is not None and task.ctx is not None else 1)
        return super().__getattribute__(name)


def _process_dir(container: Container, proc: Process) -> Dir:
    """/proc/PID."""
    comm = proc.argv[0].rpartition("/")[2][:15] if proc.argv else "?"
    state = "Z (zombie)" if proc.done else "S (sleeping)"
    fds = DynamicDir(lambda: [str(fd) for fd in sorted(proc.fds.files)],
                     lambda name: Symlink(fd_target(proc, int(name))) if name.isdigit() and int(name) in proc.fds.files else None)
    out = Dir({
        "cmdline": Dynamic(lambda: b"".join(arg.encode("utf-8", "surrogateescape") + b"\0" for arg in proc.argv)),
        "comm": _file(lambda: comm + "\n"),
        "environ": Dynamic(lambda: b"".join(f"{k}={v}\0".encode("utf-8", "surrogateescape") for k, v in proc.env.items())),
        "status": _file(lambda: f"Name:\t{comm}\nUmask:\t{proc.umask:04o}\nState:\t{state}\nTgid:\t{proc.pid}\nPid:\t{proc.pid}\n"
                                f"PPid:\t{proc.ppid}\nUid:\t{proc.uid}\t{proc.uid}\t{proc.uid}\t{proc.uid}\n"
                                f"Threads:\t{1 + len(proc.threads)}\n"),
        "stat": _file(lambda: f"{proc.pid} ({comm}) {state[0]} {proc.ppid} " + " ".join(["0"] * 48) + "\n"),
        "fd": fds,
        "net": net_dir(container.net),
        "cwd": Symlink(proc.cwd),
        "exe": Symlink(proc.argv[0] if proc.argv else "/"),
        "root": Symlink("/"),
        "mounts": _file(lambda: mounts_text(container)),
        "limits": _file(lambda: "Limit                     Soft Limit           Hard Limit           Units     \n"
                                f"Max open files            {proc.fds.limit:<20} 524288               files     \n"),
    })
    out.readonly = True
    return out


def mounts_text(container: Container) -> str:
    """/proc/mounts."""
    lines = ["overlay / overlay rw,relatime 0 0", "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0",
             "tmpfs /dev tmpfs rw,nosuid,size=65536k,mode=755 0 0", "sysfs /sys sysfs ro,nosuid,nodev,noexec,relatime 0 0"]
    for path in container.mounts:
        lines.append(f"tmpfs {path} tmpfs {'ro' if container.mounts[path].readonly else 'rw'},relatime 0 0")
    return "\n".join(lines) + "\n"


def fd_target(proc: Process, fd: int) -> str:
    """What /proc/PID/fd/N points to."""
    file = proc.fds.files[fd]
    sk = getattr(file, "sk", None)
    if sk is not None:
        return f"socket:[{getattr(sk, 'ino', 0)}]"
    return {"pipe read": "pipe:[1]", "pipe write": "pipe:[1]", "output": "pipe:[1]", "eventfd": "anon_inode:[eventfd]",
            "epoll": "anon_inode:[eventpoll]", "tty": "/dev/pts/0"}.get(file.name, file.name)


# ---- /proc/net ------------------------------------------------------------------------------------------------------


def net_dir(net: NetNamespace) -> Dir:
    """/proc/net."""
    out = Dir({
        "dev": _file(lambda: _proc_net_dev(net)),
        "route": _file(lambda: _proc_net_route(net)),
        "arp": _file(lambda: _proc_net_arp(net)),
        "snmp": _file(lambda: _proc_net_snmp(net, ("Ip", "Icmp", "Tcp", "Udp"))),
        "netstat": _file(lambda: _proc_net_snmp(net, ("TcpExt", "IpExt"))),
        "tcp": _file(lambda: _proc_net_sockets(net, "tcp")),
        "udp": _file(lambda: _proc_net_sockets(net, "udp")),
        "nf_conntrack": _file(lambda: _proc_net_conntrack(net)),
    })
    for name, text in (("xt_recent", _xt_recent), ("ipt_hashlimit", _ipt_hashlimit)):
        if name in net.extra:  # the module was loaded by a rule
            out.put(name, tree({each: _file(partial(text, net, each)) for each in net.extra[name]}))
    out.readonly = True
    return out


def _xt_recent(net: NetNamespace, name: str) -> str:
    from kubenet.kernel.netfilter.xtables.matches.recent import recent_text

    return recent_text(net, name)


def _ipt_hashlimit(net: NetNamespace, name: str) -> str:
    from kubenet.kernel.netfilter.xtables.matches.hashlimit import hashlimit_text

    return hashlimit_text(net, AF_INET, name)


def _proc_net_dev(net: NetNamespace) -> str:
    lines = ["Inter-|   Receive                                                |  Transmit",
             " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed"]
    for dev in net.devs.values():
        rx = [getattr(dev, name, 0) for name in ("rx_bytes", "rx_packets", "rx_errors", "rx_dropped")]
        tx = [getattr(dev, name, 0) for name in ("tx_bytes", "tx_packets", "tx_errors", "tx_dropped")]
        lines.append(f"{dev.name:>6}: {rx[0]:7d} {rx[1]:7d} {rx[2]:4d} {rx[3]:4d} {0:4d} {0:5d} {0:10d} {0:9d} "
                     f"{tx[0]:8d} {tx[1]:7d} {tx[2]:4d} {tx[3]:4d} {0:4d} {0:5d} {0:7d} {0:10d}")
    return "\n".join(lines) + "\n"


def _le(addr: int) -> str:
    return addr.to_bytes(4, "little").hex().upper()


def _proc_net_route(net: NetNamespace) -> str:
    from kubenet.userland.netview import main_routes

    lines = ["Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT".ljust(127)]
    for route in main_routes(net):
        if not route.dev:
            continue
        flags = 1 | (2 if route.gateway else 0) | (4 if route.plen == 32 else 0)
        lines.append(f"{route.dev}\t{_le(route.prefix)}\t{_le(route.gateway)}\t{flags:04X}\t0\t0\t{route.metric}\t"
                     f"{_le(prefix_mask(route.plen))}\t0\t0\t0".ljust(127))
    return "\n".join(lines) + "\n"


def _proc_net_arp(net: NetNamespace) -> str:
    from kubenet.userland.netview import neighbours
    from kubenet.wire.addr import ip4_text

    lines = ["IP address       HW type     Flags       HW address            Mask     Device"]
    for entry in neighbours(net):
        flags = 0x2 if entry.lladdr else 0x0
        lines.append(f"{ip4_text(entry.addr):<16} 0x{1:<10x}0x{flags:<10x}{mac_text(entry.lladdr or 0):<21} *        {entry.dev}")
    return "\n".join(lines) + "\n"


def _proc_net_snmp(net: NetNamespace, wanted: tuple[str, ...]) -> str:
    """Counters, and what RFC 1213 has besides them. Linux: snmp_seq_show(): retransmission by RFC 6298 (vanj), its limits in ms."""
    v4 = net.sysctl.ipv4
    fixed = {"Ip": {"Forwarding": 1 if net.sysctl.conf4["all"].forwarding else 2, "DefaultTTL": v4.ip_default_ttl},
             "Tcp": {"RtoAlgorithm": 1, "RtoMin": 200, "RtoMax": 120000, "MaxConn": -1}}
    out = []
    for section, names in SECTIONS:
        if section in wanted:
            first = fixed.get(section, {})
            out.append(f"{section}: " + " ".join((*first, *names)))
            out.append(f"{section}: " + " ".join(map(str, (*first.values(), *(net.snmp[section + name] for name in names)))))
    return "\n".join(out) + "\n"


def _proc_net_sockets(net: NetNamespace, proto: str) -> str:
    from kubenet.userland.netview import STATE_NUMBERS, sockets

    if proto == "udp":  # udp4_seq_show(): other columns, and 127 wide
        head, ends, width = "   sl  ", " ref pointer drops", 127
    else:
        head, ends, width = "  sl  ", "", 149
    lines = [(head + "local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode" + ends).ljust(width)]
    for number, row in enumerate(sockets(net, (proto,))):
        tail = f"{row.ino} 2 0000000000000000 0" if proto == "udp" else f"{row.ino} 1 0 100 0 0 10 0"
        lines.append(
            f"{number:{len(head) - 2}d}: {_le(row.saddr)}:{row.sport:04X} {_le(row.daddr)}:{row.dport:04X} {STATE_NUMBERS[row.state]:02X} "
            f"{row.send_q:08X}:{row.recv_q:08X} 00:00000000 00000000 {row.uid:5d} {0:8d} {tail}".ljust(width))
    return "\n".join(lines) + "\n"


def _proc_net_conntrack(net: NetNamespace) -> str:
    nf_ready(net)
    if net.ct is None:
        return ""
    from kubenet.kernel.netfilter.conntrack.tool import conntrack_command

    return "".join(f"ipv4     2 {line}\n" for line in conntrack_command(net, ["-L"])[1].splitlines())


# ---- /sys -----------------------------------------------------------------------------------------------------------


def sys_root(container: Container) -> Dir:
    """/sys: class/net only."""
    net = container.net

    def find(name: str) -> Node | None:
        dev = net.devs.get(name)
        return _device_dir(dev) if dev is not None else None

    root = Dir({"class": Dir({"net": DynamicDir(lambda: list(net.devs), find)})})
    root.readonly = True
    return root


def _device_dir(dev: Any) -> Dir:
    def stat(name: str) -> Dynamic:
        return _file(lambda: f"{getattr(dev, name, 0)}\n")

    out = Dir({
        "address": _file(lambda: mac_text(dev.addr) + "\n"),
        "mtu": _file(lambda: f"{dev.mtu}\n"),
        "ifindex": _file(lambda: f"{dev.ifindex}\n"),
        "iflink": _file(lambda: f"{dev.ifindex}\n"),
        "flags": _file(lambda: f"0x{dev.flags:x}\n"),
        "operstate": _file(lambda: ("unknown" if dev.kind == "loopback" else "up" if dev.flags & 1 else "down") + "\n"),
        "carrier": _file(lambda: f"{int(bool(dev.flags & 1))}\n"),
        "tx_queue_len": _file(lambda: f"{dev.txqlen}\n"),
        "statistics": Dir({name: stat(name) for name in (
            "rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped")}),
    })
    out.readonly = True
    return out
