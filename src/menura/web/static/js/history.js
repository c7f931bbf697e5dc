// What was converted: replay, download, delete.

import { call, getBlob, getJson, unlessGone } from "./api.js";
import { soundAlone } from "./audio.js";
import { $, make, missing, onClick, redraw, roving, save, status } from "./page.js";

const ENDINGS = { "audio/mpeg": "mp3", "audio/wav": "wav", "audio/ogg": "ogg", "audio/basic": "ulaw", "audio/x-alaw-basic": "alaw", "audio/pcm": "pcm" };
const RAW = /^(pcm|ulaw|alaw)/;
const rows = make("ul", { class: "list", "aria-label": "Items, the arrow keys go from one to another" });
const stopAt = roving(rows);
let lastId = null;
let asked = 0;
const chosen = new Set();

export function open() {
  onClick($("history-refresh"), refresh);
  onClick($("history-more"), () => load(lastId));
  onClick($("history-zip"), zip);
}

export const refresh = () => load(null);

function clear() {
  rows.querySelectorAll("audio").forEach(release);
  chosen.clear();
  allowZip();
}

function release(player) {
  player.pause();
  URL.revokeObjectURL(player.src);
}

// By the next one that is asked for, before this one could begin.
function unlessPaused(error) {
  if (error.name !== "AbortError") throw error;
}

function allowZip() {
  $("history-zip").disabled = !chosen.size;
}

// What is shown stays until there is something to show in its place.
async function load(after) {
  const mine = ++asked;
  const place = $("history-list");
  if (!rows.isConnected) place.textContent = "Loading …";
  try {
    const query = new URLSearchParams({ page_size: 100 });
    if (after) query.set("start_after_history_item_id", after);
    const page = await getJson(`/v1/history?${query}`);
    if (mine !== asked) return; // Another request was made since, whose rows are the ones to show.
    const added = page.history.map(row);
    if (after) {
      rows.append(...added);
      status(`Older items shown: ${added.length}`);
    } else {
      clear();
      redraw(rows, added);
    }
    stopAt(added[0] ?? rows.firstElementChild);
    if (!rows.children.length) place.replaceChildren("Nothing yet. What you convert appears here.");
    else if (!rows.isConnected) place.replaceChildren(rows);
    lastId = page.last_history_item_id;
    if (!page.has_more && document.activeElement === $("history-more")) added[0]?.querySelector("button").focus();
    $("history-more").hidden = !page.has_more;
  } catch (error) {
    missing(error, place);
  }
}

// A browser cannot play raw samples, so those are fetched as WAV.
async function sound(item) {
  if (!RAW.test(item.output_format ?? "")) return getBlob(`/v1/history/${item.history_item_id}/audio`);
  return getBlob("/v1/history/download", { method: "POST", json: { history_item_ids: [item.history_item_id], output_format: "wav" } });
}

function row(item) {
  const when = new Date(item.date_unix * 1000).toLocaleString();
  const name = `${item.voice_name ?? item.voice_id}, ${when}`;
  const facts = [when, item.output_format ?? item.content_type, `${(item.character_count_change_to - item.character_count_change_from).toLocaleString()} credits`];
  const line = make("li", { "data-id": item.history_item_id });
  const pick = make("input", { type: "checkbox", "aria-label": `Choose ${name}` });
  pick.addEventListener("change", () => {
    if (pick.checked) chosen.add(item.history_item_id);
    else chosen.delete(item.history_item_id);
    allowZip();
  });
  const listen = make("button", { type: "button", "aria-label": `Play ${name}` }, "▶");
  onClick(listen, async () => {
    const blob = await sound(item);
    if (!line.isConnected) return; // The list was drawn anew meanwhile: nobody could stop what sounds.
    const player = make("audio", { controls: true, src: URL.createObjectURL(blob) });
    const hush = () => player.pause();
    player.addEventListener("play", () => soundAlone(hush));
    listen.remove();
    line.append(player);
    player.focus();
    await player.play().catch(unlessPaused);
  });
  const act = (label, work) => {
    const button = make("button", { type: "button", "aria-label": `${label} ${name}` }, label);
    onClick(button, work);
    return button;
  };
  const remove = act("Delete", async () => {
    if (!confirm(`Delete ${name}? Its audio is deleted with it.`)) return;
    await call(`/v1/history/${item.history_item_id}`, { method: "DELETE" }).catch(unlessGone);
    line.querySelectorAll("audio").forEach(release);
    const next = (line.nextElementSibling ?? line.previousElementSibling)?.querySelector(".delete") ?? $("history-refresh");
    line.remove();
    chosen.delete(item.history_item_id);
    allowZip();
    next.focus();
    status("Deleted");
    if (!rows.children.length) await refresh();
  });
  remove.classList.add("delete");
  line.append(
    pick, listen, make("div", { class: "what" }, make("strong", { dir: "auto" }, item.voice_name ?? item.voice_id ?? ""), make("span", { class: "faint" }, facts.join(", "))),
    act("Download", async () => save(await getBlob(`/v1/history/${item.history_item_id}/audio`), `${item.history_item_id}.${ENDINGS[item.content_type] ?? "bin"}`)),
    remove,
  );
  return line;
}

async function zip() {
  const ids = [...chosen];
  const blob = await getBlob("/v1/history/download", { method: "POST", json: { history_item_ids: ids } });
  save(blob, ids.length > 1 ? "menura-history.zip" : `${ids[0]}.${ENDINGS[blob.type] ?? "bin"}`);
}
