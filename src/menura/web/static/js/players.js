// Plays a result while it arrives, and then beside its source.

import { RATE, context } from "./audio.js";

export const LEAD = 0.02; // seconds between asking for sound and hearing it

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
