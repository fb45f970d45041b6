// Dead jobs that died of the same.
import type { Failure } from './api.ts';

/** Keys that `GET /v1/failures` takes. */
export const FAILURE_KEYS = ['tenant', 'kind', 'reason', 'since', 'until'] as const;

/**
 * Returns the longest piece that the messages of a group have in common, for a filter by a part of the message. It may let more
 * through than the group: numbers, ids and what is in quotes differ within it, and the filter leaves them open.
 */
export function commonOf({ pattern, message }: Pick<Failure, 'pattern' | 'message'>): string {
  const pieces = pattern.split(/["'`“]?[#…]["'`”]?/u).map((piece) => piece.trim());
  // A pattern has one space where the message may have more, or a line break.
  const found = [...pieces, ...pieces.flatMap((piece) => piece.split(' '))].filter((piece) => message.includes(piece));
  return found.reduce((longest, piece) => (piece.length > longest.length ? piece : longest), '');
}
