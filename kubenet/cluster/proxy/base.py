"""What all proxy modes share: the words between a mode and whoever applies its rules.

A mode is fed events and asked for a sync; it touches no kernel. What comes back is text for iptables-restore and,
on a full sync, the jumps from the built-in chains that must exist. Jumps are rules that live in chains owned by
nobody, so they are never written by restore: they are checked and put in front one by one, as

    iptables -w 5 -N CHAIN -t TABLE                  exit status 1 = it exists, fine
    iptables -w 5 -C SOURCE -t TABLE ARGS...         there already?
    iptables -w 5 -I SOURCE -t TABLE ARGS...         if not: in front of everything

A Step is one such wish; `argv()` spells the commands, `ensure()` carries them out through any `run(argv) -> status`.

A registry holds the modes by the name a user types.

Source: pkg/proxy/types.go Provider, pkg/util/iptables EnsureChain(), EnsureRule().
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from kubenet.cluster.api.ips import AF_INET
from kubenet.cluster.api.views import Obj
from kubenet.cluster.proxy.changes import Changes, ServicePort, Trackers
from kubenet.cluster.proxy.conntrack_cleanup import UdpCleanup
from kubenet.errors import NotFoundError

CHAIN, PREPEND, APPEND, DELETE = "chain", "prepend", "append", "delete"

_FLAGS = {CHAIN: "-N", PREPEND: "-I", APPEND: "-A", DELETE: "-D"}


class Step(NamedTuple):
    """One thing that must be so: a chain exists, or a rule stands in a chain (or no longer does)."""

    op: str
    table: str
    chain: str
    args: tuple[str, ...] = ()

    def argv(self, flag: str = "", family: int = AF_INET) -> list[str]:
        """The command that does it, or with `flag` "-C" the one that checks it."""
        program = "iptables" if family == AF_INET else "ip6tables"
        return [program, "-w", "5", flag or _FLAGS[self.op], self.chain, "-t", self.table, *self.args]


class JumpRule(NamedTuple):
    """A jump from the built-in chain `chain` to `target`; `args` is all that follows `-t TABLE`."""

    table: str
    chain: str
    target: str
    args: tuple[str, ...]

    def steps(self) -> tuple[Step, Step]:
        """Make the target, then the jump in front of the chain."""
        return Step(CHAIN, self.table, self.target), Step(PREPEND, self.table, self.chain, self.args)


def ensure(steps: Iterable[Step], run: Callable[[list[str]], int], family: int = AF_INET) -> list[Step]:
    """Carry out the steps that are not already so; returns those that failed. `run` gives a command's exit status."""
    failed = []
    for step in steps:
        if step.op == CHAIN:
            if run(step.argv(family=family)) not in (0, 1):
                failed.append(step)
            continue
        is_there = run(step.argv("-C", family)) == 0
        if is_there == (step.op == DELETE) and run(step.argv(family=family)) != 0:
            failed.append(step)
    return failed


def nat_chains_after(text: str, existing: Iterable[str]) -> list[str]:
    """The chains of the nat table once this restore input has been applied to `existing` (with --noflush)."""
    chains = dict.fromkeys(existing)
    for line in text.partition("*nat\n")[2].partition("COMMIT\n")[0].splitlines():
        if line.startswith(":"):
            chains[line[1:].partition(" ")[0]] = None
        elif line.startswith("-X "):
            chains.pop(line[3:], None)
    return list(chains)


@dataclass(slots=True)
class SyncStats:
    """Sizes of one sync, as the metrics of kube-proxy count them."""

    services: int = 0
    endpoints: int = 0
    filter_rules: int = 0
    nat_rules: int = 0
    """Lines -A and -X in the text of this sync."""
    nat_rules_total: int = 0
    """Rules that stand in the kernel after it."""
    rewritten: int = 0
    """Service ports whose chains this sync writes."""
    stale_chains: int = 0


@dataclass(slots=True)
class SyncResult:
    """One sync: what to feed to restore, and what else it means."""

    text: str
    full: bool
    jumps: list[JumpRule]
    """To be ensured before the restore; empty unless full."""
    udp_endpoints_changed: bool
    """Conntrack cleanup has to run once the rules are in place."""
    gone_udp: list[ServicePort]
    """UDP service ports that no longer exist."""
    stats: SyncStats = field(default_factory=SyncStats)


class ProxyMode(Protocol):
    """What the controller needs of a mode, for one address family."""

    family: int
    trackers: Trackers
    """What is known of Services and EndpointSlices, as of the last sync."""

    def on_service(self, old: Obj | None, new: Obj | None) -> bool:
        """Note a Service event; true if a sync has something to do."""

    def on_slice(self, old: Obj | None, new: Obj | None) -> bool:
        """Note an EndpointSlice event."""

    def on_node(self, node: Obj | None) -> bool:
        """Note what this node's labels say now."""

    def sync(self, existing_nat_chains: Iterable[str] = (), now: int = 0, changes: Changes | None = None) -> SyncResult:
        """Take over what was noted (or what shared trackers took over) and give the rules."""

    def sync_failed(self) -> None:
        """The last sync was not applied: the next one is full."""

    def udp_cleanup(self, result: SyncResult | None = None) -> UdpCleanup:
        """Which conntrack entries are stale now."""


_MODES: dict[str, type] = {}


def proxy_mode(name: str) -> Callable[[type], type]:
    """Register a class as the mode a user calls `name`."""

    def register(cls: type) -> type:
        _MODES[name] = cls
        return cls

    return register


def find_mode(name: str) -> type:
    """The class of a mode. Raises NotFoundError naming those there are."""
    if name not in _MODES:
        raise NotFoundError(f"no proxy mode {name!r}", why="known: " + ", ".join(sorted(_MODES)))
    return _MODES[name]
