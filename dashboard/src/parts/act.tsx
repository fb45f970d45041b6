import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { Bulk, Role } from '../api.ts';
import { useChange } from '../change.ts';
import { commandOf, curlOf, done, type Deed, type Terms } from '../deeds.ts';
import { may, session } from '../session.ts';
import { t } from '../texts.ts';
import { exact } from '../units.ts';
import { Copy, CopyBoth } from './copy.tsx';
import { Confirm } from './dialog.tsx';
import { Failed } from './notice.tsx';
import { say } from './toast.tsx';

/** How long something may last, as the interface takes it; empty for until somebody ends it. */
export const LASTS = ['15m', '1h', '4h', '24h', ''] as const;

/** Name of the server, as those who act on it have to read it. */
export const serverName = (): string =>
  (session.value.is === 'in' ? session.value.me.server.name : null) ?? location.host;

export interface ActProps {
  /** What is done, as a button has it: a verb with its object. */
  label: string;
  /** Title of the dialog and its button, where the label alone doesn't say to what it is done. */
  title?: string;
  /** The tenant that it is done to. */
  tenant: string;
  /** Makes the deed of what was said in the dialog. */
  deed: (terms: Terms) => Deed;
  /** Whether the dialog asks how long it lasts, and for a remark. */
  ends?: boolean;
  noted?: boolean;
  /** The deed that only counts what this one would be done to: it is done as soon as the dialog opens. */
  counted?: Deed | undefined;
  /** The label, once it is known to how many it is done. */
  many?: (count: number) => string;
  typed?: { number: number; label: string } | undefined;
  risk?: boolean;
  small?: boolean;
  role?: Role;
  /** Says what was done, for those who have done it. */
  said: string;
  /** Whether what the fields say can be done. */
  ready?: boolean;
  /** Key that presses the button. */
  press?: string;
  after: () => void;
  children?: ComponentChildren;
}

/**
 * A change, with its dialog: what is done to what, and what follows; the same as a command and as a request of curl. Whoever may
 * not do it gets the command, for somebody who may.
 */
export function Act(props: ActProps): JSX.Element {
  const { label, role = 'operate', deed, risk = false, small = false, press } = props;
  const [open, setOpen] = useState(false);
  if (!may(role)) return <Copy label={t.deed.copyOf(label)} text={commandOf(deed({ lasts: '', note: '' }))} />;
  return (
    <>
      <button class={`b${risk ? ' risk' : ''}${small ? ' sm' : ''}`} type="button" data-key={press} onClick={() => setOpen(true)}>{t.deed.asks(label)}</button>
      {open && <Ask {...props} close={() => setOpen(false)} />}
    </>
  );
}

function Ask({ label, title: named = label, tenant, deed, ends, noted, counted, many, typed, risk = false, said, ready = true, after, close, children }: ActProps & { close: () => void }): JSX.Element {
  const [lasts, setLasts] = useState<string>(ends ? '1h' : '');
  const [note, setNote] = useState('');
  const { busy, problem, change } = useChange();
  const [would, setWould] = useState<Bulk>();
  useEffect(() => {
    if (counted) void change(async () => setWould(await done<Bulk>(counted)));
  }, []);
  const now = deed({ lasts, note: note.trim() });
  const act = (): Promise<boolean> =>
    change(async () => {
      const is = await done<Partial<Bulk> | undefined>(now);
      say(is?.done !== undefined && would ? t.deed.saidOf(said, is.done) : said);
      if (is?.complete === false) say(t.bulk.incomplete);
      close();
      after();
    });
  const title = would && many ? many(would.done) : named;
  const possible = ready && (!counted || (would !== undefined && would.done > 0));
  const left = Object.entries(would?.left_out ?? {}).filter(([, count]) => count > 0);
  return (
    <Confirm title={title} button={title} risk={risk} typed={typed} busy={busy || !possible} close={close} confirm={() => void act()}>
      <p>{t.bulk.where(tenant, serverName())}</p>
      {children}
      {counted && busy && !would && <p role="status">{t.bulk.counting}</p>}
      {would && <p role="status">{would.complete ? t.bulk.can(would.done) : t.bulk.atLeast(would.done)}</p>}
      {left.length > 0 && <ul>{left.map(([why, count]) => <li>{exact(count)}: {t.bulk.leftOut[why] ?? why}</li>)}</ul>}
      {ends && (
        <label>
          <span>{t.deed.lasts}</span>
          <select class="in" value={lasts} onChange={(event) => setLasts(event.currentTarget.value)}>
            {LASTS.map((one) => <option key={one} value={one}>{t.deed.spans[one]}</option>)}
          </select>
        </label>
      )}
      {noted && (
        <label>
          <span>{t.deed.note}</span>
          <input class="in" autocomplete="off" maxLength={250} value={note} onInput={(event) => setNote(event.currentTarget.value)} />
        </label>
      )}
      {problem && <Failed what={named} verb={t.deed.failed(named)} problem={problem} />}
      <div class="acts copies"><CopyBoth command={commandOf(now)} curl={curlOf(now, location.origin)} /></div>
    </Confirm>
  );
}
