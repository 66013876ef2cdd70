// A connection to the gateway, by either transport.

/**
 * How it ended: `status` of HTTP, `code` of a WebSocket; `opened` is false if the handshake of a WebSocket failed.
 * @typedef {{ code?: number, status?: number, reason?: string, retryAfterS?: number, opened?: boolean }} End
 */
/** @typedef {{ send?: (text: string) => void, close: () => void }} Link */
/** @typedef {{ frame: (text: string) => void, alive: () => void, end: (end: End) => void }} LinkEvents */

/** @param {any} Socket @param {URL} url @param {string[]} protocols @param {LinkEvents} events @returns {Link} */
export function webSocketLink(Socket, url, protocols, { frame, end }) {
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new Socket(url.href, protocols);
  let opened = false;
  socket.onopen = () => void (opened = true);
  socket.onmessage = (/** @type {MessageEvent} */ { data }) => frame(data);
  socket.onclose = (/** @type {CloseEvent} */ { code, reason }) => end({ code, reason, opened });
  socket.onerror = () => {};
  const close = () => {
    socket.onmessage = socket.onclose = null; // its end may come a minute later, if the other side is gone
    socket.close();
  };
  return { send: (text) => socket.send(text), close };
}

/** @param {typeof fetch} get @param {URL} url @param {HeadersInit} headers @param {LinkEvents} events @returns {Link} */
export function eventStreamLink(get, url, headers, { frame, alive, end }) {
  const ended = new AbortController();
  async function read() {
    const answer = await get(url, { headers, signal: ended.signal, cache: "no-store" });
    const isStream = answer.headers.get("Content-Type")?.startsWith("text/event-stream");
    if (!answer.ok || !answer.body || !isStream) return end(await refusal(answer));
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let data = "";
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      alive();
      const lines = piece.value.split("\n");
      lines[0] = rest + lines[0];
      rest = /** @type {string} */ (lines.pop());
      for (const line of lines) {
        if (line.startsWith("data:")) data += `${line.slice(5)}\n`;
        else if (!line.trim() && data) {
          frame(data);
          data = "";
        }
      }
    }
    end({ reason: "the stream ended" });
  }
  read().catch((error) => end({ reason: String(error) }));
  return { close: () => ended.abort() };
}

/** @param {Response} answer @returns {Promise<End>} */
export async function refusal(answer) {
  const problem = await answer.json().catch(() => null);
  const retryAfterS = Number(answer.headers.get("Retry-After")) || 0;
  return { status: answer.status, reason: problem?.detail ?? `HTTP ${answer.status}`, retryAfterS };
}
