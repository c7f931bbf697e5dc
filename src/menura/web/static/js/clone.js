// Make a voice from files or from a guided recording, with the level checked and consent asked.

import { call } from "./api.js";
import { Recorder, decode } from "./audio.js";
import { $, notice, onClick, press, quiet, showLevel, status } from "./page.js";
import { loadVoices } from "./voices.js";

const ENOUGH = 10;
const CONSENT = "The person who made this voice stated that it is their own, or that its owner has agreed.";
let recorded = null;

export function open(onMade) {
  openRecorder();
  $("clone-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    quiet();
    const files = [...$("clone-files").files];
    if (recorded) files.push(recorded);
    if (!files.length) {
      notice("Choose at least one recording, or record yourself for ten seconds.");
      return;
    }
    const name = $("clone-name").value.trim();
    if (!name) {
      notice("Give the voice a name.");
      return;
    }
    const body = new FormData();
    body.append("name", name);
    if ($("clone-description").value) body.append("description", $("clone-description").value);
    body.append("remove_background_noise", $("clone-denoise").checked);
    body.append("consent", CONSENT);
    for (const file of files) body.append("files", file, file.name);
    const button = event.submitter;
    button.disabled = true;
    try {
      const seconds = await heard(files);
      if (seconds < ENOUGH && !confirm(`The recordings last ${seconds.toFixed(1)} seconds; ${ENOUGH} to 60 seconds give a better likeness. Make the voice anyway?`)) return;
      $("clone-status").textContent = "Measuring the voice …";
      const made = await (await call("/v1/voices/add", { method: "POST", body })).json();
      await loadVoices();
      $("clone-status").textContent = "The voice is ready.";
      status("The voice is ready");
      $("clone-form").reset();
      recorded = null;
      $("clone-level").textContent = "";
      onMade(made.voice_id);
    } catch (error) {
      $("clone-status").textContent = "";
      notice(error);
    } finally {
      button.disabled = false;
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

function verdict(peak, seconds) {
  const decibels = 20 * Math.log10(peak + 1e-9);
  if (seconds < ENOUGH) return `Read on: ${ENOUGH} seconds are needed, there are ${seconds.toFixed(1)} so far.`;
  if (decibels > -0.5) return "Too loud: the recording is clipped. Move back a little and record again.";
  if (decibels < -30) return "Too quiet. Move closer, or raise the microphone's level, and record again.";
  return "The level is good.";
}

function openRecorder() {
  let recorder = null;
  const finish = () => {
    const seconds = recorder.seconds();
    const peak = recorder.peak;
    const blob = recorder.stop();
    recorder = null;
    press($("clone-record"), false);
    $("clone-record").textContent = "● Record again";
    showLevel($("clone-meter"), 0);
    const good = seconds >= ENOUGH && peak < 0.95 && peak > 0.03;
    recorded = good ? new File([blob], "guided-recording.wav", { type: "audio/wav" }) : null;
    $("clone-level").textContent = `${verdict(peak, seconds)} ${good ? "It will be used." : "It is not used."}`;
  };
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
    press($("clone-record"), true);
    $("clone-record").textContent = "■ Stop";
    $("clone-level").textContent = `Read for at least ${ENOUGH} seconds.`;
  });
}
