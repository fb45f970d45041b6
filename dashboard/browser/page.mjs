// A browser for the tests, and what holds of every page that it shows.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Rules of accessibility that every view keeps: WCAG 2.2 at levels A and AA. */
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];

/** Longest wait for something that is to come. */
export const PATIENCE = 20_000;

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // As root, and in containers, it has no sandbox of its own. It sees pages of these tests alone.
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });
}

/** Opens a page. Whatever goes wrong in it, from its scripts to its content security policy, fails the test that closes it. */
export async function open(browser, url, { scheme = 'light', width = 1440, height = 900, bypassCSP = false } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, baseURL: url, bypassCSP });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const wrong = [];
  // What is asked for and hasn't come; a stream of events never ends.
  const asked = new Set();
  const isStream = (request) => new URL(request.url()).pathname.endsWith('/v1/events');
  page.on('request', (request) => isStream(request) || asked.add(request));
  for (const end of ['requestfinished', 'requestfailed']) page.on(end, (request) => asked.delete(request));
  page.on('pageerror', (error) => wrong.push(error.stack ?? error.message));
  page.on('console', (message) => {
    // An answer that refuses is for the page to show: what it does show is tested.
    const isAnswer = message.text().startsWith('Failed to load resource');
    if (['error', 'warning'].includes(message.type()) && !isAnswer) wrong.push(message.text());
  });
  return {
    page,
    /** Waits until the view is there with all that it has asked for. */
    async settled() {
      await page.locator('h1').first().waitFor();
      while (asked.size > 0) await page.waitForEvent('requestfinished');
      await page.evaluate(() => new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted))));
    },
    async close() {
      await context.close();
      assert.deepEqual(wrong, [], 'nothing goes wrong in the page');
    },
  };
}

/** Signs in by a token, as people do. */
export async function signIn(page, token) {
  await page.goto('/');
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('navigation', { name: 'Main' }).first().waitFor();
}

/** Checks what holds of every view: nobody is shut out, and nothing scrolls sideways. */
export async function sound(page, name) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate((tags) => globalThis.axe.run({ runOnly: { type: 'tag', values: tags } }), RULES);
  const told = violations.map((of) => `${of.id}: ${of.help}\n${of.nodes.map((node) => `  ${node.html}\n  ${node.failureSummary}`).join('\n')}`);
  assert.deepEqual(told, [], name);
  const wide = await page.evaluate(() => {
    if (document.documentElement.scrollWidth <= innerWidth) return [];
    const tooFar = [...document.querySelectorAll('body *')].filter((of) => of.getBoundingClientRect().right > innerWidth);
    return ['it scrolls', ...tooFar.map((of) => of.outerHTML.slice(0, 200))];
  });
  assert.deepEqual(wide, [], `${name} scrolls sideways`);
}
