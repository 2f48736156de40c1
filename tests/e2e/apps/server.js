// Node's http server: says its marker, and who asked. ADDRESS PORT MARKER
const http = require('http');
const [address, port, marker] = process.argv.slice(2);

http.createServer((request, response) => {
  const peer = request.socket;
  const body = `${marker} peer=${peer.remoteAddress} port=${peer.remotePort} pid=${process.pid}\n`;
  response.writeHead(200, {'Content-Type': 'text/plain', 'Content-Length': body.length});
  response.end(body);
}).listen(Number(port), address);
