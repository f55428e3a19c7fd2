"""What CoreDNS says over HTTP: plugins health, ready and prometheus, as kubeadm's Corefile has them (ports of the kube-dns Service)."""

from __future__ import annotations

from pathlib import Path

from kubenet import Cluster

SHOP = Path(__file__).resolve().parents[2] / "manifests" / "shop"


def test_health_ready_and_metrics() -> None:
    """One A and one AAAA question of curl's resolver for each name of the search list that it tried, and as many responses."""
    with Cluster.from_manifests(SHOP) as cluster:
        (pod,) = cluster.store.iter("Pod", "kube-system")
        ip = pod["status"]["podIP"]
        assert [cluster.exec("client", f"curl -s http://{ip}:{at}").out for at in ("8080/health", "8181/ready", "8181/")] == \
            ["OK", "OK", "404 page not found\n"]
        assert cluster.exec("client", "dig +short web.default.svc.cluster.local").out
        cluster.exec("client", "dig +tcp nobody.default.svc.cluster.local")
        cluster.exec("client", "dig example.com")
        lines = cluster.exec("client", f"curl -s http://{ip}:9153/metrics").out.splitlines()
        assert "# TYPE coredns_dns_requests_total counter" in lines
        where = 'server="dns://:53"'
        assert f'coredns_dns_requests_total{{family="1",proto="udp",{where},type="A",view="",zone="cluster.local."}} 1' in lines
        assert f'coredns_dns_responses_total{{plugin="kubernetes",rcode="NXDOMAIN",{where},view="",zone="cluster.local."}} 1' in lines
        assert f'coredns_dns_requests_total{{family="1",proto="udp",{where},type="A",view="",zone="."}} 1' in lines
        assert cluster.exec("client", "curl -s -o /dev/null -w '%{http_code}' http://kube-dns.kube-system:9153/metrics").out == "200"
