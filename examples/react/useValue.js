import { useCallback, useSyncExternalStore } from "react";

/**
 * The newest value of a type and key, or undefined while none is known. The component renders again when its data or
 * its state changes: also when the connection is lost, since the state is `unvouched` then.
 *
 * @param {import("tidegate").Client} client
 * @param {string} type
 * @param {string} [key]
 */
export function useValue(client, type, key) {
  // React would subscribe anew at each render if it got a new function at each render.
  const subscribe = useCallback(
    (/** @type {() => void} */ changed) => client.store.subscribe(type, changed),
    [client, type],
  );
  return useSyncExternalStore(subscribe, () => client.store.get(type, key));
}
