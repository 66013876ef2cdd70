// Which token is sent, what it covers, and when it has to be renewed.

/** @import { Options } from "../../../src/tidegate/web/client.d.ts" */

const RENEW_APART_MS = 5000; // a token may have expired when it comes

export class Tokens {
  /** @type {string | null} */
  text = null;
  #source;
  /** @type {string | null} */
  #coverage = null;

  /** @param {Options["token"]} source */
  constructor(source = "") {
    this.#source = source;
  }

  get canChange() {
    return typeof this.#source === "function";
  }

  /** @param {"connect" | "expired" | "expiring"} reason @param {AbortSignal} signal */
  async read(reason, signal) {
    return (typeof this.#source === "function" ? await this.#source({ reason, signal }) : this.#source) || null;
  }

  /** From now on this one is sent. Returns whether it may cover something else. @param {string | null} text */
  take(text) {
    const before = this.#coverage;
    const { types, roles } = claims(text) ?? { types: text };
    this.text = text;
    this.#coverage = JSON.stringify([types, roles]);
    return before !== null && before !== this.#coverage;
  }

  /** In how many ms to ask for the next one; null if it can't be known. @param {number} now */
  renewInMs(now) {
    const expires = this.canChange && claims(this.text)?.exp;
    if (typeof expires !== "number") return null;
    const leftMs = 1000 * expires - now;
    const marginMs = Math.max(30_000, leftMs / 10);
    return Math.min(Math.max(RENEW_APART_MS, leftMs > marginMs ? leftMs - marginMs : leftMs / 2), 2 ** 31 - 1);
  }

  // Keeps the token out of URLs.
  get protocols() {
    if (this.text === null) return [];
    const encoded = btoa(this.text).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
    return ["tidegate.v1", `tidegate.token.${encoded}`];
  }
}

/** The payload of a JSON Web Token; null if it is something else. @param {string | null} token */
function claims(token) {
  try {
    const [, payload] = /** @type {string} */ (token).split(".");
    return JSON.parse(atob(payload.replace(/-/g, "+").replace(/_/g, "/")));
  } catch {
    return null;
  }
}
