"""Files and directories of manifests into a cluster: read all, check all, then apply in order.

Nothing is applied if any document is wrong. A Topology among the documents is not an object of the API; it is handed back.
Namespaces go first, then what others refer to, so that one `apply -f DIR` works whatever the files are called.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kubenet.cluster.api.decode import Manifest, check, explain, lint, load_paths
from kubenet.cluster.api.rest import Api
from kubenet.cluster.api.status import ApiError
from kubenet.errors import ManifestError

Obj = dict[str, Any]


def load(paths: Iterable[str | Path]) -> tuple[Obj | None, list[Manifest]]:
    """(the Topology or None, all other documents, checked against the schemas). Raises ManifestError with file and line."""
    topology: Obj | None = None
    others: list[Manifest] = []
    for manifest in load_paths([str(path) for path in paths]):
        if manifest.kind == "Topology":
            if topology is not None:
                raise ManifestError("two Topology documents", file=manifest.file, line=manifest.start, why="a cluster has one")
            topology = manifest.obj
        else:
            others.append(manifest)
        check(manifest)
    return topology, others


def apply_documents(api: Api, docs: Iterable[Manifest | Obj]) -> list[tuple[str, str]]:
    """Apply them with server-side apply: [("service/web", "created"), ...]. Raises ManifestError for the first that is refused."""
    documents = list(docs)
    for problem in lint([d for d in documents if isinstance(d, Manifest)], list(_stored(api))):
        raise problem
    done: list[tuple[str, str]] = []
    for doc in documents:
        obj = doc.obj if isinstance(doc, Manifest) else doc
        try:
            stored, verb, _ = api.apply(obj)
        except ApiError as error:
            if isinstance(doc, Manifest):
                raise explain(doc, error) from None
            raise ManifestError(f"{obj.get('kind')} not applied: {error}") from None
        done.append((f"{stored['kind'].lower()}/{stored['metadata']['name']}", verb))
    return done


def _stored(api: Api) -> Iterable[Obj]:
    """The objects that new ones may refer to."""
    for kind in ("Service", "Pod", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"):
        yield from api.store.iter(kind)
