// Live audio over one WebSocket: PCM goes out, text comes in. Does not touch the microphone or the page.

import { sentence } from "./sentence.js";

const OPEN_SECONDS = 10;
const FINISH_SECONDS = 30; // since the last message of the server, after the end of the audio
// Seconds of audio that are not sent yet:
const SLOW_SECONDS = 5;
const STUCK_SECONDS = 60;

const CLOSED = {
  1001: "The server is closing.",
  1008: "The server refused the recording.",
  1009: "The server refused the recording: a message was too large.",
  1011: "The server failed.",
  1013: "The server is busy. Try again in a moment.",
};
const LOST = "The connection to the server was lost.";
const UNREACHED = "The server cannot be reached.";
const UNFINISHED = `The server sent nothing for ${FINISH_SECONDS} s.`;

/** Describe how a session ended: `kind` is done, key (missing or wrong) or failed. */
function outcome(code, error, opened) {
  const kind = error?.type === "authentication_error" ? "key" : code === 1000 && !error ? "done" : "failed";
  const message = kind === "done" ? "" : sentence(error?.message) || CLOSED[code] || (opened ? LOST : UNREACHED);
  return { kind, message };
}

export class LiveSession {
  /**
   * `rate`: samples a second of the audio given to `send`. `terms`: names and words to expect. `fields`: more fields of the start message.
   * `onSegment({ id, start, heard, stable, tail, final, words, turn })`: times are seconds; only a final has words, and `turn` is there where a pause was judged. `onEnd({ kind, message })` comes once, last. Throws SyntaxError for a key that no browser can send.
   */
  constructor({ rate, key, terms, fields, onSegment, onEnd }) {
    this.rate = rate;
    this.onSegment = onSegment;
    this.onEnd = onEnd;
    this.waiting = []; // until the socket is open
    this.ended = false;
    this.error = null;
    const address = new URL("v1/stream", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    // Browsers set no headers on a WebSocket: the key travels as a subprotocol.
    this.socket = key ? new WebSocket(address, ["asrloop", `openai-insecure-api-key.${key}`]) : new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.opened = false;
    this.socket.onopen = () => this.#open();
    this.socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    this.socket.onclose = ({ code }) => this.#end(outcome(code, this.error, this.opened));
    this.#expect(OPEN_SECONDS, UNREACHED);
    this.#send(JSON.stringify({ type: "start", sample_rate: rate, word_times: true, key_terms: terms, ...fields }));
  }

  /** Give an ArrayBuffer of 16-bit PCM. */
  send(pcm) {
    if (this.finished) return;
    this.#send(pcm);
    if (this.#behind > STUCK_SECONDS) this.#fail(LOST);
  }

  /** End the audio: the last finals follow, then onEnd. */
  finish() {
    if (this.finished || this.ended) return;
    this.finished = true;
    this.#send(JSON.stringify({ type: "end" }));
    if (this.opened) this.#expect(FINISH_SECONDS, UNFINISHED);
  }

  /** True while the network is slower than the audio. */
  get slow() {
    return this.#behind > SLOW_SECONDS;
  }

  get #behind() {
    return this.socket.bufferedAmount / 2 / this.rate;
  }

  #open() {
    this.opened = true;
    clearTimeout(this.timer);
    if (this.finished) this.#expect(FINISH_SECONDS, UNFINISHED);
    for (const each of this.waiting.splice(0)) this.socket.send(each);
  }

  #send(message) {
    const { readyState } = this.socket;
    if (readyState === WebSocket.CONNECTING) this.waiting.push(message);
    else if (readyState === WebSocket.OPEN) this.socket.send(message); // else onclose follows
  }

  #take(event) {
    if (event.error) {
      this.error = event.error;
    } else if (typeof event.segment === "number") {
      const [start, heard] = event.times;
      const { segment: id, stable, tail, final, words, turn } = event;
      this.onSegment({ id, start, heard, stable, tail, final, words, turn });
    }
    if (this.finished) this.#expect(FINISH_SECONDS, UNFINISHED);
  }

  #expect(seconds, otherwise) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#fail(otherwise), 1000 * seconds);
  }

  #fail(message) {
    this.#end({ kind: "failed", message });
  }

  #end(how) {
    clearTimeout(this.timer);
    if (this.ended) return;
    this.ended = true;
    this.socket.close();
    this.onEnd(how);
  }
}
