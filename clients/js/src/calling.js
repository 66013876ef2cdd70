// How the client calls other people's functions.

/** @type {Partial<Document>} */
export const page = globalThis.document ?? {};

/** A bug in a listener stops nobody else. @param {() => void} call */
export function safely(call) {
  try {
    call();
  } catch (error) {
    if (typeof reportError === "function") reportError(error);
    else console.error(error);
  }
}

/** @param {() => void} call */
export function nextFrame(call) {
  if (page.visibilityState === "visible") requestAnimationFrame(call);
  else if (page.visibilityState) setTimeout(call, 250);
  else if ("setImmediate" in globalThis) /** @type {any} */ (globalThis).setImmediate(call);
  else setTimeout(call, 16);
}
