"""Many clients at once: for each line on its input, every thread makes its calls; the line back counts the statuses.

volley.py THREADS CALLS URL
"""
import collections
import json
import ssl
import sys
import threading
import urllib.parse

import through

threads, calls, url = int(sys.argv[1]), int(sys.argv[2]), urllib.parse.urlsplit(sys.argv[3])
context = ssl.create_default_context()


def client(barrier, counts, lock):
    connection = through.connection(url, 60, context)
    barrier.wait()
    for _ in range(calls):
        try:
            connection.request("GET", through.target(url))
            response = connection.getresponse()
            response.read()
            result = str(response.status)
        except Exception as error:
            result = "%s: %s" % (type(error).__name__, error)
            connection.close()
        with lock:
            counts[result] += 1
    connection.close()


for order in sys.stdin:
    if json.loads(order)["do"] == "end":
        break
    counts, lock, barrier = collections.Counter(), threading.Lock(), threading.Barrier(threads)
    clients = [threading.Thread(target=client, args=(barrier, counts, lock)) for _ in range(threads)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    print(json.dumps(counts), flush=True)
