// The files of granted folders, in memory. They are written at once, as on the real host.

import { explained } from "../files.js";

export class FakeFiles {
  #granted = new Set();
  #files = new Map();

  constructor(dirs, files) {
    for (const dir of dirs) this.#granted.add(clean(dir));
    for (const [path, content] of Object.entries(files)) {
      const file = clean(path);
      if (this.#grantOf(file) === undefined) this.#granted.add(parentOf(file));
      this.#files.set(file, asBytes(content));
    }
  }

  /** A file's content; none if there is none. */
  get(path) {
    return this.#files.get(clean(path));
  }

  calls() {
    return {
      read: (path) => {
        const file = this.#inside(path, "read");
        if (this.#isFolder(file)) throw explained("is-directory", "read", path);
        return this.#there(file, path, "read");
      },
      write: (path, content) => {
        const file = this.#inside(path, "write");
        if (this.#isFolder(file)) throw explained("is-directory", "write", path);
        if (!this.#isFolder(parentOf(file))) throw explained("no-entry", "write", path);
        this.#files.set(file, content.slice());
      },
      list: (path) => {
        const folder = this.#inside(path, "list");
        if (this.#files.has(folder)) throw explained("not-directory", "list", path);
        if (!this.#isFolder(folder)) throw explained("no-entry", "list", path);
        const below = [...this.#files.keys()].filter((file) => isBelow(file, folder));
        return [...new Set(below.map((file) => file.slice(prefixOf(folder).length).split("/")[0]))];
      },
      remove: (path) => {
        const file = this.#inside(path, "remove");
        if (this.#isFolder(file)) throw explained("is-directory", "remove", path);
        this.#there(file, path, "remove");
        this.#files.delete(file);
      },
    };
  }

  #there(file, path, doing) {
    const content = this.#files.get(file);
    if (content === undefined) throw explained("no-entry", doing, path);
    return content.slice();
  }

  #isFolder(path) {
    return this.#granted.has(path) || [...this.#files.keys()].some((file) => isBelow(file, path));
  }

  #grantOf(path) {
    return [...this.#granted].find((folder) => path === folder || isBelow(path, folder));
  }

  /** A path without `.` and `..`, in a granted folder. */
  #inside(path, doing) {
    const plain = path.replace(/(?<=.)\/+$/, "");
    const folder = this.#grantOf(plain);
    if (folder === undefined) throw explained("not-granted", doing, path);
    const inside = [];
    for (const part of plain.slice(folder.length).split("/")) {
      if (part === ".." && inside.pop() === undefined) throw explained("not-permitted", doing, path);
      if (part !== ".." && part !== "." && part !== "") inside.push(part);
    }
    return [folder === "/" ? "" : folder, ...inside].join("/") || "/";
  }
}

const prefixOf = (folder) => (folder === "/" ? "/" : `${folder}/`);

const isBelow = (path, folder) => path.startsWith(prefixOf(folder)) && path !== folder;

const parentOf = (path) => path.slice(0, path.lastIndexOf("/")) || "/";

const clean = (path) => `/${path.split("/").filter((part) => part !== "").join("/")}`;

const asBytes = (content) => (typeof content === "string" ? new TextEncoder().encode(content) : content);
