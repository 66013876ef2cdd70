// What the log remembers: the newest 2,000 events, gaps and losses of the connection, in the order in which they came,
// and which of them match a filter. Plain computation: no page, no connection.

import { moveWord, reasonText } from "./breaker.js";
import { fields, span } from "./format.js";
import { codeInWords, reasonInWords, visible } from "./words.js";

const KEPT = 2000;
const OWN = ["circuit_breaker.state", "notification", "rpc_error", "source.freshness"]; // need no coverage
const PATTERN = /^(\*|[a-z0-9_-]+(\.[a-z0-9_-]+)*(\.\*)?)$/;

/**
 * @typedef {object} Line
 * @property {number} n counts all lines, from 1
 * @property {number} at ms of the gateway's clock
 * @property {"event" | "gap" | "connection"} kind
 * @property {any} event what came; null for a loss of the connection
 * @property {string} text of what is no event, in words
 * @property {string | null} haystack what a filter searches, made when first needed
 */

/** The ring, what of it matches the filter, and a frozen view of that while paused. */
export class Journal {
  /** @type {Line[]} oldest first */
  #lines = [];
  /** @type {Line[]} */
  #matches = [];
  /** @type {Line[] | null} */
  #frozen = null;
  #count = 0;
  #countAtPause = 0;
  /** @type {string[]} */
  #words = [];

  /** @param {any} event @param {number} nowMs */
  event(event, nowMs) {
    const at = Date.parse(event.timestamp);
    this.#add({ at: Number.isNaN(at) ? nowMs : at, kind: "event", event, text: "" });
  }

  /** @param {any} gap @param {number} nowMs */
  gap(gap, nowMs) {
    for (const text of gapTexts(gap)) this.#add({ at: nowMs, kind: "gap", event: gap, text });
  }

  /** @param {string} text @param {number} nowMs */
  connection(text, nowMs) {
    this.#add({ at: nowMs, kind: "connection", event: null, text });
  }

  /** @param {Omit<Line, "n" | "haystack">} line */
  #add(line) {
    /** @type {Line} */
    const added = { ...line, n: ++this.#count, haystack: null };
    this.#lines.push(added);
    if (this.#isMatch(added)) this.#matches.push(added);
    if (this.#lines.length <= KEPT) return;
    const dropped = this.#lines.shift();
    if (this.#matches[0] === dropped) this.#matches.shift();
  }

  /** Words that a line must contain, and with a leading "-" must not. @param {string} text */
  filter(text) {
    this.#words = text.toLowerCase().split(/\s+/).filter((word) => word && word !== "-");
    this.#matches = this.#lines.filter((line) => this.#isMatch(line));
    if (this.#frozen) this.#frozen = this.#matches.filter(({ n }) => n <= this.#countAtPause);
  }

  /** @param {boolean} isPaused */
  pause(isPaused) {
    if (isPaused === (this.#frozen !== null)) return;
    this.#frozen = isPaused ? [...this.#matches] : null;
    this.#countAtPause = this.#count;
  }

  clear() {
    this.#lines = [];
    this.#matches = [];
    if (this.#frozen) this.#frozen = [];
  }

  /** The lines to show, oldest first. */
  get shown() {
    return this.#frozen ?? this.#matches;
  }

  /** How many lines are kept, matching or not. */
  get kept() {
    return this.#lines.length;
  }

  /** How many lines came in all; those that are not kept were too many. */
  get count() {
    return this.#count;
  }

  /** How many came since the pause. */
  get waiting() {
    return this.#frozen ? this.#count - this.#countAtPause : 0;
  }

  /** What is shown, as JSON lines. */
  download() {
    return this.shown.map((line) => `${JSON.stringify(line.event ?? own(line))}\n`).join("");
  }

  /** @param {Line} line */
  #isMatch(line) {
    if (!this.#words.length) return true;
    line.haystack ??= (line.kind === "event" ? JSON.stringify(line.event) : line.text).toLowerCase();
    const haystack = line.haystack;
    return this.#words.every((word) => (word[0] === "-" ? !haystack.includes(word.slice(1)) : haystack.includes(word)));
  }
}

/**
 * What an event says, in a line.
 * @param {any} event
 * @param {string} detail "names": only what is the matter; "values"; or "JSON"
 */
export function eventText(event, detail) {
  const mark = event.gone ? "gone" : event.expired ? "expired" : event.stale ? "stale" : "";
  if (detail === "JSON") return [mark, JSON.stringify(event.data)].filter(Boolean).join(" · ");
  const words = Object.hasOwn(WORDS, event.type) && WORDS[event.type];
  if (words && event.data && !event.gone) return words(event.data);
  const why = event.stale && event.error_code ? `${mark}: ${reasonInWords(event)}` : mark;
  if (detail === "names" || event.gone || event.expired) return why;
  return [why, shortly(event)].filter(Boolean).join(" · ");
}

/** What the gateway's own events say. @type {Record<string, (data: any) => string>} */
const WORDS = {
  "circuit_breaker.state": ({ state, forced, from, reason }) =>
    `${moveWord(state, forced)}${from ? ` after ${moveWord(from)}` : ""}: ${reasonText(reason)}`,
  "source.freshness": ({ type, stale, error_code: code }) =>
    `${type} is ${stale ? `stale${code ? `: ${codeInWords(code)}` : ""}` : "fresh"}`,
  rpc_error: ({ source, error_code: code, message, consecutive_failures: failures }) =>
    `${source}: ${codeInWords(code)}${failures > 1 ? `, ${failures} times in a row` : ""}: ${message}`,
  notification: ({ message }) => message,
};

/** @param {any} event */
function shortly({ type, data }) {
  const { fields: told, more } = fields(type, data);
  const text = told.map(({ name, text: value }) => (name ? `${name} ${value}` : value)).join(" · ");
  return more > 0 && told.length ? `${text} · +${more}` : text;
}

/** @param {Line} line */
function own({ at, text }) {
  return { type: "page.connection", timestamp: new Date(at).toISOString(), data: { message: text } };
}

/** A gap in words: a line for each type, or one. @param {any} gap @returns {string[]} */
export function gapTexts({ reason, skipped }) {
  if (reason === "slow_consumer") {
    const types = Object.entries(skipped ?? {});
    if (!types.length) return ["Events were skipped for this page, which read too slowly."];
    return types.map(([type, n]) => {
      const what = type === "*" ? "other types" : visible(type);
      const events = n === 1 ? `1 event of ${what} was` : `${n} events of ${what} were`;
      return `${events} skipped for this page, which read too slowly.`;
    });
  }
  const missing = "events are missing here, values are complete.";
  if (reason === "epoch_changed") return [`The gateway was restarted: ${missing}`];
  if (reason === "history_truncated") return [`This page was away for too long: ${missing}`];
  return [`Events are missing here (${visible(reason)}).`];
}

/**
 * What a change of the connection is worth as a line; null if nothing. `before` is the status of the last such line.
 * @param {{ state: string, since: number }} before
 * @param {{ state: string, since: number, reason: string | null, resumed: boolean }} status
 * @returns {string | null}
 */
export function connectionText(before, status) {
  const wasThere = before.state === "live" || before.state === "quiet";
  if (status.state === before.state) return null;
  if (status.state === "quiet") return before.state === "live" ? "Nothing is heard from the gateway." : null;
  if (status.state !== "live") {
    if (!wasThere) return null;
    return status.reason ? `The connection was lost: ${visible(status.reason)}.` : "The connection was lost.";
  }
  if (wasThere) return "The gateway is heard again: nothing is missing.";
  if (before.state === "connecting") return "Connected."; // for the first time
  const away = span(Math.max(0, status.since - before.since) / 1000);
  return `Connected again after ${away}: ${status.resumed ? "what was missed follows." : "the newest values follow."}`;
}

/**
 * The patterns to begin with: all that the token covers, and what the gateway tells of that.
 * @param {readonly string[] | null} types Those of the session.
 */
export function firstPatterns(types) {
  return types && !types.includes("*") ? [...types, ...OWN] : ["*"];
}

/**
 * The patterns in a text, separated by commas or spaces. Throws an `Error` that says which one is none.
 * @param {string} text
 * @returns {string[]}
 */
export function patternsIn(text) {
  const patterns = [...new Set(text.split(/[\s,]+/).filter(Boolean))];
  const wrong = patterns.find((pattern) => !PATTERN.test(pattern));
  if (wrong) throw new Error(`Expected a type, a prefix with .* or *, got “${visible(wrong)}”`);
  return patterns;
}
