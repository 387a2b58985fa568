// Keeps the audio of a recording, so that it can be played afterwards.

const HEADER_BYTES = 44;
const BYTES = 2; // of a sample
const LONGEST_SECONDS = 3600; // 345 MB at 48 kHz
const PIECE_CHUNKS = 600; // about a minute: browsers move blobs out of memory

/** Collects chunks of 16-bit mono PCM of `rate` samples a second. */
export class Sound {
  constructor(rate) {
    this.rate = rate;
    this.bytes = 0;
    this.blobs = [];
    this.chunks = [];
  }

  add(pcm) {
    this.bytes += pcm.byteLength;
    if (this.isTooLong) {
      this.blobs = [];
      this.chunks = [];
      return;
    }
    this.chunks.push(pcm);
    if (this.chunks.length >= PIECE_CHUNKS) this.blobs.push(new Blob(this.chunks.splice(0)));
  }

  /** True for a recording of more than an hour, of which nothing is kept. */
  get isTooLong() {
    return this.bytes > LONGEST_SECONDS * this.rate * BYTES;
  }

  /** Return a WAV file, or null where there is nothing to play. */
  get wav() {
    if (this.bytes === 0 || this.isTooLong) return null;
    return new Blob([this.#header(), ...this.blobs, ...this.chunks], { type: "audio/wav" });
  }

  #header() {
    const view = new DataView(new ArrayBuffer(HEADER_BYTES));
    const text = (at, letters) => [...letters].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
    text(0, "RIFF");
    view.setUint32(4, HEADER_BYTES - 8 + this.bytes, true);
    text(8, "WAVEfmt ");
    view.setUint32(16, 16, true); // length of what follows, up to "data"
    view.setUint16(20, 1, true); // PCM
    view.setUint16(22, 1, true); // mono
    view.setUint32(24, this.rate, true);
    view.setUint32(28, this.rate * BYTES, true);
    view.setUint16(32, BYTES, true);
    view.setUint16(34, 8 * BYTES, true);
    text(36, "data");
    view.setUint32(40, this.bytes, true);
    return view.buffer;
  }
}
