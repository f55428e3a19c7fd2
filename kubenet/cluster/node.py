"""A node: one machine with its kubelet, its CNI plugin and its kube-proxy, and a container in which its own tools run.

    node = Node(...)      the machine is wired and has its address
    node.boot(cluster)    registers the Node object, then, once it has a pod CIDR: bridge, routes, kubelet, kube-proxy

The kubelet's chains come first, then kube-proxy's, so that the jumps to KUBE-FIREWALL end up last, as on a kubeadm node.
What these programs change in the kernel is the table of the profile: ip_forward and br_netfilter (CNI), vm and kernel settings
(kubelet), conntrack timeouts and route_localnet (kube-proxy).

Sources: profile linux-6.18 section "What starts change"; Kubernetes kubelet_network_linux.go, cmd/kube-proxy/app/server_linux.go.
"""

from __future__ import annotations

from typing import Any

from kubenet.cluster.api.views import NodeView
from kubenet.cluster.cni import Cni
from kubenet.cluster.flannel import HOST_GW, VXLAN, Flannel
from kubenet.cluster.kubelet import Kubelet
from kubenet.cluster.proxy.base import ensure
from kubenet.cluster.proxy.config import ConntrackConfig, options_for_node, startup_sysctls
from kubenet.cluster.proxy.controller import IsStale, KubeProxy
from kubenet.cluster.proxy.group import ProxyGroup
from kubenet.cluster.proxy.health_server import HealthServer
from kubenet.cluster.proxy.iptables import kubelet_rules
from kubenet.cluster.store import Store
from kubenet.kernel.host import Host
from kubenet.kernel.netfilter.core import nf_defer, nf_ready
from kubenet.kernel.netns import AF_INET, NetNamespace
from kubenet.userland.container import Container
from kubenet.userland.procfs import write_sysctl
from kubenet.wire.addr import ip4_text

Obj = dict[str, Any]

KUBELET_VERSION = "v1.32.4"
IPPROTO_UDP = 17


class Node:
    """One machine of the cluster."""

    def __init__(self, host: Host, net: NetNamespace, ip: str, labels: dict[str, str], spec: Obj) -> None:
        self.host = host
        self.name = host.name
        self.net = net
        self.ip = ip
        self.labels = labels
        self.spec = spec  # the node's entry in the topology
        self.pod_cidr = ""
        self.cni: Cni | None = None
        self.flannel: Flannel | None = None  # where cniMode is vxlan
        self.kubelet: Kubelet | None = None
        self.proxy: KubeProxy | None = None
        self.container: Container | None = None

    # ---- boot

    def register(self, store: Store) -> None:
        """The Node object, as the kubelet registers it."""
        name, now = self.name, store.now_text()
        labels = {"beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                  "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **self.labels}
        annotations = {**(self.flannel.annotations() if self.flannel is not None else {}), **(self.spec.get("annotations") or {})}
        capacity = {"cpu": str(self.host.cpus), "memory": f"{self.host.memory >> 10}Ki", "pods": "110"}
        spec: Obj = {"podCIDR": self.pod_cidr, "podCIDRs": [self.pod_cidr]} if self.pod_cidr else {}
        if self.spec.get("taints"):
            spec["taints"] = self.spec["taints"]
        conditions = [
            _condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available", now),
            _condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure", now),
            _condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available", now),
            _condition("Ready", "True", "KubeletReady", "kubelet is posting ready status", now),
        ]
        info = {"architecture": "amd64", "operatingSystem": "linux", "osImage": "kubenet", "kubeletVersion": KUBELET_VERSION,
                "kernelVersion": self.host.kernel_release, "containerRuntimeVersion": "kubenet://0.1", "kubeProxyVersion": KUBELET_VERSION,
                "machineID": "", "systemUUID": "", "bootID": ""}
        status = {"capacity": capacity, "allocatable": capacity, "conditions": conditions, "nodeInfo": info,
                  "addresses": [{"type": "InternalIP", "address": self.ip}, {"type": "Hostname", "address": name}]}
        store.create({"apiVersion": "v1", "kind": "Node",
                      "metadata": {"name": name, "labels": labels, "annotations": annotations},
                      "spec": spec, "status": status})

    def start_network(self, pod_cidr: str, mtu: int, mode: str = HOST_GW) -> None:
        """The CNI plugin's part: forwarding, br_netfilter, cni0; in the vxlan mode flannel.1, whose MTU the pods have."""
        self.pod_cidr = pod_cidr
        if mode == VXLAN:
            self.flannel = Flannel(self.net, "eth0", self.ip, pod_cidr)
            mtu = self.flannel.device.mtu
        self.cni = Cni(self.host, self.net, pod_cidr, mtu, mtu if mode == VXLAN else 1500)
        self.cni.setup()

    def start_agents(self, store: Store, loop: Any, settings: Obj) -> None:
        """The kubelet and its chains, then kube-proxy."""
        assert self.cni is not None
        self.container = Container(self.host, self.net, self.name, "node", hostname=self.name, resolv_conf=settings["nodeResolvConf"],
                                   hosts=settings["nodeHosts"])
        self.container.start()
        self._start_kubelet(store, loop, settings)
        if settings["kubeProxy"].get("mode", "iptables") != "none":
            self._start_proxy(store, loop, settings)

    def _start_kubelet(self, store: Store, loop: Any, settings: Obj) -> None:
        assert self.cni is not None
        self.host.sysctl_other.update({"vm.overcommit_memory": "1", "kernel.panic": "10", "kernel.panic_on_oops": "1"})
        nf_defer(self.net, self._make_rules)
        self.kubelet = Kubelet(store, loop, self.host, self.net, self.cni,
                               {"nodeIP": self.ip, "dnsIP": settings["dnsIP"], "domain": settings["domain"],
                                "serviceEnv": settings["serviceEnv"], "container": self.container,
                                "nodeResolvConf": settings["nodeResolvConf"], "nodeHosts": settings["nodeHosts"]},
                               settings["podFeed"])
        self.kubelet.start()

    def _make_rules(self) -> None:
        """Somebody needs the rules: the kubelet's, then kube-proxy's as they would be had they been written at once."""
        ensure(kubelet_rules(AF_INET), lambda argv: self.iptables(AF_INET, argv))
        if self.proxy is not None and self.proxy.group is not None:
            self.proxy.group.catch_up(self.proxy)

    def _start_proxy(self, store: Store, loop: Any, settings: Obj) -> None:
        config, views = settings["kubeProxy"], settings["views"]
        node = store.must_get("Node", ("", self.name))
        options = options_for_node(config, NodeView.of(node), self.addresses())
        sysctls = startup_sysctls(options, self.host.cpus, ConntrackConfig.parse(config))
        for name, value in sysctls.items():
            write_sysctl(self.net, name, str(value))
        mode = config.get("mode", "iptables")
        latency = int(config.get("latencyNs", 0))
        self.proxy = KubeProxy(loop, options, ProxyBackend(self), (AF_INET,), mode, latency, views)
        assert self.container is not None
        self.proxy.health = HealthServer(self.container, self.proxy)
        group: ProxyGroup = settings.setdefault("proxyGroup", ProxyGroup(loop, options, (AF_INET,), latency, views))
        self.proxy.start(store, group if mode == "iptables" and group.takes(options, latency) else None)

    # ---- what others ask

    def addresses(self) -> list[str]:
        """Every address of the node's devices, loopback's included."""
        return [ip4_text(a.addr) for dev in self.net.devs.values() for a in dev.ifaddrs]

    def iptables(self, family: int, argv: list[str]) -> int:
        """Run an iptables command on the node; its exit status."""
        from kubenet.kernel.netfilter.xtables.command import iptables_command

        return iptables_command(self.net, family, argv[1:])[0]


class ProxyBackend:
    """kube-proxy's hands: the node's kernel through the same functions as the tools."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def restore(self, family: int, text: str) -> str:
        """iptables-restore -w 5 --noflush --counters; "" or its complaint."""
        from kubenet.kernel.netfilter.xtables.errors import XtablesError
        from kubenet.kernel.netfilter.xtables.restore import iptables_restore

        try:
            iptables_restore(self.node.net, family, text, noflush=True, counters=True, source="kube-proxy")
        except XtablesError as error:
            return str(error)
        return ""

    def run(self, family: int, argv: list[str]) -> int:
        """An iptables command."""
        return self.node.iptables(family, argv)

    def nat_chains(self, family: int) -> list[str]:
        """The chains that iptables-save -t nat would name."""
        nf_ready(self.node.net)
        table = self.node.net.xt.get(family, {}).get("nat")
        return list(table.chains) if table is not None else []

    def delete_udp(self, family: int, is_stale: IsStale) -> int:
        """Delete the UDP entries that lead nowhere any more."""
        table = self.node.net.ct
        gone = 0
        if table is None:
            return 0
        for ct in list(table.entries()):
            if ct.orig[4] == (family << 8 | IPPROTO_UDP) and is_stale(ct.orig[2], ct.orig[3], ct.reply[0], ct.reply[1]):
                table.delete(ct)
                gone += 1
        return gone


def _condition(kind: str, status: str, reason: str, message: str, now: str) -> Obj:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": now, "lastTransitionTime": now}

