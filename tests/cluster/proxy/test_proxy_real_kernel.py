"""The text as a real iptables-restore takes it, and what the kernel then prints.

Runs inside a network namespace of its own (`unshare -n`), never in the one the tests run in, and is skipped
where that is not possible. Everything expected here is what iptables 1.8.9 on Linux 6.18 printed.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from proxy_cases import cases, everything
from proxy_objects import SEP_0, SEP_1, SVC, WEB_0, WEB_1, ep, eslice, options, proxier, service, table

from kubenet.cluster.api.ips import AF_INET, AF_INET6
from kubenet.cluster.proxy import IptablesProxier, cleanup_steps, cleanup_text, jump_rules, kubelet_rules

PROGRAMS = {AF_INET: "iptables", AF_INET6: "ip6tables"}


def in_namespace(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "-n", "sh", "-e", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module", autouse=True)
def real_iptables():
    """Skips unless the matches kube-proxy needs work here."""
    if os.geteuid() != 0:
        pytest.skip("needs root for a network namespace")
    if not shutil.which("unshare") or not shutil.which("iptables-restore") or not shutil.which("iptables"):
        pytest.skip("needs unshare and iptables")
    probe = in_namespace(
        "iptables -t nat -A OUTPUT -m statistic --mode random --probability 0.5 -j RETURN;"
        "iptables -t nat -A OUTPUT -m addrtype --dst-type LOCAL -j RETURN;"
        "iptables -A INPUT -m recent --name X --set; iptables -A INPUT -m conntrack --ctstate NEW;"
        "iptables -t nat -A POSTROUTING -j MASQUERADE --random-fully"
    )
    if probe.returncode:
        pytest.skip(f"the kernel has not all of kube-proxy's matches: {probe.stderr.strip()[:200]}")


def step_lines(steps, family=AF_INET):
    """The steps as shell: create, or check and then do."""
    lines = []
    for step in steps:
        do = shlex.join(step.argv(family=family))
        if step.op == "chain":
            lines.append(f"{do} 2>/dev/null || test $? = 1")
        elif step.op == "delete":
            lines.append(do)
        else:
            lines.append(f"{shlex.join(step.argv('-C', family))} 2>/dev/null || {do}")
    return lines


def jump_lines(family=AF_INET):
    return step_lines([step for jump in jump_rules() for step in jump.steps()], family)


def restore_line(text, family=AF_INET):
    return f"{PROGRAMS[family]}-restore -w 5 --noflush --counters <<'END'\n{text}END"


def saved(lines, family=AF_INET):
    """iptables-save after the commands, tables by name, without comments."""
    done = in_namespace("\n".join([*lines, f"{PROGRAMS[family]}-save"]))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.kernel
def test_a_full_sync_of_everything_loads_rule_for_rule():
    text = proxier(*everything()).full_sync_text()
    printed = saved([*jump_lines(), restore_line(text)])
    for name, jumps in (("filter", 11), ("nat", 3)):
        ours = sum(line.startswith("-A") for line in table(text, name))
        assert sum(line.startswith("-A") for line in table(printed, name)) == ours + jumps
    assert f"-A {SVC} ! -s 10.48.0.0/16 -d 10.96.0.1/32 -p tcp -m comment" in printed
    assert "--probability 0.33333333349" in printed


RECORDED = json.loads((Path(__file__).parent / "recordings" / "saves.json").read_text())["saves"]


@pytest.mark.kernel
@pytest.mark.parametrize("name", list(cases()))
def test_recordings_are_what_the_kernel_prints(name):
    version, texts = cases()[name]
    family = AF_INET if version == 4 else AF_INET6
    printed = saved([*jump_lines(family), *[restore_line(text, family) for text in texts]], family)
    for part in ("filter", "nat"):
        mine = [line for line in table(printed, part) if not line.startswith("#")]
        assert mine == RECORDED[name][part]


@pytest.mark.kernel
def test_jumps_as_the_kernel_prints_them():
    """Without kubelet, kube-proxy's own KUBE-FIREWALL jumps come first, as they were put in front last."""
    new = '-m conntrack --ctstate NEW -m comment --comment "kubernetes'
    expected = [
        "-A INPUT -j KUBE-FIREWALL",
        f'-A INPUT {new} load balancer firewall" -j KUBE-PROXY-FIREWALL',
        '-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS',
        f'-A INPUT {new} externally-visible service portals" -j KUBE-EXTERNAL-SERVICES',
        f'-A FORWARD {new} load balancer firewall" -j KUBE-PROXY-FIREWALL',
        '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
        f'-A FORWARD {new} service portals" -j KUBE-SERVICES',
        f'-A FORWARD {new} externally-visible service portals" -j KUBE-EXTERNAL-SERVICES',
        "-A OUTPUT -j KUBE-FIREWALL",
        f'-A OUTPUT {new} load balancer firewall" -j KUBE-PROXY-FIREWALL',
        f'-A OUTPUT {new} service portals" -j KUBE-SERVICES',
    ]
    twice = [*jump_lines(), *jump_lines()]
    assert [line for line in table(saved(twice), "filter") if line.startswith("-A")] == expected


@pytest.mark.kernel
def test_kubelets_chains_as_the_kernel_prints_them():
    printed = saved([*step_lines(kubelet_rules(AF_INET)), *jump_lines()])
    assert (
        "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment"
        ' "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP'
    ) in printed
    assert [line for line in table(printed, "filter") if line.startswith("-A INPUT")][-1] == "-A INPUT -j KUBE-FIREWALL"
    assert ":KUBE-IPTABLES-HINT - [0:0]" in table(printed, "mangle")


@pytest.mark.kernel
def test_partial_syncs_lead_where_a_full_one_does():
    made = proxier(service(), eslice(WEB_0, WEB_1), service("db", clusterIP="10.96.0.40"))
    first = made.sync().text
    made.on_event("update", eslice(WEB_0))
    second = made.sync([SVC, SEP_0, SEP_1]).text
    assert f"-X {SEP_1}" in second
    fresh = proxier(service(), eslice(WEB_0), service("db", clusterIP="10.96.0.40")).sync().text
    by_steps, at_once = saved([restore_line(first), restore_line(second)]), saved([restore_line(fresh)])
    for name in ("filter", "nat"):
        assert table(by_steps, name) == table(at_once, name)


@pytest.mark.kernel
def test_ipv6_loads():
    made = IptablesProxier(options(), AF_INET6)
    made.on_event("add", service(clusterIP="fd00:10:96::1", port={"name": "http", "port": 80, "nodePort": 30080}))
    made.on_event("add", eslice(ep("fd00:10:48:2::7"), addressType="IPv6"))
    printed = saved([*jump_lines(AF_INET6), restore_line(made.full_sync_text(), AF_INET6)], AF_INET6)
    assert "-j DNAT --to-destination [fd00:10:48:2::7]:8080" in printed
    assert "-A KUBE-SERVICES ! -d ::1/128 -m comment" in printed


@pytest.mark.kernel
def test_cleanup_leaves_nothing_but_kube_firewall():
    made = proxier(*everything())
    names = {
        "nat": [line[1:].split()[0] for line in table(made.full_sync_text(), "nat") if line.startswith(":")],
        "filter": [line[1:].split()[0] for line in table(made.full_sync_text(), "filter") if line.startswith(":")],
    }
    printed = saved(
        [
            *jump_lines(),
            restore_line(made.full_sync_text()),
            *step_lines(cleanup_steps()),
            restore_line(cleanup_text(names)),
        ]
    )
    mine = sorted({word for line in printed.splitlines() for word in line.split() if "KUBE-" in word})
    assert mine == [":KUBE-FIREWALL", "KUBE-FIREWALL"]
