// Makes calls with Node's fetch and reports each as a line of JSON: calls.mjs URL COUNT
const [url, count] = process.argv.slice(2);
for (let call = 0; call < Number(count); call++) {
  const began = performance.now();
  let report;
  try {
    const response = await fetch(url);
    report = { status: response.status, retry_after: response.headers.get("retry-after"), body: await response.text() };
  } catch (error) {
    report = { status: null, error: String(error.cause ?? error) };
  }
  report.seconds = (performance.now() - began) / 1000;
  console.log(JSON.stringify(report));
}
