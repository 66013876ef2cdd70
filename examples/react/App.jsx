import { useValue } from "./useValue.js";

/** @param {{ client: import("tidegate").Client }} props */
export function App({ client }) {
  const value = useValue(client, "system.status");
  if (!value) return <p>No value yet.</p>;
  return (
    <p className={value.state}>
      Processor: <output>{value.data?.cpu_percent ?? "–"}</output> % <em>{value.state}</em>
    </p>
  );
}
