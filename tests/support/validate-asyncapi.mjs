// Reads a list of AsyncAPI documents from standard input and prints what @asyncapi/parser finds in each, as JSON.
import { text } from "node:stream/consumers";
import { Parser } from "@asyncapi/parser";

const parser = new Parser();
const found = [];
for (const written of JSON.parse(await text(process.stdin))) {
  const { document, diagnostics } = await parser.parse(written);
  const operations = document?.operations().all() ?? [];
  found.push({
    diagnostics: diagnostics.map(({ code, message, path }) => ({ code, message, path: path.join("/") })),
    operations: Object.fromEntries(
      operations.map((operation) => [operation.id(), operation.messages().all().map((message) => message.id())]),
    ),
  });
}
console.log(JSON.stringify(found));
