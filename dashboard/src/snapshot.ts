// What a panel shows: fetched once, again when something has happened, at most once a second, and never while the page is paused.
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { Problem } from './api.ts';
import { live, type JobEvent } from './live.ts';
import { now } from './store.ts';

/** Least time between two fetches that events have caused. */
const AT_MOST_EVERY = 1000;

export interface Snapshot<T> {
  /** What was fetched last. It stays while the next one is on its way, or fails. */
  data: T | undefined;
  /** Why the last fetch failed. */
  problem: Problem | undefined;
  /** When the data is from, by the server's clock. */
  at: number | undefined;
  /** Whether what is shown is of another key than the one that is being fetched. */
  loading: boolean;
  reload: () => void;
}

/**
 * Fetches what belongs to `key`, and again when an event concerns it. `concerns` left out: events don't cause a fetch, as in
 * lists, whose rows don't move under the finger.
 */
export function useSnapshot<T>(
  key: string | undefined,
  fetch: (signal: AbortSignal) => Promise<T>,
  concerns?: (event: JobEvent) => boolean,
): Snapshot<T> {
  const [got, setGot] = useState<{ key?: string | undefined; data?: T; problem?: Problem | undefined; at?: number }>({});
  const [turn, setTurn] = useState(0);
  const latest = useRef({ fetch, concerns });
  latest.current = { fetch, concerns };

  useEffect(() => {
    if (key === undefined) return undefined;
    const stop = new AbortController();
    latest.current.fetch(stop.signal).then(
      (data) => {
        if (!stop.signal.aborted) setGot({ key, data, at: now() });
      },
      (error: unknown) => {
        if (stop.signal.aborted) return;
        if (!(error instanceof Problem)) throw error;
        setGot((before) => ({ ...(before.key === key ? before : {}), key, problem: error }));
      },
    );
    return () => stop.abort();
  }, [key, turn]);

  const reload = useCallback(() => setTurn((before) => before + 1), []);

  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let missed = false;
    const fetchIt = (): void => {
      timer = undefined;
      if (document.hidden) missed = true;
      // What a dialog is about doesn't change while it is open.
      else if (document.querySelector('dialog[open]')) timer = setTimeout(fetchIt, AT_MOST_EVERY);
      else reload();
    };
    const unfollow = live.follow((event) => {
      const { concerns: of } = latest.current;
      if (of === undefined || (event !== 'snapshot' && !of(event)) || timer !== undefined) return;
      timer = setTimeout(fetchIt, AT_MOST_EVERY);
    });
    // What a hidden tab has let go by is fetched when it is looked at again.
    const seen = (): void => {
      if (document.hidden || !missed) return;
      missed = false;
      reload();
    };
    document.addEventListener('visibilitychange', seen);
    return () => {
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', seen);
      unfollow();
    };
  }, [reload]);

  return { data: got.data, problem: got.key === key ? got.problem : undefined, at: got.at, loading: key !== undefined && got.key !== key, reload };
}
