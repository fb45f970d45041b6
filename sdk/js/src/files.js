// The files of granted folders.

import { HostError } from "./host-error.js";

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

const EXPLAINED = {
  "not-granted": "its folder is not granted; add it to `dirs` of [grants] in the plugin's TOML",
  "no-entry": "there is no such file",
  "not-permitted": "it is outside the folder that is granted, or may only be read",
  "read-only": "its folder is granted to read only",
  access: "the operating system refuses it",
  "is-directory": "it is a folder",
  "not-directory": "it, or part of its path, is no folder",
};

/** A refusal of the file system, in words. */
export const explained = (code, doing, path) => new HostError(code, `${doing} ${path}: ${EXPLAINED[code] ?? code}`);
