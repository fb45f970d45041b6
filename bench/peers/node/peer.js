// What a peer program says and is told: a line of JSON each, on standard output and input. See ../README.md.

import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

/** The server and the queue that the command line names. */
export function place() {
  const { values } = parseArgs({ options: { url: { type: "string" }, queue: { type: "string" } } });
  return values;
}

/** Says one line. */
export function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** The seconds since `start`, which is what `performance.now()` said then. */
export function secondsSince(start) {
  return (performance.now() - start) / 1000;
}

/** Says who this is, then does one command after the other: each is a function of the command that returns its answer. */
export async function serve(system, version, commands) {
  say({ ready: true, system, version });
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    if (command.do === "quit") break;
    say(await commands[command.do](command));
  }
}
