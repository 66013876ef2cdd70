// The words and shapes of the page: states, codes, and names from outside made safe to show.
// Knows nothing of the connection or of the document's layout.

import { span } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const STEERING = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

const CODES = {
  RPC_TIMEOUT: "no answer in time",
  RPC_DISCONNECT: "cannot be reached",
  RPC_HTTP_STATUS: "answers with an HTTP error",
  RPC_AUTH: "refuses our credentials",
  RPC_INVALID_RESPONSE: "answers nonsense",
  RPC_APPLICATION_ERROR: "answers with an error",
  CIRCUIT_BREAKER_OPEN: "not asked, because it failed too often",
  OVERDUE: "overdue",
  RESTORED: "from before the restart",
  BUS_DISCONNECTED: "gateway cut off from its cluster",
  RELOADED: "configuration changed, not asked yet",
  DISCONNECTED: "this page is cut off from the gateway",
};

const DOT = "M3.5 8a4.5 4.5 0 1 1 9 0a4.5 4.5 0 1 1-9 0z";
const TRIANGLE = "M8 1.5 15.2 14H.8z";

/** What each state is drawn as: a path in 16 × 16, and how wide its stroke is; filled if that is 0. */
/** @type {Record<string, [string, number]>} */
const SHAPES = {
  fresh: [DOT, 0],
  stale: [TRIANGLE, 0],
  never: ["m3 3 10 10M13 3 3 13", 2.75],
  expired: ["M8 2h.01M12.2 3.8h.01M14 8h.01M12.2 12.2h.01M8 14h.01M3.8 12.2h.01M2 8h.01M3.8 3.8h.01", 2.5],
  unvouched: ["M4.4 5C4.6 2.7 6.1 1.6 8 1.6c2.1 0 3.6 1.3 3.6 3.2C11.6 7.5 8 7.7 8 10.4M8 14.2h.01", 2.4],
  published: ["m8 3.6 4.4 4.4L8 12.4 3.6 8z", 0],
  closed: [DOT, 0],
  open: [TRIANGLE, 0],
  half_open: ["M1.5 8a6.5 6.5 0 1 1 13 0a6.5 6.5 0 1 1-13 0zM8 3.5a4.5 4.5 0 0 0 0 9z", 0],
  forced: ["M3 7.5h10V14H3zM5 7.5V5a3 3 0 0 1 6 0v2.5", 2],
  busy: ["M2.5 8h.01M8 8h.01M13.5 8h.01", 3],
};

/** What an error code means, in words; a code that is not known is returned as it is. @param {string} code */
export function codeInWords(code) {
  return Object.hasOwn(CODES, code) ? CODES[/** @type {keyof typeof CODES} */ (code)] : code;
}

/** Text from outside with control and format characters as escapes, such as `\u202e`. @param {unknown} text */
export function visible(text) {
  return String(text).replace(STEERING, (character) => {
    const code = /** @type {number} */ (character.codePointAt(0)).toString(16);
    return code.length > 4 ? `\\u{${code}}` : `\\u${code.padStart(4, "0")}`;
  });
}

/**
 * The state in words: "fresh", "stale for 3 min", "was fresh". @param {any} value A `Value` of the client.
 * @param {number} now ms of `client.now()`
 */
export function stateInWords(value, now) {
  const { state, since } = value;
  if (state === "stale") return now - since < 1000 ? "stale" : `stale for ${span((now - since) / 1000)}`;
  if (state !== "unvouched") return PLAIN[/** @type {keyof typeof PLAIN} */ (state)];
  const before = was(value);
  return before === "never" ? "had no answer" : `was ${PLAIN[before]}`;
}

/**
 * What an `unvouched` value was when the gateway last vouched for what is known of it.
 * @param {any} value @returns {"fresh" | "stale" | "expired" | "published" | "never"}
 */
export function was({ stale, as_of: asOf, data }) {
  if (stale === null) return "published";
  if (!stale) return "fresh";
  if (asOf === null) return "never";
  return data === null ? "expired" : "stale";
}

/**
 * Why a value is not current, in words and without the code. @param {any} value
 * @param {number} [failures] How often its backend has failed in a row, if that is known.
 */
export function reasonInWords({ error_code: code, cause }, failures = 0) {
  if (!code) return "";
  if (code !== "CIRCUIT_BREAKER_OPEN") return codeInWords(code);
  const often = failures > 1 ? `it failed ${failures} times` : "it failed";
  return `not asked, because ${often}${cause ? `: ${codeInWords(cause)}` : ""}`;
}

const PLAIN = { fresh: "fresh", stale: "stale", never: "never answered", expired: "expired", published: "published" };

/** A shape for a state: an SVG in the colour of the text around it. @param {string} name */
export function shape(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "shape");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "path"));
  setShape(svg, name);
  return svg;
}

/** Let `svg` show another shape, if it does not yet. @param {Element} svg @param {string} name */
export function setShape(svg, name) {
  const path = /** @type {Element} */ (svg.firstElementChild);
  const [d, width] = SHAPES[name];
  if (path.getAttribute("d") === d) return;
  path.setAttribute("d", d);
  path.setAttribute("fill", width ? "none" : "currentColor");
  path.setAttribute("fill-rule", "evenodd");
  path.setAttribute("stroke", width ? "currentColor" : "none");
  path.setAttribute("stroke-width", String(width));
  path.setAttribute("stroke-linecap", "round");
  path.setAttribute("stroke-linejoin", "round");
}

/** Write `text` into `element`, only if it says something else. @param {Element} element @param {string} text */
export function write(element, text) {
  const node = element.firstChild;
  if (!node) element.append(text);
  else if (/** @type {Text} */ (node).data !== text) /** @type {Text} */ (node).data = text;
}

/**
 * Make an element. Properties of `more` are set on it; a string child becomes a text node.
 * @template {keyof HTMLElementTagNameMap} N
 * @param {N} name @param {Record<string, any>} [more] @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[N]}
 */
export function make(name, more = {}, ...children) {
  const element = Object.assign(document.createElement(name), more);
  element.append(...children);
  return element;
}

/** An element by its id, which is there. @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);
