// What stands above every section: the connection's state, one banner with what is worst, notices, the tab's title.

import { count, downBackends, sourceOf, valueOf, values, worstAlone } from "./counts.js";
import { clock, counted, plain, span } from "./format.js";
import { nameOf } from "./history.js";
import { whyParts } from "./value-row.js";
import { byId, codeInWords, make, setShape, shape, visible, write } from "./words.js";

const WORDS = {
  connecting: "connecting", live: "live", quiet: "silent", waiting: "cut off", offline: "offline",
  paused: "asleep", refused: "refused", closed: "closed",
};
const SHAPES = { live: "fresh", connecting: "busy" };
const GRACE_MS = 2000; // as the client: a shorter break changes no value's state
const RATE_S = 5;
const RESTARTING = 1012; // the close code of a gateway that drains
const LATE_MS = 30000; // a gateway that is so long behind the time that it has named is not just restarting
const NOTICES = 3;

export class Head {
  /** @param {import("./app.js").Page} page */
  constructor(page) {
    this.page = page;
    this.clients = 0;
    this.events = 0;
    this.rate = 0;
    this.rateAt = 0;
    this.wasLive = false;
    this.cutAt = 0; // when the connection was last seen to be lost, or 0
    this.backAt = 0; // the end of the wait that a draining gateway has named, or 0
    this.told = "";
    write(byId("host"), location.host);
    write(byId("loading").querySelector("bdi"), location.host);
    this.banner = byId("banner");
    this.banner.prepend(shape("stale"));
    byId("connection").prepend(shape("busy"));
    this.action = this.banner.querySelector(".do");
    this.act = () => {};
    this.action.addEventListener("click", () => this.act());
  }

  /** From now on there is a client. */
  open() {
    const { client } = this.page;
    client.onGap((/** @type {any} */ gap) => this.gap(gap));
    this.rateAt = performance.now();
    byId("publish").addEventListener("click", () => this.page.publish());
    byId("sign-out").addEventListener("click", () => {
      sessionStorage.removeItem("token");
      location.reload();
    });
  }

  /** @param {any} event */
  arrived(event) {
    const { client } = this.page;
    this.events += 1;
    if (event.type === "heartbeat") this.clients = event.data.clients;
    if (event.type !== "notification") return;
    if (event.data.code === "DRAINING") this.backAt = client.now() + (event.data.retry_after_ms ?? 0);
    else this.notice(`${clock(client.now(), client.now())}  ${visible(event.data.message)}`, event.data.level);
  }

  /** @param {any} gap */
  gap({ reason, skipped = {} }) {
    const { client } = this.page;
    const now = client.now();
    if (reason === "epoch_changed") {
      this.restarted(clock(now, now), values(client));
    } else if (reason === "slow_consumer") {
      const names = Object.entries(skipped).map(([type, n]) => `${plain(/** @type {number} */ (n))} of ${visible(type)}`);
      const what = names.length > 4 ? [...names.slice(0, 4), "…"] : names;
      this.notice(`Events were skipped, because this page read too slowly: ${what.join(", ")}. Values are complete`);
    } else if (reason === "history_truncated") {
      this.notice("This page was away for too long to be told what it missed: values are complete, the log has a gap");
    }
  }

  /** Tell it, and which values of before there are no more. @param {string} at @param {any[]} before */
  async restarted(at, before) {
    const { client } = this.page;
    await Promise.all([client.ready(), this.page.refresh()]).catch(() => {});
    const isPolled = (/** @type {any} */ value) => sourceOf(this.page, value) !== undefined; // then it may come yet
    const gone = before.filter((value) => !isPolled(value) && !valueOf(client, value.type, value.key));
    const names = gone.map((value) => visible(nameOf(value)));
    const what = names.length > 4 ? [...names.slice(0, 4), "…"] : names;
    const lost = names.length ? `. ${counted(names.length, "value")} of before ${names.length === 1 ? "is" : "are"} gone: ${what.join(", ")}` : "";
    this.notice(`The gateway was restarted at ${at}: values are complete, the log has a gap${lost}`);
  }

  /** @param {string} text @param {string} [level] */
  notice(text, level = "info") {
    const list = byId("notices");
    const close = make("button", { type: "button", className: "bare", ariaLabel: "Dismiss this notice" }, "×");
    const line = make("p", { className: "notice" }, make("span", {}, text), close);
    line.dataset.level = level;
    close.addEventListener("click", () => {
      line.remove();
      list.hidden = !list.children.length;
    });
    list.prepend(line);
    while (list.children.length > NOTICES) list.lastElementChild.remove();
    list.hidden = false;
    this.page.announce(text);
  }

  paint() {
    const { client, session, status } = this.page;
    if (!client) return;
    byId("publish").hidden = !this.page.has("publisher");
    byId("sign-out").hidden = !this.page.token();
    byId("nav").querySelector('[href="#/clients"]').hidden = !this.page.has("admin") || session.types !== null;
    const counts = count(values(client), status);
    this.paintConnection(client.status, counts);
    const trouble = this.worst(client.status, counts);
    this.paintBanner(trouble);
    this.paintTitle(trouble, counts);
  }

  /** @param {any} status @param {import("./counts.js").Counts} counts */
  paintConnection({ state, roundTripMs, transport }, counts) {
    const element = byId("connection");
    element.dataset.state = state;
    const isShort = state === "waiting" && !counts.unvouched && this.wasLive; // the values still count
    const shown = isShort ? "busy" : SHAPES[/** @type {keyof typeof SHAPES} */ (state)] ?? "unvouched";
    setShape(element.firstElementChild, shown);
    write(element.querySelector(".word"), isShort ? "reconnecting" : WORDS[/** @type {keyof typeof WORDS} */ (state)] ?? state);
    const now = performance.now();
    const seconds = (now - this.rateAt) / 1000;
    if (seconds >= RATE_S) {
      this.rate = this.events / seconds;
      this.events = 0;
      this.rateAt = now;
    }
    const rate = this.rate < 10 ? Math.round(10 * this.rate) / 10 : Math.round(this.rate);
    const facts = state === "live" ? [
      roundTripMs === null ? "" : `${Math.round(roundTripMs)} ms`,
      `${counted(rate, "event")}/s`,
      this.clients ? counted(this.clients, "client") : "",
      transport === "sse" ? "event stream" : "",
    ].filter(Boolean) : [];
    write(element.querySelector(".facts-line"), facts.join(" · "));
    write(byId("summary"), counts.sources ? `${counts.sources - counts.notCurrent} of ${counts.sources} sources current` : "");
  }

  /**
   * What is worst now: `{ kind, text, action }`, or null if all is well.
   * @param {any} status @param {import("./counts.js").Counts} counts
   */
  worst(status, counts) {
    const { client } = this.page;
    if (status.state === "live") {
      this.wasLive = true;
      this.cutAt = 0;
      if (!this.page.paused) return this.isDraining(status) ? this.draining(status) : this.notCurrent(counts);
    }
    if (this.page.paused && status.state === "live") {
      return { kind: "paused", text: "Paused by you: what you see does not change", label: "Go on", act: () => this.page.pause(false) };
    }
    this.cutAt ||= client.now();
    if (this.isDraining(status) && !counts.unvouched) return this.draining(status);
    const isShort = client.now() - this.cutAt < GRACE_MS && !counts.unvouched;
    return isShort ? null : this.cutOff(status);
  }

  /** @param {any} status */
  cutOff(status) {
    const { client } = this.page;
    const now = client.now();
    const act = () => client.reconnect();
    if (status.state === "refused") {
      const why = visible(status.reason ?? `close code ${status.code}`);
      return { kind: "away", text: `The gateway refuses this page: ${why}`, label: "Try again", act };
    }
    if (this.isDraining(status)) {
      const told = this.draining(status);
      return { ...told, kind: "away", text: `${told.text} · what you see may be old` };
    }
    const since = span((now - status.since) / 1000);
    const left = status.retryAt === null ? 0 : (status.retryAt - now) / 1000;
    const next = left > 0 ? ` · next try in ${span(Math.ceil(left))}` : status.state === "quiet" ? "" : " · trying now";
    if (!this.wasLive) return { kind: "away", text: `The gateway does not answer${next}`, label: "Try now", act };
    const what = {
      quiet: `Nothing heard from the gateway for ${since}`,
      offline: `This device has no network: cut off from the gateway for ${since}`,
      closed: `Disconnected from the gateway for ${since}`,
    }[/** @type {string} */ (status.state)] ?? `Cut off from the gateway for ${since}`;
    return { kind: "away", text: `${what}: what you see may be old${next}`, label: "Try now", act };
  }

  /** @param {any} status */
  isDraining({ state, code }) {
    const now = this.page.client.now();
    if (this.backAt) return now < this.backAt + (state === "live" ? 0 : LATE_MS);
    return code === RESTARTING && state !== "live";
  }

  /** @param {any} status */
  draining({ retryAt }) {
    const left = ((this.backAt || retryAt || 0) - this.page.client.now()) / 1000;
    const when = left > 0 ? `back in about ${span(Math.ceil(left))}` : "back soon";
    return { kind: "wait", text: `The gateway is restarting; ${when}`, label: "", act: () => {} };
  }

  /** @param {import("./counts.js").Counts} counts */
  notCurrent(counts) {
    if (!counts.notCurrent) return null;
    const now = this.page.client.now();
    const is = counts.notCurrent === 1 ? "is" : "are";
    const parts = [`${counts.notCurrent} of ${counted(counts.sources, "source")} ${is} not current`];
    const all = values(this.page.client);
    const [first, ...others] = downBackends(this.page, all);
    if (first) {
      const { breaker, since, cause } = first;
      const why = breaker.forced ? "switched off by an operator" : cause ? codeInWords(cause) : "not asked";
      parts.push(`backend ${visible(breaker.breaker)}: ${why}, for ${span((now - since) / 1000)}`);
      if (breaker.state === "half_open") parts.push("being tried now");
      else if (breaker.retry_at) parts.push(`asked again within ${span(Math.ceil((Date.parse(breaker.retry_at) - now) / 1000))}`);
      if (others.length) parts.push(`and ${counted(others.length, "other backend")}`);
    } else {
      const worst = worstAlone(this.page, all);
      const why = worst && whyParts(worst, this.page, now);
      if (why?.reason) parts.push(`${visible(worst.type)}: ${why.reason}`);
    }
    const act = () => this.page.go("#/values?state=trouble");
    return { kind: "trouble", text: parts.join(" · "), label: "Show", act };
  }

  /** @param {{ kind: string, text: string, label: string, act: () => void } | null} trouble */
  paintBanner(trouble) {
    this.banner.hidden = !trouble;
    document.body.dataset.connection = trouble?.kind ?? "well";
    if (!trouble) return;
    this.banner.dataset.kind = trouble.kind;
    setShape(this.banner.firstElementChild, trouble.kind === "trouble" ? "stale" : "unvouched");
    write(this.banner.querySelector(".what"), trouble.text);
    this.action.hidden = !trouble.label;
    write(this.action, trouble.label || "–");
    this.act = trouble.act;
  }

  /** @param {{ kind: string } | null} trouble @param {import("./counts.js").Counts} counts */
  paintTitle(trouble, counts) {
    const isAway = trouble?.kind === "away" || trouble?.kind === "paused";
    const n = counts.notCurrent;
    const word = counts.stale >= n ? "stale" : "not current";
    const [mark, icon] = isAway ? ["? not confirmed · ", "away"] : n ? [`▲ ${n} ${word} · `, "trouble"] : ["", ""];
    const title = `${mark}Tidegate ${location.hostname}`;
    if (document.title !== title) document.title = title;
    const href = icon ? `favicon-${icon}.svg` : "favicon.svg";
    if (byId("favicon").getAttribute("href") !== href) byId("favicon").setAttribute("href", href);
    const told = isAway ? "away" : n ? `${n} of ${counts.sources} sources are not current` : counts.sources ? "All sources are current" : "";
    if (told === this.told) return;
    const isFirst = this.told === "";
    this.told = told;
    if (isAway) this.page.announce("Cut off from the gateway: what you see may be old", { assertive: true });
    else if (!isFirst || n) this.page.announce(told);
  }
}

