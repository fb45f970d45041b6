// In a component that was built without `fetch`.

globalThis.fetch = () => {
  throw new Error('this component was built without fetch: add "sandhog": { "fetch": true } to package.json');
};
