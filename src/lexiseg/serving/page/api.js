// Talks to /v1: one function for each thing the page asks, with the patience that a busy server needs.

export class Problem extends Error {
  constructor(kind, message, seconds = 0) {
    super(message);
    this.kind = kind;
    this.seconds = seconds;
  }
}

const BUSY = ["queue-full", "draining"];
const TRIES = 8;

let token = sessionStorage.getItem("lexiseg-token") || "";

export function useToken(given) {
  token = given.trim();
  sessionStorage.setItem("lexiseg-token", token);
}

/** Sends a request, waits for a busy server, and returns the answer; raises Problem for any other failure. */
async function ask(path, { signal, waiting = () => {}, ...options } = {}) {
  for (let attempt = 1; ; attempt++) {
    let answer;
    try {
      const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
      answer = await fetch(path, { ...options, headers, signal, credentials: "omit", cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("unreachable", "The server does not answer. Is it running?");
    }
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    if (!BUSY.includes(problem.kind) || attempt >= TRIES) throw problem;
    for (let left = Math.max(1, problem.seconds); left > 0; left--) {
      waiting(left);
      await pause(1000, signal);
    }
  }
}

async function problemOf(answer) {
  const seconds = Number(answer.headers.get("retry-after")) || 0;
  try {
    const content = await answer.json();
    return new Problem(content.type.split(":").pop(), content.detail, seconds);
  } catch {
    return new Problem("unreadable", `The server answered ${answer.status}, and nothing that can be read.`, seconds);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("aborted", "AbortError"));
    }, { once: true });
  });
}

export async function models() {
  return (await ask("/v1/models")).json();
}

export async function embed(photo, model, options) {
  const form = new FormData();
  form.append("image", photo.blob, photo.name);
  form.append("model", model);
  return (await ask("/v1/embed", { method: "POST", body: form, ...options })).json();
}

function json(body, options) {
  return { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, ...options };
}

/** The label map of an embedded photograph: labels and scores as arrays beside the facts. */
export async function classify(body, options) {
  const answer = await (await ask("/v1/classify", json({ ...body, format: "map" }, options))).json();
  const result = answer.results[0];
  const bytes = await unpacked(result.labels);
  const labels = result.dtype === "uint16" ? words16(bytes) : bytes;
  return { ...result, labels, scores: await unpacked(result.scores), milliseconds: answer.milliseconds, model: answer.model };
}

export async function scoreMap(body, options) {
  const answer = await (await ask("/v1/scores", json(body, options))).json();
  return { ...answer, scores: await unpacked(answer.scores) };
}

/** Lets the server forget a photograph; whether it does is not waited for. */
export function forget(id) {
  ask(`/v1/embed/${id}`, { method: "DELETE" }).catch(() => {});
}

export async function file(body, options) {
  return (await ask("/v1/classify", json(body, options))).blob();
}

export async function overlay(photo, fields, options) {
  const form = new FormData();
  form.append("image", photo.blob, photo.name);
  for (const [name, value] of Object.entries({ ...fields, format: "overlay" })) {
    if (value !== undefined && value !== null) form.append(name, typeof value === "string" ? value : JSON.stringify(value));
  }
  return (await ask("/v1/segment", { method: "POST", body: form, ...options })).blob();
}

async function unpacked(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function words16(bytes) {
  const view = new DataView(bytes.buffer);
  return Uint16Array.from({ length: bytes.length / 2 }, (_, place) => view.getUint16(2 * place, true));
}
