"""VXLAN: device.py (the device, sending), fdb.py (which VTEP a MAC is behind), receive.py (the UDP socket, receiving)."""
