// The dashboard: a client of the public interface like any other.
import { render, type JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { Frame, Keys } from './frame.tsx';
import { followKeys } from './keys.ts';
import { live } from './live.ts';
import { Empty, Failed } from './parts/notice.tsx';
import { Head } from './parts/panel.tsx';
import { followLinks, href, place, scope } from './place.ts';
import { routeOf } from './routes.ts';
import { begin, session, tenants } from './session.ts';
import { useStore } from './store.ts';
import { t } from './texts.ts';
import { SignIn } from './views/sign-in.tsx';

function App(): JSX.Element {
  const of = useStore(session);
  const [help, setHelp] = useState(false);
  useEffect(() => followKeys(() => setHelp(true)), []);
  if (of.is === 'out') return <SignIn />;
  return (
    <>
      <Frame help={() => setHelp(true)}>
        {of.is === 'failed' && <Failed what={t.name} problem={of.problem} retry={() => void begin()} />}
        {of.is === 'in' && <View />}
      </Frame>
      {help && <Keys close={() => setHelp(false)} />}
    </>
  );
}

/** The view of the place, and what it needs of the page: focus, and the streams of its tenants. */
function View(): JSX.Element {
  const { parts, query } = useStore(place);
  const all = useStore(tenants);
  const path = parts.join('/');
  const first = useRef(true);
  useEffect(() => {
    if (!first.current) {
      document.getElementById('main')?.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    first.current = false;
  }, [path]);
  const found = routeOf(parts);
  const tenant = scope() ?? found?.params.tenant;
  const followed = tenant !== undefined && tenant !== '-' ? [tenant] : all;
  const paused = query.get('live') === '0';
  useEffect(() => {
    live.start(followed);
    if (paused) live.pause();
  }, [followed.join(), paused]);
  if (!found) {
    return (
      <>
        <Head title={t.gone.title} />
        <div class="p"><Empty title={t.gone.title}><p>{t.gone.text}</p><a class="b" href={href([])}>{t.gone.home}</a></Empty></div>
      </>
    );
  }
  const { view: Shown } = found.route;
  return <Shown params={found.params} query={query} />;
}

const root = document.getElementById('app');
if (root) {
  root.textContent = '';
  followLinks();
  render(<App />, root);
  void begin();
}
