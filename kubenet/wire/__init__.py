"""Headers and bytes: what travels, apart from who sends it. Pure functions and records; no clock, no state.

    addr                                    addresses between int and text
    ethernet arp ipv4 ipv6 icmp udp tcp     one header each: a record, build_*() and parse_*()
    vxlan sll2                              tunnel and capture headers
    checksum packet                         RFC 1071 and 1624; whole frames to bytes and back
    dns pcap                                messages and capture files
    pretty, pretty_*                        a packet in tcpdump's words
    errors                                  WireError, the only exception of a parser

Inside the stack headers are passed by reference and edited in place; bytes exist at the edges only (packet.py says where).
"""
