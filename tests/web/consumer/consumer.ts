// What a program in TypeScript may write with the package, and what its types refuse. tests/web/test_package.py compiles
// it against the packed package.

import { connect, type Client, type Event, type Gap, type Options, type Status, type Store, type Value } from "tidegate";

type Types = {
  "system.status": { hostname: string; cpu_percent: number };
  "app.door": { open: boolean };
};

const options: Options = {
  token: async ({ reason, signal }) => (reason === "expired" && !signal.aborted ? "new" : null),
  transport: "auto",
  backoff: { firstS: 1, maxS: 8, healS: 5 },
  graceMs: 2000,
};

const client: Client<Types> = connect<Types>(new URL("http://localhost:12080"), options);

const stop: () => void = client.on("system.status", (event) => {
  const percent: number = event.data.cpu_percent;
  // @ts-expect-error there is no such field
  event.data.cpu_percents;
  console.log(percent, event.stale, event.as_of);
});
stop();

client.on("app.*", (event: Event<Types, "app.*">) => console.log(event.type, event.data));
// @ts-expect-error a type that the program does not have
client.on("app.window", () => {});

client.onStale("*", (value: Value, reason: string) => console.log(value.type, value.key, reason));
client.onFresh("*", (value: Value) => console.log(value.state === "fresh"));
client.onGap((gap: Gap) => console.log(gap.reason, gap.skipped));
client.onStatus((status: Status) => console.log(status.state, status.retryAt, status.roundTripMs));

// @ts-expect-error a status is never changed by others
client.status.state = "live";

const store: Store<Types> = client.store;
const value: Value | undefined = store.get("system.status");
const all: readonly Value[] = store.list("*");
const unsubscribe: () => void = store.subscribe("*", () => {});
unsubscribe();

const position: string | null = client.position;
const serverMs: number = client.now();
const ageS: number | null = value ? client.age(value) : null;
console.log(position, serverMs, ageS, all.length);

async function follow(): Promise<string> {
  await client.ready({ signal: AbortSignal.timeout(1000) });
  for await (const item of client.events("app.door", { buffer: 10, overflow: "latest" })) {
    if (item.type === "gap") console.log("missed some");
    else break;
  }
  return client.publish("app.door", { open: true }, { key: "front", retain: true, ttlS: 60 });
}

void follow().finally(() => client.close());

// @ts-expect-error a transport that there is not
connect("http://localhost:12080", { transport: "carrier-pigeon" });

const untyped: Client = connect();
untyped.on("any.thing", (event) => console.log(event.data.whatever));
untyped.reconnect();
