// Takes a picture of each view, in front of a daemon with some jobs: node browser/screenshots.mjs FOLDER
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { launch, open } from './page.mjs';
import { Site } from './site.mjs';

const LOOKS = [
  { look: 'light', scheme: 'light', width: 1440, height: 900 },
  { look: 'dark', scheme: 'dark', width: 1440, height: 900 },
  { look: 'phone', scheme: 'light', width: 390, height: 844 },
];

const [into] = process.argv.slice(2);
if (!into) throw new Error('usage: node browser/screenshots.mjs FOLDER');
mkdirSync(into, { recursive: true });

const [site, browser] = await Promise.all([Site.start(), launch()]);
try {
  const views = jobs(site);
  for (const { look, ...options } of LOOKS) {
    const { page, settled, close } = await open(browser, site.url, options);
    await page.goto('/');
    await settled();
    const links = await page.locator('#nav a:not(.brand)').evaluateAll((all) => all.map((link) => new URL(link.href).pathname));
    const named = links.map((path) => [path === '/' ? 'overview' : path.slice(1).replaceAll('/', '-'), path]);
    for (const [name, path] of [...named, ...views]) {
      await page.goto(path);
      await settled();
      await page.screenshot({ path: join(into, `${name}-${look}.png`), fullPage: name === 'job' });
    }
    await close();
  }
  console.log(into);
} finally {
  await browser.close();
  await site.stop();
}

/** Enqueues what there is to see. Returns views beyond those in the navigation, by name. */
function jobs(of) {
  for (const n of [1, 2, 3]) of.enqueue('hog.echo', { order: n }, '--tenant', 'acme', '--label', `customer=${n}`, '--wait');
  for (const n of [1, 2, 3, 4]) of.enqueue('hog.panic', { message: `order ${n} has no address` }, '--tenant', 'acme', '--wait');
  of.enqueue('hog.log', { lines: 20 }, '--tenant', 'globex', '--wait');
  const dead = of.enqueue('hog.fail', 'permanent', '--tenant', 'acme', '--wait');
  of.sandhog('pause', '--tenant', 'acme', '--kind', 'hog.echo', '--note', 'the provider is down', '--for', '1h');
  const waits = of.enqueue('hog.echo', { order: 4 }, '--tenant', 'acme');
  return [['job', `/jobs/acme/${dead}`], ['job-waits', `/jobs/acme/${waits}`], ['jobs-dead', '/jobs?tenant=acme&state=dead']];
}
