// Node's http client: says what it makes of each answer, a JSON line each.
import http from 'node:http';
import readline from 'node:readline';

const ask = (name, method) => new Promise((resolve) => {
  const wrong = (error) => resolve({ case: name, error: String(error) });
  const request = http.request({ host: '127.0.0.1', port: Number(process.argv[2]), method, path: `/${name}`, agent: false });
  const read = (response, stream, first) => {
    const body = [first];
    stream.on('data', (part) => body.push(part));
    stream.on('error', wrong);
    stream.on('end', () => {
      if (stream === response && !response.complete) {
        wrong('cut short');
      } else {
        resolve({ case: name, status: String(response.statusCode), body: Buffer.concat(body).toString('latin1') });
      }
    });
  };
  request.on('response', (response) => read(response, response, Buffer.alloc(0)));
  request.on('upgrade', (response, socket, first) => read(response, socket, first));
  request.on('error', wrong);
  request.end();
});

for await (const line of readline.createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await ask(...line.split(' '))));
}
