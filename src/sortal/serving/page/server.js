// Questions to the server, and its refusals as sentences that say what to do.

const ROOT = new URL("../", import.meta.url); // the page may lie below a path of a proxy
const SLOT = "sortal.key";
let key = stored();

function stored() {
  try {
    return sessionStorage.getItem(SLOT);
  } catch {
    return null; // storage is switched off: the key lives as long as the page
  }
}

export const hasKey = () => key !== null;

export function useKey(value) {
  key = value;
  try {
    if (value === null) sessionStorage.removeItem(SLOT);
    else sessionStorage.setItem(SLOT, value);
  } catch {
    // as above
  }
}

// A request without an answer: `status` 0 is a network that is gone, `wait` the seconds after which to ask again.
export class Refused extends Error {
  constructor(status, sentence, wait, id) {
    super(sentence);
    Object.assign(this, { status, wait, id });
  }

  get passing() {
    return this.status === 429 || this.status === 503;
  }

  // For the person in front of the page.
  get advice() {
    const said = this.message.charAt(0).toUpperCase() + this.message.slice(1);
    const again = `Try again in ${this.wait} second${this.wait === 1 ? "" : "s"}.`;
    if (this.status === 0) return "The server cannot be reached. Check that sortal serve is running, then try again.";
    if (this.status === 401) return "The server does not accept this key. Check it and type it again.";
    if (this.status === 413) return `This is more than the server takes at once: ${this.message}.`;
    if (this.status === 429) return `The server has more to do than it can take. Nothing is lost: your text is still here. ${again}`;
    if (this.status === 503) return `The server cannot answer now: ${this.message}. ${again}`;
    if (this.status === 500) return `The server failed on this request. Try another text, or ask whoever runs the server: its log has the reason under ${this.id}.`;
    return `The server did not accept this. ${said}.`;
  }
}

// The response to a GET, or to a POST of `body` as JSON.
export async function ask(path, body, signal) {
  const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  const post = { method: "POST", body: JSON.stringify(body), headers: { ...headers, "Content-Type": "application/json" } };
  let response;
  try {
    response = await fetch(new URL(path, ROOT), { ...(body === undefined ? { headers } : post), signal, cache: "no-store" });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refused(0, "the network is gone", 0, "");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const wait = Number(response.headers.get("Retry-After")) || 1;
  throw new Refused(response.status, problem.error ?? `status ${response.status}`, wait, response.headers.get("X-Request-Id") ?? "");
}

export const askJson = async (path, body, signal) => (await ask(path, body, signal)).json();

// Texts as bytes of a request's body.
export const bytes = (text) => new TextEncoder().encode(JSON.stringify(text)).length + 1;

// Seconds pass; ends at once, and throws, when `signal` is aborted.
export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    });
  });
}
