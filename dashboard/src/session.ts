// Who looks, and what they may do. The server decides; the page only spares them the walk.
import { api, ask, onSignedOut, Problem, ROLES, type Me, type Role } from './api.ts';
import { setClock, Store } from './store.ts';
import { timeOf } from './units.ts';

/** `open`: where nobody has to sign in, so that there is nothing to sign out of. */
export type Session = { is: 'asking' } | { is: 'out' } | { is: 'in'; me: Me; open: boolean } | { is: 'failed'; problem: Problem };

export const session = new Store<Session>({ is: 'asking' });

/** Names of all tenants that this session is for. */
export const tenants = new Store<readonly string[]>([]);

/** Somebody who may do everything: a daemon without `/v1/me` has no sessions either. */
const ANYBODY: Me = { name: null, role: 'admin', tenants: null, server: { name: null, version: '' }, time: '' };

/** Asks who looks. */
export async function begin(): Promise<void> {
  onSignedOut.heard = () => session.set({ is: 'out' });
  try {
    const me = await api.me().catch((problem: unknown) => {
      if (problem instanceof Problem && problem.status === 404) return ANYBODY;
      throw problem;
    });
    const at = timeOf(me.time);
    if (at !== undefined) setClock(at);
    tenants.set(me.tenants ?? (await ask<{ tenants: { tenant: string }[] }>('GET', '/v1/counts')).tenants.map((of) => of.tenant));
    session.set({ is: 'in', me, open: me.name === null || me.name === 'anonymous' });
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    session.set(problem.status === 401 ? { is: 'out' } : { is: 'failed', problem });
  }
}

/** Exchanges a token for a session. */
export async function signIn(token: string): Promise<void> {
  await api.signIn(token);
  await begin();
}

export async function signOut(): Promise<void> {
  await api.signOut();
  session.set({ is: 'out' });
}

/** Whether who looks has this role, or one above it. */
export function may(role: Role): boolean {
  const of = session.value;
  return of.is === 'in' && ROLES.indexOf(of.me.role) >= ROLES.indexOf(role);
}
