// Opens a page in Firefox: node firefox-page.mjs FIREFOX URL. Each line of standard input is an expression of JavaScript;
// the page's value of it is printed as a line of JSON. At the end of the input, what the page has said to its console
// is printed as one more line, and Firefox ends.

import { createInterface } from "node:readline";

import puppeteer from "puppeteer-core";

const [executablePath, url] = process.argv.slice(2);
const browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true });
const said = [];
try {
  const page = await browser.newPage();
  page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => said.push(`error: ${error.message}`));
  await page.goto(url, { waitUntil: "domcontentloaded" });
  console.log(JSON.stringify(await browser.version()));
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify((await page.evaluate(line)) ?? null));
  }
  console.log(JSON.stringify(said));
} finally {
  await browser.close();
}
