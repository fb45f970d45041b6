// Shapes of states and severities: what is said by colour is said by shape first.
import type { ComponentChildren, JSX } from 'preact';

const ring = <circle cx="8" cy="8" r="6" />;

/** What each shape is drawn of, in a box of 16 by 16. */
export const SHAPES = {
  scheduled: <>{ring}<path d="M8 4.8V8l2.2 1.6" /></>,
  ready: ring,
  leased: <><circle class="f" cx="8" cy="8" r="6" /><path class="cutf" d="M6.4 5.2v5.6L11 8z" /></>,
  blocked: <>{ring}<path d="M5 8h6" stroke-width="2.2" /></>,
  succeeded: <path d="M3 8.6l3.2 3.2L13 4.8" stroke-width="2" />,
  dead: <><path class="f" d="M5.5 2h5L14 5.5v5L10.5 14h-5L2 10.5v-5z" /><path class="cut" d="M5.9 5.9l4.2 4.2M10.1 5.9l-4.2 4.2" stroke-width="1.7" /></>,
  cancelled: <><circle cx="8" cy="8" r="6" stroke-dasharray="2.4 2.31" /><path d="M5 11l6-6" /></>,
  crit: <><path class="f" d="M8 1.8L15 14H1z" /><path class="cut" d="M8 6v4M8 12v.01" stroke-width="1.7" /></>,
  warn: <><path d="M8 2L14.6 13.5H1.4z" /><path d="M8 6.5v3.2M8 11.6v.01" /></>,
  info: <>{ring}<path d="M8 7.4v3.4M8 5.1v.01" /></>,
  ok: <>{ring}<path d="M5.3 8.3l1.9 1.9 3.5-4" /></>,
  hold: <><rect x="3" y="7" width="10" height="7" rx="1.5" /><path d="M5.2 7V5a2.8 2.8 0 0 1 5.6 0v2" /></>,
  pause: <path d="M5.5 4v8M10.5 4v8" stroke-width="2" />,
  half: <>{ring}<path class="f" d="M8 2a6 6 0 0 1 0 12z" stroke="none" /></>,
  pulse: <path d="M1.5 8.5h3l2-5 3 9 2-4h3" />,
  user: <><circle cx="8" cy="5.5" r="2.7" /><path d="M2.8 14c.6-2.8 2.6-4.2 5.2-4.2s4.6 1.4 5.2 4.2" /></>,
  redo: <path d="M13 8a5 5 0 1 1-1.6-3.6M13 2v3h-3" />,
  eyeoff: <path d="M2 8s2.2-4 6-4 6 4 6 4-2.2 4-6 4-6-4-6-4zM3 13L13 3" />,
  home: <path d="M2.5 13.5V8a5.5 5.5 0 0 1 11 0v5.5zM6 13.5V9.5a2 2 0 0 1 4 0v4" />,
  jobs: <path d="M2.5 4h11M2.5 8h11M2.5 12h7" />,
  queue: <path d="M3 3v10M6.3 5v6M9.6 3v10M13 6v4" />,
  menu: <path d="M2.5 4.5h11M2.5 8h11M2.5 11.5h11" />,
} satisfies Record<string, ComponentChildren>;

export type IconName = keyof typeof SHAPES;

/** A shape. Beside its word it is hidden from screen readers; where it stands alone it has a name. */
export function Icon({ name, label }: { name: IconName; label?: string }): JSX.Element {
  const told = label === undefined ? { 'aria-hidden': 'true' as const } : { role: 'img' as const, 'aria-label': label };
  return <svg class="ic" viewBox="0 0 16 16" {...told}>{SHAPES[name]}</svg>;
}
