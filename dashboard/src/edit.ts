// What is typed into the fields of an edit, and what is to be changed by it.
import type { Edit } from './deeds.ts';
import { durationOf } from './filter.ts';
import { isJson } from './json.ts';

export interface Fields {
  /** Undefined where it can't be edited as text. */
  payload: string | undefined;
  isJson: boolean;
  priority: string;
  delay: string;
}

/** Returns what differs; nothing where nothing does, or a field is wrong. */
export function editOf(was: Fields, is: Fields): { edit?: Edit; wrong?: 'wrong' | 'wrongPriority' | 'wrongDelay' } {
  const edit: Edit = {};
  if (is.payload !== undefined && is.payload !== was.payload) {
    if (was.isJson && !isJson(is.payload)) return { wrong: 'wrong' };
    edit.payload = { is: was.isJson ? 'json' : 'text', text: is.payload };
  }
  const priority = is.priority.trim();
  if (priority !== was.priority) {
    if (!/^\d{1,3}$/.test(priority) || Number(priority) > 255) return { wrong: 'wrongPriority' };
    edit.priority = Number(priority);
  }
  const delay = is.delay.trim();
  if (delay !== '') {
    if (durationOf(delay) === undefined) return { wrong: 'wrongDelay' };
    edit.delay = delay;
  }
  return Object.keys(edit).length === 0 ? {} : { edit };
}
