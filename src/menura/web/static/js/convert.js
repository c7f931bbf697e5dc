// The room where a recording becomes another voice, heard while it streams.

import { call, getBlob, getJson, reading } from "./api.js";
import { RATE, decode, joined, soundAlone, toFloat, toInt16, wav } from "./audio.js";
import { Recorder } from "./microphone.js";
import { $, clock, make, notice, onClick, press, quiet, save, showLevel, status } from "./page.js";
import { Arriving, Comparison, LEAD } from "./players.js";
import { compare } from "./plots.js";
import { VoiceChoice } from "./voices.js";

const CODECS = [
  ["wav", "WAV", ["24000", "48000", "44100", "32000", "22050", "16000", "8000"]],
  ["mp3", "MP3", ["44100_128", "44100_192", "44100_96", "44100_64", "44100_32", "24000_48", "22050_32"]],
  ["opus", "Opus", ["48000_64", "48000_32", "48000_96", "48000_128", "48000_192"]],
  ["pcm", "PCM, raw", ["24000", "48000", "44100", "32000", "22050", "16000", "8000"]],
  ["ulaw", "mu-law, raw", ["8000"]],
  ["alaw", "A-law, raw", ["8000"]],
];
const FORMATS = CODECS.flatMap(([codec, name, kinds]) => kinds.map((kind) => {
  const [rate, bits] = kind.split("_");
  return [`${codec}_${kind}`, `${name}, ${rate / 1000} kHz${bits ? `, ${bits} kbit/s` : ""}`];
}));
const ENDINGS = { mp3: "mp3", wav: "wav", opus: "ogg", ulaw: "ulaw", alaw: "alaw", pcm: "pcm" };

let source = null; // { blob, name, samples }
let last = null; // the result, and what made it
let comparison = null;
let moveLine = () => {};
let working = null;
let recorder = null;
let arriving = null; // plays the result while it arrives
let choice;

export function open() {
  choice = new VoiceChoice("convert");
  document.addEventListener("menura:voice", ({ detail }) => choice.choose(detail));
  $("download-format").append(...FORMATS.map(([value, label]) => make("option", { value }, label)));
  $("model").closest("details").addEventListener("toggle", fillModels);
  $("file").addEventListener("change", () => {
    offer($("file").files);
    $("file").value = ""; // so that the same file can be chosen again
  });
  // Where the steps stand below one another, the settings would part the voice from the result.
  $("settings").open = matchMedia("(min-width: 60rem)").matches;
  onClick($("convert"), convert);
  $("cancel").addEventListener("click", () => working?.abort());
  onClick($("download"), download);
  $("download-format").addEventListener("change", showCost);
  openDrop();
  openRecorder();
  openPlayer();
  document.addEventListener("menura:theme", async () => {
    if (comparison) moveLine = await compare($("plots"), comparison.source, comparison.result);
  });
}

export function enter() {
  choice.reveal();
  fillModels();
}

function hush() {
  arriving?.stop();
  arriving = null;
  comparison?.halt();
  showPlaying();
}

// What is heard and shown belongs to the recording that was converted.
function clear() {
  hush();
  $("player").hidden = true;
  $("plots").hidden = true;
  $("plots").replaceChildren();
  $("timing").textContent = "";
}

// Asked for until they are there: the server may have been away, or the last key not allowed to see them.
async function fillModels() {
  const select = $("model");
  if (select.options.length > 1) return;
  try {
    const models = await getJson("/v1/models");
    select.replaceChildren(select.options[0], ...models.filter((model) => model.can_do_voice_conversion).map((model) => make("option", { value: model.model_id }, model.name)));
  } catch (error) {
    if (error.code !== "missing_permissions") notice(error);
  }
}

function openDrop() {
  const drop = $("drop");
  // Beside the box the browser would open the file in the page's place.
  for (const name of ["dragover", "drop"]) {
    document.body.addEventListener(name, (event) => {
      if (!event.target.closest("input, textarea")) event.preventDefault();
    });
  }
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    offer(event.dataTransfer.files);
  });
}

function openRecorder() {
  const finish = async () => {
    const blob = recorder.stop();
    recorder = null;
    $("record").classList.remove("recording");
    $("record").textContent = "● Record";
    $("record-meter").hidden = true;
    await take(new File([blob], "recording.wav", { type: "audio/wav" }));
  };
  document.addEventListener("menura:key-refused", () => recorder && finish());
  onClick($("record"), async () => {
    if (recorder) return finish();
    const opened = new Recorder((peak, seconds) => {
      showLevel($("record-meter"), peak);
      $("source-name").textContent = `Recording, ${clock(seconds)}`;
    }, async () => {
      if (recorder !== opened) return;
      await finish();
      notice("The microphone is gone. What was recorded is kept.");
    });
    await opened.start();
    recorder = opened;
    $("record").classList.add("recording");
    $("record").textContent = "■ Stop";
    $("record-meter").hidden = false;
  });
}

function offer(files) {
  if (!files.length) return;
  if (recorder) {
    notice("Stop the recording first, then choose a file.");
    return;
  }
  take(files[0]);
  if (files.length > 1) notice(`One recording is converted at a time; of these ${files.length}, ${files[0].name} was taken.`);
}

async function take(file) {
  quiet();
  if (!working) clear();
  const taken = { blob: file, name: file.name, samples: null };
  source = taken;
  const say = (more) => {
    if (source !== taken) return;
    $("source-name").replaceChildren(make("bdi", {}, file.name), more);
    if (more) status($("source-name").textContent);
  };
  say("");
  $("convert").disabled = false;
  try {
    taken.samples = await decode(file);
    say(`, ${clock(taken.samples.length / RATE)}`);
  } catch {
    say(" (this browser cannot show it; the server may still be able to convert it)");
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

async function convert() {
  if (!choice.id) throw new Error("Choose a voice first.");
  clear();
  soundAlone(hush);
  working = new AbortController();
  $("cancel").hidden = false;
  $("progress").hidden = false;
  $("progress").removeAttribute("value");
  $("timing").textContent = "Waiting for the first sound …";
  status("Converting");
  const seed = $("seed").value === "" ? crypto.getRandomValues(new Uint32Array(1))[0] : Number($("seed").value);
  const query = new URLSearchParams({ output_format: "pcm_24000", enable_logging: $("keep").checked });
  if ($("latency").value) query.set("optimize_streaming_latency", $("latency").value);
  const body = form(seed, choice.settings.values);
  const player = new Arriving();
  arriving = player;
  const made = source;
  const { voice } = choice;
  const path = `/v1/speech-to-speech/${voice.voice_id}/stream`;
  try {
    const asked = performance.now();
    const response = await call(`${path}?${query}`, { method: "POST", body, signal: working.signal });
    const result = await listen(response, player, asked, made);
    last = { result, path, query, body, cost: response.headers.get("character-cost"), name: `${made.name.replace(/\.[^.]*$/, "")} - ${voice.name}` };
    showCost();
    await showResult(made.samples, result, player);
    status("The result is ready");
  } catch (error) {
    player.stop();
    $("timing").textContent = "";
    if (error.code === "feature_not_available") alwaysKeep();
    if (!working.signal.aborted) throw error;
    $("timing").textContent = "Stopped.";
    status("Stopped");
  } finally {
    working = null;
    if (document.activeElement === $("cancel")) $("convert").focus();
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
    const { done, value } = await reading(reader.read());
    if (done) break;
    if (!pieces.length) $("timing").textContent = `First sound after ${Math.round(performance.now() - asked)} ms`;
    const bytes = new Uint8Array(spare.length + value.length);
    bytes.set(spare);
    bytes.set(value, spare.length);
    const even = bytes.length & ~1;
    spare = bytes.slice(even);
    const piece = toFloat(new Int16Array(bytes.buffer, 0, even / 2));
    pieces.push(piece);
    player.push(piece);
    count += piece.length;
    if (samples) $("progress").value = Math.min(1, count / samples.length);
  }
  return joined(pieces);
}

async function showResult(samples, result, player) {
  comparison = new Comparison(samples, result);
  $("seek").max = comparison.duration;
  takeOver(player, result.length / RATE);
  showSide();
  $("player").hidden = false;
  $("hear-source").disabled = !samples;
  $("plots").hidden = false;
  moveLine = await compare($("plots"), samples, result);
  $("plots").dataset.seconds = (result.length / RATE).toFixed(3);
}

// From the moment that there are controls, one player is in charge, from where the other has come to.
function takeOver(player, seconds) {
  if (arriving !== player || player.left <= LEAD) {
    showPosition(0);
    return showPlaying();
  }
  arriving = null;
  play(seconds - player.left + LEAD);
  player.stop(comparison.started);
}

function showPosition(position) {
  $("seek").value = position;
  $("clock").textContent = clock(position);
  $("seek").setAttribute("aria-valuetext", $("clock").textContent);
  moveLine(comparison ? position / comparison.duration : 0);
}

function showPlaying() {
  $("play").textContent = comparison?.playing ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", comparison?.playing ? "Pause" : "Play");
}

function showSide() {
  for (const side of ["source", "result"]) press($(`hear-${side}`), comparison.heard === side);
}

function follow() {
  if (!comparison?.playing) return;
  showPosition(comparison.position);
  if (comparison.position >= comparison.duration) {
    comparison.halt();
    showPlaying();
  }
  requestAnimationFrame(follow);
}

function play(from) {
  soundAlone(hush);
  comparison.play(from);
  showPlaying();
  follow();
}

function openPlayer() {
  $("play").addEventListener("click", () => {
    if (!comparison.playing) return play();
    comparison.halt();
    showPlaying();
  });
  $("seek").addEventListener("input", () => {
    comparison.seek(Number($("seek").value));
    showPosition(comparison.offset);
  });
  for (const side of ["source", "result"]) {
    $(`hear-${side}`).addEventListener("click", () => {
      comparison.hear(side);
      showSide();
    });
  }
}

// Only the server knows what a tier may do, and says so when it is asked for too much.
function alwaysKeep() {
  $("keep").checked = true;
  $("keep").disabled = true;
  $("keep").parentElement.title = "The account's tier keeps every conversion in the history.";
}

function showCost() {
  $("download-cost").textContent = madeHere($("download-format").value) ? "The result as you heard it; costs nothing." : `Will be converted again, for another ${last.cost} credits.`;
}

// What needs no codec is made here, of what was heard.
const madeHere = (format) => /^(wav|pcm)_/.test(format);

async function download() {
  const format = $("download-format").value;
  const [codec, rate] = format.split("_");
  $("download-cost").textContent = "Making the file …";
  try {
    save(madeHere(format) ? await rewrite(codec, Number(rate)) : await again(format), `${last.name}.${ENDINGS[codec]}`);
  } finally {
    showCost();
  }
}

async function rewrite(codec, rate) {
  const samples = rate === RATE ? last.result : await decode(wav(last.result, RATE), rate);
  return codec === "wav" ? wav(samples, rate) : new Blob([toInt16(samples)]);
}

async function again(format) {
  const query = new URLSearchParams(last.query);
  query.set("output_format", format);
  return getBlob(`${last.path}?${query}`, { method: "POST", body: last.body });
}
