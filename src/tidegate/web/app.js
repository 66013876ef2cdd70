// Puts the page together: the session, the client, the parts of the page, and which section is shown.
// Whether a value is current is said by the client alone; nothing here judges that.

import { connect } from "./client.js";
import { clock, fullTime, relative } from "./format.js";
import { Head } from "./head.js";
import { History } from "./history.js";
import { keys } from "./keys.js";
import { Login } from "./login.js";
import { byId, write } from "./words.js";

const PAINT_MS = 250;
const STATUS_MS = 10000;
const PRELOAD_MS = 1000;
const ANNOUNCE_MS = 5000;
const ASKED_MS = 5000; // a request of the page that has no answer by then has failed

const SECTIONS = {
  values: () => import("./values.js"),
  value: () => import("./detail.js"),
  breakers: () => import("./breakers.js"),
  log: () => import("./log.js"),
  clients: () => import("./clients.js"),
};
const openPublish = () => import("./publish.js");
const NAMES = { value: "detail" };
const OWN_STYLE = ["breakers", "log", "clients", "publish"];

/** What sections and parts of the page work with. */
const page = {
  /** @type {any} */ client: null,
  /** @type {any} */ session: null,
  /** @type {any} */ status: null,
  paused: false,
  isKiosk: new URLSearchParams(location.search).has("kiosk"),
  showsAbsolute: false,
  valuesAddress: "#/values", // where the values were left
  history: new History(),
  /** @type {Map<string, { code: string, message: string }>} */
  errors: new Map(), // the newest error of each source
  token: () => sessionStorage.getItem("token"),
  api,
  refresh,
  announce,
  paint: () => requestAnimationFrame(paint),
  /** @param {string} role */
  has: (role) => Boolean(page.session?.roles.includes(role)),
  /** @param {string} hash */
  go: (hash) => { location.hash = hash; },
  /** @param {boolean} paused */
  pause: (paused) => { page.paused = paused; page.paint(); },
  time,
  publish: async () => (await module("publish", openPublish))(page).open(),
};

/** @typedef {typeof page} Page */

/** @type {Map<string, any>} */
const made = new Map();
/** @type {any} */
let shown = null;
let route = 0;
/** @type {(() => void)[]} */
let following = [];
const top = new Head(page);
const form = new Login(page, start);

/**
 * Ask the gateway. `json` is a body that is JSON already: a number in it keeps every digit.
 * @param {string} path @param {{ method?: string, body?: unknown, json?: string }} [request] @returns {Promise<any>}
 */
async function api(path, { method = "GET", body, json: text = JSON.stringify(body) } = {}) {
  const token = page.token();
  const headers = { ...(token && { Authorization: `Bearer ${token}` }), ...(text !== undefined && JSON_BODY) };
  const signal = AbortSignal.timeout(ASKED_MS);
  const url = new URL(path.replace(/^\//, ""), document.baseURI);
  const answer = await fetch(url, { method, headers, signal, body: text });
  const came = await answer.text();
  const isJson = answer.headers.get("Content-Type")?.includes("json");
  const json = isJson && came ? JSON.parse(came) : null;
  if (answer.ok) return json;
  const detail = json?.detail ?? `HTTP status ${answer.status}`;
  const retryAfterS = Number(answer.headers.get("Retry-After")) || null;
  throw Object.assign(new Error(detail), { status: answer.status, detail, retryAfterS });
}

const JSON_BODY = { "Content-Type": "application/json" };

/** Read the status of the gateway's sources and breakers anew. */
async function refresh() {
  try {
    page.status = await api("/api/v1/status");
  } catch {
    return; // the connection's own state says what is the matter
  }
  page.paint();
}

/** Read what this page may do; then connect, or ask for a token. @returns {Promise<void>} */
async function start() {
  try {
    page.session = await api("/api/v1/session");
  } catch (error) {
    form.cannotStart(/** @type {any} */ (error).detail);
    setTimeout(start, STATUS_MS / 2);
    return;
  }
  if (form.mustAsk()) return;
  if (page.client) page.client.reconnect();
  else open();
  follow();
  show();
}

function open() {
  page.client = connect(undefined, { token: () => page.token() });
  page.client.onStatus(heard);
  top.open();
  setInterval(tick, PAINT_MS);
  setInterval(() => { if (!document.hidden && isLive()) refresh(); }, STATUS_MS);
  addEventListener("hashchange", show);
  document.addEventListener("visibilitychange", page.paint);
  addEventListener("pagehide", draw); // what comes back out of the browser's cache is shown before any script runs
  keys(page, () => shown);
  if (page.isKiosk) kiosk();
}

function tick() {
  if (!document.hidden) page.paint();
}

/** For a wall: the screen stays on, as far as the browser allows it. */
function kiosk() {
  document.documentElement.classList.add("kiosk");
  const stayOn = () => { if (!document.hidden) navigator.wakeLock?.request("screen").catch(() => {}); };
  document.addEventListener("visibilitychange", stayOn);
  stayOn();
}

const isLive = () => page.client.status.state === "live";

/** Follow what the session allows, and no longer what it does not. */
function follow() {
  for (const end of following) end();
  const patterns = page.session.types ?? ["*"];
  const own = patterns.includes("*") ? [] : ["circuit_breaker.state", "heartbeat", "notification", "rpc_error"];
  following = [...patterns, ...own].map((pattern) => page.client.on(pattern, arrived));
}

/** @param {any} event */
function arrived(event) {
  page.history.add(event, page.client.now());
  if (event.type === "rpc_error") {
    const { source, error_code: code, message } = event.data;
    page.errors.set(source, { code, message });
  }
  top.arrived(event);
}

let isSeenLive = false;

/** @param {any} status */
async function heard(status) {
  page.paint();
  if (status.state === "refused") form.refused(status);
  const wasLive = isSeenLive;
  isSeenLive = status.state === "live";
  if (wasLive || !isSeenLive) return; // the rest is for when it has become live: sources and rights may be others now
  refresh();
  setTimeout(preload, PRELOAD_MS);
  const before = page.session;
  page.session = await api("/api/v1/session").catch(() => before);
  if (JSON.stringify(before.types) !== JSON.stringify(page.session.types)) follow();
  if (page.isKiosk && before.version !== page.session.version) location.reload();
}

/** A section's or dialog's function, with the style that it needs. @param {string} name @param {() => Promise<any>} load */
async function module(name, load) {
  if (OWN_STYLE.includes(name) && !byId("sections-style")) {
    const link = Object.assign(document.createElement("link"), { id: "sections-style", rel: "stylesheet", href: "sections.css" });
    document.head.append(link);
    await new Promise((done, fail) => {
      link.onload = done;
      link.onerror = fail;
    }).catch(() => link.remove()); // and asked for again the next time
  }
  return (await load()).default;
}

/** Load all sections, so that they are there when the gateway is not. */
function preload() {
  if (!isLive()) return;
  for (const [name, load] of Object.entries({ ...SECTIONS, publish: openPublish })) module(name, load).catch(() => {});
}

/** The section of this name; undefined if the gateway does not give its script. @param {keyof typeof SECTIONS} name */
async function sectionOf(name) {
  try {
    if (!made.has(name)) made.set(name, (await module(name, SECTIONS[name]))(page));
  } catch (error) {
    reportError(error);
    top.notice("This section cannot be shown: the gateway did not answer when its script was asked for", "error");
  }
  return made.get(name);
}

/** Show the section that the address names. */
async function show() {
  const hash = location.hash.startsWith("#/") ? location.hash.slice(2) : "values";
  const [path, query] = hash.split("?");
  const [first, ...rest] = path.split("/").map(decoded);
  const name = Object.hasOwn(SECTIONS, first) ? /** @type {keyof typeof SECTIONS} */ (first) : "values";
  const mine = ++route;
  const next = await sectionOf(name);
  if (!next || mine !== route) return; // another one was asked for meanwhile
  const main = byId("main");
  const isFirst = shown === null;
  if (shown !== next) {
    shown?.close();
    shown?.element.remove();
    shown = next;
    main.append(next.element);
    main.dataset.section = NAMES[/** @type {keyof typeof NAMES} */ (name)] ?? name;
  }
  byId("loading").hidden = true;
  markLink(name);
  next.open(rest, new URLSearchParams(query));
  paint();
  if (!isFirst) focusSection(main);
}

/** Whoever types an address by hand need not write %25 for a percent sign. @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** @param {string} name */
function markLink(name) {
  const current = name === "value" ? "values" : name;
  for (const link of byId("nav").children) {
    if (link.getAttribute("href") === `#/${current}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** Whoever reads with a screen reader is taken to what has come. @param {HTMLElement} main */
function focusSection(main) {
  if (shown.element.contains(document.activeElement) || shown.focus?.()) return;
  main.focus({ preventScroll: true });
}

function paint() {
  if (!document.hidden) draw();
}

function draw() {
  try {
    top.paint();
    for (const element of document.getElementsByTagName("time")) if (element.dataset.live) keepTime(element);
    shown?.paint();
    document.body.classList.remove("failed");
  } catch (error) {
    // What was drawn before would go on saying that it is fresh.
    document.body.classList.add("failed");
    if (String(error) !== failure) reportError(error);
    failure = String(error);
  }
}

let failure = "";

/** A `<time>` whose text is kept current. @param {string} iso */
function time(iso) {
  const element = document.createElement("time");
  element.dateTime = iso;
  element.dataset.live = "true";
  keepTime(element);
  return element;
}

/** @param {HTMLTimeElement} element */
function keepTime(element) {
  const at = Date.parse(element.dateTime);
  if (Number.isNaN(at)) return;
  const now = page.client ? page.client.now() : Date.now();
  write(element, page.showsAbsolute ? clock(at, now) : relative(at, now));
  if (element.dataset.at === element.dateTime) return;
  element.dataset.at = element.dateTime;
  element.title = fullTime(at);
}

/** @type {{ text: string, at: number, timer: any }} */
const polite = { text: "", at: -ANNOUNCE_MS, timer: 0 };

/** Tell a screen reader: at once, or politely and at most every 5 s, the newest text. @param {string} text @param {{ assertive?: boolean }} [how] */
function announce(text, { assertive = false } = {}) {
  if (assertive) {
    write(byId("assertive"), text);
    return;
  }
  polite.text = text;
  if (polite.timer) return;
  polite.timer = setTimeout(() => {
    polite.timer = 0;
    polite.at = performance.now();
    write(byId("polite"), polite.text);
  }, Math.max(0, polite.at + ANNOUNCE_MS - performance.now()));
}

start();
