// Text from outside, made harmless to look at: nothing is dropped, and what can't be seen is shown by its number.

/** A piece of text: as it is, or a character that can't be seen, by its code point such as `U+202E`. */
export type Piece = { text: string } | { code: string };

/** Most characters of one text in a cell of a table. */
export const CELL_MAX = 400;
/** Most characters of one text in a panel, before more is asked for. */
export const PANEL_MAX = 4096;
/** Most characters of one text in the page at all. */
export const SHOWN_MAX = 256 * 1024;

// Controls, soft hyphen, bidi marks and overrides, zero-width and other invisible characters, private use tags, lone surrogates.
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\u{e0000}-\u{e0fff}]|\p{Surrogate}/gu;

/** Splits text into what can be seen and what can't. With `lines`, line breaks and tabs stay as they are. */
export function pieces(text: string, lines = false): Piece[] {
  const found: Piece[] = [];
  let at = 0;
  for (const match of text.matchAll(UNSEEN)) {
    const char = match[0];
    if (lines && (char === '\n' || char === '\t')) continue;
    if (match.index > at) found.push({ text: text.slice(at, match.index) });
    found.push({ code: codeOf(char) });
    at = match.index + char.length;
  }
  if (at < text.length) found.push({ text: text.slice(at) });
  return found;
}

function codeOf(char: string): string {
  return `U+${(char.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
}

/** Cuts text to `max` UTF-16 units, never within a character. Returns what is shown, and how much is left out. */
export function cut(text: string, max: number): { shown: string; left: number } {
  if (text.length <= max) return { shown: text, left: 0 };
  const splits = /[\ud800-\udbff]/.test(text[max - 1] ?? '');
  const shown = text.slice(0, splits ? max - 1 : max);
  return { shown, left: text.length - shown.length };
}
