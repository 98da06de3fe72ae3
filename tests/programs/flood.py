"""Many connections begun at one moment: flood.py HOST COUNT

The order `connect` begins them all, waits for none, and is answered with how many are there. `call` waits for each, makes a call on
it, and is answered with how many got which status, and every failure.
"""
import errno
import json
import selectors
import socket
import sys
import time

host, count = sys.argv[1], int(sys.argv[2])
address = socket.getaddrinfo(host, 80, socket.AF_INET, socket.SOCK_STREAM)[0][4]
request = ("GET /load HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host).encode()
PATIENCE = 50
waiting = selectors.DefaultSelector()


def connect():
    for _ in range(count):
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        error = connection.connect_ex(address)
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, "connect")
        waiting.register(connection, selectors.EVENT_WRITE)
    return {"connected": len(waiting.select(0))}


def step(key):
    """The status, once it is there."""
    connection = key.fileobj
    if key.events == selectors.EVENT_WRITE:
        error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, "connect")
        connection.sendall(request)
        waiting.modify(connection, selectors.EVENT_READ)
        return None
    line = connection.recv(4096)
    if not line.startswith(b"HTTP/1.1 "):
        raise OSError("answered %r" % line[:40])
    return line.split()[1].decode()


def call():
    statuses, failures, deadline = {}, [], time.monotonic() + PATIENCE
    while waiting.get_map() and time.monotonic() < deadline:
        for key, _ in waiting.select(1):
            try:
                status = step(key)
                if status is None:
                    continue
                statuses[status] = statuses.get(status, 0) + 1
            except OSError as error:
                failures.append("%s: %s" % (type(error).__name__, error))
            waiting.unregister(key.fileobj)
            key.fileobj.close()
    failures += ["no answer"] * len(waiting.get_map())
    return {"statuses": statuses, "failures": failures}


orders = {"connect": connect, "call": call}
for text in sys.stdin:
    order = json.loads(text)["do"]
    print(json.dumps(orders[order]()), flush=True)
