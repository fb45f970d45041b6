// Assertions on what was enqueued, which tell what was instead.

import { AssertionError } from "node:assert";

const PAYLOAD_SHOWN = 200;
const JOBS_SHOWN = 50;
const PRIORITY_USUAL = 100;

/** @see testing.d.ts */
export function assertEnqueued(of, kind, wanted) {
  const jobs = of.enqueued ?? of.jobs;
  const found = jobs.find((job) => fits(job, kind, wanted));
  if (found) return found;
  const condition = wanted === undefined ? "" : ` with a payload like ${typeof wanted === "function" ? wanted : shown(wanted)}`;
  throw failed(`no job of kind \`${kind}\` was enqueued${condition}\n${list(jobs)}`, assertEnqueued);
}

/** @see testing.d.ts */
export function assertNotEnqueued(of, kind, unwanted) {
  const found = (of.enqueued ?? of.jobs).find((job) => fits(job, kind, unwanted));
  if (found) throw failed(`a job was enqueued that shouldn't be:\n${describe(found)}`, assertNotEnqueued);
}

const failed = (message, stackStartFn) => new AssertionError({ message, stackStartFn });

const fits = (job, kind, wanted) => job.kind === kind && isLike(job.payload, wanted);

/** Whether a value has all that is wanted of it; an object may have more. */
function isLike(value, wanted) {
  if (wanted === undefined) return true;
  if (typeof wanted === "function") return Boolean(wanted(value));
  if (typeof wanted !== "object" || wanted === null) return Object.is(value, wanted);
  if (typeof value !== "object" || value === null || Array.isArray(value) !== Array.isArray(wanted)) return false;
  if (Array.isArray(wanted) || ArrayBuffer.isView(wanted)) {
    return value.length === wanted.length && [...wanted].every((part, at) => isLike(value[at], part));
  }
  return Object.entries(wanted).every(([name, part]) => Object.hasOwn(value, name) && isLike(value[name], part));
}

function list(jobs) {
  if (jobs.length === 0) return "nothing was enqueued";
  const lines = jobs.slice(0, JOBS_SHOWN).map(describe);
  if (jobs.length > JOBS_SHOWN) lines.push(`  and ${jobs.length - JOBS_SHOWN} more`);
  return ["what was enqueued:", ...lines].join("\n");
}

/** A job in a line: id, kind, payload, and what isn't as usual. */
function describe({ id, kind, payload, queue, group, contentType, delayMs, startWithinMs, deadlineMs, labels, priority, uniqueKey }) {
  const unusual = [
    queue === undefined ? "" : `, queue ${queue}`,
    group === undefined ? "" : `, group ${JSON.stringify(group)}`,
    contentType === undefined ? "" : `, content type ${JSON.stringify(contentType)}`,
    delayMs === 0 ? "" : `, after ${delayMs} ms`,
    startWithinMs === undefined ? "" : `, start within ${startWithinMs} ms`,
    deadlineMs === undefined ? "" : `, deadline ${deadlineMs} ms`,
    ...Object.entries(labels).map(([name, value]) => `, label ${name}=${value}`),
    priority === PRIORITY_USUAL ? "" : `, priority ${priority}`,
    uniqueKey === undefined ? "" : `, unique key ${JSON.stringify(uniqueKey)}`,
  ];
  return `  ${id} ${kind} ${shown(payload)}${unusual.join("")}`;
}

function shown(payload) {
  const text = ArrayBuffer.isView(payload) ? `${payload.length} bytes that are no JSON` : JSON.stringify(payload);
  return text.length > PAYLOAD_SHOWN ? `${text.slice(0, PAYLOAD_SHOWN)}…` : text;
}
