"""Which hooks lead to a chain, and whether chains lead to themselves: what the kernel asks before it takes a table.

    reach = mark_source_chains(table, chains)                    every chain is walked
    reach = marks_after(table, before, known, chains, moved)     the same, from what was known before a change

A sync of kube-proxy changes the jumps of a handful of chains among 60,000. Only chains below a jump that came or went can be reached
from other hooks than before, so only they are asked again; who jumps to them is found in one pass over all chains.

Source: Linux ip_tables.c mark_source_chains().
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from kubenet.kernel.netfilter.xtables.errors import IptcError
from kubenet.kernel.netfilter.xtables.spec import ChainSpec

if TYPE_CHECKING:
    from kubenet.kernel.netfilter.xtables.table import Table

Chains = dict[str, ChainSpec]


def kernel_error(table: Table, words: str, number: int) -> IptcError:
    """The refusal, its reason already in the kernel log."""
    table.net.host.printk(f"x_tables: {words}")
    return IptcError(number)


def mark_source_chains(table: Table, chains: Chains) -> dict[str, int]:
    """chain -> bit set of the hooks it can be reached from. ELOOP if chains lead to themselves.

    Linux walks the rules once per hook. Here every chain is walked once, and the hooks go down from callers to callees.
    """
    builtin = table.builtin
    callees_first: list[str] = []
    path: dict[str, bool] = {}  # True: being walked, or built in
    for base in builtin:
        path[base] = True
        stack = [(base, iter(chains[base].jumps))]
        while stack:
            name, jumps = stack[-1]
            for jump in jumps:
                state = path.get(jump)
                if state is None and jump not in builtin:
                    path[jump] = True
                    stack.append((jump, iter(chains[jump].jumps)))
                    break
                if state is False:
                    continue
                if jump in builtin:
                    raise kernel_error(table, f"{table.module}: bad jump from {name} to built-in chain {jump}", errno.EINVAL)
                raise IptcError(errno.ELOOP)
            else:
                path[name] = name in builtin
                callees_first.append(name)
                stack.pop()
    reach = {base: 1 << hook for base, hook in builtin.items()}
    _hand_down(reach, callees_first, chains)
    return reach


def marks_after(table: Table, before: Chains, known: dict[str, int], chains: Chains, changed: list[ChainSpec]) -> dict[str, int]:
    """mark_source_chains(table, chains), if it was `known` for `before` and only `changed` are new chains or other ones."""
    added = [chain for chain in changed if chain.name not in before]
    gone = [chain for name, chain in before.items() if name not in chains] if len(before) + len(added) > len(chains) else []
    heads = dict.fromkeys(chain.name for chain in added)
    for chain in changed:
        old = before[chain.name].jumps if chain.name in before else ()
        heads.update(dict.fromkeys(jump for jump in chain.jumps if jump not in old))
        heads.update(dict.fromkeys(jump for jump in old if jump not in chain.jumps))
    for chain in gone:
        heads.update(dict.fromkeys(chain.jumps))
    below = _callees_first([name for name in heads if name in chains], chains)
    if below is None:
        return mark_source_chains(table, chains)  # a loop, and bad if a hook leads there; a new one has its new jump's target in it
    reach = dict(known)
    for name in (*(chain.name for chain in gone), *below):
        reach.pop(name, None)
    for name, chain in chains.items():
        hooks = reach.get(name)
        if hooks is not None:
            for jump in chain.jumps:
                if jump in below:
                    reach[jump] = reach.get(jump, 0) | hooks
    _hand_down(reach, list(below), chains)
    return reach


def _callees_first(heads: list[str], chains: Chains) -> dict[str, None] | None:
    """These chains and all that they lead to, every caller behind its callees; None if there is a loop."""
    done: dict[str, None] = {}
    path: dict[str, None] = {}
    stack = [("", iter(heads))]
    while stack:
        name, jumps = stack[-1]
        for jump in jumps:
            if jump in path:
                return None
            if jump not in done:
                path[jump] = None
                stack.append((jump, iter(chains[jump].jumps)))
                break
        else:
            stack.pop()
            if stack:
                del path[name]
                done[name] = None
    return done


def _hand_down(reach: dict[str, int], callees_first: list[str], chains: Chains) -> None:
    """What leads to a chain leads to those it jumps to."""
    for name in reversed(callees_first):
        hooks = reach.get(name, 0)
        if hooks:
            for jump in chains[name].jumps:
                reach[jump] = reach.get(jump, 0) | hooks
