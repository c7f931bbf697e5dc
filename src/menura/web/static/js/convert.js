// The room where a recording becomes another voice, heard while it streams.

import { call, getJson } from "./api.js";
import { Arriving, Comparison, RATE, Recorder, decode, joined } from "./audio.js";
import { $, clock, make, notice, press, pressed, quiet, save, showLevel, status } from "./page.js";
import { compare } from "./plots.js";
import { VoiceChoice } from "./voices.js";

const CODECS = [
  ["mp3", "MP3", ["44100_128", "44100_192", "44100_96", "44100_64", "44100_32", "24000_48", "22050_32"]],
  ["wav", "WAV", ["44100", "48000", "32000", "24000", "22050", "16000", "8000"]],
  ["opus", "Opus", ["48000_64", "48000_32", "48000_96", "48000_128", "48000_192"]],
  ["pcm", "PCM, raw", ["44100", "48000", "32000", "24000", "22050", "16000", "8000"]],
  ["ulaw", "mu-law, raw", ["8000"]],
  ["alaw", "A-law, raw", ["8000"]],
];
const FORMATS = CODECS.flatMap(([codec, name, kinds]) => kinds.map((kind) => {
  const [rate, bits] = kind.split("_");
  return [`${codec}_${kind}`, `${name}, ${rate / 1000} kHz${bits ? `, ${bits} kbit/s` : ""}`];
}));
const ENDINGS = { mp3: "mp3", wav: "wav", opus: "ogg", ulaw: "ulaw", alaw: "alaw", pcm: "pcm" };

let source = null; // { blob, name, samples }
let last = null; // what made the result: voice, settings, seed, options
let comparison = null;
let moveLine = () => {};
let working = null;

export function open() {
  const choice = new VoiceChoice("convert");
  document.addEventListener("menura:voice", ({ detail }) => choice.choose(detail));
  $("download-format").append(...FORMATS.map(([value, label]) => make("option", { value }, label)));
  fillModels();
  $("file").addEventListener("change", () => $("file").files[0] && take($("file").files[0]));
  $("convert").addEventListener("click", () => convert(choice));
  $("cancel").addEventListener("click", () => working?.abort());
  $("download").addEventListener("click", download);
  openDrop();
  openRecorder();
  openPlayer();
}

async function fillModels() {
  try {
    const models = await getJson("/v1/models");
    $("model").append(...models.filter((model) => model.can_do_voice_conversion).map((model) => make("option", { value: model.model_id }, model.name)));
  } catch (error) {
    notice(error);
  }
}

function openDrop() {
  const drop = $("drop");
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}

function openRecorder() {
  let recorder = null;
  $("record").addEventListener("click", async () => {
    if (recorder) {
      const blob = recorder.stop();
      recorder = null;
      press($("record"), false);
      $("record").textContent = "● Record";
      $("record-meter").hidden = true;
      await take(new File([blob], "recording.wav", { type: "audio/wav" }));
      return;
    }
    recorder = new Recorder((peak, seconds) => {
      showLevel($("record-meter"), peak);
      $("source-name").textContent = `Recording, ${clock(seconds)}`;
    });
    try {
      await recorder.start();
      quiet();
      press($("record"), true);
      $("record").textContent = "■ Stop";
      $("record-meter").hidden = false;
    } catch (error) {
      recorder = null;
      notice(error);
    }
  });
}

async function take(file) {
  quiet();
  source = { blob: file, name: file.name, samples: null };
  $("source-name").textContent = file.name;
  $("convert").disabled = false;
  try {
    source.samples = await decode(file);
    $("source-name").textContent = `${file.name}, ${clock(source.samples.length / RATE)}`;
  } catch {
    $("source-name").textContent = `${file.name} (this browser cannot draw it; the server may still convert it)`;
  }
}

function form(seed, settings) {
  const body = new FormData();
  if ($("model").value) body.append("model_id", $("model").value);
  body.append("voice_settings", JSON.stringify(settings));
  body.append("seed", seed);
  body.append("remove_background_noise", $("denoise").checked);
  body.append("audio", source.blob, source.name);
  return body;
}

async function convert(choice) {
  if (!choice.id) {
    notice("Choose a voice first.");
    return;
  }
  quiet();
  comparison?.halt();
  working = new AbortController();
  $("convert").disabled = true;
  $("cancel").hidden = false;
  $("progress").hidden = false;
  $("progress").removeAttribute("value");
  status("Converting");
  const seed = $("seed").value === "" ? crypto.getRandomValues(new Uint32Array(1))[0] : Number($("seed").value);
  const query = new URLSearchParams({ output_format: "pcm_24000", enable_logging: $("keep").checked });
  if ($("latency").value) query.set("optimize_streaming_latency", $("latency").value);
  const body = form(seed, choice.settings.values);
  const player = new Arriving();
  const made = source;
  try {
    const asked = performance.now();
    const response = await call(`/v1/speech-to-speech/${choice.id}/stream?${query}`, { method: "POST", body, signal: working.signal });
    const result = await listen(response, player, asked, made);
    last = { path: `/v1/speech-to-speech/${choice.id}`, body, voice: choice.voice.name, name: made.name };
    await showResult(made.samples, result, player);
    status("The result is ready");
  } catch (error) {
    player.stop();
    notice(error);
  } finally {
    working = null;
    $("convert").disabled = false;
    $("cancel").hidden = true;
    $("progress").hidden = true;
  }
}

async function listen(response, player, asked, { samples }) {
  const reader = response.body.getReader();
  const pieces = [];
  let spare = new Uint8Array(0);
  let count = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (!pieces.length) $("timing").textContent = `First sound after ${Math.round(performance.now() - asked)} ms`;
    const bytes = new Uint8Array(spare.length + value.length);
    bytes.set(spare);
    bytes.set(value, spare.length);
    const even = bytes.length & ~1;
    spare = bytes.slice(even);
    const piece = Float32Array.from(new Int16Array(bytes.buffer, 0, even / 2), (sample) => sample / 32768);
    pieces.push(piece);
    player.push(piece);
    count += piece.length;
    if (samples) $("progress").value = Math.min(1, count / samples.length);
  }
  return joined(pieces);
}

async function showResult(samples, result, player) {
  comparison = new Comparison(samples, result);
  $("player").hidden = false;
  $("seek").max = comparison.duration;
  $("hear-source").disabled = !samples;
  $("plots").hidden = false;
  moveLine = await compare($("plots"), samples, result);
  $("plots").dataset.seconds = (result.length / RATE).toFixed(3);
  const started = performance.now();
  const left = player.left;
  const follow = () => {
    const remaining = left - (performance.now() - started) / 1000;
    if (remaining <= 0 || comparison?.playing) return player.stop();
    showPosition(comparison.duration - remaining);
    requestAnimationFrame(follow);
  };
  follow();
}

function showPosition(position) {
  $("seek").value = position;
  $("clock").textContent = clock(position);
  moveLine(comparison ? position / comparison.duration : 0);
}

function openPlayer() {
  const follow = () => {
    if (!comparison?.playing) return;
    showPosition(comparison.position);
    if (comparison.position >= comparison.duration) {
      comparison.halt();
      label();
    }
    requestAnimationFrame(follow);
  };
  const label = () => {
    $("play").textContent = comparison?.playing ? "❚❚" : "▶";
    $("play").setAttribute("aria-label", comparison?.playing ? "Pause" : "Play");
  };
  $("play").addEventListener("click", () => {
    if (comparison.playing) comparison.halt();
    else comparison.play();
    label();
    follow();
  });
  $("seek").addEventListener("input", () => {
    comparison.seek(Number($("seek").value));
    showPosition(comparison.offset);
  });
  const sides = { source: $("hear-source"), result: $("hear-result") };
  for (const [side, button] of Object.entries(sides)) {
    button.addEventListener("click", () => {
      if (pressed(button)) return;
      comparison.hear(side);
      for (const [other, control] of Object.entries(sides)) press(control, other === side);
    });
  }
}

async function download() {
  const format = $("download-format").value;
  $("download").disabled = true;
  try {
    const response = await call(`${last.path}?output_format=${format}&enable_logging=false`, { method: "POST", body: last.body });
    save(await response.blob(), `${last.name.replace(/\.[^.]*$/, "")} - ${last.voice}.${ENDINGS[format.split("_")[0]]}`);
  } catch (error) {
    notice(error);
  } finally {
    $("download").disabled = false;
  }
}
