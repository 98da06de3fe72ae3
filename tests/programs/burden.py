"""A service under load: calls without pause, by several kinds of connection at once, until told to end.

burden.py SPEC, where SPEC is JSON: {"calls": [{"kind": "fresh"|"kept", "url": URL, "threads": N}], "timeout": SECONDS}

`fresh` opens a connection for each call, `kept` keeps one for as long as the server lets it. Each order `count` is answered with
how many calls were answered so far, for each status, by URL and kind. `end` is answered with the same and with every failure:
when its connection was begun and when the call failed, by CLOCK_MONOTONIC, on which kind of connection and at which step.
"""
import json
import socket
import ssl
import sys
import threading
import time
from urllib.parse import urlsplit

spec = json.loads(sys.argv[1])
timeout = spec.get("timeout", 5)
ending, lock = threading.Event(), threading.Lock()
counts, failures = {}, []
context = ssl.create_default_context()
context.set_alpn_protocols(["http/1.1"])


class Connection:
    def __init__(self, url):
        parts = urlsplit(url)
        self.socket = socket.create_connection(addresses[url], timeout=timeout)
        try:
            if parts.scheme == "https":
                self.socket = context.wrap_socket(self.socket, server_hostname=parts.hostname)
            self.file = self.socket.makefile("rb")
        except BaseException:
            self.socket.close()
            raise

    def call(self, request):
        """The status, and whether the server goes on with this connection."""
        self.socket.sendall(request)
        line = self.file.readline()
        if not line.startswith(b"HTTP/1.1 "):
            raise OSError("answered %r" % line[:40])
        length, goes_on = 0, True
        while (header := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = header.decode("latin-1").partition(":")
            if name.lower() == "content-length":
                length = int(value)
            if name.lower() == "connection" and value.strip().lower() == "close":
                goes_on = False
        if len(self.file.read(length)) != length:
            raise OSError("the body broke off")
        return line.split()[1].decode(), goes_on

    def close(self):
        self.file.close()
        self.socket.close()


def client(url, kind):
    parts = urlsplit(url)
    close = "Connection: close\r\n" if kind == "fresh" else ""
    request = ("GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (parts.path or "/", parts.netloc, close)).encode()
    mine = {}
    with lock:
        counts.setdefault(kind + " " + url, []).append(mine)
    connection, opened = None, 0
    while not ending.is_set():
        step = "connect"
        try:
            if connection is None:
                opened = time.monotonic()
                connection = Connection(url)
            step = "call"
            status, goes_on = connection.call(request)
            mine[status] = mine.get(status, 0) + 1
            time.sleep(spec.get("pace", 0))
            if kind == "fresh" or not goes_on:
                connection.close()
                connection = None
        except (OSError, ValueError) as error:
            failures.append({"opened": opened, "ended": time.monotonic(), "kind": kind, "url": url, "step": step,
                             "error": "%s: %s" % (type(error).__name__, error)})
            if connection is not None:
                connection.close()
            connection = None
            time.sleep(spec.get("pause", 0))


def told():
    statuses = {}
    with lock:
        for name, all_of_it in counts.items():
            for one in all_of_it:
                for status, count in list(one.items()):
                    of = statuses.setdefault(name, {})
                    of[status] = of.get(status, 0) + count
    return {"done": sum(sum(of.values()) for of in statuses.values()), "statuses": statuses, "failed": len(failures)}


addresses = {}
for call in spec["calls"]:
    parts = urlsplit(call["url"])
    port = parts.port or (443 if parts.scheme == "https" else 80)
    addresses[call["url"]] = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)[0][4]
clients = [threading.Thread(target=client, args=(call["url"], call["kind"]))
           for call in spec["calls"] for _ in range(call.get("threads", 1))]
for thread in clients:
    thread.start()
for text in sys.stdin:
    if json.loads(text)["do"] == "end":
        break
    print(json.dumps(told()), flush=True)
ending.set()
for thread in clients:
    thread.join()
print(json.dumps({**told(), "failures": failures}), flush=True)
