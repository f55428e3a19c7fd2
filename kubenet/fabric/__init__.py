"""Wires between machines: cables, the switch, what goes wrong on them, captures, and the topology that says who is where."""
