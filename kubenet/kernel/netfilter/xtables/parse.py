"""Reading iptables' arguments: from a command line or a restore line to a Command with finished rules.

It goes through the words as getopt_long(3) does: bundled short options (-nvL), --long=value, unambiguous beginnings of long
names, `!` as a word of its own before what it inverts. `-m` and `-j` load an extension, whose options are known from then on;
an unknown option after `-p tcp` loads the match of that protocol. The first mistake from the left is reported in the tool's
words.

Source: iptables 1.8.9 do_parse(), command_default(), generic_opt_check() (xshared.c).
"""

from __future__ import annotations

from typing import Any, TypeVar

from kubenet.kernel.netfilter.xtables import matches as _matches
from kubenet.kernel.netfilter.xtables import targets as _targets
from kubenet.kernel.netfilter.xtables.errors import PARAMETER_PROBLEM, XtablesError
from kubenet.kernel.netfilter.xtables.names import PROTOCOL_NAMES
from kubenet.kernel.netfilter.xtables.options import Got, Opt, number
from kubenet.kernel.netfilter.xtables.spec import (
    AF_INET,
    AF_INET6,
    STANDARD,
    TARGETS,
    TARGETS6,
    Extension,
    Header,
    Match,
    RuleSpec,
    Target,
    find_match,
    find_target,
)
from kubenet.kernel.netfilter.xtables.words import (
    CHAIN_MAX,
    COMMANDS,
    ILLEGAL,
    LONG,
    SHORT,
    USAGE,
    parse_addresses,
    parse_interface,
    parse_protocol,
    parse_rule_number,
    parse_target,
)

assert _matches and _targets  # imported to register the extensions

E = TypeVar("E", bound=Extension)

_EXTENSIONS: dict[type[Extension], dict[str, tuple[type[Extension], Opt]]] = {}


def option_table(cls: type[Extension]) -> dict[str, tuple[type[Extension], Opt]]:
    """The options of an extension with the extension beside them."""
    found = _EXTENSIONS.get(cls)
    if found is None:
        found = _EXTENSIONS[cls] = {name: (cls, opt) for name, opt in cls.OPTS.items()}
    return found


class Command:
    """What a command line asks for. `rules`: one per combination of its addresses."""

    __slots__ = ("letter", "chain", "number", "name", "table", "rules", "counters", "verbose", "numeric", "exact",
                 "line_numbers", "zero", "out", "warning", "skip", "jump", "goto")

    def __init__(self) -> None:
        self.letter = ""
        self.chain = ""
        self.number = 0
        self.name = ""  # new name, or policy
        self.table = "filter"
        self.rules: list[RuleSpec] = []
        self.counters: tuple[int, int] | None = None
        self.verbose = 0
        self.numeric = False
        self.exact = False
        self.line_numbers = False
        self.zero = False
        self.out = ""  # nothing else to do but print this (-V, -h)
        self.warning = ""
        self.skip = False  # a -6 line in IPv4 input
        self.jump = ""
        self.goto = False


def is_argument(words: list[str], at: int) -> bool:
    """The next word is there and is no option. iptables: xs_has_arg()."""
    return at < len(words) and not words[at].startswith(("-", "!"))


class Parser:
    """One command line being read."""

    __slots__ = ("words", "at", "command", "head", "given", "invert", "protocol", "proto_used", "names", "loaded", "target",
                 "sources", "dests", "restore", "family")

    def __init__(self, words: list[str], table: str, restore: bool, family: int = AF_INET) -> None:
        self.words = words
        self.family = family
        self.at = 0
        self.command = Command()
        self.command.table = table
        self.head = Header(family)
        self.given: dict[str, None] = {}  # letters of the options seen
        self.invert = False
        self.protocol = ""
        self.proto_used = False
        self.names: dict[str, tuple[type[Extension], Opt]] = {}
        self.loaded: list[tuple[type[Match], Got]] = []
        self.target: tuple[type[Target], Got] | None = None
        self.sources: list[tuple[int, int]] = [(0, 0)]
        self.dests: list[tuple[int, int]] = [(0, 0)]
        self.restore = restore

    @property
    def program(self) -> str:
        """The tool's name in this family."""
        return "iptables" if self.family == AF_INET else "ip6tables"

    def run(self) -> Command:
        """Reads all words. Raises XtablesError."""
        words = self.words
        while self.at < len(words):
            word = words[self.at]
            self.at += 1
            if len(word) > 1 and word[0] == "-":
                if word[1] != "-":
                    self.short(word)
                elif len(word) > 2:
                    self.long(word[2:])
                if self.command.out or self.command.skip:
                    return self.command
            elif word == "!":
                if self.invert:
                    raise XtablesError("multiple consecutive ! not allowed")
                self.invert = True
            else:
                raise XtablesError(f"Bad argument `{word}'", plain=True)
        return self.finish()

    def short(self, word: str) -> None:
        """-A, -nvL, -ptcp."""
        i = 1
        while i < len(word):
            letter = word[i]
            kind = SHORT.get(letter)
            if kind is None:
                raise XtablesError(f'unknown option "-{letter}"')
            i += 1
            value = None
            if kind and i < len(word):
                value, i = word[i:], len(word)
            elif kind == 1:
                value = self.argument(f"-{letter}")
            self.option(letter, value)

    def argument(self, option: str) -> str:
        """The next word, whatever it is."""
        if self.at >= len(self.words):
            raise XtablesError(f'option "{option}" requires an argument')
        self.at += 1
        return self.words[self.at - 1]

    def long(self, text: str) -> None:
        """--name, --name=value, or a beginning of a name."""
        name, equals, value = text.partition("=")
        found: tuple[Any, Any] = LONG.get(name) or self.names.get(name) or self.guess(name)
        if isinstance(found[0], str):
            letter, kind = found
            self.option(letter, value if equals else self.argument(f"--{name}") if kind == 1 else None)
        else:
            self.extension_option(found, name, value if equals else None)

    def guess(self, name: str) -> tuple[Any, Any]:
        """The one option that begins with `name`; else the protocol's match is loaded and asked."""
        known: dict[str, tuple[Any, Any]] = {**self.names, **LONG}
        hits = [entry for long, entry in known.items() if long.startswith(name)]
        if len(hits) == 1:
            return hits[0]
        if self.protocol and not self.proto_used:
            self.proto_used = True
            proto_match = PROTOCOL_NAMES.get(self.head.proto, "").replace("ipv6-icmp", "icmp6")
            if find_match(proto_match, self.family) and proto_match in ("tcp", "udp", "icmp", "icmp6", "sctp"):
                self.load_match(proto_match)
                return self.names.get(name) or self.guess(name)
        raise XtablesError(f'unknown option "--{name}"')

    def extension_option(self, entry: tuple[type[Extension], Opt], name: str, value: str | None) -> None:
        """An option of a loaded match or target."""
        cls, opt = entry
        if opt.read is not None and value is None:
            value = self.argument(f"--{name}")
        if opt.args == 2:
            if self.at >= len(self.words) or self.words[self.at].startswith(("-", "!")):
                raise XtablesError(f"--{opt.name} requires two args.")
            value = f"{value} {self.words[self.at]}"
            self.at += 1
        got = self.instance(cls)
        before = getattr(cls, "before", None)
        if before is not None:
            before(self.head)
        got.put(opt, value or "", self.invert)
        self.invert = False

    def instance(self, cls: type[Extension]) -> Got:
        """The loaded extension an option belongs to: of several equal matches the last."""
        if self.target is not None and self.target[0] is cls:
            return self.target[1]
        for match, got in reversed(self.loaded):
            if match is cls:
                return got
        raise AssertionError("an option of an extension that is not loaded")

    def load_match(self, name: str) -> None:
        """-m name"""
        cls = find_match(name, self.family)
        if cls is None:
            raise XtablesError(f"Couldn't load match `{name}':No such file or directory\n")
        self.loaded.append((cls, Got(name, cls.OPTS, self.family)))
        if cls.OPTS:
            self.names.update(option_table(cls))

    def set_option(self, letter: str, invertible: bool = False) -> None:
        """The option is given, for the first time. iptables: set_option()."""
        if letter in self.given:
            raise XtablesError(f"multiple -{letter} flags not allowed")
        self.given[letter] = None
        if self.invert and not invertible:
            raise XtablesError(f"cannot have ! before -{letter}")

    def option(self, letter: str, value: str | None) -> None:
        """One of iptables' own options."""
        handler = _HANDLERS.get(letter)
        if handler is not None:
            handler(self, value or "")
        elif letter in COMMANDS:
            self.add_command(letter, value)
        self.invert = False

    # --- handlers, by letter

    def _source(self, value: str) -> None:
        self.set_option("s", True)
        self.head.src_inv = self.invert
        self.sources = parse_addresses(value, self.invert, self.family)

    def _destination(self, value: str) -> None:
        self.set_option("d", True)
        self.head.dst_inv = self.invert
        self.dests = parse_addresses(value, self.invert, self.family)

    def _protocol(self, value: str) -> None:
        self.set_option("p", True)
        self.protocol = value.lower()
        self.head.proto = parse_protocol(self.protocol)
        self.head.proto_inv = self.invert
        if self.invert and not self.head.proto:
            raise XtablesError("rule would never match protocol")

    def _in(self, value: str) -> None:
        self.set_option("i", True)
        self.head.iface, self.head.in_inv = parse_interface(value), self.invert

    def _out(self, value: str) -> None:
        self.set_option("o", True)
        self.head.outface, self.head.out_inv = parse_interface(value), self.invert

    def _fragment(self, value: str) -> None:
        if self.family == AF_INET6:
            raise XtablesError("`-f' is not supported in IPv6, use -m frag instead")
        self.set_option("f", True)
        self.head.frag = -1 if self.invert else 1

    def _jump(self, value: str) -> None:
        self.set_option("j")
        name = parse_target(value)
        self.command.jump = name
        cls = find_target(name, self.family)
        if cls is not None:
            self.target = (cls, Got(name, cls.OPTS, self.family))
            if cls.OPTS:
                self.names.update(option_table(cls))

    def _goto(self, value: str) -> None:
        self.set_option("j")
        self.command.jump, self.command.goto = parse_target(value), True

    def _match(self, value: str) -> None:
        if self.invert:
            raise XtablesError("unexpected ! flag before --match")
        self.load_match(value)

    def _table(self, value: str) -> None:
        if self.invert:
            raise XtablesError("unexpected ! flag before --table")
        if self.restore:
            raise XtablesError(f"The -t option cannot be used in {self.program}-restore.\n")
        self.command.table = value

    def _numeric(self, value: str) -> None:
        self.set_option("n")
        self.command.numeric = True

    def _exact(self, value: str) -> None:
        self.set_option("x")
        self.command.exact = True

    def _verbose(self, value: str) -> None:
        if not self.command.verbose:
            self.set_option("v")
        self.command.verbose += 1

    def _line_numbers(self, value: str) -> None:
        self.set_option("0")
        self.command.line_numbers = True

    def _counters(self, value: str) -> None:
        self.set_option("c")
        packets, comma, octets = value.partition(",")
        if not comma:
            if not is_argument(self.words, self.at):
                raise XtablesError("-c requires packet and byte counter")
            octets = self.words[self.at]
            self.at += 1
        if not packets.isdigit():
            raise XtablesError("-c packet counter not numeric")
        if not octets.isdigit():
            raise XtablesError("-c byte counter not numeric")
        self.command.counters = (int(packets), int(octets))

    def _wait(self, value: str) -> None:
        if self.restore:
            raise XtablesError(f"You cannot use `-w' from {self.program}-restore")
        text = value or (self.words[self.at] if is_argument(self.words, self.at) else "")
        if not value and text:
            self.at += 1
        self.given["w"] = None
        if text and number(text) is None:
            raise XtablesError("wait seconds not numeric")

    def _wait_interval(self, value: str) -> None:
        if not value and is_argument(self.words, self.at):
            self.at += 1
        self.command.warning += "Ignoring deprecated --wait-interval option.\n"
        self.given["W"] = None

    def _nothing(self, value: str) -> None:
        pass

    def _ipv4(self, value: str) -> None:
        if self.family != AF_INET:
            self._other_family()

    def _ipv6(self, value: str) -> None:
        if self.family != AF_INET6:
            self._other_family()

    def _other_family(self) -> None:
        """-4 to ip6tables, -6 to iptables: wrong, but in restore's input such a line is passed over."""
        if not self.restore:
            raise XtablesError("", plain=True, status=PARAMETER_PROBLEM)
        self.command.skip = True

    def _version(self, value: str) -> None:
        if self.invert:
            raise XtablesError("cannot have ! before -V")
        self.command.out = f"{self.program} v1.8.9 (legacy)\n"

    def _help(self, value: str) -> None:
        self.command.out = USAGE.replace("iptables", self.program)

    # --- commands

    def add_command(self, letter: str, value: str | None) -> None:
        """-A, -D ...: what to do, and with which chain. iptables: add_command()."""
        command = self.command
        if self.invert:
            raise XtablesError(f"unexpected '!' flag before --{letter}")
        if letter == "Z" and command.letter in ("", "L", "S"):
            command.zero = True
            if command.letter:
                self.optional_chain(value)
                return
        elif command.zero and letter in "LS" and command.letter == "Z":
            pass
        elif command.letter:
            raise XtablesError(f"Cannot use -{letter} with -{command.letter}")
        command.letter = letter
        if letter in "LSFZX":
            self.optional_chain(value)
            return
        command.chain = value or ""
        if letter in "DI" and is_argument(self.words, self.at):
            command.number = parse_rule_number(self.words[self.at])
            self.at += 1
        elif letter == "R":
            if not is_argument(self.words, self.at):
                raise XtablesError("-R requires a rule number")
            command.number = parse_rule_number(self.words[self.at])
            self.at += 1
        elif letter in "EP":
            if not is_argument(self.words, self.at):
                need = "a chain and a policy" if letter == "P" else "old-chain-name and new-chain-name"
                raise XtablesError(f"-{letter} requires {need}")
            command.name = self.words[self.at]
            self.at += 1
        elif letter == "N":
            check_new_name(command.chain)

    def optional_chain(self, value: str | None) -> None:
        """The chain (and for -L, -S, -Z a rule number) that may follow."""
        command = self.command
        if value is not None:
            command.chain = value
        elif is_argument(self.words, self.at):
            command.chain = self.words[self.at]
            self.at += 1
        else:
            return
        if command.letter in "LSZ" and is_argument(self.words, self.at):
            command.number = parse_rule_number(self.words[self.at])
            self.at += 1

    # --- the end

    def finish(self) -> Command:
        """All words are read: complete the extensions, check what was given together, make the rules."""
        command, head = self.command, self.head
        matches = tuple(complete(cls, got, head) for cls, got in self.loaded)
        target = complete(self.target[0], self.target[1], head) if self.target is not None else None
        if "W" in self.given and "w" not in self.given:
            raise XtablesError("--wait-interval only makes sense with --wait\n")
        if not command.letter:
            raise XtablesError("no command specified")
        if self.invert:
            raise XtablesError("nothing appropriate following !")
        if command.letter == "R" and (len(self.sources) != 1 or len(self.dests) != 1):
            raise XtablesError("Replacement rule does not specify a unique address")
        self.check_options()
        if command.letter in "ADCIR" and not (command.letter == "D" and command.number):
            for match in matches:
                command.warning += getattr(match, "warning", str)()
            self.make_rules(matches, target)
        return command

    def check_options(self) -> None:
        """The command takes these options, and the chain exists at such a hook. iptables: generic_opt_check()."""
        command = self.command
        illegal = ILLEGAL["D#" if command.letter == "D" and command.number else command.letter]
        for letter in "nsdpjvxio0cf":
            if letter in self.given and letter in illegal:
                raise XtablesError(f"Illegal option `-{letter}' with this command")
        if len(command.chain) >= CHAIN_MAX:
            raise XtablesError(f"chain name `{command.chain}' too long (must be under {CHAIN_MAX} chars)")
        if command.letter in "ADCIR":
            if command.chain in ("PREROUTING", "INPUT") and "o" in self.given:
                raise XtablesError(f"Can't use -o with {command.chain}\n")
            if command.chain in ("POSTROUTING", "OUTPUT") and "i" in self.given:
                raise XtablesError(f"Can't use -i with {command.chain}\n")
        if command.table == "nat" and (command.jump == "DROP" or (command.letter == "P" and command.name == "DROP")):
            raise XtablesError('\nThe "nat" table is not intended for filtering, the use of DROP is therefore inhibited.\n\n')

    def make_rules(self, matches: tuple[Match, ...], target: Target | None) -> None:
        """One rule per pair of source and destination."""
        command, head = self.command, self.head
        jump = command.jump
        for src, smask in self.sources:
            for dst, dmask in self.dests:
                one = head if len(self.sources) == len(self.dests) == 1 else head.copy()
                one.src, one.smask, one.dst, one.dmask = src, smask, dst, dmask
                command.rules.append(RuleSpec(one, matches, target, jump, command.goto))


def complete(cls: type[E], got: Got, head: Header) -> E:
    """The extension made of its options, which fit together."""
    made: E = cls.parse(got, head)
    got.done()
    return made


def check_new_name(name: str) -> None:
    """A chain may have this name. iptables: parse_chain()."""
    if name.startswith(("-", "!")):
        raise XtablesError(f"chain name not allowed to start with `{name[0]}'")
    if name in TARGETS or name in TARGETS6 or name in STANDARD:
        raise XtablesError("chain name may not clash with target name")
    if any(c.isspace() for c in name):
        raise XtablesError(f"Invalid chain name `{name}'")


_HANDLERS = {
    "s": Parser._source, "d": Parser._destination, "p": Parser._protocol, "i": Parser._in, "o": Parser._out,
    "f": Parser._fragment, "j": Parser._jump, "g": Parser._goto, "m": Parser._match, "t": Parser._table,
    "n": Parser._numeric, "x": Parser._exact, "v": Parser._verbose, "0": Parser._line_numbers, "c": Parser._counters,
    "w": Parser._wait, "W": Parser._wait_interval, "b": Parser._nothing, "M": Parser._nothing, "4": Parser._ipv4,
    "6": Parser._ipv6, "V": Parser._version, "h": Parser._help,
}

def parse_command(words: list[str], table: str = "filter", restore: bool = False, family: int = AF_INET) -> Command:
    """The command these words (without the program's name) ask for. Raises XtablesError."""
    return Parser(words, table, restore, family).run()
