// Record button: from the microphone to the server to the page. Each recording has its own transcript.

import { Debug } from "./debug.js";
import { askForKey, currentKey } from "./key.js";
import { LiveSession } from "./live.js";
import { NoMicrophone, openMicrophone } from "./microphone.js";
import { shortClock } from "./subtitles.js";
import { keyTerms } from "./terms.js";
import { Transcript, announce } from "./transcript.js";
import { turnFields } from "./turns.js";
import { Sound } from "./wav.js";

const QUIETEST_DB = -60;
const HEARD_DB = -50;
const QUIET_SECONDS = 5; // before the page asks if it is the right microphone

const button = document.getElementById("record");
const label = document.getElementById("record-label");
const level = document.getElementById("level");
const clock = document.getElementById("clock");
const status = document.getElementById("status");
const problem = document.getElementById("problem");
const pageTitle = document.title;

let recording = null;

/** True while the microphone is on. */
export const isRecording = () => recording !== null;

function tell(text) {
  if (status.textContent !== text) status.textContent = text;
}

function complain(text) {
  problem.textContent = text;
  problem.hidden = !text;
}

function look(state, text) {
  document.body.dataset.recording = state;
  label.textContent = { idle: "Record", asking: "Cancel", on: "Stop", finishing: "Finishing" }[state];
  button.disabled = state === "finishing";
  document.title = state === "on" ? `● ${pageTitle}` : pageTitle;
  if (state !== "on") level.style.setProperty("--level", 0);
  tell(text);
}

class Recording {
  constructor() {
    this.seconds = 0;
    this.quietSince = 0;
    this.over = false;
    this.debug = new Debug();
  }

  async start() {
    look("asking", "Waiting for permission to use the microphone");
    complain("");
    try {
      this.microphone = await openMicrophone({
        onChunk: (pcm, peaks) => this.#chunk(pcm, peaks),
        onLost: () => this.stop("The microphone was disconnected."),
      });
    } catch (error) {
      if (!(error instanceof NoMicrophone)) throw error;
      return this.over || this.#end(error.message);
    }
    if (this.over) return this.microphone.stop(); // cancelled while the browser asked
    const now = new Date();
    const time = now.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    this.transcript = new Transcript(`Microphone, ${time}`, `recording-${now.toISOString().slice(0, 19).replaceAll(":", "-")}`);
    this.transcript.setState("Recording");
    this.sound = new Sound(this.microphone.rate);
    try {
      this.session = new LiveSession({
        rate: this.microphone.rate,
        key: currentKey(),
        terms: keyTerms(),
        fields: turnFields(),
        onSegment: (segment) => this.#segment(segment),
        onEnd: (outcome) => this.#ended(outcome),
      });
    } catch {
      return this.#ended({ kind: "key", message: "Browsers cannot send this API key for a recording, because of characters in it." });
    }
    return look("on", "Listening");
  }

  async stop(reason = "") {
    if (this.finishing) return;
    this.finishing = true;
    if (!this.microphone) return this.#end("");
    look("finishing", "Waiting for the last words");
    complain(reason);
    await this.microphone.stop();
    this.session.finish();
  }

  #chunk(pcm, peaks) {
    if (this.over || !this.session) return;
    this.session.send(pcm);
    this.sound.add(pcm);
    const seconds = pcm.byteLength / 2 / this.microphone.rate;
    this.debug.hear(seconds, peaks);
    this.seconds += seconds;
    clock.textContent = shortClock(this.seconds);
    const decibels = 20 * Math.log10(Math.max(...peaks, 1e-6));
    level.style.setProperty("--level", Math.min(1, Math.max(0, 1 - decibels / QUIETEST_DB)).toFixed(3));
    if (decibels > HEARD_DB) this.quietSince = this.seconds;
    if (this.finishing) return;
    if (this.session.slow) tell("The network is slow: text is delayed");
    else if (this.seconds - this.quietSince > QUIET_SECONDS) tell("No sound. Is it the right microphone?");
    else tell("Listening");
  }

  #segment(segment) {
    const { id, start, heard, stable, tail, final, words } = segment;
    this.debug.take(segment);
    this.transcript.setSegment({ id, start, end: heard, text: stable, tail, words, follow: true });
    if (final && stable.trim()) announce(stable);
  }

  async #ended({ kind, message }) {
    const { transcript } = this;
    const kept = kind !== "done" && !transcript.isEmpty ? " The text so far is kept." : "";
    const length = `, ${shortClock(this.seconds)}`;
    if (kind === "done") transcript.end(`${transcript.isEmpty ? "No speech found" : "Done"}${length}`);
    else if (transcript.isEmpty) transcript.discard();
    else transcript.end(`Ended early${length}`);
    const { wav } = this.sound;
    if (wav && !transcript.isEmpty) transcript.setSound(wav);
    this.#end(message + kept);
    if (kind === "key") {
      await askForKey();
      complain("");
      button.focus();
    }
  }

  #end(text) {
    this.over = true;
    this.microphone?.stop();
    recording = null;
    look("idle", "Press Record and speak");
    if (text) complain(text);
  }
}

button.addEventListener("click", () => {
  if (recording) {
    recording.stop();
  } else {
    recording = new Recording();
    recording.start();
  }
});
