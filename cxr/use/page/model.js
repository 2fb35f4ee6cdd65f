// The system in the page: networks by ONNX Runtime, then rule, calibration and operating points as cxr.use does.

async function bytesOf(id) {
  const element = document.getElementById(id);
  const { source } = element.dataset;
  if (source) {
    const answer = await fetch(new URL(source, location.origin + location.pathname)); // without a password in the address
    if (!answer.ok) throw new Error(`${source}: ${answer.status}`);
    return new Uint8Array(await answer.arrayBuffer());
  }
  const base64 = element.textContent.trim();
  const packed = Uint8Array.fromBase64?.(base64) ?? Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
  const found = await inflate([packed], "gzip", Number(element.dataset.length));
  element.remove();
  return found;
}

async function loadNetworks(system) {
  const script = new Blob([await bytesOf("runtime-script")], { type: "text/javascript" });
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(script) };
  ort.env.wasm.wasmBinary = await bytesOf("runtime");
  const networks = [];
  for (const place of system.members.keys()) {
    networks.push(await ort.InferenceSession.create(await bytesOf(`network-${place}`), { executionProviders: ["wasm"] }));
  }
  return networks;
}

// Scores one decoded image. Returns members (M arrays of L scores), score, calibrated (L or null), maps and warnings.
async function scoreImage(system, networks, image, attributes) {
  const cached = new Map();
  const [members, maps] = [[], []];
  let warnings = [];
  for (const [place, { preprocessing, maps: kind, attributes: joins }] of system.members.entries()) {
    const { size, cached: side } = preprocessing;
    if (!cached.has(side)) cached.set(side, reduced(image, side));
    const shown = view(cached.get(side), preprocessing);
    const given = { image: new ort.Tensor("uint8", Uint8Array.from(shown), [1, 1, size, size]) };
    if (joins) given.attributes = new ort.Tensor("float32", Float32Array.from(attributes), [1, 5]);
    const pooled = !place && system.detectors?.stages.length > 0;
    const outputs = ["score", ...(kind ? ["maps"] : []), ...(pooled ? ["features"] : [])];
    const found = await networks[place].run(given, outputs);
    if (!place) warnings = [...image.remarks, ...warningsOf(system.detectors, image, shown, size, found.features?.data)];
    members.push(Array.from(found.score.data));
    maps.push(kind ? { kind, data: found.maps.data, shape: found.maps.dims, preprocessing } : null);
    await new Promise((resolve) => setTimeout(resolve)); // the page stays responsive between networks
  }
  const score = ordered(system, system.findings.map((_, k) => combine(system.rule, members, k)));
  const calibrated = system.calibration && ordered(system, score.map((value, k) => calibrate(system, value, k)));
  return { members, maps, score, calibrated, warnings };
}

const expit = (value) => 1 / (1 + Math.exp(-value));
const logit = (value) => Math.log(value / (1 - value));

function combine({ kind, weights, intercept }, members, k) {
  const each = members.map((scores) => scores[k]);
  const weighted = (values) => values.reduce((sum, value, m) => sum + weights[k][m] * value, 0);
  const edge = 1e-7;
  if (kind === "max") return Math.max(...each);
  if (kind === "vote") return Math.fround(each.filter((value) => value >= 0.5).length / each.length);
  if (kind === "mean") return Math.fround(Math.min(1, Math.max(0, weighted(each))));
  return Math.fround(
    expit(weighted(each.map((value) => logit(Math.min(1 - edge, Math.max(edge, value))))) + intercept[k]),
  );
}

function calibrate({ calibration }, value, k) {
  const [slope, intercept] = [calibration.slope[k], calibration.intercept[k]];
  return Math.fround(slope === 1 && intercept === 0 ? value : expit(slope * logit(value) + intercept));
}

// No score of a finding is above that of its parent; a parent is brought into order before its children.
function ordered({ parents }, scores) {
  const bound = (k) => (parents[k] < 0 ? scores[k] : Math.min(scores[k], bound(parents[k])));
  return scores.map((_, k) => bound(k));
}

// The attention map of a finding of one member: (height, width) values stretched to 0..1, or null.
function attentionOf(map, k) {
  if (!map) return null;
  const [, count, height, width] = map.shape;
  const area = height * width;
  const values = new Float32Array(area);
  for (let head = 0; head < count; head++) {
    if (map.kind === "findings" && head !== k) continue;
    for (let place = 0; place < area; place++) values[place] += map.data[head * area + place];
  }
  const most = Math.max(...values, 1e-12);
  return { width, height, values: values.map((value) => Math.max(0, value) / most), preprocessing: map.preprocessing };
}
