"""The kinds of object the cluster serves, as data.

One row per kind; everything else is derived from it: routes, discovery, storage keys, error texts, `get` names.
Inside the project a kind is named by its Kind ("Pod", "Deployment"), which is unique among the groups we serve; the
store files objects under it and (namespace, name). The order of the rows is the order of discovery: the first group
that knows a resource name wins for `kubectl get NAME`, so the core group comes first.

`effect` is the honest word on kinds that are stored and shown but change nothing here; the API sends it as a warning.

simplified: one version per group, no custom resources, no PersistentVolumes, no CronJobs.
"""

from __future__ import annotations

from dataclasses import dataclass

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class KindInfo:
    """One kind: its names, and how the API server treats it."""

    kind: str
    group: str
    plural: str
    short: tuple[str, ...] = ()
    namespaced: bool = True
    version: str = "v1"
    status: bool = True            # has a /status subresource: the main path leaves .status alone
    generation: bool = False       # metadata.generation counts changes outside metadata and status
    scale: bool = False
    categories: tuple[str, ...] = ()
    effect: str = ""
    served: bool = True            # False: known to `apply` (kubenet's own), not to the API server

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The name in error messages: pods, deployments.apps."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """The name in Invalid messages: Pod, Deployment.apps."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def base_path(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "") -> str:
        """The REST path of the list, or of one object."""
        parts = [self.base_path]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        if name:
            parts.append(name)
        return "/".join(parts)


ALL = ("all",)
NO_RBAC = "access control is not emulated: everybody may do everything"

_ROWS = [
    KindInfo("ConfigMap", "", "configmaps", ("cm",), status=False),
    KindInfo("Endpoints", "", "endpoints", ("ep",), status=False),
    KindInfo("Event", "", "events", ("ev",), status=False),
    KindInfo("Namespace", "", "namespaces", ("ns",), namespaced=False),
    KindInfo("Node", "", "nodes", ("no",), namespaced=False),
    KindInfo("Pod", "", "pods", ("po",), categories=ALL),
    KindInfo("Secret", "", "secrets", (), status=False),
    KindInfo("ServiceAccount", "", "serviceaccounts", ("sa",), status=False),
    KindInfo("Service", "", "services", ("svc",), categories=ALL),
    KindInfo("DaemonSet", "apps", "daemonsets", ("ds",), generation=True, categories=ALL),
    KindInfo("Deployment", "apps", "deployments", ("deploy",), generation=True, scale=True, categories=ALL),
    KindInfo("ReplicaSet", "apps", "replicasets", ("rs",), generation=True, scale=True, categories=ALL),
    KindInfo("StatefulSet", "apps", "statefulsets", ("sts",), generation=True, scale=True, categories=ALL),
    KindInfo("Job", "batch", "jobs", (), generation=True, categories=ALL),
    KindInfo("Lease", "coordination.k8s.io", "leases", (), status=False),
    KindInfo("EndpointSlice", "discovery.k8s.io", "endpointslices", ("eps",), status=False, generation=True),
    KindInfo("Ingress", "networking.k8s.io", "ingresses", ("ing",), generation=True,
             effect="no ingress controller runs here yet"),
    KindInfo("IngressClass", "networking.k8s.io", "ingressclasses", (), namespaced=False, status=False,
             generation=True, effect="no ingress controller runs here yet"),
    KindInfo("NetworkPolicy", "networking.k8s.io", "networkpolicies", ("netpol",), status=False, generation=True,
             effect="network policies are not enforced yet"),
    KindInfo("PodDisruptionBudget", "policy", "poddisruptionbudgets", ("pdb",), generation=True,
             effect="evictions are never held back here"),
    KindInfo("ClusterRoleBinding", "rbac.authorization.k8s.io", "clusterrolebindings", (), namespaced=False,
             status=False, effect=NO_RBAC),
    KindInfo("ClusterRole", "rbac.authorization.k8s.io", "clusterroles", (), namespaced=False, status=False,
             effect=NO_RBAC),
    KindInfo("RoleBinding", "rbac.authorization.k8s.io", "rolebindings", (), status=False, effect=NO_RBAC),
    KindInfo("Role", "rbac.authorization.k8s.io", "roles", (), status=False, effect=NO_RBAC),
    KindInfo("Topology", "kubenet.dev", "topologies", ("topo",), namespaced=False, status=False, served=False),
]

KINDS: dict[str, KindInfo] = {row.kind: row for row in _ROWS}
SERVED: list[KindInfo] = [row for row in _ROWS if row.served]
BY_PLURAL: dict[tuple[str, str], KindInfo] = {(row.group, row.plural): row for row in SERVED}
GROUPS: list[str] = list(dict.fromkeys(row.group for row in SERVED))


def by_name(name: str) -> KindInfo | None:
    """The kind a person means by "po", "pods", "Pod", "deployments.apps" or "deployment", else None."""
    word, _, group = name.lower().partition(".")
    for row in _ROWS:
        if group and row.group != group:
            continue
        if word in (row.plural, row.singular, *row.short):
            return row
    return None


def by_gvk(api_version: str, kind: str) -> KindInfo | None:
    """The kind a manifest means by apiVersion and kind, else None."""
    row = KINDS.get(kind)
    return row if row and row.api_version == api_version else None
