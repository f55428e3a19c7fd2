"""dig, host, nslookup, getent: questions to DNS and to the resolver.

dig prints BIND 9.18's text: header, OPT, question, sections, query time in virtual ms, server, WHEN. nslookup is BIND's as well.
Source: dig(1), observed output.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kubenet.units import MSEC, SEC
from kubenet.userland.process import Process
from kubenet.userland.resolver import (
    ResolveError,
    ask_tcp,
    ask_udp,
    candidates,
    hosts_lines,
    lookup,
    query,
    read_resolv_conf,
    reverse_lookup,
    reverse_name,
)
from kubenet.userland.tools import tool
from kubenet.userland.tools.coreutils import format_time
from kubenet.wire import dns
from kubenet.wire.addr import ip4_text, ip6_text
from kubenet.wire.dns import RCODE_NAMES, TYPE_NAMES, TYPE_NUMBERS, DnsMessage, Question, Record, build_dns

VERSION = "9.18.33"


def data_text(record: Record) -> str:
    """A record's data as in a zone file."""
    kind, data = record.type, record.data
    if kind == dns.A:
        return ip4_text(data)
    if kind == dns.AAAA:
        return ip6_text(data)
    if kind in (dns.CNAME, dns.NS, dns.PTR):
        return str(data)
    if kind in (dns.SRV, dns.MX, dns.SOA):
        return " ".join(str(part) for part in data)
    if kind == dns.TXT:
        return " ".join('"' + part.decode("utf-8", "replace").replace('"', '\\"') + '"' for part in data)
    raw = bytes(data)
    return f"\\# {len(raw)} {raw.hex().upper()}"


COLUMNS = (24, 32, 40, 48)  # where TTL, class, type and data begin


def aligned(fields: list[str], columns: tuple[int, ...]) -> str:
    """Fields at columns, with tabs of 8 where they help and one blank where a field is too long. BIND: indent() (masterdump.c)."""
    out, at = fields[0], len(fields[0])
    for text, column in zip(fields[1:], columns, strict=True):
        to = max(column, at + 1)
        tabs = to // 8 - at // 8
        if tabs > 0:
            at = to // 8 * 8
        out += "\t" * tabs + " " * (to - at) + text
        at = to + len(text)
    return out


def record_line(record: Record) -> str:
    """name TTL class type data, as dig aligns them."""
    return aligned([record.name, str(record.ttl), "IN", TYPE_NAMES.get(record.type, f"TYPE{record.type}"), data_text(record)], COLUMNS)


@dataclass
class Query:
    """What to ask, and how to print it."""

    name: str = "."
    type: int = dns.A
    server: str = ""
    port: int = 53
    short: bool = False
    tcp: bool = False
    search: bool = False
    timeout: int = 5
    tries: int = 3
    recurse: bool = True
    edns: bool = True
    hide: set[str] = field(default_factory=set)


def parse_args(proc: Process, args: list[str]) -> Query | None:
    """dig's command line; None after a message."""
    q = Query()
    named = False
    while args:
        arg = args.pop(0)
        if arg.startswith("@"):
            q.server = arg[1:]
        elif arg.startswith("+"):
            _plus(q, arg[1:])
        elif arg in ("-t", "-q", "-p", "-x", "-c", "-b"):
            value = args.pop(0) if args else ""
            if arg == "-t":
                q.type = TYPE_NUMBERS.get(value.upper(), q.type)
            elif arg == "-x":
                q.name, q.type, named = reverse_name(value), dns.PTR, True
            elif arg == "-p":
                q.port = int(value)
            elif arg == "-q":
                q.name, named = value, True
        elif arg in ("-4", "-6"):
            continue
        elif arg.upper() in TYPE_NUMBERS:  # in any case, before the name, too (dighost.c parse_args())
            q.type = TYPE_NUMBERS[arg.upper()]
        elif arg.upper() == "IN":
            continue
        elif arg.startswith("-"):
            proc.err(f"Invalid option: {arg}\nUsage:  dig [@global-server] [domain] [q-type] [q-class] {{q-opt}}\n")
            return None
        else:
            q.name, named = arg, True
    if not named and q.type == dns.A:
        q.type = dns.NS
    return q


def _plus(q: Query, option: str) -> None:
    no = option.startswith("no")
    name, _, value = option.removeprefix("no").partition("=")
    if name == "short":
        q.short = not no
    elif name in ("tcp", "vc"):
        q.tcp = not no
    elif name in ("search", "defname"):
        q.search = not no
    elif name in ("time", "timeout"):
        q.timeout = int(value)
    elif name == "tries":
        q.tries = int(value)
    elif name == "retry":
        q.tries = int(value) + 1
    elif name in ("rec", "recurse"):
        q.recurse = not no
    elif name == "edns":
        q.edns = not no
    elif name == "all":
        sections = {"cmd", "comments", "question", "answer", "authority", "additional", "stats"}
        q.hide = sections if no else set()
    elif no:
        q.hide.add(name)
    else:
        q.hide.discard(name)


@tool("dig")
def dig(proc: Process, argv: list[str]) -> int:
    """dig [@SERVER] [NAME] [TYPE] [-x ADDRESS] [+short +search +tcp +time=N +tries=N +noall +answer ...]"""
    q = parse_args(proc, argv[1:])
    if q is None:
        return 1
    conf = read_resolv_conf(proc)
    servers = conf.servers
    if q.server:
        try:
            servers = [lookup(proc, q.server)[0][0][1]]
        except ResolveError:
            proc.out(f"dig: couldn't get address for '{q.server}': not found\n")
            return 10
    if not q.short and "cmd" not in q.hide:
        proc.out(f"\n; <<>> DiG {VERSION} <<>> {' '.join(argv[1:])}\n" + (f"; ({len(servers)} server found)\n" if q.server else "") +
                 ";; global options: +cmd\n")
    names = candidates(conf, q.name) if q.search else [q.name.rstrip(".") + "." if q.name != "." else "."]
    for number, name in enumerate(names):
        found = _ask(proc, q, name, servers)
        if found is None:
            return 9
        answer, server, spent, size = found
        if answer.rcode != dns.NXDOMAIN or number == len(names) - 1:
            break
    if q.short:
        proc.out("".join(data_text(record) + "\n" for record in answer.answer))
    else:
        proc.out(_print(proc, q, answer, server, spent, size))
    return 0


def _ask(proc: Process, q: Query, name: str, servers: list[str]) -> tuple[DnsMessage, str, int, int] | None:
    for _ in range(q.tries):
        for server in servers:
            message = DnsMessage(proc.random.below(65536), rd=q.recurse, ad=True, question=[Question(name, q.type)],
                                 edns_size=1232 if q.edns else 0)
            began = proc.sys.now()
            try:
                ask = ask_tcp if q.tcp else ask_udp
                answers = ask(proc, server, [message], q.timeout * SEC, q.port)
                words = "timed out"
            except OSError as error:
                answers, words = None, {111: "connection refused", 113: "host unreachable", 101: "network unreachable"}.get(
                    error.errno or 0, str(error.strerror).lower())
            if answers:
                return answers[0], server, proc.sys.now() - began, len(build_dns(answers[0]))
            what = f";; communications error to {server}#{q.port}: {words}\n"
            proc.out(what)
    proc.out(
        ";; no servers could be reached\n")
    return None


def _print(proc: Process, q: Query, m: DnsMessage, server: str, spent: int, size: int) -> str:
    out = []
    additional = len(m.additional) + (1 if m.edns_size else 0)
    if "comments" not in q.hide:
        bits = (("qr", m.qr), ("aa", m.aa), ("tc", m.tc), ("rd", m.rd), ("ra", m.ra), ("ad", m.ad), ("cd", m.cd))
        flags = " ".join(name for name, on in bits if on)
        out.append(f";; Got answer:\n;; ->>HEADER<<- opcode: QUERY, status: {RCODE_NAMES.get(m.rcode, str(m.rcode))}, id: {m.id}\n"
                   f";; flags: {flags}; QUERY: {len(m.question)}, ANSWER: {len(m.answer)}, AUTHORITY: {len(m.authority)}, "
                   f"ADDITIONAL: {additional}\n")
        if m.rd and not m.ra:
            out.append(";; WARNING: recursion requested but not available\n")
        out.append("\n")
        if m.edns_size:
            out.append(f";; OPT PSEUDOSECTION:\n; EDNS: version: 0, flags:; udp: {m.edns_size}\n")
    if "question" not in q.hide:
        out.append(";; QUESTION SECTION:\n" if "comments" not in q.hide else "")
        for question in m.question:
            out.append(aligned([f";{question.name}", "IN", TYPE_NAMES.get(question.type, str(question.type))], COLUMNS[1:3]) + "\n")
        out.append("\n")
    for title, records in (("ANSWER", m.answer), ("AUTHORITY", m.authority), ("ADDITIONAL", m.additional)):
        if records and title.lower() not in q.hide:
            out.append(f";; {title} SECTION:\n" if "comments" not in q.hide else "")
            out.extend(record_line(record) + "\n" for record in records)
            out.append("\n" if "comments" not in q.hide else "")
    if "stats" not in q.hide:
        when = format_time(proc.sys.time(), "%a %b %d %H:%M:%S UTC %Y")
        out.append(f";; Query time: {spent // MSEC} msec\n;; SERVER: {server}#{q.port}({server}) ({'TCP' if q.tcp else 'UDP'})\n"
                   f";; WHEN: {when}\n;; MSG SIZE  rcvd: {size}\n\n")
    return "".join(out)


@tool("nslookup", "host")
def nslookup(proc: Process, argv: list[str]) -> int:
    """nslookup [-type=TYPE] NAME [SERVER], host [-t TYPE] NAME [SERVER]"""
    is_host = argv[0].endswith("host")
    kind, operands = 0, []
    args = argv[1:]
    while args:
        arg = args.pop(0)
        if arg.startswith(("-type=", "-query=", "-q=")):
            kind = TYPE_NUMBERS.get(arg.partition("=")[2].upper(), 0)
        elif arg == "-t" and args:
            kind = TYPE_NUMBERS.get(args.pop(0).upper(), 0)
        elif not arg.startswith("-"):
            operands.append(arg)
    if not operands:
        proc.err("usage: nslookup NAME [SERVER]\n")
        return 1
    conf = read_resolv_conf(proc)
    if len(operands) > 1:
        try:
            conf.servers = [lookup(proc, operands[1])[0][0][1]]
        except ResolveError:
            proc.out(f"nslookup: couldn't get address for '{operands[1]}': not found\n")
            return 1
    name = operands[0]
    if not is_host:
        proc.out(f"Server:\t\t{conf.servers[0]}\nAddress:\t{conf.servers[0]}#53\n\n")
    numeric = name.replace(".", "").isdigit() and name.count(".") == 3
    if numeric:
        return _reverse(proc, conf, name, is_host)
    kinds = [kind] if kind else [dns.A, dns.AAAA]
    names = candidates(conf, name)
    answers: list[DnsMessage] | None = None
    for candidate in names:
        answers = query(proc, conf, [(candidate, k) for k in kinds])
        if answers is None:
            for server in conf.servers:
                proc.out(f";; communications error to {server}#53: timed out\n")
            proc.out(";; no servers could be reached\n\n" if is_host else ";; no servers could be reached\n\n\n")
            return 1
        if any(a.rcode == dns.NOERROR and a.answer for a in answers) or candidate == names[-1]:
            break
    return _nslookup_print(proc, name, answers or [], is_host)


def _nslookup_print(proc: Process, name: str, answers: list[DnsMessage], is_host: bool) -> int:
    records = [r for a in answers for r in a.answer]
    if not records:
        code = answers[0].rcode if answers else dns.SERVFAIL
        if is_host:
            proc.out(f"Host {name} not found: {code}({RCODE_NAMES.get(code, str(code))})\n")
        elif code == dns.NOERROR:
            proc.out(f"*** Can't find {name}: No answer\n\n")
            return 0
        else:
            proc.out(f"** server can't find {name}: {RCODE_NAMES.get(code, str(code))}\n\n")
        return 1
    if not is_host and not any(a.aa for a in answers):
        proc.out("Non-authoritative answer:\n")
    seen: set[str] = set()
    for r in records:
        owner = r.name.rstrip(".")
        if r.type in (dns.A, dns.AAAA):
            verb = "has address" if r.type == dns.A else "has IPv6 address"
            line = f"{owner} {verb} {data_text(r)}\n" if is_host else f"Name:\t{owner}\nAddress: {data_text(r)}\n"
        elif r.type == dns.CNAME:
            line = f"{owner} is an alias for {r.data}\n" if is_host else f"{owner}\tcanonical name = {r.data}\n"
        elif r.type == dns.SRV:
            line = f"{owner} has SRV record {data_text(r)}\n" if is_host else f"{owner}\tservice = {data_text(r)}\n"
        else:
            line = f"{owner}\t{TYPE_NAMES.get(r.type, '').lower()} = {data_text(r)}\n"
        if line not in seen:
            proc.out(line)
        seen.add(line)
    if not is_host:
        proc.out("\n")
    return 0


def _reverse(proc: Process, conf: object, address: str, is_host: bool) -> int:
    name = reverse_lookup(proc, address)
    where = reverse_name(address).rstrip(".")
    if name is None:
        proc.out(f"Host {where}. not found: 3(NXDOMAIN)\n" if is_host else f"** server can't find {where}: NXDOMAIN\n\n")
        return 1
    proc.out(f"{where} domain name pointer {name}.\n" if is_host else f"{where}\tname = {name}.\n\n")
    return 0


@tool("getent")
def getent(proc: Process, argv: list[str]) -> int:
    """getent hosts|ahosts|passwd|group|services NAME"""
    if len(argv) < 2:
        proc.err("getent: wrong number of arguments\n" + GETENT_HELP)
        return 1
    database, keys = argv[1], argv[2:]
    if database in ("hosts", "ahosts", "ahostsv4") and keys:
        for key in keys:
            if not _getent_host(proc, database, key):
                return 2
        return 0
    path = {"passwd": "/etc/passwd", "group": "/etc/group", "services": "/etc/services", "hosts": "/etc/hosts"}.get(database)
    if path is None:
        proc.err(f"Unknown database: {database}\n" + GETENT_HELP)
        return 1
    rows = [line for line in proc.vfs.read(path).decode().splitlines() if line.strip() and not line.startswith("#")]
    for key in keys or [""]:
        found = [row for row in rows if not key or _getent_fits(database, row, key)]
        if not found:
            return 2
        proc.out("".join(_getent_row(database, row) + "\n" for row in (found[:1] if key else found)))
    return 0


GETENT_HELP = "Try `getent --help' or `getent --usage' for more information.\n"


def _getent_fits(database: str, row: str, key: str) -> bool:
    """By name or number; of a service also name/protocol."""
    if database != "services":
        fields = row.split(":")
        return key in (fields[0], fields[2])
    name, port, *aliases = row.split("#")[0].split()
    number, _, proto = port.partition("/")
    wanted, _, wanted_proto = key.partition("/")
    return wanted in (name, number, *aliases) and wanted_proto in ("", proto)


def _getent_row(database: str, row: str) -> str:
    """As glibc prints it: print_services(), print_hosts()."""
    if database == "services":
        name, port, *aliases = row.split("#")[0].split()
        return " ".join([f"{name:<21} {port}", *aliases])
    if database == "hosts":
        address, *names = row.split("#")[0].split()
        return f"{address:<15} {' '.join(names)}"
    return row


def _getent_host(proc: Process, database: str, key: str) -> bool:
    try:
        found, canonical = lookup(proc, key, 2)
    except ResolveError:
        return False
    if database == "hosts":
        numeric = key.replace(".", "").isdigit()
        name = (reverse_lookup(proc, key) or "") if numeric else canonical
        if numeric and not name:
            return False
        lines = hosts_lines(proc, key)
        for _, address in found:
            names = next((line[1:] for line in lines if line[0] == address), [name])
            proc.out(f"{address:<15} {' '.join(names)}\n")
    else:
        for number, (_, address) in enumerate(found):
            for kind in ("STREAM", "DGRAM", "RAW"):
                proc.out(f"{address:<15} {kind:<6}" + (f" {canonical}" if number == 0 and kind == "STREAM" else "") + "\n")
    return True
