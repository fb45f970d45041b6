// A daemon with its dashboard, for the tests in a browser: the built `sandhog`, a store in a folder of its own, and a free port.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const required = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run this by \`scripts/dashboard.sh browser\``);
  return value;
};

const SANDHOG = join(required('CARGO_TARGET_DIR'), 'release/sandhog');
const HOG = join(required('SANDHOG_PLUGINS'), 'hog.wasm');

/** Tokens of a site that has some, by name. */
export const TOKENS = [
  { name: 'ann', role: 'edit', tenant: 'acme' },
  { name: 'olga', role: 'observe', tenant: 'acme' },
  { name: 'gus', role: 'operate', tenant: 'globex' },
];

const plugin = (tenant, kinds) => `[plugin]
name = "hog"
tenant = "${tenant}"
component = "${HOG}"
kinds = ${JSON.stringify(kinds)}
queue = "hogs"

[retry]
max_attempts = 1
`;

const KINDS = ['hog.echo', 'hog.panic', 'hog.fail', 'hog.log', 'hog.sleep'];

/** A long kind, which no plugin handles. */
export const LONG_KIND = `long.${'k'.repeat(120)}`;

export class Site {
  /** The tokens, by name. Empty where nobody needs one. */
  tokens = {};

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'sandhog-browser-'));
    this.file = join(this.folder, 'sandhog.toml');
  }

  /** Starts a daemon. With tokens, everybody has to sign in. */
  static async start({ tokens = false } = {}) {
    const site = new Site();
    let text = '[broker]\ntype = "embedded"\npath = "jobs.db"\n\n[http]\nlisten = "127.0.0.1:0"\n\n';
    if (tokens) {
      for (const { name, role, tenant } of TOKENS) {
        const made = JSON.parse(run(SANDHOG, ['token', 'new', name, '--role', role, '--tenant', tenant, '--json']));
        site.tokens[name] = made.token;
        text += `${made.toml.trim()}\n\n`;
      }
    }
    text += '[tenants.acme]\n[tenants.globex]\n';
    writeFileSync(site.file, text);
    mkdirSync(join(site.folder, 'plugins.d'));
    writeFileSync(join(site.folder, 'plugins.d/acme.toml'), plugin('acme', KINDS));
    writeFileSync(join(site.folder, 'plugins.d/globex.toml'), plugin('globex', KINDS));
    // Compiled once here, it is there when the daemon starts.
    run(SANDHOG, ['--config', site.file, 'check', '--offline']);
    site.daemon = spawn(SANDHOG, ['--config', site.file, 'run', '--log-format', 'json'], { stdio: ['ignore', 'ignore', 'pipe'] });
    site.ended = new Promise((resolve) => site.daemon.once('exit', resolve));
    site.url = await site.address();
    return site;
  }

  /** Where it listens, which its log tells. */
  address() {
    return new Promise((resolve, reject) => {
      let log = '';
      this.daemon.stderr.setEncoding('utf8').on('data', (text) => {
        log += text;
        const told = /"address":"(127\.0\.0\.1:\d+)"/.exec(log);
        if (told) resolve(`http://${told[1]}`);
      });
      this.ended.then(() => reject(new Error(`the daemon has ended:\n${log}`)));
    });
  }

  /** What a command of this site prints. */
  sandhog(...args) {
    return run(SANDHOG, ['--config', this.file, ...args]);
  }

  /** Enqueues a job, and returns its id. With `--wait` it is over. */
  enqueue(kind, payload, ...args) {
    const asked = ['enqueue', kind, JSON.stringify(payload), '--json', ...args];
    const { status, stdout, stderr } = spawnSync(SANDHOG, ['--config', this.file, ...asked], { encoding: 'utf8' });
    const id = /"id":\s*"([0-9A-Z]{26})"/.exec(stdout)?.[1];
    if (!id) throw new Error(`sandhog ${asked.join(' ')} exits with ${status}: ${stderr}`);
    return id;
  }

  /** Stores a flow, and returns its id. */
  flow(jobs, ...args) {
    const file = join(this.folder, 'flow.json');
    writeFileSync(file, JSON.stringify(jobs));
    return JSON.parse(this.sandhog('flow', 'run', file, '--json', ...args)).flow;
  }

  async stop() {
    this.daemon.kill('SIGTERM');
    await this.ended;
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function run(program, args) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
  if (error) throw error;
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} exits with ${status}: ${stderr}`);
  return stdout;
}
