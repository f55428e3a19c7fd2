"""What the objects of `ip` share: options, names of numbers, errors, devices and namespaces.

Source: iproute2 lib/utils.c, lib/rt_names.c, include/uapi/linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import json
from typing import Any

from kubenet.userland.process import Process
from kubenet.wire.addr import ip4

SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
SCOPE_NUMBERS = {name: number for number, name in SCOPES.items()}
TYPES = {1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable", 8: "prohibit",
         9: "throw"}
TYPE_NUMBERS = {name: number for number, name in TYPES.items()}
PROTOCOLS = {0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 10: "mrt", 11: "zebra", 12: "bird",
             13: "dnrouted", 14: "xorp", 15: "ntk", 16: "dhcp", 18: "keepalived", 42: "babel", 99: "openr", 186: "bgp", 187: "isis",
             188: "ospf", 189: "rip", 192: "eigrp"}
IP_PROTOCOLS = {1: "icmp", 2: "igmp", 4: "ipencap", 6: "tcp", 17: "udp", 41: "ipv6", 47: "gre", 50: "esp", 51: "ah", 58: "ipv6-icmp",
                89: "ospf", 103: "pim", 112: "vrrp", 132: "sctp", 136: "udplite"}
TABLES = {253: "default", 254: "main", 255: "local"}
IFF_NAMES = ((0x8, "LOOPBACK"), (0x2, "BROADCAST"), (0x10, "POINTOPOINT"), (0x1000, "MULTICAST"), (0x80, "NOARP"),
             (0x200, "ALLMULTI"), (0x100, "PROMISC"), (0x400, "MASTER"), (0x800, "SLAVE"))


class IpError(Exception):
    """What ip prints, and its exit code."""

    def __init__(self, text: str, code: int = 255) -> None:
        super().__init__(text)
        self.code = code


class Options:
    """-4 -6 -o -s -br -d -j -p -c -n NS."""

    def __init__(self) -> None:
        self.oneline = self.stats = self.brief = self.details = self.json = self.six = self.numeric = self.pretty = False
        self.four = False


def namespace_of(proc: Process, name: str) -> Any:
    """A named namespace of the machine, visible on nodes only."""
    spaces = proc.container.host.namespaces if proc.container.image.name == "node" else {}
    found = spaces.get(name) or next((n for key, n in spaces.items() if key.rpartition("/")[2] == name), None)
    if found is None:
        proc.err(f'Cannot open network namespace "{name}": No such file or directory\n')
    return found


def device_of(net: Any, name: str) -> Any:
    dev = net.devs.get(name)
    if dev is None:
        raise IpError(f'Cannot find device "{name}"', 1)
    return dev


def command_of(args: list[str], names: tuple[str, ...], default: str = "show", what: str = "") -> str:
    """The command word, shortened or missing."""
    if not args:
        return default
    word = args.pop(0)
    if word in ("list", "lst", "ls"):
        return "show"
    found = next((n for n in names if n.startswith(word)), None)
    if found is None:
        args.insert(0, word)
        try_this = f"ip {what} help" if what else "ip help"
        raise IpError(f'Command "{word}" is unknown, try "{try_this}".')
    return found


def cidr_of(text: str) -> tuple[int, int]:
    """(address, length), host bits kept."""
    address, slash, length = text.partition("/")
    plen = int(length) if slash else 32
    if not 0 <= plen <= 32:
        raise ValueError(text)
    return ip4(address), plen


def address_of(text: str, kind: str = "any valid") -> int:
    try:
        return ip4(text)
    except ValueError:
        raise IpError(f'Error: {kind} address is expected rather than "{text}".', 1) from None


def take(args: list[str]) -> str:
    """The next word; it may not be missing. Tool: NEXT_ARG()."""
    if not args:
        raise IpError('Command line is not complete. Try option "help"')
    return args.pop(0)


def invarg(why: str, word: str) -> IpError:
    """A word that makes no sense. Tool: invarg()."""
    return IpError(f'Error: argument "{word}" is wrong: {why}')


def prefix_of(word: str, kind: str = "any valid") -> tuple[int, int]:
    """(address, length); words for everything, and a short address, as 10/8. Tool: get_prefix_1()."""
    if word in ("all", "any", "default"):
        return 0, 0
    if ":" in word:
        raise OSError(errno.EINVAL, "Invalid source address.")
    try:
        address, _, length = word.partition("/")
        if address.count(".") < 3:  # "10/8", "0/0"
            address += ".0" * (3 - address.count("."))
        return cidr_of(f"{address}/{length}" if length else address)
    except ValueError:
        raise IpError(f'Error: {kind} prefix is expected rather than "{word}".', 1) from None


def number_of(word: str, why: str, base: int = 0, most: int = 0xFFFFFFFF) -> int:
    """Tool: get_unsigned()."""
    try:
        value = int(word, base)
    except ValueError:
        raise invarg(why, word) from None
    if not 0 <= value <= most:
        raise invarg(why, word)
    return value


def named_number(word: str, names: dict[int, str], why: str, most: int = 255) -> int:
    """A number or its name. Tool: rtnl_rtprot_a2n() and others."""
    found = next((number for number, name in names.items() if name == word), None)
    return number_of(word, why, most=most) if found is None else found


DSCP = {"default": 0, "EF": 0xB8, **{f"CS{n}": n << 5 for n in range(8)},
        **{f"AF{c}{d}": (c << 3 | d << 1) << 2 for c in range(1, 5) for d in range(1, 4)}}


def dsfield_of(word: str) -> int:
    """Tool: rtnl_dsfield_a2n(), hexadecimal unless a name of /etc/iproute2/rt_dsfield."""
    return DSCP[word] if word in DSCP else number_of(word, "TOS value is invalid\n", 16, 255)


def json_text(rows: list[dict[str, Any]], options: Options) -> str:
    """Objects as -j prints them, and as -j -p does. Tool: lib/json_writer.c."""
    if options.pretty and not rows:
        return "[ ]\n"
    if options.pretty:
        return "[ " + ",".join(_pretty(row, 1) for row in rows) + " ]\n"
    return json.dumps(rows, separators=(",", ":")) + "\n"


def _pretty(value: Any, depth: int) -> str:
    """Objects over lines, arrays of plain values in one."""
    if isinstance(value, dict):
        if not value:
            return "{}"
        pad = "    " * (depth + 1)
        body = ",\n".join(f"{pad}{json.dumps(key)}: {_pretty(one, depth + 1)}" for key, one in value.items())
        return "{\n" + body + "\n" + "    " * depth + "}"
    if isinstance(value, list):
        return "[ ]" if not value else "[ " + ",".join(_pretty(one, depth + 1) for one in value) + " ]"
    return json.dumps(value)
