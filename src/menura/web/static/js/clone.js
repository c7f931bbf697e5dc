// Make a voice from files or from a guided recording, with the level checked and consent asked.

import { call } from "./api.js";
import { decode } from "./audio.js";
import { Recorder } from "./microphone.js";
import { $, notice, onClick, onSubmit, showLevel, status } from "./page.js";
import { allVoices, loadVoices } from "./voices.js";

const ENOUGH = 10;
const CONSENT = "The person who made this voice stated that it is their own, or that its owner has agreed.";
let recorded = null;

export function open(onMade) {
  openRecorder();
  onSubmit($("clone-form"), async () => {
    const files = [...$("clone-files").files];
    if (recorded) files.push(recorded);
    if (!files.length) throw new Error("Choose at least one recording, or record yourself for ten seconds.");
    const name = $("clone-name").value.trim();
    if (!name) throw new Error("Give the voice a name.");
    const body = new FormData();
    body.append("name", name);
    if ($("clone-description").value) body.append("description", $("clone-description").value);
    body.append("remove_background_noise", $("clone-denoise").checked);
    body.append("consent", CONSENT);
    for (const file of files) body.append("files", file, file.name);
    try {
      const seconds = await heard(files);
      if (seconds < ENOUGH && !confirm(`The recordings last ${seconds.toFixed(1)} seconds; ${ENOUGH} to 60 seconds give a better likeness. Make the voice anyway?`)) return;
      $("clone-status").textContent = "Measuring the voice …";
      const made = await (await call("/v1/voices/add", { method: "POST", body })).json();
      const unlisted = await loadVoices().then(() => null, (error) => error); // It is made all the same.
      $("clone-status").textContent = "The voice is ready.";
      status("The voice is ready");
      $("clone-form").reset();
      recorded = null;
      $("clone-level").textContent = "";
      const voice = allVoices().find(({ voice_id }) => voice_id === made.voice_id);
      onMade(voice);
      if (unlisted) notice(unlisted);
      else if (voice?.recording_quality_reason) notice(`The voice is ready. ${voice.recording_quality_reason}`);
    } catch (error) {
      $("clone-status").textContent = "";
      throw error;
    }
  });
}

// Seconds of sound in all; what this browser cannot read counts as enough.
async function heard(files) {
  let seconds = 0;
  try {
    for (const file of files) if (seconds < ENOUGH) seconds += (await decode(file, 8000)).length / 8000;
  } catch {
    return ENOUGH;
  }
  return seconds;
}

// What is wrong with a recording, if anything is.
function fault(peak, seconds) {
  const decibels = 20 * Math.log10(peak + 1e-9);
  if (seconds < ENOUGH) return `Too short: ${ENOUGH} seconds are needed, these are ${seconds.toFixed(1)}. Record again.`;
  if (decibels > -0.5) return "Too loud: the recording is clipped. Move back a little and record again.";
  if (decibels < -30) return "Too quiet. Move closer, or raise the microphone's level, and record again.";
  return null;
}

function openRecorder() {
  let recorder = null;
  const finish = () => {
    const seconds = recorder.seconds();
    const peak = recorder.peak;
    const blob = recorder.stop();
    recorder = null;
    $("clone-record").classList.remove("recording");
    $("clone-record").textContent = "● Record again";
    showLevel($("clone-meter"), 0);
    const wrong = fault(peak, seconds);
    recorded = wrong ? null : new File([blob], "guided-recording.wav", { type: "audio/wav" });
    $("clone-level").textContent = wrong ? `${wrong} It is not used.` : "The level is good. It will be used.";
  };
  document.addEventListener("menura:key-refused", () => recorder && finish());
  onClick($("clone-record"), async () => {
    if (recorder) return finish();
    const opened = new Recorder((peak, seconds) => {
      showLevel($("clone-meter"), peak);
      $("clone-clock").textContent = `${seconds.toFixed(1)} s`;
    }, () => {
      if (recorder !== opened) return;
      finish();
      notice("The microphone is gone. Plug it in or choose another one, then record again.");
    });
    await opened.start();
    recorder = opened;
    $("clone-record").classList.add("recording");
    $("clone-record").textContent = "■ Stop";
    $("clone-level").textContent = `Read for at least ${ENOUGH} seconds.`;
  });
}
