// From a project to a component: bundled, put on the JavaScript engine, started up to where a job comes in.

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";

import { withKinds } from "./kinds.js";
import { linesTable } from "./lines.js";

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
    const handlers = resolve(project, entry);
    await writeFile(bundle, await bundled(resolve(project), handlers, `export { handle } from ${module("guest.js")};`, options));
    const kinds = await kindsOf(resolve(project), handlers, work, options);
    const component = withKinds(await componentized(bundle, await contract(work), options), kinds);
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

// Without `fetch`, the engine's own would trap, with no word about why.
const fetchModules = ({ fetch }) => (fetch ? ["guest-fetch.js"] : ["no-fetch.js", "guest-fetch.js"]);

/** A module of this package, as a bundle's source names it. */
const module = (name) => JSON.stringify(join(SDK, "src", name));

/** The project's handlers in one piece, which exports what is asked of it. */
async function bundled(project, entry, exported, options) {
  const { build } = await import("esbuild");
  // In this order: the handlers' own modules find what is there already.
  const imported = [...fetchModules(options).map(module), JSON.stringify(entry)].map((file) => `import ${file};`);
  const { outputFiles } = await build({
    stdin: {
      contents: [...imported, exported].join(" "),
      resolveDir: dirname(entry),
    },
    // One registry of handlers, wherever the project has its copy of this package.
    alias: { "sandhog-sdk": join(SDK, "src/index.js") },
    external: ["sandhog:*", "wasi:*"],
    bundle: true,
    format: "esm",
    platform: "neutral",
    mainFields: ["browser", "module", "main"],
    conditions: ["worker", "browser", "module"],
    target: "es2022",
    charset: "utf8",
    logLevel: "warning",
    write: false,
    // Sources are named from the project's folder on.
    outfile: join(project, "handler.js"),
    sourcemap: "external",
    sourcesContent: false,
  });
  const [map, bundle] = ["handler.js.map", "handler.js"].map((name) => outputFiles.find(({ path }) => path.endsWith(name)).text);
  return bundle + linesTable(JSON.parse(map));
}

/** What is given to the handlers while their kinds are asked for, in milliseconds. */
const KINDS_TIMEOUT = 60_000;

/**
 * The kinds that the project has handlers of: its top-level code is run once more, natively. None if that fails, where the
 * component's engine has what Node has not.
 */
async function kindsOf(project, entry, work, options) {
  const file = join(work, "kinds.mjs");
  await writeFile(file, await bundled(project, entry, `export { kinds } from ${module("handler.js")};`, options));
  const print = `import(${JSON.stringify(pathToFileURL(file).href)}).then(({ kinds }) => process.stdout.write("\\n" + JSON.stringify(kinds()), () => process.exit()))`;
  try {
    const { stdout } = await promisify(execFile)(process.execPath, ["--eval", print], { timeout: KINDS_TIMEOUT });
    return JSON.parse(stdout.slice(stdout.lastIndexOf("\n")));
  } catch (error) {
    console.error(`sandhog-js: the component doesn't declare its kinds, as the handlers can't be loaded by Node: ${error.message}`);
    return undefined;
  }
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
  try {
    const { component } = await componentize({
      sourcePath: bundle,
      witPath: wit,
      worldName: "javascript-handler",
      disableFeatures: leftOut(options),
    });
    return component;
  } catch (error) {
    const why = atTopLevel(error.message);
    throw why === undefined ? error : new HandlersError(why, { cause: error });
  }
}

/** The project's own handlers are at fault, and nothing that could be installed helps. */
export class HandlersError extends Error {}

/**
 * What is wrong with the handlers' top-level code, by the engine's message when it could not be run; nothing if that message is
 * about something else.
 */
export function atTopLevel(message) {
  const rule = "the top-level code of the handlers runs once, while the component is built";
  const [, asked] = message.match(/attempted to call an unknown imported function: (.*)/) ?? [];
  if (asked !== undefined) {
    return `${rule}, and asks for what only a job has: ${asked}; do that in a handler (Math.random, crypto, fetch)`;
  }
  const [, thrown] = message.match(/Exception while evaluating top-level script\n(.*)/) ?? [];
  if (thrown !== undefined) return `${rule}, and throws: ${thrown}`;
  return undefined;
}
