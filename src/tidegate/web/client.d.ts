// The JavaScript client. docs/javascript.md explains its use.

/** Event types, and the shape of each one's data: `{ "system.status": { cpu_percent: number } }`. */
export type TypeMap = Record<string, any>;

/** An event type, a prefix like `system.*` (any type below it), or `*`. */
export type Pattern<T = TypeMap> = (keyof T & string) | "*" | `${string}.*`;

/**
 * Connects to the gateway at `url` (http, https, ws or wss), by default the one that this module was loaded from.
 * Throws `TypeError` for what is no such URL. Everything later is told by `status`.
 */
export function connect<T extends TypeMap = any>(url?: string | URL, options?: Options): Client<T>;

export interface Options {
  /** A token, or what gets one. It is asked at each attempt, before a JSON Web Token expires, and when one was refused. */
  token?: string | ((why: TokenRequest) => string | null | Promise<string | null>);
  /** How a WebSocket carries it: "protocol" (the default) keeps it out of URLs, and so out of the logs of proxies. */
  tokenIn?: "protocol" | "query";
  /** A `position` kept from before, for the same patterns. */
  since?: string;
  /** "auto" (the default) falls back to server-sent events where no WebSocket gets through. */
  transport?: "auto" | "websocket" | "sse";
  /** The wait before an attempt: 1 s, doubled up to 8 s, times 0.5 to 1. A connection of 5 s starts it anew. */
  backoff?: { firstS?: number; maxS?: number; healS?: number };
  /** How long an attempt may take until it is given up; 10. */
  connectTimeoutS?: number;
  /** Disconnects a tab that has been hidden for so long; null (the default) never. */
  closeWhenHiddenS?: number | null;
  /** A loss of the connection that is shorter than this changes no value's state; 2000. */
  graceMs?: number;
  /** Closes the client. */
  signal?: AbortSignal;
  fetch?: typeof fetch;
  WebSocket?: any;
}

export interface TokenRequest {
  reason: "connect" | "expiring" | "expired";
  signal: AbortSignal;
}

export interface Until {
  signal?: AbortSignal;
}

export interface Client<T = any> {
  /**
   * Calls `listener` with each event; what is known already it gets at once, as snapshots. Returns what ends that.
   * An error of the listener is reported, and stops nobody else.
   */
  on<P extends Pattern<T>>(pattern: P, listener: (event: Event<T, P>) => void, until?: Until): () => void;
  /**
   * The events, for `for await`. If more than `buffer` (1000) wait, the oldest is dropped, or, with "latest", first an
   * older one of the same type and key; a gap with the reason "local" says so. Ends with the client, or with `signal`.
   */
  events<P extends Pattern<T>>(
    pattern: P,
    options?: Until & { buffer?: number; overflow?: "latest" | "drop-oldest" },
  ): AsyncIterableIterator<Event<T, P> | Gap>;
  /** Calls `f` when a value ceases to be current, and at once for those that are not. "DISCONNECTED": nobody vouches. */
  onStale(pattern: Pattern<T>, f: (value: Value, reason: string) => void): () => void;
  /** Calls `f` when a value is current again. */
  onFresh(pattern: Pattern<T>, f: (value: Value) => void): () => void;
  onGap(f: (gap: Gap) => void): () => void;
  onStatus(f: (status: Status) => void): () => void;

  /** A new frozen object at each change. */
  readonly status: Status;
  readonly store: Store<T>;
  /** What `since` takes: up to here everything has arrived. Null while there is no such position. */
  readonly position: string | null;
  /** The newest answer of `/api/v1/session` that the client asked for, which it does after a failed attempt. */
  readonly session: Session | null;
  /** The server's clock, in ms. */
  now(): number;
  /** Seconds since the data was asked for, never below 0; null if the value has no `as_of`. */
  age(value: Value): number | null;
  /** Resolves when it is live and all current values are there; rejects when it is refused or closed. */
  ready(until?: Until): Promise<void>;
  /** Tries now, without waiting, also after a refusal. */
  reconnect(): void;
  /** Publishes an event and resolves to its position. Rejects with `TidegateError` if the gateway does not take it. */
  publish(type: string, data: unknown, options?: { key?: string; retain?: boolean; ttlS?: number }): Promise<string>;
  /** For good. Values stay readable, and are not vouched for any more. */
  close(): void;
}

export interface Status {
  readonly state: "connecting" | "live" | "quiet" | "waiting" | "offline" | "paused" | "refused" | "closed";
  /** In ms of `now()`: when it became live; while it is not, the last sign of life of the gateway. */
  readonly since: number;
  /** The number of the attempt since the last connection that lasted. */
  readonly attempt: number;
  /** In ms of `now()`: when it tries again. */
  readonly retryAt: number | null;
  /** In words. */
  readonly reason: string | null;
  /** The close code of a WebSocket, or the HTTP status, that ended it. */
  readonly code: number | null;
  readonly transport: "websocket" | "sse" | null;
  readonly resumed: boolean;
  /** What to add to `Date.now()` to have the server's clock. */
  readonly clockOffsetMs: number;
  readonly roundTripMs: number | null;
}

export interface Store<T = any> {
  get(type: string, key?: string | null): Value | undefined;
  /** The same array until something in it changes, as React's `useSyncExternalStore` needs it. */
  list(pattern: Pattern<T>): readonly Value[];
  /** Follows the pattern as `on` does. Calls `changed` at most once per animation frame. Returns what ends that. */
  subscribe(pattern: Pattern<T>, changed: () => void): () => void;
}

/** The newest value of a type and key: a frozen object, the same until something in it changes. */
export interface Value {
  readonly type: string;
  readonly key: string | null;
  readonly data: any;
  /**
   * "fresh", "stale", "expired" (too old to be shown: `data` is null), "published" (by somebody, who vouches for it),
   * "never" (its source was never answered), or "unvouched": the gateway vouches for nothing at this moment. An
   * unvouched value keeps the rest of what it was.
   */
  readonly state: "fresh" | "stale" | "expired" | "unvouched" | "published" | "never";
  readonly stale: boolean | null;
  readonly as_of: string | null;
  readonly error_code: string | null;
  readonly cause: string | null;
  readonly retry_at: string | null;
  /** The backend. */
  readonly source: string | null;
  readonly seq: number | null;
  readonly timestamp: string;
  /** In ms of `now()`: since when it has this `state`. */
  readonly since: number;
  /** In ms of `now()`: when `data` was last another. */
  readonly changedAt: number;
}

/** A message of the gateway: docs/protocol.md. */
export interface Event<T = any, P = string> {
  readonly type: string;
  readonly key?: string;
  readonly timestamp: string;
  readonly data: P extends keyof T ? T[P] : any;
  readonly seq?: number;
  readonly source?: string;
  readonly stale?: boolean;
  readonly as_of?: string;
  readonly error_code?: string;
  readonly cause?: string;
  readonly retry_at?: string;
  readonly expired?: boolean;
  readonly gone?: boolean;
  readonly snapshot?: boolean;
}

/** Events that this client did not get. */
export interface Gap {
  readonly type: "gap";
  readonly reason: string;
  readonly requested: string | null;
  readonly skipped: Record<string, number>;
  /** Whether the newest values are there all the same. */
  readonly valuesComplete: boolean;
}

export interface Session {
  readonly version: string;
  readonly auth: "none" | "token" | "jwt";
  readonly authenticated: boolean | null;
  readonly roles: readonly string[];
  /** The patterns that the token covers; null: everything. */
  readonly types: readonly string[] | null;
  readonly expires_at: string | null;
  readonly status: "ready" | "degraded" | "starting" | "stalled" | "draining";
  readonly retry_after_s: number | null;
  readonly now: string;
}

/** What the gateway answered to `publish` if it did not take it. */
export class TidegateError extends Error {
  /** Of HTTP. */
  readonly status: number;
  readonly retryAfterS: number | null;
  constructor(message: string, status: number, retryAfterS: number | null);
}
