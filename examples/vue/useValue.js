import { onScopeDispose, shallowRef } from "vue";

/**
 * A ref of the newest value of a type and key; it holds undefined while none is known. It changes with the data and the
 * state of the value: also when the connection is lost, since the state is `unvouched` then.
 *
 * @param {import("tidegate").Client} client
 * @param {string} type
 * @param {string} [key]
 */
export function useValue(client, type, key) {
  const value = shallowRef(client.store.get(type, key));
  onScopeDispose(client.store.subscribe(type, () => { value.value = client.store.get(type, key); }));
  return value;
}
