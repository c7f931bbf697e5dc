// Every call of the contract through the official JavaScript SDK.
//
//     ELEVENLABS_API_KEY=... node calls.mjs BASE_URL FOLDER
//
// Prints one JSON object: for each check null, or what went wrong. Nothing but the base URL and the
// key differs from a program for the original.

import assert from "node:assert/strict";
import { createReadStream, readFileSync } from "node:fs";
import path from "node:path";
import { ElevenLabsClient, ElevenLabsError, ElevenLabs } from "@elevenlabs/elevenlabs-js";

const [baseUrl, folder] = process.argv.slice(2);
const GEORGE = "JBFqnCBsd6RMkjVDRZzb";
const read = (name) => readFileSync(path.join(folder, name));
const SPEECH = read("speech.wav");
const SHORT = read("short.wav");
const SHORT_SECONDS = 1.2;

const client = new ElevenLabsClient({ baseUrl });
const checks = {};

async function joined(stream) {
  const pieces = [];
  for await (const piece of await stream) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

function secondsOfMp3(audio, bitRate = 128_000) {
  assert.equal(audio[0], 0xff);
  return (audio.length * 8) / bitRate;
}

function checkAudio(outputFormat, audio) {
  const [codec, rate, kbits] = outputFormat.split("_");
  const expected = { pcm: 2 * rate, ulaw: +rate, alaw: +rate, wav: 2 * rate }[codec];
  if (codec === "mp3") {
    const seconds = secondsOfMp3(audio, kbits * 1000);
    // A frame or two of the encoder's own, and rounding.
    assert.ok(Math.abs(seconds - SHORT_SECONDS) < 4 * (1152 / rate), `${seconds} s`);
  } else if (codec === "opus") {
    assert.equal(audio.subarray(0, 4).toString(), "OggS");
  } else {
    const header = codec === "wav" ? 44 : 0;
    assert.equal(audio.length, Math.round(SHORT_SECONDS * expected) + header);
    if (header) assert.equal(audio.readUInt32LE(40), audio.length - 44);
  }
}

async function refused(status, code, call) {
  let error;
  try {
    const result = await call();
    if (result?.getReader) await joined(result);
  } catch (caught) {
    error = caught;
  }
  assert.ok(error instanceof ElevenLabsError, `not refused with ${status} ${code}: ${error}`);
  assert.equal(error.statusCode, status, JSON.stringify(error.body));
  const detail = error.body.detail;
  if (code !== null) {
    assert.equal(detail.code, code);
    assert.ok(detail.status && detail.message && detail.request_id.length === 32);
  }
  return detail;
}

checks.defaultArguments = async () => {
  for (const method of ["convert", "stream"]) {
    const { data, rawResponse } = await client.speechToSpeech[method](GEORGE, { audio: SPEECH }).withRawResponse();
    assert.equal(rawResponse.headers.get("content-type"), "audio/mpeg");
    assert.equal(rawResponse.headers.get("request-id"), rawResponse.headers.get("x-request-id"));
    assert.equal(rawResponse.headers.get("character-cost"), "50");
    assert.ok(rawResponse.headers.get("history-item-id"));
    assert.ok(Math.abs(secondsOfMp3(await joined(data)) - 3) < 0.1);
  }
};

checks.everyParameterAfterTheAudio = async () => {
  const call = (changes = {}) =>
    joined(
      client.speechToSpeech.stream(GEORGE, {
        audio: SPEECH,
        enableLogging: true,
        optimizeStreamingLatency: 3,
        outputFormat: "pcm_16000",
        modelId: "eleven_multilingual_sts_v2",
        voiceSettings: JSON.stringify({ stability: 0.4, similarity_boost: 0.9 }),
        seed: 5,
        removeBackgroundNoise: false,
        fileFormat: "other",
        ...changes,
      }),
    );
  const plain = await call();
  assert.equal(plain.length, 3 * 32_000);
  assert.ok(plain.equals(await call()));
  assert.ok(!plain.equals(await call({ seed: 6 })));
  assert.ok(!plain.equals(await call({ voiceSettings: JSON.stringify({ similarity_boost: 0 }) })));
  assert.ok(!plain.equals(await call({ removeBackgroundNoise: true })));
  await refused(400, "unsupported_model", () => call({ modelId: "eleven_multilingual_v2" }));
  await refused(400, "model_not_found", () => call({ modelId: "nonsense" }));
};

checks.kindsOfUpload = async () => {
  const call = (audio) => joined(client.speechToSpeech.convert(GEORGE, { audio, seed: 1 }));
  const expected = await call(SHORT);
  assert.ok(expected.equals(await call(new Blob([SHORT], { type: "audio/mp3" }))));
  assert.ok(expected.equals(await call(createReadStream(path.join(folder, "short.wav")))));
  assert.ok(expected.equals(await call(new File([SHORT], "mine.txt"))));
};

checks.rawPcmUpload = async () => {
  const pcm = client.speechToSpeech.stream(GEORGE, { audio: read("short_16000.pcm"), fileFormat: "pcm_s16le_16", seed: 1 });
  const wav = client.speechToSpeech.stream(GEORGE, { audio: read("short_16000.wav"), seed: 1 });
  assert.ok((await joined(pcm)).equals(await joined(wav)));
};

checks.voiceSettingsAsAnObject = async () => {
  const voiceSettings = { stability: 0.5 };
  const detail = await refused(400, "invalid_voice_settings", () =>
    client.speechToSpeech.convert(GEORGE, { audio: SHORT, voiceSettings }),
  );
  assert.equal(detail.param, "voice_settings");
};

checks.outputFormats = async () => {
  const formats = Object.values(ElevenLabs.SpeechToSpeechConvertRequestOutputFormat);
  const streamed = Object.values(ElevenLabs.SpeechToSpeechStreamRequestOutputFormat);
  assert.equal(formats.length, 28);
  assert.equal(streamed.length, 21);
  for (const outputFormat of formats) {
    checkAudio(outputFormat, await joined(client.speechToSpeech.convert(GEORGE, { audio: SHORT, outputFormat })));
  }
  for (const outputFormat of streamed) {
    checkAudio(outputFormat, await joined(client.speechToSpeech.stream(GEORGE, { audio: SHORT, outputFormat })));
  }
};

checks.refusals = async () => {
  const stranger = new ElevenLabsClient({ baseUrl, apiKey: "sk_wrong" });
  const convert = (audio, id = GEORGE) => client.speechToSpeech.convert(id, { audio });
  await refused(401, "invalid_api_key", () => stranger.voices.getAll());
  await refused(404, "voice_not_found", () => convert(SHORT, "nobody"));
  await refused(400, "invalid_audio_format", () => convert(Buffer.from("only words ".repeat(50))));
  await refused(400, "audio_too_long", () => convert(read("six_minutes.wav")));
  try {
    await client.voices.get("nobody");
  } catch (error) {
    assert.equal(error.requestId.length, 20);
  }
};

checks.zeroRetention = async () => {
  const before = (await client.history.list({ pageSize: 1000 })).history.length;
  const { data, rawResponse } = await client.speechToSpeech
    .convert(GEORGE, { audio: SHORT, enableLogging: false })
    .withRawResponse();
  assert.equal(rawResponse.headers.get("history-item-id"), null);
  await joined(data);
  assert.equal((await client.history.list({ pageSize: 1000 })).history.length, before);
};

checks.voices = async () => {
  const { voices } = await client.voices.getAll({ showLegacy: true });
  assert.ok(voices.length >= 16);
  for (const voice of voices) {
    assert.deepEqual(await client.voices.get(voice.voiceId, { withSettings: true }), voice);
  }
  const found = [];
  let nextPageToken;
  do {
    const page = await client.voices.search({ pageSize: 9, nextPageToken, sort: "name", sortDirection: "asc" });
    assert.equal(page.totalCount, voices.length);
    found.push(...page.voices.map((voice) => voice.voiceId));
    nextPageToken = page.nextPageToken;
    assert.equal(page.hasMore, Boolean(nextPageToken));
  } while (nextPageToken);
  assert.deepEqual(found.sort(), voices.map((voice) => voice.voiceId).sort());
  const some = await client.voices.search({
    search: "premade",
    voiceType: "default",
    category: "premade",
    gender: "female",
    age: "young",
    accent: "american",
    language: ["en", "de"],
    includeTotalCount: false,
    highQuality: false,
  });
  assert.ok(some.voices.length > 0);
  const asked = await client.voices.search({ voiceIds: [GEORGE] });
  assert.deepEqual(asked.voices.map((voice) => voice.voiceId), [GEORGE]);
  assert.deepEqual((await client.voices.getShared()).voices, []);
};

checks.settingsOfAVoice = async () => {
  const standard = await client.voices.settings.getDefault();
  assert.equal(standard.similarityBoost, 0.75);
  await client.voices.settings.update(GEORGE, { stability: 0.2 });
  const changed = await client.voices.settings.get(GEORGE);
  assert.deepEqual([changed.stability, changed.similarityBoost], [0.2, 0.75]);
  await client.voices.settings.update(GEORGE, { stability: 0.5 });
};

checks.clone = async () => {
  const made = await client.voices.ivc.create({
    name: "Mine",
    files: [SPEECH, createReadStream(path.join(folder, "speech.wav"))],
    removeBackgroundNoise: true,
    description: "From JavaScript",
    labels: { accent: "scottish" },
  });
  assert.equal(made.requiresVerification, false);
  let voice = await client.voices.get(made.voiceId);
  assert.deepEqual([voice.name, voice.category, voice.labels], ["Mine", "cloned", { accent: "scottish" }]);
  assert.deepEqual(voice.samples.map((sample) => sample.fileName), ["blob", "speech.wav"]);
  const audio = await joined(client.voices.samples.audio.get(made.voiceId, voice.samples[0].sampleId));
  assert.ok(audio.equals(SPEECH));
  checkAudio("mp3_44100_128", await joined(client.speechToSpeech.convert(made.voiceId, { audio: SHORT })));
  assert.equal((await client.voices.update(made.voiceId, { name: "Ours" })).status, "ok");
  await client.voices.update(made.voiceId, { name: "Ours", files: [SPEECH], description: "Changed" });
  voice = await client.voices.get(made.voiceId);
  assert.deepEqual([voice.name, voice.description, voice.samples.length], ["Ours", "Changed", 3]);
  assert.deepEqual(voice.labels, { accent: "scottish" });
  assert.equal((await client.samples.delete(made.voiceId, voice.samples[0].sampleId)).status, "ok");
  assert.equal((await client.voices.delete(made.voiceId)).status, "ok");
  await refused(404, "voice_not_found", () => client.voices.get(made.voiceId));
  await refused(403, "voice_access_denied", () => client.voices.delete(GEORGE));
};

checks.models = async () => {
  const models = await client.models.list();
  const ids = models.filter((model) => model.canDoVoiceConversion).map((model) => model.modelId);
  assert.ok(ids.includes("eleven_multilingual_sts_v2") && ids.includes("eleven_english_sts_v2"));
};

checks.history = async () => {
  const made = [];
  for (let count = 0; count < 3; count += 1) {
    const { data, rawResponse } = await client.speechToSpeech
      .convert(GEORGE, { audio: SHORT, outputFormat: "mp3_44100_64" })
      .withRawResponse();
    made.push([rawResponse.headers.get("history-item-id"), await joined(data)]);
  }
  const first = await client.history.list({ pageSize: 2, source: "STS" });
  assert.equal(first.hasMore, true);
  assert.deepEqual(first.history.map((item) => item.historyItemId), [made[2][0], made[1][0]]);
  const second = await client.history.list({
    pageSize: 2,
    source: "STS",
    startAfterHistoryItemId: first.lastHistoryItemId,
    voiceId: GEORGE,
    modelId: "eleven_english_sts_v2",
    sortDirection: "desc",
    dateAfterUnix: 1,
    dateBeforeUnix: Math.floor(Date.now() / 1000) + 60,
  });
  assert.equal(second.history[0].historyItemId, made[0][0]);
  const [id, audio] = made[0];
  const item = await client.history.get(id);
  assert.equal(item.characterCountChangeTo - item.characterCountChangeFrom, 20);
  assert.ok((await joined(client.history.getAudio(id))).equals(audio));
  assert.ok((await joined(client.history.download({ historyItemIds: [id] }))).equals(audio));
  const wav = await joined(client.history.download({ historyItemIds: [id], outputFormat: "wav" }));
  assert.equal(wav.subarray(0, 4).toString(), "RIFF");
  const zip = await joined(client.history.download({ historyItemIds: [id, made[1][0]] }));
  assert.equal(zip.subarray(0, 2).toString(), "PK");
  for (const [each] of made) assert.equal((await client.history.delete(each)).status, "ok");
  await refused(404, "history_item_not_found", () => client.history.get(id));
};

checks.account = async () => {
  const user = await client.user.get();
  assert.ok(user.userId && user.subscription.characterLimit > 0);
  const before = (await client.user.subscription.get()).characterCount;
  await joined(client.speechToSpeech.convert(GEORGE, { audio: SHORT }));
  assert.equal((await client.user.subscription.get()).characterCount, before + 20);
  const now = Date.now();
  const usage = await client.usage.get({
    startUnix: now - 86_400_000,
    endUnix: now + 86_400_000,
    breakdownType: "voice",
    aggregationInterval: "hour",
    metric: "request_count",
  });
  for (const values of Object.values(usage.usage)) assert.equal(values.length, usage.time.length);
};

checks.audioIsolation = async () => {
  for (const method of ["convert", "stream"]) {
    const audio = await joined(client.audioIsolation[method]({ audio: SHORT, fileFormat: "other" }));
    assert.ok(Math.abs(secondsOfMp3(audio) - SHORT_SECONDS) < 0.1);
  }
  const listed = await client.audioIsolation.list({ pageSize: 5 });
  assert.deepEqual([Array.isArray(listed.items), listed.hasMore], [true, false]);
};

checks.singleUseToken = async () => {
  assert.ok((await client.tokens.singleUse.create("tts_websocket")).token);
};

checks.serviceAccounts = async () => {
  const holder = await client.serviceAccounts.create({ name: "JavaScript robots" });
  const id = holder.serviceAccountUserId;
  const listed = await client.serviceAccounts.list();
  assert.ok(listed.serviceAccounts.some((one) => one.serviceAccountUserId === id));
  const keys = client.serviceAccounts.apiKeys;
  const made = await keys.create(id, { name: "one", permissions: ["voices_read"] });
  const robot = new ElevenLabsClient({ baseUrl, apiKey: made.xiApiKey });
  assert.ok((await robot.voices.getAll()).voices.length > 0);
  await refused(401, "missing_permissions", () => robot.models.list());
  await keys.update(id, made.keyId, { name: "two", permissions: "all", isEnabled: true });
  assert.ok((await robot.models.list()).length > 0);
  await keys.delete(id, made.keyId);
  assert.deepEqual((await keys.list(id)).apiKeys, []);
};

const results = {};
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    results[name] = null;
  } catch (error) {
    results[name] = `${error.stack}\n${JSON.stringify(error.body ?? error.errors ?? null)}`;
  }
}
console.log(JSON.stringify(results));
