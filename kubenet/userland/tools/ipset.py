"""ipset 7.17: sets of the namespace, made, changed, asked and printed.

Source: ipset(8), observed output on Linux 6.18; what a set does is kernel/netfilter/ipset.py.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kubenet.kernel.netfilter.ipset import (
    BITS,
    TYPES,
    UNSUPPORTED,
    IpSet,
    Key,
    Member,
    SetError,
    expiry,
    initval,
    ip_sets,
    references,
)
from kubenet.kernel.netns import AF_INET, AF_INET6, NetNamespace
from kubenet.units import SEC
from kubenet.userland.process import Process
from kubenet.userland.resolver import service_port
from kubenet.userland.tools import tool
from kubenet.wire.addr import fmt, ip4, ip6

VERSION = "ipset v7.17"
MAXNAMELEN = 31
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "sctp": 132, "udplite": 136}
ICMP_NAMES = {"echo-reply": 0, "pong": 0, "network-unreachable": 0x300, "host-unreachable": 0x301, "protocol-unreachable": 0x302,
              "port-unreachable": 0x303, "fragmentation-needed": 0x304, "source-quench": 0x400, "network-redirect": 0x500,
              "host-redirect": 0x501, "echo-request": 0x800, "ping": 0x800, "router-advertisement": 0x900, "router-solicitation": 0xA00,
              "ttl-zero-during-transit": 0xB00, "ttl-zero-during-reassembly": 0xB01, "timestamp-request": 0xD00, "timestamp-reply": 0xE00}
ICMP_TEXT = {code: name for name, code in reversed(ICMP_NAMES.items())}
NO_SET = "The set with the given name does not exist"
COMMANDS = {"create": "create", "n": "create", "-N": "create", "add": "add", "-A": "add", "del": "del", "-D": "del", "test": "test",
            "-T": "test", "destroy": "destroy", "x": "destroy", "-X": "destroy", "list": "list", "l": "list", "-L": "list",
            "save": "save", "-S": "save", "restore": "restore", "-R": "restore", "flush": "flush", "-F": "flush", "rename": "rename",
            "-E": "rename", "swap": "swap", "-W": "swap", "version": "version", "-v": "version", "--version": "version", "help": "help",
            "-h": "help", "--help": "help"}
BITMAP_MOST = 65536
ORDINALS = ("First", "Second", "Third")
NUMBERS = ("hashsize", "maxelem", "netmask", "timeout", "size", "bucketsize", "initval", "probes", "resize")


def _product(choices: Sequence[Sequence[Any]]) -> Iterator[Key]:
    """All combinations, one at a time: a range of addresses may be long."""
    if not choices:
        yield ()
        return
    for value in choices[0]:
        for rest in _product(choices[1:]):
            yield (value, *rest)


class Usage(Exception):
    """A command line that is none: exit 2, and where there is help."""


class Tool:
    """One run. `exist`: what is there already, or not any more, is no error."""

    def __init__(self, proc: Process) -> None:
        self.proc = proc
        self.net: NetNamespace = proc.net
        self.sets = ip_sets(proc.net)
        self.most = 1 << 32  # elements that one line may add
        self.exist = self.quiet = self.names = self.terse = self.sort = False
        self.output = "plain"
        self.file = ""

    def run(self, words: list[str]) -> int:
        """One command. Raises SetError, Usage."""
        words = self._options(words)
        if not words:
            raise Usage("No command specified.")
        command = COMMANDS.get(words[0])
        if command is None:
            raise Usage(f"No command specified: unknown argument {words[0]}")
        args = words[1:]
        needs = {"create": 2, "add": 2, "del": 2, "test": 2, "rename": 2, "swap": 2}.get(command, 0)
        if len(args) < needs:
            raise Usage(f"Missing {'second ' if args else ''}mandatory argument to command {command}")
        act: Callable[[list[str]], int | None] = getattr(self, f"_{command}")
        return act(args) or 0

    def _options(self, words: list[str]) -> list[str]:
        out: list[str] = []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word in ("-exist", "-!", "--exist"):
                self.exist = True
            elif word in ("-q", "-quiet", "--quiet"):
                self.quiet = True
            elif word in ("-n", "-name", "--name") and out:
                self.names = True
            elif word in ("-t", "-terse", "--terse"):
                self.terse = True
            elif word in ("-s", "-sorted", "--sorted"):
                self.sort = True
            elif word in ("-o", "-output", "--output") and rest:
                self.output = rest.pop(0)
            elif word in ("-f", "-file", "--file") and rest:
                self.file = rest.pop(0)
            elif word not in ("-r", "-resolve", "--resolve"):
                out.append(word)
        return out

    def _set(self, name: str) -> IpSet:
        found = self.sets.get(name)
        if found is None:
            raise SetError(NO_SET)
        return found

    # ---- sets

    def _create(self, args: list[str]) -> None:
        name, type_ = args[0], args[1].replace("iphash", "hash:ip").replace("nethash", "hash:net")
        if len(name) > MAXNAMELEN:
            raise SetError(f"Syntax error: setname '{name}' is longer than {MAXNAMELEN} characters")
        if type_ not in TYPES and type_ not in UNSUPPORTED:
            raise SetError(f"Syntax error: typename '{type_}' is unknown")
        made = IpSet(name, type_)
        self._settings(made, args[2:])
        if type_ in UNSUPPORTED:
            raise SetError("Kernel error received: set type not supported")
        if (old := self.sets.get(name)) is not None:
            if not self.exist or old.type != type_ or old.family != made.family:
                raise SetError("Set cannot be created: set with the same name already exists")
            return
        made.initval = made.initval or initval(self.net, name)
        self.sets[name] = made

    def _settings(self, made: IpSet, words: list[str]) -> None:
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word in ("counters", "comment", "forceadd", "skbinfo"):
                if word in ("counters", "comment"):
                    setattr(made, word, True)
            elif word in ("family", "-4", "-6", "inet", "inet6"):
                value = rest.pop(0) if word == "family" and rest else word
                made.family = AF_INET6 if value in ("inet6", "-6") else AF_INET
            elif word == "range" and made.type.startswith("bitmap") and rest:
                made.range = self._range(made, rest.pop(0))
            elif word in NUMBERS and rest:
                self._number(made, word, rest.pop(0))
            else:
                raise Usage(f"Unknown argument: `{word}'")
        if made.type.startswith("bitmap") and made.range == (0, 0):
            raise Usage("Mandatory option `range' is missing")

    def _number(self, made: IpSet, word: str, text: str) -> None:
        if not text.isdigit() and not text.lower().startswith("0x"):
            raise SetError(f"Syntax error: '{text}' is invalid as number")
        value = int(text, 0)
        if word == "hashsize":
            value = max(64, 1 << max(value - 1, 0).bit_length())
        if hasattr(made, word):
            setattr(made, word, value)

    def _range(self, made: IpSet, text: str) -> tuple[int, int]:
        if made.type == "bitmap:port":
            low, _, high = text.partition("-")
            return self._port(low), self._port(high or low)
        addrs = self._addresses(made, text)
        if addrs.stop - addrs.start > BITMAP_MOST:
            raise SetError("The range you specified exceeds the size limit of the set type")
        return addrs[0], addrs[-1]

    def _destroy(self, args: list[str]) -> None:
        names = args[:1] or list(self.sets)
        for name in names:
            self._set(name)
            if references(self.net, name):
                raise SetError("Set cannot be destroyed: it is in use by a kernel component")
        for name in names:
            del self.sets[name]

    def _flush(self, args: list[str]) -> None:
        for name in args[:1] or list(self.sets):
            self._set(name).members.clear()

    def _rename(self, args: list[str]) -> None:
        found = self._set(args[0])
        if args[1] in self.sets:
            raise SetError("Set cannot be renamed: a set with the new name already exists")
        if references(self.net, args[0]):
            raise SetError("Set cannot be renamed: it is in use by another system")
        found.name = args[1]
        renamed = {each.name: each for each in self.sets.values()}
        self.sets.clear()
        self.sets.update(renamed)

    def _swap(self, args: list[str]) -> None:
        one = self._set(args[0])
        two = self.sets.get(args[1])
        if two is None:
            raise SetError("Sets cannot be swapped: the second set does not exist")
        if one.type != two.type or one.family != two.family:
            raise SetError("The sets cannot be swapped: their type does not match")
        one.name, two.name = two.name, one.name
        self.sets[one.name], self.sets[two.name] = one, two

    # ---- elements

    def _add(self, args: list[str]) -> None:
        found = self._set(args[0])
        member = self._extensions(found, args[2:])
        for number, key in enumerate(self._elements(found, args[1])):
            if number >= self.most:
                raise SetError(f"more than {self.most} elements in one line")
            own = Member(member.expires, member.packets, member.bytes, member.comment, member.nomatch)
            found.add(key, own, self.net.loop.now, self.exist)

    def _del(self, args: list[str]) -> None:
        found = self._set(args[0])
        for key in self._elements(found, args[1]):
            found.remove(key, self.net.loop.now, self.exist)

    def _test(self, args: list[str]) -> int:
        found = self._set(args[0])
        key = next(self._elements(found, args[1]))
        member = found.find(key, self.net.loop.now)
        text = self._text(found, key)
        if member is None or member.nomatch:
            if not self.quiet:
                self.proc.err(f"{text} is NOT in set {found.name}.\n")
            return 1
        if not self.quiet:
            self.proc.err(f"Warning: {text} is in set {found.name}.\n")
        return 0

    def _extensions(self, found: IpSet, words: list[str]) -> Member:
        member = Member(expiry(self.net, found.timeout), comment=None)
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "nomatch" and "net" in found.parts:
                member.nomatch = True
            elif word in ("timeout", "packets", "bytes", "comment") and rest:
                self._extension(found, member, word, rest.pop(0))
            elif word in ("before", "after") and rest and found.type == "list:set":
                self._set(rest.pop(0))
            else:
                raise Usage(f"Unknown argument: `{word}'")
        return member

    def _extension(self, found: IpSet, member: Member, word: str, text: str) -> None:
        if word == "comment":
            if not found.comment:
                raise SetError("Comment cannot be used: set was created without comment support")
            member.comment = text
            return
        if not text.isdigit():
            raise SetError(f"Syntax error: '{text}' is invalid as number")
        if word == "timeout":
            if found.timeout is None:
                raise SetError("Timeout cannot be used: set was created without timeout support")
            member.expires = expiry(self.net, int(text))
        elif not found.counters:
            raise SetError("Packet/byte counters cannot be used: set was created without counter support")
        else:
            setattr(member, word, int(text))

    def _elements(self, found: IpSet, text: str) -> Iterator[Key]:
        """The elements that a text means: ranges and prefixes of addresses, ranges of ports are all of theirs. Raises SetError."""
        if found.type == "list:set":
            self._set(text)
            yield (text,)
            return
        words = text.split(",")
        if len(words) < len(found.parts):
            raise SetError(f"Syntax error: {ORDINALS[len(words)]} element is missing from {text}.")
        if len(words) > len(found.parts):
            raise SetError(f"Syntax error: Elem separator in {text}, but settype {found.type} supports none.")
        choices: list[Sequence[Any]] = []
        for part, word in zip(found.parts, words, strict=True):
            if part == "ip":
                choices.append(self._stepped(found, self._addresses(found, word)))
            elif part == "net":
                choices.append([self._network(found, word)])
            elif part == "port":
                choices.append(self._ports(found, word))
            else:
                choices.append([int(word, 0) if part == "mark" else word])
        yield from _product(choices)

    def _stepped(self, found: IpSet, addrs: range) -> range:
        """One address of each network, if the set cuts addresses to a netmask."""
        if not found.netmask:
            return addrs
        step = 1 << (BITS[found.family] - found.netmask)
        return range(addrs.start // step * step, addrs.stop, step)

    def _address(self, found: IpSet, text: str) -> int:
        try:
            return ip4(text) if found.family == AF_INET else ip6(text)
        except ValueError:
            kind = "IPv4" if found.family == AF_INET else "IPv6"
            raise SetError(f"Syntax error: cannot parse {text}: resolving to {kind} address failed") from None

    def _addresses(self, found: IpSet, text: str) -> range:
        if "/" in text:
            base, plen = self._network(found, text)
            return range(base, base + (1 << (BITS[found.family] - plen)))
        low, dash, high = text.partition("-")
        first = self._address(found, low)
        return range(first, (self._address(found, high) if dash else first) + 1)

    def _network(self, found: IpSet, text: str) -> tuple[int, int]:
        host, slash, length = text.partition("/")
        bits = BITS[found.family]
        addr = self._address(found, host)
        if slash and not (length.isdigit() and int(length) <= bits):
            raise SetError(f"Syntax error: '{length}' is out of range 0-{bits}")
        plen = int(length) if slash else bits
        if not plen:
            raise SetError("The value of the CIDR parameter of the IP address is invalid")
        return addr >> (bits - plen) << (bits - plen), plen

    def _port(self, text: str, proto: str = "tcp") -> int:
        if text.isdigit() and int(text) <= 65535:
            return int(text)
        found = service_port(self.proc, text)
        if found is None:
            raise SetError(f"Syntax error: cannot parse '{text}' as a {proto.upper()} port")
        return found

    def _ports(self, found: IpSet, text: str) -> list[Any]:
        proto, colon, rest = text.rpartition(":")
        proto = proto if colon else "tcp"
        number = PROTOCOLS.get(proto, int(proto) if proto.isdigit() else -1)
        if number < 0:
            raise SetError(f"Syntax error: cannot parse '{proto}' as a protocol")
        if number in (1, 58):
            kind, _, code = rest.partition("/")
            value = ICMP_NAMES.get(rest, -1) if not kind.isdigit() else int(kind) << 8 | int(code or 0)
            if value < 0:
                raise SetError(f"Syntax error: cannot parse '{rest}' as an ICMP type/code")
            return [(number, value)]
        low, dash, high = rest.partition("-")
        first = self._port(low, proto)
        ports = range(first, (self._port(high, proto) if dash else first) + 1)
        return [(port if found.type == "bitmap:port" else (number, port)) for port in ports]

    # ---- printing

    def _text(self, found: IpSet, key: Key) -> str:
        out = []
        for part, value in zip(found.parts, key, strict=True):
            if part == "ip":
                out.append(fmt(value, found.family))
            elif part == "net":
                whole = value[1] == BITS[found.family]
                out.append(fmt(value[0], found.family) + ("" if whole else f"/{value[1]}"))
            elif part == "port" and isinstance(value, tuple):
                name = next((n for n, number in PROTOCOLS.items() if number == value[0]), str(value[0]))
                port = ICMP_TEXT.get(value[1], f"{value[1] >> 8}/{value[1] & 255}") if value[0] in (1, 58) else value[1]
                out.append(f"{name}:{port}")
            else:
                out.append(f"0x{value:08x}" if part == "mark" else str(value))
        return ",".join(out)

    def _line(self, found: IpSet, key: Key, member: Member) -> str:
        out = self._text(found, key)
        if found.timeout is not None:
            out += f" timeout {(member.expires - self.net.loop.now) // SEC if member.expires else 0}"
        out += " nomatch" if member.nomatch else ""
        out += f" packets {member.packets} bytes {member.bytes}" if found.counters else ""
        return out + (f' comment "{member.comment}"' if member.comment is not None else "")

    def _header(self, found: IpSet) -> str:
        extensions = f" timeout {found.timeout}" if found.timeout is not None else ""
        extensions += " counters" * found.counters + " comment" * found.comment
        if found.type == "list:set":
            return f"size {found.size}{extensions}"
        if found.type.startswith("bitmap"):
            low, high = (str(p) if found.type == "bitmap:port" else fmt(p, AF_INET) for p in found.range)
            return f"range {low}-{high}{extensions}"
        netmask = f" netmask {found.netmask}" if found.netmask else ""
        family = "inet" if found.family == AF_INET else "inet6"
        return (f"family {family} hashsize {found.hashsize} maxelem {found.maxelem}{netmask}{extensions} "
                f"bucketsize {found.bucketsize} initval {found.initval:#x}")

    def _chosen(self, args: list[str]) -> list[IpSet]:
        return [self._set(args[0])] if args else list(self.sets.values())

    def _list(self, args: list[str]) -> int | None:
        if self.output == "save":
            return self._save(args)
        blocks = []
        for found in self._chosen(args):
            if self.names:
                blocks.append(found.name + "\n")
                continue
            now = self.net.loop.now
            alive = found.alive(now)
            text = (f"Name: {found.name}\nType: {found.type}\nRevision: {TYPES[found.type][0]}\nHeader: {self._header(found)}\n"
                    f"Size in memory: {found.memory(now)}\nReferences: {references(self.net, found.name)}\n"
                    f"Number of entries: {len(alive)}\n")
            if not self.terse:
                rows = [self._line(found, key, member) + "\n" for key, member in (sorted(alive) if self.sort else alive)]
                text += "Members:\n" + "".join(rows)
            blocks.append(text)
        self._put("".join(blocks) if self.names else "\n".join(blocks))
        return None

    def _save(self, args: list[str]) -> int | None:
        out = ""
        for found in self._chosen(args):
            out += f"create {found.name} {found.type} {self._header(found)}\n"
            alive = found.alive(self.net.loop.now)
            out += "".join(f"add {found.name} {self._line(found, key, m)}\n" for key, m in (sorted(alive) if self.sort else alive))
        self._put(out)
        return None

    def _put(self, text: str) -> None:
        if self.file:
            self.proc.vfs.write(self.file, text.encode())
        else:
            self.proc.out(text)

    def _restore(self, args: list[str]) -> int | None:
        text = self.proc.read_file(self.file) if self.file else self.proc.read_stdin()
        for number, line in enumerate(text.decode(errors="replace").splitlines(), start=1):
            if not line.strip() or line.startswith("#") or line.strip() == "COMMIT":
                continue
            try:
                self.run(shlex.split(line))
            except (SetError, ValueError) as error:
                raise SetError(f"Error in line {number}: {error}") from None
        return None

    def _version(self, args: list[str]) -> None:
        self.proc.out(f"{VERSION}, protocol version: 7\n")

    def _help(self, args: list[str]) -> None:
        self.proc.out(f"{VERSION}\n\nUsage: ipset [options] COMMAND\n\nCommands: create add del test destroy list save restore flush "
                      "rename swap\n"
                      f"Types: {' '.join(TYPES)}\n")


@tool("ipset")
def ipset(proc: Process, argv: list[str]) -> int:
    """ipset create|add|del|test|list|save|restore|flush|rename|swap|destroy ..."""
    try:
        return Tool(proc).run(argv[1:])
    except SetError as error:
        proc.err(f"{VERSION}: {error}\n")
        return 1
    except Usage as error:
        proc.err(f"{VERSION}: {error}\nTry `ipset help' for more information.\n")
        return 2
