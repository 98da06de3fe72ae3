# Makes calls with curl, one process each, and reports each as a line of JSON: curl.sh PROTOCOL URL COUNT
body=$(mktemp)
trap 'rm -f "$body"' EXIT
for _ in $(seq "$3"); do
  report=$(curl "$1" --silent --max-time 30 --output "$body" --write-out '%{json}\n%header{retry-after}' "$2")
  printf '%s' "$report" | /usr/bin/python3 -c '
import json, sys
report, _, retry_after = sys.stdin.read().partition("\n")
call = json.loads(report)
body = open(sys.argv[1]).read() if call["http_code"] else ""
print(json.dumps({
    "status": call["http_code"] or None, "retry_after": retry_after.strip() or None, "body": body,
    "protocol": "HTTP/" + call["http_version"], "seconds": call["time_total"],
    "peer": "%s:%s" % (call["remote_ip"], call["remote_port"]),
    "error": "curl %d: %s" % (call["exitcode"], call["errormsg"]) if call["exitcode"] else None}))' "$body"
done
