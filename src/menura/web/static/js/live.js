// The room to talk live: microphone in, changed voice out, with what it costs in delay.

import { pitch } from "./analysis.js";
import { advised, heed } from "./api.js";
import { RATE, joined, toFloat, toInt16 } from "./audio.js";
import { LiveSession } from "./live-session.js";
import { addWorklet, endWorklet, openMicrophone, release } from "./microphone.js";
import { $, notice, onClick, press, pressed, quiet, showLevel, status } from "./page.js";
import { drawContours } from "./plots.js";
import { VoiceChoice, allVoices } from "./voices.js";

const SHOWN = 8; // seconds of pitch on the plot
const HIGHEST = 48000; // the rate up to which a live stream may come
const BLOCK = 0.01; // seconds; half a chunk of the server, which waits for whole ones
let choice;
let running = null;
let drawn = null; // whose pitch is on the plot

export function open() {
  choice = new VoiceChoice("live");
  choice.onChoose = (voice) => running?.session.change({ voice_id: voice.voice_id, voice_settings: choice.settings.values });
  choice.settings.onChange = () => running?.session.change({ voice_settings: choice.settings.values });
  onClick($("live-start"), () => (running ? stop() : start()));
  for (const id of ["live-mute", "live-bypass"]) {
    $(id).addEventListener("click", () => {
      press($(id), !pressed($(id)));
      running?.blend();
    });
  }
  $("speaker").addEventListener("change", () => running?.route());
  navigator.mediaDevices?.addEventListener("devicechange", listDevices);
  listDevices();
  document.addEventListener("menura:theme", () => drawn?.draw());
}

export const enter = () => choice.reveal();

async function listDevices() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  for (const [id, kind] of [["microphone", "audioinput"], ["speaker", "audiooutput"]]) {
    const select = $(id);
    const kept = select.value;
    select.replaceChildren(select.options[0], ...devices.filter((device) => device.kind === kind && device.deviceId && device.deviceId !== "default")
      .map((device) => new Option(device.label || `Device ${device.deviceId.slice(0, 4)}`, device.deviceId)));
    select.value = [...select.options].some((option) => option.value === kept) ? kept : "";
    // An output that was unplugged is not left by itself.
    if (id === "speaker" && select.value !== kept) running?.route();
  }
  $("speaker").disabled = !("setSinkId" in AudioContext.prototype);
}

class Running {
  async open() {
    // The server's own rate: nothing need be resampled there, and every tier may have it.
    this.speaker = new AudioContext({ latencyHint: "interactive", sampleRate: RATE });
    this.audio = this.speaker;
    this.stream = await openMicrophone($("microphone").value);
    listDevices();
    try {
      this.source = this.audio.createMediaStreamSource(this.stream);
    } catch {
      // Firefox takes a microphone at its own rate only.
      this.audio = new AudioContext({ latencyHint: "interactive" });
      this.source = this.audio.createMediaStreamSource(this.stream);
    }
    const every = Math.ceil(this.audio.sampleRate / HIGHEST);
    this.rate = this.audio.sampleRate / every;
    this.stream.getAudioTracks()[0].onended = () => {
      notice("The microphone is gone. Plug it in or choose another one, then start again.");
      stop(this);
    };
    await Promise.all([this.audio.resume(), this.speaker.resume(), addWorklet(this.audio, "capture"), addWorklet(this.speaker, "playback")]);
    await this.route();
    this.capture = new AudioWorkletNode(this.audio, "capture", { numberOfOutputs: 0, processorOptions: { block: Math.round(this.rate * BLOCK), every } });
    this.playback = new AudioWorkletNode(this.speaker, "playback", {
      numberOfInputs: 0, outputChannelCount: [1], processorOptions: { prime: RATE * 0.02, limit: RATE * 0.3 },
    });
    this.direct = new GainNode(this.audio, { gain: 0 });
    this.changed = this.speaker.createGain();
    this.source.connect(this.direct).connect(this.audio.destination);
    this.playback.connect(this.changed).connect(this.speaker.destination);
    this.pitches = { source: [], result: [] };
    this.tails = { source: new Float32Array(0), result: new Float32Array(0) };
    this.dropped = 0; // by the server, in ms
  }

  async connect() {
    const session = new LiveSession(choice.id, {
      input: { encoding: "s16le", sample_rate: this.rate },
      output_format: `pcm_${RATE}`,
      voice_settings: choice.settings.values,
      remove_background_noise: $("live-denoise").checked,
      optimize_streaming_latency: 3,
    });
    this.session = session;
    session.addEventListener("started", ({ detail }) => {
      $("fact-delay").textContent = `${Math.round(detail.delay_ms)} ms`;
      status("You are live");
      this.follow();
    });
    session.addEventListener("audio", ({ detail }) => this.hear(toFloat(detail)));
    session.addEventListener("stats", ({ detail }) => this.facts(detail));
    this.voiceId = choice.id;
    session.addEventListener("changed", ({ detail }) => { this.voiceId = detail.voice_id; });
    session.addEventListener("lost", () => {
      if (running === this) notice("The connection dropped. You are not heard until it is back; trying again …");
    });
    session.addEventListener("resumed", () => {
      if (running === this) quiet();
      status("Connected again");
    });
    session.addEventListener("refused", ({ detail }) => {
      heed(detail.detail);
      notice(advised(detail.detail));
      choice.choose(allVoices().find(({ voice_id }) => voice_id === this.voiceId) ?? choice.voice, false);
    });
    session.addEventListener("error", ({ detail }) => {
      if (this.left) return;
      heed(detail.detail);
      notice(detail.detail ? advised(detail.detail) : "The live stream failed. Start again.");
      stop(this);
    });
    session.addEventListener("ended", () => this.close());
    await session.open();
  }

  // Output sample k belongs to input sample k, so the delay is the time between capturing and playing it. Nothing is
  // captured before, as all that had gathered by now would be heard late, and what follows behind it.
  follow() {
    let first = null;
    this.source.connect(this.capture);
    this.capture.port.onmessage = ({ data: { samples, peak, time } }) => {
      first ??= time - samples.length / this.rate;
      const sound = pressed($("live-mute")) ? new Float32Array(samples.length) : samples;
      showLevel($("meter-in"), pressed($("live-mute")) ? 0 : peak);
      this.track("source", sound, this.rate);
      this.session.push(toInt16(sound).buffer);
    };
    this.playback.port.onmessage = ({ data: { held, peak, played, dropped } }) => {
      if (this.left) return;
      showLevel($("meter-out"), peak);
      $("fact-buffer").textContent = `${Math.round((held / RATE) * 1000)} ms`;
      $("fact-dropped").textContent = `${Math.round(this.dropped + (dropped / RATE) * 1000)} ms`;
      if (!played || first === null) return;
      const spoken = first + played / RATE + this.dropped / 1000;
      const microphone = this.stream.getAudioTracks()[0]?.getSettings().latency ?? 0;
      const ear = this.audio.currentTime + (this.speaker.outputLatency || this.speaker.baseLatency || 0) + microphone;
      this.delay = this.delay === undefined ? ear - spoken : this.delay + 0.1 * (ear - spoken - this.delay);
      $("delay").textContent = Math.round(this.delay * 1000);
    };
  }

  hear(samples) {
    this.track("result", samples, RATE);
    this.playback.port.postMessage(samples);
  }

  track(side, samples, rate) {
    const tail = new Float32Array(Math.round(rate * 0.08));
    const whole = joined([this.tails[side], samples]);
    tail.set(whole.subarray(-tail.length), Math.max(0, tail.length - whole.length));
    this.tails[side] = tail;
    const hertz = pitch(tail, 0, rate);
    for (let i = 0; i < Math.round((samples.length / rate) * 100); i++) this.pitches[side].push(hertz);
    this.pitches[side] = this.pitches[side].slice(-SHOWN * 100);
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = undefined;
      this.draw();
    });
  }

  draw() {
    drawContours($("live-pitch"), this.pitches, SHOWN);
  }

  facts({ processing_ms: processing, queue_ms: queue, rtf, dropped_ms: dropped }) {
    $("fact-processing").textContent = `${processing.toFixed(1)} ms a chunk`;
    $("fact-queue").textContent = `${Math.round(queue)} ms`;
    $("fact-rtf").textContent = rtf.toFixed(3);
    this.dropped = dropped;
  }

  // Who is muted is not heard in the own voice either.
  blend() {
    const bypassed = pressed($("live-bypass"));
    this.direct.gain.setTargetAtTime(bypassed && !pressed($("live-mute")) ? 1 : 0, this.audio.currentTime, 0.01);
    this.changed.gain.setTargetAtTime(bypassed ? 0 : 1, this.speaker.currentTime, 0.01);
  }

  async route() {
    if (!this.audio.setSinkId) return;
    try {
      await Promise.all([this.audio, this.speaker].map((audio) => audio.setSinkId($("speaker").value)));
    } catch {
      notice("This output device cannot be used. Choose another one.");
    }
  }

  close() {
    this.source?.disconnect();
    if (this.stream) release(this.stream);
    for (const node of [this.capture, this.playback]) if (node) endWorklet(node);
    // A context that closes before its worklets have ended stays in memory.
    setTimeout(() => {
      for (const audio of new Set([this.audio, this.speaker])) if (audio && audio.state !== "closed") audio.close();
    }, 200);
  }
}

async function start() {
  const attempt = new Running();
  try {
    if (!choice.id) throw new Error("Choose a voice first.");
    await attempt.open();
    if (attempt.left) return;
    // Before it is connected, so that what is chosen meanwhile reaches the server as a change.
    running = drawn = attempt;
    show(true);
    attempt.connect().catch((error) => {
      if (attempt.left) return;
      stop(attempt);
      notice(error);
    });
  } catch (error) {
    attempt.close();
    notice(error);
  }
}

// Ends that stream, which may be over while another one runs.
function stop(ending = running) {
  if (ending) ending.left = true;
  ending?.session?.end();
  ending?.stream.getTracks().forEach((track) => track.stop());
  if (ending?.capture) endWorklet(ending.capture);
  setTimeout(() => ending?.close(), 1500);
  if (ending !== running) return;
  running = null;
  show(false);
  status("Live has ended");
}

function show(on) {
  $("live-start").textContent = on ? "Stop" : "Start talking";
  $("live-mute").disabled = !on;
  $("live-bypass").disabled = !on;
  $("live-denoise").disabled = on;
  $("microphone").disabled = on;
  if (on) return;
  for (const id of ["live-mute", "live-bypass"]) press($(id), false);
  for (const id of ["meter-in", "meter-out"]) showLevel($(id), 0);
}
