// Sound in the browser: one audio context, decoding, recording, playing while it arrives, A/B.

import { here, unreachable } from "./api.js";

export const RATE = 24000;
export const LEAD = 0.02; // seconds between asking for sound and hearing it
let shared;

function context() {
  shared ??= new AudioContext();
  if (shared.state !== "running") shared.resume();
  return shared;
}

// One thing is heard at a time: whoever begins to sound says how to hush it.
let hushLast = () => {};

export function soundAlone(hush) {
  if (hush !== hushLast) hushLast();
  hushLast = hush;
}

export async function decode(blob, rate = RATE) {
  const buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await blob.arrayBuffer());
  const mono = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const data = buffer.getChannelData(channel);
    for (let i = 0; i < mono.length; i++) mono[i] += data[i] / buffer.numberOfChannels;
  }
  return mono;
}

export function joined(pieces) {
  const whole = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

export const toInt16 = (samples) => Int16Array.from(samples, (sample) => Math.max(-32768, Math.min(32767, Math.round(sample * 32768))));
export const toFloat = (integers) => Float32Array.from(integers, (integer) => integer / 32768);

export function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + samples.length * 2, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, samples.length * 2, true);
  return new Blob([view, toInt16(samples)], { type: "audio/wav" });
}

const WHY = {
  NotAllowedError: "This page is not allowed to use the microphone. Allow it next to the browser's address field, then try again.",
  NotFoundError: "No microphone was found. Plug one in, then try again.",
  NotReadableError: "Another program uses the microphone. Close that program, then try again.",
};

export async function openMicrophone(deviceId) {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers give the microphone only to pages on localhost or https. Open the page there, or serve it with a certificate.");
  }
  soundAlone(() => {}); // What sounds would be recorded.
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { deviceId: deviceId ? { exact: deviceId } : undefined, channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
  } catch (error) {
    throw new Error(WHY[error.name] ?? `The microphone could not be opened (${error.name}). Choose another one, then try again.`);
  }
}

const loaded = new WeakMap();
let failures = 0;

export function addWorklet(audio, name) {
  const modules = loaded.get(audio) ?? new Map();
  loaded.set(audio, modules);
  if (!modules.has(name)) {
    // A browser does not ask again for an address that failed once, so each trial has its own.
    const address = here(`/static/worklets/${name}.js${failures ? `?${failures}` : ""}`);
    modules.set(name, audio.audioWorklet.addModule(address).catch(() => {
      failures += 1;
      modules.delete(name);
      throw unreachable();
    }));
  }
  return modules.get(name);
}

// `onLost` is called when the microphone goes away.
export class Recorder {
  constructor(onLevel, onLost) {
    this.onLevel = onLevel;
    this.onLost = onLost;
    this.pieces = [];
    this.peak = 0;
  }

  async start(deviceId) {
    const audio = context();
    this.stream = await openMicrophone(deviceId);
    await addWorklet(audio, "capture").catch((error) => {
      this.stop();
      throw error;
    });
    this.stream.getAudioTracks()[0].onended = () => this.onLost?.();
    this.source = audio.createMediaStreamSource(this.stream);
    this.node = new AudioWorkletNode(audio, "capture", { numberOfOutputs: 0, processorOptions: { block: Math.round(audio.sampleRate / 50) } });
    this.node.port.onmessage = ({ data }) => {
      this.pieces.push(data.samples);
      this.peak = Math.max(this.peak, data.peak);
      this.onLevel?.(data.peak, this.seconds());
    };
    this.source.connect(this.node);
  }

  seconds() {
    return this.pieces.reduce((sum, piece) => sum + piece.length, 0) / context().sampleRate;
  }

  stop() {
    this.source?.disconnect();
    this.stream?.getTracks().forEach((track) => track.stop());
    return wav(joined(this.pieces), context().sampleRate);
  }
}

// Plays pieces one after another as they arrive, without a gap while they arrive in time.
export class Arriving {
  constructor() {
    this.audio = context();
    this.gain = this.audio.createGain();
    this.gain.connect(this.audio.destination);
    this.next = 0;
  }

  push(samples) {
    if (!samples.length) return;
    const buffer = this.audio.createBuffer(1, samples.length, RATE);
    buffer.copyToChannel(samples, 0);
    const node = this.audio.createBufferSource();
    node.buffer = buffer;
    node.connect(this.gain);
    this.next = Math.max(this.next, this.audio.currentTime + 0.03);
    node.start(this.next);
    this.next += buffer.duration;
  }

  stop(at = this.audio.currentTime) {
    this.gain.gain.setValueAtTime(0, at);
  }

  get left() {
    return Math.max(0, this.next - this.audio.currentTime);
  }
}

// Source and result side by side: both play, one is heard, so that A/B keeps the position.
export class Comparison {
  constructor(source, result) {
    this.audio = context();
    this.source = source;
    this.result = result;
    this.sides = { source: this.side(source), result: this.side(result) };
    this.duration = Math.max(source?.length ?? 0, result.length) / RATE;
    this.heard = "result";
    this.offset = 0;
    this.playing = false;
  }

  side(samples) {
    if (!samples?.length) return null;
    const buffer = this.audio.createBuffer(1, samples.length, RATE);
    buffer.copyToChannel(samples, 0);
    const gain = this.audio.createGain();
    gain.connect(this.audio.destination);
    return { buffer, gain, node: null };
  }

  get position() {
    if (!this.playing) return this.offset;
    return Math.min(this.duration, this.offset + this.audio.currentTime - this.started);
  }

  hear(name) {
    this.heard = name;
    for (const [side, parts] of Object.entries(this.sides)) {
      parts?.gain.gain.setTargetAtTime(side === name ? 1 : 0, this.audio.currentTime, 0.005);
    }
  }

  play(from = this.offset) {
    this.halt();
    context();
    this.offset = from >= this.duration ? 0 : from;
    this.started = this.audio.currentTime + LEAD;
    for (const parts of Object.values(this.sides)) {
      if (!parts || this.offset >= parts.buffer.duration) continue;
      parts.node = this.audio.createBufferSource();
      parts.node.buffer = parts.buffer;
      parts.node.connect(parts.gain);
      parts.node.start(this.started, this.offset);
    }
    this.playing = true;
    this.hear(this.heard);
  }

  halt() {
    const at = this.position;
    for (const parts of Object.values(this.sides)) {
      parts?.node?.stop();
      if (parts) parts.node = null;
    }
    this.playing = false;
    this.offset = Math.max(0, at);
  }

  seek(position) {
    const playing = this.playing;
    this.halt();
    this.offset = position;
    if (playing) this.play(position);
  }
}
