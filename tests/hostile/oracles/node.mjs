// Node's http server: says each request that it saw whole, a JSON line each.
import http from 'node:http';

const say = (request, body) => console.log(JSON.stringify({
  case: request.socket.remoteAddress,
  method: request.method,
  target: request.url,
  host: request.headers.host ?? '',
  body: Buffer.concat(body).toString('latin1'),
}));

const server = http.createServer((request, response) => {
  const body = [];
  request.on('data', (part) => body.push(part));
  request.on('end', () => {
    say(request, body);
    response.writeHead(204);
    response.end();
  });
});
// Without this, Node answers without telling.
server.on('checkExpectation', (request, response) => {
  const body = [];
  request.on('data', (part) => body.push(part));
  request.on('end', () => {
    say(request, body);
    response.writeHead(417);
    response.end();
  });
});
server.on('connect', (request, socket) => {
  say(request, []);
  socket.end('HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n\r\n');
});
server.listen(Number(process.argv[2]), '127.0.0.1');
