// The reference engine's compression jobs and agents, as two tables behind the values. Whoever publishes something else
// under these names finds it among the values alone.

import { bytes, plain, span } from "./format.js";
import { make, setShape, shape, visible, write } from "./words.js";

const JOBS = 30; // tables are not for thousands: all are among the values
const JOB_FIELDS = ["Progress", "Speed", "Left", "Ratio", "Result"];
const AGENT_FIELDS = ["Job", "CPU", "Memory", "Done", "Failed", "Last trouble"];
const NOT_KNOWN = { unvouched: "not confirmed", stale: "stale", expired: "expired" };

/** @param {any} value */
const isJob = ({ key, data }) => key && typeof data?.percent === "number" && typeof data.state === "string";

/** @param {any} value */
const isAgent = ({ key, data }) => key && typeof data?.state === "string" && "jobs_done" in data;

/** The two tables: `element`, and `paint()`. @param {any} client */
export function jobsAndAgents(client) {
  const jobs = table("Compression jobs", ["Job", "State", ...JOB_FIELDS], jobRow);
  const agents = table("Agents", ["Agent", "State", ...AGENT_FIELDS], agentRow);
  return {
    element: make("div", { className: "engine" }, jobs.element, agents.element),
    paint() {
      const newest = (/** @type {any} */ a, /** @type {any} */ b) => String(b.data.submitted_at).localeCompare(String(a.data.submitted_at));
      jobs.paint(client.store.list("compression.update").filter(isJob).sort(newest).slice(0, JOBS));
      agents.paint(client.store.list("agent.status").filter(isAgent));
    },
  };
}

/**
 * @param {string} title @param {string[]} columns
 * @param {() => { element: HTMLElement, paint: (value: any) => void }} makeRow
 */
function table(title, columns, makeRow) {
  /** @type {Map<string, ReturnType<typeof makeRow>>} */
  const rows = new Map();
  const head = make("tr", {}, ...columns.map((text) => make("th", { scope: "col" }, text)));
  const body = make("tbody");
  const frame = make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: `${title}, table` },
    make("table", { className: "plain" }, make("caption", { className: "only-read" }, title), make("thead", {}, head), body));
  const element = make("section", { ariaLabel: title, hidden: true }, make("h2", {}, title), frame);
  return {
    element,
    /** @param {any[]} values */
    paint(values) {
      element.hidden = !values.length;
      const keys = new Set(values.map(({ key }) => key));
      for (const [key, row] of rows) {
        if (keys.has(key)) continue;
        row.element.remove();
        rows.delete(key);
      }
      values.forEach((value, at) => {
        const row = rows.get(value.key) ?? makeRow();
        rows.set(value.key, row);
        row.paint(value);
        if (body.children[at] !== row.element) body.insertBefore(row.element, body.children[at] ?? null);
      });
    },
  };
}

/** A row with its name, its state, and a cell for each label. @param {string[]} labels */
function plainRow(labels) {
  const name = make("bdi");
  const mark = shape("fresh");
  const word = make("span");
  const cells = labels.map((label) => {
    const cell = make("td");
    cell.dataset.label = label; // shown where there is no room for columns
    return cell;
  });
  const state = make("td", { className: "state" }, mark, word);
  const element = make("tr", {}, make("th", { scope: "row" }, name), state, ...cells);
  return {
    element,
    cells,
    /** @param {any} value @param {string[]} texts */
    write(value, texts) {
      write(name, visible(value.key));
      element.dataset.state = value.state;
      const doubt = NOT_KNOWN[/** @type {keyof typeof NOT_KNOWN} */ (value.state)];
      setShape(mark, value.state);
      write(word, doubt ? `${visible(value.data.state)} (${doubt})` : visible(value.data.state));
      texts.forEach((text, at) => { if (text !== undefined) write(cells[at], visible(text)); });
    },
  };
}

function jobRow() {
  const row = plainRow(JOB_FIELDS);
  const bar = make("progress", { max: 100 });
  const percent = make("span");
  row.cells[0].append(bar, percent);
  return {
    element: row.element,
    /** @param {any} value */
    paint(value) {
      const { data, key } = value;
      const done = progressOf(data);
      if (bar.value !== done) bar.value = done;
      bar.ariaLabel = `progress of job ${visible(key)}`;
      write(percent, `${Math.floor(done)} %`);
      row.write(value, [
        /** @type {any} */ (undefined),
        data.rate_bytes_per_s == null ? "" : `${bytes(data.rate_bytes_per_s)}/s`,
        data.eta_s == null ? "" : span(data.eta_s),
        data.ratio == null ? "" : data.ratio.toFixed(2),
        data.error ? data.error.message : data.destination ?? "",
      ]);
    },
  };
}

// Reading fills the bar once, verifying once again.
/** @param {any} job */
function progressOf(job) {
  return job.state === "verifying" && job.bytes_read ? Math.min(100, (100 * job.bytes_verified) / job.bytes_read) : job.percent;
}

function agentRow() {
  const row = plainRow(AGENT_FIELDS);
  return {
    element: row.element,
    /** @param {any} value */
    paint(value) {
      const { data } = value;
      row.write(value, [
        data.job ?? "",
        data.cpu_percent == null ? "" : `${plain(data.cpu_percent)} %`,
        data.memory_bytes == null ? "" : bytes(data.memory_bytes),
        String(data.jobs_done),
        String(data.jobs_failed),
        data.error ?? "",
      ]);
    },
  };
}
