"""Network devices: loopback, veth, bridge, card, tunnel ends, and the two doors every frame passes (device.py)."""
