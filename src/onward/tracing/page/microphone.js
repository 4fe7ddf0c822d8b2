// Records from the microphone. The samples stay in the page.

const PROCESSOR = `registerProcessor("capture", class extends AudioWorkletProcessor {
  process([[samples]]) {
    if (samples) this.port.postMessage(samples.slice());
    return true;
  }
})`;

const REFUSALS = {
  NotAllowedError:
    "The browser did not let this page use the microphone. Allow it in the browser's settings for this page, then record again.",
  NotFoundError: "The browser found no microphone. Connect one, then record again.",
  NotReadableError: "The microphone is in use by another program. Close that program, then record again.",
};

export const UNAVAILABLE =
  "The browser offers the microphone only to pages that are opened over https, or from this machine as by onward explore.";

/** Whether the browser offers a microphone to this page: it does over https and on this machine. */
export const available = () => Boolean(navigator.mediaDevices?.getUserMedia && globalThis.AudioWorkletNode);

/** Record for some seconds: the samples and their rate. Throws an Error that tells the reader what to do. */
export async function record(seconds, started) {
  // The features describe the raw sound, so no processing of calls.
  const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio }).catch((error) => {
    throw new Error(REFUSALS[error.name] ?? `The microphone cannot be used: ${error.message}`);
  });
  const context = new AudioContext(), blocks = [];
  const script = URL.createObjectURL(new Blob([PROCESSOR], { type: "text/javascript" }));
  try {
    await context.audioWorklet.addModule(script);
    const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => blocks.push(data);
    context.createMediaStreamSource(stream).connect(node);
    await context.resume();
    started();
    await new Promise((done) => setTimeout(done, seconds * 1000));
    return { samples: Float32Array.from(blocks.flatMap((block) => [...block])), rate: context.sampleRate };
  } finally {
    URL.revokeObjectURL(script);
    for (const track of stream.getTracks()) track.stop();
    await context.close();
  }
}
