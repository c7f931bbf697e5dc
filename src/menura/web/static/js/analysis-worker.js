import { contour, envelope, spectrogram } from "./analysis.js";

self.onmessage = ({ data: { id, samples, columns } }) => {
  self.postMessage({ id, envelope: envelope(samples, columns), spectrogram: spectrogram(samples, columns), contour: contour(samples) });
};
