// Opens the page: the key, the rooms, the theme.

import * as account from "./account.js";
import { getJson, heldKey, isKey, keepKey, useKey } from "./api.js";
import { soundAlone } from "./audio.js";
import * as clone from "./clone.js";
import * as convert from "./convert.js";
import * as history from "./history.js";
import * as live from "./live.js";
import { $, dismiss, notice, onSubmit, quiet } from "./page.js";
import { local } from "./store.js";
import { loadVoices, openLibrary } from "./voices.js";

const ROOMS = ["convert", "live", "voices", "history", "account"];
const ENTER = {
  convert: convert.enter,
  live: live.enter,
  voices: renewVoices,
  history: history.refresh,
  account: account.refresh,
};

function show(room, focus = false) {
  for (const name of ROOMS) {
    const tab = $(`tab-${name}`);
    const here = name === room;
    tab.setAttribute("aria-selected", String(here));
    tab.tabIndex = here ? 0 : -1;
    $(`room-${name}`).hidden = !here;
    if (here && focus) tab.focus();
  }
  document.title = `${$(`tab-${room}`).textContent} – Menura voice changer`;
  if (location.hash !== `#${room}`) window.history.pushState(null, "", `#${room}`);
  quiet();
  ENTER[room]?.();
}

function openTabs() {
  ROOMS.forEach((room, index) => {
    const tab = $(`tab-${room}`);
    tab.addEventListener("click", () => show(room));
    tab.addEventListener("keydown", ({ key, altKey, metaKey }) => {
      if (altKey || metaKey) return; // The browser's own way back and forward.
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: ROOMS.length - 1 }[key];
      if (to !== undefined) show(ROOMS.at(to % ROOMS.length), true);
    });
  });
}

function openTheme() {
  const root = document.documentElement;
  root.dataset.theme = local.get("menura-theme") ?? "";
  $("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    local.set("menura-theme", root.dataset.theme);
    document.dispatchEvent(new CustomEvent("menura:theme"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new CustomEvent("menura:theme")));
}

function useVoice(voice) {
  if (voice) document.dispatchEvent(new CustomEvent("menura:voice", { detail: voice }));
  show("convert", true);
}

// Opens the rooms if the key is one; `remember` is given for a key that is not kept yet.
async function enter(remember) {
  await getJson("/v1/user").catch(unlessForbidden);
  if (remember !== undefined) keepKey(remember);
  await loadVoices().catch(unlessForbidden);
  $("loading").hidden = true;
  if (!opened) openRooms();
  opened = true;
  const typed = $("gate").contains(document.activeElement);
  $("gate").hidden = true;
  $("rooms").hidden = $("tabs").hidden = false;
  const asked = location.hash.slice(1);
  const room = ROOMS.includes(asked) ? asked : "convert";
  window.history.replaceState(null, "", `#${room}`);
  show(room, typed);
}

// A server that is away while the page loads may only be starting.
async function arrive(seconds = 1) {
  try {
    await enter(given ? true : undefined);
  } catch (error) {
    if (error.status === 0 || error.status >= 500) {
      if (seconds === 1) notice(error);
      $("loading").textContent = "Trying again until the server answers …";
      setTimeout(arrive, 1000 * seconds, Math.min(2 * seconds, 10));
      return;
    }
    notice(error);
    $("loading").hidden = true;
    $("gate").hidden = false;
    return;
  }
  // One that a new data folder has made worthless is not missed.
  if (former && former !== heldKey() && (await isKey(former).catch(() => false))) {
    notice(`The key of the link, ${hint(heldKey())}, is used from now on. ${hint(former)}, which was used before, is no longer kept in this browser.`);
  }
}

// As much of a key as the list under Account shows.
const hint = (key) => `${key.slice(0, 8)}…`;

function openRooms() {
  convert.open();
  live.open();
  openLibrary(useVoice);
  clone.open(useVoice);
  history.open();
  account.open();
}

// The rooms stay as they are for the next key, but for what nobody could stop any more. A live stream is ended by the
// server.
function lock() {
  soundAlone(() => {});
  $("rooms").hidden = $("tabs").hidden = true;
  $("gate").hidden = false;
  $("key").focus();
}

function renewVoices() {
  loadVoices().catch(unlessForbidden).catch(notice);
}

// A key may be good and yet not be allowed everything.
function unlessForbidden(error) {
  if (error.code !== "missing_permissions") throw error;
}

// The link that the server prints carries the key behind the #, which no browser sends anywhere.
const given = new URLSearchParams(location.hash.slice(1)).get("key");
const former = heldKey();
if (given) {
  useKey(given);
  window.history.replaceState(null, "", location.pathname);
}

// The same link pasted where the page is open already, or a room's name, or the way back to a room.
window.addEventListener("hashchange", () => {
  const asked = location.hash.slice(1);
  if (asked.startsWith("key=")) location.reload();
  else if (ROOMS.includes(asked) && !$("rooms").hidden) show(asked, true);
});

openTabs();
openTheme();
$("notice").querySelector("button").addEventListener("click", dismiss);
// What the keyboard comes to is not hidden behind the notice, nor is the ring around it.
new ResizeObserver(() => {
  document.documentElement.style.scrollPaddingTop = `${$("notice").offsetHeight + 8}px`;
}).observe($("notice"));
// Without a change of the address, which names the room.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("main").focus();
});
document.addEventListener("menura:key-refused", lock);
document.addEventListener("menura:voice-gone", renewVoices);
let opened = false;
onSubmit($("key-form"), () => {
  useKey($("key").value);
  return enter($("key-remember").checked);
});
$("loading").hidden = !heldKey();
if (heldKey()) arrive();
else lock();
