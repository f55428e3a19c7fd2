"""The controller manager: every control loop of the cluster, in the order they are started.

    for c in controllers(store): c.start()

Each is level-triggered and knows nothing of the others; they meet in the store. The scheduler is started beside them
(scheduler.py), the kubelets and proxies by the nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubenet.cluster.controller import Controller
    from kubenet.cluster.store import Store


def controllers(store: Store, cluster_cidr: str = "10.48.0.0/16") -> list[Controller]:
    """One of each, not started."""
    from kubenet.cluster.controllers.daemonset import DaemonSetController
    from kubenet.cluster.controllers.deployment import DeploymentController
    from kubenet.cluster.controllers.endpoints import EndpointsController
    from kubenet.cluster.controllers.endpointslice import EndpointSliceController
    from kubenet.cluster.controllers.job import JobController
    from kubenet.cluster.controllers.mirroring import MirroringController
    from kubenet.cluster.controllers.namespace import NamespaceController
    from kubenet.cluster.controllers.node import NodeController
    from kubenet.cluster.controllers.replicaset import ReplicaSetController
    from kubenet.cluster.controllers.statefulset import StatefulSetController

    return [
        NamespaceController(store), NodeController(store, cluster_cidr), DeploymentController(store),
        ReplicaSetController(store), StatefulSetController(store), DaemonSetController(store), JobController(store),
        EndpointSliceController(store), EndpointsController(store), MirroringController(store),
    ]
