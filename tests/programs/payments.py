"""A service that calls an API for as long as it runs: payments.py URL LOG

Each call is a new connection and leaves one line of JSON in LOG: the status, or what went wrong. A status that is not 200 is no
reason to stop: services retry.
"""
import json
import sys
import time
import urllib.error
import urllib.request

url, log = sys.argv[1], open(sys.argv[2], "a", buffering=1)


def call():
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            answer.read()
            return {"status": answer.status}
    except urllib.error.HTTPError as answer:
        answer.read()
        return {"status": answer.code}
    except Exception as error:
        return {"error": "%s: %s" % (type(error).__name__, error)}


while True:
    print(json.dumps(call()), file=log)
    # The pace of the service, so that a busy machine has time for the rest.
    time.sleep(0.02)
