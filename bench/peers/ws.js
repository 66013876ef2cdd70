// Node's `ws`: `node ws.js MODULES PORT [SNAPSHOT]`. A POST's body is sent line by line to every subscriber.
const [modules, port, snapshot] = process.argv.slice(2);
const { createServer } = require("node:http");
const { WebSocketServer, WebSocket } = require(`${modules}/ws`);

const PING_MS = 20000;

const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
const alive = new WeakSet();

function publish(message) {
  for (const socket of sockets.clients) {
    if (socket.readyState === WebSocket.OPEN) socket.send(message, { binary: false });
  }
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    for (const message of Buffer.concat(chunks).toString("latin1").split("\n")) publish(Buffer.from(message));
    response.writeHead(202).end();
  });
});
server.on("upgrade", (request, socket, head) => {
  sockets.handleUpgrade(request, socket, head, (client) => {
    alive.add(client);
    client.on("pong", () => alive.add(client));
    if (snapshot) client.send(snapshot);
  });
});
setInterval(() => {
  for (const client of sockets.clients) {
    if (!alive.has(client)) client.terminate();
    alive.delete(client);
    client.ping();
  }
}, PING_MS);
server.keepAliveTimeout = 75000;
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 16384 });
