// How one row of the values looks: a value, or the head of a group of them. Writes in place; asks for nothing.

import { breakerOf, causeOf, isTrouble, messageOf, sourceOf } from "./counts.js";
import { clock, counted, fields, number, plain, relative, span } from "./format.js";
import { isSelected, setAttribute } from "./rows.js";
import { sparkline } from "./spark.js";
import { make, reasonInWords, setShape, shape, stateInWords, visible, was, write } from "./words.js";

const TEXT_MS = 5000; // a text for screen readers need not be newer
const STEADY = 16; // characters: longer texts are no numbers
const TREND = /** @type {const} */ ([96, 24]);
const NAMING = /(^| )(id|key|name|serial|uuid)$/i; // fields that say what the key says

/** @typedef {{ page: import("./app.js").Page, now: number, sources: Map<string, any>, characters: number }} Context */

/** @returns {import("./rows.js").Row} */
export function valueRow() {
  const row = new ValueRow();
  return { element: row.element, handle: row.link, paint: (item, context) => row.paint(item, context) };
}

class ValueRow {
  constructor() {
    this.word = make("span", { className: "word" });
    this.shape = shape("fresh");
    this.type = make("bdi", { className: "type" });
    this.keyName = make("bdi", { className: "key" });
    this.link = make("a", {}, this.type, this.keyName);
    this.fields = make("div", { className: "fields" });
    this.more = make("span", { className: "more", hidden: true });
    this.spark = sparkline(...TREND);
    this.sparkText = make("span", { className: "only-read" });
    this.age = make("time", { className: "when" });
    this.note = make("span", { className: "note", hidden: true });
    this.reason = make("span", { className: "reason" });
    this.code = make("span", { className: "code" });
    const cell = (/** @type {string} */ name, /** @type {(Node | string)[]} */ ...children) =>
      make("td", { role: "cell", className: name }, ...children);
    this.why = cell("why", this.reason, " ", this.code);
    this.element = make("tr", { role: "row", className: "item" },
      cell("state", this.shape, this.word), make("th", { role: "rowheader", scope: "row", className: "name" }, this.link),
      cell("value", this.fields), cell("trend", this.spark.element, this.sparkText), cell("age", this.age, this.note), this.why);
    /** @type {{ element: HTMLElement, name: HTMLElement, text: HTMLElement, longest: number }[]} */
    this.slots = [];
    this.shownData = /** @type {any} */ (Symbol("nothing"));
    this.isHeld = false;
    this.characters = 0;
    this.textAt = 0;
  }

  /** @param {{ value: any, name: string, isMember: boolean }} item @param {Context} context */
  paint({ value: told, name, isMember }, context) {
    const { element } = this;
    if (element.dataset.name !== name) this.rename(told, name);
    this.isHeld = false;
    this.paintData(told, context);
    const value = this.isHeld ? { ...told, state: "unvouched" } : told; // what is held may be old
    setAttribute(element, "data-state", value.state);
    setAttribute(element, "data-was", was(value));
    element.classList.toggle("member", isMember);
    setShape(this.shape, value.state);
    write(this.word, stateInWords(value, context.now));
    this.paintAge(value, context);
    this.paintWhy(value, context);
    this.paintTrend(value, context);
  }

  /** @param {any} value @param {string} name */
  rename(value, name) {
    this.element.dataset.name = name;
    this.element.dataset.type = value.type;
    this.element.dataset.key = value.key ?? "";
    write(this.type, visible(value.type));
    write(this.keyName, visible(value.key ?? ""));
    this.link.href = addressOf(value);
    for (const slot of this.slots) slot.longest = 0;
    this.shownData = Symbol("nothing");
    this.textAt = 0; // its text is of the value that the row showed before
  }

  /** @param {any} value @param {Context} context */
  paintData(value, { characters }) {
    const isNothing = value.data === null && value.stale && value.state !== "stale"; // a backend may answer null
    const key = isNothing ? was(value) : value.data;
    if (key === this.shownData && characters === this.characters) return;
    const nothing = was(value) === "never" ? "no answer yet" : "no value any more";
    const { fields: all, more } = isNothing ? { fields: [{ name: "", text: nothing }], more: 0 } : fields(value.type, value.data);
    let room = characters;
    let at = 0;
    const untold = all.filter(({ name, text }) => text !== value.key || !NAMING.test(name)); // the key stands before it already
    for (const field of untold) {
      room -= field.name.length + field.text.length + 3;
      if (at > 0 && room < 0) break;
      this.slot(at, field);
      at += 1;
    }
    for (const slot of this.slots.slice(at)) if (!slot.element.hidden) slot.element.hidden = true;
    const left = untold.length - at + more;
    this.more.hidden = left === 0;
    if (left) write(this.more, `+${left}`);
    this.fields.append(this.more);
    this.fields.classList.toggle("nothing", isNothing);
    this.characters = characters;
    this.shownData = this.isHeld ? Symbol("held") : key;
  }

  /** @param {number} at @param {{ name: string, text: string }} field */
  slot(at, field) {
    let slot = this.slots[at];
    if (!slot) {
      const [name, text] = [make("span", { className: "field-name" }), make("bdi", { className: "field-text" })];
      slot = { element: make("span", { className: "field" }, name, text), name, text, longest: 0 };
      this.slots.push(slot);
      this.fields.insertBefore(slot.element, this.more.parentNode ? this.more : null);
    }
    slot.element.hidden = false;
    this.put(slot.name, visible(field.name));
    this.put(slot.text, visible(field.text));
    this.steady(slot, field.text.length);
  }

  /** A number that has become shorter leaves its place to itself, so that its neighbours do not dance. @param {any} slot @param {number} length */
  steady(slot, length) {
    const isShorter = length < slot.longest && slot.longest <= STEADY;
    slot.longest = Math.max(length, slot.longest);
    const width = isShorter ? `${slot.longest}ch` : "";
    if (slot.text.style.minWidth === width) return;
    slot.text.style.minWidth = width;
    slot.text.classList.toggle("steady", isShorter);
  }

  /** Write, unless the reader has selected just this. @param {Element} element @param {string} text */
  put(element, text) {
    if (element.textContent === text) return;
    if (isSelected(element)) this.isHeld = true;
    else write(element, text);
  }

  /** @param {any} value @param {Context} context */
  paintAge(value, { now, sources, page }) {
    const at = askedAt(value);
    const source = sources.get(value.type);
    const isUnchanged = isToldOnChange(value, source);
    if (this.age.dateTime !== (at ?? "")) this.age.dateTime = at ?? "";
    write(this.age, isUnchanged ? `within ${span(Math.ceil(source.max_age_s))}` : ageOf(at, now, page.showsAbsolute));
    const note = this.isHeld ? "held while selected" : isUnchanged && now - value.changedAt >= 1000 ? `same for ${span((now - value.changedAt) / 1000)}` : "";
    this.note.hidden = !note;
    this.note.classList.toggle("held", this.isHeld);
    if (note) write(this.note, note);
  }

  /** @param {any} value @param {Context} context */
  paintWhy(value, { now, page }) {
    const why = whyParts(value, page, now);
    this.why.hidden = !why;
    if (!why) return;
    write(this.reason, why.reason);
    write(this.code, why.code);
  }

  /** @param {any} value @param {Context} context */
  paintTrend(value, { page, now }) {
    const [first] = page.history.of(value).numbers;
    const has = first !== undefined;
    setAttribute(this.spark.element, "visibility", has ? "visible" : "hidden");
    if (!has) {
      write(this.sparkText, "");
      return;
    }
    const [path, samples] = first;
    this.spark.draw(samples, now);
    if (Math.abs(now - this.textAt) > TEXT_MS) {
      this.textAt = now;
      write(this.sparkText, samples.text(now, (n) => number(path, n)));
    }
  }
}

/** Where the detail of a value is. @param {{ type: string, key?: string | null }} value */
export function addressOf({ type, key }) {
  return `#/value/${encodeURIComponent(type)}${key ? `/${encodeURIComponent(key)}` : ""}`;
}

/** Whether it is fresh, though its event is old: what has not changed is not sent again; so it is with the items of a list. @param {any} value @param {any} source */
function isToldOnChange({ state, key, seq }, source) {
  return state === "fresh" && source && (source.on_change || key !== null || seq === null);
}

/** When the answer was asked for that a value is; of what was published, when that was. @param {any} value */
function askedAt({ as_of: asOf, stale, timestamp }) {
  return asOf ?? (stale === null ? timestamp : null);
}

/**
 * Why a value is not current, in words and as codes; null if nothing is wrong with it.
 * @param {any} value @param {import("./app.js").Page} page @param {number} now
 */
export function whyParts(value, page, now) {
  if (was(value) === "fresh" || was(value) === "published") return null;
  const breaker = breakerOf(page, value);
  const isOff = breaker && breaker.state !== "closed";
  const cause = value.cause ?? (isOff ? causeOf(page.status, breaker.breaker) : null);
  const code = isOff ? "CIRCUIT_BREAKER_OPEN" : value.error_code ?? sourceOf(page, value)?.error_code;
  const parts = [reasonInWords({ error_code: code, cause }, breaker?.failure_count)];
  if (code === "CIRCUIT_BREAKER_OPEN") {
    const retryAt = breaker?.retry_at ?? value.retry_at;
    if (breaker?.forced) parts[0] = "not asked: switched off by an operator";
    else if (value.state === "unvouched") parts.length = 1; // what happens next is not known either
    else if (breaker?.state === "half_open") parts.push("being tried now");
    else if (retryAt) parts.push(`asked again within ${span(Math.ceil((Date.parse(retryAt) - now) / 1000))}`);
  }
  const message = visible(messageOf(page, value, cause ?? code));
  if (message && !isOff) parts[0] += `: ${message}`;
  return { reason: parts.filter(Boolean).join(" · "), message: isOff ? message : "", code: [code, cause].filter(Boolean).map(visible).join(" ← ") };
}

/**
 * How old a value is, as a sentence. Of one that is only told when it changes, both ages.
 * @param {any} value @param {any} source What the status says of its source, if anything. @param {number} now
 * @param {boolean} isAbsolute
 */
export function ageInWords(value, source, now, isAbsolute) {
  const at = askedAt(value);
  if (!at) return "no answer yet";
  if (isToldOnChange(value, source)) {
    const same = span((now - value.changedAt) / 1000);
    return `unchanged for ${same}, checked within ${span(Math.ceil(source.max_age_s))}`;
  }
  const verb = value.stale === null ? "published" : value.stale ? "last answer" : "checked";
  return `${verb} ${ageOf(at, now, isAbsolute)}`;
}

/** @param {string | null} at @param {number} now @param {boolean} isAbsolute */
function ageOf(at, now, isAbsolute) {
  if (!at) return "–";
  const time = Date.parse(at);
  return isAbsolute ? clock(time, now) : relative(Math.min(time, now), now);
}

/** @param {(type: string) => void} toggle @returns {import("./rows.js").Row} */
export function groupRow(toggle) {
  const mark = shape("fresh");
  const word = make("span", { className: "word" });
  const type = make("bdi", { className: "type" });
  const button = make("button", { type: "button", className: "bare" }, make("span", { className: "turn" }), type);
  const summary = make("td", { role: "cell", className: "value" });
  const element = make("tr", { role: "row", className: "group" },
    make("td", { role: "cell", className: "state" }, mark, word),
    make("th", { role: "rowheader", scope: "row", className: "name" }, button), summary);
  button.addEventListener("click", () => toggle(element.dataset.group ?? ""));
  return {
    element,
    handle: button,
    paint({ name, type: of, isOpen, members }) {
      element.dataset.name = name;
      element.dataset.group = of;
      write(type, visible(of));
      setAttribute(button, "aria-expanded", String(isOpen));
      const worst = members.find(isTrouble) ?? members[0];
      setAttribute(element, "data-state", worst.state);
      setAttribute(element, "data-was", was(worst));
      setShape(mark, worst.state);
      const n = members.filter(isTrouble).length;
      write(word, n ? `${plain(n)} not current` : worst.state);
      write(summary, summaryOf(members));
    },
  };
}

/** "300 items: 298 fresh, 2 stale". @param {any[]} members */
function summaryOf(members) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { state } of members) counts.set(state, (counts.get(state) ?? 0) + 1);
  const parts = [...counts].map(([state, n]) => `${plain(n)} ${state === "unvouched" ? "not confirmed" : state}`);
  return `${counted(members.length, "item")}: ${parts.join(", ")}`;
}

