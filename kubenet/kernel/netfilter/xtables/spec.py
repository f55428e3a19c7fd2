r"""The records rules are made of: RuleSpec and ChainSpec, immutable and shared, and what a match or target is.

    -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "default/web" -m tcp --dport 80 -j KUBE-SVC-...
                     \_____ Header ______/ \______________ matches _______________________/ \__ jump or target __/

A RuleSpec has no counters and no state, so equal lines in a thousand namespaces are one object. A ChainSpec is a name and a
tuple of rules; it is compiled once (compile.py), at the first packet. What belongs to a namespace (counters, limit credits,
recent lists, dice) is found at run time through the Ctx that every predicate and target gets beside the packet.

Extensions register themselves by name:

    @xt_match("mark")       class MarkMatch(Match):    parse(), save(), listing(), compile()
    @xt_target("MARK")      class MarkTarget(Target):  the same; its compiled form returns a verdict

Both families use these records: a Header knows its family, an extension may belong to one of them.

Sources: Linux struct ipt_entry, struct ip6t_entry, struct xt_match, struct xt_target (x_tables.h).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from weakref import WeakValueDictionary

from kubenet.kernel.netfilter.xtables.options import Got, Opt

if TYPE_CHECKING:
    from kubenet.kernel.netfilter.xtables.table import Table
    from kubenet.kernel.netns import NetNamespace
    from kubenet.kernel.skbuff import SkBuff

AF_INET, AF_INET6 = 2, 10
FULL_MASK = {AF_INET: 0xFFFFFFFF, AF_INET6: (1 << 128) - 1}

# Verdicts inside a table, beside netfilter's DROP 0, ACCEPT 1, STOLEN 2.
CONTINUE, RETURN = -1, -5
DROPPED = -9  # a target's DROP for a packet that it has disposed of itself

STANDARD = {"ACCEPT": 1, "DROP": 0, "RETURN": RETURN, "QUEUE": 3}
VERDICT_TEXT = {1: "ACCEPT", 0: "DROP", RETURN: "RETURN", CONTINUE: "CONTINUE", 2: "STOLEN", 3: "QUEUE"}

Key = tuple[str, int, int]  # (chain, rule, match): where a stateful extension keeps its state in Ctx.state


class HotDrop(Exception):  # noqa: N818  Linux's word
    """A match met a packet it must not let through (par->hotdrop): the table's verdict is DROP."""


class Ctx:
    """What a rule may know beside the packet: the table, its namespace, the hook. One per table and hook."""

    __slots__ = ("table", "net", "hook", "prio", "chains", "counters", "state", "dice")

    def __init__(self, table: Table, net: NetNamespace, hook: int, prio: int) -> None:
        self.table = table
        self.net = net
        self.hook = hook
        self.prio = prio  # at which priority of the hook the table is asked
        self.chains: dict[str, ChainSpec] = {}
        self.counters: dict[str, list[int]] = {}
        self.state: dict[Any, Any] = {}
        self.dice: dict[str, Any] | None = None  # what the last match of a watched packet rolled


Predicate = Callable[["SkBuff", Ctx], bool]
Action = Callable[["SkBuff", Ctx], int]


class Extension:
    """What matches and targets have in common."""

    __slots__ = ()
    NAME: ClassVar[str] = ""
    OPTS: ClassVar[dict[str, Opt]] = {}
    PROTOS: ClassVar[tuple[int, ...]] = ()  # the kernel takes it only with one of these -p (none: any)
    TABLES: ClassVar[tuple[str, ...]] = ()  # ... only in these tables
    HOOKS: ClassVar[int] = 0x1F  # ... only where one of these hooks can reach it
    FAMILY: ClassVar[int] = 0  # AF_INET, AF_INET6: iptables or ip6tables alone knows it
    CONNTRACK: ClassVar[bool] = False  # using it switches connection tracking on

    @classmethod
    def parse(cls, got: Got, head: Header) -> Any:
        """The extension with these options. Raises XtablesError."""
        return cls()

    def save(self) -> str:
        """Its options as iptables-save prints them, with a blank in front."""
        return ""

    def listing(self, numeric: bool) -> str:
        """Its words in `iptables -L`, with a blank in front."""
        return ""

    def check(self, net: NetNamespace, rule: RuleSpec, table: str, hooks: int) -> int:
        """0, or the errno with which the kernel refuses it here (checkentry)."""
        return 0


class Match(Extension):
    """A test. PURE: evaluating it twice, or not at all, changes nothing."""

    __slots__ = ()
    PURE: ClassVar[bool] = True

    def compile(self, key: Key) -> Predicate | None:
        """The test as a function; None if it is always true."""
        raise NotImplementedError


class Target(Extension):
    """What to do with a packet that matched."""

    __slots__ = ()

    def compile(self, key: Key) -> Action:
        """The deed as a function that returns CONTINUE or a verdict."""
        raise NotImplementedError

    def save_as(self) -> str:
        """The name after -j."""
        return self.NAME


MATCHES: dict[str, type[Match]] = {}
TARGETS: dict[str, type[Target]] = {}
MATCHES6: dict[str, type[Match]] = {}  # what only ip6tables has, or has under the name of something else
TARGETS6: dict[str, type[Target]] = {}

_M = TypeVar("_M", bound=type[Match])
_T = TypeVar("_T", bound=type[Target])


def xt_match(name: str, family: int = 0) -> Callable[[_M], _M]:
    """Register a match under the name that follows -m, for one family or for both."""

    def register(cls: _M) -> _M:
        cls.NAME, cls.FAMILY = name, family
        (MATCHES6 if family == AF_INET6 else MATCHES)[name] = cls
        return cls

    return register


def xt_target(name: str, family: int = 0) -> Callable[[_T], _T]:
    """Register a target under the name that follows -j, for one family or for both."""

    def register(cls: _T) -> _T:
        if not cls.NAME:
            cls.NAME = name
        cls.FAMILY = family
        (TARGETS6 if family == AF_INET6 else TARGETS)[name] = cls
        return cls

    return register


def find_match(name: str, family: int) -> type[Match] | None:
    """The match of this name in iptables or ip6tables; None if there is none."""
    cls = MATCHES6.get(name) if family == AF_INET6 else None
    cls = cls or MATCHES.get(name)
    return cls if cls is not None and cls.FAMILY in (0, family) else None


def find_target(name: str, family: int) -> type[Target] | None:
    """The target of this name in iptables or ip6tables; None if there is none."""
    cls = TARGETS6.get(name) if family == AF_INET6 else None
    cls = cls or TARGETS.get(name)
    return cls if cls is not None and cls.FAMILY in (0, family) else None


class Header:
    """The part of a rule that every packet is compared with first (struct ipt_ip, struct ip6t_ip6)."""

    __slots__ = ("family", "src", "smask", "src_inv", "dst", "dmask", "dst_inv", "iface", "in_inv", "outface", "out_inv", "proto",
                 "proto_inv", "frag")

    def __init__(self, family: int = AF_INET) -> None:
        self.family = family
        self.src = 0
        self.smask = 0
        self.src_inv = False
        self.dst = 0
        self.dmask = 0
        self.dst_inv = False
        self.iface = ""
        self.in_inv = False
        self.outface = ""
        self.out_inv = False
        self.proto = 0
        self.proto_inv = False
        self.frag = 0  # 1: -f, -1: ! -f

    def copy(self) -> Header:
        """A second one, for a rule with several addresses."""
        other = Header.__new__(Header)
        for slot in Header.__slots__:
            setattr(other, slot, getattr(self, slot))
        return other


class RuleSpec:
    """One rule, immutable. `jump` is a standard verdict, a user chain, or ""; `target` an extension or None."""

    __slots__ = ("head", "matches", "target", "jump", "goto", "verdict", "_text")

    def __init__(self, head: Header, matches: tuple[Match, ...], target: Target | None, jump: str, goto: bool) -> None:
        self.head = head
        self.matches = matches
        self.target = target
        self.jump = jump
        self.goto = goto
        self.verdict: int | None = STANDARD.get(jump) if target is None else None
        self._text: str = ""

    @property
    def chain(self) -> str:
        """The user chain it jumps to, or ""."""
        return self.jump if self.target is None and self.verdict is None else ""

    @property
    def text(self) -> str:
        """The rule as iptables-save prints it behind "-A CHAIN"; equal rules have equal texts."""
        if not self._text:
            from kubenet.kernel.netfilter.xtables.save import rule_text

            self._text = rule_text(self)
        return self._text

    @property
    def comment(self) -> str:
        """The first comment, for people."""
        for match in self.matches:
            if match.NAME == "comment":
                return str(getattr(match, "comment", ""))
        return ""


class ChainSpec:
    """A chain: its name and rules, immutable. `run` and `walk` are its compiled form, made at the first packet."""

    __slots__ = ("name", "rules", "run", "walk", "jumps", "checked", "__weakref__")

    def __init__(self, name: str, rules: tuple[RuleSpec, ...]) -> None:
        self.name = name
        self.rules = rules
        self.run: Action | None = None
        self.walk: Any = None  # compile.Walk: its entries and their index
        jumps: dict[str, None] = {}
        checked = []
        for rule in rules:
            if rule.target is not None or rule.matches:
                checked.append(rule)
            if rule.target is None and rule.verdict is None and rule.jump:
                jumps[rule.jump] = None
        self.jumps: tuple[str, ...] = tuple(jumps)  # the chains it leads to
        self.checked: tuple[RuleSpec, ...] = tuple(checked)  # rules with extensions


_CHAINS: WeakValueDictionary[tuple[str, tuple[RuleSpec, ...]], ChainSpec] = WeakValueDictionary()


def chain_spec(name: str, rules: tuple[RuleSpec, ...]) -> ChainSpec:
    """The one ChainSpec with this name and these rules."""
    key = (name, rules)
    found = _CHAINS.get(key)
    if found is None:
        found = _CHAINS[key] = ChainSpec(name, rules)
    return found


def count_references(chains: dict[str, ChainSpec]) -> dict[str, int]:
    """user chain -> how many rules of these chains jump to it."""
    found: dict[str, int] = {}
    for chain in chains.values():
        if chain.jumps:
            for rule in chain.rules:
                if rule.target is None and rule.verdict is None and rule.jump:
                    found[rule.jump] = found.get(rule.jump, 0) + 1
    return found
