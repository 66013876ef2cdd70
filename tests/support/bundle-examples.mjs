// Bundles the examples for React, Vue and Svelte into the folder that is named on the command line: react.js, vue.js,
// svelte.js. They are development builds, which warn of misuse.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { compile } from "svelte/compiler";
import { compileScript, parse } from "vue/compiler-sfc";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** An esbuild plugin that turns files of this kind into JavaScript with `compiled(source, path)`. */
const plugin = (name, filter, compiled) => ({
  name,
  setup: (steps) => steps.onLoad({ filter }, async ({ path }) => ({
    contents: compiled(await readFile(path, "utf8"), path),
  })),
});

const vue = plugin("vue", /\.vue$/, (source, path) => {
  const { descriptor, errors } = parse(source, { filename: path });
  if (errors.length) throw errors[0];
  return compileScript(descriptor, { id: path, inlineTemplate: true }).content;
});
const svelte = plugin("svelte", /\.svelte$/, (source, path) => compile(source, { filename: path, dev: true }).js.code);

await build({
  absWorkingDir: root,
  entryPoints: {
    react: "examples/react/main.jsx",
    vue: "examples/vue/main.js",
    svelte: "examples/svelte/main.js",
  },
  outdir: process.argv[2],
  bundle: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxDev: true,
  conditions: ["development", "browser", "svelte"],
  alias: { tidegate: "./src/tidegate/web/client.js" },
  define: {
    "process.env.NODE_ENV": '"development"',
    __VUE_OPTIONS_API__: "true",
    __VUE_PROD_DEVTOOLS__: "false",
    __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false",
  },
  plugins: [vue, svelte],
  logLevel: "warning",
});
