"""The table of cases, by family. A family is one file of recordings."""

from __future__ import annotations

import rig_cases_services as services
import rig_cases_tcp as tcp
from rig_topology import Case


def _services() -> dict[str, list[Case]]:
    """Families of the services: one per kind of target, one for UDP, one for what happens to a connection."""
    found: dict[str, list[Case]] = {}
    for case in services.TCP:
        kind = max((kind for kind in services.TARGETS if case.name.startswith(f"svc-{kind}-")), key=len)
        found.setdefault(f"svc-{kind}", []).append(case)
    return {**found, "svc-udp": services.UDP, "svc-special": services.SPECIAL}


FAMILIES: dict[str, list[Case]] = {
    "binding": tcp.BINDING, "closing": tcp.CLOSING, "connecting": tcp.CONNECTING, "handshakes": tcp.HANDSHAKES,
    "queues": tcp.QUEUES, "data": tcp.DATA, "udp": tcp.UDP, **_services(),
}
CASES: list[Case] = [case for family in FAMILIES.values() for case in family]
