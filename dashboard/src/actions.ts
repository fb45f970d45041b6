// What can be done to jobs, by the state that they are in.
import type { State } from './filter.ts';

/** What is done to one job, to those that are picked, or to all that match. */
export type Action = 'cancel' | 'redrive' | 'run-now' | 'remove';

/** Actions that jobs of a state can be subject to. */
export const ACTIONS: Record<State, readonly Action[]> = {
  scheduled: ['run-now', 'cancel'],
  ready: ['cancel'],
  leased: ['cancel'],
  blocked: ['run-now', 'cancel'],
  succeeded: ['remove'],
  dead: ['redrive', 'remove'],
  cancelled: ['remove'],
};

/** Whether a job in this state can be edited: only one that waits. */
export const isEditable = (state: State): boolean => state === 'scheduled' || state === 'ready' || state === 'blocked';
