"""What a cluster holds before anybody applies anything: namespaces, and the Service by which pods find the API server.

    bootstrap(api, kubernetes_ip="10.96.0.1", server_ip="172.18.0.2", server_port=6443)

`default/kubernetes` has no selector: its slice is written here, as the real API server writes its own address.
kube-dns is an ordinary Service (`dns_service`), put there by whoever runs the DNS pod.
"""

from __future__ import annotations

from typing import Any

from kubenet.cluster.api.admission import allocate_service
from kubenet.cluster.api.defaults import apply_defaults
from kubenet.cluster.api.rest import Api

Obj = dict[str, Any]

NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


def bootstrap(
    api: Api, kubernetes_ip: str = "10.96.0.1", server_ip: str = "172.18.0.2", server_port: int = 6443
) -> None:
    """The store has the standing namespaces and default/kubernetes. Once, on an empty store."""
    store = api.store
    for name in NAMESPACES:
        namespace: Obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        apply_defaults(namespace)
        store.create(namespace)
    labels = {"component": "apiserver", "provider": "kubernetes"}
    put_service(api, {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"clusterIP": kubernetes_ip,
                 "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": server_port}]}})
    store.create({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "endpoints": [{"addresses": [server_ip], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": server_port, "protocol": "TCP"}]})
    store.create({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default",
                     "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": server_ip}], "ports": [{"name": "https", "port": server_port, "protocol": "TCP"}]}]})


def put_service(api: Api, service: Obj) -> Obj:
    """The Service, completed and stored without an API request."""
    apply_defaults(service)
    allocate_service(api.admission, service, None)
    return api.store.create(service)


def dns_service(ip: str = "10.96.0.10") -> Obj:
    """kube-system/kube-dns, as kubeadm writes it."""
    labels = {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
    ports: list[Obj] = [
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
        {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153},
    ]
    return {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {"clusterIP": ip, "selector": {"k8s-app": "kube-dns"}, "ports": ports}}
