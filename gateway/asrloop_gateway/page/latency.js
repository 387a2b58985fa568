// How soon final texts come after speech, by what the page hears and gets. Knows nothing of the page.

const LEAST_LEVEL = 0.003; // -50 dB of full scale
const LEAST_SHARE = 0.05; // of the loudest shortly before: speech is seldom quieter, and noise seldom louder
const HALVED_SECONDS = 5; // in which what was loudest counts half
const QUIET_SECONDS = 0.1; // behind speech, before its segment ends
const KEPT = 5000; // loud parts, at least 50 s

/** Measures one recording. Times called `now` are milliseconds of one clock, others are seconds of the recording. */
export class Latency {
  constructor() {
    this.seconds = 0;
    this.loudest = 0;
    this.loud = []; // ends of loud parts: { second, now }
    this.measured = [];
  }

  /** Take a chunk that was complete at `now`: its length and the peaks, 0..1, of its equal parts. */
  hear(seconds, peaks, now) {
    const part = seconds / peaks.length;
    peaks.forEach((peak, index) => {
      const end = (index + 1) * part;
      this.loudest = Math.max(peak, this.loudest * 0.5 ** (part / HALVED_SECONDS));
      const isLoud = peak >= Math.max(LEAST_LEVEL, LEAST_SHARE * this.loudest);
      if (isLoud) this.loud.push({ second: this.seconds + end, now: now - 1000 * (seconds - end) });
    });
    this.seconds += seconds;
    this.loud.splice(0, this.loud.length - KEPT);
  }

  /** Take a final text that came at `now` and is of the audio from `start` to `heard`. */
  final(start, heard, now) {
    const last = this.loud.findLast(({ second }) => second <= heard);
    if (!last || last.second < start || heard - last.second < QUIET_SECONDS) return; // it did not end with a pause
    this.measured.push(now - last.now);
  }

  /** Milliseconds from the end of speech to its final text; undefined before the first. */
  get last() {
    return this.measured.at(-1);
  }

  get median() {
    const sorted = [...this.measured].sort((one, other) => one - other);
    return sorted[Math.floor(sorted.length / 2)];
  }
}
