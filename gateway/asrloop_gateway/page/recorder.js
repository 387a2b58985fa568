// AudioWorklet that sends the microphone's samples as 16-bit PCM in chunks of about 100 ms, with the peak of each.
// It runs in the audio thread and knows nothing of the page or the network.

const CHUNK_SECONDS = 0.1;

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
    this.peak = 0;
  }

  send() {
    const pcm = this.chunk.slice(0, this.filled).buffer;
    this.port.postMessage({ pcm, peak: this.peak }, [pcm]);
    this.start();
  }

  process([[samples]]) {
    if (this.ended) return false;
    for (const sample of samples ?? []) {
      const clipped = Math.max(-1, Math.min(1, sample));
      this.peak = Math.max(this.peak, Math.abs(clipped));
      this.chunk[this.filled++] = Math.round(clipped * 32767);
      if (this.filled === this.chunk.length) this.send();
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
