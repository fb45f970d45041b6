// The dashboard in a real browser, in front of a real daemon.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch, open, signIn, sound } from './page.mjs';
import { LONG_KIND, Site } from './site.mjs';

/** What is enqueued by somebody who means no good. */
const HOSTILE = '<img src=x onerror="document.title=\'owned\'"> \u202Ekcab \u200B 🦔 \u0007 ' + 'x'.repeat(500);

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

describe('where nobody has to sign in', () => {
  let site;
  let seen;
  before(async () => {
    site = await Site.start();
  });
  after(() => site?.stop());
  const visit = async (path, options) => {
    seen = await open(browser, site.url, options);
    await seen.page.goto(path);
    return seen.page;
  };

  test('a job is watched from its enqueuing to its end', async () => {
    site.sandhog('pause', '--tenant', 'acme', '--queue', 'hogs', '--note', 'the provider is down');
    const id = site.enqueue('hog.echo', { n: 9007199254740993 }, '--tenant', 'acme');
    const page = await visit(`/jobs/acme/${id}`);
    await page.getByText('paused queue hogs').first().waitFor();
    await page.getByText('“the provider is down”').first().waitFor();
    // Lifted elsewhere, it runs, and the page shows that by itself.
    site.sandhog('resume', '--tenant', 'acme', '--queue', 'hogs');
    await page.getByText(/It succeeded at/).first().waitFor();
    await page.getByText('Attempt 1 succeeded', { exact: false }).first().waitFor();
    await seen.close();
  });

  test('what has died says why, and is redriven, one and many', async () => {
    const died = ['1', '2', '3', '4', '5'].map((n) => site.enqueue('hog.panic', { message: `broken ${n}` }, '--tenant', 'acme', '--wait'));
    const page = await visit(`/jobs/acme/${died[0]}`);
    await page.getByText(/It died at .*: trapped/).first().waitFor();
    await page.getByText('broken 1', { exact: false }).first().waitFor();
    await page.goto('/jobs?tenant=acme&state=dead');
    await page.getByLabel('Pick all on this page').check();
    await page.getByRole('button', { name: 'All that match instead' }).click();
    await page.getByRole('button', { name: 'Redrive…' }).click();
    // The dry run has counted before anything is asked.
    const dialog = page.getByRole('dialog');
    await dialog.getByText('It can be done to 5 jobs.').waitFor();
    site.sandhog('pause', '--tenant', 'acme', '--kind', 'hog.panic');
    await dialog.getByRole('button', { name: 'Redrive 5 jobs' }).click();
    await page.getByText('Redriven: 5 jobs').waitFor();
    const counts = () => JSON.parse(site.sandhog('jobs', '--tenant', 'acme', '--kind', 'hog.panic', '--state', 'ready', '--json'));
    assert.equal(counts().jobs.length, 5, 'all of them wait again');
    await seen.close();
    site.sandhog('resume', '--tenant', 'acme', '--kind', 'hog.panic');
  });

  test('what somebody has paused is on the overview', async () => {
    site.sandhog('pause', '--tenant', 'globex', '--note', HOSTILE.slice(0, 80));
    const page = await visit('/');
    await page.getByText('globex: all jobs are held back').waitFor();
    await page.getByText('U+202E').first().waitFor();
    site.sandhog('resume', '--tenant', 'globex');
    await page.getByText('globex: all jobs are held back').waitFor({ state: 'detached' });
    await seen.close();
  });

  test('a plugin says what is in force, and a tenant what it has used', async () => {
    site.enqueue('hog.echo', 1, '--tenant', 'globex', '--wait');
    const page = await visit('/plugins?tenant=globex');
    await page.getByRole('link', { name: 'hog', exact: true }).first().click();
    await page.getByText(/It serves as its file has it, since/).waitFor();
    await page.getByText('in force').first().waitFor();
    await page.goto('/tenants');
    await page.getByRole('link', { name: 'globex' }).click();
    await page.getByRole('region', { name: 'By plugin' }).getByRole('link', { name: 'hog' }).waitFor();
    await page.goto('/plugins/globex/nothing');
    await page.getByRole('heading', { name: 'There is no such plugin' }).first().waitFor();
    await seen.close();
  });

  test('failures are grouped by what they died of, and a group is redriven', async () => {
    for (const _ of [1, 2]) site.enqueue('hog.fail', 'permanent', '--tenant', 'globex', '--wait');
    const page = await visit('/failures?tenant=globex');
    await page.getByRole('link', { name: 'failed-permanently' }).first().click();
    await page.getByRole('button', { name: /^Redrive/ }).first().click();
    const dialog = page.getByRole('dialog');
    await dialog.getByRole('button', { name: 'Redrive 2 jobs' }).click();
    await page.getByText(/^Redriven/).first().waitFor();
    await seen.close();
  });

  test('a schedule is run now, and a flow is followed to its end', async () => {
    site.sandhog('schedule', 'add', 'digest', '--kind', 'hog.echo', '--tenant', 'globex', '--every', '1d');
    const page = await visit('/schedules?tenant=globex');
    await page.getByRole('link', { name: 'digest', exact: true }).click();
    await page.getByRole('button', { name: /^Run now/ }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Run digest now' }).click();
    await page.getByText(/^Enqueued/).first().waitFor();
    const job = (name, after) => ({ name, kind: 'hog.echo', payload: name, after });
    const flow = site.flow({ jobs: [job('a', []), job('b', ['a']), job('c', ['a']), job('d', ['b', 'c'])] }, '--tenant', 'globex');
    await page.goto(`/flows/globex/${flow}`);
    await page.getByText('All of its jobs have succeeded').first().waitFor();
    await seen.close();
  });

  test('hostile data is shown whole, and does nothing', async () => {
    const failed = site.enqueue('hog.panic', { message: HOSTILE }, '--tenant', 'acme', '--wait');
    const long = site.enqueue(LONG_KIND, null, '--tenant', 'acme', '--queue', 'hogs', '--label', `what=${'<b>'.repeat(20)}`);
    let page = await visit(`/jobs/acme/${failed}`);
    await page.getByText('onerror=', { exact: false }).first().waitFor();
    await page.getByText('U+202E').first().waitFor();
    assert.equal(await page.locator('main img').count(), 0, 'text stays text');
    assert.match(await page.title(), /hog\.panic/);
    await page.goto(`/jobs/acme/${long}`);
    await page.getByText('<b><b>', { exact: false }).first().waitFor();
    assert.equal(await page.locator('main b b').count(), 0);
    await sound(page, 'a job of a long kind');
    await seen.close();
    page = await visit(`/jobs/acme/${long}`, { width: 390, height: 844 });
    await page.getByText('<b><b>', { exact: false }).first().waitFor();
    await sound(page, 'the same on a phone');
    await seen.close();
  });

  test('a job that is gone, and an address that never was, have pages of their own', async () => {
    const page = await visit('/jobs/acme/01J8Z4W2Q2V7H7WQ8X3R0N5T6A');
    await page.getByRole('heading', { name: 'There is no such job' }).first().waitFor();
    await page.goto('/jobs/acme/x/y/z');
    await page.getByRole('heading', { name: 'There is nothing at this address' }).first().waitFor();
    await seen.close();
  });

  test('a daemon that ends is noticed, and what was shown stays', async () => {
    const other = await Site.start();
    const id = other.enqueue('hog.echo', 1, '--tenant', 'acme', '--wait');
    const of = await open(browser, other.url);
    await of.page.goto('/jobs?tenant=acme');
    await of.page.getByText(id).first().waitFor();
    await of.page.getByText('Live', { exact: true }).first().waitFor();
    await other.stop();
    await of.page.getByText('Not connected', { exact: false }).first().waitFor();
    await of.page.getByText(id).first().waitFor();
    await of.page.context().close();
  });

  test('each view is sound: light, dark and on a phone', async () => {
    const id = site.enqueue('hog.log', { lines: 3 }, '--tenant', 'acme', '--wait');
    for (const scheme of ['light', 'dark']) {
      for (const [width, height] of [[1440, 900], [390, 844]]) {
        const page = await visit('/', { scheme, width, height });
        const names = await page.locator('#nav a:not(.brand)').evaluateAll((links) => links.map((link) => new URL(link.href).pathname));
        for (const path of new Set([...names, `/jobs/acme/${id}`, '/jobs?tenant=acme&state=dead&wrong=1', '/plugins/acme/hog', '/tenants/acme?days=30'])) {
          await page.goto(path);
          await seen.settled();
          await sound(page, `${path}, ${scheme}, ${width} px`);
        }
        await seen.close();
      }
    }
  });
});

describe('where a token is needed', () => {
  let site;
  before(async () => {
    site = await Site.start({ tokens: true });
  });
  after(() => site?.stop());

  test('a wrong token is told, and a right one is exchanged for a session that no script sees', async () => {
    const { page, close } = await open(browser, site.url);
    await page.goto('/jobs?tenant=acme');
    await sound(page, 'the page to sign in');
    await page.getByLabel('Token').fill('no such token');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('unauthenticated').first().waitFor();
    await page.getByLabel('Token').fill(site.tokens.ann);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('heading', { name: 'Jobs of acme' }).waitFor();
    assert.equal(await page.evaluate(() => document.cookie), '');
    const kept = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }));
    assert.ok(!kept.includes(site.tokens.ann) && !page.url().includes(site.tokens.ann));
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByRole('button', { name: 'Sign in' }).waitFor();
    await close();
  });

  test('somebody who may act does, from this page', async () => {
    const id = site.enqueue('hog.echo', { a: 'secret payload' }, '--tenant', 'acme', '--delay', '1h');
    const { page, close } = await open(browser, site.url);
    await signIn(page, site.tokens.ann);
    await page.goto(`/jobs/acme/${id}`);
    await page.getByText('secret payload', { exact: false }).first().waitFor();
    await page.getByRole('button', { name: 'Run now', exact: true }).click();
    await page.getByText(/It succeeded at/).first().waitFor();
    await close();
  });

  test('an observer sees no payload and has nothing to press', async () => {
    const id = site.enqueue('hog.echo', { a: 'secret payload' }, '--tenant', 'acme', '--wait');
    const { page, close } = await open(browser, site.url);
    await signIn(page, site.tokens.olga);
    await page.goto(`/jobs/acme/${id}`);
    await page.getByText('Hidden: your role doesn’t see payloads').first().waitFor();
    assert.ok(!(await page.content()).includes('secret payload'));
    assert.equal(await page.getByRole('button', { name: 'Remove job…' }).count(), 0);
    await page.goto('/jobs?tenant=acme');
    await page.getByText('You may look.', { exact: false }).waitFor();
    await close();
  });

  test('another tenant’s jobs aren’t there', async () => {
    const id = site.enqueue('hog.echo', 1, '--tenant', 'acme', '--wait');
    const { page, close } = await open(browser, site.url);
    await signIn(page, site.tokens.gus);
    await page.goto(`/jobs/acme/${id}`);
    await page.getByRole('heading', { name: 'There is no such job' }).first().waitFor();
    await page.goto('/');
    await page.locator('main').getByText('globex').first().waitFor();
    assert.ok(!(await page.locator('main').innerText()).includes('acme'));
    await close();
  });
});
