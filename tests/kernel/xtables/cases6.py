"""What is asked of the real ip6tables and of ours, beyond cases.py: addresses, ICMPv6, and what differs between the families.

The same three kinds as in cases.py: RULES, COMMANDS, RESTORES. record6.py plays them on a real kernel (recordings/six.json),
test_xt_six.py plays them here and compares text for text.
"""

from __future__ import annotations

# ruff: noqa: E501
from cases import _lines

_FILTER = """
-j ACCEPT
-s fd00::1 -j ACCEPT
-d fd00:10:48::/64 -j ACCEPT
! -s fd00:0:0::1/48 -d 2001:DB8::/32 -j DROP
-d fd00::1 ! -s fd00::1 -j DROP
-s ::/0 -j DROP
! -s ::/0 -j DROP
-s fd00::1/128 -j DROP
-s fd00::1/129 -j DROP
-s fd00::1/x -j DROP
-s fd00::/ffff:ffff:: -j DROP
-s fd00::1/ffff:0:ffff:: -j DROP
-s ::ffff:10.0.0.1 -j DROP
-s ::10.0.0.1 -j DROP
-s 0:0:0:0:0:0:0:1 -j DROP
-s 10.0.0.1 -j DROP
-s fd00::1,fd00::2 -j DROP
! -s fd00::1,fd00::2 -j DROP
-s fd00:::1 -j DROP
-i eth0 -o eth+ -j ACCEPT
-i eth+ -j ACCEPT
-p tcp -j ACCEPT
-p udp -j ACCEPT
-p icmp -j ACCEPT
-p icmpv6 -j ACCEPT
-p ipv6-icmp -j ACCEPT
-p 58 -j ACCEPT
-p ipv6 -j ACCEPT
-p esp -j ACCEPT
-p sctp --dport 80 -j ACCEPT
! -p tcp -j ACCEPT
-p all -j ACCEPT
-p foo -j ACCEPT
-f -j DROP
-p tcp --dport 80 -j ACCEPT
-p tcp --syn -j DROP
-m tcp -p tcp -d fd00::1 --dport 80 -j ACCEPT
-p udp --dport 53 -j ACCEPT
-p ipv6-icmp -m icmp6 --icmpv6-type echo-request -j ACCEPT
-p ipv6-icmp --icmpv6-type 128 -j ACCEPT
-p ipv6-icmp --icmpv6-type 1/4 -j ACCEPT
-p ipv6-icmp --icmpv6-type port-unreachable -j ACCEPT
-p ipv6-icmp --icmpv6-type packet-too-big -j ACCEPT
-p ipv6-icmp --icmpv6-type destination-unreachable -j ACCEPT
-p ipv6-icmp ! --icmpv6-type neighbour-solicitation -j ACCEPT
-p ipv6-icmp --icmpv6-type router-advertisement -j ACCEPT
-p ipv6-icmp --icmpv6-type neighbor-advertisement -j ACCEPT
-p ipv6-icmp --icmpv6-type redirect -j ACCEPT
-p ipv6-icmp --icmpv6-type ttl-zero-during-transit -j ACCEPT
-p ipv6-icmp --icmpv6-type bad-header -j ACCEPT
-p ipv6-icmp --icmpv6-type any -j ACCEPT
-p ipv6-icmp --icmpv6-type foo -j ACCEPT
-p ipv6-icmp --icmpv6-type e -j ACCEPT
-p ipv6-icmp --icmpv6-type 300 -j ACCEPT
-p ipv6-icmp --icmpv6-type 1/300 -j ACCEPT
-p ipv6-icmp -m icmp6 -j ACCEPT
-p tcp -m icmp6 --icmpv6-type 128 -j ACCEPT
-p ipv6-icmp --icmp-type echo-request -j ACCEPT
-m icmp --icmp-type 8 -j ACCEPT
-p icmp -m icmp --icmp-type 8 -j ACCEPT
-m comment --comment "ns1/svc1:p80 cluster IP" -j ACCEPT
-m mark --mark 0x4000/0x4000 -j ACCEPT
-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-m conntrack --ctorigsrc fd00::/8 -j ACCEPT
-m conntrack ! --ctorigdst fd00::1 -j ACCEPT
-m conntrack --ctreplsrc fd00::1/128 --ctrepldst fd00::2 -j ACCEPT
-m conntrack --ctorigsrc 10.0.0.1 -j ACCEPT
-m state --state NEW -j ACCEPT
-m statistic --mode random --probability 0.3333333333 -j ACCEPT
-m limit --limit 5/min -j ACCEPT
-m multiport -p tcp --dports 80,443 -j ACCEPT
-m length --length 100 -j ACCEPT
-m iprange --src-range fd00::1-fd00::9 -j ACCEPT
-m iprange ! --dst-range fd00::1-fd00::9 -j ACCEPT
-m iprange --src-range fd00::1 -j ACCEPT
-m iprange --src-range fd00::9-fd00::1 -j ACCEPT
-m iprange --src-range 10.0.0.1-10.0.0.9 -j ACCEPT
-m connlimit --connlimit-above 5 -j DROP
-p tcp -m connlimit --connlimit-upto 5 --connlimit-mask 64 --connlimit-daddr -j ACCEPT
-m connlimit --connlimit-above 5 --connlimit-mask 129 -j DROP
-m recent --name SEP --set -j ACCEPT
-m recent --name SEP --rcheck --seconds 10800 --reap -j ACCEPT
-m recent --name SEP --update --seconds 60 --hitcount 3 --rdest -j ACCEPT
-m recent --name SEP6 --rcheck --mask ffff:ffff:: -j ACCEPT
-m recent --name SEP6 --rcheck --mask 255.255.0.0 -j ACCEPT
-m addrtype --dst-type LOCAL -j ACCEPT
-m addrtype ! --src-type LOCAL --dst-type MULTICAST,UNICAST -j ACCEPT
-m hl --hl-eq 64 -j ACCEPT
-m hl ! --hl-eq 64 -j ACCEPT
-m hl --hl-lt 2 -j ACCEPT
-m hl --hl-gt 2 -j ACCEPT
-m hl -j ACCEPT
-m ttl --ttl-eq 64 -j ACCEPT
-m mac --mac-source 02:00:00:00:00:01 -j ACCEPT
-m physdev --physdev-in eth0 -j ACCEPT
-m pkttype --pkt-type multicast -j ACCEPT
-m dscp --dscp 10 -j ACCEPT
-m nope -j ACCEPT
-j REJECT
-j REJECT --reject-with icmp6-port-unreachable
-j REJECT --reject-with icmp6-no-route
-j REJECT --reject-with no-route
-j REJECT --reject-with icmp6-adm-prohibited
-j REJECT --reject-with adm-prohibited
-j REJECT --reject-with icmp6-addr-unreachable
-j REJECT --reject-with icmp6-policy-fail
-j REJECT --reject-with icmp6-reject-route
-j REJECT --reject-with port-unreach
-j REJECT --reject-with icmp-port-unreachable
-p tcp -j REJECT --reject-with tcp-reset
-j REJECT --reject-with tcp-reset
-j REJECT --reject-with foo
-j LOG --log-prefix "six: "
-j MARK --set-mark 1
-j FOO
-j DNAT --to-destination fd00::1
-g FOO
"""

_PREROUTING = """
-p tcp -j DNAT --to-destination [fd00::1]:8080
-p tcp -j DNAT --to-destination fd00::1
-p tcp -j DNAT --to-destination [fd00::1]
-p tcp -j DNAT --to-destination [fd00::1]-[fd00::4]
-p tcp -j DNAT --to-destination fd00::1-fd00::4
-p tcp -j DNAT --to-destination [fd00::1-fd00::4]:80-90
-p tcp -j DNAT --to-destination [fd00::1]-[fd00::4]:80
-p tcp -j DNAT --to-destination :8080
-p tcp -j DNAT --to-destination [fd00::1]:8080-8090
-p tcp -j DNAT --to-destination [fd00::1]:0
-p tcp -j DNAT --to-destination [fd00::1]:80000
-p tcp -j DNAT --to-destination [fd00::1
-p tcp -j DNAT --to-destination [fd00::1]x
-p tcp -j DNAT --to-destination 10.0.0.1:80
-p tcp -j DNAT --to-destination foo
-j DNAT --to-destination [fd00::1]:8080
-j DNAT --to-destination fd00::1 --random
-p tcp -j DNAT --to-destination [fd00::1]:8080 --persistent
-m tcp -p tcp -j DNAT --to-destination [fd00:10:48:2::7]:8080
-p tcp -j REDIRECT
-p tcp -j REDIRECT --to-ports 8080
-p tcp -j REDIRECT --to-ports 8080-8090 --random
-j REDIRECT --to-ports 8080
-j MASQUERADE
-j REJECT
-m addrtype --dst-type LOCAL ! -d ::1/128 -j RETURN
"""

_POSTROUTING = """
-j MASQUERADE
-j MASQUERADE --random-fully
-p tcp -j MASQUERADE --to-ports 1024-2048
-o eth0 -j MASQUERADE --random
-j SNAT --to-source fd00::1
-j SNAT --to-source fd00::1-fd00::4 --persistent
-p tcp -j SNAT --to-source [fd00::1]:1000-2000
-p tcp -j SNAT --to-source [fd00::1]:1000-2000 --random-fully
-j SNAT --to-source 10.0.0.1
-j DNAT --to-destination fd00::1
"""

_MANGLE = """
-j HL --hl-set 64
-j HL --hl-dec 1
-j HL --hl-inc 1
-j HL
-j TTL --ttl-set 64
-j DSCP --set-dscp 0x10
-j TOS --set-tos 0x10
-p tcp --syn -j TCPMSS --set-mss 1400
"""

RULES: list[tuple[str, str, str]] = (
    _lines(_FILTER, "filter", "FORWARD") + _lines(_PREROUTING, "nat", "PREROUTING") + _lines(_POSTROUTING, "nat", "POSTROUTING")
    + _lines("-j CT --notrack\n-j TRACE", "raw", "PREROUTING") + _lines(_MANGLE, "mangle", "FORWARD")
)

COMMANDS: dict[str, list[str]] = {
    "tables": ["-S", "-t nat -S", "-t mangle -S", "-t raw -S", "-t security -S", "-t foo -S", "-t broute -L"],
    "listing": [
        "-N KUBE-SERVICES", "-A INPUT -j KUBE-SERVICES", "-A INPUT -g KUBE-SERVICES", "-A INPUT -i eth0 -s fd00:10:96::/112 ! -d 2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff -p udp -j ACCEPT",
        "-A INPUT ! -i eth0 ! -s fd00::1 -j ACCEPT", "-A INPUT -p ipv6-icmp -j DROP", "-A INPUT -p tcp", "-A INPUT -s fd00::/ffff:0:ffff:: -j LOG",
        "-L -n", "-L -n -v", "-L", "-L -v", "-L INPUT -n --line-numbers", "-S", "-S INPUT 3", "-L INPUT 2 -n -v",
        "-C INPUT ! -s fd00::1 ! -i eth0 -j ACCEPT", "-C INPUT -s fd00::2 -j ACCEPT", "-D INPUT -p tcp", "-D INPUT 1", "-S", "-v -I INPUT -p tcp -s fd00::/64 -d ::1 --dport 80 -j ACCEPT", "-v -A INPUT -j DROP",
    ],
    "wrong": ["", "-V", "-A INPUT", "-A INPUT -D INPUT", "-6 -L FORWARD", "-4 -L FORWARD", "-X FOO", "-A NOPE -j ACCEPT", "-A INPUT -f -j DROP", "-A INPUT foo", "-P INPUT FOO", "-N INPUT",
              "-D INPUT -s fd00::1 -j DROP", "-t nat -A PREROUTING -j DROP", "-A INPUT -o eth0 -j DROP", "-A OUTPUT -i eth0 -j DROP", "-w 5 -N FOO -t nat"],
    "loops": ["-N A", "-N B", "-A A -j B", "-A B -j A", "-A INPUT -j A", "-S"],
    "multi": ["-A INPUT -s fd00::1,fd00::2 -d fd00:1::1,fd00:1::2 -j ACCEPT", "-S INPUT"],
}

RESTORES: dict[str, list[tuple[str, str]]] = {
    "basic": [("-c", "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [1:2]\n:OUTPUT ACCEPT [0:0]\n:FOO - [0:0]\n-A INPUT -j FOO\n[3:4] -A FOO -s fd00::1 -p tcp --dport 80 -j ACCEPT\nCOMMIT\n")],
    "both families": [("", "*filter\n-A INPUT -4 -s 10.0.0.1 -j DROP\n-A INPUT -6 -s fd00::1 -j DROP\n-4 -A INPUT -s 10.0.0.1 -j DROP\n-A INPUT -s fd00::2 -j DROP\nCOMMIT\n")],
    "four in six": [("", "*filter\n-A INPUT -s 10.0.0.1 -j DROP\nCOMMIT\n")],
    "unknown match": [("", "*filter\n-A INPUT -m foo -j ACCEPT\nCOMMIT\n")],
    "unknown target": [("", "*filter\n-A INPUT -j FOO\nCOMMIT\n")],
    "unknown table": [("", "*foo\nCOMMIT\n")],
    "no commit": [("", "*filter\n-A INPUT -j ACCEPT\n")],
    "kernel refuses": [("", "*filter\n-A INPUT -j DNAT --to-destination fd00::1\nCOMMIT\n")],
    "policy": [("", "*filter\n:INPUT FOO [0:0]\nCOMMIT\n")],
}
