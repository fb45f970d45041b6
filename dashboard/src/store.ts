// A value that components follow, and the one clock of the page.
import { useEffect, useReducer } from 'preact/hooks';

/** A value, and those who hear of its changes. */
export class Store<T> {
  #value: T;
  #heard = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const heard of [...this.#heard]) heard();
  }

  follow(heard: () => void): () => void {
    this.#heard.add(heard);
    return () => void this.#heard.delete(heard);
  }
}

/** Follows a store: the component is drawn again with each change. */
export function useStore<T>(store: Store<T>): T {
  const [, draw] = useReducer((count: number) => count + 1, 0);
  useEffect(() => {
    draw(undefined as never);
    return store.follow(() => draw(undefined as never));
  }, [store]);
  return store.value;
}

/** How far the server's clock is ahead of the browser's, in milliseconds. */
export let skew = 0;

/** Takes over the server's time. */
export function setClock(serverTime: number): void {
  skew = serverTime - Date.now();
}

/** The time by the server's clock. */
export const now = (): number => Date.now() + skew;

const second = new Store(0);
setInterval(() => {
  if (!document.hidden) second.set(now());
}, 1000);

/** The time by the server's clock; the component is drawn again each second. */
export function useNow(): number {
  useStore(second);
  return now();
}
