"""Which hooks lead to a chain: the walk that starts from what was known gives what the whole walk gives, refusals included."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.kernel.netfilter.xtables.draft import check_table
from kubenet.kernel.netfilter.xtables.errors import IptcError
from kubenet.kernel.netfilter.xtables.reach import mark_source_chains, marks_after
from kubenet.kernel.netfilter.xtables.spec import ChainSpec, Header, RuleSpec

BUILTIN = {"INPUT": 1, "FORWARD": 2, "OUTPUT": 3}
USERS = [f"C{n}" for n in range(7)]


def table_of(log: list[str]) -> Any:
    return SimpleNamespace(builtin=BUILTIN, module="ip_tables", net=SimpleNamespace(host=SimpleNamespace(printk=log.append)))


def chain(name: str, jumps: tuple[str, ...]) -> ChainSpec:
    return ChainSpec(name, tuple(RuleSpec(Header(), (), None, jump, False) for jump in jumps))


@st.composite
def tables(draw: st.DrawFn) -> dict[str, ChainSpec]:
    """Chains in any order; jumps lead to greater names, save in one table of four, where they may lead in circles."""
    users = draw(st.permutations(USERS))[:draw(st.integers(3, len(USERS)))]
    circles = draw(st.integers(0, 3)) == 0
    out: dict[str, ChainSpec] = {}
    for name in [*BUILTIN, *users]:
        below = [user for user in users if circles or name in BUILTIN or user > name]
        out[name] = chain(name, tuple(draw(st.lists(st.sampled_from(below), unique=True, max_size=2)) if below else ()))
    return out


def outcome(fn: Any) -> Any:
    try:
        return fn()
    except IptcError as error:
        return error.errno


@settings(max_examples=600, deadline=None)
@given(tables(), st.sets(st.sampled_from(USERS), max_size=3), tables(), st.sets(st.sampled_from([*BUILTIN, *USERS]), max_size=3))
def test_the_short_walk_is_the_whole_walk(before: dict[str, ChainSpec], gone: set[str], other: dict[str, ChainSpec],
                                          replaced: set[str]) -> None:
    """Some chains are taken away, some replaced or added; what refers to a chain that is not there loses the jump."""
    known = outcome(lambda: mark_source_chains(table_of([]), before))
    if isinstance(known, int):
        return
    chains = {name: spec for name, spec in before.items() if name not in gone}
    chains.update((name, other[name]) for name in sorted(replaced) if name in other)
    for name, spec in list(chains.items()):
        left = tuple(jump for jump in spec.jumps if jump in chains)
        if left != spec.jumps:
            chains[name] = chain(name, left)
    changed = [spec for name, spec in chains.items() if before.get(name) is not spec]
    assert outcome(lambda: marks_after(table_of([]), before, dict(known), chains, changed)) == outcome(
        lambda: mark_source_chains(table_of([]), chains))


def test_a_chain_is_reached_from_every_hook_above_it() -> None:
    chains = {c.name: c for c in (chain("INPUT", ("C1",)), chain("FORWARD", ("C2",)), chain("OUTPUT", ()),
                                  chain("C1", ("C3",)), chain("C2", ("C3",)), chain("C3", ()), chain("C4", ("C3",)))}
    assert mark_source_chains(table_of([]), chains) == {
        "INPUT": 1 << 1, "FORWARD": 1 << 2, "OUTPUT": 1 << 3, "C1": 1 << 1, "C2": 1 << 2, "C3": 1 << 1 | 1 << 2}


def test_loops_are_refused_once_a_hook_leads_there() -> None:
    """A loop that nothing leads to stands; the jump that makes it reachable does not. Linux: mark_source_chains() starts at hooks."""
    before = {c.name: c for c in (chain("INPUT", ()), chain("FORWARD", ()), chain("OUTPUT", ()), chain("C1", ("C2",)), chain("C2", ("C1",)))}
    known = mark_source_chains(table_of([]), before)
    entered = chain("INPUT", ("C1",))
    with pytest.raises(IptcError) as refused:
        marks_after(table_of([]), before, known, {**before, "INPUT": entered}, [entered])
    assert refused.value.errno == errno.ELOOP


def test_a_jump_to_a_built_in_chain_is_refused_and_logged() -> None:
    log: list[str] = []
    table = table_of(log)
    table.chains = {name: chain(name, ()) for name in BUILTIN}
    table.reach = mark_source_chains(table, table.chains)
    with pytest.raises(IptcError) as refused:
        check_table(table, {**table.chains, "C1": chain("C1", ("OUTPUT",))})
    assert refused.value.errno == errno.EINVAL and log == ["x_tables: ip_tables: bad jump from C1 to built-in chain OUTPUT"]
