// What was converted: replay, download, delete.

import { call, getBlob, getJson } from "./api.js";
import { $, make, notice, save, status } from "./page.js";

const ENDINGS = { "audio/mpeg": "mp3", "audio/wav": "wav", "audio/ogg": "ogg", "audio/basic": "ulaw", "audio/x-alaw-basic": "alaw", "audio/pcm": "pcm" };
const RAW = /^(pcm|ulaw|alaw)/;
let rows;
let lastId = null;
const chosen = new Set();

export function open() {
  rows = make("tbody");
  $("history-list").append(make("div", { class: "scroll", tabindex: 0, role: "region", "aria-labelledby": "history-title" },
    make("table", {}, make("thead", {}, make("tr", {}, ...["Choose", "When", "Voice", "Format", "Credits", "Listen", "Do"].map((name) => make("th", { scope: "col" }, name)))), rows)));
  $("history-refresh").addEventListener("click", refresh);
  $("history-more").addEventListener("click", () => load(lastId));
  $("history-zip").addEventListener("click", zip);
}

export async function refresh() {
  rows.replaceChildren();
  chosen.clear();
  $("history-zip").disabled = true;
  await load(null);
}

async function load(after) {
  try {
    const query = new URLSearchParams({ page_size: 25 });
    if (after) query.set("start_after_history_item_id", after);
    const page = await getJson(`/v1/history?${query}`);
    rows.append(...page.history.map(row));
    if (!rows.children.length) rows.append(make("tr", {}, make("td", { colspan: 7 }, "Nothing yet. What you convert appears here.")));
    lastId = page.last_history_item_id;
    $("history-more").hidden = !page.has_more;
  } catch (error) {
    notice(error);
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
    $("history-zip").disabled = !chosen.size;
  });
  const listen = make("button", { type: "button", "aria-label": `Play ${name}` }, "▶");
  listen.addEventListener("click", async () => {
    try {
      const player = make("audio", { controls: true, src: URL.createObjectURL(await sound(item)) });
      listen.replaceWith(player);
      await player.play();
    } catch (error) {
      notice(error);
    }
  });
  const act = (label, work) => {
    const button = make("button", { type: "button", "aria-label": `${label} ${name}` }, label);
    button.addEventListener("click", () => work().catch(notice));
    return button;
  };
  line.append(
    make("td", {}, pick), make("td", {}, when), make("td", {}, item.voice_name ?? item.voice_id ?? ""), make("td", {}, item.output_format ?? item.content_type),
    make("td", {}, String(item.character_count_change_to - item.character_count_change_from)), make("td", {}, listen),
    make("td", { class: "row" },
      act("Download", async () => save(await getBlob(`/v1/history/${item.history_item_id}/audio`), `${item.history_item_id}.${ENDINGS[item.content_type] ?? "bin"}`)),
      act("Delete", async () => {
        await call(`/v1/history/${item.history_item_id}`, { method: "DELETE" });
        line.remove();
        status("Deleted");
      })),
  );
  return line;
}

async function zip() {
  const ids = [...chosen];
  try {
    const blob = await getBlob("/v1/history/download", { method: "POST", json: { history_item_ids: ids } });
    save(blob, ids.length > 1 ? "menura-history.zip" : `${ids[0]}.${ENDINGS[blob.type] ?? "bin"}`);
  } catch (error) {
    notice(error);
  }
}
