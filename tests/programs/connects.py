"""What connect() costs: connects.py, then orders {"do": "connect", "port": P, "count": N} answered with the median, nanoseconds.

The peer is this program itself, on this host's address on the cable, at ports 80 and 9000.
"""
import json
import socket
import statistics
import sys
import threading
import time

ADDRESS = "198.51.100.2"


def serve(listener):
    while True:
        peer, _ = listener.accept()
        peer.close()


for port in (80, 9000):
    listener = socket.create_server((ADDRESS, port), backlog=1024)
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
for text in sys.stdin:
    order = json.loads(text)
    if order["do"] == "end":
        break
    took = []
    for _ in range(order["count"]):
        with socket.socket() as client:
            began = time.perf_counter_ns()
            client.connect((ADDRESS, order["port"]))
            took.append(time.perf_counter_ns() - began)
    print(json.dumps({"median": statistics.median(took)}), flush=True)
