// What the browser remembers of how the page looks. Never a token, never data.

/** Returns what is remembered; undefined where nothing is, or storage is refused. */
export function kept(key: string): string | undefined {
  try {
    return localStorage.getItem(`sandhog-${key}`) ?? undefined;
  } catch {
    return undefined;
  }
}

export function keep(key: string, value: string | undefined): void {
  try {
    if (value === undefined) localStorage.removeItem(`sandhog-${key}`);
    else localStorage.setItem(`sandhog-${key}`, value);
  } catch {
    // Refused: it lasts as long as the page.
  }
}

/** Sets an attribute of the page that the browser remembers. */
export function setLook(key: 'theme' | 'density', value: string | undefined): void {
  const { dataset } = document.documentElement;
  if (value === undefined) delete dataset[key];
  else dataset[key] = value;
  keep(key, value);
}
