// Server-sent events as they come in pieces. Comments count too: they are the sign that the other side is still there.

/** An event of a stream, or a sign of life. */
export type Said = { event: string; id: string | undefined; data: string } | 'alive';

/** Reads a stream that comes in pieces. */
export class Lines {
  #rest = '';
  #event = '';
  #data: string[] = [];
  #id: string | undefined;

  /** Takes the next piece. Returns what is complete by it. */
  take(piece: string): Said[] {
    const lines = (this.#rest + piece).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? '';
    const said: Said[] = [];
    for (const line of lines) {
      if (line === '') {
        if (this.#data.length > 0) said.push({ event: this.#event || 'message', id: this.#id, data: this.#data.join('\n') });
        this.#event = '';
        this.#data = [];
      } else if (line.startsWith(':')) said.push('alive');
      else {
        const at = line.indexOf(':');
        const field = at < 0 ? line : line.slice(0, at);
        const value = at < 0 ? '' : line.slice(at + 1).replace(/^ /, '');
        if (field === 'data') this.#data.push(value);
        else if (field === 'event') this.#event = value;
        else if (field === 'id') this.#id = value;
      }
    }
    return said;
  }
}
