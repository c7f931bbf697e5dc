// Usage, limits, and the keys of this account.

import { call, forgetKey, getJson, unlessGone } from "./api.js";
import { $, make, missing, onClick, onSubmit, redraw, status } from "./page.js";
import { colour } from "./plots.js";

const DAY = 86400000;
const UNLIMITED = 2147483647;
const number = (value) => value.toLocaleString();
const used = (value, limit) => (limit >= UNLIMITED ? `${number(value)} (no limit)` : `${number(value)} of ${number(limit)}`);
const plot = make("canvas", { width: 640, height: 200, role: "img", "aria-label": "Credits used per day over the last 30 days" });
const rows = make("ul", { class: "list" });
let perDay = []; // credits used

export function open() {
  document.addEventListener("menura:theme", bars);
  // A browser has a clipboard only for pages on localhost or https.
  $("key-copy").hidden = !navigator.clipboard;
  onClick($("key-copy"), async () => {
    await navigator.clipboard.writeText($("key-made").querySelector("code").textContent);
    status("The key is copied");
    $("key-copy").textContent = "Copied";
  });
  $("forget").addEventListener("click", () => {
    forgetKey();
    location.reload();
  });
  onSubmit($("key-create"), async () => {
    const name = $("key-name").value.trim();
    if (!name) throw new Error("Give the key a name.");
    const account = await serviceAccount();
    const made = await (await call(`/v1/service-accounts/${account}/api-keys`, { method: "POST", json: { name, permissions: "all" } })).json();
    $("key-made").hidden = false;
    $("key-copy").textContent = "Copy";
    $("key-made").dataset.id = made.key_id;
    $("key-made").querySelector("code").textContent = made["xi-api-key"];
    $("key-create").reset();
    await keys();
    $("key-copy").focus();
    status("The key is made. Copy it now, it is shown only once.");
  });
}

// A key that was shown once is not shown to whoever comes next.
function hideSecret() {
  $("key-made").hidden = true;
  $("key-made").querySelector("code").textContent = "";
}

export async function refresh() {
  hideSecret();
  await Promise.all([
    usage().catch((error) => missing(error, $("usage"))),
    keys().catch((error) => missing(error, $("key-list"))),
  ]);
}

async function usage() {
  const plan = await getJson("/v1/user/subscription");
  const facts = [
    ["Tier", plan.tier],
    ["Credits used this month", used(plan.character_count, plan.character_limit)],
    ["As audio", `${(plan.character_count / 1000).toFixed(1)} minutes`],
    ["Cloned voices", used(plan.voice_slots_used, plan.voice_limit)],
    ["Next month begins", plan.next_character_count_reset_unix ? new Date(plan.next_character_count_reset_unix * 1000).toLocaleDateString(undefined, { timeZone: "UTC" }) : "–"],
  ];
  const end = (Math.floor(Date.now() / DAY) + 1) * DAY - 1;
  const stats = await getJson(`/v1/usage/character-stats?start_unix=${end + 1 - 30 * DAY}&end_unix=${end}`);
  perDay = Object.values(stats.usage)[0] ?? [];
  const most = Math.max(0, ...perDay);
  $("usage").replaceChildren(
    make("dl", { class: "facts", id: "usage-facts" }, ...facts.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)])),
    make("figure", {}, make("figcaption", {}, `Credits per day over the last 30 days, at most ${number(most)}`), plot),
  );
  bars();
}

function bars() {
  const pen = plot.getContext("2d");
  const most = Math.max(1, ...perDay);
  const width = plot.width / Math.max(1, perDay.length);
  pen.clearRect(0, 0, plot.width, plot.height);
  pen.fillStyle = colour("accent");
  perDay.forEach((value, i) => {
    const height = (value / most) * plot.height;
    pen.fillRect(i * width + 1, plot.height - height, width - 2, height);
  });
}

async function serviceAccount() {
  const list = await getJson("/v1/service-accounts");
  return list["service-accounts"][0].service_account_user_id;
}

async function keys() {
  const account = await serviceAccount();
  const list = (await getJson(`/v1/service-accounts/${account}/api-keys`))["api-keys"];
  if (!rows.isConnected) $("key-list").replaceChildren(rows);
  redraw(rows, list.map((key) => {
    const revoke = make("button", { type: "button", "aria-label": `Revoke ${key.name}` }, "Revoke");
    onClick(revoke, async () => {
      if (!confirm(`Revoke the key ${key.name}? Programs that use it stop working.`)) return;
      await call(`/v1/service-accounts/${account}/api-keys/${key.key_id}`, { method: "DELETE" }).catch(unlessGone);
      if ($("key-made").dataset.id === key.key_id) hideSecret();
      await keys();
      $("key-name").focus();
      status("The key is revoked");
    });
    const made = key.created_at_unix ? `, made on ${new Date(key.created_at_unix * 1000).toLocaleDateString()}` : "";
    return make("li", { "data-id": key.key_id }, make("div", { class: "what" }, make("strong", { dir: "auto" }, key.name), make("span", { class: "faint" }, make("code", {}, `${key.hint ?? ""}…`), made)), revoke);
  }));
}
