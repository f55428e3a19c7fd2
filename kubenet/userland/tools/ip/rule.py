"""ip rule: the policy rules, as list, add, del and flush see them.

list prints what the selectors that are given fit; add without a table, type or goto means `lookup main`; del removes the first
rule that has all that is given; flush removes what list would show, but never preference 0. tos is read as hexadecimal.
Leaves out: save and restore; l3mdev, uidrange, realms, suppress_ifgroup and nat, which this kernel does not support.
Source: ip-rule(8), iproute2 ip/iprule.c, recordings of iproute2 6.1 on Linux 6.18 (tests/userland/golden/ip-rule.txt).
"""

from __future__ import annotations

import errno
from typing import Any

from kubenet.kernel.ipv4.fib_rules import (
    ANY_PORT,
    FR_ACT_GOTO,
    FR_ACT_NOP,
    FR_ACT_TO_TBL,
    FR_ACT_UNSPEC,
    FibRule,
    fib_rule_add,
    fib_rule_default_pref,
    fib_rule_del,
    fib_rule_port_range,
)
from kubenet.userland.process import Process
from kubenet.userland.tools.ip.common import (
    IP_PROTOCOLS,
    PROTOCOLS,
    TABLES,
    TYPE_NUMBERS,
    TYPES,
    IpError,
    Options,
    dsfield_of,
    invarg,
    json_text,
    named_number,
    number_of,
    prefix_of,
    take,
)
from kubenet.wire.addr import ip4_text, prefix_mask

UNSUPPORTED = ("l3mdev", "uidrange", "realms", "suppress_ifgroup", "sup_group", "nat", "map-to", "tun_id")


def rule(proc: Process, net: Any, options: Options, args: list[str]) -> str:
    """ip rule [list|add|del|flush] ..."""
    word = args.pop(0) if args else "list"
    if options.six and word not in ("help",):
        return "".join(_line(r, options) for r in (FibRule(0, 255, 2), FibRule(32766, 254, 2))) if _is(word, "list", "show") else ""
    if _is(word, "list", "lst", "show"):
        rows = [r for r in net.fib[2].rules if _shown(r, args[:])]
        if options.json:
            return json_text([_fields(r, options) for r in rows], options)
        return "".join(_line(r, options) for r in rows)
    if _is(word, "add"):
        _add(net, args)
    elif _is(word, "delete"):
        _delete(net, args)
    elif _is(word, "flush"):
        for r in [r for r in net.fib[2].rules if r.pref and _shown(r, args[:], flush=True)]:
            fib_rule_del(net, r)
    elif word == "help":
        raise IpError(USAGE.rstrip())
    else:
        raise IpError(f'Command "{word}" is unknown, try "ip rule help".')
    return ""


def _is(word: str, *names: str) -> bool:
    return any(name.startswith(word) for name in names)


def _add(net: Any, args: list[str]) -> None:
    if not args:
        raise IpError('"ip rule add" requires arguments.', 1)
    made, pref = _parse(net, args, FR_ACT_TO_TBL)
    made.pref = fib_rule_default_pref(net.fib[2]) if pref is None else pref
    fib_rule_add(net, made)


def _delete(net: Any, args: list[str]) -> None:
    if not args:
        raise IpError('"ip rule del" requires arguments.', 1)
    given, pref = _parse(net, args, FR_ACT_UNSPEC)
    given.pref = pref or 0
    fib_rule_del(net, given, any_pref=pref is None)


def _parse(net: Any, args: list[str], action: int) -> tuple[FibRule, int | None]:
    """The rule of a command line, and its preference if one is given. Tool: iprule_modify()."""
    made, pref, table_ok = FibRule(0, 0), None, False
    made.action = action
    while args:
        word = args.pop(0)
        if word == "not":
            made.invert = True
        elif word == "from":
            made.src, made.src_len = prefix_of(take(args))
        elif word == "to":
            made.dst, made.dst_len = prefix_of(take(args))
        elif _is(word, "preference", "order", "priority"):
            pref = number_of(take(args), "preference value is invalid\n")
        elif word in ("tos", "dsfield"):
            made.tos = dsfield_of(take(args))
        elif word == "fwmark":
            made.mark, made.mask = _fwmark(take(args))
        elif word in ("table", "lookup"):
            made.table, table_ok = _table(take(args), "invalid table ID\n"), True
        elif word in ("suppress_prefixlength", "sup_pl"):
            made.suppress_prefixlen = number_of(take(args), "suppress_prefixlength value is invalid\n")
        elif word in ("dev", "iif"):
            made.iifname = _ifname(take(args), '"iif"/"dev" not a valid ifname')
        elif word == "oif":
            made.oifname = _ifname(take(args), '"oif" not a valid ifname')
        elif word == "ipproto":
            made.ip_proto = _ip_proto(take(args))
        elif word == "sport":
            made.sports = fib_rule_port_range(_ports(take(args)), "sport")
        elif word == "dport":
            made.dports = fib_rule_port_range(_ports(take(args)), "dport")
        elif word == "protocol" or len(word) > 3 and "protocol".startswith(word):
            made.protocol = named_number(take(args), PROTOCOLS, '"protocol" value is invalid\n')
        elif word in UNSUPPORTED:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        elif word == "goto":
            made.target, made.action, table_ok = number_of(take(args), "invalid target\n"), FR_ACT_GOTO, True
        elif word == "nop":
            made.action, table_ok = FR_ACT_NOP, True
        else:
            if word == "type":
                word = take(args)
            if word not in TYPE_NUMBERS:
                raise invarg("Failed to parse rule type", word)
            made.action, table_ok = TYPE_NUMBERS[word], True
    if action == FR_ACT_TO_TBL and not table_ok:
        made.table = 254
    return made, pref


def _table(word: str, why: str) -> int:
    return named_number(word, TABLES, why, 0xFFFFFFFF)


def _fwmark(word: str) -> tuple[int, int]:
    """A mark without mask means all its bits, a mark 0 without mask none."""
    text, slash, mask = word.partition("/")
    mark = number_of(text, "fwmark value is invalid\n")
    if slash:
        return mark, number_of(mask, "fwmask value is invalid\n")
    return mark, 0xFFFFFFFF if mark else 0


def _ifname(word: str, why: str) -> str:
    if not 0 < len(word) < 16 or "/" in word or any(c.isspace() for c in word):
        raise invarg(why, word)
    return word


def _ip_proto(word: str) -> int:
    return named_number(word, IP_PROTOCOLS, 'Invalid "ipproto" value\n')


def _ports(word: str) -> tuple[int, int]:
    """As sscanf("%hu-%hu") reads them: 16 bits, the rest is lost."""
    first, dash, last = word.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise invarg("invalid port range\n", word)
    return int(first) & 0xFFFF, int(last if dash else first) & 0xFFFF


# ---- list ------------------------------------------------------------------------------------------------------------


def _shown(r: FibRule, args: list[str], flush: bool = False) -> bool:
    """Do the selectors fit the rule? Tool: iprule_list_flush_or_save(), filter_nlmsg()."""
    shown = True
    while args:
        word = args.pop(0)
        if _is(word, "preference", "order", "priority"):
            fits = r.pref == number_of(take(args), "preference value is invalid\n")
        elif word == "not":
            fits = r.invert
        elif word in ("tos", "dsfield"):
            fits = r.tos == dsfield_of(take(args))
        elif word == "fwmark":
            value = take(args)
            mark, mask = _fwmark(value)
            fits = r.mark == mark and ("/" not in value or r.mask == mask)
        elif word in ("dev", "iif"):
            fits = r.iifname == take(args)
        elif word == "oif":
            fits = r.oifname == take(args)
        elif word == "ipproto":
            fits = r.ip_proto == _ip_proto(take(args))
        elif word == "sport":
            fits = r.sports == _ports(take(args))
        elif word == "dport":
            fits = r.dports == _ports(take(args))
        elif word in ("lookup", "table"):
            fits = r.table == _table(take(args), "table id value is invalid\n")
        elif word == "protocol" or len(word) > 3 and "protocol".startswith(word):
            wanted = named_number(take(args), PROTOCOLS, '"protocol" value is invalid\n')
            fits = not flush or r.protocol == wanted  # iproute2 6.1 asks only for flush
        elif word == "from":
            addr, plen = prefix_of(take(args), "inet")
            fits = not plen or r.src_len >= plen and not (r.src ^ addr) & prefix_mask(plen)
        else:
            addr, plen = prefix_of(take(args) if word == "to" else word, "inet")
            fits = not plen or r.dst_len >= plen and not (r.dst ^ addr) & prefix_mask(plen)
        shown = shown and fits  # the words after it are read all the same
    return shown


def _fields(r: FibRule, options: Options) -> dict[str, Any]:
    """A rule as `ip -j rule` has it, in its order. Tool: print_rule()."""
    out: dict[str, Any] = {"priority": r.pref}
    if r.invert:
        out["not"] = None
    out["src"] = ip4_text(r.src) if r.src_len else "all"
    if 0 < r.src_len < 32:
        out["srclen"] = r.src_len
    if r.dst_len:
        out["dst"] = ip4_text(r.dst)
        if r.dst_len < 32:
            out["dstlen"] = r.dst_len
    if r.tos:
        out["tos"] = f"{r.tos:#x}"
    if r.mark or r.mask:
        out["fwmark"] = f"{r.mark:#x}" if r.mark else "0"
        if r.mask != 0xFFFFFFFF:
            out["fwmask"] = f"{r.mask:#x}" if r.mask else "0"
    for key, name, index in (("iif", r.iifname, r.iif), ("oif", r.oifname, r.oif)):
        if name:
            out[key] = name
            if index < 0:
                out[key + "_detached"] = None
    if r.ip_proto:
        numeric = options.numeric or r.ip_proto not in IP_PROTOCOLS
        out["ipproto"] = f"ipproto-{r.ip_proto}" if numeric else IP_PROTOCOLS[r.ip_proto]
    for key, (first, last) in (("sport", r.sports), ("dport", r.dports)):
        if (first, last) == ANY_PORT:
            continue
        if first == last:
            out[key] = first
        else:
            out[key + "_start"], out[key + "_end"] = first, last
    if r.table:
        out["table"] = str(r.table) if options.numeric else TABLES.get(r.table, str(r.table))
    if r.suppress_prefixlen >= 0:
        out["suppress_prefixlen"] = r.suppress_prefixlen
    if r.action == FR_ACT_GOTO:
        out["goto"] = r.target
        if not r.resolved:
            out["unresolved"] = None
    elif r.action == FR_ACT_NOP:
        out["nop"] = None
    elif r.action != FR_ACT_TO_TBL:
        out["action"] = str(r.action) if options.numeric else TYPES.get(r.action, str(r.action))
    if options.details or r.protocol not in (0, 2):
        out["protocol"] = PROTOCOLS.get(r.protocol, str(r.protocol))
    return out


_TEXT = {"not": "not", "src": "from {}", "srclen": "/{}", "dst": " to {}", "dstlen": "/{}", "tos": " tos {}", "fwmark": " fwmark {}",
         "fwmask": "/{}", "iif": " iif {}", "iif_detached": " [detached]", "oif": " oif {}", "oif_detached": " [detached]",
         "ipproto": " ipproto {}", "sport": " sport {}", "sport_start": " sport {}", "sport_end": "-{}", "dport": " dport {}",
         "dport_start": " dport {}", "dport_end": "-{}", "table": " lookup {}", "suppress_prefixlen": " suppress_prefixlength {}",
         "goto": " goto {}", "unresolved": " [unresolved]", "nop": " nop", "action": " {}", "protocol": " proto {}"}


def _line(r: FibRule, options: Options) -> str:
    fields = _fields(r, options)
    out = f"{fields.pop('priority')}:\t" + ("not " if "not" in fields else "")
    fields.pop("not", None)
    return out + "".join(_TEXT[key].format(value) for key, value in fields.items()) + "\n"


USAGE = """Usage: ip rule { add | del } SELECTOR ACTION
       ip rule { flush | save | restore }
       ip rule [ list [ SELECTOR ]]
SELECTOR := [ not ] [ from PREFIX ] [ to PREFIX ] [ tos TOS ]
            [ fwmark FWMARK[/MASK] ]
            [ iif STRING ] [ oif STRING ] [ pref NUMBER ] [ l3mdev ]
            [ uidrange NUMBER-NUMBER ]
            [ ipproto PROTOCOL ]
            [ sport [ NUMBER | NUMBER-NUMBER ]
            [ dport [ NUMBER | NUMBER-NUMBER ] ]
ACTION := [ table TABLE_ID ]
          [ protocol PROTO ]
          [ nat ADDRESS ]
          [ realms [SRCREALM/]DSTREALM ]
          [ goto NUMBER ]
          SUPPRESSOR
SUPPRESSOR := [ suppress_prefixlength NUMBER ]
              [ suppress_ifgroup DEVGROUP ]
TABLE_ID := [ local | main | default | NUMBER ]
"""
