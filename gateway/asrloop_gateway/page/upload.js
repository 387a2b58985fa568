// Sends one file and receives its text: an upload with progress, then server-sent events.
// Uses XMLHttpRequest, because fetch does not report upload progress.

import { sentence } from "./sentence.js";

const SILENT_SECONDS = 300; // long, because a busy server lets files wait; users can cancel

/** Error for a file without text; `kind` is key, busy, cancelled or failed. */
export class UploadEnded extends Error {
  constructor(kind, message, retryAfter = 0) {
    super(message);
    this.kind = kind;
    this.retryAfter = retryAfter;
  }
}

/** Parse a growing text of server-sent events; calls `onEvent(json)` for each. */
function eventReader(onEvent) {
  let read = 0;
  return (text) => {
    for (;;) {
      const gap = /\r?\n\r?\n/.exec(text.slice(read));
      if (!gap) return;
      const lines = text.slice(read, read + gap.index).split(/\r?\n/);
      read += gap.index + gap[0].length;
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
      if (data.length && data[0] !== "[DONE]") onEvent(JSON.parse(data.join("\n")));
    }
  };
}

function refusal(request) {
  let message = `The server answered ${request.status}.`;
  try {
    message = sentence(JSON.parse(request.responseText).error.message);
  } catch {
    // An error page of a proxy, not the server's JSON.
  }
  const kind = { 401: "key", 429: "busy", 503: "busy" }[request.status] ?? "failed";
  return new UploadEnded(kind, message, Number(request.getResponseHeader("Retry-After")) || 0);
}

/**
 * Send `file`. `terms` are names and words to expect, `fields` more fields of the form. `onSent(fraction)` reports the upload, `onEvent(event)`
 * gets each event of the response. Resolves with the last one, `transcript.text.done`. Throws UploadEnded.
 */
export function upload(file, { key, terms, fields, signal, onSent, onEvent }) {
  const form = new FormData();
  form.append("model", "default");
  form.append("response_format", "verbose_json");
  form.append("stream", "true");
  form.append("include[]", "progress");
  form.append("timestamp_granularities[]", "word");
  if (terms.length) form.append("key_terms[]", JSON.stringify(terms));
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", file);

  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let timer;
    const settle = (outcome) => {
      clearTimeout(timer);
      if (outcome instanceof Error) reject(outcome);
      else resolve(outcome);
    };
    const stop = (error) => {
      settle(error);
      request.abort();
    };
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(
        () => stop(new UploadEnded("failed", `The server sent nothing for ${SILENT_SECONDS} s.`)),
        SILENT_SECONDS * 1000,
      );
    };
    const read = eventReader((event) => {
      if (event.type === "error") stop(new UploadEnded("failed", sentence(event.error.message)));
      else if (event.type === "transcript.text.done") settle(event);
      else onEvent(event);
    });

    signal.addEventListener("abort", () => stop(new UploadEnded("cancelled", "Cancelled.")), { once: true });
    request.upload.onprogress = ({ loaded, total }) => {
      alive();
      onSent(loaded / total);
    };
    request.upload.onload = () => onSent(1);
    request.onprogress = () => {
      alive();
      if (request.status === 200) read(request.responseText);
    };
    request.onload = () => {
      if (request.status !== 200) return settle(refusal(request));
      read(request.responseText);
      return settle(new UploadEnded("failed", "The server's response was cut short. Send the file again."));
    };
    request.onerror = () => settle(new UploadEnded("failed", "The connection to the server was lost. Send the file again."));
    request.open("POST", new URL("v1/audio/transcriptions", document.baseURI));
    if (key) request.setRequestHeader("Authorization", `Bearer ${key}`);
    alive();
    request.send(form);
  });
}
