// What a component says of itself: the kinds that it has handlers of, in a custom section.

const SECTION = "sandhog:kinds";
const CUSTOM = 0;

/** The component with a section that declares its kinds; as it is, if they aren't known. */
export function withKinds(component, kinds) {
  if (kinds === undefined) return component;
  const encoder = new TextEncoder();
  const name = encoder.encode(SECTION);
  const content = [...leb128(name.length), ...name, ...encoder.encode(kinds.map((kind) => `${kind}\n`).join(""))];
  const section = Uint8Array.from([CUSTOM, ...leb128(content.length), ...content]);
  const whole = new Uint8Array(component.length + section.length);
  whole.set(component);
  whole.set(section, component.length);
  return whole;
}

/** A number as WebAssembly has it: seven bits a byte, the lowest first. */
function leb128(number) {
  const bytes = [];
  for (; number >= 0x80; number >>>= 7) bytes.push((number & 0x7f) | 0x80);
  return [...bytes, number];
}
