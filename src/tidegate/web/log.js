// The section with the events as they come, newest first. Which are kept and which match is the journal's business;
// here are the controls, and a list of which only the lines in view are in the page.

import { clock, counted, plain } from "./format.js";
import { Journal, connectionText, eventText, firstPatterns, patternsIn } from "./journal.js";
import { make, setShape, shape, visible, write } from "./words.js";

const STILL_MS = 2000; // lines move on only if nobody has touched the list for so long
const DETAILS = ["names", "values", "JSON"];
const MARGIN = 4; // lines above and below those in view

/** @param {import("./app.js").Page} page */
export default function section(page) {
  return new Log(page);
}

class Log {
  journal = new Journal();
  /** @type {(() => void)[]} */
  subscriptions = [];
  /** @type {any} */
  last = null;

  /** @param {import("./app.js").Page} page */
  constructor(page) {
    this.page = page;
    this.before = page.client.status;
    this.controls = new Controls(this);
    this.list = new List(page, () => this.controls.detail.value);
    const title = make("h2", { id: "log-title" }, "Log");
    const parts = [title, this.controls.element, this.list.element, this.list.dialog];
    this.element = make("section", { className: "log" }, ...parts);
    this.element.setAttribute("aria-labelledby", "log-title");
    this.follow(firstPatterns(page.session.types));
    page.client.onGap((/** @type {any} */ gap) => this.journal.gap(gap, page.client.now()));
    page.client.onStatus((/** @type {any} */ status) => {
      const text = connectionText(this.before, status);
      if (!text) return;
      this.before = status;
      this.journal.connection(text, page.client.now());
    });
  }

  /** @param {string[]} patterns */
  follow(patterns) {
    for (const end of this.subscriptions) end();
    const withHeartbeats = patterns.includes("heartbeat");
    this.subscriptions = patterns.map((pattern) => this.page.client.on(pattern, (/** @type {any} */ event) => {
      // A snapshot tells what is, not what happens. And an event that two patterns match comes twice.
      if (event.snapshot || event === this.last || (event.type === "heartbeat" && !withHeartbeats)) return;
      this.last = event;
      this.journal.event(event, this.page.client.now());
    }));
  }

  /** @param {string[]} _ @param {URLSearchParams} query */
  open(_, query) {
    this.controls.open(query);
    this.list.measure();
  }

  close() {}

  paint() {
    this.journal.pause(this.page.paused);
    this.controls.paint();
    this.list.paint(this.journal.shown);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key === "/") {
      this.controls.filter.focus();
      return true;
    }
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
    return step !== undefined && this.list.step(step, this.journal.shown);
  }
}

/** @param {string} text @param {HTMLElement} field */
function labelled(text, field) {
  return make("label", { className: "labelled" }, make("span", {}, text), field);
}

class Controls {
  /** @param {Log} log */
  constructor(log) {
    this.log = log;
    const { page, journal } = log;
    this.since = page.client.now(); // a log knows nothing of what came before it was first opened
    const types = firstPatterns(page.session.types).join(", ");
    const field = { spellcheck: false, autocapitalize: "off", size: 16 };
    this.patterns = make("input", { type: "text", value: types, ...field });
    this.filter = make("input", { id: "filter", type: "search", placeholder: "words, -words", ...field });
    this.detail = make("select", {}, ...DETAILS.map((text) => make("option", { value: text }, text)));
    this.detail.value = "values";
    this.pause = make("button", { type: "button" }, "Pause");
    const download = make("button", { type: "button" }, "Download");
    const clear = make("button", { type: "button" }, "Clear");
    this.error = make("p", { className: "error" }, "");
    this.error.setAttribute("role", "alert");
    this.counts = make("p", { className: "quiet small" }, "");
    this.element = make("div", { className: "log-controls" },
      labelled("Types", this.patterns), labelled("Filter", this.filter), labelled("Show", this.detail),
      make("div", { className: "row" }, this.pause, download, clear), this.error, this.counts);
    this.patterns.addEventListener("change", () => this.choose());
    this.filter.addEventListener("input", () => {
      journal.filter(this.filter.value);
      page.paint();
    });
    this.detail.addEventListener("change", () => page.paint());
    this.pause.addEventListener("click", () => page.pause(!page.paused));
    download.addEventListener("click", () => save(journal.download()));
    clear.addEventListener("click", () => {
      journal.clear();
      page.paint();
    });
  }

  /** @param {URLSearchParams} query */
  open(query) {
    const filter = query.get("filter");
    if (filter === null || filter === this.filter.value) return;
    this.filter.value = filter;
    this.log.journal.filter(filter);
  }

  choose() {
    try {
      this.log.follow(patternsIn(this.patterns.value));
      write(this.error, "");
      this.patterns.removeAttribute("aria-invalid");
    } catch (wrong) {
      write(this.error, /** @type {Error} */ (wrong).message);
      this.patterns.setAttribute("aria-invalid", "true");
    }
  }

  paint() {
    const { journal, page } = this.log;
    const { waiting, shown, kept, count } = journal;
    write(this.pause, !page.paused ? "Pause" : waiting ? `Go on · ${plain(waiting)} new` : "Go on");
    this.pause.setAttribute("aria-pressed", String(page.paused));
    const all = counted(kept, "line");
    const parts = [this.filter.value ? `${plain(shown.length)} of ${all} match` : all];
    if (count > kept) parts.push(`${plain(count - kept)} older not kept`);
    parts.push(`since ${clock(this.since, page.client.now())}`, "heartbeats only if named as a type");
    write(this.counts, parts.join(" · "));
  }
}

/** @param {string} text */
function save(text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" }));
  make("a", { href: url, download: `tidegate-${new Date().toISOString().slice(0, 19)}.jsonl` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** The lines in view. A line keeps its element for as long as it is in view, so that a selection in it stays. */
class List {
  /** @type {Map<number, Row>} */
  rows = new Map();
  /** @type {Row[]} */
  spare = [];
  height = 0;
  touchedAt = -Infinity;
  newest = 0; // the newest line that has a place
  current = 0; // the line that the keys have chosen

  /** @param {import("./app.js").Page} page @param {() => string} detail */
  constructor(page, detail) {
    this.page = page;
    this.detail = detail;
    this.lines = make("ol", {});
    this.none = make("p", { className: "quiet none" }, "");
    this.element = make("div", { className: "log-list", tabIndex: 0 }, this.none, this.lines);
    this.element.setAttribute("role", "region");
    this.element.setAttribute("aria-label", "Events, newest first");
    this.whole = make("pre", { tabIndex: 0 }, "");
    this.name = make("h2", { id: "log-event" }, "");
    const close = make("button", { type: "button", className: "first" }, "Close");
    const copy = make("button", { type: "button" }, "Copy");
    const row = make("div", { className: "row" }, copy, close);
    this.dialog = make("dialog", { className: "log-event" }, this.name, this.whole, row);
    this.dialog.setAttribute("aria-labelledby", "log-event");
    this.whole.setAttribute("aria-label", "The event as JSON");
    close.addEventListener("click", () => this.dialog.close());
    copy.addEventListener("click", () => this.copy());
    for (const kind of ["pointermove", "pointerdown", "keydown"]) {
      this.element.addEventListener(kind, () => { this.touchedAt = performance.now(); }, { passive: true });
    }
    this.element.addEventListener("scroll", () => this.page.paint(), { passive: true });
    this.lines.addEventListener("click", (event) => this.show(/** @type {Element} */ (event.target).closest("li")));
  }

  /** The height of a line is the style's choice: two lines on a phone. */
  measure() {
    this.height = parseFloat(getComputedStyle(this.lines).getPropertyValue("--line-px")) || 32;
  }

  /** @param {readonly import("./journal.js").Line[]} all oldest first */
  paint(all) {
    this.measure();
    write(this.none, this.page.paused ? "Nothing had come that matches when you paused." : "Nothing has come yet that matches.");
    this.none.hidden = all.length > 0;
    const newest = all.at(-1)?.n ?? 0;
    const isHeld = performance.now() - this.touchedAt < STILL_MS && this.newest && newest > this.newest;
    const end = isHeld ? endOf(all, this.newest) : all.length;
    if (!isHeld) this.stay(all);
    this.lines.style.height = `${end * this.height}px`;
    const first = Math.max(0, Math.floor(this.element.scrollTop / this.height) - MARGIN);
    const last = Math.min(end, Math.ceil((this.element.scrollTop + this.element.clientHeight) / this.height) + MARGIN);
    /** @type {Set<number>} */
    const wanted = new Set();
    for (let place = first; place < last; place += 1) wanted.add(all[end - 1 - place].n);
    for (const [n, row] of this.rows) if (!wanted.has(n)) this.release(n, row);
    for (let place = first; place < last; place += 1) this.put(all[end - 1 - place], place, end);
  }

  // Lines that come on top must not push away what somebody who has scrolled down is reading.
  /** @param {readonly import("./journal.js").Line[]} all */
  stay(all) {
    const added = all.length - endOf(all, this.newest);
    if (this.newest && this.element.scrollTop > 0) this.element.scrollTop += added * this.height;
    this.newest = all.at(-1)?.n ?? 0;
  }

  /** @param {number} n @param {Row} row */
  release(n, row) {
    this.rows.delete(n);
    if (row.element.contains(document.activeElement)) this.element.focus({ preventScroll: true });
    row.element.hidden = true;
    this.spare.push(row);
  }

  /** @param {import("./journal.js").Line} line @param {number} place @param {number} of */
  put(line, place, of) {
    let row = this.rows.get(line.n);
    if (!row) {
      row = this.spare.pop() ?? new Row();
      this.rows.set(line.n, row);
      row.element.hidden = false;
      if (!row.element.parentNode) this.lines.append(row.element);
    }
    row.paint(line, this.detail(), this.page.client.now());
    row.place(place * this.height, place + 1, of, line.n === this.current);
  }

  /** @param {number} by @param {readonly import("./journal.js").Line[]} all */
  step(by, all) {
    if (!all.length) return false;
    const at = this.current ? all.length - endOf(all, this.current) : -1;
    const place = Math.max(0, Math.min(all.length - 1, at + by));
    this.current = all[all.length - 1 - place].n;
    const [top, box] = [place * this.height, this.element];
    if (top < box.scrollTop) box.scrollTop = top;
    if (top + this.height > box.scrollTop + box.clientHeight) box.scrollTop = top + this.height - box.clientHeight;
    this.touchedAt = performance.now();
    this.paint(all);
    this.rows.get(this.current)?.button.focus({ preventScroll: true });
    return true;
  }

  /** @param {Element | null} element */
  show(element) {
    const row = [...this.rows.values()].find((one) => one.element === element);
    if (!row?.line) return;
    // Whoever has selected text in a line wants to copy it, not to open the line.
    if (!getSelection()?.isCollapsed) return;
    this.current = row.line.n;
    write(this.name, row.line.event ? visible(row.line.event.type) : "Connection");
    write(this.whole, row.line.event ? visibleLines(JSON.stringify(row.line.event, null, 2)) : row.line.text);
    this.dialog.showModal();
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.whole.textContent ?? "");
      this.page.announce("Copied");
    } catch {
      getSelection()?.selectAllChildren(this.whole); // a page without HTTPS has no clipboard
    }
  }
}

/** How many of `all` are not newer than line `n`. @param {readonly { n: number }[]} all @param {number} n */
function endOf(all, n) {
  let [low, high] = [0, all.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (all[middle].n <= n) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** As `visible`, but lines stay lines. @param {string} text */
function visibleLines(text) {
  return text.split("\n").map(visible).join("\n");
}

class Row {
  /** @type {import("./journal.js").Line | null} */
  line = null;
  drawn = "";

  constructor() {
    this.time = make("time", {}, "");
    this.shape = shape("stale");
    this.type = make("bdi", {}, "");
    this.key = make("bdi", { className: "key" }, "");
    this.text = make("bdi", { className: "text" }, "");
    this.button = make("button", { type: "button", className: "bare type" }, this.type);
    this.element = make("li", {}, this.time, this.shape, this.button, this.key, this.text);
  }

  /** @param {import("./journal.js").Line} line @param {string} detail @param {number} now */
  paint(line, detail, now) {
    if (this.line === line && this.drawn === detail) return;
    this.line = line;
    this.drawn = detail;
    this.element.dataset.kind = line.kind;
    const { event, kind } = line;
    write(this.time, clock(line.at, now));
    this.time.dateTime = new Date(line.at).toISOString();
    const mark = shapeOf(line);
    this.shape.setAttribute("visibility", mark ? "visible" : "hidden");
    if (mark) setShape(this.shape, mark);
    write(this.type, kind === "event" ? visible(event.type) : kind === "gap" ? "gap" : "connection");
    write(this.key, kind === "event" ? visible(event.key ?? "") : "");
    write(this.text, kind === "event" ? visible(eventText(event, detail)) : line.text);
  }

  /** @param {number} top @param {number} position @param {number} of @param {boolean} isCurrent */
  place(top, position, of, isCurrent) {
    const { element, button } = this;
    element.style.transform = `translateY(${top}px)`;
    element.setAttribute("aria-posinset", String(position));
    element.setAttribute("aria-setsize", String(of));
    button.tabIndex = isCurrent ? 0 : -1;
    element.classList.toggle("current", isCurrent);
  }
}

/**
 * The shape of a line: of an event only where it tells of trouble, or null, since a log is of the past.
 * @param {import("./journal.js").Line} line
 */
function shapeOf({ kind, event }) {
  if (kind !== "event") return "unvouched";
  if (event.type === "rpc_error") return "never";
  if (event.type === "circuit_breaker.state") return event.data?.forced ? "forced" : (event.data?.state ?? null);
  if (event.expired) return "expired";
  return event.stale || (event.type === "source.freshness" && event.data?.stale) ? "stale" : null;
}
