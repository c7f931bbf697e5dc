// One live stream over the socket, as docs/live.md describes it; resumes after a dropped connection.

import { liveSocket } from "./api.js";

const PATIENCE = 30000;
const STOPPED = 1012; // with the server went the stream

export class LiveSession extends EventTarget {
  constructor(voiceId, start) {
    super();
    this.voiceId = voiceId;
    this.start = start;
    this.sent = []; // what the server may not have yet, oldest first: { at, bytes }
    this.sentBytes = 0;
    this.receivedBytes = 0;
    this.asked = []; // changes that the server has not answered yet, which it does in turn
    this.live = false;
    this.ending = false; // the speaker has ended it
    this.closing = false; // the server has
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  async open() {
    this.socket = await liveSocket(this.voiceId);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => {
      const hello = this.id ? { type: "resume", session_id: this.id, received: this.receivedBytes } : { type: "start", ...this.start };
      this.socket.send(JSON.stringify(hello));
    };
    this.socket.onmessage = ({ data }) => (typeof data === "string" ? this.hear(JSON.parse(data)) : this.take(data));
    this.socket.onclose = ({ code }) => this.closed(code);
  }

  take(data) {
    this.receivedBytes += data.byteLength;
    this.tell("audio", new Int16Array(data));
  }

  hear(event) {
    if (event.type === "started") {
      this.id = event.session_id;
      this.goOn();
    } else if (event.type === "resumed") {
      for (const { at, bytes } of this.sent) {
        if (at + bytes.byteLength > event.expected) this.socket.send(bytes.slice(Math.max(0, event.expected - at)));
      }
      this.goOn();
    } else if (event.type === "changed") {
      this.asked.shift();
    } else if (event.type === "error" && this.live && this.asked.shift()) {
      // A change that is refused leaves the stream as it was.
      return this.tell("refused", event);
    } else if (event.type === "error" || event.type === "ended") {
      this.closing = true;
    }
    this.tell(event.type, event);
  }

  push(bytes) {
    this.sent.push({ at: this.sentBytes, bytes });
    this.sentBytes += bytes.byteLength;
    const oldest = this.sentBytes - this.start.input.sample_rate * 2 * (PATIENCE / 1000);
    while (this.sent[0].at + this.sent[0].bytes.byteLength < oldest) this.sent.shift();
    if (this.live && this.socket.readyState === WebSocket.OPEN) this.socket.send(bytes);
  }

  // Nobody can tell whether a change that was sent as the connection broke has arrived, so it is asked for again, and so
  // is the end.
  goOn() {
    this.live = true;
    const asked = this.asked;
    this.asked = [];
    if (asked.length) this.change(Object.assign({}, ...asked));
    if (this.ending) this.socket.send(JSON.stringify({ type: "end" }));
  }

  change(detail) {
    this.asked.push(detail);
    if (this.live) this.socket.send(JSON.stringify({ type: "change", ...detail }));
  }

  async closed(code) {
    const wasLive = this.live;
    this.live = false;
    if (this.closing) return this.tell("closed");
    if (code === STOPPED) return this.tell("error", { detail: { message: "The server was stopped. Start again when it is back." } });
    if (!this.id) return this.tell("error", { detail: { message: "The server closed the connection. Check its log, then start again." } });
    if (wasLive) {
      this.lostAt = performance.now();
      this.tell("lost");
    }
    if (performance.now() - this.lostAt > PATIENCE) return this.tell("error", { detail: { message: "The connection was lost for too long. Start again." } });
    await new Promise((resolve) => setTimeout(resolve, 500));
    try {
      await this.open();
    } catch (error) {
      if (error.status === 401) this.tell("error", { detail: { message: error.message } });
      else this.closed();
    }
  }

  // While the connection is lost the end waits for it: without one the server would keep the stream waiting.
  end() {
    this.ending = true;
    if (this.live) this.socket.send(JSON.stringify({ type: "end" }));
    else if (!this.id) {
      this.closing = true;
      this.socket?.close();
    }
  }
}
