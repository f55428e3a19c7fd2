"""A real node in namespaces of its own, what its tools print, and what it really did with packets.

    python -m tests.offline.node_record        writes recordings/node.json (root, unshare, iptables, conntrack needed)

The node has eth0 towards an outside machine and veths to two pods; rules are those that `kubenet proxy render --kernel` prints for
two services (one without endpoints), and a few of a person's own. Each packet is a SYN from a fixed port; what became of it is
read from the connection table and from what connect() said.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

RECORDING = Path(__file__).parent / "recordings" / "node.json"

NODE = {"nodeName": "node-1", "nodeIP": "172.18.0.2", "detectLocal": {"mode": "ClusterCIDR", "value": "10.48.0.0/16"}}
OBJECTS = [
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
     "spec": {"type": "NodePort", "clusterIP": "10.96.0.1", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]}},
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "empty"}, "spec": {"clusterIP": "10.96.0.2", "ports": [{"port": 80}]}},
    {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
     "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}, "ports": [{"port": 8080, "protocol": "TCP"}],
     "endpoints": [{"addresses": ["10.48.1.7"], "nodeName": "node-1"}, {"addresses": ["172.18.0.9"], "nodeName": "node-2"}]},
]
OWN_RULES = ["-A FORWARD -d 203.0.113.66/32 -j DROP", "-A FORWARD -d 203.0.113.67/32 -p tcp -m tcp --dport 80 -j REJECT --reject-with tcp-reset",
             "-A INPUT -p tcp -m tcp --dport 2222 -j DROP"]

# who sends, its port, where to
PACKETS = [
    ("pod", 41001, "10.96.0.1", 80), ("pod", 41002, "10.96.0.2", 80), ("pod", 41003, "203.0.113.5", 80), ("pod", 41004, "203.0.113.66", 80),
    ("pod", 41005, "203.0.113.67", 80), ("pod", 41006, "172.18.0.2", 2222), ("pod", 41007, "172.18.0.2", 30080), ("pod", 41008, "198.51.100.1", 80),
    ("node", 41009, "10.96.0.1", 80), ("node", 41010, "10.96.0.2", 80), ("outside", 41011, "172.18.0.2", 30080), ("outside", 41012, "10.48.1.7", 8080),
    ("node", 41013, "198.51.100.1", 80), ("node", 41014, "172.18.0.2", 2222), ("node", 41015, "172.18.0.2", 8080), ("pod", 41016, "172.18.0.2", 8080),
    ("node", 41017, "172.18.0.2", 30080), ("lo", 41018, "127.0.0.1", 30080), ("outside", 41019, "172.18.0.2", 8082), ("lo", 41020, "127.0.0.1", 8080),
]
CLOSED = 8082  # nobody listens there: refused by the node itself, not by a rule
ADDRESS = {"pod": "10.48.1.5", "node": "172.18.0.2", "outside": "172.18.0.1", "lo": "127.0.0.1"}

CONNECT = """
import socket, sys, json
me, sport, host, port = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
s = socket.socket(); s.settimeout(0.4); s.bind((me, sport))
try: s.connect((host, port)); print("connected")
except OSError as e: print(type(e).__name__ + " " + str(e.errno))
"""

LISTEN = """
import socket, time
s = socket.create_server(("", 8080)); time.sleep(60)
"""

SCRIPT = r"""
set -e
mkdir -p $D; cd $D
unshare -n sleep 60 & POD=$!; unshare -n sleep 60 & WEB=$!; unshare -n sleep 60 & OUT=$!
trap "kill $POD $WEB $OUT" EXIT
sleep 0.3
in_() { nsenter -t $1 -n sh -c "$2"; }
ip link set lo up
ip link add eth0 type veth peer name x0; ip link set x0 netns $OUT
ip addr add 172.18.0.2/16 dev eth0; ip link set eth0 up
for p in 5:$POD 7:$WEB; do n=${p%%:*}
  ip link add vp$n type veth peer name e$n; ip link set e$n netns ${p#*:}
  ip link set vp$n up; ip route add 10.48.1.$n dev vp$n scope link
  in_ ${p#*:} "ip link set lo up; ip addr add 10.48.1.$n/32 dev e$n; ip link set e$n up; ip route add 169.254.1.1 dev e$n scope link; ip route add default via 169.254.1.1 dev e$n"
  echo 1 > /proc/sys/net/ipv4/conf/vp$n/proxy_arp
  echo 0 > /proc/sys/net/ipv4/neigh/vp$n/proxy_delay
done
in_ $OUT "ip link set lo up; ip addr add 172.18.0.1/16 dev x0; ip addr add 172.18.0.9/16 dev x0; ip link set x0 up; ip route add 10.48.0.0/16 via 172.18.0.2"
ip route add default via 172.18.0.1 dev eth0
ip route add unreachable 198.51.100.0/24
echo 1 > /proc/sys/net/ipv4/ip_forward
iptables-restore < rules.in
ip addr > addr; ip route show table all > routes; sysctl -a > sysctl 2>/dev/null
iptables-save > rules
for ns in $WEB $OUT $$; do nsenter -t $ns -n python3 listen.py & LISTEN="$LISTEN $!"; done
trap "kill $POD $WEB $OUT $LISTEN" EXIT
sleep 0.5
conntrack -F 2>/dev/null
while read who sport host port; do
  case $who in pod) ns=$POD me=10.48.1.5;; node) ns=$$ me=172.18.0.2;; lo) ns=$$ me=127.0.0.1;; outside) ns=$OUT me=172.18.0.1;; esac
  said=$(nsenter -t $ns -n python3 connect.py $me $sport $host $port)
  entry=$(conntrack -L -p tcp --orig-port-src $sport 2>/dev/null | head -1)
  echo "$said|$entry" >> observed
done < packets
conntrack -L > conntrack 2>/dev/null
echo "Linux $(uname -r), $(iptables --version)" > version
"""


def rules() -> str:
    """The restore input: kube-proxy's, and a person's own."""
    from kubenet.cluster.proxy.options import ProxyOptions
    from kubenet.query.offline.render import kernel_text, restore_text

    options = ProxyOptions.parse(NODE)
    text = kernel_text([restore_text(OBJECTS, options)], options)
    head, star, rest = text.partition("*filter")
    body, commit, after = rest.partition("COMMIT")
    return head + star + body + "\n".join(OWN_RULES) + "\n" + commit + after


def record() -> dict[str, object]:
    """Build it, ask it."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        (path / "rules.in").write_text(rules())
        (path / "connect.py").write_text(CONNECT)
        (path / "listen.py").write_text(LISTEN)
        (path / "packets").write_text("".join(" ".join(map(str, p)) + "\n" for p in PACKETS))
        done = subprocess.run(["unshare", "-n", "bash", "-c", SCRIPT], env={"D": name, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        files = {f: (path / f).read_text() for f in ("rules", "addr", "routes", "conntrack")}
        files["sysctl"] = "".join(line for line in (path / "sysctl").read_text().splitlines(keepends=True)
                                  if line.startswith(("net.ipv4.conf.", "net.ipv4.ip_forward ", "net.netfilter.")))
        observed = [line.split("|") for line in (path / "observed").read_text().splitlines()]
        return {"made_by": "python -m tests.offline.node_record", "version": (path / "version").read_text().strip(), "files": files,
                "observed": [{"said": said, "entry": entry} for said, entry in observed]}


if __name__ == "__main__":
    RECORDING.write_text(json.dumps(record(), indent=1) + "\n")
    print(RECORDING)
