// The voices: search and filters, previews, and the choice of one for a room.

import { call, getBlob, getJson, unlessGone } from "./api.js";
import { soundAlone } from "./audio.js";
import { $, make, notice, onClick, press, redraw, roving, status } from "./page.js";
import { SettingsPanel } from "./settings.js";
import { local } from "./store.js";

let voices = [];
const lists = new Set();
const preview = new Audio();
let sounding = null; // the id of the voice whose preview is heard

export const allVoices = () => voices;

export async function loadVoices() {
  voices = (await getJson("/v1/voices")).voices;
  for (const draw of lists) draw();
}

function sound(id) {
  sounding = id;
  for (const button of document.querySelectorAll("[data-preview]")) press(button, button.dataset.preview === id);
}

function hush() {
  preview.pause();
  sound(null);
}

async function toggle(voice) {
  const id = voice.voice_id;
  if (sounding === id) return hush();
  preview.pause();
  soundAlone(hush);
  sound(id);
  try {
    const blob = await getBlob(`/v1/voices/${id}/preview`);
    if (sounding !== id) return;
    URL.revokeObjectURL(preview.src);
    preview.src = URL.createObjectURL(blob);
    preview.onended = () => sound(null);
    await preview.play();
  } catch (error) {
    // Another one, or this one anew, was asked for meanwhile.
    if (sounding !== id || error.name === "AbortError") return;
    sound(null);
    notice(error);
  }
}

const describe = ({ labels, category, description }) =>
  [category === "premade" ? null : category, labels.gender, labels.age, labels.accent, labels.description ?? description].filter(Boolean).join(", ").replaceAll("_", " ");

function summary(shown) {
  if (!voices.length) return "This key may see no voices.";
  return shown ? `${shown} of ${voices.length} voices` : "No voice matches. Clear the search or a filter.";
}

const distinct = (key) => [...new Set(voices.map(({ labels }) => labels[key]).filter(Boolean))].sort();

function voiceList(place, { chosen, onChoose, tools }) {
  const search = make("input", { type: "search", placeholder: "Name, sex, accent …", dir: "auto" });
  const gender = make("select");
  const age = make("select");
  const category = make("select");
  const items = make("ul", { class: "list voice-list", "aria-label": "Voices, the arrow keys go from one to another" });
  const stopAt = roving(items);
  const found = make("p", { class: "faint", "aria-live": "polite" });
  const field = (label, control) => make("p", {}, make("label", {}, label, control));
  place.append(make("div", { class: "filters" }, field("Search", search), field("Sex", gender), field("Age", age), field("Kind", category)), found, items);

  const options = (select, values) => {
    const kept = select.value;
    select.replaceChildren(make("option", { value: "" }, "All"), ...values.map((value) => make("option", { value }, value.replaceAll("_", " "))));
    select.value = values.includes(kept) ? kept : "";
  };

  function draw() {
    options(gender, distinct("gender"));
    options(age, distinct("age"));
    options(category, [...new Set(voices.map((voice) => voice.category))]);
    filter();
  }

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = voices.filter((voice) => {
      const text = [voice.name, voice.description, voice.category, ...Object.values(voice.labels)].join(" ").toLowerCase();
      const starts = text.split(/[^\p{L}\p{N}]+/u); // “male” is in “female”
      return words.every((word) => starts.some((start) => start.startsWith(word)) || (/[^\p{L}\p{N}]/u.test(word) && text.includes(word)))
        && (!gender.value || voice.labels.gender === gender.value)
        && (!age.value || voice.labels.age === age.value)
        && (!category.value || voice.category === category.value);
    });
    found.textContent = summary(shown.length);
    redraw(items, shown.map((voice) => {
      const choose = make("button", { type: "button", class: "choose what", "data-voice": voice.voice_id }, make("strong", { dir: "auto" }, voice.name), make("span", { class: "faint", dir: "auto" }, describe(voice)));
      choose.addEventListener("click", () => onChoose(voice));
      const listen = make("button", { type: "button", "aria-label": `Hear ${voice.name}`, "data-preview": voice.voice_id, "aria-pressed": String(voice.voice_id === sounding) }, "▶");
      listen.addEventListener("click", () => toggle(voice));
      return make("li", { "data-id": voice.voice_id }, listen, choose, ...(tools?.(voice) ?? []));
    }));
    mark();
  }

  // Apart from drawing, so that the button that was clicked stays and keeps the focus.
  function mark() {
    if (chosen) for (const button of items.querySelectorAll(".choose")) press(button, button.dataset.voice === chosen());
    stopAt(chosenLine() ?? items.firstElementChild);
  }

  const chosenLine = () => items.querySelector(".choose[aria-pressed=true]")?.parentElement;

  // The list scrolls alone: the page stays where it is. Of a long line the beginning is shown, which is the name.
  function reveal() {
    const line = chosenLine();
    if (line) items.scrollTop = line.offsetTop - items.offsetTop - Math.max(0, items.clientHeight - line.clientHeight) / 2;
  }

  for (const control of [search, gender, age, category]) control.addEventListener("input", filter);
  lists.add(draw);
  draw();
  return { mark, reveal };
}

export class VoiceChoice {
  constructor(room) {
    this.store = `menura-voice-${room}`;
    this.settings = new SettingsPanel(document.querySelector(`[data-settings="${room}"]`), room);
    const list = voiceList(document.querySelector(`[data-picker="${room}"]`), { chosen: () => this.id, onChoose: (voice) => this.choose(voice) });
    Object.assign(this, list);
    lists.add(() => this.keep());
    this.keep();
  }

  keep() {
    if (voices.some((voice) => voice.voice_id === this.id)) return;
    const gone = this.voice;
    const voice = voices.find(({ voice_id }) => voice_id === local.get(this.store)) ?? voices[0];
    if (!voice) return;
    this.choose(voice, false);
    if (gone) this.onChoose?.(voice); // What is heard is what is shown.
  }

  choose(voice, told = true) {
    this.voice = voice;
    local.set(this.store, voice.voice_id);
    this.settings.show(voice.settings);
    this.mark();
    if (told) {
      status(`${voice.name} is chosen`);
      this.onChoose?.(voice);
    }
  }

  get id() {
    return this.voice?.voice_id;
  }
}

export function openLibrary(onChoose) {
  voiceList($("voice-library"), {
    onChoose,
    tools: (voice) => {
      if (voice.category === "premade") return [];
      const remove = make("button", { type: "button", "aria-label": `Delete ${voice.name}` }, "Delete");
      onClick(remove, async () => {
        if (!confirm(`Delete the voice ${voice.name}? Its recordings are deleted with it.`)) return;
        await call(`/v1/voices/${voice.voice_id}`, { method: "DELETE" }).catch(unlessGone);
        await loadVoices();
        $("voice-library").querySelector("input").focus();
        status(`${voice.name} is deleted`);
      });
      return [remove];
    },
  });
}
