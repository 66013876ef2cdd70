// Follows the gateway's events and shows the newest value of every type and key.
// Text from events only ever becomes text nodes.

import { Progress, address } from "./position.mjs";
import { Reconnect } from "./reconnect.mjs";

const WELCOME_MS = 10000; // an attempt that has not brought a message by then is given up
const SESSION_MS = 5000;
const BAD_TOKEN = [4401, 4403];
const FINAL = [1002, 1003, 1007, 1009, 1010]; // close codes after which another attempt would end the same way
const ROWS = 1000;
const NOTICES = 50;
const DATA_CHARACTERS = 300;

const byId = (id) => document.getElementById(id);
const rows = new Map();
const changed = new Set();
const progress = new Progress();

const reconnect = new Reconnect();

let heartbeatS = 10;
let attempts = 0;
let hasFailed = false; // whether the newest attempt brought no connection
let link = null; // the newest connection; what others still say is ignored
let timer = 0;
let watchdog = 0;
let drawing = false;

function connect() {
  drop();
  attempts += 1;
  reconnect.tries(performance.now());
  schedule();
  showConnection("connecting", "");
  // Browsers delay a WebSocket by seconds after others have failed, so a gateway that was away is looked for first.
  if (hasFailed) look(attempts);
  else open();
}

function open() {
  const opening = progress.opening();
  const url = address(new URL("ws", document.baseURI), opening);
  url.protocol = url.protocol.replace("http", "ws");
  const token = sessionStorage.getItem("token");
  if (token) url.searchParams.set("token", token);
  const socket = new WebSocket(url);
  link = socket;
  hasFailed = true;
  expectLife(WELCOME_MS);
  socket.addEventListener("open", () => {
    if (link !== socket) return;
    hasFailed = false;
    byId("login").hidden = true;
    showConnection("live", "good");
  });
  socket.addEventListener("message", (message) => {
    if (link !== socket) return;
    const event = JSON.parse(message.data);
    receive(event);
    expectLife(3000 * heartbeatS);
    if (event.type !== "welcome") return;
    reconnect.welcomed(performance.now());
    schedule();
    // A resume names the patterns that the defaults were. Where it comes to nothing, they may be others by now.
    if (opening.types !== null && !event.data.resumed) connect();
    else socket.send('{"type":"ping"}'); // a gateway that is too old for "synced" answers behind the snapshots
  });
  socket.addEventListener("close", (event) => {
    if (link !== socket) return;
    drop();
    if (BAD_TOKEN.includes(event.code)) askForToken();
    else if (FINAL.includes(event.code)) stop(`refused: ${event.reason || `close code ${event.code}`}`);
    else lost();
  });
}

// Leave the newest connection, if there is one. Its own end would come up to a minute later if the other side is gone.
function drop() {
  clearTimeout(watchdog);
  link?.close();
  link = null;
}

function expectLife(withinMs) {
  clearTimeout(watchdog);
  watchdog = setTimeout(() => {
    drop();
    lost();
  }, withinMs);
}

function lost() {
  waitForNext();
  if (hasFailed) askWhy(attempts);
}

function waitForNext() {
  showConnection("disconnected", "bad");
  reconnect.lost(performance.now(), Math.random());
  schedule();
}

function stop(text) {
  reconnect.stop();
  schedule();
  showConnection(text, "bad");
}

function schedule() {
  clearTimeout(timer);
  if (reconnect.dueAt !== null) timer = setTimeout(connect, Math.max(0, reconnect.dueAt - performance.now()));
}

// A browser cannot read why a handshake was refused: the session says it.
async function askWhy(attempt) {
  const session = await readSession();
  if (attempts !== attempt) return; // the next attempt finds out by itself
  if (needsToken(session)) askForToken();
  else if (session.retry_after_s) {
    reconnect.putOff(1000 * session.retry_after_s, performance.now(), Math.random());
    schedule();
  }
}

// The first half of an attempt: whether the gateway is there, and would admit us.
async function look(attempt) {
  const session = await readSession();
  if (attempts !== attempt) return;
  if (session.retry_after_s) reconnect.notWithin(1000 * session.retry_after_s, performance.now());
  if (needsToken(session)) askForToken();
  else if (session.isAway || session.retry_after_s) waitForNext();
  else open();
}

function needsToken({ authenticated, roles }) {
  return authenticated === false || (authenticated === true && !roles.includes("subscriber"));
}

// The session; or what is known without one, as while something else answers in the gateway's place.
async function readSession() {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    const signal = AbortSignal.timeout(SESSION_MS);
    const answer = await fetch(new URL("api/v1/session", document.baseURI), { headers, signal });
    if (answer.ok) return await answer.json();
    return { isAway: answer.status >= 500, retry_after_s: Number(answer.headers.get("Retry-After")) };
  } catch {
    return { isAway: true };
  }
}

function askForToken() {
  stop("disconnected");
  byId("refusal").textContent = sessionStorage.getItem("token") ? "This token is not valid, or not any more." : "";
  sessionStorage.removeItem("token");
  byId("login").hidden = false;
  byId("token").focus();
}

function receive(event) {
  progress.take(event);
  switch (event.type) {
    case "welcome":
      heartbeatS = event.data.heartbeat_interval_s;
      if (!event.data.resumed) forgetEverything();
      break;
    case "rpc_error":
      notice(event, `${event.data.source}: ${event.data.error_code}: ${event.data.message}`);
      break;
    case "notification":
      // To this client alone: of a drain.
      if (event.data.retry_after_ms) reconnect.notWithin(event.data.retry_after_ms, performance.now());
      notice(event, event.data.message);
      break;
    case "connection_error":
      notice(event, event.data.message);
      break;
    case "gap":
      notice(event, `events are missing here (${event.data.reason})`);
      break;
    case "source.freshness":
    case "heartbeat":
    case "synced":
    case "pong":
      break;
    default:
      keep(event);
  }
  draw();
}

function forgetEverything() {
  for (const row of rows.values()) row.element?.remove();
  rows.clear();
  changed.clear();
}

function keep(event) {
  const name = JSON.stringify([event.type, event.key ?? ""]);
  const before = rows.get(name);
  if (event.gone) {
    before?.element?.remove();
    rows.delete(name);
    changed.delete(name);
    return;
  }
  if (!before && rows.size >= ROWS) return;
  const turned = !before || before.event.stale !== event.stale;
  rows.set(name, { ...before, event, since: turned ? event.timestamp : before.since });
  changed.add(name);
}

function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    byId("position").textContent = progress.position ? `position ${progress.position}` : "";
    for (const name of changed) drawRow(rows.get(name));
    changed.clear();
    for (const { body, optional } of TABLES) if (optional) byId(`${body}-section`).hidden = !byId(body).rows.length;
  });
}

// Where an event is shown: in the first table that is for such. With `newest` its rows are sorted by that.
const TABLES = [
  { body: "breakers", isFor: ({ type }) => type === "circuit_breaker.state", cells: breakerCells },
  { body: "jobs", isFor: isJob, cells: jobCells, optional: true, newest: (job) => job.submitted_at },
  { body: "agents", isFor: isAgent, cells: agentCells, optional: true },
  { body: "values", isFor: () => true, cells: valueCells },
];

// The reference engine's; whoever publishes something else under these names finds it among the values.
function isJob({ type, key, data }) {
  return type === "compression.update" && key && typeof data?.percent === "number" && typeof data.state === "string";
}

function isAgent({ type, key, data }) {
  return type === "agent.status" && key && typeof data?.state === "string" && "jobs_done" in data;
}

function drawRow(row) {
  const table = TABLES.find(({ isFor }) => isFor(row.event));
  if (row.table !== table) {
    row.table = table;
    row.element?.remove();
    row.element = document.createElement("tr");
    const newest = table.newest?.(row.event.data) ?? "";
    row.element.dataset.newest = newest;
    const older = [...byId(table.body).rows].find((element) => element.dataset.newest < newest);
    byId(table.body).insertBefore(row.element, older ?? null);
  }
  row.element.replaceChildren(...table.cells(row));
}

function jobCells(row) {
  const job = row.event.data;
  row.progress ??= Object.assign(document.createElement("progress"), { max: 100 });
  row.progress.value = progressOf(job);
  row.progress.setAttribute("aria-label", `progress of job ${row.event.key}`);
  const progress = document.createElement("td");
  progress.append(row.progress, ` ${Math.floor(progressOf(job))} %`);
  const outcome = cell("td", job.error ? job.error.message : job.destination);
  outcome.className = "text";
  return [
    rowHead(row.event.key),
    badgeCell(...badgesOf(row.event, { done: "good", failed: "bad" })),
    progress,
    cell("td", job.rate_bytes_per_s == null ? "" : `${size(job.rate_bytes_per_s)}/s`),
    cell("td", job.eta_s == null ? "" : span(job.eta_s)),
    cell("td", job.ratio == null ? "" : job.ratio.toFixed(2)),
    outcome,
  ];
}

// Reading fills the bar once, verifying once again.
function progressOf(job) {
  return job.state === "verifying" && job.bytes_read
    ? Math.min(100, (100 * job.bytes_verified) / job.bytes_read)
    : job.percent;
}

function agentCells({ event }) {
  const agent = event.data;
  const trouble = cell("td", agent.error ?? "");
  trouble.className = "text";
  return [
    rowHead(event.key),
    badgeCell(...badgesOf(event, { idle: "good", error: "bad" })),
    cell("td", agent.job ?? ""),
    cell("td", agent.cpu_percent == null ? "" : `${agent.cpu_percent} %`),
    cell("td", agent.memory_bytes == null ? "" : size(agent.memory_bytes)),
    cell("td", agent.jobs_done),
    cell("td", agent.jobs_failed),
    cell("td", agent.pid ?? ""),
    trouble,
  ];
}

// What it said of itself, and why that may not hold any more.
function badgesOf(event, kinds) {
  const state = [event.data.state, kinds[event.data.state] ?? ""];
  return event.stale ? [state, staleness(event)] : [state];
}

function size(bytes) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (bytes < 1000) return `${unit === "B" ? bytes : bytes.toFixed(1)} ${unit}`;
    bytes /= 1000;
  }
  return `${bytes.toFixed(1)} TB`;
}

function span(seconds) {
  return seconds < 100 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

function valueCells({ event, since }) {
  const data = JSON.stringify(event.data, null, 1).replace(/\n */g, " ");
  const shown = cell("td", data.length > DATA_CHARACTERS ? `${data.slice(0, DATA_CHARACTERS)}…` : data);
  shown.className = "data";
  return [
    rowHead(event.type),
    cell("td", event.key ?? ""),
    badgeCell(staleness(event)),
    cell("td", time(since)),
    cell("td", time(event.as_of)),
    shown,
  ];
}

function breakerCells({ event }) {
  const { breaker, state, forced, failure_count: failures, retry_at: retryAt } = event.data;
  const kind = { closed: "good", open: "bad" }[state] ?? "";
  return [
    rowHead(breaker),
    badgeCell([`${state.replace("_", "-")}${forced ? " (forced)" : ""}`, kind]),
    cell("td", time(event.timestamp)),
    cell("td", String(failures)),
    cell("td", retryAt ? `by ${time(retryAt)} at the latest, sooner if it can be reached` : ""),
  ];
}

function staleness(event) {
  if (event.expired) return [`expired ${event.error_code ?? ""}`, "bad"];
  if (event.stale) return [`stale ${event.error_code ?? ""}`, "bad"];
  return event.stale === false ? ["fresh", "good"] : ["published", ""];
}

function rowHead(text) {
  const head = cell("th", text);
  head.scope = "row";
  return head;
}

function badgeCell(...badges) {
  const around = document.createElement("td");
  for (const [text, kind] of badges) {
    const badge = cell("span", text);
    badge.className = `badge ${kind}`;
    around.append(badge, " ");
  }
  return around;
}

function cell(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}

function time(text) {
  return text ? new Date(text).toLocaleTimeString() : "";
}

function notice(event, text) {
  const list = byId("notices");
  list.prepend(cell("li", `${time(event.timestamp)} ${text}`));
  while (list.children.length > NOTICES) list.lastChild.remove();
}

function showConnection(text, kind) {
  byId("connection").textContent = text;
  byId("connection").className = `badge ${kind}`;
  document.body.classList.toggle("away", kind !== "good"); // what the tables say may not be true any more
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", byId("token").value);
  byId("token").value = "";
  hasFailed = false;
  connect();
});

function hear(told) {
  reconnect.hears(told, performance.now(), Math.random());
  schedule();
}

window.addEventListener("online", () => hear("online"));
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") hear("shown");
});

connect();
