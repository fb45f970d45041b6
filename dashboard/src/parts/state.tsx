import type { ComponentChildren, JSX } from 'preact';
import { isState, type State } from '../filter.ts';
import { t } from '../texts.ts';
import { Icon } from './icon.tsx';

/** The state of a job: shape and word. `tag` has its tint too, for headings only. */
export function StateBadge({ state, tag = false }: { state: State; tag?: boolean }): JSX.Element {
  if (!isState(state)) return <span class="st">{state}</span>;
  return <span class={`st c-${state}${tag ? ' tag' : ''}`}><Icon name={state} />{t.state[state]}</span>;
}

/** The state as a shape alone, with its word for those who don't see it, before what it is the state of. */
export function StateMark({ state, children }: { state: State; children: ComponentChildren }): JSX.Element {
  if (!isState(state)) return <span class="st">{children}</span>;
  return <span class={`st c-${state}`}><Icon name={state} label={t.state[state]} />{children}</span>;
}
