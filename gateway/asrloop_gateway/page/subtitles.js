// Segments as TXT, SRT, VTT and JSON. A segment is { start, end, text, speaker }, with times in seconds; speaker is a name or "".

import { gap } from "./spacing.js";

function clock(seconds, mark) {
  const milliseconds = Math.round(1000 * Math.max(0, seconds));
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  const rest = String(milliseconds % 1000).padStart(3, "0");
  return `${two(milliseconds / 3_600_000)}:${two((milliseconds / 60_000) % 60)}:${two((milliseconds / 1000) % 60)}${mark}${rest}`;
}

// An empty line would end a cue.
const oneLine = (text) => text.split(/\s+/).filter(Boolean).join(" ");

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const named = (speaker, text) => (speaker ? `${oneLine(speaker)}: ${text}` : text);
const voiced = (speaker, text) => (speaker ? `<v ${escaped(oneLine(speaker))}>${text}` : text);

/** Return what each speaker says until the next one does; without speakers each segment. */
function turns(segments) {
  const found = [];
  for (const { text, speaker } of segments) {
    const last = found.at(-1);
    const said = oneLine(text);
    if (speaker && last?.speaker === speaker) last.text += gap(last.text, said) + said;
    else found.push({ text: said, speaker });
  }
  return found;
}

export const FORMATS = {
  txt: {
    type: "text/plain",
    write: (segments) => turns(segments).map(({ text, speaker }) => `${named(speaker, text)}\n`).join(""),
  },
  srt: {
    type: "application/x-subrip",
    write: (segments) =>
      segments
        .map(({ start, end, text, speaker }, index) => {
          const times = `${clock(start, ",")} --> ${clock(end, ",")}`;
          return `${index + 1}\n${times}\n${named(speaker, oneLine(text))}\n\n`;
        })
        .join(""),
  },
  vtt: {
    type: "text/vtt",
    write: (segments) =>
      "WEBVTT\n\n" +
      segments
        .map(({ start, end, text, speaker }) => {
          const times = `${clock(start, ".")} --> ${clock(end, ".")}`;
          return `${times}\n${voiced(speaker, escaped(oneLine(text)))}\n\n`;
        })
        .join(""),
  },
  json: {
    type: "application/json",
    write: (segments) => {
      const told = segments.map(({ start, end, text, speaker }) => ({ start, end, text: oneLine(text), ...(speaker && { speaker }) }));
      return `${JSON.stringify({ segments: told }, null, 2)}\n`;
    },
  },
};

/** Format seconds as 1:02 or 1:02:03. */
export function shortClock(seconds) {
  const whole = Math.floor(Math.max(0, seconds));
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return whole < 3600
    ? `${minutes}:${two(whole % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}
