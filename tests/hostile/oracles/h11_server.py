"""h11 behind a plain socket: says each request that it saw whole, a JSON line each."""

import json
import socket
import sys
import threading

import h11


def say(case, request, body):
    host = [value for name, value in request.headers if name == b"host"]
    print(
        json.dumps(
            {
                "case": case,
                "method": request.method.decode("latin1"),
                "target": request.target.decode("latin1"),
                "host": host[0].decode("latin1") if host else "",
                "body": body.decode("latin1"),
            }
        ),
        flush=True,
    )


def serve(sock, case):
    connection = h11.Connection(h11.SERVER)
    request, body = None, b""
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    sock.sendall(connection.send(h11.InformationalResponse(status_code=100, headers=[])))
                data = sock.recv(65536)
                connection.receive_data(data)
                continue
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                say(case, request, body)
                status = 405 if request.method == b"CONNECT" else 204
                sock.sendall(connection.send(h11.Response(status_code=status, headers=[])))
                sock.sendall(connection.send(h11.EndOfMessage()))
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return
                connection.start_next_cycle()
            else:
                return
    except h11.RemoteProtocolError:
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    finally:
        sock.close()


def guarded(sock, case):
    try:
        serve(sock, case)
    except OSError:
        pass


with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512) as listener:
    while True:
        sock, peer = listener.accept()
        threading.Thread(target=guarded, args=(sock, peer[0]), daemon=True).start()
