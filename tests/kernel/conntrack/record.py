"""Asks a real kernel what it does with a scenario's packets, and writes that down as JSON (needs root, TUN, conntrack).

    unshare -n python tests/kernel/conntrack/record.py        every scenario of scenarios.py -> recordings/NAME.json

A namespace with two TUN devices is the router of ctworld.py. Each packet is written into one of them; what comes out of the
other within a few milliseconds, and `conntrack -L` after it, is recorded with the time. The replay (test_recordings.py) has
to give the same.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3]))

from ctworld import l4_shown, rule_argv, to_bytes  # noqa: E402

from kubenet.wire.addr import ip4_text  # noqa: E402
from kubenet.wire.icmp import icmp_is_error, parse_icmp  # noqa: E402
from kubenet.wire.ipv4 import ip_hdrlen, parse_ipv4  # noqa: E402
from kubenet.wire.tcp import parse_tcp  # noqa: E402
from kubenet.wire.udp import parse_udp  # noqa: E402

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
PARSERS = {6: parse_tcp, 17: parse_udp, 1: parse_icmp}


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def tun(name: str, addr: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    run("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
    run("ip", "addr", "add", addr, "dev", name)
    run("ip", "link", "set", name, "up")
    return fd


def decode(data: bytes) -> dict[str, Any]:
    """An IP packet as ctworld.shown() shows it."""
    ip = parse_ipv4(data)
    body = data[ip_hdrlen(ip):]
    l4 = PARSERS[ip.proto](body) if ip.proto in PARSERS else None
    out: dict[str, Any] = {"src": ip4_text(ip.saddr), "dst": ip4_text(ip.daddr), **l4_shown(l4)}
    if ip.proto == 1 and icmp_is_error(l4.type):
        quoted = parse_ipv4(body[8:])
        rest = body[8 + ip_hdrlen(quoted):]
        inner = PARSERS[quoted.proto](rest) if quoted.proto in PARSERS else None
        out["quote"] = {"src": ip4_text(quoted.saddr), "dst": ip4_text(quoted.daddr), **l4_shown(inner)}
    return out


class Router:
    """The real one."""

    def __init__(self) -> None:
        run("ip", "link", "set", "lo", "up")
        run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0")
        self.fds = {"client": tun("tun0", "10.48.1.1/24"), "server": tun("tun1", "10.48.2.1/24")}
        run("ip", "route", "add", "default", "dev", "tun1")
        run("iptables", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
        run("iptables", "-A", "INPUT", "-j", "DROP")

    def reset(self, rules: list[dict[str, Any]], sysctl: dict[str, int]) -> None:
        run("iptables", "-t", "nat", "-F")
        for rule in rules:
            run("iptables", *rule_argv(rule))
        for name, value in {**DEFAULTS, **sysctl}.items():
            run("sysctl", "-qw", f"net.netfilter.{name}={value}")
        subprocess.run(["conntrack", "-F"], capture_output=True)
        self.read("client", 0.002)
        self.read("server", 0.002)

    def read(self, side: str, wait: float) -> bytes | None:
        got = None
        while select.select([self.fds[side]], [], [], wait)[0]:
            data = os.read(self.fds[side], 70000)
            if data[0] >> 4 == 4:
                got, wait = data, 0
        return got

    def lines(self) -> list[str]:
        return run("conntrack", "-L").splitlines()

    def step(self, packet: dict[str, Any]) -> dict[str, Any] | None:
        side = packet["from"]
        os.write(self.fds[side], to_bytes(packet))
        data = self.read("server" if side == "client" else "client", 0.004)
        return None if data is None else decode(data)


DEFAULTS = {"nf_conntrack_tcp_loose": 1, "nf_conntrack_tcp_be_liberal": 0, "nf_conntrack_acct": 0,
            "nf_conntrack_tcp_ignore_invalid_rst": 0}


def record(router: Router, scenario: dict[str, Any]) -> dict[str, Any]:
    """The scenario with what the kernel did: `t` (ms), `out` and `entries` for every step."""
    router.reset(scenario.get("rules", []), scenario.get("sysctl", {}))
    start, steps = time.monotonic(), []
    for packet in scenario["packets"]:
        if "wait" in packet:
            time.sleep(packet["wait"])
        t = (time.monotonic() - start) * 1000
        out = router.step(packet)
        entries = router.lines()
        steps.append({"t": round(t, 2), "packet": packet, "out": out, "entries": entries,
                      "listed": round((time.monotonic() - start) * 1000, 2)})
    return {"name": scenario["name"], "why": scenario.get("why", ""), "kernel": os.uname().release,
            "command": "unshare -n python tests/kernel/conntrack/record.py",
            "tool": run("conntrack", "-V").strip(), "rules": scenario.get("rules", []),
            "iptables": [" ".join(["iptables", *rule_argv(r)]) for r in scenario.get("rules", [])],
            "sysctl": scenario.get("sysctl", {}), "steps": steps}


def main() -> None:
    from scenarios import SCENARIOS

    router = Router()
    target = Path(__file__).parent / "recordings"
    target.mkdir(exist_ok=True)
    for scenario in SCENARIOS:
        if len(sys.argv) > 1 and scenario["name"] not in sys.argv[1:]:
            continue
        text = json.dumps(record(router, scenario), indent=1)
        (target / f"{scenario['name']}.json").write_text(text + "\n")
        print(scenario["name"])


if __name__ == "__main__":
    main()
