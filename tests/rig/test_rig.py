"""The emulator beside a real kernel: the same places, the same rules, the same socket calls, and everything that can be seen of it.

What the real kernel did is recorded (recordings/, written by rig_record.py); the emulator runs every case again and must agree in
each frame at the watched devices and its time, in results and errno, ss, conntrack entries and their timeouts, rule counters and
SNMP counters. differences.md lists what may differ and why. A few cases of each family run by default, all of them with `-m full`;
`-m kernel` runs the sample on the kernel at hand, to see that the recordings are what a kernel does and not one machine's accident.
"""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from rig_cases import FAMILIES
from rig_compare import Difference, allowed_by, differences, read_allowed, read_expected
from rig_emulated import run_emulated
from rig_real import run_real, unavailable
from rig_record import fingerprint, load
from rig_topology import Case

ALLOWED = read_allowed()
EXPECTED = read_expected()
SAMPLE = (
    "bind-tcp-bound", "bind-tcp-timewait", "bind-udp-bound", "close-unread", "linger-0", "half-close", "reset-before-accept", "shutdown-rdwr",
    "udp-refused", "udp-df", "svc-clusterip-c1-w2-nf1", "svc-clusterip-c1-w1-nf0", "svc-clusterip-n1-w2-nf1", "svc-clusterip-w1-w1-nf1",
    "svc-nodeport-out-w1-nf1", "svc-nodeport-out-w2-nf0", "svc-nodeport-n2-w1-nf1",
    "svc-nodeport-local-out-w1-nf1", "svc-nodeport-local-out-w2-nf1", "svc-none-out-w1-nf1", "svc-none-c1-w1-nf0", "svc-pod-c1-w1-nf0", "svc-dns-c1",
    "svc-gone-c1", "svc-entry-deleted", "svc-client-reset", "connect-refused", "connect-input-tcp-reset", "handshake-bare", "accept-overflow-0-2-abort0",
    "delayed-ack", "nagle",
)
RECORDED: dict[str, dict[str, Any]] = {family: load(family).get("cases", {}) for family in FAMILIES}
ROWS = [(family, case) for family, cases in FAMILIES.items() for case in cases]


def _params(chosen: list[tuple[str, Case]], *always: Any) -> list[Any]:
    """Rows as pytest's parameters, marked as differences.md says."""
    rows = []
    for family, case in chosen:
        marks = list(always)
        if case.name in EXPECTED:
            marks.append(pytest.mark.xfail(strict=True, raises=AssertionError, reason=EXPECTED[case.name]))
        rows.append(pytest.param(family, case, id=case.name, marks=marks))
    return rows


def _recorded() -> list[tuple[str, Case]]:
    return [(family, case) for family, case in ROWS if case.name in RECORDED[family]]


def _not_excused(case: Case, real: dict[str, Any], ours: dict[str, Any]) -> list[Difference]:
    return [d for d in differences(real, ours) if allowed_by(case.name, d, ALLOWED) is None]


def _check(family: str, case: Case) -> None:
    real = RECORDED[family][case.name]
    if real["asked"] != fingerprint(case):
        pytest.fail(f"{case.name} has changed since it was recorded: python -m tests.rig.rig_record {case.name}")
    found = _not_excused(case, real, run_emulated(case, real["begins"]))
    assert not found, "\n" + "\n".join(map(str, found))


@pytest.mark.parametrize(("family", "case"), _params([row for row in _recorded() if row[1].name in SAMPLE]))
def test_sample(family: str, case: Case) -> None:
    _check(family, case)


@pytest.mark.parametrize(("family", "case"), _params([row for row in _recorded() if row[1].name not in SAMPLE], pytest.mark.full))
def test_recorded(family: str, case: Case) -> None:
    _check(family, case)


@pytest.mark.kernel
@pytest.mark.parametrize(("family", "case"), _params([row for row in ROWS if row[1].name in SAMPLE]))
def test_live(family: str, case: Case) -> None:
    if why := unavailable():
        pytest.skip(why)
    real = run_real(case)
    found = _not_excused(case, real, run_emulated(case, real["begins"]))
    assert not found, "\n" + "\n".join(map(str, found))


def test_every_case_of_the_sample_is_recorded() -> None:
    assert set(SAMPLE) <= {case.name for _, case in _recorded()}


def test_case_names_are_unique() -> None:
    names = [case.name for _, case in ROWS]
    assert len(names) == len(set(names))


def test_differences_name_recorded_cases() -> None:
    """A row about a case that is gone, or a name mistyped, excuses nothing and would mislead."""
    names = [case.name for _, case in _recorded()]
    assert set(EXPECTED) <= set(names)
    for row in ALLOWED:
        for glob in row.cases.split():
            assert fnmatch.filter(names, glob), glob


def test_a_difference_is_seen() -> None:
    """The comparison does find something: one frame, one errno, one counter, one timeout changed."""
    real = {"results": [["a: connect C 10.1.0.1:80", "ok"]], "frames": {"a/eth0": [[0.0, "> SYN"], [200.0, "> SYN"]]}, "ss": {},
            "ct": {"n1": [[86399, "tcp ESTABLISHED"]]}, "rules": {"n1": ["filter [1:60] -A INPUT"]}, "snmp": {"a": {"TcpInSegs": 1}}}
    ours = {"results": [["a: connect C 10.1.0.1:80", "ECONNREFUSED"]], "frames": {"a/eth0": [[0.0, "> SYN"], [400.0, "> SYN"]]}, "ss": {},
            "ct": {"n1": [[120, "tcp ESTABLISHED"]]}, "rules": {"n1": ["filter [2:120] -A INPUT"]}, "snmp": {"a": {"TcpInSegs": 2}}}
    assert {d.part for d in differences(real, ours)} == {"results", "times/a/eth0", "timeouts/n1", "rules/n1", "snmp/a/TcpInSegs"}
    assert differences(real, real) == []
