// Texts to copy that follow one value from elsewhere: a shell, a script, an element, a frame.

/**
 * @param {string} type @param {string | undefined} key @param {boolean} needsToken
 * @param {string} [field] The field that an element shows.
 */
export function snippets(type, key, needsToken, field = "") {
  const base = document.baseURI.replace(/[?#].*/, "").replace(/[^/]*$/, "");
  const header = needsToken ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const only = key ? `  if (event.key !== ${JSON.stringify(key)}) return;\n` : "";
  const attributes = [["type", type], ["key", key ?? ""], ["field", field]].filter(([, value]) => value);
  const written = attributes.map(([name, value]) => ` ${name}="${escaped(value)}"`).join("");
  const query = new URLSearchParams(attributes);
  return {
    curl: `curl -N${header} '${base}api/v1/events?types=${encodeURIComponent(type)}'`,
    script: `import { connect } from "${base}client.js";\n\nconnect().on("${type}", (event) => {\n${only}`
      + `  console.log(event.data, event.stale ? event.error_code : "fresh");\n});`,
    element: `<script type="module" src="${base}value.js"></script>\n<tidegate-value${written}></tidegate-value>`,
    frame: `<iframe src="${base}embed?${query}" title="${escaped(type)}"></iframe>`,
  };
}

/** @param {string} text */
function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;");
}
