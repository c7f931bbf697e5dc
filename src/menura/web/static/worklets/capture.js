// Gathers the microphone into blocks and hands each over with its peak.

class Capture extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.size = processorOptions.block;
    this.block = new Float32Array(this.size);
    this.filled = 0;
  }

  process([input]) {
    const channel = input[0];
    if (!channel) return true;
    for (let from = 0; from < channel.length; ) {
      const piece = channel.subarray(from, from + this.size - this.filled);
      this.block.set(piece, this.filled);
      this.filled += piece.length;
      from += piece.length;
      if (this.filled === this.size) {
        let peak = 0;
        for (const sample of this.block) peak = Math.max(peak, Math.abs(sample));
        this.port.postMessage({ samples: this.block, peak, time: currentTime }, [this.block.buffer]);
        this.block = new Float32Array(this.size);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
