"""Does one thing after the other as the lines on its input say, keeps its connections, and answers each with a line."""
import base64
import hashlib
import json
import socket
import ssl
import subprocess
import sys
import time
import urllib.parse

import through

TIMEOUT = 30
kept = {}
streams = {}


def connect(url):
    return through.connection(url, TIMEOUT)


def describe(connection):
    sock = connection.sock
    report = {"peer": "%s:%d" % sock.getpeername()[:2]}
    if isinstance(sock, ssl.SSLSocket):
        report["certificate"] = hashlib.sha256(sock.getpeercert(True)).hexdigest()
    return report


def request(order):
    url = urllib.parse.urlsplit(order["url"])
    key = (url.scheme, url.netloc)
    connection = None if order.get("fresh") else kept.pop(key, None)
    began = time.monotonic()
    connection = connection or connect(url)
    if connection.sock is None:
        connection.connect()
    report = describe(connection)
    connection.request(order.get("method", "GET"), through.target(url), order.get("body"), order.get("headers", {}))
    response = connection.getresponse()
    body = response.read().decode()
    report |= {"status": response.status, "retry_after": response.getheader("retry-after"), "body": body,
               "protocol": "HTTP/1.1" if response.version == 11 else "HTTP/1.0", "headers": dict(response.getheaders()),
               "seconds": time.monotonic() - began}
    if not response.will_close and not order.get("fresh"):
        kept[key] = connection
    else:
        connection.close()
    return report


def stream(order):
    """Opens a streaming answer; `line` then reads it piece by piece."""
    url = urllib.parse.urlsplit(order["url"])
    connection = connect(url)
    connection.request("GET", through.target(url))
    streams[order["name"]] = (connection, connection.getresponse())
    return {"status": streams[order["name"]][1].status}


def line(order):
    response = streams[order["name"]][1]
    found = response.readline()
    while found == b"\n":
        found = response.readline()
    return {"line": found.decode().strip()}


def upgrade(order):
    """Asks for another protocol; `say` then talks over what the connection has become."""
    url = urllib.parse.urlsplit(order["url"])
    connection = connect(url)
    connection.connect()
    connection.sock.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                             % (through.target(url), url.hostname)).encode())
    reader = connection.sock.makefile("rb")
    status = int(reader.readline().split()[1])
    while reader.readline() not in (b"\r\n", b""):
        pass
    streams[order["name"]] = (connection.sock, reader)
    return {"status": status}


def tcp(order):
    """Opens a plain connection and says nothing; `say` and `hear` come later."""
    sock = through.tcp(order["host"], order["port"], TIMEOUT)
    streams[order["name"]] = (sock, sock.makefile("rb"))
    return {"peer": "%s:%d" % sock.getpeername()[:2]}


def datagram(order):
    """Sends one UDP packet; no answer is expected."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return {"sent": sock.sendto(b"x", (order["host"], order["port"]))}


def pin(order):
    """The public key of a server, as curl wants it for pinning."""
    context = ssl.create_default_context()
    with context.wrap_socket(socket.create_connection((order["host"], 443)), server_hostname=order["host"]) as sock:
        pem = ssl.DER_cert_to_PEM_cert(sock.getpeercert(True))
    key = subprocess.run(["openssl", "x509", "-noout", "-pubkey"], input=pem, text=True, capture_output=True, check=True)
    der = base64.b64decode("".join(key.stdout.splitlines()[1:-1]))
    return {"pin": "sha256//" + base64.b64encode(hashlib.sha256(der).digest()).decode()}


def say(order):
    streams[order["name"]][0].sendall(order["text"].encode())
    return {}


def hear(order):
    return {"text": streams[order["name"]][1].read(order["count"]).decode()}


def close(order):
    for part in streams.pop(order["name"]):
        part.close()
    return {}


def end(_):
    sys.exit(0)


orders = {name: globals()[name] for name in
          ("request", "stream", "line", "upgrade", "tcp", "datagram", "pin", "say", "hear", "close", "end")}
for text in sys.stdin:
    order = json.loads(text)
    try:
        report = orders[order["do"]](order)
    except Exception as error:
        report = {"status": None, "error": "%s: %s" % (type(error).__name__, error)}
    print(json.dumps(report), flush=True)
