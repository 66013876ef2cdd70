// The form that asks for a token, and says why the one before was not enough.

import { byId, visible, write } from "./words.js";

export class Login {
  /**
   * @param {import("./app.js").Page} page
   * @param {() => void} start Connects, once there is a token.
   */
  constructor(page, start) {
    this.page = page;
    this.form = byId("login");
    this.field = byId("token");
    this.form.addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      sessionStorage.setItem("token", this.field.value.trim());
      this.field.value = "";
      start();
    });
  }

  /** Ask if the session allows no stream; returns whether. */
  mustAsk() {
    const { authenticated, roles, auth } = this.page.session;
    const token = this.page.token();
    const lacksRole = authenticated && !roles.includes("subscriber");
    if (authenticated === false || lacksRole) {
      this.ask(lacksRole ? "This token may not subscribe: it lacks the role subscriber." : token ? refusalOf(token, auth) : "");
      return true;
    }
    this.form.hidden = true;
    document.body.classList.remove("signed-out");
    return false;
  }

  /** The client has given up. @param {any} status */
  refused({ code, reason }) {
    if (![4401, 4403, 401, 403].includes(code)) return; // the banner says it
    this.ask(reason ? `The gateway says: ${visible(reason)}.` : "This token is not valid, or not any more.");
  }

  /** @param {string} refusal */
  ask(refusal) {
    write(byId("refusal"), refusal);
    byId("loading").hidden = true;
    this.form.hidden = false;
    document.body.classList.add("signed-out");
    this.field.focus();
  }

  /** The gateway does not even say what this page may do. @param {string | undefined} detail */
  cannotStart(detail) {
    const loading = byId("loading");
    loading.classList.add("stands-out");
    write(loading, detail ? `The gateway refuses this page: ${visible(detail)}` : `No answer from ${location.host}; trying again…`);
  }
}

/** Why a token was refused, as far as it can be told from here. @param {string} token @param {string} auth */
function refusalOf(token, auth) {
  const ended = auth === "jwt" ? endOf(token) : NaN;
  if (ended <= Date.now()) return `This token has expired, at ${new Date(ended).toLocaleString()}.`;
  return "This token is not valid, or not any more.";
}

/** The end of a JWT in ms; NaN if it names none. @param {string} token */
function endOf(token) {
  try {
    return 1000 * JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).exp;
  } catch {
    return NaN;
  }
}
