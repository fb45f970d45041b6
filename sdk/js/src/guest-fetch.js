// `fetch` as the web has it, where the engine's own falls short.
//
// The engine leaves the content coding of a response to its reader. Here, as in browsers and Node, its body is what was
// encoded, and its header fields are what was sent.

/** The engine's decoder of each content coding. */
const DECODERS = new Map([
  ["gzip", "gzip"],
  ["x-gzip", "gzip"],
  ["deflate", "deflate"],
]);

/** The requests without a response yet. */
export let requestsUnderWay = 0;

const fetched = globalThis.fetch;

globalThis.fetch = async function fetch(input, init) {
  requestsUnderWay += 1;
  try {
    const response = await fetched(input, init);
    return isHead(input, init) ? response : decoded(response);
  } finally {
    requestsUnderWay -= 1;
  }
};

// The fields of its response are about a body that doesn't come.
const isHead = (input, init) => String(init?.method ?? input?.method).toUpperCase() === "HEAD";

function decoded(response) {
  const { headers, body, status, statusText, url } = response;
  const decoder = DECODERS.get(headers.get("content-encoding")?.trim().toLowerCase());
  if (decoder === undefined || !body || headers.get("content-length") === "0") return response;
  const readable = new Response(body.pipeThrough(new DecompressionStream(decoder)), { status, statusText, headers });
  return Object.defineProperty(readable, "url", { value: url });
}
