// Follows the gateway's events and shows the newest value of every type and key.
// Text from events only ever becomes text nodes.

import { Progress, address } from "./position.mjs";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 20000;
const ROWS = 1000;
const NOTICES = 50;
const DATA_CHARACTERS = 300;

const byId = (id) => document.getElementById(id);
const rows = new Map();
const changed = new Set();
const progress = new Progress();

let heartbeatS = 10;
let attempts = 0;
let watchdog = 0;
let drawing = false;

function connect() {
  const opening = progress.opening();
  const url = address(new URL("ws", document.baseURI), opening);
  url.protocol = url.protocol.replace("http", "ws");
  const token = sessionStorage.getItem("token");
  if (token) url.searchParams.set("token", token);
  showConnection("connecting", "");
  const socket = new WebSocket(url);
  let opened = false;
  let leaving = false;
  socket.addEventListener("open", () => {
    opened = true;
    byId("login").hidden = true;
    showConnection("live", "good");
  });
  socket.addEventListener("message", (message) => {
    if (leaving) return;
    attempts = 0;
    expectLife(socket);
    const event = JSON.parse(message.data);
    receive(event);
    if (event.type !== "welcome") return;
    // A resume names the patterns that the defaults were. Where it comes to nothing, they may be others by now.
    leaving = opening.types !== null && !event.data.resumed;
    if (leaving) socket.close();
    else socket.send('{"type":"ping"}'); // a gateway that is too old for "synced" answers behind the snapshots
  });
  socket.addEventListener("close", (event) => {
    clearTimeout(watchdog);
    ended(opened, event.code);
  });
}

// A browser cannot read why a handshake was refused: the status route says it.
async function ended(opened, code) {
  showConnection("disconnected", "bad");
  if (code === 4401 || (!opened && (await isUnauthenticated()))) {
    askForToken();
    return;
  }
  const longest = Math.min(FIRST_WAIT_MS * 2 ** attempts, LONGEST_WAIT_MS);
  attempts += 1;
  setTimeout(connect, longest * (0.5 + Math.random() / 2));
}

async function isUnauthenticated() {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    return (await fetch(new URL("api/v1/status", document.baseURI), { headers })).status === 401;
  } catch {
    return false;
  }
}

function askForToken() {
  byId("refusal").textContent = sessionStorage.getItem("token") ? "This token is not valid, or not any more." : "";
  sessionStorage.removeItem("token");
  byId("login").hidden = false;
  byId("token").focus();
}

function expectLife(socket) {
  clearTimeout(watchdog);
  watchdog = setTimeout(() => socket.close(), 3000 * heartbeatS);
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
    cell("td", time(retryAt)),
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
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", byId("token").value);
  byId("token").value = "";
  attempts = 0;
  connect();
});

connect();
