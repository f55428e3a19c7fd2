"""Questions about an emulation, answered as data: what happened to a packet, and who an address is."""
