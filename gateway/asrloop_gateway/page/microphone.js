// The microphone: asks for it, and gives its sound as 16-bit PCM at the rate of the browser's own audio.

const HIGHEST_RATE = 48000; // the server takes 8000..48000

/** Why there is no microphone, in words for the person at the page. */
export class NoMicrophone extends Error {}

const REASONS = {
  NotAllowedError: "The microphone is blocked. Allow it for this page beside the address, then press Record again.",
  NotFoundError: "No microphone was found. Plug one in, then press Record again.",
  NotReadableError: "The microphone does not answer. Another program may be using it.",
};

function reason(error) {
  return new NoMicrophone(REASONS[error.name] ?? `The microphone could not be opened: ${error.message || error.name}.`);
}

async function ask() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new NoMicrophone(
      window.isSecureContext
        ? "This browser has no microphone for pages. Files work all the same."
        : "Browsers give the microphone only to pages on https:// or localhost. Files work all the same.",
    );
  }
  try {
    // What a browser does against echo and noise is made for people's ears and changes words.
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
 * Opens the microphone. `onChunk(pcm, peak)` gets an ArrayBuffer of 16-bit mono PCM about ten times a second and its
 * loudest sample, 0..1; `onLost()` is called when the microphone goes away. Gives `{ rate, stop }`; `stop()` resolves
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
    recorder.port.onmessage = ({ data }) => (data.ended ? allSent() : onChunk(data.pcm, data.peak));
    context.createMediaStreamSource(stream).connect(recorder);
    recorder.connect(context.destination); // silent; without it some browsers do not run it
    for (const track of tracks) track.addEventListener("ended", onLost);
    // A telephone that locks its screen stops the microphone.
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
