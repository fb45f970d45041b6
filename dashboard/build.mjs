// Builds the dashboard: index.html and what it needs, each asset named by its hash.
//
//   node build.mjs --out FOLDER    build
//   node build.mjs --test          build the tests into a folder of their own, and run them
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = fileURLToPath(new URL('.', import.meta.url));
const common = { absWorkingDir: here, bundle: true, format: 'esm', target: 'es2022', jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none', logLevel: 'warning' };

async function site(out) {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  const { metafile } = await build({
    ...common,
    entryPoints: { app: 'src/main.tsx', theme: 'src/theme.ts', style: 'style/sandhog.css' },
    entryNames: 'assets/[name]-[hash]',
    // What is loaded later is in files of its own.
    chunkNames: 'assets/[name]-[hash]',
    splitting: true,
    outdir: out,
    minify: true,
    metafile: true,
  });
  const of = (entry) => {
    const found = Object.entries(metafile.outputs).find(([, output]) => output.entryPoint === entry);
    if (!found) throw new Error(`nothing was built from ${entry}`);
    return basename(found[0]);
  };
  let html = readFileSync(join(here, 'index.html'), 'utf8');
  for (const [name, entry] of [['app.js', 'src/main.tsx'], ['theme.js', 'src/theme.ts'], ['style.css', 'style/sandhog.css']]) {
    html = html.replaceAll(`@BASE@/assets/${name}`, `@BASE@/assets/${of(entry)}`);
  }
  // What the first file imports is asked for along with it, and not once it is there.
  const app = Object.values(metafile.outputs).find((output) => output.entryPoint === 'src/main.tsx');
  const needed = (app?.imports ?? []).filter((of) => of.kind === 'import-statement').map((of) => `<link rel="modulepreload" href="@BASE@/assets/${basename(of.path)}">\n`);
  html = html.replace('<script type="module"', `${needed.join('')}<script type="module"`);
  writeFileSync(join(out, 'index.html'), html);
}

async function test() {
  const out = mkdtempSync(join(tmpdir(), 'sandhog-dashboard-'));
  try {
    const tests = readdirSync(join(here, 'test')).filter((name) => name.endsWith('.test.ts'));
    await build({ ...common, entryPoints: tests.map((name) => `test/${name}`), outdir: out, outExtension: { '.js': '.mjs' }, platform: 'node', define: { HERE: JSON.stringify(here) } });
    const files = tests.map((name) => join(out, name.replace(/\.ts$/, '.mjs')));
    process.exitCode = spawnSync(process.execPath, ['--test', '--test-reporter=dot', ...files], { stdio: 'inherit' }).status ?? 1;
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

const [mode, folder] = process.argv.slice(2);
if (mode === '--test') await test();
else if (mode === '--out' && folder) await site(folder);
else {
  console.error('usage: node build.mjs --out FOLDER | --test');
  process.exitCode = 2;
}
