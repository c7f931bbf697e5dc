// The microphone, and recordings made with it.

import { here, unreachable } from "./api.js";
import { context, joined, soundAlone, wav } from "./audio.js";

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

// A track, also one that has ended, keeps in memory whom it would tell of its end.
export function release(stream) {
  for (const track of stream.getTracks()) {
    track.stop();
    track.onended = null;
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

// A worklet's node works, and stays in memory, until the worklet itself has ended.
export function endWorklet({ port }) {
  port.onmessage = null;
  port.postMessage("over");
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
    if (this.node) endWorklet(this.node);
    if (this.stream) release(this.stream);
    return wav(joined(this.pieces), context().sampleRate);
  }
}
