// One conversion, or one clone, as any program would make it: prints the number of bytes, or the
// voice's id.
//
//     ELEVENLABS_API_KEY=... node convert.mjs BASE_URL FOLDER [clone]

import { readFileSync } from "node:fs";
import path from "node:path";
import { ElevenLabsClient } from "@elevenlabs/elevenlabs-js";

const [baseUrl, folder, clone] = process.argv.slice(2);
const client = new ElevenLabsClient({ baseUrl });
if (clone) {
  const files = [readFileSync(path.join(folder, "speech.wav"))];
  console.log(JSON.stringify((await client.voices.ivc.create({ name: "Once", files })).voiceId));
} else {
  const audio = readFileSync(path.join(folder, "short.wav"));
  let size = 0;
  for await (const piece of await client.speechToSpeech.convert("JBFqnCBsd6RMkjVDRZzb", { audio })) size += piece.length;
  console.log(JSON.stringify(size));
}
