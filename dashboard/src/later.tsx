// Views that are loaded when they are first looked at.
import type { ComponentType, JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { Problem } from './api.ts';
import { Failed } from './parts/notice.tsx';
import { t } from './texts.ts';

/** A view that is loaded with its first use; `name` is what can't be shown if that fails. */
export function later<P extends object>(name: string, load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let loaded: ComponentType<P> | undefined;
  return function Later(props: P): JSX.Element {
    const [problem, setProblem] = useState<Problem>();
    const [turn, setTurn] = useState(0);
    useEffect(() => {
      if (loaded) return;
      load().then(
        (view) => {
          loaded = view;
          setProblem(undefined);
          setTurn(turn + 1);
        },
        (cause: unknown) => setProblem(new Problem('unreachable', 0, String(cause), [], null, null)),
      );
    }, [turn]);
    if (loaded) {
      const View = loaded;
      return <View {...props} />;
    }
    return problem ? <Failed what={name} problem={problem} retry={() => setTurn(turn + 1)} /> : <p class="mu">{t.flow.loading}</p>;
  };
}
