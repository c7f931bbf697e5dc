// What was converted: replay, download, delete.

import { call, getBlob, getJson, unlessGone } from "./api.js";
import { $, make, missing, onClick, save, status } from "./page.js";

const ENDINGS = { "audio/mpeg": "mp3", "audio/wav": "wav", "audio/ogg": "ogg", "audio/basic": "ulaw", "audio/x-alaw-basic": "alaw", "audio/pcm": "pcm" };
const RAW = /^(pcm|ulaw|alaw)/;
let rows;
let lastId = null;
let asked = 0;
const chosen = new Set();

export function open() {
  rows = make("tbody");
  $("history-list").append(make("div", { class: "scroll", tabindex: 0, role: "region", "aria-labelledby": "history-title" },
    make("table", {}, make("thead", {}, make("tr", {}, ...["Choose", "When", "Voice", "Format", "Credits", "Listen", "Actions"].map((name) => make("th", { scope: "col", class: ["Format", "Credits"].includes(name) && "spare" }, name)))), rows)));
  onClick($("history-refresh"), refresh);
  onClick($("history-more"), () => load(lastId));
  onClick($("history-zip"), zip);
}

export async function refresh() {
  rows.querySelectorAll("audio").forEach(release);
  rows.replaceChildren();
  chosen.clear();
  allowZip();
  await load(null);
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

async function load(after) {
  const mine = ++asked;
  try {
    const query = new URLSearchParams({ page_size: 25 });
    if (after) query.set("start_after_history_item_id", after);
    const page = await getJson(`/v1/history?${query}`);
    if (mine !== asked) return; // Another request was made since, whose rows are the ones to show.
    const added = page.history.map(row);
    rows.append(...added);
    if (!rows.children.length) rows.append(make("tr", {}, make("td", { colspan: 7 }, "Nothing yet. What you convert appears here.")));
    lastId = page.last_history_item_id;
    if (!page.has_more && document.activeElement === $("history-more")) added[0]?.querySelector("button").focus();
    $("history-more").hidden = !page.has_more;
  } catch (error) {
    missing(error, $("history-list"));
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
  const line = make("tr", { "data-id": item.history_item_id });
  const pick = make("input", { type: "checkbox", "aria-label": `Choose ${name}` });
  pick.addEventListener("change", () => {
    if (pick.checked) chosen.add(item.history_item_id);
    else chosen.delete(item.history_item_id);
    allowZip();
  });
  const listen = make("button", { type: "button", "aria-label": `Play ${name}` }, "▶");
  onClick(listen, async () => {
    const player = make("audio", { controls: true, src: URL.createObjectURL(await sound(item)) });
    player.addEventListener("play", () => {
      for (const other of rows.querySelectorAll("audio")) if (other !== player) other.pause();
    });
    listen.replaceWith(player);
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
    make("td", {}, pick), make("td", {}, when), make("td", {}, item.voice_name ?? item.voice_id ?? ""), make("td", { class: "spare" }, item.output_format ?? item.content_type),
    make("td", { class: "spare" }, String(item.character_count_change_to - item.character_count_change_from)), make("td", {}, listen),
    make("td", { class: "row" },
      act("Download", async () => save(await getBlob(`/v1/history/${item.history_item_id}/audio`), `${item.history_item_id}.${ENDINGS[item.content_type] ?? "bin"}`)),
      remove),
  );
  return line;
}

async function zip() {
  const ids = [...chosen];
  const blob = await getBlob("/v1/history/download", { method: "POST", json: { history_item_ids: ids } });
  save(blob, ids.length > 1 ? "menura-history.zip" : `${ids[0]}.${ENDINGS[blob.type] ?? "bin"}`);
}
