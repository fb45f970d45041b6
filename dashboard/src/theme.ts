// Sets theme and row height before anything is drawn, so that nothing flashes.
for (const key of ['theme', 'density']) {
  try {
    const value = localStorage.getItem(`sandhog-${key}`);
    if (value) document.documentElement.dataset[key] = value;
  } catch {
    // Without storage it follows the system.
  }
}
