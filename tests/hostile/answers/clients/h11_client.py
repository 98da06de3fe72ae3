"""h11 behind a plain socket: says what it makes of each answer, a JSON line each."""

import json
import socket
import sys

import h11


def ask(port, case, method):
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method=method, target=f"/{case}", headers=[("Host", "a.example")])
    sock.sendall(connection.send(request) + connection.send(h11.EndOfMessage()))
    status, body = None, b""
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(sock.recv(65536))
            elif isinstance(event, h11.Response):
                status = str(event.status_code)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return {"case": case, "status": status, "body": body.decode("latin1")}
            elif not isinstance(event, h11.InformationalResponse):
                return {"case": case, "error": repr(event)}
    except Exception as error:
        return {"case": case, "error": repr(error)}
    finally:
        sock.close()


for line in sys.stdin:
    print(json.dumps(ask(int(sys.argv[1]), *line.split())), flush=True)
