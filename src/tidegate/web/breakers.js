// The section with a card for each circuit breaker: its state, what happens next, and what it did in 30 minutes.
// What a breaker is and how that is said is in breaker.js, the commands of operators in breaker-command.js.

import { Breaker, breakerNameOf, failuresText, moveWord, nextText, outageText, reasonText, stateText } from "./breaker.js";
import { Commands } from "./breaker-command.js";
import { values } from "./counts.js";
import { clock, counted } from "./format.js";
import { spans, timeline } from "./spark.js";
import { codeInWords, make, setShape, shape, stateInWords, visible, write } from "./words.js";

const ASK_MS = 2000; // counts of failures are told by no event
const SOON_MS = 500;
const STILL_MS = 2000; // cards change places only if nobody has touched the page for so long
const PIPS = 10;
const SOURCES = 12;

/** @param {import("./app.js").Page} page */
export default function section(page) {
  return new Breakers(page);
}

class Breakers {
  /** @type {Map<string, Card>} */
  cards = new Map();
  /** @type {any} */
  status = null; // the newest whole status that was taken
  askedAt = -Infinity;
  isAsking = false;
  touchedAt = -Infinity;
  order = "";
  /** @type {any[]} */
  /** @type {Map<string, any[]>} */
  sources = new Map(); // by the name of their breaker
  /** @type {Map<string, any>} */
  worst = new Map(); // of the values of each type, the one in the worst state
  /** @type {string | null} */
  named = null; // the breaker that the address names, until it has been brought into view
  missing = "";
  /** @type {any[]} */
  held = []; // what came during a pause: until it ends, nothing on the screen changes but the ages

  /** @param {import("./app.js").Page} page */
  constructor(page) {
    this.page = page;
    this.heading = make("h2", { id: "breakers-title" }, "Circuit breakers");
    this.summary = make("p", { className: "quiet" }, "");
    this.grid = make("div", { className: "breaker-grid" });
    this.empty = make("p", { className: "card quiet", hidden: true }, "");
    this.commands = new Commands(page, (name, status) => this.card(name).breaker.told(status, page.client.now()));
    const parts = [this.heading, this.summary, this.empty, this.grid, this.commands.element];
    this.element = make("section", { className: "breakers" }, ...parts);
    this.element.setAttribute("aria-labelledby", "breakers-title");
    for (const kind of ["pointermove", "pointerdown", "keydown"]) {
      this.element.addEventListener(kind, () => { this.touchedAt = performance.now(); }, { passive: true });
    }
    page.client.on("circuit_breaker.state", (/** @type {any} */ event) => this.moved(event));
    page.client.on("rpc_error", () => {
      this.askedAt = Math.min(this.askedAt, performance.now() - ASK_MS + SOON_MS);
    });
    page.client.onStatus((/** @type {any} */ status) => {
      if (status.state !== "live") for (const { breaker } of this.cards.values()) breaker.lost(status.since);
    });
  }

  /** @param {string[]} rest */
  open(rest) {
    this.named = rest.length ? rest.join("/") : null;
    this.missing = "";
    this.order = "";
  }

  close() {}

  /** @param {any} event */
  moved(event) {
    if (this.page.paused) this.held.push(event);
    else if (event.gone) this.remove(event.key);
    else this.card(event.key).breaker.moved(event, this.page.client.now());
  }

  /** @param {string} name */
  card(name) {
    let card = this.cards.get(name);
    if (!card) {
      card = new Card(this.page, new Breaker(name), this.commands);
      this.cards.set(name, card);
      this.order = "";
    }
    return card;
  }

  /** @param {string} name */
  remove(name) {
    this.cards.get(name)?.element.remove();
    this.cards.delete(name);
  }

  paint() {
    const { client, status, paused } = this.page;
    if (!paused) {
      for (const event of this.held.splice(0)) this.moved(event);
      if (status && status !== this.status) this.take(status);
      this.ask();
    }
    this.judge(values(client));
    const now = client.now();
    for (const card of this.cards.values()) card.paint(now, this.sources.get(card.breaker.name) ?? [], this.worst);
    this.arrange();
    this.paintSummary();
    this.show();
  }

  // One pass over all values: a list for each source would cost more.
  /** @param {readonly any[]} all */
  judge(all) {
    this.worst = new Map();
    for (const value of all) {
      const before = this.worst.get(value.type);
      if (!before || badness(value) < badness(before)) this.worst.set(value.type, value);
    }
  }

  /** @param {any} status */
  take(status) {
    this.status = status;
    const now = this.page.client.now();
    const names = new Set(status.breakers.map((/** @type {any} */ breaker) => breaker.name));
    for (const breaker of status.breakers) this.card(breaker.name).breaker.told(breaker, now);
    for (const name of [...this.cards.keys()]) if (!names.has(name)) this.remove(name);
    this.sources = new Map();
    for (const source of status.sources) {
      const name = breakerNameOf(source, names);
      if (!this.sources.has(name)) this.sources.set(name, []);
      this.sources.get(name)?.push(source);
    }
  }

  async ask() {
    const { client } = this.page;
    if (this.isAsking || client.status.state !== "live" || performance.now() - this.askedAt < ASK_MS) return;
    this.isAsking = true;
    this.askedAt = performance.now();
    try {
      const { breakers } = await this.page.api("/api/v1/status/circuit-breaker");
      for (const breaker of breakers) this.cards.get(breaker.name)?.breaker.told(breaker, client.now());
    } catch {
      // What was told last is shown with its age.
    } finally {
      this.isAsking = false;
    }
  }

  // What needs attention first; but nothing moves under somebody's pointer or away from a focus.
  arrange() {
    const isStill = performance.now() - this.touchedAt > STILL_MS && !this.grid.contains(document.activeElement);
    if (this.order && !isStill) return;
    const sorted = [...this.cards.values()].sort(worseFirst);
    const order = sorted.map(({ breaker }) => breaker.name).join(" ");
    if (order === this.order) return;
    this.order = order;
    sorted.forEach(({ element }, n) => {
      if (this.grid.children[n] !== element) this.grid.insertBefore(element, this.grid.children[n] ?? null);
    });
  }

  paintSummary() {
    const all = [...this.cards.values()];
    const isVouched = all.every((card) => card.isVouched);
    const open = all.filter(({ breaker }) => breaker.state !== "closed").length;
    const forced = all.filter(({ breaker }) => breaker.isForced).length;
    const parts = [open ? `${open} of ${all.length} not closed` : `${counted(all.length, "breaker")}, all closed`];
    if (forced) parts.push(`${forced} forced by an operator`);
    if (this.missing) parts.push(`there is no breaker ${visible(this.missing)}`);
    write(this.summary, isVouched ? parts.join(" · ") : `when last heard of: ${parts.join(" · ")}`);
    this.summary.hidden = !all.length;
    this.empty.hidden = all.length > 0;
    const none = "There are no breakers: no backend is polled yet.";
    write(this.empty, this.page.status ? none : "Waiting for the gateway's answer…");
  }

  // The breaker that the address names is brought into view, once.
  show() {
    if (!this.named || !this.page.status) return;
    const card = this.cards.get(this.named);
    for (const { element } of this.cards.values()) element.classList.toggle("named", element === card?.element);
    if (card) {
      card.title.focus({ preventScroll: true });
      card.element.scrollIntoView({ block: "center" });
    } else this.missing = this.named;
    this.named = null;
  }
}

/** @param {Card} a @param {Card} b */
function worseFirst({ breaker: a }, { breaker: b }) {
  return a.rank - b.rank || (a.name < b.name ? -1 : 1);
}

class Card {
  isVouched = false;
  knownUntil = 0; // of the gateway's clock: what came after it is not known

  /** @param {import("./app.js").Page} page @param {Breaker} breaker @param {Commands} orders */
  constructor(page, breaker, orders) {
    this.page = page;
    this.breaker = breaker;
    const name = visible(breaker.name);
    this.shape = shape("unvouched");
    this.title = make("h3", { tabIndex: -1 }, make("bdi", {}, name));
    this.state = make("span", { className: "state" }, "");
    this.next = make("p", { className: "next" }, "");
    this.failures = new Failures();
    this.error = new LastError(page);
    this.history = new Past(page, breaker);
    this.sources = new Sources();
    this.buttons = orders.buttons(breaker.name);
    const head = make("header", {}, this.shape, this.title, this.state);
    const parts = [this.failures, this.error, this.history, this.sources].map(({ element }) => element);
    this.element = make("article", { className: "card breaker" }, head, this.next, ...parts, this.buttons);
    this.element.dataset.breaker = breaker.name;
    this.element.setAttribute("aria-label", `Breaker ${name}`);
  }

  /** @param {number} now @param {any[]} sources @param {ReadonlyMap<string, any>} worst */
  paint(now, sources, worst) {
    const { client } = this.page;
    const { breaker, element } = this;
    const kept = client.store.get("circuit_breaker.state", breaker.name);
    this.isVouched = !this.page.paused && (kept ? kept.state !== "unvouched" : client.status.state === "live");
    element.dataset.state = this.isVouched ? breaker.state : "unvouched";
    element.dataset.was = breaker.state;
    element.dataset.forced = String(breaker.isForced);
    setShape(this.shape, breaker.shape(this.isVouched));
    write(this.state, stateText(breaker, now, this.isVouched));
    write(this.next, nextText(breaker, now, this.isVouched));
    this.failures.paint(breaker, this.isVouched);
    this.error.paint(breaker.lastError);
    if (this.isVouched) this.knownUntil = now;
    this.history.paint(now, this.knownUntil);
    this.sources.paint(sources, worst, now);
    this.buttons.hidden = !this.page.has("admin");
  }
}

/** Failures in a row, as words and as marks that fill. */
class Failures {
  constructor() {
    this.pips = make("span", { className: "pips" });
    this.pips.setAttribute("aria-hidden", "true");
    this.text = make("span", {}, "");
    this.element = make("p", { className: "failures" }, this.pips, this.text);
  }

  /** @param {Breaker} breaker @param {boolean} isVouched */
  paint(breaker, isVouched) {
    write(this.text, failuresText(breaker, isVouched));
    const wanted = breaker.threshold && breaker.threshold <= PIPS ? breaker.threshold : 0;
    while (this.pips.children.length < wanted) this.pips.append(make("span", { className: "pip" }));
    while (this.pips.children.length > wanted) this.pips.lastElementChild?.remove();
    [...this.pips.children].forEach((pip, n) => pip.classList.toggle("full", n < breaker.failures));
    this.pips.hidden = !wanted;
  }
}

/** The last error: in words, when, its code and the message in small print. */
class LastError {
  /** @param {import("./app.js").Page} page */
  constructor(page) {
    this.words = make("span", {}, "");
    this.time = page.time("1970-01-01T00:00:00Z");
    this.code = make("code", { className: "quiet" }, "");
    this.message = make("bdi", { className: "quiet" }, "");
    const parts = [this.words, " · ", this.time, make("br"), this.code, " ", this.message];
    this.element = make("p", { className: "last-error" }, "Last error: ", ...parts);
  }

  /** @param {import("./breaker.js").LastError | null} error */
  paint(error) {
    this.element.hidden = !error;
    if (!error) return;
    write(this.words, visible(codeInWords(error.code)));
    if (this.time.dateTime !== error.at) this.time.dateTime = error.at;
    write(this.code, visible(error.code));
    write(this.message, visible(error.message));
  }
}

/** The timeline, and the same as a list. */
class Past {
  /** @param {import("./app.js").Page} page @param {Breaker} breaker */
  constructor(page, breaker) {
    this.page = page;
    this.breaker = breaker;
    this.picture = timeline();
    this.caption = make("span", {}, "");
    this.summary = make("summary", {}, "");
    this.list = make("ul", { className: "moves" });
    this.details = make("details", {}, this.summary, this.list);
    const marks = ["30 min ago", "20", "10", "now"].map((text) => make("span", {}, text));
    const scale = make("span", { className: "scale" }, ...marks);
    scale.setAttribute("aria-hidden", "true");
    const caption = make("figcaption", { className: "only-read" }, this.caption);
    const figure = make("figure", {}, this.picture.element, scale, caption);
    this.element = make("div", { className: "past" }, figure, this.details);
    /** @type {Map<import("./breaker.js").Move, HTMLLIElement>} */
    this.rows = new Map();
  }

  /** @param {number} now @param {number} knownUntil */
  paint(now, knownUntil) {
    this.picture.draw(this.breaker.moves, now, knownUntil);
    const known = outageText(spans(this.breaker.moves, now, knownUntil));
    write(this.caption, `Timeline: ${known}.`);
    const recent = this.breaker.recent(now);
    write(this.summary, `${known[0].toUpperCase()}${known.slice(1)} · ${counted(recent.length, "change")}`);
    if (this.details.open) this.paintList(recent, now);
  }

  /** @param {import("./breaker.js").Move[]} recent newest first @param {number} now */
  paintList(recent, now) {
    for (const [move, row] of this.rows) {
      if (recent.includes(move)) continue;
      row.remove();
      this.rows.delete(move);
    }
    recent.forEach((move, n) => {
      let row = this.rows.get(move);
      if (!row) {
        const time = make("time", { dateTime: new Date(move.at).toISOString() }, clock(move.at, now));
        row = make("li", {}, time, " ", make("strong", {}, moveWord(move.to)), `: ${visible(reasonText(move.reason))}`);
        this.rows.set(move, row);
      }
      if (this.list.children[n] !== row) this.list.insertBefore(row, this.list.children[n] ?? null);
    });
  }
}

/** The sources behind a breaker, those that are not current first; of very many only the first, and how many more. */
class Sources {
  constructor() {
    this.list = make("ul", {});
    this.more = make("a", { href: "#/values" }, "");
    this.title = make("h4", {}, "");
    this.element = make("div", { className: "sources" }, this.title, this.list, this.more);
    /** @type {Map<string, { element: HTMLLIElement, shape: SVGSVGElement, state: HTMLElement }>} */
    this.rows = new Map();
    this.named = "";
  }

  /** @param {any[]} sources @param {ReadonlyMap<string, any>} worst @param {number} now */
  paint(sources, worst, now) {
    const all = sources.map(({ type }) => ({ type, value: worst.get(type) }));
    const worseFirst = (/** @type {any} */ a, /** @type {any} */ b) => badness(a.value) - badness(b.value);
    const shown = all.length > SOURCES ? [...all].sort(worseFirst).slice(0, SOURCES) : all;
    this.element.hidden = !all.length;
    write(this.title, counted(all.length, "source"));
    const names = shown.map(({ type }) => type).join(" ");
    if (names !== this.named) this.place(shown, names);
    for (const { type, value } of shown) {
      const row = this.rows.get(type);
      if (!row) continue;
      row.element.dataset.state = value?.state ?? "unvouched";
      setShape(row.shape, value?.state ?? "unvouched");
      write(row.state, value ? stateInWords(value, now) : "not heard of yet");
    }
    const left = all.length - shown.length;
    this.more.hidden = left <= 0;
    write(this.more, `and ${left} more`);
  }

  /** @param {{ type: string }[]} shown @param {string} names */
  place(shown, names) {
    this.named = names;
    const types = new Set(shown.map(({ type }) => type));
    for (const [type, { element }] of this.rows) {
      if (types.has(type)) continue;
      element.remove();
      this.rows.delete(type);
    }
    shown.forEach(({ type }, n) => {
      const row = this.rows.get(type) ?? sourceRow(type);
      this.rows.set(type, row);
      if (this.list.children[n] !== row.element) this.list.insertBefore(row.element, this.list.children[n] ?? null);
    });
  }
}

/** @param {string} type */
function sourceRow(type) {
  const picture = shape("unvouched");
  const state = make("span", { className: "state quiet" }, "");
  const link = make("a", { href: `#/value/${encodeURIComponent(type)}` }, make("bdi", {}, visible(type)));
  return { element: make("li", {}, picture, link, " ", state), shape: picture, state };
}

const STATES = ["never", "expired", "stale", "unvouched", "published", "fresh"];

/** @param {any} value */
function badness(value) {
  return value ? STATES.indexOf(value.state) : -1;
}
