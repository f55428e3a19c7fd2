"""The conntrack command, version 1.4.7: -L -G -D -I -A -F -C -S -V -h with their filters and error texts.

    conntrack_command(net, ["-L", "-p", "udp", "-d", "10.96.0.10"]) -> (exit code, stdout, stderr)

The listing goes to stdout, "N flow entries have been shown." to stderr, as the real one does; 0 entries deleted is
exit 1. Options and their texts were read off the real tool. -E is the caller's loop: it follows net.watchers and prints
event_line(). Left out: -U, -R and -M, the expectation table (always empty: no helpers).

Sources: conntrack-tools 1.4.7 src/conntrack.c, its manual page and its output on Linux 6.18.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubenet.kernel.netfilter.conntrack.entry import IPS_ASSURED, IPS_EXPECTED, IPS_FIXED_TIMEOUT, IPS_SEEN_REPLY, NfConn
from kubenet.kernel.netfilter.conntrack.select import Filter, matches, select
from kubenet.kernel.netfilter.conntrack.table import STATS
from kubenet.kernel.netfilter.conntrack.text import conntrack_line, save_line
from kubenet.kernel.netfilter.conntrack.tool_create import create, xml
from kubenet.kernel.netfilter.conntrack.tuple import AF_INET, AF_INET6
from kubenet.kernel.netfilter.core import nf_ready
from kubenet.wire.addr import parse_addr, parse_cidr

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

VERSION = "conntrack v1.4.7 (conntrack-tools)"
TRY = "Try `conntrack -h' or 'conntrack --help' for more information.\n"
PROTOCOLS = {"tcp": 6, "udp": 17, "udplite": 136, "sctp": 132, "icmp": 1, "icmpv6": 58, "dccp": 33, "gre": 47}
STATES = ("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "LISTEN")
STATUS_BITS = {"ASSURED": IPS_ASSURED, "SEEN_REPLY": IPS_SEEN_REPLY, "FIXED_TIMEOUT": IPS_FIXED_TIMEOUT,
               "EXPECTED": IPS_EXPECTED, "UNSET": 0, "UNREPLIED": 0, "SRC_NAT": 0, "DST_NAT": 0, "OFFLOAD": 1 << 14, "HW_OFFLOAD": 1 << 15}
OUTPUTS = ("xml", "extended", "timestamp", "id", "ktimestamp", "labels", "userspace", "save")

COMMANDS = {"-I": "I", "--create": "I", "-A": "A", "--add": "A",
            "-L": "L", "--dump": "L", "-G": "G", "--get": "G", "-D": "D", "--delete": "D", "-F": "F", "--flush": "F",
            "-C": "C", "--count": "C", "-S": "S", "--stats": "S", "-E": "E", "--event": "E", "-V": "V", "--version": "V",
            "-h": "h", "--help": "h"}
# spelling -> (field, takes a value: 0 no, 1 yes, 2 perhaps)
OPTIONS = {
    "-s": ("orig_src", 1), "--src": ("orig_src", 1), "--orig-src": ("orig_src", 1),
    "-d": ("orig_dst", 1), "--dst": ("orig_dst", 1), "--orig-dst": ("orig_dst", 1),
    "-r": ("reply_src", 1), "--reply-src": ("reply_src", 1), "-q": ("reply_dst", 1), "--reply-dst": ("reply_dst", 1),
    "-p": ("proto", 1), "--protonum": ("proto", 1), "--proto": ("proto", 1), "-f": ("family", 1), "--family": ("family", 1),
    "-m": ("mark", 1), "--mark": ("mark", 1), "-w": ("zone", 1), "--zone": ("zone", 1), "-u": ("status", 1),
    "--status": ("status", 1), "-o": ("output", 1), "--output": ("output", 1), "-e": ("events", 1),
    "--event-mask": ("events", 1), "-z": ("zero", 0), "--zero": ("zero", 0), "-n": ("snat", 2), "--src-nat": ("snat", 2),
    "-g": ("dnat", 2), "--dst-nat": ("dnat", 2), "-j": ("any_nat", 2), "--any-nat": ("any_nat", 2), "-b": ("buffer", 1),
    "-t": ("timeout", 1), "--timeout": ("timeout", 1),
    "--buffer-size": ("buffer", 1), "--mask-src": ("mask_src", 1), "--mask-dst": ("mask_dst", 1),
}
PORT_OPTIONS = {
    "--sport": "sport", "--orig-port-src": "sport", "--dport": "dport", "--orig-port-dst": "dport",
    "--reply-port-src": "reply_sport", "--reply-port-dst": "reply_dport",
}
PROTO_OPTIONS = {6: {**PORT_OPTIONS, "--state": "state"}, 17: PORT_OPTIONS, 136: PORT_OPTIONS,
                 1: {"--icmp-type": "icmp_type", "--icmp-code": "icmp_code", "--icmp-id": "icmp_id"}}
TABLES = ("conntrack", "expect", "dying", "unconfirmed")


class UsageError(Exception):
    """What the tool says before it exits with `code`."""

    def __init__(self, text: str, code: int = 2) -> None:
        super().__init__(text)
        self.code = code


class Request:
    """A parsed command line."""

    __slots__ = ("command", "table", "want", "output", "zero", "events", "used", "timeout")

    def __init__(self) -> None:
        self.command: str = ""
        self.table: str = "conntrack"
        self.want = Filter()
        self.output: tuple[str, ...] = ()
        self.zero: bool = False
        self.events: tuple[str, ...] = ("NEW", "UPDATE", "DESTROY")
        self.used: list[str] = []
        self.timeout: int | None = None


# -- the command line

def parse(argv: list[str]) -> Request:
    """The request; UsageError with the real text. Tool: do_parse()."""
    req, args = Request(), list(argv)
    _find_protocol(req, args)
    while args:
        word = args.pop(0)
        value: str | None = None
        if word.startswith("--") and "=" in word:
            word, _, value = word.partition("=")
        if word in COMMANDS:
            if req.command:
                raise UsageError("Invalid commands combination")
            req.command = COMMANDS[word]
            if req.command in "LGDEFC" and args and not args[0].startswith("-"):
                req.table = args.pop(0)
                if req.table not in TABLES:
                    raise UsageError(f"unknown type `{req.table}'")
        elif word.startswith("-"):
            _option(req, word, value, args)
    return req


def _find_protocol(req: Request, args: list[str]) -> None:
    """-p counts wherever it stands, since the options after it depend on it. Tool: do_parse()'s first case."""
    for at, word in enumerate(args):
        if word in ("-p", "--protonum", "--proto") and at + 1 < len(args):
            req.want.proto = protocol(args[at + 1])


def protocol(text: str) -> int:
    """The number of a protocol. Tool: findproto()."""
    if text.isdigit() and int(text) < 256:
        return int(text)
    if text.lower() not in PROTOCOLS:
        raise UsageError(f"`{text}' unsupported protocol")
    return PROTOCOLS[text.lower()]


def _option(req: Request, word: str, value: str | None, args: list[str]) -> None:
    """One option is in the request."""
    field = PROTO_OPTIONS.get(req.want.proto or 0, {}).get(word)
    known = (field, 1) if field is not None else OPTIONS.get(word)
    if known is None:
        raise UsageError(f"unknown option `{word}'")
    name, takes = known
    req.used.append(word)
    if takes == 1 and value is None:
        if not args:
            raise UsageError(f"option `{word}' requires an argument")
        value = args.pop(0)
    if takes == 2 and value is None and args and not args[0].startswith("-"):
        value = args.pop(0)
    _set(req, name, value or "")


def _set(req: Request, name: str, text: str) -> None:
    """A field of the request has the option's value."""
    want = req.want
    if name in ("orig_src", "orig_dst", "reply_src", "reply_dst"):
        setattr(want, name, _network(req, text))
    elif name in ("mask_src", "mask_dst"):
        field = "orig_src" if name == "mask_src" else "orig_dst"
        net = getattr(want, field)
        if net is not None:
            setattr(want, field, (net[0], bin(_address(text)[1]).count("1")))
    elif name in ("snat", "dnat", "any_nat"):
        host, _, port = text.partition(":") if text.count(":") == 1 else (text, "", "")
        setattr(want, name, (_address(host)[1], *([_number(port)] if port else [])) if text else ())
    elif name == "family":
        if text not in ("ipv4", "ipv6"):
            raise UsageError(f"`{text}' unsupported protocol")
        family = AF_INET if text == "ipv4" else AF_INET6
        if want.family not in (None, family):
            raise UsageError("mismatched address family")
        want.family = family
    elif name == "mark":
        mark, _, mask = text.partition("/")
        want.mark = (_number(mark), _number(mask) if mask else 0xFFFFFFFF)
    elif name == "status":
        words = _words(text, tuple(STATUS_BITS))
        want.status, want.unreplied = sum({STATUS_BITS[w] for w in words}), "UNREPLIED" in words
    elif name == "output":
        req.output += _words(text.lower(), OUTPUTS)
    elif name == "events":
        asked = _words(text.upper(), ("ALL", "NEW", "UPDATES", "DESTROY"))
        names = {"ALL": ("NEW", "UPDATE", "DESTROY"), "UPDATES": ("UPDATE",)}
        req.events = tuple(name for word in asked for name in names.get(word, (word,)))
    elif name == "state":
        if text.upper() not in STATES:
            raise UsageError(f"unknown TCP state `{text}'")
        want.state = "SYN_SENT2" if text.upper() == "LISTEN" else text.upper()
    elif name == "timeout":
        req.timeout = _number(text)
    elif name == "zero":
        req.zero = True
    elif name not in ("buffer", "proto"):
        setattr(want, name, _number(text))


def _words(text: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    words = tuple(text.split(","))
    for word in words:
        if word not in allowed:
            raise UsageError(f"Bad parameter `{word}'")
    return words


def _number(text: str) -> int:
    """As strtoul(text, NULL, 0): what is no number is 0."""
    try:
        return int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError:
        return 0


def _address(text: str) -> tuple[int, int]:
    try:
        return parse_addr(text)
    except ValueError:
        raise UsageError(f"Invalid IP address `{text}'") from None


def _network(req: Request, text: str) -> tuple[int, int]:
    """-s and -d take a prefix; the family follows from the address."""
    family = _address(text.partition("/")[0])[0]
    if req.want.family not in (None, family):
        raise UsageError("mismatched address family")
    req.want.family = family
    try:
        return parse_cidr(text)
    except ValueError:
        raise UsageError(f"Invalid CIDR `{text}'") from None


# -- the commands

def conntrack_command(net: NetNamespace, argv: list[str]) -> tuple[int, str, str]:
    """What the tool prints and its exit code. -E returns at once: the caller follows the events."""
    nf_ready(net)
    try:
        req = parse(argv)
        if req.want.family is None:
            req.want.family = AF_INET if req.command != "E" else None
        if req.command in ("C", "S", "F") and req.used:
            option = {"-p": "--protonum"}.get(req.used[0], req.used[0])
            raise UsageError(f"Illegal option `{option}' with this command")
        return _COMMANDS[req.command](net, req)
    except UsageError as error:
        return error.code, "", f"{VERSION}: {error}\n" + (TRY if error.code == 2 else "")


def _entries(net: NetNamespace, req: Request) -> list[NfConn]:
    if net.ct is None or req.table != "conntrack":
        return []
    return select(net.ct.entries(), req.want)


def _lines(net: NetNamespace, req: Request, entries: list[NfConn]) -> str:
    now = net.loop.now
    if "xml" in req.output:
        return xml(entries, now)
    if "save" in req.output:
        return "".join(save_line(ct, now) + "\n" for ct in entries)
    return "".join(conntrack_line(ct, now, req.output) + "\n" for ct in entries)


def _done(count: int, what: str) -> str:
    return f"{VERSION}: {count} {what}.\n"


def _list(net: NetNamespace, req: Request) -> tuple[int, str, str]:
    entries = _entries(net, req)
    if req.table == "expect":
        return 0, "", _done(0, "expectations have been shown")
    text = _lines(net, req, entries)
    for ct in entries if req.zero else ():
        if ct.packets is not None:
            ct.packets, ct.bytes = [0, 0], [0, 0]
    return 0, text, _done(len(entries), "flow entries have been shown")


def _get(net: NetNamespace, req: Request) -> tuple[int, str, str]:
    want = req.want
    if want.proto is None:
        raise UsageError("You need to supply the `--protonum' option for this command")
    if (want.orig_src is None or want.orig_dst is None) and (want.reply_src is None or want.reply_dst is None):
        raise UsageError("you have to specify `--src' and `--dst'")
    entries = _entries(net, req)[:1]
    if not entries:
        raise UsageError("Operation failed: such conntrack doesn't exist", 1)
    held = _lines(net, req, entries).replace(" use=1", " use=2")  # by the answer that is being written
    return 0, held, _done(1, "flow entries have been shown")


def _create(net: NetNamespace, req: Request) -> tuple[int, str, str]:
    """-I, and -A, which says it in another word. Tool: do_command_ct() CT_CREATE, CT_ADD."""
    want = req.want
    for option, value in (("protonum", want.proto), ("timeout", req.timeout)):
        if value is None:
            raise UsageError(f"You need to supply the `--{option}' option for this command")
    if want.orig_src is None or want.orig_dst is None:
        raise UsageError("you have to specify `--src' and `--dst'")
    if want.proto == 6 and want.state is None:
        raise UsageError("You need to supply the `--state' option for this command")
    if want.proto in (6, 17, 132, 136) and (want.sport is None or want.dport is None):
        raise UsageError("you have to specify `--sport' and `--dport'")
    assert req.timeout is not None
    made = net.ct is not None and create(net, want, req.timeout) is not None
    if req.command == "A":
        return 0, "", _done(int(made), "flow entries have been added")
    if not made:
        raise UsageError("Operation failed: Such conntrack exists, try -U to update", 1)
    return 0, "", _done(1, "flow entries have been created")


def _delete(net: NetNamespace, req: Request) -> tuple[int, str, str]:
    entries = _entries(net, req)
    text = _lines(net, req, entries)
    for ct in entries:
        net.ct.delete(ct)
    return (0 if entries else 1), text, _done(len(entries), "flow entries have been deleted")


def _flush(net: NetNamespace, req: Request) -> tuple[int, str, str]:
    if net.ct is not None and req.table == "conntrack":
        net.ct.flush()
    name = "expectation" if req.table == "expect" else "connection tracking"
    return 0, "", f"{VERSION}: {name} table has been emptied.\n"


def _count(net: NetNamespace, req: Request) -> tuple[int, str, str]:
    return 0, f"{net.ct.count if net.ct is not None and req.table == 'conntrack' else 0}\n", ""


def _stats(net: NetNamespace, req: Request) -> tuple[int, str, str]:
    """One line per CPU; everything here happens on the first. Tool: nfct_stats_cb()."""
    lines = []
    for cpu in range(net.host.cpus):
        stats = net.ct.stats if cpu == 0 and net.ct is not None else dict.fromkeys(STATS, 0)
        lines.append(f"cpu={cpu:<4}\t" + "".join(f"{name}={stats[name]} " for name in STATS) + "\n")
    return 0, "".join(lines), ""


def _version(net: NetNamespace, req: Request) -> tuple[int, str, str]:
    return 0, VERSION + "\n", ""


def _help(net: NetNamespace, req: Request) -> tuple[int, str, str]:
    return 0, HELP, ""


def _events(net: NetNamespace, req: Request) -> tuple[int, str, str]:
    return 0, "", ""


def event_line(net: NetNamespace, argv: list[str], event: str, ct: NfConn) -> str:
    """The line of `conntrack -E` for an event of net.watchers, or "" if argv does not ask for it. Tool: event_cb()."""
    req = parse(argv)
    if event not in req.events or not matches(ct, req.want):
        return ""
    return conntrack_line(ct, net.loop.now, req.output, event)


_COMMANDS = {"I": _create, "A": _create,
             "L": _list, "G": _get, "D": _delete, "F": _flush, "C": _count, "S": _stats, "E": _events, "V": _version,
             "h": _help, "": _help}

HELP = """Command line interface for the connection tracking system. Version 1.4.7
Usage: conntrack [commands] [options]

Commands:
  -L [table] [options]\t\tList conntrack or expectation table
  -G [table] parameters\t\tGet conntrack or expectation
  -D [table] parameters\t\tDelete conntrack or expectation
  -I [table] parameters\t\tCreate a conntrack or expectation
  -E [table] [options]\t\tShow events
  -F [table]\t\t\tFlush table
  -C [table]\t\t\tShow counter
  -S\t\t\t\tShow statistics

Tables: conntrack, expect, dying, unconfirmed

Conntrack parameters and options:
  -n, --src-nat ip\t\t\tsource NAT ip
  -g, --dst-nat ip\t\t\tdestination NAT ip
  -j, --any-nat ip\t\t\tsource or destination NAT ip
  -m, --mark mark\t\t\tSet mark
  -e, --event-mask eventmask\t\tEvent mask, eg. NEW,DESTROY
  -z, --zero \t\t\t\tZero counters while listing
  -o, --output type[,...]\t\tOutput format, eg. xml

Common parameters and options:
  -s, --src, --orig-src ip\t\tSource address from original direction
  -d, --dst, --orig-dst ip\t\tDestination address from original direction
  -r, --reply-src ip\t\tSource address from reply direction
  -q, --reply-dst ip\t\tDestination address from reply direction
  -p, --protonum proto\t\tLayer 4 Protocol, eg. 'tcp'
  -f, --family proto\t\tLayer 3 Protocol, eg. 'ipv6'
  -t, --timeout timeout\t\tSet timeout
  -u, --status status\t\tSet status, eg. ASSURED
  -w, --zone value\t\tSet conntrack zone
  --mask-src ip\t\t\tSource mask address
  --mask-dst ip\t\t\tDestination mask address
"""
