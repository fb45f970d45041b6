// The files of granted folders.

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** @see index.d.ts */
export class Files {
  #host;

  constructor(host) {
    this.#host = host;
  }

  read(path) {
    return this.#host.read(path);
  }

  readText(path) {
    return decoder.decode(this.#host.read(path));
  }

  write(path, content) {
    this.#host.write(path, typeof content === "string" ? encoder.encode(content) : content);
  }

  list(path) {
    return this.#host.list(path).sort();
  }

  remove(path) {
    this.#host.remove(path);
  }
}
