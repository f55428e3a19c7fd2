"""A second reading of kube-proxy's iptables mode, for the tests to compare with: one function, no caches, no parts.

It shares nothing with kubenet.cluster.proxy and reads plain canonical objects only (no leading zeros, no lists of lists):
what is compared is which rules are written, in which words and in which order.

Source: pkg/proxy/iptables/proxier.go syncProxyRules(), pkg/proxy/topology.go CategorizeEndpoints().
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from typing import Any

Obj = dict[str, Any]


def _h(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:16]


def _is(text: str, family: int) -> bool:
    return (":" in text) == (family == 6)


def _endpoints(objects: list[Obj], ns: str, name: str, port: str, proto: str, family: int) -> list[Obj]:
    found: dict[str, Obj] = {}
    slices = [o for o in objects if o["kind"] == "EndpointSlice" and o["addressType"] == f"IPv{family}"]
    for sl in sorted(slices, key=lambda o: o["metadata"]["name"]):
        meta = sl["metadata"]
        if meta.get("namespace", "default") != ns or meta["labels"].get("kubernetes.io/service-name") != name:
            continue
        for p in sl["ports"]:
            if (p.get("name", ""), p.get("protocol", "TCP").lower()) != (port, proto) or not p.get("port"):
                continue
            for e in sl["endpoints"]:
                ip, cond, hints = e["addresses"][0], e.get("conditions") or {}, e.get("hints") or {}
                text = f"[{ip}]:{p['port']}" if family == 6 else f"{ip}:{p['port']}"
                terminating = cond.get("terminating") is True
                if text in found and terminating:
                    continue
                found[text] = {
                    "text": text, "ip": ip, "node": e.get("nodeName", ""), "ready": cond.get("ready") is not False,
                    "going": terminating and cond.get("serving") is not False,
                    "zones": [z["name"] for z in hints.get("forZones") or []],
                    "nodes": [n["name"] for n in hints.get("forNodes") or []],
                }
    return [found[text] for text in sorted(found)]


def reading(objects: list[Obj], node: Obj, family: int) -> str:
    """What kube-proxy on this node feeds to iptables-restore in its first sync."""
    me, zone = node.get("nodeName", ""), node.get("topologyLabels", {}).get("topology.kubernetes.io/zone", "")
    node_ip = next((ip for ip in node.get("nodeIP", []) if _is(ip, family)), "127.0.0.1" if family == 4 else "::1")
    bit = f"0x{1 << node.get('masqueradeBit', 14):08x}"
    accounts = node.get("nfacct", [])
    everywhere = "0.0.0.0/0" if family == 4 else "::/0"
    cidrs = [c for c in node.get("nodePortAddresses", []) if _is(c, family)] or [everywhere]
    match_all = any(c.endswith("/0") for c in cidrs)
    loopback = ipaddress.ip_network("127.0.0.0/8")
    localhost = family == 4 and node.get("localhostNodePorts", True) and any(
        ipaddress.ip_network(c).overlaps(loopback) for c in cidrs)
    detect, is_local, is_not_local = node.get("detectLocal") or {}, "", ""
    if detect.get("mode") in ("ClusterCIDR", "NodeCIDR"):
        mine = [c for c in detect["value"] if _is(c, family)]
        is_local, is_not_local = (f" -s {mine[0]}", f" ! -s {mine[0]}") if mine else ("", "")
    elif detect.get("mode") in ("BridgeInterface", "InterfaceNamePrefix"):
        device = detect["value"] + ("+" if detect["mode"] == "InterfaceNamePrefix" else "")
        is_local, is_not_local = f" -i {device}", f" ! -i {device}"

    todo = []
    for svc in objects:
        spec = svc.get("spec") or {}
        if svc["kind"] != "Service" or spec.get("clusterIP", "") in ("", "None") or spec.get("type") == "ExternalName":
            continue
        ns, name = svc["metadata"].get("namespace", "default"), svc["metadata"]["name"]
        if spec.get("ipFamilies"):
            pairs = zip(spec["ipFamilies"], spec.get("clusterIPs") or [spec["clusterIP"]], strict=False)
            own = [ip for fam, ip in pairs if fam == f"IPv{family}"]
        else:
            own = [spec["clusterIP"]] if _is(spec["clusterIP"], family) else []
        for p in spec["ports"] if own else []:
            proto = p.get("protocol", "TCP").lower()
            spn = f"{ns}/{name}" + (f":{p['name']}" if p.get("name") else "")
            eps = _endpoints(objects, ns, name, p.get("name", ""), proto, family)
            todo.append((spn, proto, own[0], p, svc, eps))
    todo.sort(key=lambda item: item[:2])
    large = sum(len(item[5]) for item in todo) > 1000

    F: list[str] = []
    N: list[str] = []
    C: list[str] = []
    if localhost:
        F.append('-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8'
                 " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP")
    random = " --random-fully" if node.get("randomFully", True) else ""
    N += [f"-A KUBE-POSTROUTING -m mark ! --mark {bit}/{bit} -j RETURN", f"-A KUBE-POSTROUTING -j MARK --xor-mark {bit}",
          f'-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE{random}',
          f"-A KUBE-MARK-MASQ -j MARK --or-mark {bit}"]

    for spn, proto, cip, p, svc, eps in todo:
        spec = svc["spec"]
        kind = spec.get("type", "ClusterIP")
        np, port = p.get("nodePort", 0), p["port"]
        exts = [ip for ip in spec.get("externalIPs", []) if _is(ip, family)]
        ingress = ((svc.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        vips = [i["ip"] for i in ingress if i.get("ip") and i.get("ipMode", "VIP") == "VIP" and _is(i["ip"], family)]
        ranges = [r.strip() for r in spec.get("loadBalancerSourceRanges", []) if _is(r, family)]
        ranges = [] if any(r.endswith("/0") for r in ranges) else ranges
        may_local = kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))
        e_local = spec.get("externalTrafficPolicy") == "Local" and may_local
        i_local = spec.get("internalTrafficPolicy") == "Local"
        outside = bool(np or vips or exts)
        use_cluster, use_local = not i_local or outside, i_local or (e_local and outside)
        sticky = spec.get("sessionAffinity") == "ClientIP"
        secs = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds", 10800)

        ready, going = [e for e in eps if e["ready"]], [e for e in eps if e["going"]]
        cluster, local, mode = [], [], ""
        if use_cluster:
            if ready and all(e["nodes"] for e in ready) and any(me in e["nodes"] for e in ready):
                mode = "node"
            elif ready and zone and all(e["zones"] for e in ready) and any(zone in e["zones"] for e in ready):
                mode = "zone"
            cluster = [e for e in ready if mode == "" or (me in e["nodes"] if mode == "node" else zone in e["zones"])] or going
        reach, any_ = cluster, bool(cluster)
        if use_local:
            any_ = bool(ready or going)
            local_ready = [e for e in ready if e["node"] == me]
            local = local_ready or [e for e in going if e["node"] == me]
            reach = [e for e in eps if e in local or e in cluster]
        has_int = any_ and (not i_local or bool(local))
        has_ext = any_ and (not e_local or bool(local))
        why, verdict = ("has no local endpoints", "DROP") if any_ else ("has no endpoints", "REJECT")

        x = _h(spn + proto)
        svc_, svl, ext, fw = (f"KUBE-{k}-{x}" for k in ("SVC", "SVL", "EXT", "FW"))
        inner, outer = (svl if i_local else svc_), (svl if e_local else svc_)
        P = f"-m {proto} -p {proto}"
        guarded = any_ and bool(vips) and bool(ranges)

        def com(text: str) -> str:
            return f'-m comment --comment "{text}"'

        to_cip = f"{P} -d {cip} --dport {port}"
        if has_int:
            N.append(f"-A KUBE-SERVICES {com(spn + ' cluster IP')} {to_cip} -j {inner}")
        else:
            F.append(f"-A KUBE-SERVICES {com(spn + ' ' + why)} {to_cip} -j {verdict}")
        for ip in exts:
            if any_:
                N.append(f"-A KUBE-SERVICES {com(spn + ' external IP')} {P} -d {ip} --dport {port} -j {ext}")
            if not has_ext:
                F.append(f"-A KUBE-EXTERNAL-SERVICES {com(spn + ' ' + why)} {P} -d {ip} --dport {port} -j {verdict}")
        for ip in vips:
            if any_:
                N.append(f"-A KUBE-SERVICES {com(spn + ' loadbalancer IP')} {P} -d {ip} --dport {port} -j {fw if guarded else ext}")
            if guarded:
                F.append(f"-A KUBE-PROXY-FIREWALL {com(f'{spn} traffic not accepted by {fw}')} {P} -d {ip} --dport {port} -j DROP")
        for ip in vips if not has_ext else []:
            F.append(f"-A KUBE-EXTERNAL-SERVICES {com(spn + ' ' + why)} {P} -d {ip} --dport {port} -j {verdict}")
        if np:
            if any_:
                if localhost and "localhost_nps_accepted_pkts" in accounts:
                    N.append(f"-A KUBE-NODEPORTS -m comment --comment {spn} {P} -d 127.0.0.0/8 --dport {np}"
                             f" -m nfacct --nfacct-name localhost_nps_accepted_pkts -j {ext}")
                N.append(f"-A KUBE-NODEPORTS -m comment --comment {spn} {P} --dport {np} -j {ext}")
            if not has_ext:
                F.append(f"-A KUBE-EXTERNAL-SERVICES {com(spn + ' ' + why)} -m addrtype --dst-type LOCAL {P} --dport {np}"
                         f" -j {verdict}")
        if kind == "LoadBalancer" and e_local and spec.get("healthCheckNodePort"):
            F.append(f"-A KUBE-NODEPORTS {com(spn + ' health check node port')} -m tcp -p tcp"
                     f" --dport {spec['healthCheckNodePort']} -j ACCEPT")
        if has_int and node.get("masqueradeAll"):
            N.append(f"-A {inner} {com(spn + ' cluster IP')} {to_cip} -j KUBE-MARK-MASQ")
        elif has_int and is_local:
            N.append(f"-A {inner} {com(spn + ' cluster IP')} {to_cip}{is_not_local} -j KUBE-MARK-MASQ")
        if any_ and outside:
            C.append(ext)
            if not e_local:
                N.append(f"-A {ext} {com(f'masquerade traffic for {spn} external destinations')} -j KUBE-MARK-MASQ")
            else:
                if is_local:
                    N.append(f"-A {ext} {com(f'pod traffic for {spn} external destinations')}{is_local} -j {svc_}")
                for words, target in (("masquerade", "KUBE-MARK-MASQ"), ("route", svc_)):
                    N.append(f"-A {ext} {com(f'{words} LOCAL traffic for {spn} external destinations')}"
                             f" -m addrtype --src-type LOCAL -j {target}")
            if has_ext:
                N.append(f"-A {ext} -j {outer}")
        if guarded:
            C.append(fw)
            N += [f"-A {fw} {com(spn + ' loadbalancer IP')} -s {r} -j {ext}" for r in ranges]
            if any(ipaddress.ip_address(node_ip) in ipaddress.ip_network(r) for r in ranges):
                N += [f"-A {fw} {com(spn + ' loadbalancer IP')} -s {ip} -j {ext}" for ip in vips]
            N.append(f"-A {fw} {com(f'other traffic to {spn} will be dropped by KUBE-PROXY-FIREWALL')}")
        sep = {e["text"]: f"KUBE-SEP-{_h(spn + proto + e['text'])}" for e in reach}
        for chain, some, used in ((svc_, cluster, use_cluster), (svl, local, use_local)):
            if not some or not used:
                continue
            C.append(chain)
            heads = [(f"-A {chain}" + ("" if large else f" {com(spn + ' -> ' + e['text'])}"), sep[e["text"]]) for e in some]
            if sticky:
                N += [f"{a} -m recent --name {s} --rcheck --seconds {secs} --reap -j {s}" for a, s in heads]
            for i, (a, s) in enumerate(heads):
                left = len(heads) - i
                N.append(a + (f" -m statistic --mode random --probability {1.0 / left:.10f}" if left > 1 else "") + f" -j {s}")
        for e in reach:
            s = sep[e["text"]]
            C.append(s)
            a = f"-A {s}" + ("" if large else f" -m comment --comment {spn}")
            N.append(f"{a} -s {e['ip']} -j KUBE-MARK-MASQ")
            N.append(a + (f" -m recent --name {s} --set" if sticky else "") + f" {P} -j DNAT --to-destination {e['text']}")

    last = '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"'
    if match_all:
        but = " ! -d ::1/128" if family == 6 else ("" if localhost else " ! -d 127.0.0.0/8")
        N.append(f"{last} -m addrtype --dst-type LOCAL{but} -j KUBE-NODEPORTS")
    else:
        for text in sorted({ip for ip in node.get("nodeIPs", []) if _is(ip, family)}):
            ip = ipaddress.ip_address(text)
            if any(ip in ipaddress.ip_network(c) for c in cidrs) and (localhost or not ip.is_loopback):
                N.append(f"{last} -d {text} -j KUBE-NODEPORTS")
    if not node.get("conntrackTCPBeLiberal"):
        count = " -m nfacct --nfacct-name ct_state_invalid_dropped_pkts" if "ct_state_invalid_dropped_pkts" in accounts else ""
        F.append(f"-A KUBE-FORWARD -m conntrack --ctstate INVALID{count} -j DROP")
    F.append(f'-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark {bit}/{bit} -j ACCEPT')
    F.append('-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule"'
             " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
    shared = ["SERVICES", "EXTERNAL-SERVICES", "FORWARD", "NODEPORTS", "PROXY-FIREWALL", *(["FIREWALL"] if localhost else [])]
    nat = ["SERVICES", "NODEPORTS", "POSTROUTING", "MARK-MASQ"]
    lines = ["*filter", *[f":KUBE-{c} - [0:0]" for c in shared], *F, "COMMIT", "*nat", *[f":KUBE-{c} - [0:0]" for c in nat],
             *[f":{c} - [0:0]" for c in C], *N, "COMMIT"]
    return "".join(line + "\n" for line in lines)
