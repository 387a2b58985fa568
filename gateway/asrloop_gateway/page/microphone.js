// Opens the microphone and delivers 16-bit PCM at the browser's own sample rate.

const HIGHEST_RATE = 48000; // the server takes 8000..48000

/** Error whose message tells the user why there is no microphone. */
export class NoMicrophone extends Error {}

const REASONS = {
  NotAllowedError: "The microphone is blocked. Allow it for this page in the address bar, then press Record again.",
  NotFoundError: "No microphone was found. Plug one in, then press Record again.",
  NotReadableError: "The microphone does not respond. Another program may be using it.",
};

function reason(error) {
  return new NoMicrophone(REASONS[error.name] ?? `The microphone could not be opened: ${error.message || error.name}.`);
}

async function ask() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new NoMicrophone(
      window.isSecureContext
        ? "This browser does not let pages use a microphone. You can still transcribe files."
        : "Browsers allow the microphone only on https:// pages and localhost. You can still transcribe files.",
    );
  }
  try {
    // Echo cancellation and noise suppression are made for human ears and cause wrong words.
    return await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true },
    });
  } catch (error) {
    throw reason(error);
  }
}

async function contextOf() {
  const context = new AudioContext();
  if (context.sampleRate <= HIGHEST_RATE) return context;
  await context.close();
  return new AudioContext({ sampleRate: HIGHEST_RATE });
}

/**
 * Opens the microphone. `onChunk(pcm, peaks)` gets an ArrayBuffer of 16-bit mono PCM about ten times a second and the
 * loudest samples, 0..1, of its tenths; `onLost()` is called when the microphone goes away. Gives `{ rate, stop }`; `stop()` resolves
 * after the last chunk. Throws NoMicrophone.
 */
export async function openMicrophone({ onChunk, onLost }) {
  const stream = await ask();
  const tracks = stream.getTracks();
  let context;
  try {
    context = await contextOf();
    await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url)).catch(() => {
      throw new NoMicrophone("The server cannot be reached.");
    });
    await context.resume();
    const recorder = new AudioWorkletNode(context, "recorder", { channelCount: 1, channelCountMode: "explicit" });
    let allSent;
    const ended = new Promise((resolve) => (allSent = resolve));
    recorder.port.onmessage = ({ data }) => (data.ended ? allSent() : onChunk(data.pcm, data.peaks));
    context.createMediaStreamSource(stream).connect(recorder);
    recorder.connect(context.destination); // it is silent, but some browsers only run connected nodes
    for (const track of tracks) track.addEventListener("ended", onLost);
    // Phones stop the microphone when the screen locks.
    const awake = await navigator.wakeLock?.request("screen").catch(() => null);

    const close = async () => {
      recorder.port.postMessage("stop");
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 1000))]);
      for (const track of tracks) track.stop();
      await awake?.release();
      await context.close();
    };
    let closed;
    return { rate: context.sampleRate, stop: () => (closed ??= close()) };
  } catch (error) {
    for (const track of tracks) track.stop();
    await context?.close();
    throw error instanceof NoMicrophone ? error : reason(error);
  }
}
