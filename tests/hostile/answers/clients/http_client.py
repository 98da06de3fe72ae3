"""Python's http.client: says what it makes of each answer, a JSON line each."""

import http.client
import json
import sys

port = int(sys.argv[1])
for line in sys.stdin:
    case, method = line.split()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    said = {"case": case}
    try:
        connection.request(method, f"/{case}")
        response = connection.getresponse()
        said["status"] = str(response.status)
        said["body"] = response.read().decode("latin1")
    except Exception as error:
        said = {"case": case, "error": repr(error)}
    connection.close()
    print(json.dumps(said), flush=True)
