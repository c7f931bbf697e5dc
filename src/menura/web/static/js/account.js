// Usage, limits, and the keys of this account.

import { call, forgetKey, getJson, unlessGone } from "./api.js";
import { $, make, missing, notice, onClick, quiet, status } from "./page.js";
import { colour } from "./plots.js";

const DAY = 86400000;
const UNLIMITED = 2147483647;
const number = (value) => (value >= UNLIMITED ? "no limit" : value.toLocaleString());
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
  $("key-create").addEventListener("submit", async (event) => {
    event.preventDefault();
    quiet();
    const name = $("key-name").value.trim();
    if (!name) {
      notice("Give the key a name.");
      return;
    }
    const button = event.submitter;
    button.disabled = true;
    try {
      const account = await serviceAccount();
      const made = await (await call(`/v1/service-accounts/${account}/api-keys`, { method: "POST", json: { name, permissions: "all" } })).json();
      $("key-made").hidden = false;
      $("key-copy").textContent = "Copy";
      $("key-made").dataset.id = made.key_id;
      $("key-made").querySelector("code").textContent = made["xi-api-key"];
      $("key-create").reset();
      await keys();
      $("key-copy").focus();
    } catch (error) {
      notice(error);
    } finally {
      button.disabled = false;
    }
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
    ["Credits used this month", `${number(plan.character_count)} of ${number(plan.character_limit)}`],
    ["As audio", `${(plan.character_count / 1000).toFixed(1)} minutes`],
    ["Cloned voices", `${number(plan.voice_slots_used)} of ${number(plan.voice_limit)}`],
    ["Next month begins", plan.next_character_count_reset_unix ? new Date(plan.next_character_count_reset_unix * 1000).toLocaleDateString() : "–"],
  ];
  $("usage-facts").replaceChildren(...facts.flatMap(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]));
  const end = (Math.floor(Date.now() / DAY) + 1) * DAY - 1;
  const stats = await getJson(`/v1/usage/character-stats?start_unix=${end + 1 - 30 * DAY}&end_unix=${end}`);
  perDay = Object.values(stats.usage)[0] ?? [];
  bars();
}

function bars() {
  const canvas = $("usage-plot");
  const pen = canvas.getContext("2d");
  const most = Math.max(1, ...perDay);
  const width = canvas.width / Math.max(1, perDay.length);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = colour("accent");
  perDay.forEach((value, i) => {
    const height = (value / most) * (canvas.height - 20);
    pen.fillRect(i * width + 1, canvas.height - height, width - 2, height);
  });
  pen.fillStyle = colour("faint");
  pen.font = "12px system-ui";
  pen.fillText(`${most.toLocaleString()} credits`, 4, 12);
}

async function serviceAccount() {
  const list = await getJson("/v1/service-accounts");
  return list["service-accounts"][0].service_account_user_id;
}

async function keys() {
  const account = await serviceAccount();
  const list = (await getJson(`/v1/service-accounts/${account}/api-keys`))["api-keys"];
  $("key-list").replaceChildren(make("div", { class: "scroll", tabindex: 0, role: "region", "aria-labelledby": "keys-title" }, make("table", {},
    make("thead", {}, make("tr", {}, ...["Name", "Key", "Do"].map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...list.map((key) => {
      const revoke = make("button", { type: "button", "aria-label": `Revoke ${key.name}` }, "Revoke");
      onClick(revoke, async () => {
        if (!confirm(`Revoke the key ${key.name}? Programs that use it stop working.`)) return;
        await call(`/v1/service-accounts/${account}/api-keys/${key.key_id}`, { method: "DELETE" }).catch(unlessGone);
        if ($("key-made").dataset.id === key.key_id) hideSecret();
        await keys();
        $("key-name").focus();
        status("The key is revoked");
      });
      return make("tr", {}, make("td", {}, key.name), make("td", {}, make("code", {}, `${key.hint ?? ""}…`),
        make("div", { class: "faint" }, key.created_at_unix ? new Date(key.created_at_unix * 1000).toLocaleDateString() : "")), make("td", {}, revoke));
    })))));
}
