import type { JSX } from 'preact';
import { useRef } from 'preact/hooks';
import { KEYS, termsOf, typed, withTerm, withoutTerm } from '../filter.ts';
import { go, href, hrefWith, scope } from '../place.ts';
import { t } from '../texts.ts';
import { Hostile } from './hostile.tsx';

/** One field and a chip for each condition. What is typed goes into the URL, and comes back from there. */
export function FilterBar({ query, keys = KEYS, label = t.jobs.filter, hint = t.jobs.hint }: {
  query: URLSearchParams;
  keys?: readonly string[];
  label?: string;
  hint?: string;
}): JSX.Element {
  const field = useRef<HTMLInputElement>(null);
  const submit = (event: Event): void => {
    event.preventDefault();
    const input = field.current;
    if (!input || input.value.trim() === '') return;
    const told = typed(input.value);
    input.value = '';
    if ('id' in told) {
      go(href(['jobs', scope() ?? '-', told.id], { tenant: undefined }));
      return;
    }
    go(hrefWith(told.terms.reduce((next, [key, value]) => withTerm(next, key, value), query)));
  };
  return (
    <form class="filter" role="search" aria-label={label} onSubmit={submit}>
      <input ref={field} class="in" type="search" list="filter-keys" data-search aria-label={label} placeholder={hint} autocomplete="off" spellcheck={false} />
      <datalist id="filter-keys">{keys.map((key) => <option value={`${key}:`} />)}</datalist>
      {termsOf(query, keys).map(({ key, value, wrong }) => (
        <span class={`chip${wrong ? ' wrong' : ''}`}>
          <span>{key} <b><Hostile text={value} /></b></span>
          <button type="button" aria-label={t.jobs.remove(key, value)} onClick={() => go(hrefWith(withoutTerm(query, key, value)))}>×</button>
        </span>
      ))}
    </form>
  );
}
