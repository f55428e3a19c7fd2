"""A case in a real kernel: namespaces made for it, an agent in each, everything removed afterwards.

    outcome = run_real(case)

Needs root, ip, ss, conntrack, iptables-legacy. Namespaces are called knrig-PID-NUMBER-NAME and nothing outside of them is touched.
`unavailable()` says why it cannot be done here.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import rig_normal as normal
from rig_rules import rule_steps
from rig_topology import TOPOLOGIES, Case, mac

from kubenet.wire.addr import mac_text

AGENT = str(Path(__file__).parent / "rig_agent.py")
_numbers = itertools.count()


def unavailable() -> str:
    """Why no case can run here, or ""."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    for tool in ("ip", "ss", "conntrack", "iptables-legacy-restore"):
        if not shutil.which(tool):
            return f"needs {tool}"
    probe = subprocess.run(["unshare", "-n", "iptables-legacy", "-t", "nat", "-L"], capture_output=True, check=False)
    return "" if probe.returncode == 0 else "network namespaces or iptables do not work here"


def sh(command: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(shlex.split(command), input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")
    return done


class RealWorld:
    """The namespaces of one case. Use it in a with statement."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.topo = TOPOLOGIES[case.topology]
        self.tag = f"knrig-{os.getpid()}-{next(_numbers)}"
        self.agents: dict[str, subprocess.Popen[str]] = {}

    def name(self, space: str) -> str:
        return f"{self.tag}-{space}"

    def __enter__(self) -> RealWorld:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for agent in self.agents.values():
            if agent.stdin is not None:
                agent.stdin.close()
            try:
                agent.wait(5)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()
        for space in self.topo.spaces:
            sh(f"ip netns del {self.name(space)}", check=False)

    def inside(self, space: str, command: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        return sh(f"ip netns exec {self.name(space)} {command}", stdin, check)

    def _build(self) -> None:
        topo = self.topo
        for space in topo.spaces:
            sh(f"ip netns add {self.name(space)}")
            self.inside(space, "sysctl -q net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
            if space not in topo.br_netfilter:
                self.inside(space, "sysctl -q net.bridge.bridge-nf-call-iptables=0", check=False)
            self.inside(space, "ip link set lo up")
        for space, bridge, cidr in topo.bridges:
            self.inside(space, f"ip link add {bridge} type bridge mcast_snooping 0")  # a snooping bridge reports 224.0.0.106 by IGMP
            self.inside(space, f"ip link set {bridge} up")
            if cidr:
                self.inside(space, f"ip addr add {cidr} dev {bridge}")
        for number, cable in enumerate(topo.cables):
            a, b = self.name(cable.ns_a), self.name(cable.ns_b)
            sh(f"ip link add {cable.dev_a} netns {a} address {mac_text(mac(number, 0))} mtu {cable.mtu} type veth "
               f"peer name {cable.dev_b} netns {b} address {mac_text(mac(number, 1))} mtu {cable.mtu}")
            if cable.bridge_b:
                self.inside(cable.ns_b, f"ip link set {cable.dev_b} master {cable.bridge_b}")
                if cable.bridge_b == "cni0":
                    self.inside(cable.ns_b, f"ip link set {cable.dev_b} type bridge_slave hairpin on")
            for space, device, cidr in ((cable.ns_a, cable.dev_a, cable.cidr_a), (cable.ns_b, cable.dev_b, cable.cidr_b)):
                if cidr:
                    self.inside(space, f"ip addr add {cidr} dev {device}")
                self.inside(space, f"ip link set {device} up")
        for space, prefix, via in topo.routes:
            self.inside(space, f"ip route add {prefix} via {via}")
        for space, key, value in (*topo.sysctls, *self.case.sysctls):
            self.inside(space, shlex.join(["sysctl", "-q", f"{key}={value}"]))
        for space, kind in self.case.rules:
            for what, text in rule_steps(space, kind):
                if what == "cmd":
                    self.inside(space, f"iptables-legacy {text}", check=" -N " not in f" {text}")
                else:
                    self.inside(space, "iptables-legacy-restore -w 5 --noflush --counters", text)
        self._wait_for_links()
        for space in topo.spaces:
            if space != "lan":
                self._start_agent(space)
        for cable in topo.cables:
            for space, device in ((cable.ns_a, cable.dev_a), (cable.ns_b, cable.dev_b)):
                if space in self.agents:
                    self.ask(space, "offload_off", [device])

    def _wait_for_links(self) -> None:
        """Every device has its carrier and every bridge port forwards: linkwatch tells of it up to a second late, and until then
        a bridge drops what comes."""
        ends = [(space, dev) for c in self.topo.cables for space, dev in ((c.ns_a, c.dev_a), (c.ns_b, c.dev_b))]
        ends += [(space, bridge) for space, bridge, _ in self.topo.bridges]
        ports = [(c.ns_b, c.dev_b) for c in self.topo.cables if c.bridge_b]
        for _ in range(100):
            states = [self.inside(space, f"cat /sys/class/net/{dev}/operstate").stdout.strip() == "up" for space, dev in ends]
            states += [self.inside(space, f"cat /sys/class/net/{dev}/brport/state").stdout.strip() == "3" for space, dev in ports]
            if all(states):
                return
            time.sleep(0.05)
        raise RuntimeError(f"links of {self.case.name} do not come up")

    def _start_agent(self, space: str) -> None:
        self.agents[space] = subprocess.Popen(
            ["ip", "netns", "exec", self.name(space), sys.executable, "-S", "-E", AGENT],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask(space, "time", [])

    def ask(self, space: str, op: str, args: list[str]) -> Any:
        agent = self.agents[space]
        assert agent.stdin is not None and agent.stdout is not None
        agent.stdin.write(json.dumps([op, args]) + "\n")
        agent.stdin.flush()
        line = agent.stdout.readline()
        if not line:
            raise RuntimeError(f"the agent in {space} is gone: {op} {args}")
        return json.loads(line)

    def run_step(self, host: str, op: str, args: list[str]) -> str:
        """What a line of the script came to."""
        if op == "ct":
            return self.inside(host, "conntrack -L", check=False).stdout
        if op == "ss":
            return self.inside(host, "ss -Htano").stdout
        if op in ("ip", "sysctl", "iptables", "conntrack"):
            tool = {"iptables": "iptables-legacy", "sysctl": "sysctl -q"}.get(op, op)
            done = self.inside(host, shlex.join([*tool.split(), *args]), check=False)
            return "ok" if done.returncode == 0 else f"{done.returncode} {done.stderr.strip().splitlines()[-1]}"
        return str(self.ask(host, op, args))

    def collect(self, host: str) -> dict[str, str]:
        """Raw texts of a namespace's state."""
        return {
            "ss": self.inside(host, "ss -Htuano").stdout,
            "ct": self.inside(host, "conntrack -L", check=False).stdout,
            "rules": self.inside(host, "iptables-legacy-save -c").stdout,
        }


def run_real(case: Case) -> dict[str, Any]:
    """Run the case and return what happened, normalised."""
    ports = normal.Ports(case.script)
    with RealWorld(case) as world:
        spaces = list(world.agents)
        before = {space: world.ask(space, "snmp", []) for space in spaces}
        time.sleep(0.02)
        start = time.time()
        results: list[list[str]] = []
        begins: list[float] = []
        for host, op, args in case.steps():
            begins.append(round((time.time() - start) * 1000, 1))
            if op == "wait":
                time.sleep(float(args[0]))
                continue
            results.append([f"{host}: {op} {' '.join(args)}", world.run_step(host, op, args)])
            time.sleep(case.gap)
        time.sleep(0.02)
        finish = time.time()
        after = {space: world.ask(space, "snmp", []) for space in spaces}
        texts = {space: world.collect(space) for space in spaces}
        raw = {}
        for space in spaces:
            rows = world.ask(space, "frames", [])
            raw[space] = [(t, d, o, base64.b64decode(b)) for t, d, o, b in rows if t >= start]
        begins.append(round((finish - start) * 1000, 1))
    outcome = normalised(case, ports, results, raw, dict.fromkeys(spaces, start), before, after, texts)
    outcome["begins"] = begins
    return outcome


def normalised(case: Case, ports: normal.Ports, results: list[list[str]], raw: dict[str, normal.Raw], start: dict[str, float],
               before: dict[str, dict[str, int]], after: dict[str, dict[str, int]], texts: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The outcome in comparable form; both worlds end here."""
    topo = TOPOLOGIES[case.topology]
    out: dict[str, Any] = {"frames": normal.frames(raw, topo.watches, ports, start), "results": []}
    for step, text in results:
        op = step.split()[1]
        value: Any = normal.ct_lines(text, ports) if op == "ct" else normal.ss_lines(text, ports) if op == "ss" else ports.text(text)
        out["results"].append([step, value])
    out["ss"] = {s: rows for s in texts if (rows := normal.ss_lines(texts[s]["ss"], ports))}
    out["ct"] = {s: rows for s in texts if (rows := normal.ct_lines(texts[s]["ct"], ports))}
    out["rules"] = {s: rows for s in texts if (rows := normal.rule_lines(texts[s]["rules"]))}
    out["snmp"] = {s: rows for s in after if (rows := normal.snmp_lines(before[s], after[s]))}
    return out
