"""Make kubenet/cluster/api/schema-1.32.json.xz from the published Kubernetes definitions.

A development tool, run by hand when the API version moves:

    python tests/tools/make_schema.py PATH/TO/_definitions.json kubenet/cluster/api/schema-1.32.json.xz

The input is `kubernetes-json-schema/v1.32.0-local/_definitions.json` of the PyPI package kubernetes-validate: the
OpenAPI document of the API server with every `x-kubernetes-*` extension. We keep what is reachable from the kinds we
serve, undo the JSON-schema detour of that package (nullable unions, injected enums, oneOf for IntOrString), drop the
descriptions, and compress. kubenet needs only the result at run time.
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path
from typing import Any

ROOTS = [
    "core.v1.Pod", "core.v1.Service", "core.v1.Node", "core.v1.Namespace", "core.v1.ConfigMap", "core.v1.Secret",
    "core.v1.Event", "core.v1.Endpoints", "core.v1.ServiceAccount", "core.v1.Binding",
    "apps.v1.Deployment", "apps.v1.ReplicaSet", "apps.v1.StatefulSet", "apps.v1.DaemonSet",
    "batch.v1.Job", "discovery.v1.EndpointSlice", "events.v1.Event",
    "networking.v1.NetworkPolicy", "networking.v1.Ingress", "networking.v1.IngressClass",
    "coordination.v1.Lease", "autoscaling.v1.Scale", "policy.v1.Eviction", "policy.v1.PodDisruptionBudget",
    "rbac.v1.Role", "rbac.v1.RoleBinding", "rbac.v1.ClusterRole", "rbac.v1.ClusterRoleBinding",
    "authorization.v1.SelfSubjectAccessReview", "authorization.v1.SelfSubjectRulesReview",
    "authentication.v1.SelfSubjectReview",
]
META = ["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions", "io.k8s.apimachinery.pkg.apis.meta.v1.Status"]
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"


def convert(schema: Any) -> Any:
    """The OpenAPI form of one JSON-schema node, without descriptions."""
    if isinstance(schema, list):
        return [convert(x) for x in schema]
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "description" or key == "enum":
            continue
        if key == "properties":
            out[key] = {name: convert(sub) for name, sub in value.items()}
        elif key == "type" and isinstance(value, list):
            out[key] = value[0]
        elif key == "$ref":
            out[key] = value.rsplit("/", 1)[1]
        else:
            out[key] = convert(value)
    return out


def references(schema: Any) -> list[str]:
    """Every definition named below this node."""
    if isinstance(schema, list):
        return [r for x in schema for r in references(x)]
    if isinstance(schema, dict):
        found = [r for k, v in schema.items() if k != "$ref" for r in references(v)]
        return [schema["$ref"], *found] if isinstance(schema.get("$ref"), str) else found
    return []


def main(source: str, target: str) -> None:
    """Write the compressed closure of ROOTS."""
    defs = json.loads(Path(source).read_text())["$defs"]
    todo = [f"io.k8s.api.{r}" for r in ROOTS] + META
    out: dict[str, Any] = {}
    while todo:
        name = todo.pop()
        if name in out:
            continue
        if name == INT_OR_STRING:
            out[name] = {"type": "string", "format": "int-or-string"}
        elif name == QUANTITY:
            out[name] = {"type": "string"}
        else:
            out[name] = convert(defs[name])
            if name in META:                      # these serve every group: hundreds of GVKs, none of use here
                out[name].pop("x-kubernetes-group-version-kind", None)
        todo.extend(references(out[name]))
    data = json.dumps({"version": "1.32", "definitions": dict(sorted(out.items()))}, separators=(",", ":"))
    Path(target).write_bytes(lzma.compress(data.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(len(out), "definitions,", len(data), "bytes,", Path(target).stat().st_size, "compressed")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
