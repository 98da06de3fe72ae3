"""Connects and calls without pause until told to end: load.py THREADS HOST

Each order `count` is answered with how many calls went well so far. `end` is answered with every failure: when its
connect() began, by CLOCK_MONOTONIC, and what went wrong.
"""
import json
import socket
import sys
import threading
import time

threads, host = int(sys.argv[1]), sys.argv[2]
address = socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)[0][4]
request = ("GET /load HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host).encode()
done, failures, ending = [0] * threads, [], threading.Event()


def client(number):
    while not ending.is_set():
        began, step = time.monotonic(), "connect"
        try:
            with socket.create_connection(address, timeout=5) as sock:
                step = "call"
                sock.sendall(request)
                answer = b""
                while piece := sock.recv(65536):
                    answer += piece
            if not answer.startswith(b"HTTP/1.1 "):
                raise OSError("answered %r" % answer[:40])
            done[number] += 1
        except OSError as error:
            failures.append({"began": began, "step": step, "error": "%s: %s" % (type(error).__name__, error)})


clients = [threading.Thread(target=client, args=(number,)) for number in range(threads)]
for thread in clients:
    thread.start()
for text in sys.stdin:
    if json.loads(text)["do"] == "end":
        break
    print(json.dumps({"done": sum(done)}), flush=True)
ending.set()
for thread in clients:
    thread.join()
print(json.dumps({"done": sum(done), "failures": failures}), flush=True)
