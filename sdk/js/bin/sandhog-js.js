#!/usr/bin/env node
// sandhog-js build [PROJECT] [--out FILE]: makes the component of a project, and prints where it is.

import { parseArgs } from "node:util";

import { HandlersError, build } from "../src/build.js";

const USAGE = `usage: sandhog-js build [PROJECT] [--out FILE]

Makes the component of a project: the package.json in PROJECT (the working folder, if not given) says in "main" where its
handlers are. The component is PROJECT/NAME.wasm, or FILE.`;

/** The exit code if the handlers' own code is at fault, which `sandhog plugin build` goes by. */
const HANDLERS_FAULT = 3;

function arguments_() {
  try {
    const { values, positionals } = parseArgs({ allowPositionals: true, options: { out: { type: "string" }, help: { type: "boolean", short: "h" } } });
    const [command, project, ...more] = positionals;
    if (values.help) return { help: true };
    if (command === "build" && more.length === 0) return { project, out: values.out };
  } catch (error) {
    console.error(`sandhog-js: ${error.message}`);
  }
  return undefined;
}

const given = arguments_();
if (given === undefined || given.help) {
  (given ? console.log : console.error)(USAGE);
  process.exitCode = given ? 0 : 2;
} else {
  try {
    console.log(await build(given));
  } catch (error) {
    console.error(`sandhog-js: ${error.message}`);
    process.exitCode = error instanceof HandlersError ? HANDLERS_FAULT : 1;
  }
}
