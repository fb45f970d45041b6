// What the build makes of a project, as far as it needs no engine.

import assert from "node:assert/strict";
import { test } from "node:test";

import { build } from "esbuild";

import { atTopLevel } from "../src/build.js";
import { withKinds } from "../src/kinds.js";
import { linesTable, mapped } from "../src/lines.js";

test("kinds are declared in a section at the end of the component", () => {
  const component = Uint8Array.of(0, 97, 115, 109);
  const declared = withKinds(component, ["a.run", "b.run"]);
  assert.deepEqual(declared.subarray(0, 4), component);
  const content = "\rsandhog:kindsa.run\nb.run\n";
  assert.deepEqual([...declared.subarray(4)], [0, content.length, ...new TextEncoder().encode(content)]);
  const many = withKinds(component, ["k".repeat(126)]);
  assert.deepEqual([...many.subarray(4, 7)], [0, 0x80 | (141 & 0x7f), 1], "a length of more than seven bits");
  assert.equal(withKinds(component, undefined), component);
});

test("the stack of an error names the lines of the project's own files", async () => {
  const { outputFiles } = await build({
    stdin: { contents: 'import { deep } from "./deep.js";\n\n\nexport const call = () => deep();\n', sourcefile: "src/call.js", resolveDir: "/" },
    plugins: [
      {
        name: "files",
        setup(build) {
          build.onResolve({ filter: /deep/ }, () => ({ path: "src/deep.js", namespace: "of-test" }));
          build.onLoad({ filter: /.*/, namespace: "of-test" }, () => ({ contents: "\n".repeat(40) + "export function deep() {\n  return 1;\n}\n" }));
        },
      },
    ],
    bundle: true,
    format: "esm",
    write: false,
    outfile: "/handler.js",
    sourcemap: "external",
  });
  const [map, bundle] = ["handler.js.map", "handler.js"].map((name) => outputFiles.find(({ path }) => path.endsWith(name)).text);
  new Function(linesTable(JSON.parse(map)))();
  const lineOf = (text) => bundle.split("\n").findIndex((line) => line.includes(text)) + 1;
  const stack = `deep@handler.js:${lineOf("return 1")}:3\ncall@handler.js:${lineOf("=> deep()")}:20\n@handler.js:0:1\nno frame`;
  assert.match(mapped(stack), /^deep@.*src\/deep\.js:42\ncall@.*call\.js:4\n@handler.js:0:1\nno frame$/);
  delete globalThis[Symbol.for("sandhog.lines")];
  assert.equal(mapped(stack), stack);
});

test("what is wrong with top-level code is told without what surrounds it", () => {
  const asks = "Failed to initialize component (wizer):\nError: 0: 0x2f\n    1: Error: attempted to call an unknown imported function: 'wasi:random/random@0.2.10' 'get-random-u64'\n       \n";
  assert.match(atTopLevel(asks), /runs once, while the component is built, and asks for .* 'get-random-u64'; do that in a handler/);
  const throws = "Failed to initialize component (wizer):\nException while evaluating top-level script\nhandler.js:388:7 Error: oh\nStack:\n  @handler.js:388:7\n";
  assert.match(atTopLevel(throws), /and throws: handler\.js:388:7 Error: oh$/);
  assert.equal(atTopLevel("the disk is full"), undefined);
});
