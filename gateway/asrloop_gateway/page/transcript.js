// One transcript on the page: heading, state, lines with times, and the buttons to play, copy and save.
// It does not know where the text comes from.

import { copyText, saveFile } from "./save.js";
import { gap } from "./spacing.js";
import { Speakers } from "./speakers.js";
import { FORMATS, shortClock } from "./subtitles.js";
import { isUnsure, saidAt, split } from "./words.js";

const list = document.getElementById("transcripts");
const empty = document.getElementById("empty");
const template = document.getElementById("transcript");
const spoken = document.getElementById("spoken");
const SPOKEN_LINES = 20;

/** Have screen readers say `text` without interrupting. */
export function announce(text) {
  const line = document.createElement("p");
  line.textContent = text;
  spoken.append(line);
  while (spoken.childElementCount > SPOKEN_LINES) spoken.firstElementChild.remove();
}

function span(kind, text) {
  const element = document.createElement("span");
  element.className = kind;
  element.textContent = text;
  return element;
}

export class Transcript {
  /** `title` is the heading, `fileName` the name of saved files without extension. The newest transcript goes on top. */
  constructor(title, fileName) {
    const article = template.content.firstElementChild.cloneNode(true);
    const part = (selector) => article.querySelector(selector);
    this.article = article;
    this.state = part(".state");
    this.progress = part("progress");
    this.problem = part(".problem");
    this.audio = part("audio");
    this.lines = part(".lines");
    this.running = part(".running");
    this.footer = part("footer");
    this.cancel = part(".cancel");
    this.remove = part(".remove");
    this.speakers = new Speakers(part(".speakers"), (speaker, name) => this.#rename(speaker, name));
    this.segments = new Map();
    this.words = []; // those with times, in order, and their elements
    this.title = title;
    this.fileName = fileName;
    part("h2").textContent = title;
    article.setAttribute("aria-label", title);
    this.progress.setAttribute("aria-label", title);
    this.audio.setAttribute("aria-label", title);
    this.speakers.panel.setAttribute("aria-label", `Speakers of ${title}`);
    this.cancel.setAttribute("aria-label", `Cancel ${title}`);
    this.remove.setAttribute("aria-label", `Remove ${title}`);
    part(".copy").addEventListener("click", ({ currentTarget }) => this.#copy(currentTarget));
    for (const button of article.querySelectorAll(".save")) {
      button.setAttribute("aria-label", `Save ${title} as ${button.value.toUpperCase()}`);
      button.addEventListener("click", () => this.#save(button.value));
    }
    part(".copy").setAttribute("aria-label", `Copy the text of ${title}`);
    this.remove.addEventListener("click", () => this.discard());
    this.audio.addEventListener("timeupdate", () => this.#mark());
    this.audio.addEventListener("play", () => this.#follow());
    this.audio.addEventListener("error", () => this.#setPlayable(false)); // not every browser plays every format
    empty.hidden = true;
    empty.after(article);
  }

  get isEmpty() {
    return this.#inOrder().length === 0;
  }

  setState(text) {
    this.state.textContent = text;
  }

  /** Show progress `fraction` 0..1, null for unknown progress, undefined to hide it. */
  setProgress(fraction) {
    this.progress.hidden = fraction === undefined;
    if (typeof fraction === "number") this.progress.value = fraction;
    else this.progress.removeAttribute("value");
  }

  setProblem(text) {
    this.problem.textContent = text;
    this.problem.hidden = !text;
  }

  /** Show text that has no times yet. */
  setRunning(text) {
    this.running.textContent = text;
  }

  /**
   * Show a new or changed segment, times in seconds: `tail` may still change; `words` are those of `text`, as far as they are
   * known, when it will not; `speaker` says who speaks, "" is not known; `follow` keeps the last line in view.
   */
  setSegment({ id, start, end, text, tail = "", words = [], speaker = "", follow = false }) {
    const between = gap(text.trim(), tail.trim());
    const shown = `${text.trim()}${between}${tail.trim()}`;
    const known = this.segments.get(id);
    if (!shown && !known) return;
    const before = this.lines.lastElementChild ?? this.article;
    const atEnd = before.getBoundingClientRect().bottom <= window.innerHeight; // the reader has not scrolled away
    const line = known?.line ?? this.#newLine(start);
    this.segments.set(id, { start, end, text: shown, speaker, line });
    if (speaker) this.#showSpeaker(line, speaker);
    const parts = split(text.trim(), words).parts.map((part) => this.#part(part));
    line.lastElementChild.replaceChildren(...parts, between, span("tail", tail.trim()));
    line.hidden = !shown;
    this.footer.hidden = false;
    if (follow && atEnd) line.scrollIntoView({ block: "nearest" });
  }

  /** Mark the words of all segments, which are complete. */
  setWords(words) {
    this.words = [];
    let first = 0;
    for (const { text, line } of this.#inOrder()) {
      if (!line) continue;
      const { parts, next } = split(text, words, first);
      line.lastElementChild.replaceChildren(...parts.map((part) => this.#part(part)));
      first = next;
    }
    this.words.sort((one, other) => one.start - other.start); // channels may speak at once
  }

  /** Set the audio that a click on a line plays from there. */
  setSound(blob) {
    this.audio.src = URL.createObjectURL(blob);
    this.#setPlayable(true);
  }

  /** Mark the transcript as complete. */
  end(state) {
    this.setState(state);
    this.setProgress(undefined);
    this.cancel.hidden = true;
    this.remove.hidden = false;
    this.footer.hidden = this.isEmpty;
  }

  discard() {
    URL.revokeObjectURL(this.audio.src);
    this.article.remove();
    empty.hidden = list.querySelector("article") !== null;
  }

  #inOrder() {
    const segments = [...this.segments.values()].filter(({ text }) => text);
    if (segments.length === 0 && this.running.textContent) return [{ start: 0, end: 0, text: this.running.textContent }];
    return segments.sort((one, other) => one.start - other.start);
  }

  /** Return them with the names of their speakers. */
  #named() {
    return this.#inOrder().map((segment) => ({ ...segment, speaker: this.speakers.name(segment.speaker) }));
  }

  /** Show who speaks over a line, unless the one before has the same speaker. */
  #showSpeaker(line, speaker) {
    const who = line.querySelector(".who");
    const { name, colour } = this.speakers.of(speaker);
    who.textContent = name;
    who.dataset.colour = colour;
    who.hidden = line.previousElementSibling?.dataset.speaker === speaker;
    line.dataset.speaker = speaker;
  }

  #rename(speaker, name) {
    for (const line of this.lines.children) {
      if (line.dataset.speaker === speaker) line.querySelector(".who").textContent = name;
    }
  }

  #setPlayable(playable) {
    this.audio.hidden = !playable;
    this.article.classList.toggle("plays", playable);
    for (const time of this.lines.querySelectorAll("button")) time.disabled = !playable;
  }

  /** Return a node for a string, or for a word with its times. */
  #part(part) {
    if (typeof part === "string") return document.createTextNode(part);
    const element = span("word", part.word);
    if (isUnsure(part)) {
      element.classList.add("unsure");
      element.title = `Unsure: ${Math.round(100 * part.confidence)} %`;
    }
    this.words.push({ start: part.start, end: part.end, element });
    return element;
  }

  #newLine(start) {
    const line = document.createElement("li");
    const time = document.createElement("button");
    time.className = "time";
    time.type = "button";
    time.textContent = shortClock(start);
    time.disabled = this.audio.hidden;
    time.setAttribute("aria-label", `Play from ${shortClock(start)}`);
    const who = span("who", "");
    who.dir = "auto";
    who.hidden = true;
    const words = span("words", "");
    words.dir = "auto";
    line.append(time, who, words);
    line.addEventListener("click", () => {
      if (getSelection().isCollapsed) this.#play(start); // selecting words must not start playback
    });
    this.lines.append(line);
    return line;
  }

  #play(start) {
    if (this.audio.hidden) return;
    this.audio.currentTime = start;
    this.audio.play().catch(() => {}); // stopped at once by the next click
  }

  #mark() {
    const now = this.audio.currentTime;
    for (const { start, end, line } of this.segments.values()) line.classList.toggle("now", start <= now && now < end);
  }

  /** Mark the word that is being said, while the audio plays. */
  #follow() {
    const said = saidAt(this.words, this.audio.currentTime)?.element;
    if (said !== this.said) {
      this.said?.classList.remove("now");
      said?.classList.add("now");
      this.said = said;
    }
    if (!this.audio.paused) requestAnimationFrame(() => this.#follow());
  }

  async #copy(button) {
    const copied = await copyText(FORMATS.txt.write(this.#named()));
    button.textContent = copied ? "Copied" : "Not copied";
    announce(copied ? "Copied" : "The browser did not allow copying");
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }

  #save(ending) {
    saveFile(`${this.fileName}.${ending}`, FORMATS[ending].write(this.#named()), FORMATS[ending].type);
  }
}
