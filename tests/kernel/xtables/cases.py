"""What is asked of the real iptables and of ours: rule lines, command sequences and restore inputs.

RULES: (table, chain, arguments of -A). Each is appended to an empty chain, printed in four ways and flushed again.
COMMANDS: name -> argument lists, run one after the other in a namespace of their own.
RESTORES: name -> (flags, input) steps in a namespace of their own; after the last, iptables-save shows what stands.
record.py plays them on a real kernel (recordings/*.json), test_recordings.py plays them here and compares text for text.
"""

from __future__ import annotations

# ruff: noqa: E501

_FILTER = """
-m hashlimit --hashlimit-upto 5/min --hashlimit-mode srcip --hashlimit-name a
-m hashlimit --hashlimit 5/sec --hashlimit-burst 7 --hashlimit-mode srcip,dstport --hashlimit-name b -j ACCEPT
-m hashlimit --hashlimit-above 512kb/s --hashlimit-mode srcip --hashlimit-name c -j DROP
-m hashlimit --hashlimit-above 512kb/s --hashlimit-burst 1mb --hashlimit-mode dstip --hashlimit-name d -j DROP
-m hashlimit --hashlimit-upto 1/hour --hashlimit-mode srcip,srcport,dstip,dstport --hashlimit-srcmask 24 --hashlimit-dstmask 16 --hashlimit-htable-size 1024 --hashlimit-htable-max 2000 --hashlimit-htable-gcinterval 500 --hashlimit-htable-expire 30000 --hashlimit-name e
-m hashlimit --hashlimit-upto 3/sec --hashlimit-name f
-m hashlimit --hashlimit-above 3/day --hashlimit-burst 1 --hashlimit-name g
-m hashlimit --hashlimit-upto 100b/s --hashlimit-name h
-m hashlimit --hashlimit-upto 2kb/min --hashlimit-name h
-m hashlimit --hashlimit-upto 1mb/s --hashlimit-name h
-m hashlimit --hashlimit-upto 3kb/s --hashlimit-burst 10kb --hashlimit-name h
-m hashlimit --hashlimit-upto 9/sec --hashlimit-rate-match --hashlimit-name i
-m hashlimit --hashlimit-upto 9/sec --hashlimit-rate-match --hashlimit-rate-interval 7 --hashlimit-name j
-m hashlimit --hashlimit-upto 1000000/sec --hashlimit-name k
-m hashlimit --hashlimit-upto 2000000/sec --hashlimit-name k
-m hashlimit --hashlimit-upto 5/min
-m hashlimit --hashlimit-name x
-m hashlimit --hashlimit-upto 5/min --hashlimit-above 4/min --hashlimit-name x
-m hashlimit --hashlimit-upto 5/fortnight --hashlimit-name x
-m hashlimit --hashlimit-upto x --hashlimit-name x
-m hashlimit --hashlimit-upto 0/s --hashlimit-name x
-m hashlimit --hashlimit-upto 5/min --hashlimit-mode foo --hashlimit-name x
-m hashlimit --hashlimit-upto 5/min --hashlimit-mode "" --hashlimit-name x
-m hashlimit --hashlimit-upto 5/min --hashlimit-burst 0 --hashlimit-name x
-m hashlimit --hashlimit-upto 5/min --hashlimit-burst 10001 --hashlimit-name x
-m hashlimit --hashlimit-upto 5/min --hashlimit-srcmask 33 --hashlimit-name x
-m hashlimit --hashlimit-upto 5/min --hashlimit-name averyverylongnamethatgoesonandon
-m hashlimit --hashlimit-upto 5/min --hashlimit-htable-size a --hashlimit-name x
-m hashlimit --hashlimit-upto 5/min --hashlimit-burst 1kb --hashlimit-name x
-m hashlimit --hashlimit-upto 1kb/s --hashlimit-burst 5 --hashlimit-name x
-m hashlimit --hashlimit-rate-match --hashlimit-above 1kb/s --hashlimit-name x
-m hashlimit ! --hashlimit-upto 5/min --hashlimit-name x
-m hashlimit --hashlimit-upto 1/day --hashlimit-name a
-m hashlimit --hashlimit-upto 5/hour --hashlimit-rate-match --hashlimit-name b
-m hashlimit --hashlimit-upto 5/min --hashlimit-rate-match --hashlimit-rate-interval 7 --hashlimit-name c
-m hashlimit --hashlimit-upto 9/sec --hashlimit-rate-match --hashlimit-rate-interval 1 --hashlimit-name e
-m hashlimit --hashlimit-upto 9/sec --hashlimit-rate-interval 7 --hashlimit-name f
-m hashlimit --hashlimit-upto 9kb/s --hashlimit-rate-match --hashlimit-rate-interval 7 --hashlimit-name g
-m hashlimit --hashlimit-upto 9/sec --hashlimit-rate-match --hashlimit-rate-interval 0 --hashlimit-name h
-m hashlimit --hashlimit-upto 100/day --hashlimit-burst 1000000 --hashlimit-name i
-m rpfilter
-m connbytes --connbytes 10:100 --connbytes-dir both --connbytes-mode bytes
-m connbytes --connbytes 10 --connbytes-dir original --connbytes-mode packets
-m connbytes ! --connbytes 10: --connbytes-dir reply --connbytes-mode avgpkt
-m connbytes --connbytes :100 --connbytes-dir both --connbytes-mode bytes
-m connbytes ! --connbytes 5:100 --connbytes-dir both --connbytes-mode bytes
-m connbytes --connbytes 20:10 --connbytes-dir both --connbytes-mode bytes
-m connbytes --connbytes-dir both
-m connbytes --connbytes 5 --connbytes-dir x --connbytes-mode bytes
-m connbytes --connbytes 5 --connbytes-dir both --connbytes-mode x
-m connbytes --connbytes 5 --connbytes-mode bytes
-j ACCEPT
-j DROP
-j RETURN
-s 10.0.0.1 -j ACCEPT
-d 10.0.0.0/8 -j ACCEPT
! -s 10.1.2.3/16 -d 172.16.0.0/12 -j DROP
-d 10.0.0.1 ! -s 10.0.0.1 -j DROP
-s 10.0.0.0/255.255.0.0 -j DROP
-s 10.0.0.0/255.0.255.0 -j DROP
-s 10 -j DROP
-s 10.1/16 -j DROP
-s 10.0.0.1/33 -j DROP
-s 10.0.0.1/x -j DROP
-s 0.0.0.0/0 -j DROP
-s 10.0.0.1,10.0.0.2 -j DROP
-s 300.0.0.1 -j DROP
--source 10.0.0.1 --destination 10.0.0.2 --in-interface eth0 --protocol tcp --jump ACCEPT
--src 10.0.0.1 --dst 10.0.0.2 -j ACCEPT
--sour 10.0.0.1 -j ACCEPT
-i eth0 -j ACCEPT
! -i eth+ -j ACCEPT
-i + -j ACCEPT
-o eth0 -j ACCEPT
-i eth0 -o eth1 -j ACCEPT
-i averyveryverylongname -j ACCEPT
-p tcp -j ACCEPT
-p udp -j ACCEPT
-p icmp -j ACCEPT
-p 6 -j ACCEPT
-p 132 -j ACCEPT
-p sctp -j ACCEPT
-p 47 -j ACCEPT
-p all -j ACCEPT
-p 0 -j ACCEPT
-p ! tcp -j ACCEPT
! -p tcp -j ACCEPT
! -p all -j ACCEPT
-p TCP -j ACCEPT
-p foo -j ACCEPT
-p 256 -j ACCEPT
-f -j DROP
! -f -j DROP
-p tcp --dport 80 -j ACCEPT
-p tcp --dport http -j ACCEPT
-p tcp --sport 1024:65535 --dport :1023 -j ACCEPT
-p tcp --dport 80: -j ACCEPT
-p tcp ! --dport 80 -j ACCEPT
-p tcp --dport 90:80 -j ACCEPT
-p tcp --dport 70000 -j ACCEPT
-p tcp --dport foo -j ACCEPT
-p tcp --dport 80,81 -j ACCEPT
-p tcp --dport -j ACCEPT
-p tcp --dport
-p tcp --syn -j DROP
-p tcp ! --syn -j DROP
-p tcp --tcp-flags SYN,ACK SYN -j DROP
-p tcp ! --tcp-flags ALL NONE -j DROP
-p tcp --tcp-flags ALL FIN,PSH,URG -j DROP
-p tcp --tcp-flags FOO SYN -j DROP
-p tcp --tcp-flags SYN -j DROP
-p tcp --tcp-option 3 -j DROP
-p tcp -m tcp --source-port 22 --destination-port 23 -j ACCEPT
-m tcp -p tcp --dport 80 -j ACCEPT
-m tcp -p tcp -j ACCEPT
-m comment --comment "first" -m tcp -p tcp -d 10.0.0.1 --dport 80 -j ACCEPT
-m tcp --dport 80 -j ACCEPT
-p udp -m tcp --dport 80 -j ACCEPT
-p udp --dport 53 -j ACCEPT
-p udp --dport domain --sport 1:1000 -j ACCEPT
-p udp ! --sport 53 -j ACCEPT
-p sctp --dport 80 -j ACCEPT
-p sctp ! --sport 80:90 -j ACCEPT
-p icmp --icmp-type echo-request -j ACCEPT
-p icmp --icmp-type 8 -j ACCEPT
-p icmp --icmp-type 3/4 -j ACCEPT
-p icmp ! --icmp-type 3 -j ACCEPT
-p icmp --icmp-type any -j ACCEPT
-p icmp --icmp-type port-unreachable -j ACCEPT
-p icmp --icmp-type destination-unreachable -j ACCEPT
-p icmp --icmp-type foo -j ACCEPT
-p icmp --icmp-type 300 -j ACCEPT
-p icmp -m icmp -j ACCEPT
--dport 80 -j ACCEPT
-m comment --comment foo -j ACCEPT
-m comment --comment "ns1/svc1:p80 cluster IP" -j ACCEPT
-m comment --comment a-b_c -j ACCEPT
-m comment --comment "say \"hi\"" -j ACCEPT
-m comment --comment "it's" -j ACCEPT
-m comment --comment "back\\slash" -j ACCEPT
-m comment --comment "" -j ACCEPT
-m comment -j ACCEPT
-m comment ! --comment foo -j ACCEPT
-m comment --comment one -m comment --comment two -j ACCEPT
-m mark --mark 0x4000/0x4000 -j ACCEPT
-m mark ! --mark 0x00004000/0x00004000 -j ACCEPT
-m mark --mark 5 -j ACCEPT
-m mark --mark 0x1/0xff -j ACCEPT
-m mark --mark foo -j ACCEPT
-m mark --mark 0x1ffffffff -j ACCEPT
-m mark -j ACCEPT
-m connmark --mark 0x1/0x1 -j ACCEPT
-m connmark ! --mark 7 -j ACCEPT
-m conntrack --ctstate NEW -j ACCEPT
-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-m conntrack --ctstate ESTABLISHED,RELATED,NEW,INVALID,UNTRACKED,SNAT,DNAT -j ACCEPT
-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-m conntrack --ctstate INVALID -j DROP
-m conntrack --ctstate FOO -j DROP
-m conntrack --ctstate new -j DROP
-m conntrack -j DROP
-m conntrack --ctproto tcp -j ACCEPT
-m conntrack --ctproto 17 -j ACCEPT
-m conntrack ! --ctproto udp -j ACCEPT
-m conntrack --ctorigsrc 10.0.0.0/8 -j ACCEPT
-m conntrack ! --ctorigdst 10.0.0.1 -j ACCEPT
-m conntrack --ctreplsrc 10.0.0.1/32 --ctrepldst 10.0.0.2 -j ACCEPT
-m conntrack --ctorigsrcport 80 -j ACCEPT
-m conntrack --ctproto tcp --ctorigdstport 80:90 --ctreplsrcport 8080 ! --ctrepldstport 1 -j ACCEPT
-m conntrack --ctstatus ASSURED,CONFIRMED -j ACCEPT
-m conntrack --ctstatus NONE -j ACCEPT
-m conntrack --ctstatus EXPECTED,SEEN_REPLY -j ACCEPT
-m conntrack --ctexpire 10 -j ACCEPT
-m conntrack --ctexpire 10:20 -j ACCEPT
-m conntrack --ctdir ORIGINAL -j ACCEPT
-m conntrack --ctdir REPLY --ctstate NEW -j ACCEPT
-m conntrack --ctdir FOO -j ACCEPT
-m state --state NEW -j ACCEPT
-m state --state RELATED,ESTABLISHED -j ACCEPT
-m state ! --state INVALID,UNTRACKED -j ACCEPT
-m state --state DNAT -j ACCEPT
-m state -j ACCEPT
-m statistic --mode random --probability 0.3333333333 -j ACCEPT
-m statistic --mode random --probability 0.5 -j ACCEPT
-m statistic --mode random --probability 0.2000000000 -j ACCEPT
-m statistic --mode random ! --probability 0.1 -j ACCEPT
-m statistic --mode random --probability 1 -j ACCEPT
-m statistic --mode random --probability 1.5 -j ACCEPT
-m statistic --mode random --probability x -j ACCEPT
-m statistic --mode random -j ACCEPT
-m statistic --mode nth --every 3 -j ACCEPT
-m statistic --mode nth --every 3 --packet 1 -j ACCEPT
-m statistic --mode nth ! --every 3 --packet 2 -j ACCEPT
-m statistic --mode nth --every 3 --packet 3 -j ACCEPT
-m statistic --mode nth -j ACCEPT
-m statistic --mode nth --every 0 -j ACCEPT
-m statistic --mode foo -j ACCEPT
-m statistic --probability 0.5 -j ACCEPT
-m statistic --mode random --every 3 -j ACCEPT
-m statistic -j ACCEPT
-m addrtype --dst-type LOCAL -j ACCEPT
-m addrtype --src-type LOCAL -j ACCEPT
-m addrtype ! --src-type UNICAST,LOCAL --dst-type MULTICAST -j ACCEPT
-m addrtype ! --dst-type LOCAL -j ACCEPT
-m addrtype --dst-type local -j ACCEPT
-m addrtype --dst-type FOO -j ACCEPT
-m addrtype --dst-type LOCAL --limit-iface-in -j ACCEPT
-m addrtype --dst-type LOCAL --limit-iface-in --limit-iface-out -j ACCEPT
-m addrtype -j ACCEPT
-p tcp -m multiport --dports 80,443 -j ACCEPT
-p tcp -m multiport --sports 80,1000:2000 -j ACCEPT
-p udp -m multiport --ports 53,5353 -j ACCEPT
-p tcp -m multiport ! --dports 1,2,3 -j ACCEPT
-p tcp -m multiport --dports http,https -j ACCEPT
-m multiport --dports 80 -j ACCEPT
-p icmp -m multiport --dports 80 -j ACCEPT
-p tcp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16 -j ACCEPT
-p tcp -m multiport --dports 70000 -j ACCEPT
-p tcp -m multiport --dports 9:8 -j ACCEPT
-p tcp -m multiport -j ACCEPT
-m recent --name SEP --set -j ACCEPT
-m recent --name KUBE-SEP-AAAAAAAAAAAAAAAA --rcheck --seconds 10800 --reap -j ACCEPT
-m recent --rcheck --seconds 60 --hitcount 4 --name x --rsource -j ACCEPT
-m recent ! --update --seconds 60 --name x --rdest -j ACCEPT
-m recent --remove --name x -j ACCEPT
-m recent --rcheck --rttl --name x -j ACCEPT
-m recent --set --name x --mask 255.255.255.0 -j ACCEPT
-m recent --set -j ACCEPT
-m recent --name x -j ACCEPT
-m recent --set --rcheck --name x -j ACCEPT
-m recent --set --seconds 5 --name x -j ACCEPT
-m recent --rcheck --reap --name x -j ACCEPT
-m recent --rcheck --hitcount 300 --name x -j ACCEPT
-m physdev --physdev-is-in -j ACCEPT
-m physdev ! --physdev-is-in -j ACCEPT
-m physdev --physdev-in veth0 --physdev-is-bridged -j ACCEPT
-m physdev --physdev-out veth+ -j ACCEPT
-m physdev -j ACCEPT
-m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP
-m nfacct -j DROP
-m limit --limit 5/min -j ACCEPT
-m limit --limit 10/second --limit-burst 20 -j ACCEPT
-m limit --limit 3 -j ACCEPT
-m limit --limit 1/h -j ACCEPT
-m limit --limit 2/day -j ACCEPT
-m limit --limit 7/foo -j ACCEPT
-m limit --limit 20000/sec -j ACCEPT
-m limit --limit 0 -j ACCEPT
-m limit -j ACCEPT
-m iprange --src-range 10.0.0.1-10.0.0.9 -j ACCEPT
-m iprange ! --dst-range 10.0.0.1-10.0.0.9 -j ACCEPT
-m iprange --src-range 10.0.0.9-10.0.0.1 -j ACCEPT
-m iprange --src-range foo -j ACCEPT
-m iprange --src-range 10.0.0.1 -j ACCEPT
-m iprange -j ACCEPT
-m mac --mac-source 02:00:00:00:00:01 -j ACCEPT
-m mac ! --mac-source 02:AB:00:00:00:01 -j ACCEPT
-m mac --mac-source foo -j ACCEPT
-m length --length 100 -j ACCEPT
-m length --length 100:200 -j ACCEPT
-m length --length 100: -j ACCEPT
-m length ! --length :64 -j ACCEPT
-m length -j ACCEPT
-m ttl --ttl-eq 64 -j ACCEPT
-m ttl --ttl 64 -j ACCEPT
-m ttl ! --ttl-eq 64 -j ACCEPT
-m ttl --ttl-lt 5 -j ACCEPT
-m ttl --ttl-gt 5 -j ACCEPT
-m ttl --ttl-eq 256 -j ACCEPT
-m ttl -j ACCEPT
-m dscp --dscp 0x10 -j ACCEPT
-m dscp --dscp 46 -j ACCEPT
-m dscp ! --dscp-class EF -j ACCEPT
-m dscp --dscp 64 -j ACCEPT
-m pkttype --pkt-type broadcast -j ACCEPT
-m pkttype ! --pkt-type host -j ACCEPT
-m foo -j ACCEPT
-j FOO
-j accept
-g FOO
-j
-j LOG
-j LOG --log-prefix "hello "
-j LOG --log-prefix hello --log-level debug
-j LOG --log-level 7 --log-tcp-options --log-ip-options --log-tcp-sequence --log-uid
-j LOG --log-level foo
-j LOG --log-prefix "a prefix that is longer than twenty-nine characters"
-j REJECT
-j REJECT --reject-with icmp-port-unreachable
-j REJECT --reject-with icmp-host-unreachable
-j REJECT --reject-with icmp-net-unreachable
-j REJECT --reject-with icmp-proto-unreachable
-j REJECT --reject-with icmp-net-prohibited
-j REJECT --reject-with icmp-host-prohibited
-j REJECT --reject-with icmp-admin-prohibited
-j REJECT --reject-with host-unreach
-p tcp -j REJECT --reject-with tcp-reset
-p tcp -j REJECT --reject-with tcp-rst
-j REJECT --reject-with tcp-reset
-j REJECT --reject-with foo
-j MARK --set-mark 1
-j MARK --set-xmark 0x4000/0x4000
-j MARK --or-mark 0x4000
-j MARK --and-mark 0xff
-j MARK --xor-mark 0x4000
-j MARK --set-mark 0x1/0xf
-j MARK
-j MARK --set-mark foo
-j MARK --set-mark 1 --or-mark 2
-j CONNMARK --set-mark 1
-j CONNMARK --set-xmark 0x1/0x3
-j CONNMARK --save-mark
-j CONNMARK --restore-mark
-j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff
-j CONNMARK --restore-mark --mask 0xff
-j CONNMARK --or-mark 4
-j CONNMARK --and-mark 4
-j CONNMARK --xor-mark 4
-j CONNMARK
-j TCPMSS --clamp-mss-to-pmtu
-p tcp --syn -j TCPMSS --clamp-mss-to-pmtu
-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1400
-p tcp --syn -j TCPMSS
-j DNAT --to-destination 10.0.0.1
-j SNAT --to-source 10.0.0.1
-j MASQUERADE
-j REDIRECT
-j TRACE
-j NOTRACK
-j DSCP --set-dscp 1
-m owner --uid-owner 0 -j ACCEPT
-c 5 700 -j ACCEPT
-c 5 -j ACCEPT
-j ACCEPT extra
! -j ACCEPT
-s 10.0.0.1 -s 10.0.0.2 -j ACCEPT
-j ACCEPT -j DROP
! ! -s 10.0.0.1 -j ACCEPT
! -m comment --comment x -j ACCEPT
--foo -j ACCEPT
-y -j ACCEPT
-t
-m
-m string --algo bm --string "GET " -j ACCEPT
-m quota --quota 1000 -j ACCEPT
-m connlimit --connlimit-above 3 -j REJECT
-m connlimit --connlimit-upto 3 --connlimit-mask 24 -j REJECT
-s 10.0.0.1 -p tcp
-m comment --comment "no target"
"""

_OUTPUT = """
-m owner --uid-owner 54321 -j ACCEPT
-m owner --uid-owner root -j ACCEPT
-m owner ! --uid-owner 1000-2000 -j ACCEPT
-m owner --gid-owner 54321 -j ACCEPT
-m owner --socket-exists -j ACCEPT
-m owner -j ACCEPT
-i eth0 -j ACCEPT
-o eth0 -j ACCEPT
"""

_PREROUTING = """
-j DNAT --to-destination 10.0.0.1
-j DNAT --to-destination 10.0.0.1-10.0.0.9
-p tcp -j DNAT --to-destination 10.0.0.1:8080
-p tcp -j DNAT --to-destination 10.0.0.1:8080-8090
-p tcp -j DNAT --to-destination :8080
-m tcp -p tcp -j DNAT --to-destination 10.180.0.1:80
-m comment --comment ns1/svc1:p80 -m tcp -p tcp -j DNAT --to-destination 10.180.0.1:80
-j DNAT --to-destination 10.0.0.1:8080
-p tcp -j DNAT --to-destination 10.0.0.1:8080 --random
-p tcp -j DNAT --to-destination 10.0.0.1 --persistent
-p tcp -j DNAT --to-destination 10.0.0.1:80000
-p tcp -j DNAT --to-destination foo
-p tcp -j DNAT --to-destination 10.0.0.1-foo
-j DNAT
-p tcp -j REDIRECT
-p tcp -j REDIRECT --to-ports 8080
-p tcp -j REDIRECT --to-ports 8080-8090
-p tcp -j REDIRECT --to-ports 8080 --random
-j REDIRECT --to-ports 8080
-j MASQUERADE
-j SNAT --to-source 10.0.0.1
-j DROP
-j REJECT
-o eth0 -j ACCEPT
-j TRACE
"""

_POSTROUTING = """
-j MASQUERADE
-j MASQUERADE --random-fully
-j MASQUERADE --random
-p tcp -j MASQUERADE --to-ports 1024-2048
-p tcp -j MASQUERADE --to-ports 1024
-j MASQUERADE --to-ports 1024
-o eth0 -j MASQUERADE
-i eth0 -j MASQUERADE
-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-m mark ! --mark 0x00004000/0x00004000 -j RETURN
-j SNAT --to-source 10.0.0.1
-j SNAT --to-source 10.0.0.1-10.0.0.4 --persistent
-p tcp -j SNAT --to-source 10.0.0.1:1000-2000 --random
-p tcp -j SNAT --to-source 10.0.0.1:1000-2000 --random-fully
-j SNAT --to-source 10.0.0.1:1000
-j SNAT
-j DNAT --to-destination 10.0.0.1
"""

_RAW = """
-m rpfilter
-m rpfilter --invert -j DROP
-m rpfilter --loose --validmark --accept-local --invert
-m rpfilter --foo
-j NOTRACK
-j CT --notrack
-j CT --zone 5
-j CT --zone-orig 5
-j CT --helper foo
-j CT
-j TRACE
-p tcp --dport 80 -j TRACE
-j CONNMARK --save-mark
"""

_MANGLE = """
-j MARK --set-mark 0x1
-j DSCP --set-dscp 0x10
-j DSCP --set-dscp-class EF
-j TTL --ttl-set 64
-j TTL --ttl-dec 1
-j TTL --ttl-inc 1
-j TTL
-j REJECT
-j TOS --set-tos 0x10
-j CLASSIFY --set-class 1:10
-p tcp --syn -j TCPMSS --set-mss 1400
"""


def _lines(text: str, table: str, chain: str) -> list[tuple[str, str, str]]:
    return [(table, chain, line) for line in text.strip().splitlines()]


RULES: list[tuple[str, str, str]] = (
    _lines(_FILTER, "filter", "FORWARD") + _lines(_OUTPUT, "filter", "OUTPUT")
    + _lines(_PREROUTING, "nat", "PREROUTING") + _lines(_POSTROUTING, "nat", "POSTROUTING")
    + _lines(_RAW, "raw", "PREROUTING") + _lines(_MANGLE, "mangle", "FORWARD")
)

COMMANDS: dict[str, list[str]] = {
    "chains": [
        "-N FOO", "-N FOO", "-N INPUT", "-N DNAT", "-N ACCEPT", "-A INPUT -j FOO", "-X FOO", "-F", "-X FOO", "-X FOO",
        "-N A", "-N B", "-A A -j B", "-A A -j ACCEPT", "-S", "-L", "-L -n -v --line-numbers", "-E A C", "-E A D", "-E C B", "-S",
        "-X", "-F C", "-X", "-S", "-X INPUT", "-F NOPE", "-L NOPE", "-S NOPE", "-Z NOPE", "-E INPUT X",
        "-N averyveryveryverylongchainname", "-N abcdefghijklmnopqrstuvwxyz01", "-N abcdefghijklmnopqrstuvwxyz012", "-N -foo", "-N !x",
    ],
    "policies": ["-P INPUT DROP", "-P INPUT", "-P INPUT RETURN", "-P FOO DROP", "-N FOO", "-P FOO DROP", "-P INPUT FOO", "-S",
                 "-P FORWARD ACCEPT", "-L INPUT", "-t nat -P PREROUTING DROP", "-t nat -S", "-t foo -S", "-t mangle -P INPUT DROP", "-t mangle -S INPUT"],
    "positions": [
        "-A INPUT -s 10.0.0.1 -j ACCEPT", "-A INPUT -s 10.0.0.2 -j ACCEPT", "-I INPUT -s 10.0.0.3 -j ACCEPT",
        "-I INPUT 2 -s 10.0.0.4 -j ACCEPT", "-I INPUT 5 -s 10.0.0.5 -j ACCEPT", "-I INPUT 9 -s 10.0.0.6 -j ACCEPT", "-I INPUT 0 -j ACCEPT",
        "-S INPUT", "-R INPUT 2 -s 10.0.0.7 -j DROP", "-R INPUT 9 -j DROP", "-D INPUT 1", "-D INPUT 9", "-D INPUT -s 10.0.0.1 -j ACCEPT",
        "-D INPUT -s 10.0.0.99 -j ACCEPT", "-S INPUT 1", "-S INPUT 8", "-L INPUT 2 -n", "-L INPUT 2 -n -v --line-numbers",
        "-C INPUT -s 10.0.0.2 -j ACCEPT", "-C INPUT -s 10.0.0.2 -j DROP", "-C INPUT -j FOO", "-C NOPE -j ACCEPT", "-D NOPE 1", "-D INPUT foo",
        "-R INPUT 1", "-D INPUT", "-A NOPE -j ACCEPT", "-I NOPE -j ACCEPT", "-R INPUT 0 -j DROP", "-S",
    ],
    "counters": [
        "-A INPUT -c 5 700 -j ACCEPT", "-A INPUT -c 123456 99999999 -p tcp -j ACCEPT", "-A INPUT -c 12345678 9999999999 -j DROP",
        "-A INPUT -c 99999 99999 -j DROP", "-A INPUT -c 100000 999999999999 -j DROP", "-A INPUT -c 10000000 9999999999999999 -j DROP",
        "-L INPUT -v -n", "-L INPUT -v -n -x", "-L INPUT -v", "-S INPUT -v", "-L INPUT -Z", "-L INPUT -n -v", "-A INPUT --set-counters 1 2", "-Z INPUT 7",
        "-L INPUT -n -v -x --line-numbers", "-Z INPUT", "-Z", "-S -v", "-A INPUT -c foo 3 -j DROP",
    ],
    "listing": [
        "-N KUBE-SERVICES", "-N LONGCHAINNAME-ABCDEFGHIJK", "-A INPUT -j KUBE-SERVICES", "-A INPUT -g KUBE-SERVICES", "-A INPUT -j LONGCHAINNAME-ABCDEFGHIJK",
        "-A INPUT -i eth0 -s 10.0.0.0/8 ! -d 192.168.100.100/24 -p udp -j ACCEPT", "-A INPUT ! -i eth0 ! -s 10.0.0.1 -j ACCEPT", "-A INPUT ! -p tcp -f -j LOG",
        "-A INPUT ! -f", "-A INPUT", "-A FORWARD -i cni0 -o eth+ -j ACCEPT", "-A INPUT -i verylongiface12 -j ACCEPT",
        "-A INPUT -s 192.168.100.100/29 -d 192.168.100.100/30 -j DROP", "-A INPUT -p 47", "-A INPUT -p sctp -j DROP",
        "-L -n", "-L -n -v", "-L INPUT -n --line-numbers", "-L INPUT -v -x -n", "-nvL", "-L -nv -t nat", "-S", "-vnL FORWARD", "--list INPUT --numeric", "--list-rules FORWARD",
        "-L INPUT", "-L INPUT -v",
    ],
    "wrong": ["", "-A", "-A INPUT -D INPUT", "-L -A INPUT", "-N", "-t", "-V", "--version", "-A INPUT -j ACCEPT -n", "-A INPUT -j ACCEPT -x", "-L -s 10.0.0.1", "-F -s 10.0.0.1",
              "-A INPUT -j ACCEPT --line-numbers", "-v -A INPUT -j ACCEPT -s 10.0.0.1", "-w -A INPUT -j ACCEPT", "-w 5 -A INPUT -j ACCEPT", "-w 5 -N FOO -t nat", "-w foo -L", "-4 -L FORWARD", "-6 -L", "INPUT", "-A INPUT foo",
              "-P", "-E FOO", "-X FOO BAR", "-t nat -L FOO", "-A FOO", "--append INPUT -j ACCEPT", "--app INPUT -j ACCEPT", "-W 5 -L", "-A INPUT -A INPUT", "-p tcp", "-C INPUT", "-v -A INPUT ! -d 10.0.0.1 -i eth0 -j DROP", "-L INPUT 99", "-Z INPUT 99", "-L -Z -v FORWARD", "-L FORWARD -v -n -x", "-nL FORWARD --line-numbers",
              "-v -I INPUT -p tcp --dport 80 -j ACCEPT", "-v -N BAR", "-v -X BAR", "-v -F INPUT", "-v -P INPUT ACCEPT", "-v -D INPUT -s 1.2.3.4", "-v -F", "-v -Z", "-v -X"],
    "loops": ["-N A", "-N B", "-A A -j B", "-A B -j A", "-A INPUT -j A", "-A A -j A", "-A B -g A", "-S", "-A INPUT -j INPUT", "-A A -j INPUT"],
    "hooks": ["-t nat -N A", "-t nat -A A -j MASQUERADE", "-t nat -A PREROUTING -j A", "-t nat -S", "-t nat -N D", "-t nat -A D -p tcp -j DNAT --to-destination 1.2.3.4:5",
              "-t nat -A POSTROUTING -j D", "-t nat -A OUTPUT -j D", "-t nat -S", "-t nat -X A", "-t nat -F A", "-t nat -X A", "-t raw -S", "-t mangle -S", "-t security -S", "-N F", "-A F -m physdev --physdev-out x", "-A OUTPUT -j F",
              "-t nat -A INPUT -j DNAT --to-destination 1.2.3.4", "-t nat -A INPUT -j SNAT --to-source 1.2.3.4", "-A INPUT -m owner --uid-owner 5"],
    "multi": ["-A INPUT -s 10.0.0.1,10.0.0.2 -d 10.1.0.1,10.1.0.2 -j ACCEPT", "-S INPUT", "-D INPUT -s 10.0.0.1,10.0.0.2 -d 10.1.0.1 -j ACCEPT", "-S INPUT",
              "-I INPUT -s 1.1.1.1,2.2.2.2 -j DROP", "-S INPUT", "-C INPUT -s 1.1.1.1,2.2.2.2 -j DROP", "-R INPUT 1 -s 1.1.1.1,2.2.2.2 -j DROP", "-A INPUT ! -s 1.1.1.1,2.2.2.2 -j DROP"],
}

_BASIC = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [1:2]
:OUTPUT ACCEPT [0:0]
:FOO - [0:0]
-A INPUT -j FOO
-A FOO -s 10.0.0.1 -p tcp --dport 80 -j ACCEPT
[3:4] -A FOO -j DROP
COMMIT
"""

RESTORES: dict[str, list[tuple[str, str]]] = {
    "basic": [("", _BASIC)],
    "counters": [("-c", _BASIC)],
    "twice": [("-c", _BASIC), ("", _BASIC)],
    "noflush keeps": [("-c", _BASIC), ("-n", "*filter\n:BAR - [0:0]\n-A BAR -j RETURN\n-A INPUT -j BAR\nCOMMIT\n")],
    "noflush chain line flushes": [("-c", _BASIC), ("--noflush --counters", "*filter\n:FOO - [0:0]\n-A FOO -j REJECT\nCOMMIT\n")],
    "noflush builtin line": [("-c", _BASIC), ("--noflush", "*filter\n:INPUT DROP [5:6]\n:OUTPUT - [7:8]\n-A INPUT -j ACCEPT\nCOMMIT\n")],
    "noflush builtin line counters": [("-c", _BASIC), ("--noflush -c", "*filter\n:INPUT DROP [5:6]\n:OUTPUT - [7:8]\n-A INPUT -j ACCEPT\nCOMMIT\n")],
    "delete chain": [("-c", _BASIC), ("--noflush", "*filter\n:FOO - [0:0]\n-D INPUT -j FOO\n-X FOO\nCOMMIT\n")],
    "delete used chain": [("-c", _BASIC), ("--noflush", "*filter\n:FOO - [0:0]\n-X FOO\nCOMMIT\n")],
    "delete full chain": [("-c", _BASIC), ("--noflush", "*filter\n-X FOO\nCOMMIT\n")],
    "delete absent chain": [("", "*filter\n-X FOO\nCOMMIT\n")],
    "no commit": [("", "*filter\n-A INPUT -j ACCEPT\n")],
    "no table": [("", "-A INPUT -j ACCEPT\nCOMMIT\n")],
    "unknown table": [("", "*foo\nCOMMIT\n")],
    "unknown chain": [("", "*filter\n-A FOO -j ACCEPT\nCOMMIT\n")],
    "unknown target": [("", "*filter\n-A INPUT -j FOO\nCOMMIT\n")],
    "unknown match": [("", "*filter\n# a comment\n\n-A INPUT -m foo -j ACCEPT\nCOMMIT\n")],
    "bad option": [("", "*filter\n-A INPUT --dport 80 -j ACCEPT\nCOMMIT\n")],
    "bad port": [("", "*filter\n:X - [0:0]\n-A X -p tcp --dport 99999 -j ACCEPT\nCOMMIT\n")],
    "atomic": [("", _BASIC), ("", "*filter\n-A INPUT -j DROP\n-A INPUT -p tcp --dport 99999 -j ACCEPT\nCOMMIT\n")],
    "first table stands": [("", "*filter\n-A INPUT -j DROP\nCOMMIT\n*nat\n-A PREROUTING -j FOO\nCOMMIT\n")],
    "kernel refuses": [("", "*filter\n-A INPUT -j DROP\n-A INPUT -j DNAT --to-destination 1.2.3.4\nCOMMIT\n")],
    "kernel refuses match": [("", "*filter\n:FOO - [0:0]\n-A INPUT -m tcp --dport 5 -j DROP\nCOMMIT\n")],
    "nfacct absent": [("", "*filter\n-A INPUT -m nfacct --nfacct-name nope -j DROP\nCOMMIT\n")],
    "loop": [("", "*filter\n:A - [0:0]\n:B - [0:0]\n-A INPUT -j A\n-A A -j B\n-A B -j A\nCOMMIT\n")],
    "wrong hook": [("", "*nat\n:A - [0:0]\n-A A -j MASQUERADE\n-A PREROUTING -j A\nCOMMIT\n")],
    "test only": [("--test", "*filter\n-A INPUT -j DROP\nCOMMIT\n")],
    "one table": [("-T nat", "*filter\n-A INPUT -j DROP\nCOMMIT\n*nat\n-A PREROUTING -j ACCEPT\nCOMMIT\n")],
    "verbose": [("-v", "# hello\n*filter\n:INPUT ACCEPT [0:0]\n:FOO - [0:0]\n-A INPUT -j DROP\nCOMMIT\n")],
    "empty": [("", "")],
    "bad policy": [("", "*filter\n:INPUT FOO [0:0]\nCOMMIT\n")],
    "bad counters": [("-c", "*filter\n:INPUT ACCEPT [x:0]\nCOMMIT\n")],
    "no policy": [("", "*filter\n:INPUT\nCOMMIT\n")],
    "chain without dash": [("", "*filter\n:FOO ACCEPT [0:0]\nCOMMIT\n")],
    "builtin return": [("", "*filter\n:INPUT RETURN [0:0]\nCOMMIT\n")],
    "long chain name": [("", "*filter\n:ABCDEFGHIJKLMNOPQRSTUVWXYZ012345 - [0:0]\nCOMMIT\n")],
    "commit twice": [("", "*filter\nCOMMIT\nCOMMIT\n")],
    "star inside": [("", "*filter\n-A INPUT -j DROP\n*nat\n-A PREROUTING -j ACCEPT\nCOMMIT\n")],
    "table option": [("", "*filter\n-A INPUT -t nat -j DROP\nCOMMIT\n")],
    "insert and delete": [("", "*filter\n-A INPUT -j DROP\n-I INPUT -s 1.2.3.4 -j ACCEPT\n-I INPUT 2 -s 1.2.3.5 -j ACCEPT\n-D INPUT 1\n-N FOO\n-P OUTPUT DROP\n-F FORWARD\nCOMMIT\n")],
    "quotes": [("", "*filter\n-A INPUT -m comment --comment \"a 'b' \\\"c\\\" d\" -j ACCEPT\n-A INPUT -m comment --comment 'x y' -j DROP\n-A INPUT -m comment --comment pre\"fix ed\"x -j DROP\nCOMMIT\n")],
    "quotes closed": [("", "*filter\n-A INPUT -m comment --comment \"a 'b' \\\"c\\\" d\" -j ACCEPT\n-A INPUT -m comment --comment \"\" -j DROP\nCOMMIT\n")],
    "open quote": [("", "*filter\n-A INPUT -m comment --comment \"abc -j ACCEPT\nCOMMIT\n")],
    "delete absent rule": [("", "*filter\n-D INPUT -j DROP\nCOMMIT\n")],
    "indented": [("", "*filter\n  -A INPUT -j DROP\nCOMMIT\n")],
    "rule counters half": [("-c", "*filter\n[5] -A INPUT -j DROP\nCOMMIT\n")],
    "rule counters open": [("-c", "*filter\n[5:6 -A INPUT -j DROP\nCOMMIT\n")],
    "kube": [("--noflush --counters", """*filter
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-FIREWALL - [0:0]
-A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-SERVICES -m comment --comment "ns4/svc4:p80 has no endpoints" -m tcp -p tcp -d 172.30.0.44 --dport 80 -j REJECT
-A KUBE-EXTERNAL-SERVICES -m comment --comment "ns2/svc2:p80 has no local endpoints" -m addrtype --dst-type LOCAL -m tcp -p tcp --dport 3001 -j DROP
-A KUBE-NODEPORTS -m comment --comment "ns2/svc2:p80 health check node port" -m tcp -p tcp --dport 30000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x00004000/0x00004000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-XPGD46QRK7WJZT7O - [0:0]
:KUBE-SEP-SXIVWICOYRO3J4NJ - [0:0]
-A KUBE-POSTROUTING -m mark ! --mark 0x00004000/0x00004000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x00004000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000
-A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O
-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -m recent --name KUBE-SEP-SXIVWICOYRO3J4NJ --rcheck --seconds 10800 --reap -j KUBE-SEP-SXIVWICOYRO3J4NJ
-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-SXIVWICOYRO3J4NJ
-A KUBE-SEP-SXIVWICOYRO3J4NJ -m comment --comment ns1/svc1:p80 -s 10.180.0.1 -j KUBE-MARK-MASQ
-A KUBE-SEP-SXIVWICOYRO3J4NJ -m comment --comment ns1/svc1:p80 -m recent --name KUBE-SEP-SXIVWICOYRO3J4NJ --set -m tcp -p tcp -j DNAT --to-destination 10.180.0.1:80
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
""")],
}
