// Gathers the microphone into blocks and hands each over with its peak; of every so many samples one, where that is
// asked for.

// A sinc under a Hann window, which keeps what is below 0.8 of the highest frequency that remains.
function lowPass(every) {
  const half = 16 * every;
  const taps = Float32Array.from({ length: 2 * half + 1 }, (_, i) => {
    const x = (0.9 * Math.PI * (i - half)) / every;
    return (x ? Math.sin(x) / x : 1) * (0.5 + 0.5 * Math.cos((Math.PI * (i - half)) / (half + 1)));
  });
  const sum = taps.reduce((total, tap) => total + tap);
  return taps.map((tap) => tap / sum);
}

class Thinner {
  constructor(every) {
    this.every = every;
    this.taps = lowPass(every);
    this.past = new Float32Array(this.taps.length - 1);
  }

  thin(samples) {
    const whole = new Float32Array(this.past.length + samples.length);
    whole.set(this.past);
    whole.set(samples, this.past.length);
    const count = Math.max(0, Math.ceil((whole.length - this.taps.length + 1) / this.every));
    this.past = whole.slice(count * this.every);
    return Float32Array.from({ length: count }, (_, k) => {
      let sum = 0;
      for (let i = 0; i < this.taps.length; i++) sum += this.taps[i] * whole[k * this.every + i];
      return sum;
    });
  }
}

class Capture extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.size = processorOptions.block;
    this.block = new Float32Array(this.size);
    this.filled = 0;
    this.thinner = processorOptions.every > 1 ? new Thinner(processorOptions.every) : null;
    this.over = false;
    this.port.onmessage = () => { this.over = true; };
  }

  process([input]) {
    if (this.over) return false;
    if (!input[0]) return true;
    const channel = this.thinner?.thin(input[0]) ?? input[0];
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
