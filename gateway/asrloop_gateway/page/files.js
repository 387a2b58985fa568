// Queue of files, sent one after another. Each has a transcript on the page that shows its progress.

import { speakerFields } from "./diarize.js";
import { askForKey, currentKey } from "./key.js";
import { shortClock } from "./subtitles.js";
import { keyTerms } from "./terms.js";
import { Transcript, announce } from "./transcript.js";
import { UploadEnded, upload } from "./upload.js";

const MOST_ATTEMPTS = 6; // for each file, while the server is busy
const SHORTEST_PAUSE = 2;

const queue = [];
let working = false;

/** True while files are being sent or transcribed. */
export const filesAtWork = () => working;

/** Add files (an iterable of File) to the queue. */
export function addFiles(files) {
  const jobs = [...files].reverse().map((file) => {
    // Reversed, because each new transcript goes on top: this keeps the order of the files.
    const transcript = new Transcript(file.name, file.name.replace(/\.[^.]+$/, ""));
    const stop = new AbortController();
    transcript.setState("Waiting");
    transcript.cancel.hidden = false;
    transcript.cancel.addEventListener("click", () => stop.abort());
    stop.signal.addEventListener("abort", () => transcript.end("Cancelled"));
    return { file, transcript, terms: keyTerms(), fields: speakerFields(), signal: stop.signal };
  });
  queue.push(...jobs.reverse());
  if (!working) work();
}

async function work() {
  working = true;
  for (let job = queue.shift(); job; job = queue.shift()) {
    if (!job.signal.aborted) await transcribe(job);
  }
  working = false;
}

async function transcribe({ file, transcript, terms, fields, signal }) {
  for (let attempt = 1; ; attempt++) {
    try {
      const done = await once(file, transcript, { terms, fields, signal });
      finish(transcript, done, file);
      return;
    } catch (error) {
      if (error.kind === "cancelled" || signal.aborted) return;
      if (error.kind === "key") {
        await keyFor(transcript, signal);
      } else if (error.kind === "busy" && attempt < MOST_ATTEMPTS) {
        await pause(transcript, signal, Math.max(SHORTEST_PAUSE, error.retryAfter));
      } else {
        transcript.setProblem(error.message);
        transcript.end("Failed");
        announce(`${transcript.title}: ${error.message}`);
        return;
      }
      if (signal.aborted) return;
    }
  }
}

async function once(file, transcript, options) {
  let text = "";
  transcript.setRunning("");
  transcript.setProgress(0);
  transcript.setState("Uploading");
  await file.slice(0, 1).arrayBuffer().catch(unreadable);
  const onSent = (fraction) => {
    if (fraction < 1) {
      transcript.setState(`Uploading, ${Math.floor(100 * fraction)} %`);
      transcript.setProgress(fraction);
    } else {
      transcript.setState("Transcribing");
      transcript.setProgress(null);
    }
  };
  const onEvent = (event) => {
    if (event.type === "transcript.progress" && event.duration > 0) {
      transcript.setState(`Transcribing, ${shortClock(event.seconds)} of ${shortClock(event.duration)}`);
      transcript.setProgress(Math.min(1, event.seconds / event.duration));
    } else if (event.type === "transcript.text.delta") {
      transcript.setRunning((text += event.delta));
    } else if (event.type === "transcript.text.segment") {
      transcript.setRunning("");
      const { id, start, end, text: said, speaker } = event;
      transcript.setSegment({ id, start, end, text: said, speaker });
    }
  };
  return upload(file, { key: currentKey(), ...options, onSent, onEvent });
}

function unreadable() {
  throw new UploadEnded("failed", "The browser cannot read this file. It may be a folder, or have changed since you chose it.");
}

function finish(transcript, done, file) {
  transcript.setRunning("");
  const seconds = done.duration ?? 0;
  if (transcript.isEmpty && done.text) transcript.setSegment({ id: 0, start: 0, end: seconds, text: done.text });
  if (done.words) transcript.setWords(done.words);
  if (!transcript.isEmpty) transcript.setSound(file);
  const length = seconds ? `, ${shortClock(seconds)}` : "";
  const state = transcript.isEmpty ? `No speech found${length}` : `Done${length}`;
  transcript.end(state);
  announce(`${transcript.title}: ${state}`);
}

async function keyFor(transcript, signal) {
  transcript.setState("Waiting for an API key");
  transcript.setProgress(undefined);
  await Promise.race([askForKey(), aborted(signal)]);
}

async function pause(transcript, signal, seconds) {
  transcript.setState(`The server is busy. Trying again in ${seconds} s`);
  transcript.setProgress(null);
  await Promise.race([new Promise((resolve) => setTimeout(resolve, 1000 * seconds)), aborted(signal)]);
}

const aborted = (signal) => new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
