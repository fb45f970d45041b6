import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { CELL_MAX, PANEL_MAX, SHOWN_MAX, cut, pieces } from '../text.ts';
import { t } from '../texts.ts';

/**
 * Text from outside: whole and harmless. Long text is cut, in a table after its first line, and shown whole
 * when asked for.
 */
export function Hostile({ text, lines = false, panel = false }: { text: string; lines?: boolean; panel?: boolean }): JSX.Element {
  const [whole, setWhole] = useState(false);
  const line = lines || panel ? -1 : text.indexOf('\n');
  const most = whole ? SHOWN_MAX : panel ? PANEL_MAX : Math.min(CELL_MAX, line < 0 ? CELL_MAX : line);
  const { shown, left } = cut(text, most);
  return (
    <>
      <bdi class={whole ? 'lines' : undefined}>{pieces(shown, lines || whole).map((piece) => ('text' in piece ? piece.text : <span class="esc">{piece.code}</span>))}</bdi>
      {left > 0 && (whole
        ? <span class="note"> {t.text.tooMuch(left)}</span>
        : <> <button class="b sm" type="button" onClick={() => setWhole(true)}>{t.text.more(left)}</button></>)}
    </>
  );
}
