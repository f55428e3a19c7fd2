"""`iptables -L`: chains as people read them, column for column.

Sources: iptables 1.8.9 print_header(), print_firewall() (iptables.c), print_rule_details(), xtables_print_num() (xshared.c).
"""

from __future__ import annotations

from kubenet.kernel.netfilter.xtables.names import protocol_name
from kubenet.kernel.netfilter.xtables.save import addr_text, network_text
from kubenet.kernel.netfilter.xtables.spec import AF_INET, FULL_MASK, Header, RuleSpec
from kubenet.kernel.netfilter.xtables.table import Table


def number_text(value: int, exact: bool, width: int) -> str:
    """A counter in 5 columns with K, M, G, T, or in 8 columns exactly. iptables: xtables_print_num()."""
    if exact:
        return f"{value:{8 if width else 0}} "
    if value <= 99999:
        return f"{value:{5 if width else 0}} "
    for unit in "KMGT":
        value = (value + 500) // 1000
        if value <= 9999 or unit == "T":
            return f"{value:{4 if width else 0}}{unit} "
    raise AssertionError("unreachable")


def address_text(addr: int, mask: int, numeric: bool, family: int = AF_INET) -> str:
    """10.0.0.1, 10.0.0.0/8, 0.0.0.0/0 or anywhere."""
    if mask == 0:
        return ("0.0.0.0/0" if family == AF_INET else "::/0") if numeric else "anywhere"
    return addr_text(addr, family) if mask == FULL_MASK[family] else network_text(addr, mask, family)


def target_name(rule: RuleSpec) -> str:
    """What stands in the target column."""
    return rule.target.NAME if rule.target is not None else rule.jump


def interface_text(name: str, inverted: bool, numeric: bool) -> str:
    """eth0, !eth0, * or any."""
    return ("!" if inverted else "") + (name or ("*" if numeric else "any"))


def fragment_text(head: Header) -> str:
    """The opt column: --, -f, !f."""
    return ("!" if head.frag < 0 else "-") + ("f" if head.frag else "-")


def details(rule: RuleSpec, numeric: bool) -> str:
    """Matches and target in words."""
    out = "[goto] " if rule.goto else ""
    for match in rule.matches:
        out += match.listing(numeric)
    if rule.target is not None:
        out += rule.target.listing(numeric)
    return out


def rule_line(
    rule: RuleSpec, number: int, counts: tuple[int, int], numeric: bool, verbose: bool, exact: bool, numbered: bool,
) -> str:
    """One row of the table. iptables: print_firewall()."""
    head = rule.head
    out = f"{number:<4} " if numbered else ""
    if verbose:
        out += number_text(counts[0], exact, 1) + number_text(counts[1], exact, 1)
    proto = str(head.proto) if numeric else protocol_name(head.proto)
    out += f"{target_name(rule):<9} {'!' if head.proto_inv else ' '}{proto:<4} {fragment_text(head)} "
    if verbose:
        out += f" {interface_text(head.iface, head.in_inv, numeric):<6} {interface_text(head.outface, head.out_inv, numeric):<6} "
    out += f"{'!' if head.src_inv else ' '}{address_text(head.src, head.smask, numeric, head.family):<19} "
    out += f"{'!' if head.dst_inv else ' '}{address_text(head.dst, head.dmask, numeric, head.family):<19} "
    return out + details(rule, numeric) + "\n"


def rule_sentence(rule: RuleSpec) -> str:
    """The line that `iptables -v -A ...` echoes."""
    head = rule.head
    out = f"{target_name(rule)} {'!' if head.proto_inv else ' '}{protocol_name(head.proto)} opt {fragment_text(head)} "
    out += f"in {interface_text(head.iface, head.in_inv, True)} out {interface_text(head.outface, head.out_inv, True)} "
    out += f"{'!' if head.src_inv else ' '}{address_text(head.src, head.smask, True, head.family)} "
    out += f"{'!' if head.dst_inv else ' '}-> {address_text(head.dst, head.dmask, True, head.family)}  "
    return out + details(rule, True) + "\n"


def chain_head(table: Table, name: str, refs: dict[str, int], verbose: bool, exact: bool, numbered: bool) -> str:
    """The two lines above a chain's rules. iptables: print_header()."""
    if name in table.policies:
        out = f"Chain {name} (policy {table.policies[name]}"
        if verbose:
            packets, octets = table.policy_counters[name]
            out += f" {number_text(packets, exact, 0)}packets, {number_text(octets, exact, 0)}bytes"
        out += ")\n"
    else:
        out = f"Chain {name} ({refs.get(name, 0)} references)\n"
    if numbered:
        out += "num  "
    if verbose:
        out += f"{'pkts':>8} {'bytes':>10} " if exact else f"{'pkts':>5} {'bytes':>5} "
    out += f"{'target':<9}  prot opt"
    if verbose:
        out += f" {'in':<6} {'out':<6} "
    return out + f" {'source':<19}  {'destination':<19} \n"


def list_chains(table: Table, chain: str, number: int, numeric: bool, verbose: bool, exact: bool, numbered: bool) -> str:
    """All chains, or one, or one rule of it. KeyError: there is no such chain. iptables: list_entries()."""
    names = [chain] if chain else table.names()
    refs = table.references()
    parts = []
    for name in names:
        rules = table.chains[name].rules
        counts = table.counters.get(name) or [0] * (2 * len(rules))
        out = "" if number else chain_head(table, name, refs, verbose, exact, numbered)
        for i, rule in enumerate(rules):
            if not number or number == i + 1:
                out += rule_line(rule, i + 1, (counts[2 * i], counts[2 * i + 1]), numeric, verbose, exact, numbered)
        parts.append(out)
    return "\n".join(parts)
