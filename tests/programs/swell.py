"""Connections that each ask for a little memory: swell.py HOST

Each line on its input is an order, answered with a line. `open` (with `count`, `bytes`, `pace`) opens that many connections, `pace`
seconds apart, and sends on each a beginning of so many bytes that is no whole request head yet. `call` completes every head and tells
how many calls got which status, and every failure.
"""
import json
import socket
import sys
import time

address = socket.getaddrinfo(sys.argv[1], 80, socket.AF_INET, socket.SOCK_STREAM)[0][4]
head = b"GET /load HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n" % sys.argv[1].encode()
line = b"X-Padding: " + b"x" * 987 + b"\r\n"
open_connections, failures = [], []


def attempt(step, work):
    try:
        return work()
    except OSError as error:
        failures.append("%s: %s: %s" % (step, type(error).__name__, error))
        return None


def begin(order):
    for _ in range(order["count"]):
        connection = attempt("connect", lambda: socket.create_connection(address, timeout=50))
        if connection is not None:
            open_connections.append(connection)
            attempt("begin", lambda: connection.sendall(head + line * (order["bytes"] // len(line))))
        time.sleep(order["pace"])
    return {"open": len(open_connections), "failures": failures}


def call(_):
    statuses = {}
    for connection in open_connections:
        attempt("complete", lambda: connection.sendall(b"\r\n"))
        answer = attempt("receive", lambda: connection.makefile("rb").readline())
        connection.close()
        if answer is None:
            continue
        status = answer.split()[1].decode() if answer.startswith(b"HTTP/1.1 ") else repr(answer)
        statuses[status] = statuses.get(status, 0) + 1
    open_connections.clear()
    return {"statuses": statuses, "failures": failures}


orders = {"open": begin, "call": call}
for text in sys.stdin:
    order = json.loads(text)
    print(json.dumps(orders[order["do"]](order)), flush=True)
