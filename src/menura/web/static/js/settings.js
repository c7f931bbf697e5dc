// The settings of one room: sliders that start from those stored with the voice, and what each does.

import { make } from "./page.js";

const SETTINGS = [
  { key: "similarity_boost", label: "Similarity", fallback: 0.75, min: 0, max: 1, says: "How far timbre and pitch move towards the voice. Lower keeps more of the speaker." },
  { key: "stability", label: "Stability", fallback: 0.5, min: 0, max: 1, says: "High: steadier pitch. Low: livelier pitch, which follows every turn of the source." },
  { key: "style", label: "Style", fallback: 0, min: 0, max: 1, says: "Exaggerates what makes the voice special. Use 0 for expressive speech." },
  { key: "speed", label: "Speed", fallback: 1, min: 0.7, max: 1.2, says: "Tempo of the result. 1 keeps the timing of the source. Not used live." },
];

export class SettingsPanel {
  constructor(place, room) {
    this.sliders = {};
    for (const { key, label, fallback, min, max, says } of SETTINGS) {
      if (room === "live" && key === "speed") continue;
      const id = `${room}-${key}`;
      const slider = make("input", { type: "range", id, min, max, step: 0.01, value: fallback, "aria-describedby": `${id}-says` });
      const shown = make("output", { for: id }, fallback.toFixed(2));
      slider.addEventListener("input", () => { shown.textContent = Number(slider.value).toFixed(2); });
      slider.addEventListener("change", () => this.onChange?.());
      place.append(make("div", { class: "setting" }, make("label", { for: id }, label, shown), slider, make("small", { id: `${id}-says` }, says)));
      this.sliders[key] = { slider, shown, fallback };
    }
    this.boost = make("input", { type: "checkbox", id: `${room}-boost`, checked: true });
    this.boost.addEventListener("change", () => this.onChange?.());
    place.append(make("p", {}, make("label", { class: "check" }, this.boost, make("span", {}, "Speaker boost: match the spectrum of the voice's recordings more closely"))));
    this.#addMelody(place, room);
  }

  // Not among the sliders: it depends on who speaks, so it is not stored with a voice.
  #addMelody(place, room) {
    const id = `${room}-transpose`;
    this.melody = make("input", { type: "checkbox", id: `${room}-melody` });
    this.transpose = make("input", { type: "range", id, min: -24, max: 24, step: 1, value: 0, disabled: true, "aria-describedby": `${id}-says` });
    const shown = make("output", { for: id }, "0");
    this.transpose.addEventListener("input", () => { shown.textContent = (this.transpose.value > 0 ? "+" : "") + this.transpose.value; });
    this.transpose.addEventListener("change", () => this.onChange?.());
    this.melody.addEventListener("change", () => { this.transpose.disabled = !this.melody.checked; this.onChange?.(); });
    place.append(
      make("p", {}, make("label", { class: "check" }, this.melody, make("span", {}, "Keep the melody, as for singing"))),
      make("div", { class: "setting" }, make("label", { for: id }, "Transpose", shown), this.transpose, make("small", { id: `${id}-says` }, "Semitones by which every note is moved. Without it the pitch goes to where the voice speaks.")),
    );
  }

  show(settings) {
    for (const [key, { slider, shown, fallback }] of Object.entries(this.sliders)) {
      slider.value = settings?.[key] ?? fallback;
      shown.textContent = Number(slider.value).toFixed(2);
    }
    this.boost.checked = settings?.use_speaker_boost ?? true;
  }

  get values() {
    const values = { use_speaker_boost: this.boost.checked, transpose: this.melody.checked ? Number(this.transpose.value) : "auto" };
    for (const [key, { slider }] of Object.entries(this.sliders)) values[key] = Number(slider.value);
    return values;
  }
}
