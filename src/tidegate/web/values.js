// The values: a filter, counts, and a row for each value, with trouble first. Which rows there are and in which order;
// how a row looks is value-row.js, how many rows are shown is rows.js.

import { count, isTrouble, values } from "./counts.js";
import { counted } from "./format.js";
import { nameOf } from "./history.js";
import { Rows } from "./rows.js";
import { groupRow, valueRow } from "./value-row.js";
import { make, stateInWords, visible, was, write } from "./words.js";

const CHARACTER_REM = 0.5; // how wide one is on average
const BESIDE_REM = 8.75; // what is beside the value on a phone's card
const GROUP_FROM = 21; // keys of one type that are shown as a group
const LIFTED = 20; // rows that need attention are shown though their group is closed, if they are no more
const CALM_MS = 2000; // the order does not change so soon after the pointer or a key
const RANKS = { never: 0, expired: 1, stale: 2, fresh: 3, published: 4 };
const STATES = ["all", "trouble", "fresh", "published"];
const CHIPS = { all: "all", trouble: "not current", fresh: "fresh", published: "published" };
const ORDERS = [["trouble", "trouble first"], ["name", "by name"], ["newest", "newest first"]];
const COLUMNS = /** @type {[string, string][]} */ ([
  ["state", "State"], ["name", "Type · key"], ["value", "Value"], ["trend", "Trend"], ["age", "Checked"], ["why", "Why"],
]);
const ENGINE = new Set(["compression.update", "agent.status"]);
const NAMES = new Intl.Collator(undefined, { numeric: true });

/** @typedef {{ kind: "value", name: string, isTall: boolean, value: any, isMember: boolean }} ValueItem */
/** @typedef {{ kind: "group", name: string, isTall: boolean, type: string, isOpen: boolean, members: any[] }} GroupItem */

/** @param {import("./app.js").Page} page */
export default function section(page) {
  return new ValuesSection(page);
}

class ValuesSection {
  /** @param {import("./app.js").Page} page */
  constructor(page) {
    this.page = page;
    this.filter = "";
    this.state = "all";
    this.sort = "trouble";
    /** @type {Set<string>} */
    this.open_ = new Set();
    /** @type {Map<string, number>} */
    this.order = new Map(); // the place of each name in the alphabet
    /** @type {Map<string, any>} */
    this.known = new Map();
    this.isAsked = true; // somebody has asked for another order
    this.touchedAt = -CALM_MS;
    /** @type {any[] | null} */
    this.frozen = null; // what was shown when the reader paused
    this.rows = new Rows("Values", COLUMNS, (item) => this.makeRow(item), ({ kind }) => kind);
    this.field = make("input", { id: "filter", type: "search", placeholder: "Filter", autocomplete: "off", spellcheck: false });
    this.field.ariaLabel = "Filter by type and key";
    this.chips = STATES.map((state) => this.makeChip(/** @type {keyof typeof CHIPS} */ (state)));
    this.select = make("select", { id: "sort" }, ...ORDERS.map(([value, text]) => make("option", { value }, text)));
    this.select.ariaLabel = "Order";
    this.pauser = make("button", { type: "button", className: "bare pause" }, "Pause");
    const chips = make("div", { className: "chips", role: "group", ariaLabel: "Show" }, ...this.chips.map(({ chip }) => chip));
    this.toolbar = make("div", { className: "toolbar" }, this.field, chips, this.select, this.pauser);
    this.none = make("p", { className: "none quiet", hidden: true }, "");
    this.empty = emptyState();
    this.print = make("div", { className: "print-only" });
    this.element = make("section", { className: "values", ariaLabel: "Values" },
      this.print, this.toolbar, this.rows.element, this.none, this.empty);
    /** @type {{ element: Element, paint: () => void } | null} */
    this.jobs = null;
    this.isLoadingJobs = false;
    this.characters = 40;
    this.hasWaiting = false; // another order waits for the reader to be still
    /** @type {{ row: string, scroll: number } | null} */
    this.left = null;
    /** What is on a wall besides trouble: `?kiosk&types=rack.*,system.status`. */
    this.wall = (new URLSearchParams(location.search).get("types") ?? "").split(",").filter(Boolean);
    this.listen();
  }

  /** @param {keyof typeof CHIPS} state */
  makeChip(state) {
    const number = make("span", { className: "count" }, "0");
    const chip = make("button", { type: "button", className: "chip" }, `${CHIPS[state]} `, number);
    chip.dataset.count = state;
    chip.addEventListener("click", () => this.look({ state }));
    return { state, chip, number };
  }

  listen() {
    const touched = () => { this.touchedAt = performance.now(); };
    for (const type of ["pointermove", "pointerdown", "keydown", "wheel"]) addEventListener(type, touched, { passive: true });
    addEventListener("scroll", () => { if (this.element.isConnected) this.rows.paint(this.context()); }, { passive: true });
    addEventListener("resize", () => { if (this.element.isConnected) this.resized(); });
    addEventListener("beforeprint", () => { if (this.element.isConnected) this.printing(true); });
    addEventListener("afterprint", () => { if (this.element.isConnected) this.printing(false); });
    this.field.addEventListener("input", () => this.look({ filter: this.field.value }));
    this.select.addEventListener("change", () => this.look({ sort: this.select.value }));
    this.pauser.addEventListener("click", () => this.page.pause(!this.page.paused));
    this.rows.body.addEventListener("focusin", ({ target }) => {
      const row = /** @type {HTMLElement} */ (target).closest("tr");
      if (row?.dataset.name) this.rows.current = row.dataset.name;
    });
  }

  /** @param {string[]} _rest @param {URLSearchParams} query */
  open(_rest, query) {
    this.page.valuesAddress = `#/values${query.size ? `?${query}` : ""}`;
    this.filter = query.get("filter") ?? "";
    this.state = STATES.includes(query.get("state") ?? "") ? /** @type {string} */ (query.get("state")) : "all";
    this.sort = ORDERS.find(([order]) => order === query.get("sort"))?.[0] ?? "trouble";
    if (this.field.value !== this.filter) this.field.value = this.filter;
    this.select.value = this.sort;
    this.isAsked = true;
    this.resized();
  }

  /** The reader comes back to where they were. */
  close() {
    this.left = { row: this.rows.current, scroll: scrollY };
  }

  /** Take the keyboard to the row that was left; returns whether there is one. */
  focus() {
    const at = this.rows.items.findIndex(({ name }) => name === this.left?.row);
    if (at < 0) return false;
    scrollTo(0, this.left?.scroll ?? 0);
    this.rows.focus(at);
    return true;
  }

  /** Another filter, state or order: into the address, so that it can be sent to somebody. @param {Record<string, string>} change */
  look(change) {
    Object.assign(this, change);
    const query = new URLSearchParams();
    if (this.filter) query.set("filter", this.filter);
    if (this.state !== "all") query.set("state", this.state);
    if (this.sort !== "trouble") query.set("sort", this.sort);
    this.page.valuesAddress = `#/values${query.size ? `?${query}` : ""}`;
    history.replaceState(null, "", this.page.valuesAddress);
    this.isAsked = true;
    this.page.paint();
  }

  resized() {
    this.rows.measure();
    const cell = this.rows.element.querySelector("th.value");
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const isHeadShown = cell && cell.clientWidth > rem;
    const room = isHeadShown ? cell.clientWidth : this.rows.element.clientWidth - BESIDE_REM * rem;
    this.characters = Math.max(12, Math.floor(room / (CHARACTER_REM * rem)));
    this.page.paint();
  }

  context() {
    const { client, status } = this.page;
    const sources = new Map((status?.sources ?? []).map((/** @type {any} */ source) => [source.type, source]));
    return { page: this.page, now: client.now(), sources, characters: this.characters };
  }

  paint() {
    const all = this.current();
    this.paintCounts(all);
    this.arrange(all);
    this.rows.paint(this.context());
    this.paintNone(all);
    if (this.jobs) this.jobs.paint();
    else if (!this.isLoadingJobs && all.some(({ type }) => ENGINE.has(type))) this.loadJobs();
  }

  /** The reference engine is behind this gateway, or something that looks like it. */
  async loadJobs() {
    this.isLoadingJobs = true;
    const { jobsAndAgents } = await import("./jobs.js");
    this.jobs = jobsAndAgents(this.page.client);
    this.element.append(this.jobs.element);
  }

  /** What is shown: the newest, or what was there when the reader paused. */
  current() {
    const { page } = this;
    if (!page.paused) this.frozen = null;
    else this.frozen ??= values(page.client);
    write(this.pauser, page.paused ? "Go on" : "Pause");
    this.pauser.setAttribute("aria-pressed", String(page.paused));
    if (!this.frozen) return values(page.client);
    return this.frozen.map((value) => (value.state === "unvouched" ? value : { ...value, state: "unvouched" }));
  }

  /** @param {any[]} all */
  paintCounts(all) {
    const counts = count(all, null);
    for (const { state, chip, number } of this.chips) {
      const n = counts[/** @type {"all"} */ (state)];
      write(number, String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f"));
      chip.classList.toggle("none-there", n === 0);
      chip.setAttribute("aria-pressed", String(state === this.state));
    }
  }

  /** Put the rows in order, if something has changed and nobody is about to click. @param {any[]} all */
  arrange(all) {
    const now = this.page.client.now();
    let hasChanged = this.isAsked || this.sort === "newest" || all.length !== this.known.size;
    let kept = 0;
    const known = new Map();
    for (const value of all) {
      const name = nameOf(value);
      const before = this.known.get(name);
      known.set(name, value);
      if (before) kept += 1;
      if (before === value) continue;
      if (!before || rank(before) !== rank(value) || before.state !== value.state) hasChanged = true;
      this.page.history.judge(value, now);
    }
    const isMissing = kept < this.known.size; // and its row would go on showing it
    this.known = known;
    this.hasWaiting ||= hasChanged;
    const isCalm = performance.now() - this.touchedAt > CALM_MS;
    if (this.isAsked || isMissing || (this.hasWaiting && isCalm)) {
      this.isAsked = this.hasWaiting = false;
      this.rows.set(this.items(all));
      return;
    }
    for (const item of /** @type {any[]} */ (this.rows.items)) {
      if (item.kind === "value") item.value = known.get(item.name) ?? item.value;
      else item.members = item.members.map((/** @type {any} */ member) => known.get(nameOf(member)) ?? member);
    }
  }

  /** @param {any[]} all @returns {(ValueItem | GroupItem)[]} */
  items(all) {
    const words = this.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const sizes = new Map();
    for (const { type } of all) sizes.set(type, (sizes.get(type) ?? 0) + 1);
    const chosen = all.filter((value) => this.isChosen(value, words));
    this.alphabet(chosen);
    /** @type {Map<string, any[]>} */
    const groups = new Map();
    const alone = [];
    for (const value of chosen) {
      if (sizes.get(value.type) < GROUP_FROM) alone.push(value);
      else if (groups.has(value.type)) groups.get(value.type)?.push(value);
      else groups.set(value.type, [value]);
    }
    const blocks = alone.map((value) => ({ value, items: [this.item(value, false)] }));
    for (const [type, members] of groups) blocks.push(this.group(type, members, words.length > 0));
    blocks.sort((a, b) => this.compare(a.value, b.value));
    return blocks.flatMap(({ items }) => items);
  }

  /** @param {any} value @param {string[]} words */
  isChosen(value, words) {
    if (this.page.isKiosk && this.wall.length) return isTrouble(value) || this.wall.some((pattern) => matches(pattern, value.type));
    if (this.state === "trouble" && !isTrouble(value)) return false;
    if (this.state === "fresh" && value.state !== "fresh") return false;
    if (this.state === "published" && value.state !== "published") return false;
    const text = nameOf(value).toLowerCase();
    return words.every((word) => text.includes(word));
  }

  /** A group stands where its worst member would. @param {string} type @param {any[]} members @param {boolean} isSought */
  group(type, members, isSought) {
    members.sort((a, b) => this.compare(a, b));
    const isOpen = isSought || this.rows.hasAll || this.open_.has(type);
    const lifted = members.filter((value) => RANKS[was(value)] < RANKS.fresh);
    const under = isOpen ? members : lifted.length <= LIFTED ? lifted : [];
    /** @type {GroupItem} */
    const head = { kind: "group", name: `${type} *`, isTall: false, type, isOpen, members };
    return { value: members[0], items: [head, ...under.map((value) => this.item(value, true))] };
  }

  /** @param {any} value @param {boolean} isMember @returns {any} */
  item(value, isMember) {
    return { kind: "value", name: nameOf(value), isTall: rank(value) < RANKS.fresh, value, isMember };
  }

  /** Learn the place of new names in the alphabet: comparing them each time would cost too much. @param {any[]} all */
  alphabet(all) {
    const names = all.map(nameOf);
    if (names.every((name) => this.order.has(name))) return;
    const sorted = [...new Set([...this.order.keys(), ...names])].sort(NAMES.compare);
    this.order = new Map(sorted.map((name, at) => [name, at]));
  }

  /** @param {any} a @param {any} b */
  compare(a, b) {
    if (this.sort === "newest" && a.changedAt !== b.changedAt) return b.changedAt - a.changedAt;
    if (this.sort === "trouble" && rank(a) !== rank(b)) return rank(a) - rank(b);
    return (this.order.get(nameOf(a)) ?? 0) - (this.order.get(nameOf(b)) ?? 0);
  }

  /** @param {any} item */
  makeRow(item) {
    return item.kind === "value" ? valueRow() : groupRow((type) => this.toggle(type));
  }

  /** @param {string} type */
  toggle(type) {
    if (!this.open_.delete(type)) this.open_.add(type);
    this.isAsked = true;
    this.page.paint();
  }

  /** @param {any[]} all */
  paintNone(all) {
    const isEmpty = all.length === 0 && this.page.client.status.state === "live";
    this.empty.hidden = !isEmpty || Boolean(this.page.status?.sources.length);
    this.toolbar.hidden = this.rows.element.hidden = all.length === 0;
    this.none.hidden = all.length === 0 || this.rows.items.length > 0;
    const what = this.state === "all" ? "value" : `value that is ${CHIPS[/** @type {keyof typeof CHIPS} */ (this.state)]}`;
    write(this.none, this.filter ? `No ${what} matches “${visible(this.filter)}”.` : `No ${what}.`);
  }

  /** @param {boolean} isPrinting */
  printing(isPrinting) {
    this.rows.hasAll = isPrinting;
    if (isPrinting) {
      const all = this.current();
      const trouble = all.filter(isTrouble).map((value) => make("li", {}, `${visible(nameOf(value))}: ${stateInWords(value, this.page.client.now())}`));
      const title = `Tidegate ${location.host}, printed ${new Date().toLocaleString()}`;
      const summary = trouble.length ? `Not current: ${counted(trouble.length, "value")}` : "All values were current.";
      this.print.replaceChildren(make("h2", {}, title), make("p", {}, summary), make("ul", {}, ...trouble));
    }
    this.rows.set(this.items(this.current()));
    this.rows.paint(this.context());
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const steps = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1, PageDown: 10, PageUp: -10, End: 1e9, Home: -1e9 };
    const step = steps[/** @type {keyof typeof steps} */ (event.key)];
    const isInRows = this.rows.body.contains(document.activeElement);
    if (event.key === "/") this.field.focus();
    else if (event.key === "f") this.look({ state: this.state === "trouble" ? "all" : "trouble" });
    else if (event.key === "Escape" && (this.filter || this.state !== "all")) {
      this.field.value = "";
      this.look({ filter: "", state: "all" });
    } else if (step && (isInRows || Math.abs(step) === 1)) this.rows.go(step);
    else return false;
    return true;
  }
}

/** @param {string} pattern @param {string} type */
function matches(pattern, type) {
  return pattern === "*" || pattern === type || (pattern.endsWith(".*") && type.startsWith(pattern.slice(0, -1)));
}

/** By what it is, or was while it was vouched for: losing the connection moves no row. @param {any} value */
function rank(value) {
  return RANKS[was(value)];
}

function emptyState() {
  const toml = [
    "[backends.nas]", 'url = "http://127.0.0.1:9000/rpc"', '[sources."nas.status"]', 'backend = "nas"', 'method = "system.status"',
  ];
  return make("div", { className: "empty", hidden: true },
    make("h2", {}, "Nothing is polled yet"),
    make("p", {}, "A first source, in ", make("code", {}, "tidegate.toml"), ":"),
    make("pre", {}, make("code", {}, toml.join("\n"))),
    make("p", { className: "quiet" }, "What somebody publishes appears here too."));
}

