"""The table of cases, by family. A family is one file of recordings."""

from __future__ import annotations

import rig_cases_services as services
import rig_cases_tcp as tcp
from rig_topology import Case


def _services() -> dict[str, list[Case]]:
    """Families of the services: one per kind of target, one for names (UDP), one for what happens to a connection."""
    found: dict[str, list[Case]] = {}
    for case in services.CASES:
        kind = case.name.split("-")[1] if case.rules != services.RULES else "special"
        found.setdefault("svc-" + ("dns" if kind == "gone" else kind), []).append(case)
    return found


FAMILIES: dict[str, list[Case]] = {
    "binding": tcp.BINDING, "closing": tcp.CLOSING, "connecting": tcp.CONNECTING, "handshakes": tcp.HANDSHAKES,
    "queues": tcp.QUEUES, "data": tcp.DATA, "udp": tcp.UDP, **_services(),
}
CASES: list[Case] = [case for family in FAMILIES.values() for case in family]
