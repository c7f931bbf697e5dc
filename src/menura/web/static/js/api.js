// Talks to this server, and turns every failure into a sentence that says what to do.

import { channel, local, session } from "./store.js";

const STORE = "menura-key";
let key = session.get(STORE) ?? local.get(STORE) ?? "";

// The page may lie below a path of a proxy's; what it asks for lies beside it.
export const here = (path) => new URL(path.replace(/^\//, ""), document.baseURI);

class Refused extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const heldKey = () => key;

export function useKey(value) {
  key = value.trim();
}

export function keepKey(remember) {
  session.set(STORE, key);
  if (remember) local.set(STORE, key);
  else local.remove(STORE);
}

export function forgetKey() {
  key = "";
  session.remove(STORE);
  local.remove(STORE);
  otherTabs?.postMessage("forgotten");
}

// Each tab has a copy of its own.
const otherTabs = channel(STORE);
if (otherTabs) {
  otherTabs.onmessage = () => {
    session.remove(STORE);
    location.reload();
  };
}

const ADVICE = {
  missing_api_key: "Enter your API key first.",
  invalid_api_key: "Copy the key from the file api_key in the server's data folder, or make a new one with “menura keys create”.",
  missing_permissions: "Use a key that has this permission, or make one under Account.",
  insufficient_credits: "Wait for the next month, or give the account a higher tier in the server's settings.",
  feature_not_available: "Convert again: this time it is kept in the history. Or give the account a higher tier in the server's settings.",
  output_format_not_allowed: "Choose another format, or give the account a higher tier in the server's settings.",
  voice_not_found: "Choose another voice; this one may have been deleted.",
  invalid_audio: "Choose a recording that plays in another program.",
  invalid_audio_format: "Save the recording as WAV, MP3, M4A, Ogg or FLAC, and try again.",
  audio_too_long: "Split the recording, or lift the limit with MENURA_MAX_SECONDS.",
  audio_too_short: "Choose a longer recording.",
  request_too_large: "Choose a smaller file, or lift the limit with MENURA_MAX_UPLOAD_BYTES.",
  concurrent_limit_exceeded: "Wait until another conversion has ended, then try again.",
  system_busy: "The server is working at its limit; try again in a few seconds.",
};

const KEY_REFUSED = new Set(["missing_api_key", "invalid_api_key"]);

export const unreachable = () => new Refused("The server does not answer. Check that “menura serve” is running, then try again.", 0);

// A connection that fails, at the first byte or at a later one, is a TypeError in every browser.
export async function reading(promise) {
  try {
    return await promise;
  } catch (error) {
    throw error instanceof TypeError ? unreachable() : error;
  }
}

// Another client may have deleted what the lists still show.
export function heed(refusal) {
  if (refusal?.code === "voice_not_found") document.dispatchEvent(new CustomEvent("menura:voice-gone"));
}

// What the server says of a refusal, with what helps.
export const advised = ({ message, code }) => `${message} ${ADVICE[code] ?? ""}`.trim();

async function refusal(response) {
  let detail;
  try {
    detail = (await response.json()).detail;
  } catch {
    detail = null;
  }
  if (Array.isArray(detail)) {
    const first = detail[0] ?? {};
    return new Refused(`The server did not accept ${(first.loc ?? []).at(-1) ?? "the request"}: ${first.msg ?? ""}.`, response.status);
  }
  const code = detail?.code;
  const said = detail?.message ?? (typeof detail === "string" ? detail : response.statusText);
  const advice = ADVICE[code] ?? (response.status >= 500 ? "Look at the server's log, then try again." : "");
  return new Refused(`${said} ${advice}`.trim(), response.status, code);
}

// A file that cannot be read fails like a server that is away.
async function readable(file) {
  try {
    const reader = file.stream().getReader();
    await reader.read();
    await reader.cancel();
  } catch {
    throw new Error(`${file.name} cannot be read: it is a folder, or was changed, moved or deleted since it was chosen. Choose the file again.`);
  }
}

export async function call(path, { method = "GET", body, json, signal, headers = {} } = {}) {
  if (/[^\x20-\x7e]/.test(key)) throw new Refused(`An API key has only plain letters, digits and “_”. ${ADVICE.invalid_api_key}`, 401);
  const request = { method, signal, headers: { "xi-api-key": key, ...headers } };
  if (json !== undefined) {
    request.body = JSON.stringify(json);
    request.headers["content-type"] = "application/json";
  } else if (body !== undefined) {
    request.body = body;
  }
  if (body instanceof FormData) await Promise.all([...body.values()].filter((part) => part instanceof File).map(readable));
  const response = await reading(fetch(here(path), request));
  if (response.ok) return response;
  const error = await refusal(response);
  if (KEY_REFUSED.has(error.code)) document.dispatchEvent(new CustomEvent("menura:key-refused"));
  heed(error);
  throw error;
}

// What another tab has deleted is as gone as it should be.
export function unlessGone(error) {
  if (error.status !== 404) throw error;
}

// Whether the server takes a key that is not the page's own, whatever it may do with it.
export async function isKey(other) {
  const response = await fetch(here("/v1/user"), { headers: { "xi-api-key": other } });
  return response.ok || !KEY_REFUSED.has((await refusal(response)).code);
}

export const getJson = async (path, options) => reading((await call(path, options)).json());
export const getBlob = async (path, options) => reading((await call(path, options)).blob());

export async function liveAddress(voiceId, signal) {
  const { token } = await getJson("/v1/single-use-token/speech_to_speech_live", { method: "POST", signal });
  const url = here(`/v1/speech-to-speech/${voiceId}/live`);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.searchParams.set("single_use_token", token);
  return url;
}
