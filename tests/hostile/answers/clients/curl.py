"""curl: says what it makes of each answer, a JSON line each."""

import json
import subprocess
import sys
import tempfile

for line in sys.stdin:
    case, method = line.split()
    with tempfile.NamedTemporaryFile() as body:
        command = ["curl", "-q", "--silent", "--http1.1", "--max-time", "10", "--output", body.name]
        command += ["--write-out", "%{http_code}", f"http://127.0.0.1:{sys.argv[1]}/{case}"]
        # With HEAD, what it writes is the head.
        ran = subprocess.run(command + (["--head"] if method == "HEAD" else []), capture_output=True)
        said = {"case": case, "status": ran.stdout.decode(), "body": body.read().decode("latin1")}
        if method == "HEAD":
            said["body"] = ""
        if ran.returncode != 0:
            said = {"case": case, "error": f"curl ended with {ran.returncode}"}
    print(json.dumps(said), flush=True)
