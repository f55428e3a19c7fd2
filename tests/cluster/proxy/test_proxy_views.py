"""Views spell the API's defaults; the cache gives one record per resourceVersion."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from proxy_objects import ep, eslice, service

from kubenet.cluster.api.ips import AF_INET, AF_INET6
from kubenet.cluster.api.views import EndpointSliceView, NodeView, PodView, ServiceView, ViewCache


def test_service_defaults():
    view = ServiceView.of({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}})
    assert (view.meta.namespace, view.type, view.session_affinity) == ("default", "ClusterIP", "None")
    assert (view.external_policy, view.internal_policy) == ("Cluster", "Cluster")
    assert view.cluster_ips == ("10.96.0.1",)
    assert view.affinity_seconds == 10800
    assert (view.ports[0].protocol, view.ports[0].target_port, view.ports[0].name) == ("TCP", 80, "")


def test_null_is_as_good_as_absent():
    view = ServiceView.of({"metadata": {"name": "web", "namespace": None}, "spec": {"type": None, "ports": None}})
    assert (view.meta.namespace, view.type, view.ports) == ("default", "ClusterIP", ())


def test_cluster_ip_by_family():
    dual = ServiceView.of(
        service(clusterIPs=["10.96.0.1", "fd00::1"], ipFamilies=["IPv4", "IPv6"]),
    )
    assert [ip.text for ip in (dual.cluster_ip_of(AF_INET), dual.cluster_ip_of(AF_INET6)) if ip] == [
        "10.96.0.1",
        "fd00::1",
    ]
    single = ServiceView.of(service())  # no ipFamilies: clusterIP counts if its family fits
    assert single.cluster_ip_of(AF_INET6) is None


def test_endpoint_conditions():
    unknown, false = ep("10.48.2.7"), ep("10.48.2.8", ready=False, serving=False, terminating=True)
    view = EndpointSliceView.of(eslice(unknown, false))
    assert [(e.ready, e.serving, e.terminating) for e in view.endpoints] == [(True, True, False), (False, False, True)]
    assert view.service_name == "web"


def test_node_and_pod():
    node = NodeView.of(
        {
            "metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": "a"}},
            "spec": {"podCIDR": "10.48.1.0/24"},
            "status": {
                "addresses": [
                    {"type": "Hostname", "address": "node-1"},
                    {"type": "InternalIP", "address": "172.18.0.2"},
                ],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
    )
    assert (node.zone, node.pod_cidrs, node.internal_ips, node.ready) == ("a", ("10.48.1.0/24",), ("172.18.0.2",), True)
    pod = PodView.of({"metadata": {"name": "web-0"}, "status": {"podIP": "10.48.2.7", "phase": "Running"}})
    assert (pod.pod_ips, pod.phase, pod.ready) == (("10.48.2.7",), "Running", False)


def test_cache_is_by_resource_version():
    views = ViewCache()
    first = service()
    first["metadata"]["resourceVersion"] = "7"
    assert views.service(first) is views.service(dict(first))
    second = {**first, "metadata": {**first["metadata"], "resourceVersion": "8"}}
    assert views.service(second) is not views.service(first)


def test_object_without_version_is_not_cached():
    views = ViewCache()
    old = views.service(service())
    assert views.service(service(clusterIP="10.96.0.9")) != old


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "spec", "status", "ports", "name", "clusterIP", "labels"]), inner
        )
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "status", "ports", "endpoints"]), JSON))
def test_any_json_object_has_a_view(obj):
    for view in (ServiceView, EndpointSliceView, NodeView, PodView):
        view.of(obj)
