import { useEffect } from 'preact/hooks';
import { t } from './texts.ts';

/** Sets the title of the page. */
export function useTitle(view: string): void {
  useEffect(() => {
    document.title = t.title(view);
  }, [view]);
}
