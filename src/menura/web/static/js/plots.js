// Waveforms, spectrograms and F0 contours of source and result, one above the other.

import { BINS, HOP } from "./analysis.js";
import { unreachable } from "./api.js";
import { RATE } from "./audio.js";
import { make } from "./page.js";

const WIDTH = 720;
const waiting = new Map();
let worker = null;
let count = 0;

function begin() {
  worker = new Worker(new URL("./analysis-worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => {
    waiting.get(data.id)?.resolve(data);
    waiting.delete(data.id);
  };
  // Its script could not be fetched; the next plot tries again.
  worker.onerror = () => {
    worker = null;
    for (const { reject } of waiting.values()) reject(unreachable());
    waiting.clear();
  };
}

begin();

function analyse(samples) {
  if (!worker) begin();
  return new Promise((resolve, reject) => {
    waiting.set(++count, { resolve, reject });
    worker.postMessage({ id: count, samples, columns: WIDTH });
  });
}

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function ramp(value) {
  const dark = colour("ramp") === "-1";
  const t = dark ? value : 1 - value;
  const stops = dark
    ? [[13, 18, 17], [20, 70, 80], [70, 160, 130], [240, 192, 100], [255, 245, 220]]
    : [[40, 20, 10], [130, 70, 10], [40, 130, 120], [180, 210, 190], [251, 249, 242]];
  const at = Math.min(3.999, Math.max(0, t * 4));
  const [low, high] = [stops[Math.floor(at)], stops[Math.floor(at) + 1]];
  return low.map((channel, i) => channel + (high[i] - channel) * (at % 1));
}

function canvas(height, label) {
  const made = make("canvas", { width: WIDTH, height, role: "img", "aria-label": label });
  made.style.height = `${height}px`;
  return made;
}

function drawWave(target, peaks, tone) {
  const pen = target.getContext("2d");
  pen.fillStyle = tone;
  const middle = target.height / 2;
  for (let x = 0; x < WIDTH; x++) {
    const top = middle - peaks[x * 2 + 1] * middle;
    pen.fillRect(x, top, 1, Math.max(1, middle - peaks[x * 2] * middle - top));
  }
}

function drawSpectrogram(target, levels, used) {
  const pen = target.getContext("2d");
  const picture = pen.createImageData(WIDTH, target.height);
  const loudest = levels.reduce((most, level) => Math.max(most, level), -100);
  const shades = Array.from({ length: 256 }, (_, i) => ramp(i / 255));
  for (let y = 0; y < target.height; y++) {
    const bin = Math.floor((1 - (y + 1) / target.height) * (BINS - 1) + 0.5);
    for (let x = 0; x < WIDTH; x++) {
      const value = x < used ? Math.min(1, Math.max(0, (levels[x * BINS + bin] - loudest + 75) / 75)) : 0;
      const at = (y * WIDTH + x) * 4;
      picture.data.set(shades[Math.round(value * 255)], at);
      picture.data[at + 3] = 255;
    }
  }
  pen.putImageData(picture, 0, 0);
}

// Between 60 and 500 Hz, for which style.css places the lines of .pitch. The source's is dotted, as not everybody tells
// the colours apart.
export function drawContours(target, contours, seconds) {
  const [low, high] = [60, 500];
  const pen = target.getContext("2d");
  pen.clearRect(0, 0, target.width, target.height);
  const y = (hertz) => target.height * (1 - Math.log(hertz / low) / Math.log(high / low));
  for (const side of ["source", "result"]) {
    pen.fillStyle = colour(side);
    contours[side]?.forEach((hertz, frame) => {
      const x = (frame * HOP / RATE / seconds) * target.width;
      if (hertz && (side === "result" || x % 9 < 3)) pen.fillRect(x, y(hertz) - 1.5, 2, 3);
    });
  }
}

// Fills `place` with the stacked pictures and returns a function that moves the position line.
export async function compare(place, source, result) {
  const length = Math.max(source?.length ?? 0, result.length);
  const padded = (samples) => {
    const whole = new Float32Array(length);
    whole.set(samples);
    return whole;
  };
  const [before, after] = await Promise.all([source && analyse(padded(source)), analyse(padded(result))]);
  const figures = [];
  const add = (caption, height, draw, ...lines) => {
    const picture = canvas(height, caption);
    draw(picture);
    figures.push(make("figure", {}, make("figcaption", {}, caption), make("div", { class: lines.length > 0 && "pitch" }, picture, ...lines)));
  };
  for (const [name, data, samples] of [["Source", before, source], ["Result", after, result]]) {
    if (!data) continue;
    add(`${name}: waveform`, 70, (picture) => drawWave(picture, data.envelope, colour(name.toLowerCase())));
    add(`${name}: spectrogram, 0 to 12 kHz`, 128, (picture) => drawSpectrogram(picture, data.spectrogram, Math.ceil((samples.length / length) * WIDTH)));
  }
  const contours = { source: before?.contour, result: after.contour };
  add("Pitch (F0) of both, on one axis", 140, (picture) => drawContours(picture, contours, length / RATE),
    ...["400", "200", "100"].map((hertz) => make("span", { "aria-hidden": "true" }, `${hertz} Hz`)));
  place.replaceChildren(...figures);
  place.append(make("p", { class: "legend" }, make("span", { class: "key-source" }), " source, dotted ", make("span", { class: "key-result" }), " result"));
  place.dataset.sourceF0 = median(before?.contour);
  place.dataset.resultF0 = median(after.contour);
  return (fraction) => place.style.setProperty("--at", `${fraction * 100}%`);
}

function median(values) {
  const voiced = [...(values ?? [])].filter(Boolean).sort((a, b) => a - b);
  return voiced.length ? voiced[voiced.length >> 1].toFixed(1) : "";
}
