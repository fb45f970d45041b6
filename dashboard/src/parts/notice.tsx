import type { ComponentChildren, JSX } from 'preact';
import type { Problem } from '../api.ts';
import { t } from '../texts.ts';
import { clock } from '../units.ts';
import { now } from '../store.ts';
import { Hostile } from './hostile.tsx';
import { Icon } from './icon.tsx';

/** Nothing to show: what there is none of, and the one thing to do next. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }): JSX.Element {
  return <div class="empty"><h3>{title}</h3>{children}</div>;
}

/** Why something isn't there: what failed, what still holds, and how to go on. It stays where it happened. */
export function Failed({ what, verb, problem, at, retry }: { what: string; verb?: string; problem: Problem; at?: number | undefined; retry?: () => void }): JSX.Element {
  return (
    <div class="why k-crit failed" role="alert">
      <Icon name="crit" />
      <div>
        <h2>{verb ?? t.problem.title(what)}</h2>
        <p>
          {problem.slug === 'unreachable' ? t.problem.unreachable : <Hostile text={problem.detail} />}
          {at !== undefined && ` ${t.problem.stays(clock(at, now()))}`}
        </p>
        {problem.help.map((help) => <p><Hostile text={help} /></p>)}
        <p class="note">
          {t.problem.slug} <code>{problem.slug}</code>
          {problem.requestId !== null && <>, {t.problem.request} <code><Hostile text={problem.requestId} /></code></>}
        </p>
      </div>
      {retry && <div class="acts"><button class="b" type="button" onClick={retry}>{t.problem.retry}</button></div>}
    </div>
  );
}
