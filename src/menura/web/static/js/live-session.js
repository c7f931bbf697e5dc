// One live stream over the socket, as docs/live.md describes it; resumes after a dropped connection.

import { liveAddress } from "./api.js";

const PATIENCE = 30000;
const SILENCE = 6; // seconds without a word from the server, which says something every second
const KEPT = 45; // seconds of input: a connection may be lost unnoticed, then waited for, then be slow to open
const HASTE = 3000; // for the token: each request over a connection that the network has lost costs as much
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
    this.abandoned = []; // sockets that nothing came over any more, which the server may still hold on to
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  async open(signal) {
    const address = await liveAddress(this.voiceId, signal);
    if (this.closing) return;
    const socket = new WebSocket(address);
    this.socket = socket;
    const current = (work) => (event) => {
      if (socket === this.socket) work(event);
    };
    socket.binaryType = "arraybuffer";
    socket.onopen = current(() => {
      const hello = this.id ? { type: "resume", session_id: this.id, received: this.receivedBytes } : { type: "start", ...this.start };
      socket.send(JSON.stringify(hello));
    });
    socket.onmessage = current(({ data }) => {
      this.silent = 0;
      if (typeof data === "string") this.hear(JSON.parse(data));
      else this.take(data);
    });
    socket.onclose = current(({ code }) => this.closed(code));
    this.silent = 0;
    this.watching = setInterval(() => this.watch(), 1000);
  }

  // A network that vanishes tells nobody, and a browser would wait for it for minutes. Counted in turns of the clock, so
  // that a page which was held up itself reads first what has come. The socket is not closed, which would be a goodbye.
  watch() {
    this.silent += 1;
    if (!this.id || this.silent <= SILENCE) return;
    this.abandoned.push(this.socket);
    this.closed();
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
    } else if (event.refused === "change") {
      // It leaves the stream as it was.
      this.asked.shift();
      return this.tell("refused", event);
    } else if (event.type === "error" || event.type === "ended") {
      this.closing = true;
    }
    this.tell(event.type, event);
  }

  push(bytes) {
    this.sent.push({ at: this.sentBytes, bytes });
    this.sentBytes += bytes.byteLength;
    const oldest = this.sentBytes - this.start.input.sample_rate * 2 * KEPT;
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
    this.socket = null;
    clearInterval(this.watching);
    if (this.closing) return this.tell("closed");
    if (code === STOPPED) return this.fail("The server was stopped. Start again when it is back.");
    if (!this.id) return this.fail("The server closed the connection. Check its log, then start again.");
    if (wasLive) {
      this.lostAt = performance.now();
      this.tell("lost");
    }
    if (performance.now() - this.lostAt > PATIENCE) return this.fail("The connection was lost for too long. Start again.");
    await new Promise((resolve) => setTimeout(resolve, 500));
    try {
      await this.open(AbortSignal.timeout(HASTE));
    } catch (error) {
      if (error.status === 401) this.fail(error.message);
      else this.closed();
    }
  }

  fail(message) {
    for (const socket of this.abandoned) socket.close();
    this.tell("error", { detail: { message } });
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
