"""Services as kube-proxy writes them: who asks what from where, with and without bridge-nf-call-iptables."""

from __future__ import annotations

from rig_topology import Case

TARGETS = {
    "clusterip": "10.96.0.1:80",
    "nodeport": "172.18.0.2:30080",
    "nodeport-local": "172.18.0.2:30081",
    "none": "10.96.0.40:80",
    "none-nodeport": "172.18.0.2:30082",
    "pod": "",
}
ADDRESS = {"w1": "10.48.1.6", "w2": "10.48.2.7"}
BRIDGE_OFF = tuple((node, "net.bridge.bridge-nf-call-iptables", "0") for node in ("n1", "n2"))


def _talk(client: str, server: str, target: str, before: str = "") -> str:
    return f"""
        {before}
        {server}: listen L 8080
        {client}: connect C {target} from=:41000 timeout=0.5
        {server}: accept S L timeout=0.2
        {client}: send C 5 timeout=0.3
        {server}: recv S 100 timeout=0.2
        {server}: send S 7
        {client}: recv C 100 timeout=0.2
        n1: ct
        n2: ct
        {client}: close C
        {server}: recv S 100 timeout=0.2
        {server}: close S
    """


def _tcp() -> list[Case]:
    found = []
    for kind, target in TARGETS.items():
        for client in ("c1", "w1", "n1", "w2", "n2", "out"):
            for server in ("w1", "w2"):
                for bridge in (1, 0):
                    where = target or f"{ADDRESS[server]}:8080"
                    if kind.startswith("none") and server == "w2":
                        continue
                    if bridge == 0 and client in ("n1", "n2", "out") and kind != "nodeport":
                        continue
                    before = ""
                    if client == "out" and kind in ("clusterip", "none"):
                        before = "out: ip route add 10.96.0.0/16 via 172.18.0.2"
                    if client == "out" and kind == "pod":
                        before = "out: ip route add 10.48.0.0/16 via 172.18.0.2"
                    fully = "" if kind == "nodeport" and client == "out" else ",plain"
                    found.append(Case(
                        f"svc-{kind}-{client}-{server}-nf{bridge}", "cluster", _talk(client, server, where, before),
                        sysctls=() if bridge else BRIDGE_OFF,
                        rules=(("n1", f"kube:{server}{fully}"), ("n2", f"kube:{server}{fully}"))))
    return found


def _udp() -> list[Case]:
    found = []
    for name, target in (("dns", "10.96.0.10:53"), ("gone", "10.96.0.41:53")):
        for client in ("c1", "w2", "n1"):
            found.append(Case(f"svc-{name}-{client}", "cluster", f"""
                w2: udp S from=:5353
                {client}: udp C from=:41000
                {client}: connect C {target}
                {client}: send C 20
                w2: recvfrom S 100 timeout=0.2
                {client}: send C 21
                w2: recvfrom S 100 timeout=0.2
                {client}: recv C 10 timeout=0.2
                n1: ct
                {client}: getopt C SO_ERROR
                wait 2.2
                {client}: send C 22
                w2: recvfrom S 100 timeout=0.2
                n1: ct
            """, rules=(("n1", "kube:w2,plain"), ("n2", "kube:w2,plain"))))
    return found


RULES = (("n1", "kube:w2,plain"), ("n2", "kube:w2,plain"))


def _special() -> list[Case]:
    web = "10.96.0.1:80"
    return [
        Case("svc-port-closed", "cluster", f"c1: connect C {web} from=:41000\nn1: ct\nn2: ct", rules=RULES),
        Case("svc-pod-down", "cluster", f"""
            w2: ip link set eth0 down
            c1: connect C {web} from=:41000 timeout=4
            n1: ct
            n2: ct
        """, rules=RULES),
        Case("svc-entry-deleted", "cluster", f"""
            w2: listen L 8080
            c1: connect C {web} from=:41000
            w2: accept S L
            c1: send C 5
            w2: recv S 10
            n1: conntrack -D -p tcp
            n1: ct
            c1: send C 6
            w2: recv S 10
            n1: ct
            n1: conntrack -D -p tcp
            w2: send S 7
            c1: recv C 10 timeout=0.3
            n1: ct
            w2: getopt S SO_ERROR
        """, rules=RULES),
        Case("svc-udp-endpoint-port-closed", "cluster", """
            c1: udp C from=:41000
            c1: connect C 10.96.0.10:53
            c1: send C 20
            c1: recv C 10 timeout=0.2
            c1: send C 20
            c1: send C 20
            n1: ct
        """, rules=RULES),
        Case("svc-udp-endpoint-port-closed-out", "cluster", """
            out: ip route add 10.96.0.0/16 via 172.18.0.2
            out: udp C from=:41000
            out: connect C 10.96.0.10:53
            out: send C 20
            out: recv C 10 timeout=0.2
            n1: ct
        """, rules=RULES),
        Case("svc-pmtu", "cluster", f"""
            n2: ip link set cni0 mtu 1400
            n2: ip link set vw2 mtu 1400
            w2: ip link set eth0 mtu 1400
            w2: listen L 8080
            c1: connect C {web} from=:41000
            w2: accept S L
            c1: send C 4000
            w2: drain S
            c1: getopt C IP_MTU
            c1: send C 3000
            w2: drain S
            n1: ct
        """, rules=RULES),
        Case("svc-pmtu-node", "cluster", f"""
            n1: ip link set eth0 mtu 1300
            w2: listen L 8080
            c1: connect C {web} from=:41000
            w2: accept S L
            c1: send C 4000
            w2: drain S
            c1: getopt C IP_MTU
        """, rules=RULES),
        Case("svc-ttl-exceeded", "cluster", f"""
            c1: tcp C opts=IP_TTL:1
            c1: start C {web} from=:41000
            c1: getopt C SO_ERROR
            c1: tcp D opts=IP_TTL:2
            c1: start D 10.48.2.7:8080
            n1: ct
        """, rules=RULES),
        Case("svc-two-clients-same-port-masquerade", "cluster", """
            w2: listen L 8080
            out: connect C 172.18.0.2:30080 from=:41000
            n1: connect D 172.18.0.2:30080 from=172.18.0.2:41000
            n1: ct
            n2: ct
        """, rules=RULES),
        Case("svc-nodeport-loopback", "cluster", """
            w2: listen L 8080
            n1: connect C 127.0.0.1:30080 from=:41000 timeout=1
            w2: accept S L timeout=0.2
            n1: ct
        """, rules=RULES),
        Case("svc-nodeport-on-cni0-address", "cluster", """
            w2: listen L 8080
            c1: connect C 10.48.1.1:30080 from=:41000 timeout=1
            w2: accept S L timeout=0.2
            n1: ct
        """, rules=RULES),
        Case("svc-out-of-window", "cluster", f"""
            w2: listen L 8080
            c1: connect C {web} from=:41000
            w2: accept S L
            w2: iptables -A OUTPUT -p tcp --tcp-flags RST RST -j DROP
            w2: seg 10.48.2.7:8080>10.48.1.5:41000 . seq=100000000 ack=1 len=10
            n1: ct
            c1: send C 5
            w2: recv S 10 timeout=0.3
        """, rules=RULES),
        Case("svc-icmp-to-clusterip", "cluster", "c1: icmp 10.48.1.5 10.96.0.1\nwait 0.1\nn1: ct", rules=RULES),
        Case("svc-no-such-port", "cluster", f"c1: connect C 10.96.0.1:81 from=:41000 timeout=0.5\nn1: ct", rules=RULES),
        Case("svc-client-reset", "cluster", f"""
            w2: listen L 8080
            c1: connect C {web} from=:41000
            w2: accept S L
            c1: opt C SO_LINGER 1/0
            c1: close C
            n1: ct
            n2: ct
            w2: recv S 10
        """, rules=RULES),
        Case("svc-server-half-close", "cluster", f"""
            w2: listen L 8080
            c1: connect C {web} from=:41000
            w2: accept S L
            w2: shutdown S wr
            n1: ct
            c1: recv C 10
            c1: send C 5
            n1: ct
            w2: recv S 10
            c1: shutdown C wr
            n1: ct
            n2: ct
        """, rules=RULES),
    ]


TCP, UDP, SPECIAL = _tcp(), _udp(), _special()
