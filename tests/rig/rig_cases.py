"""The table of cases, all groups."""

from __future__ import annotations

import rig_cases_services
import rig_cases_tcp
from rig_topology import Case

GROUPS: dict[str, list[Case]] = {"tcp": rig_cases_tcp.CASES, "services": rig_cases_services.CASES}
CASES: list[Case] = [case for group in GROUPS.values() for case in group]
