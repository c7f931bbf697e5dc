// Plays what arrives from the socket out of a short ring, and keeps that ring short: it starts after
// `prime` samples, and while more than `limit` wait it drops the oldest. The ring is emptied as fast as it
// is filled, so what a hiccup leaves in it would stay for good: what was never needed in PATIENCE blocks
// is skipped, the next block gliding over to what comes after it.

const PATIENCE = 750; // 4 s

class Playback extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.prime = processorOptions.prime;
    this.limit = processorOptions.limit;
    this.ring = new Float32Array(1 << 16);
    this.read = 0;
    this.write = 0;
    this.running = false;
    this.dropped = 0;
    this.peak = 0;
    this.blocks = 0;
    this.least = Infinity;
    this.skip = 0;
    this.over = false;
    this.port.onmessage = ({ data }) => {
      if (data === "over") this.over = true;
      else this.take(data);
    };
  }

  take(samples) {
    const mask = this.ring.length - 1;
    for (let i = 0; i < samples.length; i++) this.ring[(this.write + i) & mask] = samples[i];
    this.write += samples.length;
    const excess = this.write - this.read - this.limit;
    if (excess > 0) {
      this.read += excess;
      this.dropped += excess;
    }
  }

  process(_, [[output]]) {
    if (this.over) return false;
    const held = this.write - this.read;
    if (!this.running && held >= this.prime) this.running = true;
    if (this.running) {
      const mask = this.ring.length - 1;
      const count = Math.min(held, output.length);
      const skip = held >= this.skip + output.length ? this.skip : 0;
      this.skip = 0;
      for (let i = 0; i < count; i++) {
        output[i] = this.ring[(this.read + i) & mask];
        if (skip) output[i] += (i / count) * (this.ring[(this.read + skip + i) & mask] - output[i]);
        this.peak = Math.max(this.peak, Math.abs(output[i]));
      }
      this.read += count + skip;
      this.dropped += skip;
      if (count < output.length) this.running = false;
    }
    this.least = Math.min(this.least, held);
    if (++this.blocks % PATIENCE === 0) {
      if (this.running && this.least > 2 * this.prime) this.skip = this.least - this.prime;
      this.least = Infinity;
    }
    if (this.blocks % 8 === 0) {
      this.port.postMessage({ held, peak: this.peak, dropped: this.dropped, played: this.read });
      this.peak = 0;
    }
    return true;
  }
}

registerProcessor("playback", Playback);
