// What is known of one circuit breaker, and how to say it. Its state comes from events alone, since these are in order;
// counts and the last error come from answers to requests. Plain computation: no page, no connection, no clock.

import { span } from "./format.js";

const MOVES = 200; // more are not drawn: a breaker that moves so often is a grey bar anyway
const SAME_MS = 1000; // an event says when it was published, the history when the breaker moved: a moment earlier
const SAME_START_MS = 60_000; // that of a start is published once the gateway has opened its ports
const TIMELINE_MS = 30 * 60_000;

const REASONS = {
  start: "as the gateway started",
  failure_threshold: "too many failures in a row",
  failure_rate: "too many of its calls failed",
  retry_due: "time for the next try",
  reachable: "it can be reached again",
  poke: "somebody asked for a poll",
  probe_failed: "the try failed",
  probe_succeeded: "the try succeeded",
  force_open: "forced open by an operator",
  force_closed: "forced closed by an operator",
  reset: "reset by an operator",
  reload: "asked in another way from now on, as the configuration says",
};

/** Worst first. @type {Record<string, number>} */
const BADNESS = { open: 0, half_open: 1, closed: 3 };

/**
 * @typedef {{ at: number, from: string | null, to: string, reason: string }} Move
 * @typedef {{ code: string, message: string, at: string }} LastError
 */

/** One breaker. Times are milliseconds of the gateway's clock. */
export class Breaker {
  state = "closed";
  isForced = false;
  since = 0;
  /** @type {number | null} */
  retryAt = null;
  failures = 0;
  /** @type {number | null} */
  threshold = null;
  /** @type {LastError | null} */
  lastError = null;
  /** @type {Move[]} */
  moves = [];
  /** When the failures were last told; 0: never. */
  toldAt = 0;
  #hasEvent = false;
  /** @type {number | null} */
  #lostAt = null;

  /** @param {string} name */
  constructor(name) {
    this.name = name;
  }

  /**
   * Take a `circuit_breaker.state`; a snapshot too.
   * @param {any} event
   * @param {number} nowMs
   */
  moved({ timestamp, data }, nowMs) {
    this.#hasEvent = true;
    const at = Date.parse(timestamp);
    this.state = data.state;
    this.isForced = data.forced;
    this.since = data.opened_at ? Date.parse(data.opened_at) : at;
    this.retryAt = time(data.retry_at);
    this.failures = data.failure_count;
    this.toldAt = nowMs;
    this.#add({ at, from: data.from, to: data.state, reason: data.reason });
  }

  /**
   * Take what a request was answered with.
   * @param {any} status
   * @param {number} nowMs
   */
  told(status, nowMs) {
    this.threshold = status.failure_threshold ?? null;
    this.lastError = status.last_error;
    // An answer from before or after a move that an event has told counts for what it was then.
    if (!this.#hasEvent || status.state === this.state) this.failures = status.failure_count;
    this.toldAt = nowMs;
    for (const { at, from, to, reason } of status.history ?? []) this.#add({ at: Date.parse(at), from, to, reason });
    if (this.#hasEvent) return;
    this.state = status.state;
    this.isForced = status.forced;
    this.since = Date.parse(status.since);
    this.retryAt = time(status.retry_at);
  }

  /**
   * The gateway went away at this time. What it did from then on is learnt from itself, or not at all.
   * @param {number} atMs
   */
  lost(atMs) {
    this.#lostAt = atMs;
  }

  /** @param {Move} move */
  #add(move) {
    const within = move.from === null ? SAME_START_MS : SAME_MS;
    const isKnown = this.moves.some(({ at, from, to, reason }) =>
      from === move.from && to === move.to && reason === move.reason && Math.abs(at - move.at) < within);
    if (isKnown) return;
    // Before the start of another process there is a time that neither of the two knows of.
    if (move.from === null && this.moves.length && this.#lostAt !== null && this.#lostAt < move.at) {
      this.moves.push({ at: this.#lostAt, from: this.moves[this.moves.length - 1].to, to: "unknown", reason: "" });
    }
    this.moves.push(move);
    this.moves.sort((a, b) => a.at - b.at);
    this.moves.splice(0, this.moves.length - MOVES);
  }

  /** Those of the last 30 minutes, newest first. @param {number} nowMs */
  recent(nowMs) {
    return this.moves.filter(({ at, to }) => at > nowMs - TIMELINE_MS && to !== "unknown").reverse();
  }

  /** The shape that stands for it. @param {boolean} isVouched */
  shape(isVouched) {
    if (!isVouched) return "unvouched";
    if (this.isForced) return "forced";
    return this.state in BADNESS ? this.state : "published";
  }

  /** Where it stands among others: what needs attention comes first. */
  get rank() {
    return this.isForced && this.state === "closed" ? 2 : BADNESS[this.state] ?? 3;
  }
}

/** @param {string | null | undefined} iso */
function time(iso) {
  return iso ? Date.parse(iso) : null;
}

/** "open for 3 min"; "was open". @param {Breaker} breaker @param {number} nowMs @param {boolean} isVouched */
export function stateText({ state, isForced, since }, nowMs, isVouched) {
  const word = moveWord(state, isForced);
  return isVouched ? `${word} for ${span((nowMs - since) / 1000)}` : `was ${word}`;
}

/** @param {string} state @param {boolean} [isForced] */
export function moveWord(state, isForced = false) {
  const word = state.replace("_", "-");
  return isForced ? `forced ${word}` : word;
}

/** What moved it, in words; a reason that is not known as it is. @param {string} reason */
export function reasonText(reason) {
  return Object.hasOwn(REASONS, reason) ? REASONS[/** @type {keyof typeof REASONS} */ (reason)] : reason;
}

/**
 * What happens next, in a sentence. Cut off, it says what was planned, and counts on.
 * @param {Breaker} breaker
 * @param {number} nowMs
 * @param {boolean} isVouched
 */
export function nextText(breaker, nowMs, isVouched) {
  if (!isVouched) return plannedText(breaker, nowMs);
  if (breaker.isForced) {
    return breaker.state === "open"
      ? "Nothing is asked until an operator resets it."
      : "Every call goes through, however many fail, until an operator resets it.";
  }
  if (breaker.state === "half_open") return "It is being tried now: this one call decides.";
  if (breaker.state === "closed") return breaker.failures ? "Calls still go through." : "Calls go through.";
  const left = secondsLeft(breaker, nowMs);
  if (left === null) return "Nothing is asked.";
  const sooner = breaker.lastError?.code === "RPC_DISCONNECT" ? ", sooner if it can be reached" : "";
  return left > 0 ? `Next try at the latest in ${span(left)}${sooner}.` : "The next try is due now.";
}

/** @param {Breaker} breaker @param {number} nowMs */
function plannedText(breaker, nowMs) {
  const left = breaker.state === "open" && !breaker.isForced ? secondsLeft(breaker, nowMs) : null;
  if (left === null) return "What it does now is not known.";
  return left > 0
    ? `A try was planned within ${span(left)}; whether it comes is not known.`
    : `A try was planned for ${span((nowMs - (breaker.retryAt ?? nowMs)) / 1000)} ago; what became of it is not known.`;
}

/**
 * Whole seconds until the next try, never below 0; null if none is planned.
 * @param {Breaker} breaker @param {number} nowMs
 */
function secondsLeft({ retryAt }, nowMs) {
  return retryAt === null ? null : Math.max(0, Math.ceil((retryAt - nowMs) / 1000));
}

/** "3 of 5 failures in a row"; "8 failures in a row". @param {Breaker} breaker @param {boolean} isVouched */
export function failuresText({ failures, threshold, state, toldAt }, isVouched) {
  if (!toldAt) return "Failures: not known yet";
  const of = threshold && state === "closed" ? ` of ${threshold}` : "";
  const text = failures ? `${failures}${of} failure${failures === 1 && !of ? "" : "s"} in a row` : "No failure";
  return isVouched ? text : `${text}, when it was last heard of`;
}

/**
 * How much of the last 30 minutes it was not closed, in words.
 * @param {readonly import("./spark.js").Span[]} spans
 */
export function outageText(spans) {
  let open = 0;
  let unknown = 0;
  for (const { from, to, state } of spans) {
    if (state === "unknown") unknown += to - from;
    else if (state !== "closed") open += to - from;
  }
  if (unknown >= TIMELINE_MS) return "nothing is known of the last 30 min";
  const whole = unknown < 60_000 ? "the last 30 min" : `the last ${span((TIMELINE_MS - unknown) / 1000)} (not known before)`;
  return open ? `not closed for ${span(open / 1000)} of ${whole}` : `closed for all of ${whole}`;
}

/**
 * Which breaker judges a source: its own, named `BACKEND/TYPE`, or that of its backend.
 * @param {{ type: string, backend: string }} source
 * @param {{ has(name: string): boolean }} names
 */
export function breakerNameOf({ type, backend }, names) {
  const own = `${backend}/${type}`;
  return names.has(own) ? own : backend;
}
