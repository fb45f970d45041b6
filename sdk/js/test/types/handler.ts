// Compiled, never run: what the types allow, and what they don't.

import { handler, permanent, retryAfter, type Context } from "sandhog-sdk";
import { FakeHost, assertEnqueued } from "sandhog-sdk/testing";

interface Order {
  id: number;
  cents: number[];
}

const parseOrder = (value: any): Order => ({ id: Number(value.id), cents: value.cents });

const total = handler("order.total", (ctx, order: Order) => {
  ctx.log.info("adding up", { order: order.id });
  if (order.cents.length === 0) throw retryAfter(1000, "not yet");
  return { total: order.cents.reduce((sum, cents) => sum + cents, 0) };
});

const parsed = handler("order.parsed", async (_ctx, order) => order.id, { input: parseOrder });

const raw = handler("order.raw", (ctx: Context, bytes) => bytes.subarray(ctx.attempt), { input: "bytes" });

async function use() {
  const host = new FakeHost({ attempt: 2, secrets: { TOKEN: "x" } });
  const run = await host.run(total, { id: 1, cents: [1] });
  const sum: number | undefined = run.output?.total;
  const id: number | undefined = (await host.run(parsed, {})).output;
  const bytes: Uint8Array | undefined = (await host.run(raw, new Uint8Array())).output;
  const attempts = await host.drain([total, raw], { forMs: 1000 });
  const state: string = assertEnqueued(run, "mail.send", (mail: { to: string }) => mail.to === "ann").state;
  // @ts-expect-error There is no such field.
  run.output?.totals;
  // @ts-expect-error A failure isn't made by `new`.
  new permanent("x");
  // @ts-expect-error A reason is one of two.
  new FakeHost({ stopRequested: "tired" });
  return { sum, id, bytes, attempts, state };
}

handler("order.wait", async (ctx) => {
  // @ts-expect-error A wait is a number.
  throw retryAfter("1s", ctx.tenant);
});

handler("order.pay", async (ctx) => {
  const token: string = ctx.secret("TOKEN").expose();
  // @ts-expect-error A secret is no text.
  const text: string = ctx.secret("TOKEN");
  return [token, text];
});

export { use };
