// Follows a gateway with the JavaScript client: node follow-with-client.mjs OPTIONS, a JSON object.
//
// `url`, `transport` and `pattern` are the client's; `token` is a text, or `{ secret, lives }`: how long each JSON Web
// Token lives that is asked for, in s, the last one for ever; one that expires is never renewed before its end.
// Prints a line of JSON for each event, gap and status, `at` in ms. A line on its input is a command: "values" prints the
// store, "stuck MS" blocks the process, "close" closes the client, after which nothing may keep the process alive.

import { createHmac } from "node:crypto";
import { createInterface } from "node:readline";

import { WebSocket } from "ws";

import { connect } from "../../clients/js/src/client.js";

const { url, transport, pattern = "*", token } = JSON.parse(process.argv[2]);

function say(line) {
  process.stdout.write(`${JSON.stringify({ at: Date.now(), ...line })}\n`);
}

function signed({ secret, lives }) {
  const asked = [];
  return ({ reason }) => {
    say({ asked: reason });
    if (reason === "expiring") return null;
    const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const now = Math.floor(Date.now() / 1000);
    const life = lives[Math.min(asked.push(reason), lives.length) - 1];
    const claims = { sub: "page", roles: ["subscriber"], exp: now + life, jti: `${asked.length}` };
    const text = `${part({ alg: "HS256" })}.${part(claims)}`;
    return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
  };
}

// An abandoned socket would keep the process for 30 s, since `ws` waits for the answer to its goodbye.
class Socket extends WebSocket {
  constructor(to, protocols) {
    super(to, protocols, { closeTimeout: 1000 });
  }
}

const client = connect(url, {
  transport,
  WebSocket: transport === "sse" ? undefined : Socket,
  token: token?.secret ? signed(token) : token,
});
client.on(pattern, (event) => say({ event }));
client.onGap((gap) => say({ gap }));
client.onStatus((status) => say({ status }));
client.ready().then(
  () => say({ ready: true }),
  (error) => say({ refused: error.message }),
);

const commands = {
  values: () => say({ values: client.store.list("*"), position: client.position }),
  stuck: (ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(ms)),
  close: () => {
    input.close();
    process.stdin.destroy();
    client.close();
    if (transport !== "websocket") setTimeout(leave, 500);
  },
};

// After a stream was aborted, the fetch of Node connects once more, and waits for the server to close that: leave it.
function leave() {
  const isOurs = (name) => !["PipeWrap", "TCPSocketWrap", "Timeout"].includes(name);
  process.exit(process.getActiveResourcesInfo().some(isOurs) ? 1 : 0);
}
const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  const [name, argument] = line.split(" ");
  commands[name](argument);
});
