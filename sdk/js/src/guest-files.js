// Granted folders, through wasi:filesystem. A path names a folder as the plugin's TOML does, and goes on from there.

import { getDirectories } from "wasi:filesystem/preopens@0.2.0";

import { explained } from "./files.js";

const CHUNK = 1n << 20n;

export const files = {
  read(path) {
    return opened(path, "read", {}, { read: true }, (file) => {
      const chunks = [];
      let size = 0;
      for (;;) {
        const [chunk, end] = file.read(CHUNK, BigInt(size));
        chunks.push(chunk);
        size += chunk.length;
        if (end || chunk.length === 0) return joined(chunks, size);
      }
    });
  },

  write(path, content) {
    opened(path, "write", { create: true, truncate: true }, { write: true }, (file) => {
      for (let at = 0; at < content.length; ) {
        at += Number(file.write(content.subarray(at, at + Number(CHUNK)), BigInt(at)));
      }
    });
  },

  list(path) {
    return opened(path, "list", { directory: true }, { read: true }, (folder) =>
      used(folder.readDirectory(), (entries) => {
        const names = [];
        for (let entry; (entry = entries.readDirectoryEntry()) !== undefined; ) names.push(entry.name);
        return names;
      }),
    );
  },

  remove(path) {
    const { folder, rest } = granted(path, "remove");
    attempted(path, "remove", () => folder.unlinkFileAt(rest));
  },
};

function opened(path, doing, openFlags, flags, use) {
  const { folder, rest } = granted(path, doing);
  return attempted(path, doing, () => used(folder.openAt({ symlinkFollow: true }, rest, openFlags, flags), use));
}

const DISPOSE = Symbol.dispose ?? Symbol.for("dispose");

/** Uses a handle of the host, and gives it back: a run may hold only so many, and nothing collects them. */
function used(handle, use) {
  try {
    return use(handle);
  } finally {
    handle[DISPOSE]();
  }
}

// Asked for once: each answer is made of new handles.
let directories;

/** The granted folder that a path lies in, the innermost if several do, and the path from there. */
function granted(path, doing) {
  let found;
  for (const [folder, name] of (directories ??= getDirectories())) {
    const rest = below(name, path);
    if (rest !== undefined && (found === undefined || rest.length < found.rest.length)) found = { folder, rest };
  }
  if (found) return found;
  throw explained("not-granted", doing, path);
}

function below(name, path) {
  if (path === name) return ".";
  const prefix = name.endsWith("/") ? name : `${name}/`;
  return path.startsWith(prefix) ? path.slice(prefix.length) : undefined;
}

function attempted(path, doing, call) {
  try {
    return call();
  } catch (error) {
    const code = error?.payload;
    if (typeof code !== "string") throw error;
    throw explained(code, doing, path);
  }
}

function joined(chunks, size) {
  if (chunks.length === 1) return chunks[0];
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}
