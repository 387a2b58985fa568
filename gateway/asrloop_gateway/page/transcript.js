// One transcript on the page: heading, state, lines with times, and the buttons to play, copy and save.
// It does not know where the text comes from.

import { copyText, saveFile } from "./save.js";
import { FORMATS, shortClock } from "./subtitles.js";

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
    this.segments = new Map();
    this.title = title;
    this.fileName = fileName;
    part("h2").textContent = title;
    article.setAttribute("aria-label", title);
    this.progress.setAttribute("aria-label", title);
    this.audio.setAttribute("aria-label", title);
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

  /** Show a new or changed segment, times in seconds: `tail` may still change; `follow` keeps the last line in view. */
  setSegment({ id, start, end, text, tail = "", follow = false }) {
    const shown = `${text} ${tail}`.trim();
    const known = this.segments.get(id);
    if (!shown && !known) return;
    const before = this.lines.lastElementChild ?? this.article;
    const atEnd = before.getBoundingClientRect().bottom <= window.innerHeight; // the reader has not scrolled away
    const line = known?.line ?? this.#newLine(start);
    this.segments.set(id, { start, end, text: shown, line });
    line.lastElementChild.replaceChildren(text.trim(), text.trim() && tail.trim() ? " " : "", span("tail", tail.trim()));
    line.hidden = !shown;
    this.footer.hidden = false;
    if (follow && atEnd) line.scrollIntoView({ block: "nearest" });
  }

  /** Set the audio that a click on a line plays from there. Call before adding segments. */
  setSound(blob) {
    this.sound = blob;
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

  #openSound() {
    this.audio.src = URL.createObjectURL(this.sound);
    this.audio.hidden = false;
    this.article.classList.add("plays");
    this.audio.addEventListener("error", () => {
      // Not every browser plays every format.
      this.audio.hidden = true;
      this.article.classList.remove("plays");
      for (const time of this.lines.querySelectorAll("button")) time.disabled = true;
    });
  }

  #newLine(start) {
    if (this.sound && !this.audio.src) this.#openSound();
    const line = document.createElement("li");
    const time = document.createElement(this.audio.hidden ? "span" : "button");
    time.className = "time";
    time.textContent = shortClock(start);
    if (time instanceof HTMLButtonElement) {
      time.type = "button";
      time.setAttribute("aria-label", `Play from ${shortClock(start)}`);
    }
    const words = span("words", "");
    words.dir = "auto";
    line.append(time, words);
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

  async #copy(button) {
    const copied = await copyText(FORMATS.txt.write(this.#inOrder()));
    button.textContent = copied ? "Copied" : "Not copied";
    announce(copied ? "Copied" : "The browser did not allow copying");
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }

  #save(ending) {
    saveFile(`${this.fileName}.${ending}`, FORMATS[ending].write(this.#inOrder()), FORMATS[ending].type);
  }
}
