"""Chain names: values that every cluster in the world shows."""

from __future__ import annotations

import pytest

from kubenet.cluster.proxy.names import SVC, endpoint_chain, hash16, service_port_name


@pytest.mark.parametrize(
    ("namespace", "name", "port", "protocol", "expected"),
    [
        ("default", "kubernetes", "https", "tcp", "KUBE-SVC-NPX46M4PTMTKRN6Y"),
        ("kube-system", "kube-dns", "dns", "udp", "KUBE-SVC-TCOU7JCQXEZGVUNU"),
        ("kube-system", "kube-dns", "dns-tcp", "tcp", "KUBE-SVC-ERIFXISQEP7F7OF4"),
        ("ns1", "svc1", "p80", "tcp", "KUBE-SVC-XPGD46QRK7WJZT7O"),
    ],
)
def test_service_chain(namespace, name, port, protocol, expected):
    """SHA-256 of name and protocol without separator, base32, 16 characters."""
    assert SVC + hash16(service_port_name(namespace, name, port) + protocol) == expected


def test_unnamed_port_has_no_colon():
    assert service_port_name("default", "web", "") == "default/web"


def test_endpoint_chain():
    assert endpoint_chain("ns1/svc1:p80", "tcp", "10.180.0.1:80") == "KUBE-SEP-SXIVWICOYRO3J4NJ"
