// A table of any number of rows, of which only those in view are in the document. Writes into rows in place: a text is
// written only if it differs, and no node is replaced, so that focus, selection and scrolling stay.

import { make } from "./words.js";

const BEYOND = 6; // rows that are kept above and below what is in view

/**
 * @typedef {{ name: string, isTall: boolean }} Item A row to be: its name, and whether it has a second line.
 * @typedef {{ element: HTMLElement, handle: HTMLElement, paint: (item: any, context: any) => void }} Row
 */

export class Rows {
  /**
   * @param {string} caption @param {[string, string][]} columns Class and heading of each.
   * @param {(item: any) => Row} makeRow @param {(item: any) => string} kindOf Rows are used again for the same kind.
   */
  constructor(caption, columns, makeRow, kindOf) {
    this.makeRow = makeRow;
    this.kindOf = kindOf;
    const head = make("tr", { role: "row" });
    for (const [name, text] of columns) head.append(make("th", { role: "columnheader", scope: "col", className: name }, text));
    head.setAttribute("aria-rowindex", "1");
    this.body = make("tbody", { role: "rowgroup" });
    this.element = make("table", { role: "table", className: "rows" },
      make("caption", { className: "only-read" }, caption), make("thead", { role: "rowgroup" }, head), this.body);
    /** @type {Item[]} */
    this.items = [];
    /** @type {number[]} */
    this.tops = [0];
    /** @type {Map<string, { row: Row, kind: string }>} */
    this.shown = new Map();
    /** @type {Map<string, Row[]>} */
    this.spare = new Map();
    this.current = ""; // the name of the row that the keyboard is at
    this.hasAll = false; // for printing
    this.context = /** @type {any} */ (null);
    this.heights = [0, 0];
  }

  /** Heights may have changed: the window's size, or the size of letters. */
  measure() {
    const style = getComputedStyle(this.element);
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    this.heights = ["--row", "--row-why"].map((name) => Math.round(rem * parseFloat(style.getPropertyValue(name))));
    this.set(this.items);
  }

  /** Show these, in this order, from the next `paint` on. @param {Item[]} items */
  set(items) {
    this.items = items;
    this.tops = [0];
    for (const { isTall } of items) this.tops.push(this.tops[this.tops.length - 1] + this.heights[isTall ? 1 : 0]);
    this.body.style.height = `${this.tops[items.length]}px`;
    this.element.setAttribute("aria-rowcount", String(items.length + 1));
    if (!items.some(({ name }) => name === this.current)) this.current = items[0]?.name ?? "";
  }

  /** Draw the rows in view. @param {any} context What rows need to know, such as the time. */
  paint(context) {
    this.context = context;
    const [first, last] = this.range();
    const wanted = new Set();
    for (let at = first; at < last; at += 1) wanted.add(this.items[at].name);
    for (const [name, { row, kind }] of this.shown) {
      if (wanted.has(name)) continue;
      this.shown.delete(name);
      row.element.remove();
      this.spare.set(kind, [...(this.spare.get(kind) ?? []), row]);
    }
    for (let at = first, before = null; at < last; at += 1) before = this.place(at, before);
  }

  /** The part of the items that is in view. @returns {[number, number]} */
  range() {
    if (this.hasAll) return [0, this.items.length];
    const top = -this.body.getBoundingClientRect().top;
    const first = this.at(top) - BEYOND;
    const last = this.at(top + innerHeight) + 1 + BEYOND;
    return [Math.max(0, first), Math.min(this.items.length, last)];
  }

  /** The item that is at `y` of the body. @param {number} y */
  at(y) {
    let low = 0;
    let high = this.items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle + 1] <= y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** @param {number} at @param {Element | null} before The row above it. */
  place(at, before) {
    const item = this.items[at];
    const kind = this.kindOf(item);
    let entry = this.shown.get(item.name);
    if (entry && entry.kind !== kind) {
      entry.row.element.remove();
      entry = undefined;
    }
    if (!entry) {
      entry = { row: this.spare.get(kind)?.pop() ?? this.makeRow(item), kind };
      this.shown.set(item.name, entry);
    }
    const { element, handle } = entry.row;
    const next = before ? before.nextElementSibling : this.body.firstElementChild;
    if (next !== element) this.move(element, next);
    const top = `translateY(${this.tops[at]}px)`;
    if (element.style.transform !== top) element.style.transform = top;
    element.classList.toggle("tall", item.isTall);
    setAttribute(element, "aria-rowindex", String(at + 2));
    setAttribute(handle, "tabindex", item.name === this.current ? "0" : "-1");
    entry.row.paint(item, this.context);
    return element;
  }

  /** A node that is moved loses the focus. @param {HTMLElement} element @param {Element | null} next */
  move(element, next) {
    const focused = /** @type {HTMLElement | null} */ (element.contains(document.activeElement) ? document.activeElement : null);
    this.body.insertBefore(element, next);
    focused?.focus({ preventScroll: true });
  }

  /** Take the keyboard to the row that is `step` rows further. @param {number} step */
  go(step) {
    const from = this.items.findIndex(({ name }) => name === this.current);
    const has = this.body.contains(document.activeElement);
    const to = Math.max(0, Math.min(this.items.length - 1, has ? from + step : from));
    this.focus(to);
  }

  /** @param {number} at */
  focus(at) {
    const item = this.items[at];
    if (!item) return;
    this.current = item.name;
    const room = document.getElementById("head")?.getBoundingClientRect().bottom ?? 0;
    const top = this.body.getBoundingClientRect().top + this.tops[at];
    const bottom = this.body.getBoundingClientRect().top + this.tops[at + 1];
    if (top < room + 8) scrollBy(0, top - room - 8);
    else if (bottom > innerHeight - 72) scrollBy(0, bottom - innerHeight + 72);
    this.paint(this.context);
    this.shown.get(item.name)?.row.handle.focus({ preventScroll: true });
  }
}

/** @param {Element} element @param {string} name @param {string} value */
export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

let hasSelection = false; // asking for it each time would make the browser lay out the page each time
document.addEventListener("selectionchange", () => { hasSelection = getSelection()?.type === "Range"; });

/** Whether the reader has selected text in it: then what they read must not change under them. @param {Element} element */
export function isSelected(element) {
  return hasSelection && Boolean(getSelection()?.containsNode(element, true));
}
