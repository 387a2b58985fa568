// Segments as TXT, SRT and VTT. A segment is { start, end, text }, with times in seconds.

function clock(seconds, mark) {
  const milliseconds = Math.round(1000 * Math.max(0, seconds));
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  const rest = String(milliseconds % 1000).padStart(3, "0");
  return `${two(milliseconds / 3_600_000)}:${two((milliseconds / 60_000) % 60)}:${two((milliseconds / 1000) % 60)}${mark}${rest}`;
}

// An empty line would end a cue.
const oneLine = (text) => text.split(/\s+/).filter(Boolean).join(" ");

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

export const FORMATS = {
  txt: { type: "text/plain", write: (segments) => segments.map(({ text }) => `${oneLine(text)}\n`).join("") },
  srt: {
    type: "application/x-subrip",
    write: (segments) =>
      segments
        .map(({ start, end, text }, index) => `${index + 1}\n${clock(start, ",")} --> ${clock(end, ",")}\n${oneLine(text)}\n\n`)
        .join(""),
  },
  vtt: {
    type: "text/vtt",
    write: (segments) =>
      "WEBVTT\n\n" +
      segments
        .map(({ start, end, text }) => `${clock(start, ".")} --> ${clock(end, ".")}\n${escaped(oneLine(text))}\n\n`)
        .join(""),
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
