"""Names that iptables looks up in /etc/protocols and /etc/services, and the quoting of strings it prints.

Only the entries people meet are here; a port without a name prints as its number, as with a short /etc/services
(simplified: the real file has hundreds).

Sources: iptables 1.8.9 xtables_chain_protos, xtables_save_string() (xtables.c); IANA registries.
"""

from __future__ import annotations

import re

PROTOCOLS: dict[str, int] = {
    "ip": 0, "icmp": 1, "igmp": 2, "ipencap": 4, "tcp": 6, "egp": 8, "igp": 9, "udp": 17, "dccp": 33, "ipv6": 41, "rsvp": 46,
    "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "icmpv6": 58, "ospf": 89, "ipip": 94, "pim": 103, "ipcomp": 108,
    "vrrp": 112, "l2tp": 115, "sctp": 132, "mh": 135, "ipv6-mh": 135, "udplite": 136,
}
PROTOCOL_NAMES: dict[int, str] = {}
for _name, _value in PROTOCOLS.items():
    PROTOCOL_NAMES.setdefault(_value, _name)
PROTOCOL_NAMES[0] = "all"

SERVICES: dict[str, int] = {
    "tcpmux": 1, "echo": 7, "discard": 9, "daytime": 13, "chargen": 19, "ftp-data": 20, "ftp": 21, "ssh": 22, "telnet": 23,
    "smtp": 25, "time": 37, "domain": 53, "bootps": 67, "bootpc": 68, "tftp": 69, "gopher": 70, "finger": 79, "http": 80,
    "kerberos": 88, "pop3": 110, "sunrpc": 111, "ntp": 123, "imap2": 143, "snmp": 161, "snmp-trap": 162, "bgp": 179,
    "ldap": 389, "https": 443, "microsoft-ds": 445, "submission": 587, "ldaps": 636, "imaps": 993, "pop3s": 995,
    "socks": 1080, "openvpn": 1194, "ms-sql-s": 1433, "cisco-sccp": 2000, "nfs": 2049, "iscsi-target": 3260, "mysql": 3306,
    "sip": 5060, "mdns": 5353, "postgresql": 5432, "amqp": 5672, "redis": 6379, "http-alt": 8080,
}
SERVICE_NAMES: dict[int, str] = {port: name for name, port in SERVICES.items()}
LIST_ONLY_TCP = ("http", "https", "ssh", "telnet", "smtp", "ftp", "redis", "bgp", "tcpmux")  # named for tcp alone


def service_name(port: int, proto: int = 6) -> str:
    """The port's name, else its number."""
    name = SERVICE_NAMES.get(port, "")
    if not name or (proto == 132 or (proto == 17 and name in LIST_ONLY_TCP)):
        return str(port)
    return name


def protocol_name(proto: int) -> str:
    """The protocol's name, else its number."""
    return PROTOCOL_NAMES.get(proto) or str(proto)


_PLAIN = re.compile(r"[A-Za-z0-9_-]+\Z")
_ESCAPE = re.compile(r"([\"\\'])")


def save_string(text: str) -> str:
    """A blank and the string, quoted if it has anything but letters, digits, - and _. iptables: xtables_save_string()."""
    if _PLAIN.match(text):
        return " " + text
    return ' "' + _ESCAPE.sub(r"\\\1", text) + '"'
