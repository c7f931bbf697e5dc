// Opens the page: the key, the rooms, the theme.

import * as account from "./account.js";
import { call, hasKey, useKey } from "./api.js";
import * as clone from "./clone.js";
import * as convert from "./convert.js";
import * as history from "./history.js";
import * as live from "./live.js";
import { $, notice, quiet } from "./page.js";
import { allVoices, loadVoices, openLibrary } from "./voices.js";

const ROOMS = ["convert", "live", "voices", "history", "account"];
const ENTER = { history: history.refresh, account: account.refresh };

function show(room, focus = false) {
  for (const name of ROOMS) {
    const tab = $(`tab-${name}`);
    const here = name === room;
    tab.setAttribute("aria-selected", String(here));
    tab.tabIndex = here ? 0 : -1;
    $(`room-${name}`).hidden = !here;
    if (here && focus) tab.focus();
  }
  window.history.replaceState(null, "", `#${room}`);
  ENTER[room]?.();
}

function openTabs() {
  ROOMS.forEach((room, index) => {
    const tab = $(`tab-${room}`);
    tab.addEventListener("click", () => show(room));
    tab.addEventListener("keydown", ({ key }) => {
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: ROOMS.length - 1 }[key];
      if (to !== undefined) show(ROOMS.at(to % ROOMS.length), true);
    });
  });
}

function openTheme() {
  const root = document.documentElement;
  root.dataset.theme = localStorage.getItem("menura-theme") ?? "";
  $("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("menura-theme", root.dataset.theme);
  });
}

async function enter() {
  try {
    await call("/v1/user");
  } catch (error) {
    if (error.status !== 0) $("gate").hidden = false;
    notice(error);
    return;
  }
  quiet();
  $("gate").hidden = true;
  await loadVoices();
  convert.open();
  live.open();
  openLibrary();
  clone.open((voiceId) => {
    const voice = allVoices().find(({ voice_id }) => voice_id === voiceId);
    if (voice) document.dispatchEvent(new CustomEvent("menura:voice", { detail: voice }));
    show("convert");
  });
  history.open();
  account.open();
  $("rooms").hidden = false;
  const asked = location.hash.slice(1);
  show(ROOMS.includes(asked) ? asked : "convert");
}

// The link that the server prints carries the key behind the #, which no browser sends anywhere.
const given = new URLSearchParams(location.hash.slice(1)).get("key");
if (given) {
  useKey(given, true);
  window.history.replaceState(null, "", location.pathname);
}

openTabs();
openTheme();
$("notice").querySelector("button").addEventListener("click", quiet);
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key").value, $("key-remember").checked);
  enter();
});
if (hasKey()) enter();
else $("gate").hidden = false;
