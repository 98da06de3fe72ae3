"""Behind HAProxy: says each request that HAProxy passed on, a JSON line each. What HAProxy sends is plain, so this reader is too."""

import json
import socket
import sys
import threading


def body_of(stream, fields):
    if b"transfer-encoding" in fields:
        body = b""
        while size := int(stream.readline().split(b";")[0], 16):
            body += stream.read(size)
            stream.readline()
        while stream.readline().strip():
            pass
        return body
    return stream.read(int(fields.get(b"content-length", b"0")))


def serve(sock):
    with sock, sock.makefile("rb") as stream:
        while line := stream.readline():
            method, target, _ = line.rstrip(b"\r\n").split(b" ", 2)
            fields = {}
            while field := stream.readline().rstrip(b"\r\n"):
                name, value = field.split(b":", 1)
                fields[name.lower()] = value.strip()
            if b"100-continue" in fields.get(b"expect", b"").lower():
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = body_of(stream, fields)
            said = {
                "case": fields[b"x-case"].decode("latin1"),
                "method": method.decode("latin1"),
                "target": target.decode("latin1"),
                "host": fields.get(b"host", b"").decode("latin1"),
                "body": body.decode("latin1"),
            }
            print(json.dumps(said), flush=True)
            sock.sendall(b"HTTP/1.1 405 Not Here\r\n\r\n" if method == b"CONNECT" else b"HTTP/1.1 204 No Content\r\n\r\n")


with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512) as listener:
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
