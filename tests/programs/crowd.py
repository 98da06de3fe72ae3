"""Many connections at once: crowd.py HOST COUNT

Opens COUNT connections, makes one call on each once all are open, and reports how many got which status, and every failure.
"""
import json
import socket
import sys

host, count = sys.argv[1], int(sys.argv[2])
address = socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)[0][4]
request = ("GET /load HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host).encode()
statuses, failures, connections = {}, [], []


def attempt(step, work):
    try:
        return work()
    except OSError as error:
        failures.append("%s: %s: %s" % (step, type(error).__name__, error))
        return None


for number in range(count):
    connection = attempt("connect", lambda: socket.create_connection(address, timeout=20))
    if connection is not None:
        connections.append(connection)
for connection in connections:
    attempt("send", lambda: connection.sendall(request))
for connection in connections:
    line = attempt("receive", lambda: connection.makefile("rb").readline())
    if line is not None:
        status = line.split()[1].decode() if line.startswith(b"HTTP/1.1 ") else repr(line)
        statuses[status] = statuses.get(status, 0) + 1
    connection.close()
print(json.dumps({"statuses": statuses, "failures": failures}))
