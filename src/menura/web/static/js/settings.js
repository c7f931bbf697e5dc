// The settings of one room: sliders that start from those stored with the voice, and what each does.

import { make } from "./page.js";

const hundredths = (value) => value.toFixed(2);

const SETTINGS = [
  { key: "similarity_boost", label: "Similarity", fallback: 0.75, min: 0, max: 1, says: "How far timbre and pitch move towards the voice. Lower keeps more of the speaker." },
  { key: "stability", label: "Stability", fallback: 0.5, min: 0, max: 1, says: "High: steadier pitch. Low: livelier pitch, which follows every turn of the source." },
  { key: "style", label: "Style", fallback: 0, min: 0, max: 1, says: "Exaggerates what makes the voice special. Use 0 for expressive speech." },
  { key: "speed", label: "Speed", fallback: 1, min: 0.7, max: 1.2, says: "Tempo of the result. 1 keeps the timing of the source. Not used live." },
];

// Not among the others: it depends on who speaks, so it is not stored with a voice.
const TRANSPOSE = { key: "transpose", label: "Transpose", fallback: 0, min: -24, max: 24, step: 1, write: (value) => (value > 0 ? "+" : "") + value, says: "Semitones by which every note is moved. Without it the pitch goes to where the voice speaks." };

export class SettingsPanel {
  constructor(place, room) {
    this.sliders = {};
    for (const setting of SETTINGS) {
      if (room === "live" && setting.key === "speed") continue;
      this.sliders[setting.key] = this.#slider(place, room, setting);
    }
    this.boost = this.#check(place, `${room}-boost`, "Speaker boost: match the spectrum of the voice's recordings more closely");
    this.boost.checked = true;
    this.melody = this.#check(place, `${room}-melody`, "Keep the melody, as for singing");
    this.transpose = this.#slider(place, room, TRANSPOSE).slider;
    this.transpose.disabled = true;
    this.melody.addEventListener("change", () => { this.transpose.disabled = !this.melody.checked; });
  }

  #slider(place, room, { key, label, fallback, min, max, step = 0.01, write = hundredths, says }) {
    const id = `${room}-${key}`;
    const slider = make("input", { type: "range", id, min, max, step, value: fallback, "aria-describedby": `${id}-says` });
    const shown = make("output", { for: id });
    const set = (value) => { slider.value = value; shown.textContent = write(Number(slider.value)); };
    set(fallback);
    slider.addEventListener("input", () => set(slider.value));
    slider.addEventListener("change", () => this.onChange?.());
    place.append(make("div", { class: "setting" }, make("label", { for: id }, label, shown), slider, make("small", { id: `${id}-says` }, says)));
    return { slider, set, fallback };
  }

  #check(place, id, says) {
    const box = make("input", { type: "checkbox", id });
    box.addEventListener("change", () => this.onChange?.());
    place.append(make("p", {}, make("label", { class: "check" }, box, make("span", {}, says))));
    return box;
  }

  show(settings) {
    for (const [key, { set, fallback }] of Object.entries(this.sliders)) set(settings?.[key] ?? fallback);
    this.boost.checked = settings?.use_speaker_boost ?? true;
  }

  get values() {
    const values = { use_speaker_boost: this.boost.checked, transpose: this.melody.checked ? Number(this.transpose.value) : "auto" };
    for (const [key, { slider }] of Object.entries(this.sliders)) values[key] = Number(slider.value);
    return values;
  }
}
