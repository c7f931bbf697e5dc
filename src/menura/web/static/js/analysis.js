// What a plot needs of a signal: envelope, spectrogram, F0. Runs in a worker or on the page.

export const HOP = 240; // 10 ms at 24 kHz
export const BINS = 128;
const SIZE = 1024;

function transform(real, imaginary) {
  const n = real.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let length = 2; length <= n; length <<= 1) {
    const angle = (-2 * Math.PI) / length;
    for (let k = 0; k < length / 2; k++) {
      const cosine = Math.cos(angle * k);
      const sine = Math.sin(angle * k);
      for (let start = k; start < n; start += length) {
        const other = start + length / 2;
        const re = real[other] * cosine - imaginary[other] * sine;
        const im = real[other] * sine + imaginary[other] * cosine;
        real[other] = real[start] - re;
        imaginary[other] = imaginary[start] - im;
        real[start] += re;
        imaginary[start] += im;
      }
    }
  }
}

const hann = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));

// Levels in dB, BINS of equal width from 0 to 12 kHz for each column.
export function spectrogram(samples, columns) {
  const levels = new Float32Array(columns * BINS);
  const real = new Float64Array(SIZE);
  const imaginary = new Float64Array(SIZE);
  for (let column = 0; column < columns; column++) {
    const centre = Math.round(((column + 0.5) / columns) * samples.length);
    for (let i = 0; i < SIZE; i++) real[i] = (samples[centre - SIZE / 2 + i] ?? 0) * hann[i];
    imaginary.fill(0);
    transform(real, imaginary);
    const width = SIZE / 2 / BINS;
    for (let bin = 0; bin < BINS; bin++) {
      let power = 1e-10;
      for (let i = bin * width; i < (bin + 1) * width; i++) power += real[i] ** 2 + imaginary[i] ** 2;
      levels[column * BINS + bin] = 10 * Math.log10(power / width);
    }
  }
  return levels;
}

export function envelope(samples, columns) {
  const peaks = new Float32Array(columns * 2);
  for (let column = 0; column < columns; column++) {
    const end = Math.floor(((column + 1) / columns) * samples.length);
    for (let i = Math.floor((column / columns) * samples.length); i < end; i++) {
      peaks[column * 2] = Math.min(peaks[column * 2], samples[i]);
      peaks[column * 2 + 1] = Math.max(peaks[column * 2 + 1], samples[i]);
    }
  }
  return peaks;
}

// F0 of one window in Hz, 0 where unvoiced: the normalised difference of YIN (de Cheveigné and
// Kawahara, 2002) on a signal thinned to 6 kHz or so.
export function pitch(samples, start, rate) {
  const step = Math.max(1, Math.floor(rate / 6000));
  const thin = rate / step;
  const window = Math.floor(0.04 * thin);
  const longest = Math.floor(thin / 60);
  const x = new Float32Array(window + longest);
  let energy = 0;
  for (let i = 0; i < x.length; i++) {
    for (let k = 0; k < step; k++) x[i] += (samples[start + i * step + k] ?? 0) / step;
    energy += x[i] * x[i];
  }
  if (energy / x.length < 1e-5) return 0;
  const shortest = Math.floor(thin / 500);
  const difference = new Float32Array(longest + 1);
  let sum = 0;
  for (let lag = 1; lag <= longest; lag++) {
    let total = 0;
    for (let i = 0; i < window; i++) total += (x[i] - x[i + lag]) ** 2;
    sum += total;
    difference[lag] = sum > 0 ? (total * lag) / sum : 1;
  }
  for (let lag = shortest; lag < longest; lag++) {
    if (difference[lag] > 0.2) continue;
    while (lag + 1 < longest && difference[lag + 1] < difference[lag]) lag++;
    const [before, here, after] = [difference[lag - 1], difference[lag], difference[lag + 1]];
    const bend = before - 2 * here + after;
    return thin / (lag + (bend > 0 ? (before - after) / (2 * bend) : 0));
  }
  return 0;
}

export function contour(samples) {
  const frames = Math.floor(samples.length / HOP);
  return Float32Array.from({ length: frames }, (_, frame) => pitch(samples, frame * HOP - 480, 24000));
}
