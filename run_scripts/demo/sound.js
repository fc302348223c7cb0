"use strict";

// Hears a sound on this computer alone: decodes or records it, embeds it by ONNX Runtime Web, and finds the clips of
// the index that are most similar. All data are in scripts, since a page that is opened from a file can load nothing
// else: each of them calls `cola.add` with compressed bytes.
const cola = (() => {
  const SHOWN_NATS = 9;  // the range of the spectrogram, about 78 dB
  // Some of the colours of matplotlib's `magma`, from the lowest value to the highest.
  const MAGMA = [
    [0, 0, 4], [40, 17, 89], [114, 31, 129], [183, 55, 121], [241, 96, 93], [254, 176, 120], [252, 253, 191],
  ];
  const parts = {}, scripts = {};
  let settings, started;

  function add(name, text) {
    (parts[name] ??= []).push(text);
  }

  function load(name) {
    return scripts[name] ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `sound/${name}.js`;
      script.onload = resolve;
      script.onerror = () => reject(new Error(`The file ${script.src} is missing.`));
      document.head.append(script);
    });
  }

  async function take(name) {  // the bytes that were added, which are freed
    const blocks = [];
    for (const text of parts[name]) {
      const characters = atob(text), packed = new Uint8Array(characters.length);
      for (let i = 0; i < packed.length; i++) packed[i] = characters.charCodeAt(i);
      blocks.push(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip")));
    }
    delete parts[name];
    const buffers = await Promise.all(blocks.map((block) => new Response(block).arrayBuffer()));
    return new Uint8Array(await new Blob(buffers).arrayBuffer());
  }

  const numbers = async (name) => new Float32Array((await take(name)).buffer);

  async function start() {
    await Promise.all(["ort.wasm.min", ...settings.scripts].map(load));
    ort.env.wasm.numThreads = 1;  // more need headers that neither a file nor a simple server has
    ort.env.wasm.wasmBinary = await take("wasm");
    const code = new Blob([await take("mjs")], {type: "text/javascript"});
    ort.env.wasm.wasmPaths = {mjs: URL.createObjectURL(code)};
    const state = {};
    for (const name of ["encoder", "classifier"]) {
      if (parts[name]) state[name] = await ort.InferenceSession.create(await take(name));
    }
    if (parts.vectors) {
      state.vectors = new Int8Array((await take("vectors")).buffer);
      for (const name of ["scales", "mean", "deviation"]) state[name] = await numbers(name);
    }
    return state;
  }

  // Decodes an audio file to mono, at the rate of the model. The browser resamples if the file has another.
  async function decode(blob) {
    const buffer = await new OfflineAudioContext(1, 1, settings.rate).decodeAudioData(await blob.arrayBuffer());
    const samples = new Float32Array(Math.min(buffer.length, settings.seconds * settings.rate));
    for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
      const values = buffer.getChannelData(channel);
      for (let i = 0; i < samples.length; i++) samples[i] += values[i] / buffer.numberOfChannels;
    }
    return {samples, seconds: buffer.duration};
  }

  // Returns the log-mel frames of a sound, its vector if there is an index, and its scores if there is a classifier.
  async function embed(samples) {
    const state = await (started ??= start());
    const padded = new Float32Array(Math.max(samples.length, settings.shortest));
    padded.set(samples);
    const inputs = {
      waveforms: new ort.Tensor("float32", padded, [1, padded.length]),
      lengths: new ort.Tensor("int64", BigInt64Array.of(BigInt(samples.length)), [1]),
    };
    const outputs = {};
    for (const session of [state.classifier, state.encoder]) {
      if (session) Object.assign(outputs, await session.run(inputs));
    }
    return {
      logMel: outputs.log_mel.data, bands: outputs.log_mel.dims[2],
      vector: outputs.vector?.data, scores: outputs.scores?.data,
    };
  }

  // The clips of the index that are most similar to a vector, as pairs of their numbers and similarities. These are
  // the cosines of the standardised vectors, of which the index has 8 bits for each number.
  async function search(vector) {
    const {vectors, scales, mean, deviation} = await started;
    const query = vector.map((value, i) => (value - mean[i]) / deviation[i]);
    const length = Math.max(Math.hypot(...query), 1e-12);
    const similarities = scales.map((scale, row) => {
      let sum = 0;
      for (let i = 0, first = row * query.length; i < query.length; i++) sum += query[i] * vectors[first + i];
      return sum * scale / length;
    });
    const order = [...similarities.keys()].sort((a, b) => similarities[b] - similarities[a]);
    return order.slice(0, settings.top_k).map((row) => [row, similarities[row]]);
  }

  async function hear(blob) {
    const {samples, seconds} = await decode(blob);
    const heard = await embed(samples);
    const similar = heard.vector ? await search(heard.vector) : [];
    return {...heard, seconds, used: samples.length / settings.rate, similar};
  }

  // Records until `stop` is called, and calls `done` with the recording.
  async function record(done) {
    const plain = {echoCancellation: false, noiseSuppression: false, autoGainControl: false};
    const stream = await navigator.mediaDevices.getUserMedia({audio: plain});
    const recorder = new MediaRecorder(stream, {audioBitsPerSecond: 256000}), blobs = [];
    recorder.ondataavailable = (event) => blobs.push(event.data);
    recorder.onstop = () => {
      stream.getTracks().forEach((track) => track.stop());
      done(new Blob(blobs, {type: recorder.mimeType}));
    };
    recorder.start();
    return {stop: () => recorder.stop()};
  }

  function draw(canvas, {logMel, bands}) {
    const frames = logMel.length / bands, highest = logMel.reduce((a, b) => Math.max(a, b));
    canvas.width = frames;
    canvas.height = bands;
    const context = canvas.getContext("2d"), image = context.createImageData(frames, bands);
    for (let frame = 0; frame < frames; frame++) {
      for (let band = 0; band < bands; band++) {
        const value = 1 + (logMel[frame * bands + band] - highest) / SHOWN_NATS;
        const place = Math.max(value, 0) * (MAGMA.length - 1), step = Math.min(Math.floor(place), MAGMA.length - 2);
        const low = MAGMA[step], high = MAGMA[step + 1], pixel = 4 * ((bands - 1 - band) * frames + frame);
        for (let i = 0; i < 3; i++) image.data[pixel + i] = low[i] + (place - step) * (high[i] - low[i]);
        image.data[pixel + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
  }

  return {add, draw, hear, record, use: (values) => { settings = values; }};
})();
