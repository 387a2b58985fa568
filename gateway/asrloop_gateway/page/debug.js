// With ?debug in the page's address: a corner that shows how soon final texts come, and how likely a pause was a turn's end.

import { Latency } from "./latency.js";

const corner = document.getElementById("debug");
corner.hidden = !new URLSearchParams(location.search).has("debug");

/** Measures one recording and shows it. */
export class Debug {
  constructor() {
    this.latency = new Latency();
    this.turn = null;
    this.#show();
  }

  hear(seconds, peaks) {
    this.latency.hear(seconds, peaks, performance.now());
  }

  take({ start, heard, final, turn }) {
    if (final) this.latency.final(start, heard, performance.now());
    this.turn = turn ?? this.turn;
    this.#show();
  }

  #show() {
    const { last, median, measured } = this.latency;
    const times = measured.length ? `${Math.round(last)} ms, median ${Math.round(median)} ms of ${measured.length}` : "none yet";
    const turn = this.turn === null ? "" : `. Turn over: ${this.turn.toFixed(2)}`;
    corner.textContent = `End of speech to final text: ${times}${turn}`;
  }
}
