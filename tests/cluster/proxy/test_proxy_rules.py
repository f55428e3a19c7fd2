"""What kube-proxy writes for iptables-restore, line by line, in the order it writes it."""

from __future__ import annotations

import pytest
from proxy_objects import (
    EXT,
    FW,
    SEP_0,
    SEP_1,
    SVC,
    SVL,
    WEB_0,
    WEB_1,
    chain,
    chains,
    ep,
    eslice,
    full,
    rules,
    service,
    table,
)

from kubenet.cluster.api.ips import AF_INET6

TO_WEB = "-m tcp -p tcp -d 10.96.0.1 --dport 80"
NODE_PORT = {"port": {"name": "http", "port": 80, "nodePort": 30080}, "type": "NodePort"}
LB = {"port": {"name": "http", "port": 80}, "type": "LoadBalancer", "status": [{"ip": "198.51.100.1"}]}
LOCAL = {"externalTrafficPolicy": "Local"}


def services(text, kind="nat"):
    """KUBE-SERVICES without its last rule."""
    return [rule for rule in rules(text, kind, "KUBE-SERVICES") if "kubernetes service nodeports" not in rule]


# The whole text


def test_nothing_but_the_frame():
    """No Service at all: every fixed line and nothing else."""
    assert full(detectLocal=None).splitlines() == [
        "*filter",
        ":KUBE-SERVICES - [0:0]",
        ":KUBE-EXTERNAL-SERVICES - [0:0]",
        ":KUBE-FORWARD - [0:0]",
        ":KUBE-NODEPORTS - [0:0]",
        ":KUBE-PROXY-FIREWALL - [0:0]",
        ":KUBE-FIREWALL - [0:0]",
        '-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8'
        " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
        "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
        '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x00004000/0x00004000'
        " -j ACCEPT",
        '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack'
        " --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "COMMIT",
        "*nat",
        ":KUBE-SERVICES - [0:0]",
        ":KUBE-NODEPORTS - [0:0]",
        ":KUBE-POSTROUTING - [0:0]",
        ":KUBE-MARK-MASQ - [0:0]",
        "-A KUBE-POSTROUTING -m mark ! --mark 0x00004000/0x00004000 -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --xor-mark 0x00004000",
        '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE'
        " --random-fully",
        "-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000",
        '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this'
        ' chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
        "COMMIT",
    ]


def test_worked_example():
    """ns1/svc1 with one endpoint, the values any kube-proxy gives."""
    svc = service("svc1", {"name": "p80", "port": 80}, clusterIP="172.30.0.41")
    sl = eslice(ep("10.180.0.1"), service="svc1", ports=[{"name": "p80", "port": 80}])
    for obj in (svc, sl):
        obj["metadata"]["namespace"] = "ns1"
    text = full(svc, sl, detectLocal={"mode": "ClusterCIDR", "value": "10.0.0.0/8"})
    nat = table(text, "nat")
    assert nat[4:6] == [":KUBE-SVC-XPGD46QRK7WJZT7O - [0:0]", ":KUBE-SEP-SXIVWICOYRO3J4NJ - [0:0]"]
    assert nat[10:15] == [
        '-A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80'
        " -j KUBE-SVC-XPGD46QRK7WJZT7O",
        '-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d 172.30.0.41'
        " --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ",
        '-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80"'
        " -j KUBE-SEP-SXIVWICOYRO3J4NJ",
        "-A KUBE-SEP-SXIVWICOYRO3J4NJ -m comment --comment ns1/svc1:p80 -s 10.180.0.1 -j KUBE-MARK-MASQ",
        "-A KUBE-SEP-SXIVWICOYRO3J4NJ -m comment --comment ns1/svc1:p80 -m tcp -p tcp -j DNAT"
        " --to-destination 10.180.0.1:80",
    ]


@pytest.mark.parametrize(
    ("changes", "chain_", "kind", "line"),
    [
        ({"randomFully": False}, "KUBE-POSTROUTING", "nat", "kubernetes service traffic requiring SNAT"),
        ({"masqueradeBit": 15}, "KUBE-MARK-MASQ", "nat", "-j MARK --or-mark 0x00008000"),
        ({"nfacct": True}, "KUBE-FORWARD", "filter", "--nfacct-name ct_state_invalid_dropped_pkts -j DROP"),
    ],
)
def test_options_in_fixed_rules(changes, chain_, kind, line):
    assert any(rule.endswith(line) or line in rule for rule in rules(full(**changes), kind, chain_))


def test_random_fully_off():
    assert rules(full(randomFully=False), "nat", "KUBE-POSTROUTING")[-1].endswith("-j MASQUERADE")


def test_liberal_conntrack_drops_nothing():
    """With nf_conntrack_tcp_be_liberal at start nothing is INVALID for being out of window."""
    assert "INVALID" not in full(conntrackTCPBeLiberal=True)
    assert len(rules(full(conntrackTCPBeLiberal=True), "filter", "KUBE-FORWARD")) == 2


def test_order_of_service_ports():
    """Ascending namespace/name[:port], then protocol, whatever order they came in."""
    dns = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns", "port": 53}]
    text = full(service("web"), service("api", dns, clusterIP="10.96.0.2"), service("api-2", clusterIP="10.96.0.3"))
    assert [rule.split('"')[1] + rule.split('"')[2][:7] for rule in services(text, "filter")] == [
        "default/api-2:http has no endpoints -m tcp",
        "default/api:dns has no endpoints -m tcp",
        "default/api:dns has no endpoints -m udp",
        "default/web:http has no endpoints -m tcp",
    ]


# 1. clusterIP


def test_cluster_ip_without_endpoints_is_rejected():
    text = full(service())
    assert services(text, "filter") == [f'-m comment --comment "default/web:http has no endpoints" {TO_WEB} -j REJECT']
    assert services(text) == []
    assert chains(text) == ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"]


def test_cluster_ip_internal_local_with_local_endpoint_uses_svl_only():
    text = full(service(internalTrafficPolicy="Local"), eslice(WEB_0, WEB_1))
    assert services(text) == [f'-m comment --comment "default/web:http cluster IP" {TO_WEB} -j {SVL}']
    assert chains(text)[4:] == [SVL, SEP_1]
    assert rules(text, "nat", SVL) == [
        f'-m comment --comment "default/web:http cluster IP" {TO_WEB} ! -s 10.48.0.0/16 -j KUBE-MARK-MASQ',
        f'-m comment --comment "default/web:http -> 10.48.1.6:8080" -j {SEP_1}',
    ]


def test_cluster_ip_internal_local_without_local_endpoint_is_dropped():
    text = full(service(internalTrafficPolicy="Local"), eslice(WEB_0))
    drop = f'-m comment --comment "default/web:http has no local endpoints" {TO_WEB} -j DROP'
    assert services(text, "filter") == [drop]
    assert services(text) == []
    assert chains(text)[4:] == []


# 2. externalIPs


def test_external_ips_in_spec_order():
    text = full(service(externalIPs=["192.0.2.9", "192.0.2.8"]), eslice(WEB_0))
    external = '-m comment --comment "default/web:http external IP" -m tcp -p tcp -d'
    assert services(text)[1:] == [
        f"{external} 192.0.2.9 --dport 80 -j {EXT}",
        f"{external} 192.0.2.8 --dport 80 -j {EXT}",
    ]
    assert rules(text, "filter", "KUBE-EXTERNAL-SERVICES") == []


def test_external_ip_without_endpoints():
    text = full(service(externalIPs=["192.0.2.9"]))
    assert rules(text, "filter", "KUBE-EXTERNAL-SERVICES") == [
        '-m comment --comment "default/web:http has no endpoints" -m tcp -p tcp -d 192.0.2.9 --dport 80 -j REJECT'
    ]
    assert services(text) == []


def test_external_ip_local_without_local_endpoint_keeps_the_short_circuit():
    """The nat rule stays for Pods and the node itself; what comes from outside is dropped in the filter table."""
    text = full(service(externalIPs=["192.0.2.9"], **LOCAL), eslice(WEB_0))
    assert services(text)[1].endswith(f"-d 192.0.2.9 --dport 80 -j {EXT}")
    assert rules(text, "filter", "KUBE-EXTERNAL-SERVICES") == [
        '-m comment --comment "default/web:http has no local endpoints" -m tcp -p tcp -d 192.0.2.9 --dport 80 -j DROP'
    ]


# 3. Load balancer addresses


def test_vip_without_ranges():
    text = full(service(**LB), eslice(WEB_0))
    lb = '-m comment --comment "default/web:http loadbalancer IP" -m tcp -p tcp -d 198.51.100.1 --dport 80'
    assert services(text)[1:] == [f"{lb} -j {EXT}"]
    assert rules(text, "filter", "KUBE-PROXY-FIREWALL") == []


def test_vip_with_ranges_goes_through_the_firewall():
    ranges = {"loadBalancerSourceRanges": ["203.0.113.0/24", "192.0.2.7/32"]}
    text = full(service(**LB, **ranges), eslice(WEB_0))
    lb = '-m comment --comment "default/web:http loadbalancer IP"'
    vip = "-m tcp -p tcp -d 198.51.100.1 --dport 80"
    assert services(text)[1:] == [f"{lb} {vip} -j {FW}"]
    assert rules(text, "filter", "KUBE-PROXY-FIREWALL") == [
        f'-m comment --comment "default/web:http traffic not accepted by {FW}" {vip} -j DROP'
    ]
    assert rules(text, "nat", FW) == [
        f"{lb} -s 203.0.113.0/24 -j {EXT}",
        f"{lb} -s 192.0.2.7/32 -j {EXT}",
        '-m comment --comment "other traffic to default/web:http will be dropped by KUBE-PROXY-FIREWALL"',
    ]
    assert chains(text)[4:] == [EXT, FW, SVC, SEP_0]


def test_ranges_with_the_node_let_the_vips_in():
    """A VIP may be an address of the node: then it is the sender the node uses towards itself."""
    two = {**LB, "status": [{"ip": "198.51.100.1"}, {"ip": "198.51.100.2"}]}
    text = full(service(**two, loadBalancerSourceRanges=["172.18.0.0/16"]), eslice(WEB_0))
    assert [rule.split(" -s ")[-1] for rule in rules(text, "nat", FW)][:-1] == [
        f"172.18.0.0/16 -j {EXT}",
        f"198.51.100.1 -j {EXT}",
        f"198.51.100.2 -j {EXT}",
    ]


def test_ranges_without_endpoints_need_no_firewall():
    text = full(service(**LB, loadBalancerSourceRanges=["203.0.113.0/24"]))
    assert rules(text, "filter", "KUBE-PROXY-FIREWALL") == []
    assert rules(text, "filter", "KUBE-EXTERNAL-SERVICES") == [
        '-m comment --comment "default/web:http has no endpoints" -m tcp -p tcp -d 198.51.100.1 --dport 80 -j REJECT'
    ]


def test_refusals_of_vips_come_after_their_firewall_rules():
    two = {**LB, "status": [{"ip": "198.51.100.1"}, {"ip": "198.51.100.2"}]}
    text = full(service(**two, **LOCAL, loadBalancerSourceRanges=["203.0.113.0/24"]), eslice(WEB_0))
    mine = [line.split()[1] for line in table(text, "filter") if "default/web:http" in line]
    assert mine == ["KUBE-PROXY-FIREWALL"] * 2 + ["KUBE-EXTERNAL-SERVICES"] * 2


# 4. NodePorts


def test_node_port_comment_is_a_bare_word():
    text = full(service(**NODE_PORT), eslice(WEB_0))
    assert rules(text, "nat", "KUBE-NODEPORTS") == [
        f"-m comment --comment default/web:http -m tcp -p tcp --dport 30080 -j {EXT}"
    ]


def test_node_port_on_localhost_is_counted_where_the_object_exists():
    text = full(service(**NODE_PORT), eslice(WEB_0), nfacct=True)
    assert rules(text, "nat", "KUBE-NODEPORTS")[0] == (
        "-m comment --comment default/web:http -m tcp -p tcp -d 127.0.0.0/8 --dport 30080"
        f" -m nfacct --nfacct-name localhost_nps_accepted_pkts -j {EXT}"
    )
    off = full(service(**NODE_PORT), eslice(WEB_0), nfacct=True, localhostNodePorts=False)
    assert len(rules(off, "nat", "KUBE-NODEPORTS")) == 1


@pytest.mark.parametrize(
    ("policy", "endpoints", "refusal"),
    [
        ({}, (), "has no endpoints REJECT"),
        (LOCAL, (), "has no endpoints REJECT"),
        (LOCAL, (WEB_0,), "has no local endpoints DROP"),
    ],
)
def test_node_port_refused(policy, endpoints, refusal):
    text = full(service(**NODE_PORT, **policy), eslice(*endpoints))
    *reason, verdict = refusal.split()
    assert rules(text, "filter", "KUBE-EXTERNAL-SERVICES") == [
        f'-m comment --comment "default/web:http {" ".join(reason)}" -m addrtype --dst-type LOCAL'
        f" -m tcp -p tcp --dport 30080 -j {verdict}"
    ]
    assert len(rules(text, "nat", "KUBE-NODEPORTS")) == len(endpoints)  # with none anywhere nothing leads in


# 5. Health check port


def test_health_check_port_is_open_even_without_local_endpoints():
    text = full(service(**LB, **LOCAL, healthCheckNodePort=32000), eslice(WEB_0))
    assert rules(text, "filter", "KUBE-NODEPORTS") == [
        '-m comment --comment "default/web:http health check node port" -m tcp -p tcp --dport 32000 -j ACCEPT'
    ]


def test_health_check_port_of_a_udp_service_is_tcp():
    udp = {**LB, "port": {"name": "http", "port": 80, "protocol": "UDP"}}
    assert (
        "-m tcp -p tcp --dport 32000"
        in rules(full(service(**udp, **LOCAL, healthCheckNodePort=32000)), "filter", "KUBE-NODEPORTS")[0]
    )


# 6. Who is masqueraded towards the clusterIP


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"masqueradeAll": True}, ""),
        ({}, " ! -s 10.48.0.0/16"),
        ({"detectLocal": {"mode": "NodeCIDR", "value": "10.48.1.0/24"}}, " ! -s 10.48.1.0/24"),
        ({"detectLocal": {"mode": "BridgeInterface", "value": "cni0"}}, " ! -i cni0"),
        ({"detectLocal": {"mode": "InterfaceNamePrefix", "value": "veth"}}, " ! -i veth+"),
    ],
)
def test_cluster_ip_masquerade(changes, match):
    rule = rules(full(service(), eslice(WEB_0), **changes), "nat", SVC)[0]
    assert rule == f'-m comment --comment "default/web:http cluster IP" {TO_WEB}{match} -j KUBE-MARK-MASQ'


@pytest.mark.parametrize("detect", [None, {"mode": "none"}, {"mode": "ClusterCIDR", "value": "fd00::/8"}])
def test_no_masquerade_rule_if_nobody_knows_who_is_local(detect):
    assert not any("MASQ" in rule for rule in rules(full(service(), eslice(WEB_0), detectLocal=detect), "nat", SVC))


# 7. KUBE-EXT-


def test_ext_with_policy_cluster():
    text = full(service(**NODE_PORT), eslice(WEB_0))
    assert rules(text, "nat", EXT) == [
        '-m comment --comment "masquerade traffic for default/web:http external destinations" -j KUBE-MARK-MASQ',
        f"-j {SVC}",
    ]
    assert chains(text)[4:] == [EXT, SVC, SEP_0]


def test_ext_with_policy_local():
    text = full(service(**NODE_PORT, **LOCAL), eslice(WEB_0, WEB_1))
    comment = '-m comment --comment "{} default/web:http external destinations"'.format
    assert rules(text, "nat", EXT) == [
        f"{comment('pod traffic for')} -s 10.48.0.0/16 -j {SVC}",
        f"{comment('masquerade LOCAL traffic for')} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ",
        f"{comment('route LOCAL traffic for')} -m addrtype --src-type LOCAL -j {SVC}",
        f"-j {SVL}",
    ]
    assert chains(text)[4:] == [EXT, SVC, SVL, SEP_1, SEP_0]
    assert rules(text, "nat", SVL) == [f'-m comment --comment "default/web:http -> 10.48.1.6:8080" -j {SEP_1}']


def test_ext_local_without_local_endpoints_ends_after_the_short_circuit():
    text = full(service(**NODE_PORT, **LOCAL), eslice(WEB_0))
    assert len(rules(text, "nat", EXT)) == 3
    assert SVL not in chains(text)


def test_ext_local_without_detector_has_no_pod_rule():
    text = full(service(**NODE_PORT, **LOCAL), eslice(WEB_1), detectLocal=None)
    assert "pod traffic" not in text
    assert len(rules(text, "nat", EXT)) == 3


def test_internal_local_keeps_cluster_endpoints_for_the_node_port():
    text = full(service(**NODE_PORT, internalTrafficPolicy="Local"), eslice(WEB_0, WEB_1))
    assert services(text)[0].endswith(f"-j {SVL}")
    assert rules(text, "nat", EXT)[-1] == f"-j {SVC}"
    assert rules(text, "nat", SVL)[0].endswith("-j KUBE-MARK-MASQ")  # the clusterIP's rule follows its chain
    assert len(rules(text, "nat", SVC)) == 2


def test_no_ext_chain_without_a_way_in_from_outside():
    assert EXT not in full(service(), eslice(WEB_0))


# 9-11. Dispatch and endpoints


def test_each_endpoint_gets_an_equal_share():
    text = full(service(), eslice(*[ep(f"10.48.2.{n}") for n in range(1, 8)]))
    shares = [
        rule.split("--probability ")[1].split()[0] if "statistic" in rule else "" for rule in rules(text, "nat", SVC)
    ]
    assert shares[1:] == [
        "0.1428571429",
        "0.1666666667",
        "0.2000000000",
        "0.2500000000",
        "0.3333333333",
        "0.5000000000",
        "",
    ]


def test_dispatch_rule():
    text = full(service(), eslice(WEB_0, WEB_1))
    assert rules(text, "nat", SVC)[1:] == [
        '-m comment --comment "default/web:http -> 10.48.1.6:8080" -m statistic --mode random'
        f" --probability 0.5000000000 -j {SEP_1}",
        f'-m comment --comment "default/web:http -> 10.48.2.7:8080" -j {SEP_0}',
    ]


def test_affinity():
    config = {"clientIP": {"timeoutSeconds": 600}}
    text = full(service(sessionAffinity="ClientIP", sessionAffinityConfig=config), eslice(WEB_0, WEB_1))
    assert rules(text, "nat", SVC)[1:3] == [
        '-m comment --comment "default/web:http -> 10.48.1.6:8080"'
        f" -m recent --name {SEP_1} --rcheck --seconds 600 --reap -j {SEP_1}",
        '-m comment --comment "default/web:http -> 10.48.2.7:8080"'
        f" -m recent --name {SEP_0} --rcheck --seconds 600 --reap -j {SEP_0}",
    ]
    assert len(rules(text, "nat", SVC)) == 5
    assert rules(text, "nat", SEP_0) == [
        "-m comment --comment default/web:http -s 10.48.2.7 -j KUBE-MARK-MASQ",
        f"-m comment --comment default/web:http -m recent --name {SEP_0} --set -m tcp -p tcp -j DNAT"
        " --to-destination 10.48.2.7:8080",
    ]


def test_udp_and_sctp():
    both = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "sig", "port": 5060, "protocol": "SCTP"}]
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "sig", "port": 5060, "protocol": "SCTP"}]
    text = full(service(port=both), eslice(WEB_0, ports=ports))
    sep = chain("SEP", "default/web:dns", "udp10.48.2.7:53")
    assert rules(text, "nat", sep)[1].endswith("-m udp -p udp -j DNAT --to-destination 10.48.2.7:53")
    assert f"-m sctp -p sctp -d 10.96.0.1 --dport 5060 -j {chain('SVC', 'default/web:sig', 'sctp')}" in text


def test_unnamed_port():
    text = full(service(port={"port": 80}), eslice(WEB_0, ports=[{"port": 8080}]))
    assert services(text) == [
        f'-m comment --comment "default/web cluster IP" {TO_WEB} -j {chain("SVC", "default/web")}'
    ]


# Large clusters


def test_large_cluster_drops_the_comments_that_name_endpoints():
    """Strictly more than 1000 endpoints; all other comments stay."""
    many = [ep(f"10.{n >> 8}.{n & 255}.1") for n in range(1001)]
    at_limit, above = full(service(**NODE_PORT), eslice(*many[:1000])), full(service(**NODE_PORT), eslice(*many))
    assert " -> " in at_limit
    assert " -> " not in above
    sep = chain("SEP", rest="tcp10.0.1.1:8080")
    assert rules(above, "nat", sep) == [
        "-s 10.0.1.1 -j KUBE-MARK-MASQ",
        "-m tcp -p tcp -j DNAT --to-destination 10.0.1.1:8080",
    ]
    assert rules(above, "nat", SVC)[0].startswith('-m comment --comment "default/web:http cluster IP"')
    assert rules(above, "nat", SVC)[1].startswith("-m statistic --mode random --probability 0.0009990010 -j KUBE-SEP-")
    assert "masquerade traffic for default/web:http" in above


def test_large_counts_unready_endpoints_of_known_services_only():
    many = [ep(f"10.{n >> 8}.{n & 255}.1", ready=n == 0, serving=False) for n in range(1001)]
    assert " -> " not in full(service(), eslice(*many))
    assert " -> " in full(service(), eslice(WEB_0), eslice(*many, service="gone"))


# The last rule


DISPATCH = (
    '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" {}'
    " -j KUBE-NODEPORTS"
)


@pytest.mark.parametrize(
    ("changes", "matches"),
    [
        ({}, ["-m addrtype --dst-type LOCAL"]),
        ({"localhostNodePorts": False}, ["-m addrtype --dst-type LOCAL ! -d 127.0.0.0/8"]),
        ({"nodePortAddresses": ["172.18.0.0/16", "10.48.0.0/16"]}, ["-d 10.48.1.1", "-d 172.18.0.2"]),
        ({"nodePortAddresses": ["127.0.0.0/8"]}, ["-d 127.0.0.1"]),
        ({"nodePortAddresses": ["127.0.0.0/8"], "localhostNodePorts": False}, []),
        ({"nodePortAddresses": ["10.48.0.0/16", "0.0.0.0/0"]}, ["-m addrtype --dst-type LOCAL"]),
        ({"nodePortAddresses": ["primary"]}, ["-d 172.18.0.2"]),
        ({"nodePortAddresses": ["fc00::/7"]}, ["-m addrtype --dst-type LOCAL"]),
    ],
)
def test_node_port_dispatch(changes, matches):
    text = full(service(), eslice(WEB_0), **changes)
    last = rules(text, "nat", "KUBE-SERVICES")
    assert last[len(last) - len(matches) :] == [DISPATCH.format(match) for match in matches]
    assert text.count("must be the last rule") == len(matches)


def test_addresses_without_localhost_need_no_firewall_rule():
    """route_localnet stays off then, so there is nothing to guard."""
    text = full(nodePortAddresses=["172.18.0.0/16"])
    assert "KUBE-FIREWALL" not in text
    assert "KUBE-FIREWALL" not in full(localhostNodePorts=False)


# IPv6


def test_ipv6():
    svc = service(**NODE_PORT, clusterIP="fd00:10:96::1")
    six = full(svc, eslice(ep("fd00:10:48:2::7"), addressType="IPv6"), family=AF_INET6)
    sep = chain("SEP", rest="tcp[fd00:10:48:2::7]:8080")
    assert rules(six, "nat", "KUBE-SERVICES") == [
        f'-m comment --comment "default/web:http cluster IP" -m tcp -p tcp -d fd00:10:96::1 --dport 80 -j {SVC}',
        DISPATCH.format("-m addrtype --dst-type LOCAL ! -d ::1/128"),
    ]
    assert rules(six, "nat", SVC) == [
        '-m comment --comment "default/web:http cluster IP" -m tcp -p tcp -d fd00:10:96::1 --dport 80'
        " ! -s fd00:10:48::/48 -j KUBE-MARK-MASQ",
        f'-m comment --comment "default/web:http -> [fd00:10:48:2::7]:8080" -j {sep}',
    ]
    assert rules(six, "nat", sep) == [
        "-m comment --comment default/web:http -s fd00:10:48:2::7 -j KUBE-MARK-MASQ",
        "-m comment --comment default/web:http -m tcp -p tcp -j DNAT --to-destination [fd00:10:48:2::7]:8080",
    ]
    assert "KUBE-FIREWALL" not in six


def test_families_do_not_mix():
    text = full(service(), eslice(ep("fd00::7"), addressType="IPv6", name="six"), eslice(WEB_0), family=AF_INET6)
    assert "10.96.0.1" not in text
    assert "fd00::7" not in full(service(), eslice(ep("fd00::7"), addressType="IPv6", name="six"), eslice(WEB_0))


def test_ipv6_loopback_is_never_a_node_port_address():
    six = full(family=AF_INET6, nodePortAddresses=["::1/128", "fc00::/7"])
    assert rules(six, "nat", "KUBE-SERVICES") == [DISPATCH.format("-d fc00::2")]
