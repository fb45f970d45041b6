// The path below which the dashboard and the interface lie, as the server has written it into the page.

/** Returns the base path: empty, or such as `/sandhog`. */
export function base(): string {
  return document.documentElement.dataset.base ?? '';
}
