// What a page may know of a gateway before it is connected, and of why it was refused: browsers hide a refused handshake.

import { refusal } from "./links.js";

/** @import { Session } from "../../../src/tidegate/web/client.d.ts" */
/** @import { End } from "./links.js" */

const TIMEOUT_MS = 5000;

/**
 * The session, or why no stream would be let in.
 * @param {typeof fetch} get @param {URL} base @param {HeadersInit} headers
 * @returns {Promise<{ session?: Session, end?: End }>}
 */
export async function askSession(get, base, headers) {
  try {
    const ask = (/** @type {string} */ path) =>
      get(new URL(path, base), { headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
    let answer = await ask("api/v1/session");
    if (answer.status === 404) answer = await ask("api/v1/status"); // an older gateway
    if (!answer.ok) return { end: await refusal(answer) };
    const session = await answer.json();
    return { session, end: objection(session) };
  } catch {
    // Browsers hide from a page why it was refused.
    const { origin } = globalThis.location ?? base;
    const hint = origin === base.origin ? "" : `, or does not allow pages of ${origin}`;
    return { end: { reason: `cannot reach the gateway${hint}` } };
  }
}

/** @param {Session} session @returns {End | undefined} */
function objection({ authenticated, roles, status, retry_after_s: retryAfterS }) {
  if (authenticated === false) return { status: 401, reason: "the gateway asks for a token" };
  if (authenticated && !roles.includes("subscriber")) return { status: 403, reason: "this token lacks the role subscriber" };
  return retryAfterS ? { status: 503, reason: `the gateway is ${status}`, retryAfterS } : undefined;
}
