// AudioWorklet that sends the microphone's samples as 16-bit PCM in chunks of about 100 ms, with the peaks of its tenths.
// It runs in the audio thread and knows nothing of the page or the network.

const CHUNK_SECONDS = 0.1;
const PEAKS = 10; // of a chunk; the last chunk is shorter, and its last ones are 0

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.start();
    this.ended = false;
    this.port.onmessage = () => {
      // The only message is "stop": send the rest, then `ended`.
      this.ended = true;
      this.send();
      this.port.postMessage({ ended: true });
    };
  }

  start() {
    this.chunk = new Int16Array(Math.round(sampleRate * CHUNK_SECONDS)); // little endian on every machine that browsers run on
    this.filled = 0;
    this.peaks = Array(PEAKS).fill(0);
  }

  send() {
    const pcm = this.chunk.slice(0, this.filled).buffer;
    this.port.postMessage({ pcm, peaks: this.peaks }, [pcm]);
    this.start();
  }

  process([[samples]]) {
    if (this.ended) return false;
    for (const sample of samples ?? []) {
      const clipped = Math.max(-1, Math.min(1, sample));
      const part = Math.floor((this.filled * PEAKS) / this.chunk.length);
      this.peaks[part] = Math.max(this.peaks[part], Math.abs(clipped));
      this.chunk[this.filled++] = Math.round(clipped * 32767);
      if (this.filled === this.chunk.length) this.send();
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
