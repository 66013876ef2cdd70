/**
 * A Svelte store of the newest value of a type and key; it holds undefined while none is known. It changes with the
 * data and the state of the value: also when the connection is lost, since the state is `unvouched` then.
 *
 * @param {import("tidegate").Client} client
 * @param {string} type
 * @param {string} [key]
 * @returns {import("svelte/store").Readable<import("tidegate").Value | undefined>}
 */
export function value(client, type, key) {
  return {
    subscribe(run) {
      run(client.store.get(type, key));
      return client.store.subscribe(type, () => run(client.store.get(type, key)));
    },
  };
}
