// Where a text stops being JSON. Browsers say it each in another way, or not at all, so it is found here. Pure.

const SPACE = /[ \t\n\r]*/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /true|false|null/y;
const PART_OF_STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*/y;

/**
 * The first place at which `text` cannot be JSON any more, counted from 1, and what was expected there; null if it is
 * JSON.
 * @param {string} text
 * @returns {{ line: number, column: number, at: number, expected: string } | null}
 */
export function jsonError(text) {
  const wrong = scan(text);
  if (!wrong) return null;
  const before = text.slice(0, wrong.at).split("\n");
  return { ...wrong, line: before.length, column: before[before.length - 1].length + 1 };
}

/** @param {string} text @returns {{ at: number, expected: string } | null} */
function scan(text) {
  const closers = /** @type {string[]} */ ([]); // of what is open
  let wants = "a value";
  let at = 0;
  /** @param {RegExp} pattern */
  const take = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0] ?? "";
    at += found.length;
    return found;
  };
  for (;;) {
    take(SPACE);
    const next = text[at];
    const step = STEPS[wants](next, closers, take);
    if (step === null) return wrongAt(text, at, wants);
    if (step === DONE) break;
    wants = step;
  }
  take(SPACE);
  return at === text.length ? null : { at, expected: "the end" };
}

/** @param {string} text @param {number} at @param {string} wants */
function wrongAt(text, at, wants) {
  PART_OF_STRING.lastIndex = at;
  const right = PART_OF_STRING.exec(text)?.[0].length;
  return right && text[at] === '"' && /value|name/.test(wants)
    ? { at: at + right, expected: "the rest of the text, up to its closing quote" }
    : { at, expected: wants };
}

const DONE = "";

/** @typedef {(next: string | undefined, closers: string[], take: (pattern: RegExp) => string) => string | null} Step */

/** By what may come: what is wanted after it, or null if something else came. @type {Record<string, Step>} */
const STEPS = {
  "a value": value,
  "a value or ]": (next, closers, take) => (next === "]" ? close(closers, take) : value(next, closers, take)),
  "a name in quotes": (_, __, take) => (take(STRING) ? ":" : null),
  "a name in quotes or }": (next, closers, take) => (next === "}" ? close(closers, take) : take(STRING) ? ":" : null),
  ":": (_, __, take) => (take(/:/y) ? "a value" : null),
  ", or ]": (next, closers, take) => (next === "]" ? close(closers, take) : take(/,/y) ? "a value" : null),
  ", or }": (next, closers, take) => (next === "}" ? close(closers, take) : take(/,/y) ? "a name in quotes" : null),
};

/** @param {string | undefined} next @param {string[]} closers @param {(pattern: RegExp) => string} take */
function value(next, closers, take) {
  if (next === "{" || next === "[") {
    take(/[{[]/y);
    closers.push(next === "{" ? "}" : "]");
    return next === "{" ? "a name in quotes or }" : "a value or ]";
  }
  return take(STRING) || take(NUMBER) || take(WORD) ? after(closers) : null;
}

/** @param {string[]} closers @param {(pattern: RegExp) => string} take */
function close(closers, take) {
  take(/[}\]]/y);
  closers.pop();
  return after(closers);
}

/** @param {string[]} closers */
function after(closers) {
  return closers.length ? `, or ${closers[closers.length - 1]}` : DONE;
}
