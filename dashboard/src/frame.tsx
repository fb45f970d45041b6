// The frame around each view: navigation, tenant, search, the state of the connection, theme, who looks.
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { typed, withTerm } from './filter.ts';
import { keysAreOn, switchKeys } from './keys.ts';
import { setLook } from './kept.ts';
import { live } from './live.ts';
import { Dialog } from './parts/dialog.tsx';
import { Icon } from './parts/icon.tsx';
import { Toasts } from './parts/toast.tsx';
import { go, href, hrefWith, place, scope } from './place.ts';
import { ROUTES, type Route } from './routes.ts';
import { session, signOut, tenants } from './session.ts';
import { useNow, useStore } from './store.ts';
import { t } from './texts.ts';
import { clock, duration } from './units.ts';

/** Most tenants that the choice offers; beyond, the URL has the name. */
const TENANTS_SHOWN = 200;

const isAt = (route: Route, parts: readonly string[]): boolean => (route.path[0] ?? '') === (parts[0] ?? '');

export function Frame({ help, children }: { help: () => void; children: ComponentChildren }): JSX.Element {
  const { parts } = useStore(place);
  const [open, setOpen] = useState(false);
  useEffect(() => setOpen(false), [parts.join('/')]);
  return (
    <>
      <a class="skip" href="#main">{t.skip}</a>
      <div class="app">
        <Side open={open} parts={parts} />
        <div>
          <Top help={help} />
          <Lost />
          <main id="main" tabIndex={-1}>{children}</main>
        </div>
      </div>
      <nav class="bar5" aria-label={t.nav.short}>
        {ROUTES.filter((route) => route.nav?.bar !== undefined).slice(0, 4).map((route) => (
          <a key={route.nav?.name} href={href(route.path)} aria-current={isAt(route, parts) ? 'page' : undefined}>
            {route.nav?.bar && <Icon name={route.nav.bar} />}{route.nav?.name}
          </a>
        ))}
        <button type="button" aria-expanded={open} aria-controls="nav" onClick={() => setOpen(!open)}><Icon name="menu" />{t.nav.more}</button>
      </nav>
      <Toasts />
    </>
  );
}

function Side({ open, parts }: { open: boolean; parts: readonly string[] }): JSX.Element {
  const of = useStore(session);
  const me = of.is === 'in' ? of.me : undefined;
  const link = (route: Route): JSX.Element | null =>
    route.nav ? <li key={route.nav.name}><a href={href(route.path)} aria-current={isAt(route, parts) ? 'page' : undefined}>{route.nav.name}</a></li> : null;
  const groups = Object.entries(t.nav.groups).map(([group, name]) => [name, ROUTES.filter((route) => route.nav?.group === group)] as const);
  return (
    <nav class={`side${open ? ' open' : ''}`} id="nav" aria-label={t.nav.main}>
      <a class="brand" href={href([])}>
        <svg viewBox="0 0 24 24" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2"><path d="M3 21V12a9 9 0 0 1 18 0v9" /><path d="M8 21v-9a4 4 0 0 1 8 0v9" stroke-width="1.5" /><path d="M3 12h5M16 12h5M12 3v5M5.6 5.6l3.6 3.6M18.4 5.6l-3.6 3.6" stroke-width="1.2" /></svg>
        <span>{t.name}<small>{me?.server.name ?? location.host}</small></span>
      </a>
      <ul>{ROUTES.filter((route) => route.nav?.group === 'top').map(link)}</ul>
      {groups.map(([name, routes]) => routes.length > 0 && (
        <div key={name}><h2>{name}</h2><ul aria-label={name}>{routes.map(link)}</ul></div>
      ))}
      {me && me.server.version !== '' && <footer>{t.nav.version(me.server.version)}</footer>}
    </nav>
  );
}

const THEMES = ['', 'light', 'dark'];

function Top({ help }: { help: () => void }): JSX.Element {
  const { query, parts } = useStore(place);
  const [theme, setTheme] = useState(document.documentElement.dataset.theme ?? '');
  const nextTheme = (): void => {
    const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? '';
    setLook('theme', next === '' ? undefined : next);
    setTheme(next);
  };
  const search = (event: Event): void => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const input = form.elements.namedItem('q') as HTMLInputElement;
    const told = typed(input.value);
    input.value = '';
    if ('id' in told) go(href(['jobs', scope() ?? '-', told.id], { tenant: undefined }));
    else {
      const found = told.terms.reduce((next, [key, value]) => withTerm(next, key, value), new URLSearchParams());
      go(`${href(['jobs'], { tenant: found.get('tenant') ?? scope(), ...Object.fromEntries(found) })}`);
    }
  };
  return (
    <header class="top">
      <Scope query={query} inList={parts.length <= 1} />
      <form class="search" role="search" onSubmit={search}>
        <label class="vh" for="gs">{t.top.search}</label>
        <input class="in" id="gs" name="q" type="search" data-search placeholder={t.top.searchHint} autocomplete="off" spellcheck={false} />
        <kbd class="hide-s" aria-hidden="true">/</kbd>
      </form>
      <span class="grow" />
      <LiveState />
      <Clock />
      <button class="b pl sq" type="button" aria-label={t.top.theme(t.top.themes[theme] ?? '')} onClick={nextTheme}><Icon name="half" /></button>
      <button class="b pl sq hide-s" type="button" aria-label={t.top.keys} onClick={help}>?</button>
      <Who />
    </header>
  );
}

function Scope({ query, inList }: { query: URLSearchParams; inList: boolean }): JSX.Element | null {
  const all = useStore(tenants);
  const now = query.get('tenant') ?? '';
  const shown = [...new Set([...all.slice(0, TENANTS_SHOWN), ...(now === '' ? [] : [now])])];
  const change = (event: Event): void => {
    const tenant = (event.currentTarget as HTMLSelectElement).value;
    const next = new URLSearchParams(query);
    for (const key of ['after', 'tenant']) next.delete(key);
    if (tenant !== '') next.set('tenant', tenant);
    go(inList ? hrefWith(next) : href(['jobs'], { tenant: tenant === '' ? undefined : tenant }));
  };
  return (
    <select class="in scope" aria-label={t.top.scope} value={now} onChange={change}>
      {all.length !== 1 && <option value="">{t.top.allTenants}</option>}
      {all.length === 1 && <option value="">{all[0]}</option>}
      {shown.filter((tenant) => all.length !== 1 || tenant !== all[0] || now !== '').map((tenant) => <option key={tenant} value={tenant}>{tenant}</option>)}
    </select>
  );
}

function Clock(): JSX.Element {
  const at = useNow();
  return <span class="mu nw hide-s"><time dateTime={new Date(at).toISOString()}>{t.top.utc(clock(at, at))}</time></span>;
}

function LiveState(): JSX.Element {
  const state = useStore(live.state);
  const text = state.is === 'paused' ? t.live.paused(clock(state.since, state.since)) : t.live[state.is];
  const paused = state.is === 'paused';
  return (
    <>
      <p class="live" data-s={state.is} role="status"><Icon name={paused ? 'pause' : state.is === 'lost' ? 'warn' : 'pulse'} /><span>{text}</span></p>
      <button class="b pl" type="button" aria-pressed={paused} aria-label={paused ? t.live.resume : t.live.pause} onClick={() => (paused ? live.resume() : live.pause())}>
        {paused ? t.live.resumeShort : t.live.pauseShort}
      </button>
    </>
  );
}

/** Time for which the connection may be away before a banner says so. */
const QUIET = 5000;

function Lost(): JSX.Element | null {
  const state = useStore(live.state);
  const now = useNow();
  const lost = state.is === 'lost' && now - state.since >= QUIET;
  useEffect(() => {
    document.documentElement.classList.toggle('stale', lost);
  }, [lost]);
  if (!lost) return null;
  const since = Math.floor((now - state.since) / 1000) * 1000;
  return (
    <div class="banner" role="alert" aria-atomic="false">
      <Icon name="warn" />
      <span>{t.live.banner(duration(since), clock(state.seen, now))}</span>
      <button class="b" type="button" onClick={() => live.resume()}>{t.live.tryNow}</button>
    </div>
  );
}

function Who(): JSX.Element | null {
  const of = useStore(session);
  if (of.is !== 'in') return null;
  const who = t.top.who(of.me.name ?? t.top.noToken, of.me.role);
  return (
    <>
      <span class="mu nw hide-s"><Icon name="user" /> {who}</span>
      {!of.open && <button class="b pl hide-s" type="button" onClick={() => void signOut()}>{t.top.signOut}</button>}
    </>
  );
}

/** Which keys there are, and how rows look. */
export function Keys({ close }: { close: () => void }): JSX.Element {
  const [on, setOn] = useState(keysAreOn());
  const density = (): void => setLook('density', document.documentElement.dataset.density ? undefined : 'comfortable');
  const goes = ROUTES.flatMap((route) => (route.nav?.key ? [{ key: route.nav.key, name: route.nav.name }] : []));
  return (
    <Dialog title={t.keys.title} close={close}>
      <dl class="keys">
        <dt><kbd>/</kbd></dt><dd>{t.keys.search}</dd>
        {goes.map(({ key, name }) => <><dt><kbd>g</kbd> {t.keys.go} <kbd>{key}</kbd></dt><dd>{name}</dd></>)}
        <dt><kbd>j</kbd> <kbd>k</kbd>, <kbd>Enter</kbd></dt><dd>{t.keys.rows}</dd>
        <dt><kbd>x</kbd></dt><dd>{t.keys.pick}</dd>
        <dt><kbd>c</kbd></dt><dd>{t.keys.copy}</dd>
        <dt><kbd>l</kbd></dt><dd>{t.keys.live}</dd>
        <dt><kbd>?</kbd></dt><dd>{t.keys.all}</dd>
      </dl>
      <div class="acts">
        <button class="b pl" type="button" onClick={density}>{t.keys.density}</button>
        <button class="b pl" type="button" onClick={() => { switchKeys(); setOn(keysAreOn()); }}>{on ? t.keys.off : t.keys.on}</button>
        <button class="b" type="button" onClick={close}>{t.keys.close}</button>
      </div>
    </Dialog>
  );
}
