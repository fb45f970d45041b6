// Where the lines of a bundle were written, so that the stack of an error names a project's own files.
//
// The build makes a table of the bundle's source map, and puts it at the bundle's end: runs of `[line, source, line there]`,
// each of which goes on line by line until the next one begins.

const TABLE = Symbol.for("sandhog.lines");

/** What the build puts at the end of a bundle. */
export function linesTable({ sources, mappings }) {
  // As text: it takes a fraction of the memory, and is hardly ever looked into.
  const table = JSON.stringify({ sources, runs: runsOf(mappings) });
  return `;globalThis[Symbol.for("sandhog.lines")] = ${JSON.stringify(table)};\n`;
}

/** A stack with the places in the project's own files, as far as they are known. */
export function mapped(stack) {
  const text = globalThis[TABLE];
  if (text === undefined) return stack;
  const table = JSON.parse(text);
  return stack.replaceAll(/^(.*)@(.*):(\d+):(\d+)$/gm, (frame, name, _, line) => {
    const place = placeOf(table, Number(line));
    return place === undefined ? frame : `${name}@${place}`;
  });
}

function placeOf({ sources, runs }, line) {
  let [low, high] = [0, runs.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs[middle][0] <= line) low = middle + 1;
    else high = middle;
  }
  if (low === 0) return undefined;
  const [begin, source, there] = runs[low - 1];
  return `${sources[source]}:${there + line - begin}`;
}

/** The runs of a source map, which has segments by line: column, source, line and column there, each as the difference. */
function runsOf(mappings) {
  const runs = [];
  let [source, there, at] = [0, 0, 0];
  for (const segments of mappings.split(";")) {
    at += 1;
    let first;
    for (const segment of segments.split(",")) {
      const [, ofSource, ofLine] = numbers(segment);
      if (ofSource === undefined) continue;
      source += ofSource;
      there += ofLine;
      first ??= [at, source, there + 1];
    }
    if (first !== undefined && !goesOn(runs.at(-1), first)) runs.push(first);
  }
  return runs;
}

const goesOn = (run, [at, source, there]) => run !== undefined && run[1] === source && run[2] + at - run[0] === there;

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** The numbers of a segment: five bits a digit, the lowest first, with a sign in the lowest bit of each number. */
function numbers(segment) {
  const found = [];
  let [number, shift] = [0, 0];
  for (const digit of segment) {
    const bits = DIGITS.indexOf(digit);
    number += (bits & 31) << shift;
    shift += 5;
    if (bits & 32) continue;
    found.push(number & 1 ? -(number >> 1) : number >> 1);
    [number, shift] = [0, 0];
  }
  return found;
}
