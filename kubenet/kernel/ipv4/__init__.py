"""IPv4, ARP and ICMP. init.py puts them into a new namespace; input.py and output.py are the two ways through."""
