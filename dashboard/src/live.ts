// What happens to jobs, as it happens. One tab follows each tenant's stream and passes it on to the others, since a browser keeps
// six connections to a host. An event is a hint: views fetch what they show.
import { address } from './api.ts';
import { base } from './base.ts';
import { Lines } from './sse.ts';
import { now, Store } from './store.ts';

export interface JobEvent {
  cursor: string;
  at: string | null;
  /** `created`, `started`, `retried`, `succeeded`, `dead`, `cancelled`, …; `gap` where events were missed. */
  event: string;
  tenant: string;
  job: string;
  queue: string;
  kind: string;
  group: string | null;
  attempt: number | null;
  reason: string | null;
}

/**
 * State of the connection. `polled`: there are more tenants than streams may be followed, so views ask every now and then.
 * `lost`: nothing was heard since then.
 */
export type LiveState =
  | { is: 'connecting' }
  | { is: 'live' }
  | { is: 'polled' }
  | { is: 'paused'; since: number }
  | { is: 'lost'; since: number; seen: number };

/** Most tenants whose streams are followed at once. */
export const STREAMS_MAX = 3;
/** Time without event or sign of life after which a stream is taken for dead; signs come every 15 s. */
const SILENCE_MAX = 20_000;
/** Time between snapshots: of all where no stream is followed, else of what has no events, such as holds and breakers. */
const POLL_EVERY = 10_000;
const BACKOFF: readonly [number, number] = [1000, 30_000];

/** Delay before the next try, with jitter, for the number of tries that failed. */
export function backoff(failed: number, random: number): number {
  const most = Math.min(BACKOFF[1], BACKOFF[0] * 2 ** Math.min(failed, 10));
  return most / 2 + (most / 2) * random;
}

type Passed = { event: JobEvent } | { up: boolean };

/** Follows events for all views of this tab. */
class Live {
  readonly state = new Store<LiveState>({ is: 'connecting' });
  #heard = new Set<(event: JobEvent | 'snapshot') => void>();
  #up = new Map<string, boolean>();
  #seen = now();
  #stop = new AbortController();
  #tenants: readonly string[] = [];
  #began = false;

  /** Has `heard` told of events, and `snapshot` when what is shown has to be fetched anew. Returns what ends that. */
  follow(heard: (event: JobEvent | 'snapshot') => void): () => void {
    this.#heard.add(heard);
    return () => void this.#heard.delete(heard);
  }

  /** Follows these tenants from now on; those before are followed no longer. */
  start(tenants: readonly string[]): void {
    if (this.#began && tenants.join() === this.#tenants.join()) return;
    this.#began = true;
    this.#tenants = tenants;
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#up.clear();
    if (this.state.value.is !== 'paused') this.#connect();
  }

  pause(): void {
    if (this.state.value.is === 'paused') return;
    this.#stop.abort();
    this.#up.clear();
    this.state.set({ is: 'paused', since: now() });
  }

  /** Goes on after a pause, or tries at once where the connection is lost. */
  resume(): void {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#up.clear();
    this.#connect();
    this.#tell('snapshot');
  }

  #connect(): void {
    const { signal } = this.#stop;
    const timer = setInterval(() => {
      if (!document.hidden && this.state.value.is !== 'lost') this.#tell('snapshot');
    }, POLL_EVERY);
    signal.addEventListener('abort', () => clearInterval(timer));
    if (this.#tenants.length === 0 || this.#tenants.length > STREAMS_MAX) {
      this.state.set({ is: 'polled' });
      return;
    }
    this.state.set({ is: 'connecting' });
    for (const tenant of this.#tenants) this.#share(tenant, signal);
  }

  /** Follows a tenant: by the tab that has the lock, which passes on what it hears. */
  #share(tenant: string, signal: AbortSignal): void {
    const name = `sandhog-live ${base()} ${tenant}`;
    const channel = 'BroadcastChannel' in globalThis ? new BroadcastChannel(name) : undefined;
    const take = (passed: Passed): void => {
      if (signal.aborted) return;
      if ('event' in passed) this.#take(tenant, passed.event);
      else this.#setUp(tenant, passed.up);
    };
    let leads = false;
    if (channel) {
      channel.onmessage = ({ data }: MessageEvent<Passed | 'hello'>) => {
        if (data !== 'hello') take(data);
        else if (leads) channel.postMessage({ up: this.#up.get(tenant) ?? false } satisfies Passed);
      };
      channel.postMessage('hello');
    }
    signal.addEventListener('abort', () => channel?.close());
    const lead = (): Promise<void> => {
      leads = true;
      return stream(tenant, signal, (passed) => {
        take(passed);
        if (!signal.aborted) channel?.postMessage(passed);
      });
    };
    // Locks are there over HTTPS and on this machine; without them each tab has a stream of its own.
    if (channel && navigator.locks) navigator.locks.request(name, { signal }, lead).catch(() => undefined);
    else void lead();
  }

  #take(tenant: string, event: JobEvent): void {
    this.#setUp(tenant, true);
    this.#tell(event.event === 'gap' ? 'snapshot' : event);
  }

  #setUp(tenant: string, up: boolean): void {
    const was = this.state.value;
    this.#up.set(tenant, up);
    if (up) this.#seen = now();
    if (was.is === 'paused' || was.is === 'polled') return;
    if (!up) {
      if (was.is !== 'lost') this.state.set({ is: 'lost', since: now(), seen: this.#seen });
    } else if (this.#tenants.every((of) => this.#up.get(of))) {
      if (was.is !== 'live') this.state.set({ is: 'live' });
      // All who come back at once don't ask at once.
      if (was.is === 'lost') setTimeout(() => this.#tell('snapshot'), Math.random() * 2000);
    }
  }

  #tell(event: JobEvent | 'snapshot'): void {
    for (const heard of [...this.#heard]) heard(event);
  }
}

/** Follows the stream of a tenant until told to stop; where it breaks off, it goes on after the last event. */
async function stream(tenant: string, signal: AbortSignal, told: (passed: Passed) => void): Promise<void> {
  let last: string | undefined;
  let failed = 0;
  while (!signal.aborted) {
    try {
      await once(tenant, last, signal, (passed, id) => {
        failed = 0;
        last = id ?? last;
        told(passed);
      });
    } catch {
      // What the state says of it is enough; what is wrong in the long run is said by what views ask for.
    }
    if (signal.aborted) return;
    told({ up: false });
    await pause(backoff(failed++, Math.random()), signal);
  }
}

async function once(
  tenant: string,
  last: string | undefined,
  signal: AbortSignal,
  told: (passed: Passed, id?: string) => void,
): Promise<void> {
  const silence = new AbortController();
  const stop = (): void => silence.abort();
  signal.addEventListener('abort', stop);
  let timer = setTimeout(stop, SILENCE_MAX);
  try {
    const headers: Record<string, string> = { accept: 'text/event-stream' };
    if (last !== undefined) headers['last-event-id'] = last;
    const response = await fetch(address('/v1/events', { tenant }), { headers, signal: silence.signal });
    if (!response.ok || !response.body) return;
    told({ up: true });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const lines = new Lines();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(stop, SILENCE_MAX);
      for (const said of lines.take(value)) {
        if (said === 'alive') told({ up: true });
        else told({ event: JSON.parse(said.data) as JobEvent }, said.id);
      }
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}

function pause(millis: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(end, millis);
    signal.addEventListener('abort', end, { once: true });
  });
}

export const live = new Live();
