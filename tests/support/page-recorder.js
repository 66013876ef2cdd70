// Runs inside the page, before its own scripts: keeps what the page claims at each moment, as a person could read it.
// `recorder.log` has an entry { at, fresh, current, connection } whenever this has changed: `at` is Date.now(), `fresh`
// maps "TYPE KEY" to the text of the value of each row that says fresh, by attribute or by word (what is no value has
// its first words for a name), and `current` is how
// many the header or the count of fresh ones says there are. `recorder.lagMs` is by how much the page's timers have
// been late at worst.

(() => {
  const EVERY_MS = 25;
  const recorder = { log: [], lagMs: 0 };
  let last = "";

  function claims() {
    const fresh = {};
    for (const row of document.querySelectorAll("main [data-state]")) {
      const word = row.querySelector(".state")?.textContent.trim() ?? "";
      if (row.dataset.state !== "fresh" && !word.startsWith("fresh")) continue;
      if (!row.checkVisibility()) continue;
      const name = row.dataset.type ? `${row.dataset.type} ${row.dataset.key}` : row.textContent.trim().slice(0, 40);
      fresh[name] = row.querySelector(".value")?.textContent.trim() ?? "";
    }
    const counts = ["#summary", "[data-count=fresh] .count"].map((which) =>
      parseInt(document.querySelector(which)?.textContent) || 0);
    return { fresh, current: Math.max(...counts), connection: document.getElementById("connection")?.dataset.state ?? "" };
  }

  function look() {
    const now = claims();
    const text = JSON.stringify(now);
    if (text === last) return;
    last = text;
    recorder.log.push({ at: Date.now(), ...now });
  }

  function lookAtFrames() {
    look();
    requestAnimationFrame(lookAtFrames);
  }

  let due = performance.now() + EVERY_MS;
  setInterval(() => {
    recorder.lagMs = Math.max(recorder.lagMs, performance.now() - due);
    due = performance.now() + EVERY_MS;
    look();
  }, EVERY_MS);
  new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
  lookAtFrames();
  globalThis.recorder = recorder;
})();
