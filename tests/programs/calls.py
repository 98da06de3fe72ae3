"""Makes calls with one of Python's HTTP libraries and reports each as a line of JSON: calls.py LIBRARY URL COUNT"""
import json
import sys
import time

library, url, count = sys.argv[1], sys.argv[2], int(sys.argv[3])


def peer_of(socket):
    return "%s:%d" % socket.getpeername()[:2]


def with_requests():
    import requests

    session = requests.Session()

    def call():
        response = session.get(url, stream=True, timeout=30)
        peer = peer_of(response.raw._connection.sock)
        return response.status_code, response.headers, response.text, peer

    return call


def with_httpx():
    import httpx

    client = httpx.Client(timeout=30)

    def call():
        with client.stream("GET", url) as response:
            peer = peer_of(response.extensions["network_stream"].get_extra_info("socket"))
            response.read()
            return response.status_code, response.headers, response.text, peer

    return call


def with_urllib():
    import urllib.error
    import urllib.request

    def call():
        try:
            response = urllib.request.urlopen(url, timeout=30)
        except urllib.error.HTTPError as error:
            response = error.fp
        # An answer without a body has let go of its connection already.
        peer = peer_of(response.fp.raw._sock) if response.fp else None
        return response.status, response.headers, response.read().decode(), peer

    return call


call = {"requests": with_requests, "httpx": with_httpx, "urllib": with_urllib}[library]()
for _ in range(count):
    began = time.monotonic()
    try:
        status, headers, body, peer = call()
        report = {"status": status, "retry_after": headers.get("retry-after"), "body": body, "peer": peer}
    except Exception as error:
        report = {"status": None, "error": "%s: %s" % (type(error).__name__, error)}
    report["seconds"] = time.monotonic() - began
    print(json.dumps(report), flush=True)
