"""The signature view: one packet, hop by hop and hook by hook, in text.

    render(trace, width=80)      from 110 columns up the wide form, with the conntrack column and the strip of capture points
    render(..., verbose=1)       every station; 0 folds machines in which nothing changed, and hides policies nobody cares for
    oneline(trace)               one line for a packet of a flow
    diagram(trace)               the packet-flow picture of the machine that translated it

`trace` is the JSON of query/trace.py; nothing is looked up or computed here but columns. The letter changes on the line where NAT
happens. Words carry the meaning (NAT, DROP); colour repeats it.
"""

from __future__ import annotations

from typing import Any

from kubenet.units import MSEC, SEC, USEC

Obj = dict[str, Any]

WIDE = 110
QUIET_TABLES = ("raw", "mangle", "security")
HOOK_SHORT = {"PREROUTING": "PRE", "INPUT": "IN", "FORWARD": "FWD", "OUTPUT": "OUT", "POSTROUTING": "POST"}
BOLD_MAGENTA, BOLD_RED, BLUE, DIM, RESET = "\x1b[1;35m", "\x1b[1;7;31m", "\x1b[34m", "\x1b[2m", "\x1b[0m"


class Row:
    """One line of the table."""

    __slots__ = ("us", "place", "hook", "what", "addr", "ct", "tag", "count", "rule", "prio")

    def __init__(self, step: Obj, place: str, hook: str, what: str, tag: str = "", rule: str = "") -> None:
        self.us: int = step["us"]
        self.place = place
        self.hook = hook
        self.what = what
        self.addr: str = step["addr"]
        self.ct: str = step.get("ct", "")
        self.tag = tag
        self.rule = rule
        self.prio = step.get("priority", 0) if step.get("hook") else ""
        self.count = 1


def render(trace: Obj, width: int = 80, verbose: int = 0, numeric: bool = False, plain: bool = False, color: bool = False,
           only: tuple[str, ...] = (), hints: bool = True) -> str:
    """The whole picture as text, lines at most `width` wide. hints: with what to look at next."""
    wide = width >= WIDE
    width = min(width, 120) if wide else max(min(width, WIDE - 1), 80)
    rows = make_rows(trace, verbose)
    if only:
        rows = [row for row in rows if row.tag.lower() in only]
    lines = [_headline(trace, width), ""]
    lines += [f"  {e['letter']:2} {e['addr']:<20}{e['what']}" for e in trace["endpoints"]]
    lines += ["", *(_wide_table(rows, trace, width, numeric) if wide else _table(rows, trace, width, numeric))]
    lines += _strip(trace, width) if wide else _views(trace, width)
    lines += _conntrack(trace)
    lines += [line for line in _ending(trace) if hints or not line.startswith(("next: ", "look: "))]
    text = "\n".join(_fit(line, width) for line in lines)
    if plain:
        text = text.replace("→", ">").replace("µ", "u").replace("…", "~")
    return _colored(text) if color and not plain else text


# ---- rows


def make_rows(trace: Obj, verbose: int = 0) -> list[Row]:
    """The table's lines: one for each thing that mattered, or with verbose for each station."""
    steps = trace["steps"]
    if verbose:
        return [_plain_row(step) for step in steps if verbose > 1 or step["verdict"] != "NO MATCH" or step.get("data", {}).get("dice")]
    rows: list[Row] = []
    for visit in _visits(steps):
        rows += _fold_tunnel(visit) if _is_dull(visit, trace) else _tell(visit, trace)
    return rows


def _visits(steps: list[Obj]) -> list[list[Obj]]:
    """Consecutive stations in one namespace."""
    out: list[list[Obj]] = []
    for step in steps:
        if out and (out[-1][-1]["node"], out[-1][-1]["netns"]) == (step["node"], step["netns"]):
            out[-1].append(step)
        else:
            out.append([step])
    return out


def _is_dull(visit: list[Obj], trace: Obj) -> bool:
    """A machine that only passed the packet on, while another one is where things happened."""
    step = visit[0]
    if step["node"] != step["netns"] or any(s["nat"] or s["drop"] or s["verdict"] in ("REJECT", "DROP") for s in visit):
        return False
    if visit[0] is trace["steps"][0] or visit[-1] is trace["steps"][-1]:
        return False
    return any(s["nat"] or s["drop"] for s in trace["steps"])


def _fold(visit: list[Obj]) -> list[Row]:
    hooks = list(dict.fromkeys(HOOK_SHORT[s["hook"]] for s in visit if s["hook"]))
    what = f"{len(visit)} steps, no change"
    row = Row(visit[0], f"{visit[0]['place']} {visit[0]['dev']}", ", ".join(hooks[:3]) or "bridge, route", what)
    row.ct = next((s["ct"] for s in reversed(visit) if s["ct"]), "")
    return [row]


def _fold_tunnel(visit: list[Obj]) -> list[Row]:
    """A machine that only passed the packet on, told in up to two halves around the wrapping or unwrapping that it did."""
    rows: list[Row] = []
    begin = 0
    for at, step in enumerate(visit):
        if step["func"] in ("vxlan_xmit_one", "vxlan_rcv"):
            rows += _fold(visit[begin:at]) if at > begin else []
            rows.append(_tunnel(step, step["place"], visit, at, {}, set()))
            begin = at + 1
    return rows + (_fold(visit[begin:]) if begin < len(visit) else [])


def _tunnel(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row:
    """Into a UDP packet to the other node, or out of one."""
    data = step.get("data", {})
    if step["func"] == "vxlan_rcv":
        return Row(step, f"{place} vxlan", f"{step['dev']}: VNI {data.get('vni', '')}", "unwrapped  TUNNEL", "TUNNEL")
    rule = f"VNI {data.get('vni', '')} > {data.get('remote', '')}"
    return Row(step, f"{place} vxlan", rule, "wrapped  TUNNEL", "TUNNEL", rule)


def _plain_row(step: Obj) -> Row:
    where = f"{step['place']} {step['dev']}".strip()
    hook = step["func"]
    what = step["what"]
    if step["func"] == "ipt_do_table":
        hook, what = _rule_name(step), _verdict(step)
    tag = "NAT" if step["nat"] else "DROP" if step["drop"] else ""
    return Row(step, where, hook, what, tag, _rule_name(step) if step["table"] else "")


def _fit_rule(text: str, width: int) -> str:
    """A rule's name in `width` columns: the chain may be cut, its number never."""
    if len(text) <= width or " #" not in text:
        return _cut(text, width)
    name, _, number = text.rpartition(" #")
    return f"{_cut(name, width - len(number) - 2)} #{number}"


def _rule_name(step: Obj) -> str:
    if step["rule_no"] < 0:
        return f"{step['table']} {step['chain']} policy"
    dice = step.get("data", {}).get("dice")
    odds = f" p={dice['below']:.2g}" if dice and "below" in dice else ""
    return f"{step['table']} {step['chain']} #{step['rule_no']}{odds}"


def _verdict(step: Obj) -> str:
    verdict: str = step["verdict"]
    dice = step.get("data", {}).get("dice")
    if dice and "rolled" in dice and verdict == "NO MATCH":
        return f"rolled {dice['rolled']:.2f}, no"
    return _target(verdict)


def _target(verdict: str) -> str:
    for word in ("jump ", "goto "):
        if verdict.startswith(word):
            return f"> {verdict.removeprefix(word)}"
    return verdict


def _tell(visit: list[Obj], trace: Obj) -> list[Row]:
    """One namespace's part of the way."""
    rows: list[Row] = []
    place = visit[0]["place"]
    hooks = {s["hook"] for s in visit if s["hook"]}
    for at, step in enumerate(visit):
        row = _row(step, place, visit, at, trace, hooks)
        if row is None:
            continue
        if step["nat"] and rows and rows[-1].what in ("DNAT", "SNAT", "MASQUERADE", "REDIRECT"):
            rows[-1].addr, rows[-1].tag, rows[-1].ct = row.addr, "NAT", row.ct
            rows[-1].what += f"  NAT to {_changed_end(step)}" if rows[-1].rule else ""
            continue
        rows.append(row)
    return rows


def _changed_end(step: Obj) -> str:
    data = step.get("data") or {}
    return str(data.get("after", ""))


def _row(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row | None:
    teller = _TELLERS.get(step["func"])
    if teller is not None:
        return teller(step, place, visit, at, trace, hooks)
    return None


def _sent(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row:
    kind = trace["kind"]
    if kind == "TCP SYN" and step["us"] == 0:
        return Row(step, f"{place} socket", "connect()", "4-tuple recorded")
    return Row(step, f"{place} tcp", kind.removeprefix("TCP "), f"sent in {step.get('data', {}).get('state', '')}".strip())


def _local_out(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row:
    data = step.get("data", {})
    return Row(step, f"{place} route", data.get("route", "local"), f"dev {data.get('dev', step['dev'])}", rule=data.get("route", ""))


def _output(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row | None:
    """The pod's own netfilter: usually empty, and that is the answer to "why did nat OUTPUT not see it?"."""
    made_here = any(s["func"] == "ip_local_out" for s in visit[:at])
    if made_here and not hooks and step["node"] != step["netns"]:
        return Row(step, f"{place} netfilt.", "OUTPUT POSTROUTING", "no rules in this pod")
    return None


def _bridge_pre(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row:
    port = next((s["dev"] for s in visit[:at] if s["func"] == "netif_receive_skb"), step["dev"])
    return Row(step, f"{place} {_short_dev(port)}", f"{step['dev']} (br_netfilter on)", "iptables look")


def _conntrack_in(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row:
    return Row(step, f"{place} {HOOK_SHORT.get(step['hook'], '')}", "conntrack -200", step["what"], rule="conntrack")


def _rule(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row | None:
    """A rule that matched, or rolled dice; policies only where they decided a filter table."""
    if step["rule_no"] < 0 and (step["table"] in QUIET_TABLES or step["table"] == "nat"):
        return None
    if step["rule_no"] < 0 and step["chain"] not in ("FORWARD", "INPUT"):
        return None
    if _came_to_nothing(visit, at):
        return None
    name = _rule_name(step)
    return Row(step, f"{place} {HOOK_SHORT.get(step['hook'], '')}", name, _verdict(step), rule=name)


def _came_to_nothing(visit: list[Obj], at: int) -> bool:
    """A jump into a chain in which no rule matched: the next station of the table is in the caller again."""
    step = visit[at]
    if not step["verdict"].startswith("jump ") or step["table"] != "filter":
        return False
    target = step["verdict"].removeprefix("jump ")
    following = next((s for s in visit[at + 1 :] if s["func"] == "ipt_do_table"), None)
    return following is None or following["chain"] != target


def _manip(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row:
    half = step.get("data", {}).get("half", "destination")
    prio = step["priority"]
    service = {e["ip"] for e in trace["endpoints"] if e["what"].startswith("service ")}
    after = str(step.get("data", {}).get("after", "")).partition(":")[0]
    if half == "source":
        what = "un-DNAT" if after in service else "SNAT"
    else:
        what = "DNAT" if prio == -100 and after not in service else "un-SNAT"
    name = f"nat {prio:+d}, from the entry" if isinstance(prio, int) else "nat"
    return Row(step, f"{place} {HOOK_SHORT.get(step['hook'], '')}", name, what + "  NAT", "NAT", rule=name)


def _forward(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row:
    data = step.get("data", {})
    return Row(step, f"{place} route", data.get("route", ""), f"dev {data.get('dev', '')}", rule=data.get("route", ""))


def _confirm(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row:
    return Row(step, f"{place} {HOOK_SHORT.get(step['hook'], '')}", "conntrack confirm", "entry stored")


def _link(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row | None:
    if at and visit[at - 1]["func"] == "link_send":
        return None
    return Row(step, f"{place} {step['dev']}", "neigh, qdisc, tx", f"{step['length'] + 14} bytes on the wire")


def _br_forward(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row | None:
    return Row(step, f"{place} cni0", step["func"] and "bridge", step["what"].replace("to port ", "to "))


def _waits(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row:
    return Row(step, f"{place} neigh", f"ARP on {step['dev']}", "waits for the MAC")


def _deliver(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row:
    proto = "UDP" if step.get("tunnel") else trace["kind"].partition(" ")[0]
    rules = "INPUT" if "INPUT" in hooks else "INPUT, no rules"
    return Row(step, f"{place} {step['dev']}", rules, f"to {proto}")


def _tcp_rcv(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row:
    data = step.get("data", {})
    if data.get("state") == "LISTEN":
        queue = data.get("syn_queue", 0)
        return Row(step, f"{place} tcp", f"no ESTAB, {step['what'].partition(', ')[2]}", f"SYN queue {queue} > {queue + 1}")
    return Row(step, f"{place} tcp", "4-tuple looked up", step["what"].replace(" found by its 4-tuple", " found"))


def _said(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row:
    return Row(step, place, step["func"], step["what"])


def _dropped(step: Obj, place: str, visit: list[Obj], at: int, trace: Obj, hooks: set[str]) -> Row:
    return Row(step, place, step.get("data", {}).get("reason", ""), "DROP", "DROP")


_TELLERS = {
    "tcp_transmit_skb": _sent, "ip_local_out": _local_out, "ip_output": _output, "br_nf_pre_routing": _bridge_pre,
    "nf_conntrack_in": _conntrack_in, "ipt_do_table": _rule, "nf_nat_manip_pkt": _manip, "ip_forward": _forward, "nf_confirm": _confirm,
    "link_send": _link, "br_forward": _br_forward, "neigh_event_send": _waits, "ip_local_deliver": _deliver, "tcp_v4_rcv": _tcp_rcv,
    "vxlan_xmit_one": _tunnel, "vxlan_rcv": _tunnel,
    "udp_queue_rcv_skb": _said, "ping_rcv": _said, "icmp_rcv": _said, "icmp_push_reply": _said, "tcp_v4_send_reset": _said,
    "ip_protocol_deliver_rcu": _said, "kfree_skb_reason": _dropped, "nf_ct_resolve_clash": _said, "ip_do_fragment": _said,
}


def _short_dev(name: str) -> str:
    return name if len(name) <= 8 or name.startswith("flannel.") else name[:8]


# ---- tables


def _headline(trace: Obj, width: int) -> str:
    took = _took(trace["took_ns"])
    ends = {"delivered": f"ok, delivered after {took}", "in flight": f"still on its way after {took}"}
    ends["left"] = f"leaves by {trace.get('left_by', '')} after {took}"
    end = ends.get(trace["outcome"]) or f"DROP at {trace['at']} after {took}"
    left = _cut(f"TRACE {trace['id']}  {trace['kind']}  {trace['from']} > {trace['to']}", width - len(end) - 2)
    return left + end.rjust(width - len(left))


def _took(ns: int) -> str:
    """µs, as in the table, until they become hard to read."""
    return f"{ns // USEC} µs" if ns < 10 * MSEC else f"{ns // MSEC} ms" if ns < SEC else f"{ns / SEC:.3g} s"


def _table(rows: list[Row], trace: Obj, width: int, numeric: bool) -> list[str]:
    """80 columns: +µs, WHERE, HOOK / TABLE / CHAIN, WHAT, ADDR."""
    addr_width = 7 if not numeric else 5
    hook_width = 27 + max(width - 80, 0) // 2
    what_width = width - 5 - 2 - 15 - 1 - hook_width - 1 - 1 - addr_width
    rule = "-" * (width - 1)
    out = [f"{'+µs':>5}  {'WHERE':<15} {'HOOK / TABLE / CHAIN':<{hook_width}} {'WHAT':<{what_width}} ADDR".rstrip(), rule]
    last_us, last_place = -1, ""
    for row in rows:
        us = "" if row.us == last_us else str(row.us)
        place = "" if row.place == last_place and us == "" else row.place
        last_us, last_place = row.us, row.place
        addr = _numbers(row.addr, trace) if numeric else row.addr
        what = row.what.partition("  NAT to ")[0] + ("  NAT" if "  NAT to " in row.what else "")
        where, hook = _cut(place, 15), _fit_rule(row.hook, hook_width)
        out.append(f"{us:>5}  {where:<15} {hook:<{hook_width}} {_cut(what, what_width):<{what_width}} {addr}".rstrip())
    return [*out, rule]


def _wide_table(rows: list[Row], trace: Obj, width: int, numeric: bool) -> list[str]:
    """120 columns: the priority and the rule have columns of their own, and conntrack is followed."""
    rule = "-" * (width - 1)
    out = [f"{'+µs':>5}  {'WHERE':<15} {'HOOK (priority)':<17} {'RULE':<34} {'WHAT':<24} {'ADDR':<7}CONNTRACK", rule]
    last_us, last_place, last_ct = -1, "", ""
    for row in rows:
        us = "" if row.us == last_us else str(row.us)
        place = "" if row.place == last_place and us == "" else row.place
        last_us, last_place = row.us, row.place
        hook, rule_text = _hook_column(row), row.rule or row.hook
        what = row.what.replace("DNAT  NAT to", "NAT to").replace("SNAT  NAT to", "NAT to").replace("MASQUERADE  NAT to", "NAT to")
        ct = _ct_words(row.ct) if row.ct != last_ct else ""
        last_ct = row.ct or last_ct
        addr = _numbers(row.addr, trace) if numeric else row.addr
        line = (f"{us:>5}  {_cut(place, 15):<15} {_cut(hook, 17):<17} {_fit_rule(rule_text, 34):<34} {_cut(what, 24):<24} {addr:<7}{ct}")
        out.append(line.rstrip())
    return [*out, rule]


def _hook_column(row: Row) -> str:
    words = {"PRE": "PREROUTING", "IN": "INPUT", "FWD": "FORWARD", "OUT": "OUTPUT", "POST": "POSTROUTING"}
    name = words.get(row.place.rpartition(" ")[2], "")
    if not name:
        return ""
    prio = row.prio
    return f"{name} {prio:+d}" if isinstance(prio, int) and prio else f"{name} {prio}".strip() if prio != "" else name


def _ct_words(ct: str) -> str:
    return ct.partition(" ")[2].partition(" ")[0] if ct else ""


def _numbers(addr: str, trace: Obj) -> str:
    by_letter = {e["letter"]: e["addr"] for e in trace["endpoints"]}
    return " > ".join(by_letter.get(letter, letter) for letter in addr.split(" → "))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _fit(line: str, width: int) -> str:
    """Nothing is wider than the page, except commands: they must work when pasted."""
    return line if line.startswith(("next: ", "look: ")) else _cut(line.rstrip(), width)


# ---- below the table


def _views(trace: Obj, width: int) -> list[str]:
    """The two views that never meet: what the socket knows, what the wire carries."""
    socket, wire = trace.get("socket"), trace.get("wire")
    if not socket or not wire or trace["outcome"] == "dropped":
        return []
    left_width, right_width = 37, width - 1 - 37 - 3
    left_title = f"- SOCKET'S VIEW ({_cut(socket['place'], left_width - 19)}) "
    right_title = f"- WIRE'S VIEW ({_cut(wire['place'] + ' ' + wire['dev'], right_width - 17)}) "
    out = [f"+{left_title:-<{left_width}}+{right_title:-<{right_width}}+"]
    rewritten = "  rewritten" if wire["dst"] != socket["peer"] else ""
    resourced = "  rewritten" if wire["src"] != socket["local"] else ""
    head = trace["head"]
    flags = "".join(c for bit, c in ((2, "S"), (1, "F"), (4, "R"), (8, "P"), (16, ".")) if head["flags"] & bit)
    left = [f"ss:    {socket['local']}", f"       peer {socket['peer']:<17}{socket['letter']}", f"state: {socket['state']}"]
    right = [f"src: {wire['src']:<18} {wire['src_letter']:<2}{resourced}", f"dst: {wire['dst']:<18} {wire['dst_letter']:<2}{rewritten}",
             f"flags {flags}  seq 0  win {head['window']}" + (f"  mss {head['mss']}" if head["mss"] else "")]
    if tunnel := wire.get("tunnel"):
        left.append("")
        right.append(f"in UDP {tunnel['src'].partition(':')[0]} > {tunnel['dst']}")
    for a, b in zip(left, right, strict=True):
        out.append(f"| {_cut(a, left_width - 2):<{left_width - 2}} | {_cut(b, right_width - 2):<{right_width - 2}} |")
    return [*out, f"+{'-' * left_width}+{'-' * right_width}+"]


def _strip(trace: Obj, width: int) -> list[str]:
    """Socket, wire, wire, socket: the whole story in one line for each capture point."""
    points = trace.get("points") or []
    if not points or not trace.get("socket"):
        return []
    between = [p for p in points[1:-1] if p["addr"] != points[0]["addr"]]
    if any(p.get("tunnel") for p in points):  # one on each side of a change
        between = [p for p, before in zip(points[1:-1], points, strict=False) if p["addr"] != before["addr"]][:2]
    chosen = [points[0], *between][:3]
    cells = [(f"SOCKET ({trace['socket']['place']})", f"{trace['socket']['local']}", f"peer {trace['socket']['peer']}")]
    previous: Obj = {}
    for point in [*chosen, points[-1]]:
        note = ("   NAT", "^ changed here") if previous and point["addr"] != previous["addr"] else ("", "")
        if point.get("tunnel") != previous.get("tunnel"):
            note = ("   TUNNEL", "^ wrapped") if point.get("tunnel") else ("", "^ unwrapped")
        cells.append((f"WIRE {point['place']} {_short_dev(point['dev'])}", point["addr"] + note[0], note[1]))
        previous = point
    size = (width - 1) // len(cells) - 3
    return [" | ".join(_cut(cell[n], size).ljust(size) for cell in cells).rstrip() for n in range(3)]


def _conntrack(trace: Obj) -> list[str]:
    ct = trace.get("conntrack")
    if not ct or trace["outcome"] == "dropped":
        return []
    entry = ct.get("entries")
    if not entry:
        return [f"CONNTRACK {ct['place']}   {ct['entry']}"]
    left = f"CONNTRACK {ct['place']}, entry {entry['id']}"
    words = entry["summary"].split(" ")
    state = " ".join([words[0], *(w for w in words[1:] if w.isupper())])
    return [f"{left:<37}now {state}, {entry['left_s']} s left", f"  original  {entry['original']}",
            f"  reply     {entry['reply']}     <- the way back is kept here"]


def _ending(trace: Obj) -> list[str]:
    """What it means, what to look at next, where to read more."""
    if trace["outcome"] == "dropped":
        return _dropped_ending(trace)
    letters = {e["letter"]: e for e in trace["endpoints"]}
    socket, wire = trace.get("socket"), trace.get("wire")
    out = [""]
    if socket and wire and wire["dst"] != socket["peer"]:
        asked, carried = socket["letter"], wire["dst_letter"]
        wire_word = "tunnel" if wire.get("tunnel") else "wire"
        out.append(f"The app asked for {asked}, the {wire_word} carries {carried}, and one table remembers both.")
    elif any(s["nat"] for s in trace["steps"]):
        out.append("Rules are asked once per connection; the rest is translated from the entry.")
    elif len(letters) == 2:
        out.append("Nothing was translated: both ends see the same two addresses.")
    more = f"--reply {trace['id']}" if trace["kind"] == "TCP SYN" else f"--packet {trace['id']} -v"
    out.append(f"next: kubenet trace {more}")
    return out


def _dropped_ending(trace: Obj) -> list[str]:
    drop = trace["drop"]
    out = [f"DROP  {drop['words'][0].upper()}{drop['words'][1:]}."]
    if drop.get("rule"):
        rule = drop["rule"]
        comment = f": {rule['comment']}" if rule["comment"] not in ("", rule["verdict"]) else ""
        out.append(f"      {rule['table']} {rule['chain']} #{rule['rule_no']} {rule['verdict']}{comment}")
    probe = trace.get("probe")
    if probe:
        if probe["gave_up"] or not probe["error"]:
            out.append(f"      The app sees nothing: no answer comes. The probe gave up after {_took(probe['took_ns'])}.")
        else:
            out.append(f"      The app sees: {probe['error']} after {_took(probe['took_ns'])}.")
    difference = trace.get("first_difference")
    if difference:
        out.append(f"A good trace to the same destination: {difference['good']} (from {difference['good_from']}). First difference:")
        out.append(f"      {difference['good']}:  {difference['there'] or '(ends earlier)'}")
        out.append(f"      {trace['id']}:  {difference['here'] or '(ends earlier)'}")
    rule = drop.get("rule")
    where = drop["where"]
    out.append(f"look: kubenet exec {trace['steps'][-1]['node']} -- iptables -t {rule['table']} -L {rule['chain']} -n --line-numbers"
               if rule else f"look: kubenet exec {where} -- nstat")
    return out


# ---- other forms


def oneline(trace: Obj) -> str:
    """One packet of a flow on one line."""
    first, last = trace["steps"][0], trace["steps"][-1]
    seen = first["addr"] if first["addr"] == last["addr"] else f"{first['addr']} ... {last['addr']}"
    seconds = trace["t_ns"] / 1_000_000_000
    end = {"delivered": "ok", "dropped": "DROP " + trace.get("drop", {}).get("words", "")}.get(trace["outcome"], trace["outcome"])
    return f"{seconds:.6f}s  {trace['id']:>5}  {trace['kind']:<18} {first['place']:<12} > {last['place']:<12} {seen:<16} {end}"


_PICTURE = """\
<in-----> --> [raw①]-[conntrack②]-[mangle③]-[nat④ DNAT] --> (route⑤) --+
                              PREROUTING                               |
local process <-- [nat⑥]-[filter⑦]-[mangle⑧] <-------------------------+ no
                              INPUT                                    |
<out----> <-- [nat⑨]-[mangle⑩] <--+---- [filter⑪]-[mangle⑫] <----------+ yes
                  POSTROUTING     |             FORWARD
                                  +---- [filter⑬]-[nat⑭]-[mangle⑮] <---+
                                                OUTPUT                 |
local process --> [raw⑰]-[conntrack⑯] ---------------------------------+"""
_PLACES = ("PREROUTING/raw", "PREROUTING/ct", "PREROUTING/mangle", "PREROUTING/nat", "route", "INPUT/nat", "INPUT/filter",
           "INPUT/mangle", "POSTROUTING/nat", "POSTROUTING/mangle", "FORWARD/filter", "FORWARD/mangle", "OUTPUT/filter",
           "OUTPUT/nat", "OUTPUT/mangle", "OUTPUT/ct", "OUTPUT/raw")  # ① to ⑰


def diagram(trace: Obj) -> str:
    """The hooks of the machine that translated the packet (the first it met, if none did); * where it went."""
    steps = [s for s in trace["steps"] if s["node"] == s["netns"]]
    where = next((s["node"] for s in steps if s["nat"]), steps[0]["node"] if steps else "")
    mine = [s for s in steps if s["node"] == where]
    seen = {f"{s['hook']}/{'ct' if s['func'] in ('nf_conntrack_in', 'nf_confirm') else s['table'] or 'nat'}" for s in mine if s["hook"]}
    if any(s["func"] in ("ip_forward", "ip_local_deliver", "ip_local_out") for s in mine):
        seen.add("route")
    entered = next((s["dev"] for s in mine if s["func"] == "netif_receive_skb"), "local")
    left = next((s["dev"] for s in reversed(mine) if s["func"] in ("link_send", "dev_queue_xmit")), "")
    text = f"{where:<42}* = this packet went here\n{_PICTURE}"
    for number, place in enumerate(_PLACES):
        text = text.replace(chr(ord("①") + number), "*" if place in seen else " ")
    return text.replace("<in----->", f"{_short_dev(entered):>9}").replace("<out---->", f"{_short_dev(left):>9}")


def _colored(text: str) -> str:
    """Words keep their meaning; colour repeats it."""
    out = []
    for line in text.splitlines():
        if "DROP" in line:
            line = line.replace("DROP", f"{BOLD_RED}DROP{RESET}")
        elif "  NAT" in line:
            line = line.replace("  NAT", f"  {BOLD_MAGENTA}NAT{RESET}")
        elif "ok, delivered" in line:
            line = line.replace("ok, delivered", f"{BLUE}ok{RESET}, delivered")
        elif "no change" in line:
            line = f"{DIM}{line}{RESET}"
        out.append(line)
    return "\n".join(out)
