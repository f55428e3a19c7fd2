"""Names of the chains that kube-proxy makes in iptables mode.

A Service's name does not fit into iptables' 28 characters, so the chains of a service port carry 16 characters of a
hash: base32 of the SHA-256 of `namespace/name[:port]` and the protocol in lower case, with nothing between them;
a chain of an endpoint hashes the same text with `ip:port` after it. The four kinds of chains of one service port
share one hash, which is why `iptables-save | grep HASH` shows everything about it.

    service_port_name("default", "kubernetes", "https")    "default/kubernetes:https"
    KUBE-SVC-NPX46M4PTMTKRN6Y                              its chain, protocol tcp, in every cluster in the world

Source: pkg/proxy/iptables servicePortChainNameBase(), portProtoHash(); pkg/proxy ServicePortName.String().
"""

from __future__ import annotations

import base64
import hashlib

KUBE_SERVICES = "KUBE-SERVICES"
KUBE_EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES"
KUBE_NODEPORTS = "KUBE-NODEPORTS"
KUBE_POSTROUTING = "KUBE-POSTROUTING"
KUBE_MARK_MASQ = "KUBE-MARK-MASQ"
KUBE_FORWARD = "KUBE-FORWARD"
KUBE_PROXY_FIREWALL = "KUBE-PROXY-FIREWALL"
KUBE_FIREWALL = "KUBE-FIREWALL"
KUBE_PROXY_CANARY = "KUBE-PROXY-CANARY"
KUBE_KUBELET_CANARY = "KUBE-KUBELET-CANARY"
KUBE_IPTABLES_HINT = "KUBE-IPTABLES-HINT"

SVC, SVL, EXT, FW, SEP = "KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"
HASHED_PREFIXES = (SVC, SVL, SEP, FW, EXT)


def hash16(text: str) -> str:
    """16 characters of base32 (A-Z, 2-7) of the SHA-256 of `text`."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:10]).decode()


def service_port_name(namespace: str, name: str, port: str) -> str:
    """`namespace/name`, and `:port` if the port has a name."""
    return f"{namespace}/{name}:{port}" if port else f"{namespace}/{name}"


def endpoint_chain(spn: str, protocol: str, endpoint: str) -> str:
    """KUBE-SEP- of one endpoint of one service port; `endpoint` is "ip:port" or "[ip]:port"."""
    return SEP + hash16(spn + protocol + endpoint)
