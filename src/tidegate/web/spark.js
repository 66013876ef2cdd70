// Trends as pictures: a ring of samples of one number, its sparkline, and a breaker's timeline.
//
// What was not vouched for is a hatched gap, never a line: a picture must not look more certain than the value beside
// it. The first half is plain computation and runs without a page; only `sparkline` and `timeline` touch the DOM, and
// they write an attribute only if it differs. Times are milliseconds; this module reads no clock.

const SLOTS = 120;
const SLOT_MS = 5000;
const WINDOW_MS = SLOTS * SLOT_MS;

// What a slot of `Samples` knows.
const SAMPLE = 1; // it has a number
const BROKEN = 2; // somewhere in it the value was not vouched for
const ENDS_BROKEN = 4; // and at its end it still is not

const TIMELINE_MS = 30 * 60_000;
const HATCH = 4; // distance between two lines of a hatching

/**
 * The newest numbers of one value over 10 minutes, in slots of 5 s; the newest number in a slot counts.
 * A slot's place says its time, so 120 samples take 600 bytes.
 */
export class Samples {
  #numbers = new Float32Array(SLOTS);
  #flags = new Uint8Array(SLOTS);
  #last = -1;
  #newest = NaN; // with every digit, which the ring has not
  #vouched = false;
  /** Counts the changes, so that nobody draws the same picture twice. */
  version = 0;

  /**
   * Take a number, or that the value is not vouched for from this time on.
   * @param {number} timeMs
   * @param {number} number ignored if it is not finite
   * @param {boolean} [vouched]
   */
  add(timeMs, number, vouched = true) {
    if (vouched && !Number.isFinite(number)) return;
    this.#moveTo(Math.floor(timeMs / SLOT_MS));
    const at = this.#last % SLOTS;
    if (vouched) {
      this.#numbers[at] = Math.max(-3.4e38, Math.min(3.4e38, number));
      this.#flags[at] = SAMPLE | (this.#flags[at] & BROKEN);
      this.#newest = number;
    } else this.#flags[at] |= BROKEN | ENDS_BROKEN;
    this.#vouched = vouched;
    this.version += 1;
  }

  /** The newest number that was vouched for, or NaN. */
  get newest() {
    return this.#newest;
  }

  /** Whether the newest number is still vouched for. */
  get vouched() {
    return this.#vouched;
  }

  /**
   * The smallest and the largest number in the window, and when the oldest was taken; null without a number.
   * @param {number} nowMs
   * @returns {{ least: number, most: number, sinceMs: number } | null}
   */
  range(nowMs) {
    let least = Infinity;
    let most = -Infinity;
    let sinceMs = 0;
    for (const { slot, number } of this.slots(nowMs)) {
      if (Number.isNaN(number)) continue;
      sinceMs ||= slot * SLOT_MS;
      least = Math.min(least, number);
      most = Math.max(most, number);
    }
    return least > most ? null : { least: shortest(least), most: shortest(most), sinceMs };
  }

  /**
   * What the picture says, for those who do not see it.
   * @param {number} nowMs
   * @param {(number: number) => string} [format]
   */
  text(nowMs, format = String) {
    const range = this.range(nowMs);
    if (Number.isNaN(this.#newest)) return "no number yet";
    const newest = format(this.#newest);
    if (!range) return this.#vouched ? `${newest}, unchanged for 10 minutes` : `last ${newest}, not current now`;
    const time = `in ${inWords(Math.min(WINDOW_MS, nowMs - range.sinceMs))}`;
    const [least, most] = [format(range.least), format(range.most)];
    const moved = range.least === range.most ? `unchanged ${time}` : `between ${least} and ${most} ${time}`;
    return this.#vouched ? `${newest}, ${moved}` : `last ${newest}, ${moved}, not current now`;
  }

  /**
   * The slots in the window that know something, oldest first. `number` is NaN where there is none.
   * @param {number} nowMs
   */
  *slots(nowMs) {
    const newest = Math.max(this.#last, Math.floor(nowMs / SLOT_MS));
    for (let slot = Math.max(newest - SLOTS, 0) + 1; slot <= this.#last; slot += 1) {
      const flags = this.#flags[slot % SLOTS];
      if (!flags) continue;
      const number = flags & SAMPLE ? this.#numbers[slot % SLOTS] : NaN;
      yield { slot, number, broken: (flags & BROKEN) !== 0, endsBroken: (flags & ENDS_BROKEN) !== 0 };
    }
  }

  /** @param {number} slot */
  #moveTo(slot) {
    // A little less than the last: the clock was adjusted. Much less: it was set back, and the rest is in the future.
    if (slot < this.#last - 2 || slot - this.#last >= SLOTS) this.#flags.fill(0);
    else for (let next = this.#last + 1; next <= slot; next += 1) this.#flags[next % SLOTS] = 0;
    if (slot > this.#last || slot < this.#last - 2) this.#last = slot;
  }
}

/**
 * A sparkline as paths, in a box of `width` × `height`: the line, a dot at the newest number while that is vouched
 * for, and the stretches that were not vouched for, hatched.
 * @param {Samples} samples
 * @param {number} nowMs
 * @param {number} width
 * @param {number} height
 */
export function sparkPaths(samples, nowMs, width, height) {
  const range = samples.range(nowMs);
  const right = Math.floor(nowMs / SLOT_MS);
  const pad = 2;
  /** @param {number} slot */
  const x = (slot) => round(pad + ((width - 2 * pad) * Math.max(0, slot - right + SLOTS - 1)) / (SLOTS - 1));
  const { least, most } = range ?? { least: 0, most: 0 };
  /** @param {number} number */
  const y = (number) =>
    most > least ? round(height - pad - ((height - 2 * pad) * (number - least)) / (most - least)) : round(height / 2);
  const { lines, gaps } = stretches(samples, nowMs);
  const line = lines.map((points) => stroke(points.map(({ slot, number }) => [x(slot), y(number)]))).join("");
  /** @param {[number, number]} gap At least one slot wide, to be seen. */
  const hatchedGap = ([from, to]) => hatch(x(Math.min(from, right - 1)), x(Math.max(to, from + 1)), height);
  const hatched = gaps.map(hatchedGap).join("");
  const end = samples.vouched ? lines.at(-1)?.at(-1) : undefined;
  return { line, hatched, dot: end ? `M${x(end.slot)} ${y(end.number)}h0` : "" };
}

/**
 * Where a line is drawn, and where it is not known. A number holds until the slot before the next one, since nothing
 * was said in between; the newest holds until now.
 * @param {Samples} samples
 * @param {number} nowMs
 */
function stretches(samples, nowMs) {
  /** @type {{ slot: number, number: number }[][]} */
  const lines = [];
  /** @type {[number, number][]} */
  const gaps = [];
  /** @type {{ slot: number, number: number }[] | null} */
  let line = null;
  let gapFrom = NaN;
  for (const { slot, number, broken, endsBroken } of samples.slots(nowMs)) {
    if (broken) {
      if (line) hold(line, slot);
      line = null;
      if (Number.isNaN(gapFrom)) gapFrom = slot;
    }
    if (Number.isNaN(number) || endsBroken) continue;
    if (!Number.isNaN(gapFrom)) gaps.push([gapFrom, slot]);
    gapFrom = NaN;
    if (line) hold(line, slot - 1);
    else lines.push((line = []));
    line.push({ slot, number });
  }
  const right = Math.max(Math.floor(nowMs / SLOT_MS), lines.at(-1)?.at(-1)?.slot ?? 0);
  if (line) hold(line, right);
  if (!Number.isNaN(gapFrom)) gaps.push([gapFrom, right]);
  // All that was said has left the window; the last word still holds.
  if (!lines.length && !gaps.length && !Number.isNaN(samples.newest)) {
    const number = samples.newest;
    if (samples.vouched) lines.push([{ slot: right - SLOTS + 1, number }, { slot: right, number }]);
    else gaps.push([right - SLOTS + 1, right]);
  }
  return { lines, gaps };
}

/** @param {{ slot: number, number: number }[]} line @param {number} slot */
function hold(line, slot) {
  const last = line[line.length - 1];
  if (last.slot < slot) line.push({ slot, number: last.number });
}

/** @param {number[][]} points */
function stroke(points) {
  const [[x, y], ...rest] = points;
  return `M${x} ${y}${rest.length ? `L${rest.map(([px, py]) => `${px} ${py}`).join(" ")}` : "h0"}`;
}

/**
 * Slanted lines that fill the box from `left` to `right`. Lines and not a pattern: a pattern needs an id in the page,
 * and is lost where backgrounds are not printed.
 * @param {number} left
 * @param {number} right
 * @param {number} height
 */
export function hatch(left, right, height) {
  let path = "";
  for (let foot = Math.ceil((left - height) / HATCH) * HATCH; foot < right; foot += HATCH) {
    const [from, to] = [Math.max(foot, left), Math.min(foot + height, right)];
    const [low, high] = [height - (from - foot), height - (to - foot)];
    if (from < to) path += `M${round(from)} ${round(low)}L${round(to)} ${round(high)}`;
  }
  return path;
}

/**
 * @typedef {{ at: number, to: string }} Move the time of a change, and the breaker's state from then on
 * @typedef {{ from: number, to: number, state: string }} Span `state` may be "unknown"
 */

/**
 * What the breaker's state was in the last 30 minutes, without holes.
 * @param {readonly Move[]} moves oldest first
 * @param {number} nowMs
 * @param {number} [knownUntilMs] when the page was cut off: nothing is known after it
 * @returns {Span[]}
 */
export function spans(moves, nowMs, knownUntilMs = nowMs) {
  const start = nowMs - TIMELINE_MS;
  const known = Math.max(start, Math.min(knownUntilMs, nowMs));
  /** @type {Span[]} */
  const found = [];
  /** @param {number} from @param {number} to @param {string} state */
  const add = (from, to, state) => {
    const [left, right] = [Math.max(from, start), Math.min(to, state === "unknown" ? nowMs : known)];
    if (left < right) found.push({ from: left, to: right, state });
  };
  add(start, Math.min(moves[0]?.at ?? known, known), "unknown");
  moves.forEach((move, n) => add(move.at, moves[n + 1]?.at ?? known, move.to));
  add(known, nowMs, "unknown");
  return found;
}

/**
 * A timeline as paths: closed is a thin line, open a hatched bar, half-open an outline, unknown a dotted line.
 * @param {readonly Span[]} all
 * @param {number} nowMs
 * @param {number} width
 * @param {number} height
 */
export function timelinePaths(all, nowMs, width, height) {
  const paths = { closed: "", open: "", hatched: "", half_open: "", unknown: "" };
  const middle = height / 2;
  /** @param {number} at */
  const x = (at) => round(width * (1 - (nowMs - at) / TIMELINE_MS));
  for (const { from, to, state } of all) {
    const left = x(from);
    if (state === "closed") paths.closed += `M${left} ${middle}H${x(to)}`;
    else if (state === "unknown") paths.unknown += `M${left} ${middle}H${x(to)}`;
    else {
      // A short one is drawn wider than it was, and a short try as a stroke: half a pixel would not be seen.
      const [from3, to3] = [Math.min(left, width - 3), Math.min(width, Math.max(x(to), left + 3))];
      if (state === "open") {
        paths.open += box(from3, to3, height);
        paths.hatched += hatch(from3, to3, height);
      } else paths.half_open += x(to) - left < 3 ? `M${left} 1V${height - 1}` : box(left, x(to), height);
    }
  }
  return paths;
}

/** @param {number} left @param {number} right @param {number} height */
function box(left, right, height) {
  return `M${left} 1H${right}V${height - 1}H${left}Z`;
}

/** @param {number} number */
function round(number) {
  return Math.round(number * 10) / 10;
}

// A Float32 has seven digits; the others are noise.
/** @param {number} number */
function shortest(number) {
  return Number(number.toPrecision(7));
}

/** @param {number} milliseconds */
function inWords(milliseconds) {
  const minutes = Math.round(milliseconds / 60_000);
  if (minutes < 1) return "less than a minute";
  return minutes === 1 ? "a minute" : `${minutes} minutes`;
}

/**
 * A sparkline to be drawn again and again, also of other samples. It is hidden from screen readers: put
 * `samples.text()` beside it.
 * @param {number} width CSS pixels
 * @param {number} height CSS pixels
 */
export function sparkline(width, height) {
  const { svg, paths } = picture("spark", width, height, ["hatched", "line", "dot"]);
  svg.setAttribute("width", String(width));
  svg.setAttribute("height", String(height));
  let drawn = "";
  /** @type {Samples | null} */
  let of = null;
  return {
    element: svg,
    /** @param {Samples} samples @param {number} nowMs */
    draw(samples, nowMs) {
      const wanted = `${samples.version} ${Math.floor(nowMs / SLOT_MS)}`;
      if (samples === of && wanted === drawn) return;
      [of, drawn] = [samples, wanted];
      write(paths, sparkPaths(samples, nowMs, width, height));
    },
  };
}

/** A breaker's timeline, as wide as its surroundings. Put the same as a list beside it: it is hidden from readers. */
export function timeline() {
  const [width, height] = [600, 22];
  const { svg, paths } = picture("timeline", width, height, ["unknown", "closed", "hatched", "open", "half_open"]);
  svg.setAttribute("preserveAspectRatio", "none");
  return {
    element: svg,
    /** @param {readonly Move[]} moves @param {number} nowMs @param {number} [knownUntilMs] */
    draw(moves, nowMs, knownUntilMs = nowMs) {
      // In whole seconds: a step is a third of a unit, so finer ones would not be seen, and cost a new path each.
      const now = Math.ceil(nowMs / 1000) * 1000;
      const known = knownUntilMs < nowMs ? knownUntilMs : now;
      write(paths, timelinePaths(spans(moves, now, known), now, width, height));
    },
  };
}

/** @param {string} kind @param {number} width @param {number} height @param {string[]} names */
function picture(kind, width, height, names) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", kind);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("focusable", "false");
  /** @type {Record<string, { element: SVGPathElement, d: string }>} */
  const paths = {};
  for (const name of names) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", "path");
    element.setAttribute("class", `${kind}-${name}`);
    svg.append(element);
    paths[name] = { element, d: "" };
  }
  return { svg, paths };
}

/** @param {Record<string, { element: SVGPathElement, d: string }>} paths @param {Record<string, string>} wanted */
function write(paths, wanted) {
  for (const [name, path] of Object.entries(paths)) {
    if (path.d === wanted[name]) continue;
    path.d = wanted[name];
    path.element.setAttribute("d", path.d);
  }
}
