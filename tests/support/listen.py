"""Prints what arrives in its network namespace: datagrams (unicast, multicast, broadcast, IPv6), connections, DNS queries.

Prints "ready", then one line for each, and "end" when its standard input ends.
"""

import selectors
import socket
import struct
import sys

PORT, NAMES, GROUP = 7007, 53, "239.255.77.77"
chosen = selectors.DefaultSelector()


def listen(kind, port, family=socket.AF_INET, anybody="0.0.0.0"):
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind((anybody, port))
    if kind == socket.SOCK_STREAM:
        listener.listen(64)
    listener.setblocking(False)
    chosen.register(listener, selectors.EVENT_READ)
    return listener


datagrams, connections, names = listen(socket.SOCK_DGRAM, PORT), listen(socket.SOCK_STREAM, PORT), listen(socket.SOCK_DGRAM, NAMES)
listen(socket.SOCK_DGRAM, PORT, socket.AF_INET6, "::")
for index, _ in socket.if_nameindex():
    try:
        request = socket.inet_aton(GROUP) + struct.pack("=4si", b"\0" * 4, index)
        datagrams.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    except OSError:
        pass  # A device without an address or without groups.
chosen.register(sys.stdin, selectors.EVENT_READ)
print("ready", flush=True)
ends = False
while True:
    events = chosen.select(0 if ends else None)
    for key, _ in events:
        if key.fileobj is sys.stdin:
            chosen.unregister(sys.stdin)
            ends = True
        elif key.fileobj is connections:
            peer, address = connections.accept()
            peer.close()
            print("tcp from", address[0], flush=True)
        else:
            data, address = key.fileobj.recvfrom(512)
            what = "name" if key.fileobj is names else "udp"
            text = "".join(chr(byte) for byte in data if 32 < byte < 127)
            print(what, "from", address[0], text, flush=True)
    if ends and not events:
        print("end", flush=True)
        break
