"""What a container finds around it: volumes, environment, resolv.conf, hosts. Expectations: the Kubernetes sources named at each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kubenet import Cluster
from kubenet.cluster.pod_env import DnsConfig, dns_config
from kubenet.units import SEC

Obj = dict[str, Any]
BOX = {"name": "c", "image": "nicolaka/netshoot", "command": ["sleep", "infinity"]}


def pod(name: str, container: Obj | None = None, meta: Obj | None = None, **spec: Any) -> Obj:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **(meta or {})},
            "spec": {"nodeName": "node-1", "containers": [{**BOX, **(container or {})}], **spec}}


def config(name: str = "cm", kind: str = "ConfigMap", **data: str) -> Obj:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "stringData" if kind == "Secret" else "data": data}


def mounts(**paths: str) -> list[Obj]:
    return [{"name": name, "mountPath": path} for name, path in paths.items()]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as made:
        yield made


def sh(cluster: Cluster, target: str, script: str) -> str:
    return cluster.exec(target, ["sh", "-c", script]).out


def messages(cluster: Cluster, reason: str) -> list[str]:
    return [e["message"] for e in cluster.store.iter("Event") if e["reason"] == reason]


def test_keys_have_the_paths_and_modes_that_items_say(cluster: Cluster) -> None:
    """volume/configmap/configmap.go MakePayload(), atomic_writer.go: the link is to the first component of the path."""
    items = [{"key": "app.conf", "path": "sub/dir/app.conf", "mode": 0o400}, {"key": "b", "path": "b"}]
    cluster.apply_documents([
        config(**{"app.conf": "a=1\n", "b": "2"}), config("pw", "Secret", key="s3cr3t"),
        pod("box", {"volumeMounts": mounts(v="/v", s="/s")}, volumes=[
            {"name": "v", "configMap": {"name": "cm", "items": items, "defaultMode": 0o440}},
            {"name": "s", "secret": {"secretName": "pw", "defaultMode": 0o600}}])])
    cluster.settle()
    assert sh(cluster, "box", "cat /v/sub/dir/app.conf; cat /s/key") == "a=1\ns3cr3t"
    modes = [sh(cluster, "box", f"ls -l {path}")[:10] for path in ("/v/..data/sub/dir/app.conf", "/v/..data/b", "/s/..data/key")]
    assert modes == ["-r--------", "-r--r-----", "-rw-------"] and sh(cluster, "box", "readlink /v/sub") == "..data/sub\n"
    assert cluster.exec("box", ["sh", "-c", "echo x > /v/x"]).code != 0
    assert cluster.exec("box", ["chmod", "777", "/v/b"]).err == "chmod: changing permissions of '/v/b': Read-only file system\n"


def test_a_single_file_by_subpath_is_the_file_and_stays_when_the_volume_changes(cluster: Cluster) -> None:
    """kubelet_pods.go makeMounts(): the link is followed when the container is made; what is missing becomes a directory.

    Volumes follow within a sync period (60 s), or as soon as the pod itself is changed; the environment does not.
    """
    cluster.apply_documents([config(key="old"), pod("box", {
        "envFrom": [{"configMapRef": {"name": "cm"}}],
        "volumeMounts": [*mounts(v="/v"), {"name": "v", "mountPath": "/etc/one", "subPath": "key"},
                         {"name": "v", "mountPath": "/etc/none", "subPath": "missing"}]}, volumes=[{"name": "v", "configMap": {"name": "cm"}}])])
    cluster.settle()
    look = "cat /etc/one /v/key; echo $key; test -d /etc/none && ls /v"
    assert sh(cluster, "box", look) == "oldoldold\nkey\nmissing\n"
    cluster.apply_documents([config(key="new", more="x")])
    cluster.run(SEC)
    assert sh(cluster, "box", look) == "oldoldold\nkey\nmissing\n"
    cluster.run(60 * SEC)
    assert sh(cluster, "box", look).startswith("oldnewold\nkey\nmore\n")
    cluster.apply_documents([config(key="newer")])
    cluster.run(SEC)
    changed = dict(cluster.store.must_get("Pod", ("default", "box")))
    changed["metadata"] = {**changed["metadata"], "annotations": {"touched": "yes"}}
    cluster.store.replace(changed)
    cluster.run(SEC)
    assert sh(cluster, "box", "cat /v/key; test -e /v/more || echo gone") == "newergone\n"


def test_a_volume_without_its_source_holds_up_the_pod(cluster: Cluster) -> None:
    """FailedMount, again after 0.5, 1, 2 ... 122 s (exponentialbackoff.go); the containers' reason stays ContainerCreating."""
    volume = {"name": "v", "configMap": {"name": "cm", "items": [{"key": "a", "path": "a"}]}}
    cluster.apply_documents([pod("box", {"volumeMounts": mounts(v="/v")}, volumes=[volume, {"name": "unused", "secret": {"secretName": "no"}}])])
    cluster.run(3 * SEC)
    assert cluster.settled() and messages(cluster, "FailedMount") == ['MountVolume.SetUp failed for volume "v" : configmap "cm" not found']
    waiting = cluster.store.must_get("Pod", ("default", "box"))["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting == {"reason": "ContainerCreating"}
    cluster.apply_documents([config(b="")])
    cluster.run(3 * SEC)
    assert messages(cluster, "FailedMount")[-1] == 'MountVolume.SetUp failed for volume "v" : configmap references non-existent config key: a'
    cluster.apply_documents([config(a="here")])
    cluster.run(10 * SEC)
    assert sh(cluster, "box", "cat /v/a") == "here"


def test_downward_api_and_projected_files(cluster: Cluster) -> None:
    """fieldpath.FormatMap() quotes as %q; resource.ExtractContainerResourceValue() divides and rounds up."""
    fields = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}, {"path": "notes", "fieldRef": {"fieldPath": "metadata.annotations"}},
              {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}},
              {"path": "mem", "resourceFieldRef": {"containerName": "c", "resource": "requests.memory", "divisor": "1Mi"}}]
    sources = [{"configMap": {"name": "cm"}}, {"secret": {"name": "none", "optional": True}}, {"downwardAPI": {"items": fields[:1]}}]
    env = [{"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIPs"}}}]
    cluster.apply_documents([config(key="value"), pod(
        "box", {"volumeMounts": mounts(d="/d", p="/p"), "env": env, "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "1000Ki"}}},
        {"labels": {"b": "2", "a": "1"}, "annotations": {"note": 'say "hi"\n'}},
        volumes=[{"name": "d", "downwardAPI": {"items": fields}}, {"name": "p", "projected": {"sources": sources}}])])
    cluster.settle()
    assert sh(cluster, "box", "for f in labels notes cpu mem; do cat /d/$f; echo; done") == 'a="1"\nb="2"\nnote="say \\"hi\\"\\n"\n1500\n1\n'
    assert sh(cluster, "box", "ls /p; cat /p/key; echo; echo $IPS") == "key\nlabels\nvalue\n172.18.0.2\n"


def test_an_empty_directory_is_shared_and_may_be_read_only_for_one(cluster: Cluster) -> None:
    reader = {**BOX, "name": "r", "volumeMounts": [{"name": "e", "mountPath": "/e", "readOnly": True}],
              "env": [{"name": "N", "value": "sub"}]}
    expr = {**BOX, "name": "x", "volumeMounts": [{"name": "e", "mountPath": "/mine", "subPathExpr": "$(N)/dir"}], "env": reader["env"]}
    made = pod("box", {"volumeMounts": mounts(e="/e")}, volumes=[{"name": "e", "emptyDir": {}}])
    made["spec"]["containers"] += [reader, expr]
    cluster.apply_documents([made])
    cluster.settle()
    for script, name in (("mkdir /e/d; echo one > /e/d/f", "c"), ("echo two > /mine/f", "x")):
        assert cluster.exec("box", ["sh", "-c", script], container=name).code == 0
    assert cluster.exec("box", ["sh", "-c", "cat /e/d/f /e/sub/dir/f"], container="r").out == "one\ntwo\n"
    for script in ("echo x > /e/new", "echo x > /e/d/f", "rm /e/d/f"):
        refused = cluster.exec("box", ["sh", "-c", script], container="r")
        assert refused.code != 0 and "Read-only file system" in refused.err


@pytest.mark.parametrize(("spec", "expected"), [
    ({}, DnsConfig(["10.96.0.10"], ["default.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"], ["ndots:5"])),
    ({"dnsPolicy": "Default"}, DnsConfig(["172.18.0.1"], ["lan"], ["edns0"])),
    ({"hostNetwork": True}, DnsConfig(["172.18.0.1"], ["lan"], ["edns0"])),
    ({"dnsPolicy": "Default", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["lan", "x"], "options": [{"name": "edns0"}]}},
     DnsConfig(["172.18.0.1", "1.1.1.1"], ["lan", "x"], ["edns0"])),
    ({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}, {"name": "rotate"}]}},
     DnsConfig(["10.96.0.10"], ["default.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"], ["ndots:1", "rotate"])),
    ({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"]}}, DnsConfig(["1.1.1.1"], [], [])),
])
def test_dns_policies(spec: Obj, expected: DnsConfig) -> None:
    """dns.go GetPodDNS(), appendDNSConfig(): no duplicates, options by name."""
    assert dns_config(pod("box", **spec), "10.96.0.10", "cluster.local", "search lan\nnameserver 172.18.0.1\noptions edns0\n") == expected


def test_three_nameservers_at_most_and_an_event_says_so(cluster: Cluster) -> None:
    cluster.apply_documents([pod("box", dnsConfig={"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3"]})])
    cluster.settle()
    assert sh(cluster, "box", "grep nameserver /etc/resolv.conf") == "nameserver 10.96.0.10\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n"
    assert messages(cluster, "DNSConfigForming") == ["Nameserver limits were exceeded, some nameservers have been omitted, the applied "
                                                     "nameserver line is: 10.96.0.10 1.1.1.1 2.2.2.2"]


def test_host_aliases_in_both_kinds_of_hosts_file(cluster: Cluster) -> None:
    """kubelet_pods.go nodeHostsFileContent(), managedHostsFileContent()."""
    aliases = [{"ip": "10.1.2.3", "hostnames": ["foo", "bar"]}]
    cluster.apply_documents([pod("box", hostAliases=aliases), pod("net", hostNetwork=True, hostAliases=aliases)])
    cluster.settle()
    for name, first in (("box", "# Kubernetes-managed hosts file."), ("net", "# Kubernetes-managed hosts file (host network).")):
        lines = sh(cluster, name, "cat /etc/hosts").splitlines()
        assert lines[0] == first and lines[-3:] == ["", "# Entries added by HostAliases.", "10.1.2.3\tfoo\tbar"]
        assert sh(cluster, name, "getent hosts bar") == "10.1.2.3        foo bar\n"
