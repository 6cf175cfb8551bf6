// Requests to the coordinator, with the token when there is one.

const TOKEN_KEY = "nadgrid-token";

/** The coordinator refused, or did not answer (status 0). */
export class ApiError extends Error {
  constructor(status, reason, message) {
    super(message);
    this.status = status;
    this.reason = reason;
  }

  /** Whether another token might be accepted. */
  get wantsToken() {
    return this.status === 401 || this.status === 403;
  }
}

function stored() {
  try {
    return sessionStorage.getItem(TOKEN_KEY);
  } catch {
    return null;
  }
}

/** The token of this tab. It outlives a reload, and not the tab. */
export const session = {
  token: stored(),
  listeners: new Set(),

  set(token) {
    this.token = token || null;
    try {
      if (this.token) sessionStorage.setItem(TOKEN_KEY, this.token);
      else sessionStorage.removeItem(TOKEN_KEY);
    } catch {
      // Storage is switched off: the token lives as long as the page.
    }
    for (const listener of this.listeners) listener();
  },

  /** Takes the token out of the address, where it would end up in bookmarks and on screens. */
  takeFromAddress() {
    const match = /^#token=([^&]+)/.exec(location.hash);
    if (!match) return;
    history.replaceState(null, "", `${location.pathname}${location.search}#/sweeps`);
    this.set(decoded(match[1]));
  },
};

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The response to a request.
 *  Throws ApiError; an AbortError where `options.signal` says so. */
export async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (session.token) headers.Authorization = `Bearer ${session.token}`;
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, "AWAY", "The coordinator does not answer.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const words = `The coordinator answered ${response.status}.`;
  try {
    const { error, reason } = await response.json();
    return new ApiError(response.status, reason ?? "", error ?? words);
  } catch {
    return new ApiError(response.status, "", words);
  }
}

/** The JSON of a GET. */
export async function getJson(path, signal) {
  return (await request(path, { signal })).json();
}

/** The bytes of a GET, and the name that the coordinator gives them, if any. */
export async function getBlob(path, signal) {
  const response = await request(path, { signal });
  const name = /filename="([^"]+)"/.exec(response.headers.get("content-disposition") ?? "")?.[1] ?? null;
  return { blob: await response.blob(), name };
}

/** The JSON that a POST without a body answers. */
export async function post(path) {
  return (await request(path, { method: "POST" })).json();
}

/** `api/sweeps/ID/...`; slashes inside a part stay, all else is escaped. */
export function sweepPath(id, ...parts) {
  return ["api/sweeps", encodeURIComponent(id), ...parts.map(escapedPath)].join("/");
}

function escapedPath(part) {
  return String(part).split("/").map(encodeURIComponent).join("/");
}
