"""The C library's resolver: getaddrinfo and getnameinfo of a process, with glibc's habits.

/etc/hosts first, then DNS as /etc/resolv.conf says. A name with fewer dots than `ndots` (5 in pods) is tried with each search
domain before it is tried as it is; NXDOMAIN and empty answers go on to the next candidate. For AF_UNSPEC the A and the AAAA
question leave together from one socket. No answer in `timeout` (5 s) goes to the next server, `attempts` (2) rounds; a
truncated answer is asked again over TCP. All of it blocks the calling task only.

Sources: resolv.conf(5), getaddrinfo(3), glibc resolv/res_send.c, res_query.c (order of candidates), RFC 1035 4.2, RFC 7766.
Leaves out: nscd, mDNS, /etc/gai.conf, DNSSEC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubenet.units import SEC
from kubenet.userland.syscalls import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM
from kubenet.wire import dns
from kubenet.wire.addr import ip4, ip4_text, ip6, ip6_text
from kubenet.wire.dns import DnsMessage, Question, build_dns, parse_dns
from kubenet.wire.errors import WireError

if TYPE_CHECKING:
    from kubenet.userland.process import Process

EAI_NONAME, EAI_AGAIN, EAI_FAIL, EAI_NODATA, EAI_FAMILY, EAI_SERVICE = -2, -3, -4, -5, -6, -8
EAI_TEXTS = {
    -2: "Name or service not known", -3: "Temporary failure in name resolution", -4: "Non-recoverable failure in name resolution",
    -5: "No address associated with hostname", -6: "ai_family not supported", -8: "Servname not supported for ai_socktype",
}
POLLIN = 1


class ResolveError(Exception):
    """getaddrinfo's error: an EAI_* number and its text."""

    def __init__(self, code: int) -> None:
        super().__init__(EAI_TEXTS[code])
        self.code = code
        self.text = EAI_TEXTS[code]


@dataclass
class ResolvConf:
    """What /etc/resolv.conf says."""

    servers: list[str] = field(default_factory=list)
    search: list[str] = field(default_factory=list)
    ndots: int = 1
    timeout: int = 5
    attempts: int = 2
    use_vc: bool = False


def read_resolv_conf(proc: Process) -> ResolvConf:
    """The process's resolver configuration; 127.0.0.1 without one."""
    conf = ResolvConf()
    try:
        text = proc.vfs.read("/etc/resolv.conf").decode(errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver" and len(conf.servers) < 3:
            conf.servers.append(words[1])
        elif words[0] in ("search", "domain"):
            conf.search = words[1:]
        elif words[0] == "options":
            for option in words[1:]:
                name, _, value = option.partition(":")
                if name in ("ndots", "timeout", "attempts") and value.isdigit():
                    setattr(conf, name, int(value))
                elif name == "use-vc":
                    conf.use_vc = True
    if not conf.servers:
        conf.servers.append("127.0.0.1")
    return conf


def hosts_lines(proc: Process, name: str) -> list[list[str]]:
    """The lines of /etc/hosts with that name: address, canonical name, aliases. glibc: nss_files, hosts(5)."""
    try:
        text = proc.vfs.read("/etc/hosts").decode(errors="replace")
    except OSError:
        return []
    wanted = name.rstrip(".").lower()
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1 and wanted in (w.lower() for w in words[1:]):
            found.append(words)
    return found


def candidates(conf: ResolvConf, name: str) -> list[str]:
    """The absolute names that are tried for `name`, in order. glibc: __res_context_search()."""
    if name.endswith("."):
        return [name]
    searched = [f"{name}.{domain.rstrip('.')}." for domain in conf.search]
    if name.count(".") >= conf.ndots:
        return [name + ".", *searched]
    return [*searched, name + "."]


def _numeric(name: str, family: int) -> list[tuple[int, str]]:
    """The address itself, if the name is one."""
    try:
        if family != AF_INET6:
            return [(AF_INET, ip4_text(ip4(name)))]
    except ValueError:
        pass
    try:
        if family != AF_INET and ":" in name:
            return [(AF_INET6, ip6_text(ip6(name.partition("%")[0])))]
    except ValueError:
        pass
    return []


def lookup(proc: Process, name: str, family: int = 0) -> tuple[list[tuple[int, str]], str]:
    """([(family, address)], canonical name). Raises ResolveError."""
    found = _numeric(name, family)
    if found:
        return found, name
    lines = hosts_lines(proc, name)
    in_hosts = [entry for line in lines for entry in _numeric(line[0], family)]
    if in_hosts:
        return in_hosts, next(line[1] for line in lines if _numeric(line[0], family))
    return _dns_lookup(proc, name, family)


def _dns_lookup(proc: Process, name: str, family: int) -> tuple[list[tuple[int, str]], str]:
    conf = read_resolv_conf(proc)
    types = {AF_INET: [dns.A], AF_INET6: [dns.AAAA]}.get(family, [dns.A, dns.AAAA])
    no_data = failed = False
    try:
        names = candidates(conf, name)
        for candidate in names:
            dns.name_labels(candidate)
    except ValueError:
        raise ResolveError(EAI_NONAME) from None
    for candidate in names:
        answers = query(proc, conf, [(candidate, kind) for kind in types])
        if answers is None:
            raise ResolveError(EAI_AGAIN)
        found: list[tuple[int, str]] = []
        canonical = candidate
        for answer in answers:
            if answer.rcode == dns.SERVFAIL:
                failed = True
            elif answer.rcode == dns.NOERROR:
                addresses, canonical_here = extract(answer, candidate)
                found += addresses
                canonical = canonical_here if addresses else canonical
                no_data = no_data or not addresses
        if found:
            return found, canonical.rstrip(".")
    raise ResolveError(EAI_AGAIN if failed else EAI_NODATA if no_data else EAI_NONAME)


def extract(answer: DnsMessage, name: str) -> tuple[list[tuple[int, str]], str]:
    """The addresses in an answer, CNAMEs followed, and the last name."""
    owner = name.lower()
    for _ in range(16):
        cname = next((r.data for r in answer.answer if r.type == dns.CNAME and r.name.lower() == owner), None)
        if cname is None:
            break
        owner = cname.lower()
    out = []
    for record in answer.answer:
        if record.name.lower() == owner:
            if record.type == dns.A:
                out.append((AF_INET, ip4_text(record.data)))
            elif record.type == dns.AAAA:
                out.append((AF_INET6, ip6_text(record.data)))
    return out, owner


def query(proc: Process, conf: ResolvConf, questions: list[tuple[str, int]]) -> list[DnsMessage] | None:
    """Answers to all questions from the first server that gives them; None if none does. glibc: __res_context_send()."""
    messages = [DnsMessage(proc.random.below(65536), rd=True, question=[Question(name, kind)]) for name, kind in questions]
    servfail: list[DnsMessage] | None = None
    for attempt in range(conf.attempts):
        for server in conf.servers:
            wait = max(conf.timeout << attempt if attempt and len(conf.servers) == 0 else conf.timeout, 1) * SEC
            try:
                answers = ask_tcp(proc, server, messages, wait) if conf.use_vc else ask_udp(proc, server, messages, wait)
            except OSError:
                continue
            if answers is None:
                continue
            if all(a.rcode in (dns.SERVFAIL, dns.NOTIMP, dns.REFUSED) for a in answers):
                servfail = answers
                continue
            return answers
    return servfail


def ask_udp(
    proc: Process, server: str, messages: list[DnsMessage], timeout: int, port: int = 53
) -> list[DnsMessage] | None:
    """One exchange over UDP (TCP for truncated answers); None when time ran out. Raises OSError (ECONNREFUSED ...)."""
    sys = proc.sys
    fd = sys.socket(AF_INET6 if ":" in server else AF_INET, SOCK_DGRAM)
    try:
        sys.connect(fd, (server, port))
        for message in messages:
            sys.send(fd, build_dns(message))
        answers: dict[int, DnsMessage] = {}
        deadline = sys.now() + timeout
        while len(answers) < len(messages):
            left = deadline - sys.now()
            if left <= 0 or not sys.poll([(fd, POLLIN)], left):
                return None
            data = sys.recv(fd, 65535)
            try:
                answer = parse_dns(data)
            except WireError:
                continue
            number = next((n for n, m in enumerate(messages) if m.id == answer.id and answer.qr and n not in answers), -1)
            if number >= 0:
                answers[number] = answer
        out = [answers[n] for n in range(len(messages))]
    finally:
        sys.close(fd)
    if any(answer.tc for answer in out):
        return ask_tcp(proc, server, messages, timeout, port)
    return out


def ask_tcp(
    proc: Process, server: str, messages: list[DnsMessage], timeout: int, port: int = 53
) -> list[DnsMessage] | None:
    """The same over one TCP connection."""
    sys = proc.sys
    fd = sys.socket(AF_INET6 if ":" in server else AF_INET, SOCK_STREAM)
    try:
        sys.connect(fd, (server, port), timeout)
        out = []
        for message in messages:
            data = build_dns(message)
            sys.send_all(fd, len(data).to_bytes(2, "big") + data)
            size = int.from_bytes(_exactly(proc, fd, 2, timeout), "big")
            out.append(parse_dns(_exactly(proc, fd, size, timeout)))
        return out
    except (WireError, EOFError):
        return None
    finally:
        sys.close(fd)


def _exactly(proc: Process, fd: int, size: int, timeout: int) -> bytes:
    out = b""
    while len(out) < size:
        chunk = proc.sys.recv(fd, size - len(out), 0, timeout)
        if not chunk:
            raise EOFError
        out += chunk
    return out


def reverse_name(address: str) -> str:
    """The name under which PTR records of an address live."""
    if ":" in address:
        return ".".join(reversed(f"{ip6(address):032x}")) + ".ip6.arpa."
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa."


def reverse_lookup(proc: Process, address: str) -> str | None:
    """The name of an address, from /etc/hosts or a PTR record; None if it has none."""
    try:
        text = proc.vfs.read("/etc/hosts").decode(errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1 and words[0] == address:
            return words[1]
    answers = query(proc, read_resolv_conf(proc), [(reverse_name(address), dns.PTR)])
    for record in answers[0].answer if answers else []:
        if record.type == dns.PTR:
            name: str = record.data
            return name.rstrip(".")
    return None


def service_port(proc: Process, service: str, proto: str = "") -> int | None:
    """The port of a service name in /etc/services."""
    try:
        text = proc.vfs.read("/etc/services").decode(errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) >= 2 and (words[0] == service or service in words[2:]):
            port, _, kind = words[1].partition("/")
            if not proto or kind == proto:
                return int(port)
    return None


def getaddrinfo(
    proc: Process, host: str | None, service: str | int | None, family: int = 0, kind: int = 0, proto: int = 0, flags: int = 0
) -> list[tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]]:
    """getaddrinfo(3): (family, type, protocol, canonical name, address). Raises ResolveError."""
    if family not in (0, AF_INET, AF_INET6):
        raise ResolveError(EAI_FAMILY)
    if host is None and service is None:
        raise ResolveError(EAI_NONAME)
    port = _port(proc, service, kind, flags)
    canonical = ""
    if not host:
        wild = "0.0.0.0" if flags & 1 else "127.0.0.1"
        wild6 = "::" if flags & 1 else "::1"
        addresses = [(f, a) for f, a in ((AF_INET, wild), (AF_INET6, wild6)) if family in (0, f)]
    elif flags & 4:  # AI_NUMERICHOST
        addresses = _numeric(host, family)
        if not addresses:
            raise ResolveError(EAI_NONAME)
    else:
        addresses, canonical = lookup(proc, host, family)
    kinds = [(1, 6), (2, 17), (3, 0)] if not kind else [(kind, {1: 6, 2: 17}.get(kind, proto))]
    kinds = [(k, p) for k, p in kinds if not proto or p in (proto, 0)]
    out: list[tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]] = []
    for at, (found, address) in enumerate(addresses):
        for k, p in kinds:
            name = canonical if flags & 2 and at == 0 and not out else ""
            out.append((found, k, p, name, (address, port) if found == AF_INET else (address, port, 0, 0)))
    return out


def _port(proc: Process, service: str | int | None, kind: int, flags: int) -> int:
    if service is None:
        return 0
    if isinstance(service, int) or service.isdigit():
        return int(service) & 0xFFFF
    port = service_port(proc, service, {1: "tcp", 2: "udp"}.get(kind, ""))
    if port is None or flags & 0x400:
        raise ResolveError(EAI_SERVICE)
    return port


__all__ = ["ResolveError", "getaddrinfo", "lookup", "query"]
