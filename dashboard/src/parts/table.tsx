import type { ComponentChildren, JSX } from 'preact';
import { useRef } from 'preact/hooks';
import { t } from '../texts.ts';

/** A column: what heads it, whether it is of numbers, and its rank. Rank 3 goes where it is narrow, rank 2 on a phone. */
export interface Column {
  head: ComponentChildren;
  num?: boolean;
  rank?: 2 | 3;
}

const classOf = ({ num, rank }: Column, extra = ''): string => [num ? 'num' : '', rank ? `p${rank}` : '', extra].filter(Boolean).join(' ');

/** A row: its key, what heads it, and its cells in the order of the columns after the first. */
export interface Row {
  key: string;
  head: ComponentChildren;
  cells: readonly ComponentChildren[];
  name?: string;
}

/** Rows that can be picked. */
export interface Picking {
  picked: ReadonlySet<string>;
  set: (picked: ReadonlySet<string>) => void;
  all: string;
  one: (name: string) => string;
}

/** A table that is one, in a region that scrolls sideways. `j`, `k` and `x` go through rows with `data-keys`. */
export function Table({ label, columns, rows, picking }: {
  label: string;
  columns: readonly [Column, ...Column[]];
  rows: readonly Row[];
  picking?: Picking;
}): JSX.Element {
  const last = useRef<string | undefined>(undefined);
  const [first, ...others] = columns;
  const pick = (key: string, is: boolean, shift: boolean): void => {
    if (!picking) return;
    const picked = new Set(picking.picked);
    const keys = rows.map((row) => row.key);
    const from = shift && last.current !== undefined ? keys.indexOf(last.current) : -1;
    const to = keys.indexOf(key);
    const span = from < 0 ? [key] : keys.slice(Math.min(from, to), Math.max(from, to) + 1);
    for (const one of span) is ? picked.add(one) : picked.delete(one);
    last.current = key;
    picking.set(picked);
  };
  const all = rows.length > 0 && rows.every((row) => picking?.picked.has(row.key));
  return (
    <div class="tw" tabIndex={0} role="region" aria-label={t.table(label)}>
      <table>
        <thead>
          <tr>
            {picking && (
              <th scope="col" class="ck">
                <input
                  type="checkbox"
                  aria-label={picking.all}
                  checked={all}
                  ref={(box: HTMLInputElement | null) => {
                    if (box) box.indeterminate = !all && picking.picked.size > 0;
                  }}
                  onChange={() => picking.set(new Set(all ? [] : rows.map((row) => row.key)))}
                />
              </th>
            )}
            <th scope="col" class={classOf(first)}>{first.head}</th>
            {others.map((column) => <th scope="col" class={classOf(column)}>{column.head}</th>)}
          </tr>
        </thead>
        <tbody data-keys>
          {rows.map((row) => (
            <tr key={row.key} class={picking?.picked.has(row.key) ? 'sel' : ''}>
              {picking && (
                <td class="ck">
                  <input
                    type="checkbox"
                    aria-label={picking.one(row.name ?? row.key)}
                    checked={picking.picked.has(row.key)}
                    onClick={(event) => pick(row.key, event.currentTarget.checked, event.shiftKey)}
                  />
                </td>
              )}
              <th scope="row" class={classOf(first)}>{row.head}</th>
              {row.cells.map((cell, at) => <td class={classOf(others[at] ?? { head: '' })}>{cell}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
