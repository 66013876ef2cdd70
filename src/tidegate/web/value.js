// `<tidegate-value>`: one value of a gateway on anybody's page. It looks current only while the gateway vouches for it.
// Owns the element, and the clients that elements of one gateway share. What it says of a value depends on the value,
// the connection and the attributes alone. Knows nothing of the dashboard, and nothing of the page that it is on.
// docs/javascript.md explains its use.

import { connect } from "./client.js";
import { clock, fields, relative, span } from "./format.js";
import { reasonInWords, setShape, shape, stateInWords, visible, write } from "./words.js";

/** @typedef {import("./client.js").Client} Client */
/** @typedef {import("./client.js").Status} Status */
/** @typedef {import("./client.js").Value} Value */
/** @typedef {import("./client.js").Options} Options */
/**
 * What an element shows. `state` is a value's, or `none` (there is no such value), `waiting` (nothing is known yet) or
 * `refused` (the gateway lets nothing through).
 * @typedef {{ state: string, shape: string, text: string, note: string, reason: string }} Sight
 */

const HOME = new URL(".", import.meta.url);
const GRACE_MS = 5000; // a page that replaces its elements keeps its connection
const TICK_MS = 1000;
const LONG = 16; // characters: more than a number with its unit
const NOTHING = "\u2013";
const TYPE = /^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/;

const STYLE = `
:host { font-variant-numeric: tabular-nums; }
:host([hidden]) { display: none; }
.shape { width: 0.75em; height: 0.75em; vertical-align: -0.05em; color: var(--tidegate-color, currentColor); }
.reason { display: none; }
.fresh .note { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
.note { font-size: 0.85em; }
.value { overflow-wrap: anywhere; }
.stale .value, .unvouched .value { text-decoration: underline dotted 1px; text-underline-offset: 0.2em; }
.unvouched .value { opacity: 0.75; font-style: italic; }
.fresh { --tidegate-color: var(--tidegate-good, color-mix(in srgb, currentColor 35%, #1d9a63)); }
.stale, .expired { --tidegate-color: var(--tidegate-wait, color-mix(in srgb, currentColor 35%, #d18a00)); }
.never, .none, .refused { --tidegate-color: var(--tidegate-bad, color-mix(in srgb, currentColor 35%, #d5352f)); }
`;

const SHEET = new CSSStyleSheet(); // allowed by a page's `style-src 'self'`, as a style element would not be
SHEET.replaceSync(STYLE);

// A page's other modules may still say how to connect: they run before this.
const isLoaded = document.readyState === "complete" ? Promise.resolve() : new Promise((resolve) => {
  for (const name of ["DOMContentLoaded", "load"]) addEventListener(name, resolve, { once: true });
});

// The clients that elements share, one for each gateway.
class Gateway {
  /** @type {Map<string, Gateway>} */
  static #known = new Map();
  /** @type {Set<TidegateValue>} */
  #elements = new Set();
  /** @type {Client | null} */
  #client = null;
  /** @type {Options} */
  #options = {};
  #timer = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);

  /** @param {string} url @returns {Gateway} */
  static at(url) {
    const gateway = Gateway.#known.get(url) ?? new Gateway(url);
    Gateway.#known.set(url, gateway);
    return gateway;
  }

  /** @param {string} url */
  constructor(url) {
    this.url = url;
  }

  /** @param {Options} options */
  configure(options) {
    this.#options = options;
    this.#close();
    for (const element of this.#elements) element.refresh();
  }

  /** @param {TidegateValue} element @returns {Client} */
  join(element) {
    clearTimeout(this.#timer);
    this.#elements.add(element);
    this.#client ??= connect(this.url, this.#options);
    return this.#client;
  }

  /** @param {TidegateValue} element */
  leave(element) {
    this.#elements.delete(element);
    clearTimeout(this.#timer);
    if (!this.#elements.size) this.#timer = setTimeout(() => this.#close(), GRACE_MS);
  }

  #close() {
    this.#client?.close();
    this.#client = null;
  }
}

// The ages in all elements are written anew each second, while somebody may see them.
const ticker = {
  elements: /** @type {Set<TidegateValue>} */ (new Set()),
  timer: /** @type {ReturnType<typeof setInterval> | undefined} */ (undefined),

  /** @param {TidegateValue} element */
  add(element) {
    this.elements.add(element);
    this.timer ??= setInterval(() => document.hidden || this.elements.forEach((one) => one.paint()), TICK_MS);
  },

  /** @param {TidegateValue} element */
  remove(element) {
    this.elements.delete(element);
    if (this.elements.size) return;
    clearInterval(this.timer);
    this.timer = undefined;
  },
};

/**
 * Say how the elements of a gateway connect: `configure({ token: () => … })`. A token that is given so is in no
 * attribute, and so not in the document. May be called at any time: elements that are connected already connect again.
 * @param {Options} options as for `connect` of client.js
 * @param {string | URL} [gateway] where not the one that this module came from
 */
export function configure(options, gateway = HOME) {
  Gateway.at(folder(gateway)).configure(options);
}

/** The gateway's URL, which always ends in a slash. @param {string | URL} url */
function folder(url) {
  const { origin, pathname, protocol } = new URL(url, document.baseURI);
  if (!/^https?:$/.test(protocol)) throw new TypeError(`expected a gateway's URL with http or https, got ${url}`);
  return `${origin}${pathname.replace(/\/*$/, "/")}`;
}

/**
 * What a field's path leads to: `disks.0.used_bytes`, or `/disks/0/used_bytes` (RFC 6901). undefined: nothing there.
 * @param {any} data @param {string} path "" is all of it
 */
function found(data, path) {
  if (!path) return data;
  const names = path.startsWith("/")
    ? path.slice(1).split("/").map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"))
    : path.split(".");
  return names.reduce((at, name) => (at instanceof Object && Object.hasOwn(at, name) ? at[name] : undefined), data);
}

/** As one line of text. @param {string} name which may end with a unit @param {any} data */
function shown(name, data) {
  if (name === "text" && (data === null || typeof data !== "object")) return String(data);
  return fields(name, data).fields.map((field) => `${field.name} ${field.text}`.trim()).join(" \u00b7 ");
}

/** Why, and since when: one sentence or more. @param {Value} value @param {Status} status @param {number} now */
function reasonOf(value, status, now) {
  const said = [];
  if (value.state === "unvouched") said.push(`no contact with the gateway${status.reason ? `: ${status.reason}` : ""}`);
  if (value.error_code) said.push(reasonInWords(value));
  if (value.retry_at) said.push(`asked again by ${clock(Date.parse(value.retry_at), now)} at the latest`);
  if (value.stale === null) said.push(`published at ${clock(Date.parse(value.timestamp), now)}`);
  if (value.as_of) said.push(`as of ${clock(Date.parse(value.as_of), now)}`);
  if (value.source) said.push(`from ${value.source}`);
  return said.join("; ");
}

/** What stands behind the value. @param {Value} value @param {number} now */
function noteOf(value, now) {
  const word = stateInWords(value, now);
  if (value.state === "unvouched") return `${word}, not confirmed for ${span((now - value.since) / 1000)}`;
  if (value.state === "published") return `${word} ${relative(Date.parse(value.timestamp), now)}`;
  return word;
}

/** @param {string} state @param {string} shape */
const nothing = (state, shape) => ({ state, shape, text: NOTHING, note: "", reason: "" });

const CONNECTING = { ...nothing("waiting", "busy"), note: "connecting" };

/** Why there is no value. @param {Status} status @param {boolean} isComplete what the gateway has is here */
function absence(status, isComplete) {
  if (status.state === "refused") return { ...nothing("refused", "never"), note: `refused: ${status.reason}` };
  if (status.state === "live" && isComplete) {
    return { ...nothing("none", "never"), note: `no such value${status.reason ? `: ${status.reason}` : ""}` };
  }
  const isTrying = status.state === "live" || (status.state === "connecting" && status.attempt < 2);
  if (isTrying) return CONNECTING;
  return { ...nothing("waiting", "unvouched"), note: status.reason ?? "no contact with the gateway" };
}

/** What a value is seen as. @param {Value} value @param {Status} status @param {number} now @param {Element} element */
function sightOf(value, status, now, element) {
  const path = element.getAttribute("field") ?? "";
  const isEmpty = value.data === null && value.stale === true; // never answered, or expired
  const data = isEmpty ? undefined : found(value.data, path);
  if (data === undefined && !isEmpty) return { ...nothing("none", "never"), note: `no field ${path} in ${value.type}` };
  const format = element.getAttribute("format");
  const name = format ? format.replace(/^(?!text$)/, "_") : (path || value.type).split(/[./]/).at(-1) ?? "";
  return {
    state: value.state,
    shape: value.state,
    text: isEmpty ? NOTHING : shown(name, data),
    note: noteOf(value, now),
    reason: reasonOf(value, status, now),
  };
}

/** `<tidegate-value>`. */
export class TidegateValue extends HTMLElement {
  static observedAttributes = ["type", "key", "field", "format", "label", "gateway"];

  #parts = {
    label: document.createElement("span"),
    shape: shape("unvouched"),
    value: document.createElement("bdi"),
    note: document.createElement("span"),
    reason: document.createElement("span"),
  };
  #all = document.createElement("span");
  #isPlanned = false;
  #mistake = ""; // what is wrong with the attributes
  /** @type {Client | null} */
  #own = null;
  /** @type {Gateway | null} */
  #gateway = null;
  /** @type {Client | null} */
  #client = null;
  #type = "";
  /** @type {(() => void)[]} */
  #stops = [];
  #isComplete = false; // the values that the gateway has of this type are here

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [SHEET];
    this.#all.setAttribute("role", "group");
    this.#all.setAttribute("part", "all");
    for (const [name, part] of Object.entries(this.#parts)) {
      part.setAttribute("part", name);
      part.classList.add(name);
      this.#all.append(part, " ");
    }
    root.append(this.#all);
  }

  /** The client that brings the value. Set one of your own, and it is used and left open; null: a shared one again. */
  get client() {
    return this.#own ?? this.#client;
  }

  set client(client) {
    this.#own = client;
    this.refresh();
  }

  connectedCallback() {
    if (Object.hasOwn(this, "client")) {
      const early = this.client; // set before this module was loaded
      delete (/** @type {any} */ (this).client);
      this.client = early;
    }
    ticker.add(this);
    this.paint();
    this.refresh();
  }

  disconnectedCallback() {
    ticker.remove(this);
    this.refresh();
  }

  attributeChangedCallback() {
    this.refresh();
  }

  /** Look at the attributes again, once for all changes of one turn: an element that is moved keeps what it follows. */
  refresh() {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    isLoaded.then(() => {
      this.#isPlanned = false;
      this.#follow();
      this.paint();
    });
  }

  #follow() {
    const type = this.getAttribute("type") ?? "";
    this.#mistake = TYPE.test(type) ? "" : `expected an event type in the attribute type, got "${type}"`;
    const isWanted = this.isConnected && !this.#mistake;
    const gateway = isWanted && !this.#own ? this.#chosen() : null;
    if (this.#gateway !== gateway) this.#gateway?.leave(this);
    this.#gateway = gateway;
    const client = gateway ? gateway.join(this) : isWanted ? this.#own : null;
    if (client !== this.#client || type !== this.#type) this.#subscribe(client, type);
  }

  /** The gateway of the attribute, or the one that this module came from. */
  #chosen() {
    const url = this.getAttribute("gateway");
    try {
      return Gateway.at(folder(url || HOME));
    } catch {
      this.#mistake = `expected a URL in the attribute gateway, got "${url}"`;
      return null;
    }
  }

  /** @param {Client | null} client @param {string} type */
  #subscribe(client, type) {
    for (const stop of this.#stops) stop();
    this.#client = client;
    this.#type = type;
    this.#isComplete = false;
    this.#stops = [];
    if (!client) return;
    const paint = () => this.paint();
    const following = new AbortController();
    this.#stops = [client.store.subscribe(type, paint), client.onStatus(paint), () => following.abort()];
    client.ready({ signal: following.signal }).then(() => {
      if (following.signal.aborted) return;
      this.#isComplete = true;
      this.paint();
    }, () => {}); // closed, or not wanted any more
  }

  /** Write what is to be seen now. Texts of the gateway become text nodes only. */
  paint() {
    const sight = this.#sight();
    const label = this.getAttribute("label");
    const field = [this.#type, this.getAttribute("key"), this.getAttribute("field")].filter(Boolean).join(" ");
    write(this.#parts.label, label ?? "");
    write(this.#parts.value, visible(sight.text));
    write(this.#parts.note, visible(sight.note));
    write(this.#parts.reason, visible(sight.reason));
    for (const name of /** @type {const} */ (["shape", "value"])) {
      setAttribute(this.#parts[name], "part", sight.text.length > LONG ? `${name} long` : name);
    }
    setShape(this.#parts.shape, sight.shape);
    setAttribute(this.#all, "class", `all ${sight.state}`);
    setAttribute(this.#all, "title", visible(sight.reason));
    setAttribute(this.#all, "aria-label", label || field);
    setAttribute(this, "state", sight.state);
  }

  /** A source of items that was never answered is one value without a key. @param {Client["store"]} store */
  #newest(store) {
    const value = store.get(this.#type, this.getAttribute("key") || undefined);
    const instead = value ? undefined : store.get(this.#type);
    return instead?.as_of === null && instead.data === null && instead.stale ? instead : value;
  }

  /** @returns {Sight} */
  #sight() {
    if (this.#mistake) return { ...nothing("none", "never"), note: this.#mistake };
    if (!this.#client) return CONNECTING;
    const { status, store } = this.#client;
    const value = this.#newest(store);
    return value ? sightOf(value, status, this.#client.now(), this) : absence(status, this.#isComplete);
  }
}

/** @param {Element} element @param {string} name @param {string} value */
function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// A page may have loaded this module from two gateways.
if (!customElements.get("tidegate-value")) customElements.define("tidegate-value", TidegateValue);
