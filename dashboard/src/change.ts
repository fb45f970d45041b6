// A change that somebody has asked for: whether it is under way, and why the last one wasn't made.
import { useState } from 'preact/hooks';
import { Problem } from './api.ts';

export interface Change {
  busy: boolean;
  /** Why the last change wasn't made. */
  problem: Problem | undefined;
  /** Makes a change. Resolves to whether it was made; what isn't a problem of the interface is a fault of the page, and thrown. */
  change: (work: () => Promise<void>) => Promise<boolean>;
}

export function useChange(): Change {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  const change = async (work: () => Promise<void>): Promise<boolean> => {
    setBusy(true);
    setProblem(undefined);
    try {
      await work();
      return true;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      setProblem(error);
      return false;
    } finally {
      setBusy(false);
    }
  };
  return { busy, problem, change };
}
