// Prints the status of one call: status.mjs fetch|ca URL. With `ca` the program brings roots of its own.
import { readFileSync } from "node:fs";
import https from "node:https";

const [kind, url] = process.argv.slice(2);
if (kind === "fetch") {
  console.log((await fetch(url)).status);
} else {
  const ca = readFileSync("/usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt");
  https.get(url, { ca }, (response) => console.log(response.resume().statusCode));
}
