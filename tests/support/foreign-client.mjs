// Node's `ws` as a client: node foreign-client.mjs URL MESSAGE... sends the messages once it is connected, and prints
// every frame as a line.

import WebSocket from "ws";

const [url, ...messages] = process.argv.slice(2);
const socket = new WebSocket(url);
socket.on("open", () => messages.forEach((message) => socket.send(message)));
socket.on("message", (data, isBinary) => console.log(isBinary ? "binary" : data.toString()));
socket.on("close", (code) => process.exit(code === 1005 ? 0 : 1));
socket.on("error", (error) => {
  console.error(String(error));
  process.exit(1);
});
