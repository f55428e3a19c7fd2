"""kube-proxy's options by their documented names, and what follows from them."""

from __future__ import annotations

import pytest
from proxy_objects import options

from kubenet.cluster.api.ips import AF_INET, AF_INET6
from kubenet.cluster.api.views import NodeView
from kubenet.cluster.proxy import ConntrackConfig, ProxyOptions, options_for_node, startup_sysctls
from kubenet.errors import ManifestError
from kubenet.units import SEC


def test_defaults():
    made = ProxyOptions.parse({})
    assert (made.masquerade_bit, made.masquerade_all, made.localhost_node_ports) == (14, False, True)
    assert (made.sync_period, made.min_sync_period) == (30 * SEC, 1 * SEC)
    assert made.mark == "0x00004000"
    assert made.local_match(AF_INET) is None
    assert made.node_port_ips(AF_INET) is None
    assert (made.random_fully, made.allow_external_ips, made.ip_family) == (True, True, AF_INET)


def test_all_names():
    made = ProxyOptions.parse(
        {
            "nodeName": "node-1",
            "nodeIP": "172.18.0.2",
            "nodeIPs": ["172.18.0.2", "127.0.0.1"],
            "ipFamily": "IPv6",
            "topologyLabels": {"topology.kubernetes.io/zone": "a"},
            "detectLocal": {"mode": "ClusterCIDR", "value": "10.48.0.0/16"},
            "masqueradeAll": True,
            "masqueradeBit": 31,
            "localhostNodePorts": False,
            "nodePortAddresses": ["172.18.0.0/16"],
            "conntrackTCPBeLiberal": True,
            "nfacct": True,
            "randomFully": False,
            "serviceCIDRs": ["10.96.0.0/16"],
            "syncPeriod": "1m",
        }
    )
    assert made.node_name == "node-1"
    assert made.ip_family == AF_INET6
    assert made.topology_labels == {"topology.kubernetes.io/zone": "a"}
    assert made.mark == "0x80000000"
    assert made.nfacct == ("localhost_nps_accepted_pkts", "ct_state_invalid_dropped_pkts")
    assert made.sync_period == 60 * SEC


@pytest.mark.parametrize(
    ("data", "field", "try_"),
    [
        ({"masqueradeAl": True}, "masqueradeAl", "masqueradeAll"),
        ({"masqueradeAll": "yes"}, "masqueradeAll", "masqueradeAll: true"),
        ({"masqueradeBit": 32}, "masqueradeBit", "masqueradeBit: 14"),
        ({"masqueradeBit": True}, "masqueradeBit", "masqueradeBit: 14"),
        ({"nodeIP": "172.18.0"}, "nodeIP", ""),
        ({"nodePortAddresses": ["172.18.0.0"]}, "nodePortAddresses", ""),
        ({"detectLocal": {"mode": "Bridge"}}, "detectLocal.mode", ""),
        ({"detectLocal": {"mod": "none"}}, "detectLocal.mod", "detectLocal.mode"),
        ({"detectLocal": {"mode": "ClusterCIDR", "value": "cni0"}}, "detectLocal.value", ""),
        ({"ipFamily": "IPX"}, "ipFamily", "ipFamily: IPv4"),
        ({"syncPeriod": "soon"}, "syncPeriod", ""),
        ({"topologyLabels": ["a"]}, "topologyLabels", ""),
        ({"nodeName": 1}, "nodeName", ""),
    ],
)
def test_mistakes_are_named(data, field, try_):
    with pytest.raises(ManifestError) as caught:
        ProxyOptions.parse(data, "node.yaml")
    assert (caught.value.field, caught.value.try_) == (field, try_)
    assert caught.value.why


def test_cluster_cidr_of_each_family():
    made = options()
    assert made.local_match(AF_INET) == ("-s 10.48.0.0/16", "! -s 10.48.0.0/16")
    assert made.local_match(AF_INET6) == ("-s fd00:10:48::/48", "! -s fd00:10:48::/48")


def test_first_cidr_of_the_family_counts():
    made = options(detectLocal={"mode": "ClusterCIDR", "value": ["10.0.0.9/08", "10.48.0.0/16"]})
    assert made.local_match(AF_INET).local == "-s 10.0.0.0/8"


def test_node_port_addresses_are_sorted_as_text():
    made = options(
        nodePortAddresses=["2001:db8::/32"], nodeIPs=["2001:db8::1", "2001:db8:1::2", "2001:db8::1", "172.18.0.2"]
    )
    assert [ip.text for ip in made.node_port_ips(AF_INET6)] == ["2001:db8:1::2", "2001:db8::1"]


@pytest.mark.parametrize(
    ("changes", "effective"),
    [
        ({}, True),
        ({"localhostNodePorts": False}, False),
        ({"nodePortAddresses": ["172.18.0.0/16"]}, False),
        ({"nodePortAddresses": ["127.0.0.1/32"]}, True),
        ({"nodePortAddresses": ["0.0.0.0/0"]}, True),
        ({"nodePortAddresses": ["primary"]}, False),
    ],
)
def test_localhost_node_ports(changes, effective):
    made = options(**changes)
    assert made.localhost_ports(AF_INET) is effective
    assert made.localhost_ports(AF_INET6) is False
    assert startup_sysctls(made, 8).get("net.ipv4.conf.all.route_localnet", 0) == int(effective)


def test_primary_without_an_address_of_the_family_is_every_address():
    """cmd/kube-proxy turns `primary` into the nodeIPs' prefixes, loopback's left out; no prefix of a family: all."""
    made = options(nodePortAddresses=["primary"], nodeIP=["172.18.0.2"], nodeIPs=[])
    assert [ip.text for ip in made.node_port_ips(AF_INET)] == ["172.18.0.2"]
    assert made.node_port_ips(AF_INET6) is None
    alone = options(nodePortAddresses=["primary"], nodeIP=[], nodeIPs=[])
    assert alone.node_port_ips(AF_INET) is None
    assert alone.localhost_ports(AF_INET) is True


@pytest.mark.parametrize("ips", [[], ["172.18.0.2"], ["127.0.0.1", "172.18.0.2"]])
def test_loopback_is_an_address_of_every_node(ips):
    """util.NodePortAddresses asks the interfaces, and lo is one whether it was written down or not."""
    made = options(nodePortAddresses=["127.0.0.0/8", "172.18.0.0/16"], nodeIPs=ips)
    assert [ip.text for ip in made.node_port_ips(AF_INET)] == ["127.0.0.1", "172.18.0.2"]


def test_node_ip_of_each_family():
    assert options().node_ip_of(AF_INET).text == "172.18.0.2"
    assert options().node_ip_of(AF_INET6).text == "fc00::2"
    assert ProxyOptions.parse({}).node_ip_of(AF_INET).text == "127.0.0.1"


CONFIG_NODE = NodeView.of(
    {
        "metadata": {
            "name": "node-1",
            "labels": {"topology.kubernetes.io/zone": "a", "kubernetes.io/hostname": "node-1"},
        },
        "spec": {"podCIDR": "10.48.1.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "172.18.0.2"}]},
    }
)


@pytest.mark.parametrize(
    ("config", "local"),
    [
        ({}, None),
        ({"clusterCIDR": "10.48.0.0/16"}, "-s 10.48.0.0/16"),
        ({"clusterCIDR": "10.48.0.0/16", "detectLocalMode": "NodeCIDR"}, "-s 10.48.1.0/24"),
        ({"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cni0"}}, "-i cni0"),
        ({"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "veth"}}, "-i veth+"),
    ],
)
def test_configuration_file(config, local):
    made = options_for_node(config, CONFIG_NODE, ["127.0.0.1", "172.18.0.2"])
    assert (made.node_name, made.topology_labels) == ("node-1", {"topology.kubernetes.io/zone": "a"})
    assert made.node_ip_of(AF_INET).text == "172.18.0.2"
    match = made.local_match(AF_INET)
    assert (match.local if match else None) == local


def test_configuration_file_sections():
    config = {
        "nodePortAddresses": ["primary"],
        "iptables": {"masqueradeAll": True, "masqueradeBit": 15, "syncPeriod": "10s", "localhostNodePorts": False},
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "1h", "tcpBeLiberal": True, "udpTimeout": "10s"},
    }
    made = options_for_node(config, CONFIG_NODE)
    assert (made.masquerade_all, made.mark, made.sync_period) == (True, "0x00008000", 10 * SEC)
    assert [ip.text for ip in made.node_port_ips(AF_INET) or ()] == ["172.18.0.2"]
    assert made.conntrack_tcp_be_liberal
    assert startup_sysctls(made, 8, ConntrackConfig.parse(config)) == {
        "net.netfilter.nf_conntrack_tcp_timeout_established": 3600,
        "net.netfilter.nf_conntrack_tcp_timeout_close_wait": 3600,
        "net.netfilter.nf_conntrack_tcp_be_liberal": 1,
        "net.netfilter.nf_conntrack_udp_timeout": 10,
    }


def test_configuration_file_with_nonsense():
    with pytest.raises(ManifestError, match="udpTimeout"):
        ConntrackConfig.parse({"conntrack": {"udpTimeout": "soon"}})


@pytest.mark.parametrize(("cpus", "limit"), [(1, 131072), (4, 131072), (8, 262144), (32, 1048576), (96, 1048576)])
def test_startup_sysctls(cpus, limit):
    values = startup_sysctls(ProxyOptions(), cpus)
    assert values["net.netfilter.nf_conntrack_max"] == limit
    assert startup_sysctls(ProxyOptions(), cpus, ConntrackConfig.parse({})) == values
    assert values["net.netfilter.nf_conntrack_tcp_timeout_established"] == 86400
    assert values["net.netfilter.nf_conntrack_tcp_timeout_close_wait"] == 3600
