"""The words of iptables' command line: how a line is split into them, which options there are, how values are read.

Sources: iptables 1.8.9 add_param_to_argv(), commands_v_options (xshared.c), xtables_ipparse_multiple() (xtables.c).
"""

from __future__ import annotations

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.names import PROTOCOLS
from kubenet.kernel.netfilter.xtables.options import number
from kubenet.wire.addr import ip4, ip6

CHAIN_MAX = 29  # XT_EXTENSION_MAXNAMELEN

# long name -> (letter, 0: no argument, 1: one, 2: perhaps one, attached with =)
LONG: dict[str, tuple[str, int]] = {
    "append": ("A", 1), "delete": ("D", 1), "check": ("C", 1), "insert": ("I", 1), "replace": ("R", 1), "list": ("L", 2),
    "list-rules": ("S", 2), "flush": ("F", 2), "zero": ("Z", 2), "new-chain": ("N", 1), "delete-chain": ("X", 2),
    "rename-chain": ("E", 1), "policy": ("P", 1), "source": ("s", 1), "destination": ("d", 1), "src": ("s", 1),
    "dst": ("d", 1), "protocol": ("p", 1), "in-interface": ("i", 1), "jump": ("j", 1), "table": ("t", 1), "match": ("m", 1),
    "numeric": ("n", 0), "out-interface": ("o", 1), "verbose": ("v", 0), "wait": ("w", 2), "wait-interval": ("W", 2),
    "exact": ("x", 0), "fragments": ("f", 0), "version": ("V", 0), "help": ("h", 2), "line-numbers": ("0", 0),
    "modprobe": ("M", 1), "set-counters": ("c", 1), "goto": ("g", 1), "ipv4": ("4", 0), "ipv6": ("6", 0),
}
SHORT: dict[str, int] = {**{letter: kind for letter, kind in LONG.values() if letter != "0"}, "b": 0}
COMMANDS = "ADCIRLSFZNXEP"

# command -> options it does not take, of "nsdpjvxio0cf". iptables: commands_v_options
ILLEGAL: dict[str, str] = {
    "I": "nx0", "D": "nx0c", "D#": "nsdpjxio0cf", "R": "nx0", "A": "nx0", "L": "sdpjiocf", "F": "nsdpjxio0cf", "Z": "nsdpjxio0cf",
    "N": "nsdpjxio0cf", "X": "nsdpjxio0cf", "P": "nsdpjxio0f", "E": "nsdpjxio0cf", "S": "nsdpjxio0cf", "C": "nx0c",
}

USAGE = """iptables v1.8.9 (legacy)

Usage: iptables -A|-C|-D chain rule        append, check, delete a rule
       iptables -I chain [number] rule     insert;  -R chain number rule: replace;  -D chain number: delete
       iptables -L|-S [chain [number]]     list;    -F|-Z [chain]: flush, zero counters
       iptables -N|-X chain                new, delete chain;  -E old new: rename;  -P chain target: policy
Rule:  [!] -s -d address[/mask]  [!] -i -o device[+]  [!] -p protocol  [!] -f  -m match ...  -j target | -g chain
Also:  -t table  -n numeric  -v verbose  -x exact  --line-numbers  -c packets bytes  -w [seconds]
"""


def split_line(line: str) -> list[str]:
    """The words of a restore line: blanks separate, double quotes join, a closing quote ends a word.

    iptables: add_param_to_argv().
    """
    if '"' not in line:
        return line.split()
    words: list[str] = []
    word = ""
    quoted = escaped = False
    for char in line + "\n":
        if quoted:
            if escaped:
                word += char
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                words.append(word)
                word, quoted = "", False
            else:
                word += char
        elif char == '"':
            quoted = True
        elif char in " \t\n":
            if word:
                words.append(word)
                word = ""
        else:
            word += char
    if word:
        words.append(word)
    return words


def parse_mask(text: str) -> int:
    """/24 or /255.255.255.0 as a mask."""
    if "." in text:
        try:
            return ip4(text)
        except ValueError:
            raise XtablesError(f"invalid mask `{text}' specified")
    bits = number(text)
    if bits is None or bits > 32:
        raise XtablesError(f"invalid mask `{text}' specified")
    return (0xFFFFFFFF << (32 - bits)) & 0xFFFFFFFF


def parse_network(text: str) -> tuple[int, int]:
    """address[/mask] as (network, mask); missing octets are 0. iptables: xtables_ipparse_multiple()."""
    host, slash, rest = text.partition("/")
    mask = parse_mask(rest) if slash else 0xFFFFFFFF
    octets = host.split(".")
    if len(octets) < 4 and mask != 0 and all(o.isdigit() for o in octets):
        host = ".".join(octets + ["0"] * (4 - len(octets)))
    if mask == 0:
        return 0, 0
    try:
        return ip4(host) & mask, mask
    except ValueError:
        raise XtablesError(f"host/network `{host}' not found")


def parse_mask6(text: str) -> int:
    """/64 or /ffff:ffff:: as a mask. iptables: parse_ip6mask()."""
    if ":" in text:
        try:
            return ip6(text)
        except ValueError:
            raise XtablesError(f"invalid mask `{text}' specified")
    bits = number(text)
    if bits is None or bits > 128:
        raise XtablesError(f"invalid mask `{text}' specified")
    return ((1 << bits) - 1) << (128 - bits)


def parse_network6(text: str) -> tuple[int, int]:
    """address[/mask] as (network, mask). iptables: xtables_ip6parse_multiple()."""
    host, slash, rest = text.partition("/")
    mask = parse_mask6(rest) if slash else (1 << 128) - 1
    if mask == 0:
        return 0, 0
    try:
        return ip6(host) & mask, mask
    except ValueError:
        raise XtablesError(f"host/network `{host}' not found")


def parse_addresses(text: str, inverted: bool, family: int = 2) -> list[tuple[int, int]]:
    """The comma-separated networks of -s or -d."""
    read = parse_network if family == 2 else parse_network6
    if "," not in text:
        return [read(text)]
    if inverted:
        raise XtablesError("! not allowed with multiple source or destination IP addresses")
    return [read(part.strip()) for part in text.split(",")]


def parse_protocol(text: str) -> int:
    """A protocol's name or number."""
    value = number(text)
    if value is None:
        value = 0 if text == "all" else PROTOCOLS.get(text, -1)
    if not 0 <= value <= 255:
        raise XtablesError(f'unknown protocol "{text}" specified')
    return value


def parse_interface(text: str) -> str:
    """A device's name or its beginning."""
    if not text:
        raise XtablesError("Empty interface is likely to be undesired")
    if len(text) + 1 > 16:
        raise XtablesError(f"interface name `{text}' must be shorter than IFNAMSIZ (15)")
    return text


def parse_rule_number(text: str) -> int:
    """A rule's number, from 1."""
    value = number(text)
    if not value:
        raise XtablesError(f"Invalid rule number `{text}'")
    return value


def parse_target(text: str) -> str:
    """The name after -j."""
    if not text:
        raise XtablesError("Invalid target name (too short)")
    if len(text) >= CHAIN_MAX:
        raise XtablesError(f"Invalid target name `{text}' ({CHAIN_MAX - 1} chars max)")
    return text
