// Samples in the browser, and the one audio context and the one sound at a time that all rooms share.

export const RATE = 24000;
let shared;

export function context() {
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
