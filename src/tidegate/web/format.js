// How numbers, times and objects are shown to people. Pure: what is shown depends on the arguments alone.

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long", hourCycle: "h23" });
const DAY_S = 86400;

/**
 * Units by the end of a field's name, the longest first: how to show the number, and what the unit is.
 * @type {[string, (n: number) => string][]}
 */
const UNITS = [
  ["_bytes_per_s", (n) => `${bytes(n)}/s`],
  ["_l_per_min", (n) => `${plain(n)} L/min`],
  ["_l_per_h", (n) => `${plain(n)} L/h`],
  ["_per_s", (n) => `${plain(n)}/s`],
  ["_per_min", (n) => `${plain(n)}/min`],
  ["_percent", (n) => `${plain(n)} %`],
  ["_bytes", bytes],
  ["_ms", (n) => `${plain(n)} ms`],
  ["_us", (n) => `${plain(n)} µs`],
  ["_s", duration],
  ["_celsius", (n) => `${plain(n)} °C`],
  ["_c", (n) => `${plain(n)} °C`],
  ["_rpm", (n) => `${plain(n)} rpm`],
  ["_bar", (n) => `${plain(n)} bar`],
  ["_hpa", (n) => `${plain(n)} hPa`],
  ["_mm", (n) => `${plain(n)} mm`],
  ["_m", (n) => `${plain(n)} m`],
  ["_hz", (n) => scaled(n, "Hz")],
  ["_wh", (n) => scaled(n, "Wh")],
  ["_kwh", (n) => `${plain(n)} kWh`],
  ["_kw", (n) => `${plain(n)} kW`],
  ["_w", (n) => scaled(n, "W")],
  ["_mv", (n) => `${plain(n)} mV`],
  ["_v", (n) => `${plain(n)} V`],
  ["_a", (n) => `${plain(n)} A`],
];

/** A number as people read it, with the unit that its field's name ends with. @param {string} name @param {number} n */
export function number(name, n) {
  const unit = UNITS.find(([end]) => name.endsWith(end));
  return unit ? unit[1](n) : plain(n);
}

/** A field's name without the unit, which stands behind its number. @param {string} name @param {unknown} value */
export function label(name, value) {
  const unit = typeof value === "number" ? UNITS.find(([end]) => name.endsWith(end)) : undefined;
  const short = unit ? name.slice(0, -unit[0].length) : name;
  return (short || name).replaceAll("_", " ");
}

/** A number with at most three digits behind the point, and groups of three. @param {number} n */
export function plain(n) {
  if (!Number.isFinite(n)) return String(n);
  const size = Math.abs(n);
  if (size > Number.MAX_SAFE_INTEGER) return `≈ ${n}`; // JavaScript knows no more digits than these
  if (size >= 1e15 || (size > 0 && size < 1e-3)) return String(n);
  const digits = size >= 1000 ? 1 : size >= 100 ? 2 : 3;
  const [whole, fraction] = size.toFixed(digits).split(".");
  const grouped = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, "\u202f") : whole;
  const rest = fraction.replace(/0+$/, "");
  return `${n < 0 ? "\u2212" : ""}${grouped}${rest ? `.${rest}` : ""}`;
}

/** @param {number} n */
export function bytes(n) {
  return scaled(n, "B");
}

/** With a prefix of thousands: 1234567 B is 1.23 MB. @param {number} n @param {string} unit */
function scaled(n, unit) {
  let size = Math.abs(n);
  let prefix = "";
  for (const next of ["k", "M", "G", "T", "P"]) {
    if (size < 999.5) break;
    size /= 1000;
    prefix = next;
  }
  const digits = size >= 100 || prefix === "" ? 0 : size >= 10 ? 1 : 2;
  const text = prefix === "" ? plain(size) : size.toFixed(digits);
  return `${n < 0 ? "\u2212" : ""}${text} ${prefix}${unit}`;
}

/** Seconds as a person would say them: "59 s", "3 min", "2 h 5 min", "4 d". @param {number} seconds @returns {string} */
export function duration(seconds) {
  if (seconds < 0) return `\u2212${duration(-seconds)}`;
  if (seconds > 0 && seconds < 1) return `${plain(Number((1000 * seconds).toPrecision(3)))} ms`;
  return seconds < 10 ? `${plain(Math.round(10 * seconds) / 10)} s` : span(seconds);
}

/** As `duration`, in whole seconds: for ages, which tick. @param {number} seconds @returns {string} */
export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 100) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (whole < DAY_S) return minutes % 60 && hours < 10 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(whole / DAY_S);
  return days < 10 && hours % 24 ? `${days} d ${hours % 24} h` : `${days} d`;
}

/** A moment relative to `now`, both in ms: "3 s ago", "in 12 s". @param {number} at @param {number} now */
export function relative(at, now) {
  const seconds = (now - at) / 1000;
  if (seconds <= -1) return `in ${span(-seconds)}`;
  return seconds < 1 ? "now" : `${span(seconds)} ago`;
}

/** The time of day, and the date where it is another day than `now`'s. @param {number} at @param {number} now */
export function clock(at, now) {
  const time = CLOCK.format(at);
  const day = new Date(at).toDateString();
  return day === new Date(now).toDateString() ? time : `${localDate(new Date(at))} ${time}`;
}

/** The moment in full, with its zone. @param {number} at */
export function fullTime(at) {
  return FULL.format(at);
}

/** @param {Date} date */
function localDate(date) {
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** One scalar as text; null for what is no scalar. @param {string} name @param {unknown} value */
export function scalar(name, value) {
  if (value === null) return "null";
  if (typeof value === "number") return number(name, value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "string") return null;
  if (!value.trim()) return JSON.stringify(value); // or nothing would be seen
  const at = /^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(value) ? Date.parse(value) : NaN;
  return Number.isNaN(at) ? value : clock(at, Date.now());
}

/**
 * What a value is shown as where there is little room: fields `{ name, text }`, of which those that find no room
 * may be left out. `more` is how many fields are not among them.
 * @param {string} name The event's type: its last part may name a unit. @param {unknown} data
 * @returns {{ fields: { name: string, text: string }[], more: number }}
 */
export function fields(name, data) {
  const alone = scalar(name, data);
  if (alone !== null) return { fields: [{ name: "", text: alone }], more: 0 };
  if (Array.isArray(data)) return { fields: [{ name: "", text: counted(data.length, "item") }], more: 0 };
  const all = Object.entries(/** @type {object} */ (data ?? {}));
  const told = [];
  for (const [field, value] of all) {
    const text = value === null ? null : scalar(field, value);
    if (text !== null && text.length <= 80) told.push({ name: label(field, value), text });
    if (told.length === 12) break;
  }
  if (told.length) return { fields: told, more: all.length - told.length };
  if (!all.length) return { fields: [{ name: "", text: counted(0, "field") }], more: 0 };
  const first = all.slice(0, 4).map(([field, value]) => ({ name: label(field, value), text: sized(value) }));
  return { fields: first, more: all.length - first.length };
}

/** @param {unknown} value */
function sized(value) {
  if (Array.isArray(value)) return counted(value.length, "item");
  return value && typeof value === "object" ? counted(Object.keys(value).length, "field") : String(value);
}

/** "1 item", "300 items". @param {number} n @param {string} noun */
export function counted(n, noun) {
  return `${plain(n)} ${noun}${n === 1 ? "" : "s"}`;
}

/** The numbers in `data` as `[path, number]`, at most `most` of them, the first first. @param {any} data @param {number} most */
export function numbers(data, most) {
  /** @type {[string, number][]} */
  const found = [];
  /** @param {any} value @param {string} path @param {number} depth */
  const visit = (value, path, depth) => {
    if (found.length >= most || depth > 4) return;
    if (typeof value === "number") found.push([path, value]);
    else if (value && typeof value === "object" && !Array.isArray(value)) {
      for (const name in value) visit(value[name], path ? `${path}.${name}` : name, depth + 1);
    }
  };
  visit(data, "", 0);
  return found;
}

/**
 * What `data` holds as `[path, value]`, at most `most`, the first first: an object's fields one by one, a list as it is.
 * @param {any} data @param {number} most
 */
export function leaves(data, most) {
  /** @type {[string, unknown][]} */
  const found = [];
  /** @param {any} value @param {string} path @param {number} depth */
  const visit = (value, path, depth) => {
    if (found.length >= most) return;
    const isObject = value !== null && typeof value === "object" && !Array.isArray(value);
    if (!isObject || depth > 4) found.push([path, value]);
    else for (const name in value) visit(value[name], path ? `${path}.${name}` : name, depth + 1);
  };
  visit(data, "", 0);
  return found;
}

/** One of `leaves` in a line: "0.42, 0.37, 0.31", "5 items". @param {string} path @param {unknown} value @returns {string} */
export function inLine(path, value) {
  if (value === null) return "\u2013";
  const alone = scalar(path, value);
  if (alone !== null) return alone;
  if (!Array.isArray(value) || !value.length || value.length > 12) return sized(value);
  const texts = value.map((item) => (item === null ? "\u2013" : scalar(path, item)));
  return texts.includes(null) ? sized(value) : texts.join(", ");
}
