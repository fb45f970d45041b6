// From a project to a component: bundled, put on the JavaScript engine, started up to where a job comes in.

import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const SDK = dirname(dirname(fileURLToPath(import.meta.url)));

// Left out: `fetch-event` would make the component a web server, and without `fetch` none asks for a network. What is in:
// console and errors to the job's log, real randomness and clocks, without which `Math.random` would say the same in every
// job and timers would trap.
const leftOut = ({ fetch }) => (fetch ? ["fetch-event"] : ["fetch-event", "http"]);

/** Builds the component of a project. Returns the file it is in. */
export async function build({ project = ".", out } = {}) {
  const { name, entry, options } = await manifest(project);
  const work = await mkdtemp(join(tmpdir(), "sandhog-js-"));
  try {
    const bundle = join(work, "handler.js");
    await writeFile(bundle, await bundled(resolve(project, entry), options));
    const component = await componentized(bundle, await contract(work), options);
    const file = out ?? join(project, `${name}.wasm`);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, component);
    return file;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function manifest(project) {
  const file = join(project, "package.json");
  let text;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new Error(`can't read ${file}: name the project's folder, or start one: sandhog plugin new NAME --lang js`, { cause });
  }
  const { name, main, sandhog: { fetch = false } = {} } = JSON.parse(text);
  if (!name || !main) throw new Error(`${file} has no "name", or no "main" that says where the handlers are`);
  return { name: name.split("/").at(-1), entry: main, options: { fetch } };
}

// The engine's own would trap, with no word about why.
const NO_FETCH = `import ${JSON.stringify(join(SDK, "src/no-fetch.js"))};`;

async function bundled(entry, { fetch }) {
  const { build } = await import("esbuild");
  const { outputFiles } = await build({
    stdin: {
      contents: `${fetch ? "" : NO_FETCH} import ${JSON.stringify(entry)}; export { handle } from ${JSON.stringify(join(SDK, "src/guest.js"))};`,
      resolveDir: dirname(entry),
    },
    // One registry of handlers, wherever the project has its copy of this package.
    alias: { "sandhog-sdk": join(SDK, "src/index.js") },
    external: ["sandhog:*", "wasi:*"],
    bundle: true,
    format: "esm",
    platform: "neutral",
    mainFields: ["module", "main"],
    conditions: ["worker", "module"],
    target: "es2022",
    charset: "utf8",
    logLevel: "warning",
    write: false,
  });
  return outputFiles[0].text;
}

/** The folder that has the contract: a checkout has it in `wit/`, a package brings it along. */
async function contract(work) {
  const folder = join(work, "wit");
  await cp(join(SDK, "wit"), folder, { recursive: true });
  const ofCheckout = join(SDK, "../../wit/job.wit");
  if (existsSync(ofCheckout)) await cp(ofCheckout, join(folder, "deps/job.wit"));
  return folder;
}

async function componentized(bundle, wit, options) {
  const { componentize } = await import("@bytecodealliance/componentize-js");
  const { component } = await componentize({
    sourcePath: bundle,
    witPath: wit,
    worldName: "javascript-handler",
    disableFeatures: leftOut(options),
  });
  return component;
}
