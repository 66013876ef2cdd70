// uWebSockets: `node uws.js MODULES PORT [SNAPSHOT]`. A POST's body is published line by line to every subscriber.
const [modules, port, snapshot] = process.argv.slice(2);
const uws = require(`${modules}/uwebsockets`);

const app = uws
  .App()
  .ws("/*", {
    idleTimeout: 28, // with its margin of 8: a ping every 20 s
    sendPingsAutomatically: true,
    maxBackpressure: 4 * 1024 * 1024,
    open(socket) {
      socket.subscribe("bench");
      if (snapshot) socket.send(snapshot);
    },
  })
  .post("/publish", (response) => {
    let body = "";
    response.onAborted(() => {});
    response.onData((chunk, isLast) => {
      body += Buffer.from(chunk).toString("latin1");
      if (!isLast) return;
      for (const message of body.split("\n")) app.publish("bench", message);
      response.writeStatus("202 Accepted").end();
    });
  })
  .listen("127.0.0.1", Number(port), (listening) => {
    if (!listening) process.exit(1);
  });
