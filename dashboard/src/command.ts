// Whatever the page does, as a command and as a request of curl: the same, to be copied.
import { written } from './json.ts';

const PLAIN = /^[A-Za-z0-9_@%+=:,./-]+$/;

/** Quotes a word for a shell, if it needs it. What a terminal would obey is written by its number. */
export function quoted(word: string): string {
  if (PLAIN.test(word)) return word;
  if (/[\u0000-\u001f\u007f]/.test(word)) {
    const escaped = [...word].map((char) => {
      if (char === "'" || char === '\\') return `\\${char}`;
      const code = char.charCodeAt(0);
      return code < 32 || code === 127 ? `\\x${code.toString(16).padStart(2, '0')}` : char;
    });
    return `$'${escaped.join('')}'`;
  }
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** A command of words. */
export const command = (...words: string[]): string => words.map(quoted).join(' ');

/** Options of `sandhog jobs` for a filter. */
export function options(query: URLSearchParams): string[] {
  const words: string[] = [];
  for (const [key, value] of query) {
    if (key !== 'live') words.push(`--${key}`, value);
  }
  return words;
}

/** A request of curl. The token stays in a file. */
export function curl(method: string, url: string, body?: unknown): string {
  const words = ['curl', '-H', '@token'];
  if (method !== 'GET') words.push('-X', method);
  words.push(url);
  if (body !== undefined) words.push('--json', written(body));
  return command(...words);
}
