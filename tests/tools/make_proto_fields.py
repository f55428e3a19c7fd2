"""Make kubenet/cluster/api/proto-fields.json.xz: the protobuf field numbers of the kinds we serve.

A development tool, run by hand when the API version moves:

    python tests/tools/make_proto_fields.py TABLE.json kubenet/cluster/api/proto-fields.json.xz

TABLE.json maps message -> field number -> "name", "name:type", "name[]:type" or "name{}:type" (no type: string), read off the
generated.proto files that Kubernetes publishes. Field numbers never change; new versions only add to them. What is reachable
from the served kinds is kept.
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path

from kubenet.cluster.api.discovery import REVIEWS
from kubenet.cluster.api.kinds import SERVED
from kubenet.cluster.api.proto import PACKAGES

EXTRA = ["runtime.Unknown", "meta.DeleteOptions", "policy.v1.Eviction", "autoscaling.v1.Scale", "core.v1.Binding"]


def main(source: str, target: str) -> None:
    """Write the compressed closure."""
    table: dict[str, dict[str, str]] = json.loads(Path(source).read_text())
    todo = [f"{PACKAGES[info.group]}.v1.{info.kind}" for info in SERVED] + EXTRA
    todo += [f"{PACKAGES[group]}.v1.{kind}" for group, rows in REVIEWS.items() for _, kind, _ in rows]
    out: dict[str, dict[str, str]] = {}
    while todo:
        name = todo.pop()
        if name in out or name not in table:
            continue
        out[name] = table[name]
        todo += [field.partition(":")[2] for field in table[name].values() if ":" in field]
    data = json.dumps(dict(sorted(out.items())), separators=(",", ":"))
    Path(target).write_bytes(lzma.compress(data.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(len(out), "messages,", Path(target).stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
