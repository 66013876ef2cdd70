// The section with the clients of the gateway, the slowest first, asked for every 5 s. No event tells of them, so the
// table says how old it is, and does not look current once an answer has failed to come.

import { bytes, counted, plain, span } from "./format.js";
import { refusalText } from "./refusal.js";
import { make, visible, write } from "./words.js";

const ASK_MS = 5000;
const OLD_MS = 12_000; // two answers are missing
const STILL_MS = 2000; // rows change places only if nobody has touched the table for so long
const ROWS = 200;
const FULL_BYTES = 262_144; // a bar is full at the queue of the slowest client, or at this, if that is more
const COLUMNS = ["Client", "Address", "Waiting", "Delivered", "Skipped", "Connected", "Subscriptions"];

/** @param {import("./app.js").Page} page */
export default function section(page) {
  return new Clients(page);
}

class Clients {
  /** @type {Map<string, Row>} */
  rows = new Map();
  /** @type {any[]} */
  all = [];
  answeredAt = -Infinity;
  askedAt = -Infinity;
  touchedAt = -Infinity;
  isAsking = false;
  failure = "";

  /** @param {import("./app.js").Page} page */
  constructor(page) {
    this.page = page;
    this.summary = make("p", { className: "quiet" }, "");
    this.error = make("p", { className: "error" }, "");
    this.body = make("tbody", {});
    const heads = COLUMNS.map((text) => make("th", { scope: "col" }, text));
    const head = make("thead", {}, make("tr", {}, ...heads));
    const caption = make("caption", { className: "only-read" }, "Clients, the slowest first");
    this.table = make("table", { className: "clients-table" }, caption, head, this.body);
    const title = make("h2", { id: "clients-title" }, "Clients");
    this.element = make("section", { className: "clients" }, title, this.summary, this.error, this.table);
    this.element.setAttribute("aria-labelledby", "clients-title");
    for (const kind of ["pointermove", "pointerdown", "keydown"]) {
      this.table.addEventListener(kind, () => { this.touchedAt = performance.now(); }, { passive: true });
    }
    explicit(this.table);
  }

  open() {
    this.askedAt = -Infinity;
  }

  close() {}

  paint() {
    const { client } = this.page;
    const isPaused = this.page.paused;
    if (!isPaused && !this.isAsking && performance.now() - this.askedAt >= ASK_MS) this.ask();
    const age = performance.now() - this.answeredAt;
    const isOld = age > OLD_MS || this.failure !== "" || isPaused || client.status.state !== "live";
    this.element.dataset.old = String(isOld && this.rows.size > 0);
    this.table.hidden = !this.rows.size;
    const none = isPaused ? "Paused: the gateway is not asked." : "Waiting for the gateway's answer…";
    const waiting = this.failure ? "" : none;
    write(this.summary, this.rows.size ? this.summaryText(age, isOld) : waiting);
    write(this.error, this.failure);
  }

  /** @param {number} age @param {boolean} isOld */
  summaryText(age, isOld) {
    const { all } = this;
    const slow = all.filter((one) => skippedOf(one) > 0).length;
    const parts = [counted(all.length, "client")];
    if (slow) parts.push(`${plain(slow)} read too slowly: events were skipped for ${slow === 1 ? "it" : "them"}`);
    if (all.length > ROWS) parts.push(`the slowest ${ROWS} are shown`);
    const text = parts.join(" · ");
    return isOld ? `? Not current, as of ${span(age / 1000)} ago: ${text}` : text;
  }

  async ask() {
    this.isAsking = true;
    this.askedAt = performance.now();
    try {
      const { clients } = await this.page.api("/api/v1/clients");
      this.all = clients.sort(slowerFirst);
      this.failure = "";
      this.answeredAt = performance.now();
      this.take(this.all.slice(0, ROWS));
    } catch (refused) {
      const { status } = /** @type {any} */ (refused);
      this.failure = `The clients could not be read: ${status ? refusalText(refused) : "the gateway did not answer."}`;
    } finally {
      this.isAsking = false;
      this.page.paint();
    }
  }

  /** @param {any[]} shown */
  take(shown) {
    const ids = new Set(shown.map(({ id }) => id));
    for (const [id, row] of this.rows) {
      if (ids.has(id)) continue;
      row.element.remove();
      this.rows.delete(id);
    }
    const most = Math.max(FULL_BYTES, ...shown.map((one) => one.queued_bytes));
    const isStill = performance.now() - this.touchedAt > STILL_MS;
    shown.forEach((one, n) => {
      const row = this.rows.get(one.id) ?? new Row(this.page);
      this.rows.set(one.id, row);
      row.paint(one, most);
      const place = this.body.children[n] ?? null;
      if (!row.element.parentNode || (isStill && place !== row.element)) this.body.insertBefore(row.element, place);
    });
  }
}

/** @param {any} a @param {any} b */
function slowerFirst(a, b) {
  return b.queued_bytes - a.queued_bytes || skippedOf(b) - skippedOf(a) || (a.connected_at < b.connected_at ? -1 : 1);
}

/** How many events were skipped for a client. @param {any} client @returns {number} */
function skippedOf({ skipped }) {
  return Object.values(skipped).reduce((sum, n) => sum + n, 0);
}

class Row {
  /** @param {import("./app.js").Page} page */
  constructor(page) {
    this.since = page.time("1970-01-01T00:00:00Z");
    this.bar = make("span", { className: "fill" });
    const bar = make("span", { className: "queue" }, this.bar);
    bar.setAttribute("aria-hidden", "true");
    const text = () => make("bdi", {}, "");
    this.cells = [text(), text(), text(), text(), text(), this.since, text()];
    const [id, ...others] = this.cells;
    const cells = [make("th", { scope: "row" }, id), ...others.map((cell) => make("td", {}, cell))];
    cells.forEach((cell, n) => { cell.dataset.label = COLUMNS[n]; });
    this.element = make("tr", {}, ...cells);
    this.element.children[2].append(bar);
    explicit(this.element);
  }

  /** @param {any} client @param {number} most bytes for which the bar is full */
  paint(client, most) {
    const skipped = skippedOf(client);
    const texts = [client.id, client.address, bytes(client.queued_bytes), plain(client.delivered),
      skipped ? plain(skipped) : "none", null, client.subscriptions.join(", ")];
    texts.forEach((text, n) => { if (text !== null) write(this.cells[n], visible(text)); });
    const types = Object.entries(client.skipped).map(([type, n]) => `${n} of ${visible(type)}`);
    this.cells[4].title = types.join(", ");
    this.bar.style.width = `${(100 * client.queued_bytes) / most}%`;
    this.element.classList.toggle("slow", client.queued_bytes > 0 || skipped > 0);
    this.since.dateTime = client.connected_at;
  }}

/** @type {Record<string, string>} */
const ROLES = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell" };

// A table that a phone shows as cards is none for a screen reader any more, unless it says so.
/** @param {HTMLElement} element */
function explicit(element) {
  for (const one of [element, ...element.querySelectorAll("thead, tbody, tr, td, th")]) {
    const head = one.getAttribute("scope") === "row" ? "rowheader" : "columnheader";
    one.setAttribute("role", one.tagName === "TH" ? head : ROLES[one.tagName]);
  }
}
