// JSON on several lines, updated in place, with the lines that the newest change has touched highlighted.

import { numbers } from "./format.js";
import { isSelected } from "./rows.js";
import { make, visible, write } from "./words.js";

const LINES = 600; // beyond that it is one text without highlights: elements for all would cost too much

export class Json {
  constructor() {
    this.pre = make("pre", { className: "json", tabIndex: 0, role: "region", ariaLabel: "Data as JSON" });
    this.held = make("p", { className: "small quiet", hidden: true }, "held while selected");
    this.element = make("div", { className: "json-frame" }, this.pre, this.held);
    /** @type {HTMLElement[]} */
    this.lines = [];
    this.text = "";
    this.firstNumber = ""; // the path of it
    /** @type {any} */
    this.data = Symbol("nothing");
    this.isFirst = true;
    this.isHeld = false; // what is selected is older than what has come
  }

  /** Begin with another value. */
  clear() {
    this.pre.replaceChildren();
    this.lines = [];
    this.data = Symbol("nothing");
    this.isFirst = true;
    this.isHeld = false;
    this.held.hidden = true;
  }

  /** Show `data`; nothing for undefined. While something in it is selected, it stays as it is. @param {any} data */
  paint(data) {
    if (data === this.data) return;
    this.isHeld = isSelected(this.pre);
    this.held.hidden = !this.isHeld;
    if (this.isHeld) return;
    this.data = data;
    this.text = data === undefined ? "" : JSON.stringify(data, null, 2);
    this.firstNumber = numbers(data, 1)[0]?.[0] ?? "";
    const lines = data === undefined ? ["no answer yet"] : this.text.split("\n");
    this.write(lines.length > LINES ? [this.text] : lines);
    this.isFirst = false;
  }

  /** @param {string[]} texts */
  write(texts) {
    while (this.lines.length > texts.length) this.lines.pop()?.remove();
    texts.forEach((text, at) => {
      let line = this.lines[at];
      if (!line) {
        line = make("span", { className: "line" });
        this.lines.push(line);
        this.pre.append(line);
      }
      const shown = text.split("\n").map(visible).join("\n");
      line.classList.toggle("changed", !this.isFirst && line.textContent !== shown);
      write(line, shown);
    });
  }
}
