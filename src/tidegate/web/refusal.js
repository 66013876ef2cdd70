// Why a request of the page was refused, for people. Knows nothing of what was asked for.

import { visible } from "./words.js";

/** Why a request failed: in the gateway's words, if it answered. @param {any} refused */
export function refusalText(refused) {
  if (!refused?.status) return "The gateway did not answer. It may have done it all the same.";
  const again = refused.retryAfterS ? ` Try again in ${refused.retryAfterS} s.` : "";
  return `${visible(refused.detail)} (${refused.status})${again}`;
}
