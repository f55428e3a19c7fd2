"""Sockets: the common record, the system calls, ports and lookup tables, and the protocols without connections."""
