// How the client calls other people's functions.

/** A bug in a listener stops nobody else. @param {() => void} call */
export function safely(call) {
  try {
    call();
  } catch (error) {
    (globalThis.reportError ?? console.error)(error);
  }
}

/** Before the next frame is painted; a page that is hidden paints none. @param {() => void} call */
export function nextFrame(call) {
  if (globalThis.document?.visibilityState === "visible") requestAnimationFrame(call);
  else (/** @type {any} */ (globalThis).setImmediate ?? setTimeout)(call);
}
