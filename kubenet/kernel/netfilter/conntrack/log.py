"""Why conntrack calls a packet INVALID, in the kernel log (nf_conntrack_log_invalid = protocol number, or 255 for all).

    nf_ct_proto_6: SEQ is over upper bound 1001 (over the window of the receiver) IN=eth0 OUT= SRC=10.48.2.7 ...

Sources: Linux nf_ct_l4proto_log_invalid(), nf_log_syslog.c dump_ipv4_packet(). simplified: no MAC=, no IP options.
"""

from __future__ import annotations

from kubenet.kernel.skbuff import ETH_P_IP, SkBuff, station
from kubenet.wire.addr import ip4_text
from kubenet.wire.icmp import IcmpHdr
from kubenet.wire.ipv4 import IP_DF, IP_MF
from kubenet.wire.tcp import TcpHdr
from kubenet.wire.udp import UdpHdr

_FLAGS = ((128, "CWR"), (64, "ECE"), (32, "URG"), (16, "ACK"), (8, "PSH"), (4, "RST"), (2, "SYN"), (1, "FIN"))


def log_invalid(skb: SkBuff, hook: int, proto: int, text: str) -> None:
    """The log and the packet's trace say what was wrong with it. Linux: nf_ct_l4proto_log_invalid()."""
    if skb.tr is not None:
        station(skb, "nf_ct_l4proto_log_invalid", text).hook = hook
    if skb.net.sysctl.netfilter.nf_conntrack_log_invalid in (proto, 255):
        skb.net.host.printk(f"nf_ct_proto_{proto}: {text} {packet_text(skb)}")


def packet_text(skb: SkBuff) -> str:
    """The packet as nf_log_syslog prints it."""
    words = [f"IN={skb.indev.name if skb.indev else ''}", f"OUT={skb.outdev.name if skb.outdev else ''}"]
    ip, l4 = skb.ip, skb.l4
    if skb.protocol != ETH_P_IP:
        return " ".join(words)
    words += [f"SRC={ip4_text(ip.saddr)}", f"DST={ip4_text(ip.daddr)}", f"LEN={skb.len}", f"TOS=0x{ip.tos & 0x1E:02X}",
              f"PREC=0x{ip.tos & 0xE0:02X}", f"TTL={ip.ttl}", f"ID={ip.id}"]
    words += [name for bit, name in ((0x8000, "CE"), (IP_DF, "DF"), (IP_MF, "MF")) if ip.frag & bit]
    if isinstance(l4, TcpHdr):
        words += ["PROTO=TCP", f"SPT={l4.sport}", f"DPT={l4.dport}", f"WINDOW={l4.window}", "RES=0x00"]
        words += [name for bit, name in _FLAGS if l4.flags & bit]
        words.append(f"URGP={l4.urg_ptr}")
    elif isinstance(l4, UdpHdr):
        words += ["PROTO=UDP", f"SPT={l4.sport}", f"DPT={l4.dport}", f"LEN={8 + skb.plen}"]
    elif isinstance(l4, IcmpHdr):
        words += ["PROTO=ICMP", f"TYPE={l4.type}", f"CODE={l4.code}"]
    else:
        words.append(f"PROTO={ip.proto}")
    return " ".join(words)
