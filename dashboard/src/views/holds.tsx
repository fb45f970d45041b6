import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { address, api } from '../api.ts';
import { command, curl } from '../command.ts';
import { pause } from '../deeds.ts';
import { Act } from '../parts/act.tsx';
import { CopyBoth } from '../parts/copy.tsx';
import { HoldTable } from '../parts/holds.tsx';
import { Empty, Failed } from '../parts/notice.tsx';
import { Head } from '../parts/panel.tsx';
import { scope } from '../place.ts';
import { may, tenants } from '../session.ts';
import { useSnapshot } from '../snapshot.ts';
import { useStore } from '../store.ts';
import { t } from '../texts.ts';
import { useTitle } from '../title.ts';

/** What is held back, by whom and until when. */
export function Holds(): JSX.Element {
  const tenant = scope();
  const list = useSnapshot(tenant ?? '', (signal) => api.holds({ tenant }, signal), () => true);
  const holds = list.data?.holds;
  const all = useStore(tenants);
  const one = tenant ?? (all.length === 1 ? all[0] : undefined);
  useTitle(t.holds.title);
  return (
    <>
      <Head
        title={holds === undefined ? t.holds.title : holds.length === 0 ? t.holds.none : t.holds.count(holds.length)}
        acts={
          <>
            {one !== undefined && <PauseAct tenant={one} reload={list.reload} />}
            <CopyBoth
              command={command('sandhog', 'holds', ...(tenant === undefined ? [] : ['--tenant', tenant]))}
              curl={curl('GET', location.origin + address('/v1/holds', { tenant }))}
            />
          </>
        }
      />
      {list.problem && <Failed what={t.holds.title} problem={list.problem} at={list.at} retry={list.reload} />}
      {holds && (
        <section class="p" aria-label={t.holds.title}>
          {holds.length === 0
            ? <Empty title={t.holds.none}><p>{t.holds.noneText}</p></Empty>
            : <HoldTable label={t.holds.title} holds={holds} tenants={tenant === undefined} reload={list.reload} />}
        </section>
      )}
      {!may('operate') && <p class="note">{t.deed.mayLook(t.holds.mayLook, 'operate')}</p>}
    </>
  );
}

/** Pauses what is typed: a queue, a kind, both, or all of the tenant. */
function PauseAct({ tenant, reload }: { tenant: string; reload: () => void }): JSX.Element {
  const [queue, setQueue] = useState('');
  const [kind, setKind] = useState('');
  const scope = { tenant, queue: queue.trim() || undefined, kind: kind.trim() || undefined };
  return (
    <Act label={t.holds.pause} tenant={tenant} deed={(terms) => pause(scope, terms)} ends noted said={t.queue.paused} after={reload}>
      <p>{t.queue.goesOn}</p>
      <label><span>{t.holds.queue}</span><input class="in" autocomplete="off" spellcheck={false} value={queue} onInput={(event) => setQueue(event.currentTarget.value)} /></label>
      <label><span>{t.holds.kind}</span><input class="in" autocomplete="off" spellcheck={false} value={kind} onInput={(event) => setKind(event.currentTarget.value)} /></label>
    </Act>
  );
}
