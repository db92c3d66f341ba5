// Requests to the server. Every one has a deadline, and a failure is an ApiError whose message can be shown as it is.

const TIMEOUT = 6000;
const LONGEST_REASON = 300;

export class ApiError extends Error {
  /** `status` is 0 when there was no answer; `retryAfter` are the seconds that the answer asks to wait, if it does. */
  constructor(status, message, retryAfter = null) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Tells of each 401 but for the login's own (detail: when it was `asked`, by `performance.now()`). */
export const unauthorized = new EventTarget();

export async function getJson(path) {
  const response = await ask(path, {});
  try {
    return await response.json();
  } catch {
    throw new ApiError(response.status, "the server's answer was cut short");
  }
}

/** A file: its content, and the name that the server gives it. `timeout` is in milliseconds. */
export async function getFile(path, timeout = TIMEOUT) {
  const response = await ask(path, { timeout });
  const named = /filename="([^"/\\]+)"/.exec(response.headers.get("Content-Disposition") ?? "");
  try {
    return { name: named?.[1] ?? "file", blob: await response.blob() };
  } catch {
    throw new ApiError(0, "the server's answer was cut short");
  }
}

/** `body`, if any, is sent as JSON; `timeout` is in milliseconds. Returns the answer's JSON, null if there is none. */
export async function postJson(path, body, timeout = TIMEOUT) {
  const headers = { "X-Ops-Request": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await ask(path, {
    method: "POST",
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    timeout,
  });
  return response.status === 204 ? null : response.json().catch(() => null);
}

async function ask(path, { timeout = TIMEOUT, ...options }) {
  const asked = performance.now();
  let response;
  try {
    response = await fetch(path, {
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(timeout),
      ...options,
    });
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new ApiError(0, late ? `no answer within ${timeout / 1000} s` : "the server can't be reached");
  }
  if (response.ok) return response;
  if (response.status === 401 && path !== "/api/login") {
    unauthorized.dispatchEvent(new CustomEvent("unauthorized", { detail: { asked } }));
  }
  const wait = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  throw new ApiError(response.status, await reason(response), Number.isFinite(wait) ? wait : null);
}

async function reason(response) {
  try {
    const { error } = await response.json();
    if (typeof error === "string" && error) return error.slice(0, LONGEST_REASON);
  } catch {
    // Not every proxy answers in JSON: the number has to do.
  }
  return `the server answered ${response.status}`;
}
