"""ss and netstat: sockets, printed as iproute2 6.1 and net-tools 2.10 do.

ss measures every column first. Into a pipe or file the columns are as narrow as their contents; on a terminal the rest of the
line is shared out between them. Fields: State, Recv-Q, Send-Q, Local Address:Port, Peer Address:Port, Process, and details of
-o -e -m -i. For a listener Recv-Q is the accept queue and Send-Q its limit; otherwise bytes not read, bytes not acknowledged.

Filters: state NAME ..., exclude NAME, ( sport = :80 and dst 10.0.0.0/8 or ... ). Source: ss(8), observed output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubenet.userland.netview import SocketRow, attach_users, duration, sockets
from kubenet.userland.process import Process
from kubenet.userland.resolver import reverse_lookup, service_port
from kubenet.userland.tools import tool
from kubenet.userland.tools.ss_usage import USAGE
from kubenet.wire.addr import in_prefix, ip4, ip4_text, parse_cidr

# name, right-aligned, delimiter before it
COLUMNS = (("Netid", False, ""), ("State", False, " "), ("Recv-Q", False, " "), ("Send-Q", False, " "), ("Local Address:", True, " "),
           ("Port", False, ""), ("Peer Address:", True, " "), ("Port", False, ""), ("Process", False, ""), ("", False, ""))
STATE_WORDS = {
    "established": ["ESTAB"], "syn-sent": ["SYN-SENT"], "syn-recv": ["SYN-RECV"], "fin-wait-1": ["FIN-WAIT-1"],
    "fin-wait-2": ["FIN-WAIT-2"], "time-wait": ["TIME-WAIT"], "closed": ["UNCONN"], "close-wait": ["CLOSE-WAIT"],
    "last-ack": ["LAST-ACK"], "listening": ["LISTEN"], "listen": ["LISTEN"], "closing": ["CLOSING"], "bucket": ["SYN-RECV", "TIME-WAIT"],
}
_CONNECTED = ["ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "CLOSE-WAIT", "LAST-ACK", "CLOSING"]
STATE_WORDS["connected"] = _CONNECTED
STATE_WORDS["synchronized"] = [s for s in _CONNECTED if s != "SYN-SENT"]
STATE_WORDS["big"] = ["ESTAB", "SYN-SENT", "FIN-WAIT-1", "FIN-WAIT-2", "UNCONN", "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING"]
STATE_WORDS["all"] = [*_CONNECTED, "LISTEN", "UNCONN"]

FAMILIES = ("inet", "inet6", "link", "unix", "netlink", "vsock", "tipc", "xdp")
TABLES = {"tcp": "t", "udp": "u", "raw": "w", "unix": "x"}  # those that can have sockets here; -A takes the others, too, and shows none
OTHER_TABLES = ("all", "inet", "mptcp", "unix_dgram", "unix_stream", "unix_seqpacket", "packet", "packet_raw", "packet_dgram", "netlink",
                "dccp", "sctp", "vsock_stream", "vsock_dgram", "tipc", "xdp")
_WORDS = frozenset("and & && or | || not ! ( ) sport dport src dst dev fwmark autobound "
                   "= == eq != ne neq >= ge geq <= le leq > gt < lt".split())

Test = Callable[[SocketRow], bool]


SYNTAX = "ss: bison bellows (while parsing filter): \"syntax error!\" Sorry."


class SsError(Exception):
    """What ss prints on stderr before it exits with `code`; with `usage`, the options after it."""

    def __init__(self, text: str, code: int = 255, usage: bool = False) -> None:
        super().__init__(text + "\n" + (USAGE if usage else ""))
        self.code = code


def parse_filter(words: list[str], proc: Process) -> Test:
    """The rows that match an expression. Raises SsError."""
    tokens: list[str] = []
    for word in words:
        for part in word.replace("(", " ( ").replace(")", " ) ").split():
            tokens.append(part)
    at = 0

    def peek() -> str:
        return tokens[at] if at < len(tokens) else ""

    def either() -> Test:
        nonlocal at
        left = both()
        while peek() in ("or", "|", "||"):
            at += 1
            left = _or(left, both())
        return left

    def both() -> Test:
        nonlocal at
        left = one()
        while peek() and peek() not in ("or", "|", "||", ")"):
            if peek() in ("and", "&", "&&"):
                at += 1
            left = _and(left, one())
        return left

    def one() -> Test:
        nonlocal at
        word = peek()
        at += 1
        if word in ("not", "!"):
            inner = one()
            return lambda row: not inner(row)
        if word == "(":
            inner = either()
            if peek() != ")":
                raise SsError(SYNTAX, usage=True)
            at += 1
            return inner
        if word in ("sport", "dport", "src", "dst", "dev"):
            op = "="
            if peek() in ("=", "==", "eq", "!=", "ne", "neq", ">=", "ge", "geq", "<=", "le", "leq", ">", "gt", "<", "lt"):
                op = peek()
                at += 1
            value = peek()
            at += 1
            if not value:
                raise SsError(SYNTAX, usage=True)
            return _condition(word, op, value, proc)
        if word == "fwmark" and peek() in ("=", "==", "eq", "!=", "ne", "neq"):
            return mark()
        if word and word not in _WORDS:  # a word that is none of ss's is taken for an address, or a port after one
            last = next((w for w in reversed(tokens[:at]) if w in ("sport", "dport", "src", "dst")), "src")
            _port(word.lstrip(":"), proc) if last in ("sport", "dport") else _host(word)
        raise SsError(SYNTAX, usage=True)

    def mark() -> Test:
        nonlocal at
        same, value = tokens[at] in ("=", "==", "eq"), tokens[at + 1] if at + 1 < len(tokens) else ""
        at += 2
        text, _, mask_text = value.partition("/")
        try:
            wanted, mask = int(text, 0), int(mask_text, 0) if mask_text else 0xFFFFFFFF
        except ValueError:
            raise SsError(SYNTAX, usage=True) from None
        return lambda row: (getattr(row.sk, "mark", 0) & mask == wanted) == same

    test = either()
    if at < len(tokens):
        raise SsError(SYNTAX, usage=True)
    return test


def _or(a: Test, b: Test) -> Test:
    return lambda row: a(row) or b(row)


def _and(a: Test, b: Test) -> Test:
    return lambda row: a(row) and b(row)


def _condition(what: str, op: str, value: str, proc: Process) -> Test:
    compare = {"=": "eq", "==": "eq", "!=": "ne", "neq": "ne", ">=": "ge", "geq": "ge", "<=": "le", "leq": "le", ">": "gt",
               "<": "lt"}.get(op, op)
    if what == "dev":
        return lambda row: (row.dev == value) == (compare == "eq")
    if what in ("sport", "dport"):
        port = _port(value.lstrip(":"), proc)
        return lambda row: _compare(compare, row.sport if what == "sport" else row.dport, port)
    host, colon, port_text = value.partition(":")
    prefix, plen = _host(host)
    wanted = _port(port_text, proc) if colon and port_text not in ("", "*") else None

    def test(row: SocketRow) -> bool:
        addr, port = (row.saddr, row.sport) if what == "src" else (row.daddr, row.dport)
        hit = in_prefix(addr, prefix, plen) and (wanted is None or port == wanted)
        return hit == (compare == "eq")

    return test


def _host(host: str) -> tuple[int, int]:
    """Address and prefix length; (0, 0) for any. Raises SsError."""
    try:
        return parse_cidr(host) if "/" in host else (ip4(host), 32) if host and host != "*" else (0, 0)
    except ValueError:
        raise SsError(f'Error: an inet prefix is expected rather than "{host}".\nCannot parse dst/src address.', 1) from None


def _port(text: str, proc: Process) -> int:
    if text.isdigit():
        return int(text)
    port = service_port(proc, text)
    if port is None:
        raise SsError(f'Error: "{text}" does not look like a port.\nCannot parse dst/src address.', 1)
    return port


def _compare(op: str, a: int, b: int) -> bool:
    return {"eq": a == b, "ne": a != b, "ge": a >= b, "le": a <= b, "gt": a > b, "lt": a < b}[op]


class Table:
    """Rows of ten fields, and how ss lays them out."""

    def __init__(self, disabled: list[int], header: bool, screen: int) -> None:
        self.disabled = disabled
        self.screen = screen
        self.rows: list[list[str]] = [[name for name, _, _ in COLUMNS]] if header else []

    def text(self) -> str:
        """All lines. Columns that are empty everywhere take no room; the queues are never narrower than their numbers' field."""
        for row in self.rows:
            row[2], row[3] = row[2].ljust(6), row[3].ljust(6)
        shown = [n for n in range(len(COLUMNS)) if n not in self.disabled]
        width = {}
        first = True
        for n in shown:
            longest = max((len(row[n]) for row in self.rows), default=0)
            width[n] = longest + (len(COLUMNS[n][2]) if longest and not first else 0)
            first = first and not width[n]
        if self.screen:
            self._spread(shown, width)
        lead = next((n for n in shown if width[n]), -1)
        out = []
        for row in self.rows:
            out.append("".join(self._cell(row[n], n, width[n], n == lead) for n in shown if width[n]) + "\n")
        return "".join(out)

    def _cell(self, text: str, n: int, width: int, lead: bool) -> str:
        delimiter = "" if lead else COLUMNS[n][2]
        if COLUMNS[n][1]:
            return delimiter + text.rjust(width - len(delimiter))
        return (delimiter + text).ljust(width)

    def _spread(self, shown: list[int], width: dict[int, int]) -> None:
        """On a terminal the free part of the line is shared between the columns."""
        used = [n for n in shown if width[n]]
        free = self.screen - sum(width[n] for n in used)
        if free <= 0 or not used:
            return
        each, rest = divmod(free, len(used))
        for position, n in enumerate(reversed(used)):
            width[n] += each + (1 if position < rest else 0)


def _parse(argv: list[str]) -> tuple[dict[str, bool], list[str], list[str]]:
    """(options, states, filter words)."""
    flags: dict[str, bool] = {}
    states: list[str] = []
    words: list[str] = []
    args = argv[1:]
    long = {"--numeric": "n", "--all": "a", "--listening": "l", "--options": "o", "--extended": "e", "--memory": "m",
            "--processes": "p", "--info": "i", "--summary": "s", "--ipv4": "4", "--ipv6": "6", "--tcp": "t", "--udp": "u",
            "--raw": "w", "--unix": "x", "--no-header": "H", "--oneline": "O", "--resolve": "r", "--packet": "0", "--kill": "K"}
    while args:
        arg = args.pop(0)
        if arg.startswith("--"):
            flags[long.get(arg, arg)] = True
        elif arg in ("-f", "-A", "-N", "-F", "-D"):
            _valued(arg, args.pop(0) if args else "", flags)
        elif arg.startswith("-") and len(arg) > 1:
            for letter in arg[1:]:
                flags[letter] = True
        elif arg in ("state", "exclude") and not words:
            if not args:
                raise SsError('Command line is not complete. Try option "help"')
            word = args.pop(0).lower()
            if word not in STATE_WORDS:
                raise SsError(f"ss: wrong state name: {word}")
            if arg == "state":
                states += STATE_WORDS[word]
            else:
                states = [s for s in states or STATE_WORDS["all"] if s not in STATE_WORDS[word]]
        else:
            words.append(arg)
    return flags, states, words


def _valued(option: str, value: str, flags: dict[str, bool]) -> None:
    """-f FAMILY, -A TABLE,..., -N NAMESPACE. Raises SsError."""
    if option == "-N":
        raise SsError(f'Cannot open network namespace "{value}": No such file or directory', 1)
    if option == "-f":
        if value not in FAMILIES:
            raise SsError(f'ss: "{value}" is invalid family', usage=True)
        flags[{"inet": "4", "inet6": "6"}.get(value, "none")] = True
    for name in value.split(",") if option == "-A" else []:
        if name not in TABLES and name not in OTHER_TABLES:
            raise SsError(f'ss: "{name}" is illegal socket table id', usage=True)
        if name not in ("all", "inet"):
            flags[TABLES.get(name, "none")] = True


@tool("ss")
def ss(proc: Process, argv: list[str]) -> int:
    """ss [-tuwxanlpoemisH] [state NAME] [EXPRESSION]"""
    try:
        flags, states, words = _parse(argv)
        if "h" in flags or "--help" in flags:
            proc.out(USAGE)
            return 0
        if "V" in flags or "--version" in flags:
            proc.out("ss utility, iproute2-6.1.0\n")
            return 0
        unknown = [f for f in flags if f != "none" and f not in "nalpoemistuwxdSH46r0OKbETZz"]
        if unknown:
            what = "unrecognized option" if unknown[0].startswith("--") else "invalid option --"
            raise SsError(f"ss: {what} '{unknown[0]}'", usage=True)
        if "Z" in flags or "z" in flags:
            raise SsError("ss: SELinux is not enabled.", 1)
        if "s" in flags:
            proc.out(_summary(proc))
            return 0
        test = parse_filter(words, proc) if words else None
    except SsError as error:
        proc.err(str(error))
        return error.code
    kinds = [k for f, k in (("x", "unix"), ("w", "raw"), ("u", "udp"), ("t", "tcp")) if f in flags]
    rows = sockets(proc.net, kinds or ["unix", "raw", "udp", "tcp"])
    wanted = states or _default_states(flags)
    rows = [row for row in rows if (row.state in wanted or (row.netid != "tcp" and not states and _datagram_wanted(row, flags)))
            and (test is None or test(row))]
    if ("6" in flags and "4" not in flags) or ("none" in flags and not kinds):
        rows = []
    if "K" in flags:
        rows = [row for row in rows if _kill(row)]
    if "p" in flags:
        attach_users(proc, rows)
    proc.out(_table(proc, rows, flags, kinds, states))
    return 0


def _kill(row: SocketRow) -> bool:
    """-K: the connection is aborted, its program finds ECONNABORTED. Linux: inet_diag_destroy(), tcp_abort()."""
    from kubenet.kernel.tcp.tcp import tcp_abort

    if row.netid != "tcp" or row.sk is None or row.state in ("TIME-WAIT", "SYN-RECV"):
        return False
    tcp_abort(row.sk)
    return True


def _default_states(flags: dict[str, bool]) -> list[str]:
    if "a" in flags:
        return STATE_WORDS["all"]
    return ["LISTEN"] if "l" in flags else [s for s in _CONNECTED if s not in ("TIME-WAIT", "SYN-RECV")]


def _datagram_wanted(row: SocketRow, flags: dict[str, bool]) -> bool:
    return "a" in flags or ("l" in flags and row.state == "UNCONN")


def _table(proc: Process, rows: list[SocketRow], flags: dict[str, bool], kinds: list[str], states: list[str]) -> str:
    stdout: Any = proc.fds.files.get(1)
    screen = stdout.cols if stdout is not None and stdout.name == "tty" else 0
    disabled = ([0] if len(kinds) == 1 and kinds != ["unix"] else []) + ([1] if len(set(states)) == 1 else [])
    table = Table(disabled, "H" not in flags, screen)
    for row in rows:
        numeric = "n" in flags
        star = "*" if row.netid != "u_str" else ""
        local, peer = (_name(proc, addr) if "r" in flags else ip4_text(addr) for addr in (row.saddr, row.daddr))
        if row.dev:
            local += f"%{row.dev}"
        ports = [_port_text(proc, p, row.netid, numeric) for p in (row.sport, row.dport)]
        if row.path:
            cells = [row.netid, row.state, str(row.recv_q), str(row.send_q), row.path + " ", str(row.ino), "* ", "0"]
        else:
            cells = [row.netid, row.state, str(row.recv_q), str(row.send_q), local + ":", ports[0], peer + ":",
                     ports[1] if row.dport else star]
        users = ",".join(f'("{name}",pid={pid},fd={fd})' for name, pid, fd in row.users)
        process = f" users:({users})" if users else ""
        table.rows.append([*cells, process + _timer_text(row, flags) + _detail(row, flags), ""])
    return table.text()


def _name(proc: Process, addr: int) -> str:
    """-r: the address's name."""
    text = ip4_text(addr)
    return (reverse_lookup(proc, text) if addr else None) or text


def _port_text(proc: Process, port: int, netid: str, numeric: bool) -> str:
    if not port:
        return "*"
    if numeric:
        return str(port)
    try:
        for line in proc.vfs.read("/etc/services").decode().splitlines():
            words = line.split()
            if len(words) > 1 and words[1] == f"{port}/{netid}":
                return words[0]
    except OSError:
        pass
    return str(port)


def _timer_text(row: SocketRow, flags: dict[str, bool]) -> str:
    out = ""
    if ("o" in flags or "e" in flags) and row.timer is not None:
        name, left, retransmits = row.timer
        out += f" timer:({name},{duration(left)},{retransmits})"
    if "e" in flags:
        out += (f" uid:{row.uid}" if row.uid else "") + f" ino:{row.ino} sk:{row.ino or 1:x}"
        out += " <->" if row.state not in ("TIME-WAIT",) else ""
    return out


def _detail(row: SocketRow, flags: dict[str, bool]) -> str:
    lines = []
    sk = row.sk
    if "m" in flags and hasattr(sk, "rcvbuf"):
        lines.append(f"skmem:(r{getattr(sk, 'rmem_alloc', 0)},rb{sk.rcvbuf},t0,tb{sk.sndbuf},f0,w{getattr(sk, 'wmem_queued', 0)},o0,bl0,"
                     f"d{getattr(sk, 'drops', 0)})")
    if "i" in flags and row.netid == "tcp":
        lines.append(_info(row))
    lines = [line for line in lines if line]
    joint = " " if "O" in flags else "\n\t "
    return joint + " ".join(lines) if lines else ""


def _info(row: SocketRow) -> str:
    """The -i line: struct tcp_info in iproute2's words and order. iproute2: tcp_stats_print()."""
    from kubenet.kernel.tcp.info import congestion_name

    info = row.info
    if info is None:
        return ""
    get = info.get
    out = []
    if get("options", 0) & 1:
        out.append("ts")
    if get("options", 0) & 2:
        out.append("sack")
    out.append(congestion_name(row.sk))
    if get("options", 0) & 4:
        out.append(f"wscale:{get('wscale', 0) & 15},{get('wscale', 0) >> 4}")
    rto = get("rto", 0)
    if rto and rto != 3_000_000 and row.state != "LISTEN":
        out.append(f"rto:{_ms(rto)}")
    if get("backoff"):
        out.append(f"backoff:{info['backoff']}")
    if get("rtt"):
        out.append(f"rtt:{_ms(info['rtt'])}/{_ms(get('rttvar', 0))}")
    if get("ato"):
        out.append(f"ato:{_ms(info['ato'])}")
    if row.state == "LISTEN":
        out.append(f"cwnd:{get('snd_cwnd', 10)}")
        return " ".join(out)
    _counts(out, info, (("snd_mss", "mss"), ("pmtu", "pmtu"), ("rcv_mss", "rcvmss"), ("advmss", "advmss"), ("snd_cwnd", "cwnd")))
    if 0 < get("snd_ssthresh", 0) < 0xFFFF:
        out.append(f"ssthresh:{info['snd_ssthresh']}")
    _counts(out, info, tuple((n, n) for n in ("bytes_sent", "bytes_retrans", "bytes_acked", "bytes_received", "segs_out", "segs_in",
                                              "data_segs_out", "data_segs_in")))
    if get("rtt") and get("snd_cwnd") and get("snd_mss"):
        out.append(f"send {info['snd_cwnd'] * info['snd_mss'] * 8 * 1_000_000 // info['rtt']}bps")
    _counts(out, info, (("last_data_sent", "lastsnd"), ("last_data_recv", "lastrcv"), ("last_ack_recv", "lastack")))
    if 0 < get("pacing_rate", 0) < 1 << 62:
        out.append(f"pacing_rate {info['pacing_rate'] * 8}bps")
    if get("delivery_rate"):
        out.append(f"delivery_rate {info['delivery_rate'] * 8}bps")
    _counts(out, info, (("delivered", "delivered"),))
    if get("delivery_rate_app_limited") or get("app_limited"):
        out.append("app_limited")
    _counts(out, info, (("unacked", "unacked"),))
    if get("retrans") or get("total_retrans"):
        out.append(f"retrans:{get('retrans', 0)}/{get('total_retrans', 0)}")
    _counts(out, info, (("lost", "lost"), ("sacked", "sacked")))
    if get("reordering", 3) != 3:
        out.append(f"reordering:{info['reordering']}")
    if get("rcv_rtt"):
        out.append(f"rcv_rtt:{_ms(info['rcv_rtt'])}")
    _counts(out, info, (("rcv_space", "rcv_space"), ("rcv_ssthresh", "rcv_ssthresh"), ("notsent_bytes", "notsent")))
    if 0 < get("min_rtt", 0) < 0xFFFFFFFF:
        out.append(f"minrtt:{_ms(info['min_rtt'])}")
    _counts(out, info, (("snd_wnd", "snd_wnd"), ("rcv_wnd", "rcv_wnd")))
    return " ".join(out)


def _counts(out: list[str], info: dict[str, Any], names: tuple[tuple[str, str], ...]) -> None:
    """name:value for those that are not 0."""
    out.extend(f"{label}:{info[name]}" for name, label in names if info.get(name))


def _ms(us: int) -> str:
    """Microseconds as ms, with %g's six digits."""
    return f"{us / 1000:g}"


def _summary(proc: Process) -> str:
    """ss -s."""
    rows = sockets(proc.net)
    tcp = [row for row in rows if row.netid == "tcp"]
    live = [row for row in tcp if row.state not in ("TIME-WAIT", "UNCONN")]
    waiting = sum(row.state == "TIME-WAIT" for row in tcp)
    udp = sum(row.netid == "udp" for row in rows)
    raw = sum(row.netid == "raw" for row in rows)
    estab = sum(row.state == "ESTAB" for row in tcp)
    attach_users(proc, tcp)
    orphans = sum(row.state in ("FIN-WAIT-1", "FIN-WAIT-2", "LAST-ACK", "CLOSING") and not row.users for row in tcp)
    out = f"Total: {len(rows) - waiting}\n"
    out += f"TCP:   {len(tcp)} (estab {estab}, closed {waiting}, orphaned {orphans}, timewait {waiting})\n\n"
    out += "Transport Total     IP        IPv6\n"
    for name, count in (("RAW", raw), ("UDP", udp), ("TCP", len(live)), ("INET", raw + udp + len(live)), ("FRAG", 0)):
        out += f"{name}\t  {count:<9d} {count:<9d} {0:<9d}\n"
    return out + "\n"


NETSTAT_STATES = {"ESTAB": "ESTABLISHED", "SYN-SENT": "SYN_SENT", "SYN-RECV": "SYN_RECV", "FIN-WAIT-1": "FIN_WAIT1", "UNCONN": "",
                  "FIN-WAIT-2": "FIN_WAIT2", "TIME-WAIT": "TIME_WAIT", "CLOSE-WAIT": "CLOSE_WAIT", "LAST-ACK": "LAST_ACK"}


@tool("netstat")
def netstat(proc: Process, argv: list[str]) -> int:
    """netstat [-tuanlp] [-r] [-i] [-s]"""
    flags = "".join(arg.lstrip("-") for arg in argv[1:])
    if "r" in flags:
        from kubenet.userland.tools.nettools import route_n

        proc.out(route_n(proc))
        return 0
    if "s" in flags:
        from kubenet.userland.tools.nstat import netstat_s

        proc.out(netstat_s(proc))
        return 0
    kinds = [k for f, k in (("t", "tcp"), ("u", "udp"), ("w", "raw")) if f in flags] or ["tcp", "udp"]
    listening = "l" in flags
    kind = "only servers" if listening else "servers and established" if "a" in flags else "w/o servers"
    rows = [r for k in kinds for r in sockets(proc.net, [k])]
    if listening:
        rows = [r for r in rows if r.state in ("LISTEN", "UNCONN")]
    elif "a" not in flags:
        rows = [r for r in rows if r.state not in ("LISTEN", "UNCONN")]
    if "p" in flags:
        attach_users(proc, rows)
    tail = "       PID/Program name    " if "p" in flags else "      "
    proc.out(f"Active Internet connections ({kind})\nProto Recv-Q Send-Q Local Address           Foreign Address         State{tail}\n")
    for r in rows:
        local = f"{ip4_text(r.saddr)}:{r.sport}"
        peer = f"{ip4_text(r.daddr)}:{r.dport or '*'}"
        recv, send = (r.recv_q, r.send_q if r.state != "LISTEN" else 0)
        state = NETSTAT_STATES.get(r.state, r.state)
        user = f"{r.users[0][1]}/{r.users[0][0]}" if r.users else "-"
        proc.out(f"{r.netid:<5} {recv:6d} {send:6d} {local:<23} {peer:<23} {state:<11} " + (f"{user:<20}" if "p" in flags else "") + "\n")
    return 0
