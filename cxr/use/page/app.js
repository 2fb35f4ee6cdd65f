// Connects the controls with the networks and the viewer.

const $ = (id) => document.getElementById(id);
const SYSTEM = JSON.parse($("system").textContent);
const TICKS = [0.01, 0.1, 0.25, 0.5, 1];
const viewer = new Viewer($("canvas"));
const state = { opened: false, image: null, name: "", scores: null, chosen: null };
const networks = loadNetworks(SYSTEM);
let turn = Promise.resolve(); // images are scored one after the other

const percent = (value) => (value < 0.0995 ? (100 * value).toFixed(1) : Math.round(100 * value)) + "%";
const place = (value) => `${100 * Math.sqrt(Math.max(0, Math.min(1, value)))}%`;
const readable = (finding) => finding.replaceAll("_", " ");
const threshold = (k, point = $("point").value) => SYSTEM.operating_points[point]?.[SYSTEM.findings[k]] ?? null;
const shown = () => state.scores.calibrated ?? state.scores.score;
const highest = () => shown().indexOf(Math.max(...shown()));
const onBar = (value, k) => (SYSTEM.calibration ? calibrate(SYSTEM, value, k) : value);
const isAbove = (k) => threshold(k) !== null && state.scores.score[k] >= threshold(k);

function say(message, error = false) {
  $("status").textContent = message;
  $("status").classList.toggle("error", error);
}

function part(name, styles = {}) {
  const element = make("span", "", { class: name });
  Object.assign(element.style, styles);
  return element;
}

async function open(file) {
  if (!file) return;
  state.opened = true;
  turn = turn.then(async () => {
    clear();
    $("empty").hidden = true;
    state.name = file.name;
    say(text("scoring", { file: file.name }));
    await new Promise((resolve) => setTimeout(resolve));
    try {
      state.image = await decode(file);
      viewer.show(state.image);
      $("drop").hidden = true;
      $("canvas").setAttribute("aria-label", text("filmOf", { file: file.name, ...state.image }));
      readControls();
      await score();
    } catch (error) {
      fail(error, file.name);
    }
  });
  await turn;
}

// Shows neither a film nor scores.
function clear() {
  Object.assign(state, { image: null, scores: null, chosen: null });
  viewer.clear();
  $("canvas").setAttribute("aria-label", text("empty"));
  showScores();
}

function fail(error, file) {
  clear();
  $("drop").hidden = false;
  const known = error instanceof Refused;
  say(known ? text(error.key, { file, ...error.values }) : text("failed", { reason: error.message ?? error }), true);
}

async function score() {
  state.scores = await scoreImage(SYSTEM, await networks, state.image, attributes());
  state.chosen ??= highest();
  showScoresAndStatus();
}

function showScoresAndStatus() {
  showScores();
  const known = [...SYSTEM.findings.keys()].filter((k) => threshold(k) !== null);
  say(
    text("scored", {
      file: state.name,
      count: shown().length,
      finding: readable(SYSTEM.findings[highest()]),
      value: percent(shown()[highest()]),
      reached: known.length ? text("reached", { count: known.filter(isAbove).length }) : "",
      warnings: state.scores.warnings.length ? text("warned", { warnings: state.scores.warnings.join("; ") }) : "",
    }),
    state.scores.warnings.length > 0,
  );
}

// Age in centuries, male, female, PA, AP; unknown is NaN and zeros. An age out of range is unknown, and marked.
function attributes() {
  const is = (id, value) => Number($(id).value === value);
  const age = $("age").validity.valid ? $("age").valueAsNumber / 100 : NaN;
  return [age, is("sex", "male"), is("sex", "female"), is("view", "pa"), is("view", "ap")];
}

function showScores() {
  const found = state.scores;
  $("empty").hidden = Boolean(found);
  $("detail").hidden = $("axis").hidden = $("axis-title").hidden = !found;
  const order = found ? [...SYSTEM.findings.keys()].sort((a, b) => shown()[b] - shown()[a]) : [];
  const focused = document.activeElement?.dataset?.place;
  $("findings").replaceChildren(...order.map((k) => make("li", row(k))));
  if (focused !== undefined) $("findings").querySelector(`[data-place="${focused}"]`)?.focus();
  const warnings = found?.warnings ?? [];
  $("warnings").hidden = !warnings.length;
  $("warnings").querySelector("ul").replaceChildren(...warnings.map((warning) => make("li", warning)));
  if (!found) {
    $("attention-note").textContent = "";
    return viewer.showMaps([]);
  }
  showDetail(state.chosen);
  showAttention();
}

function row(k) {
  const value = shown()[k];
  const at = threshold(k);
  const limit = at === null ? "" : percent(onBar(at, k));
  const call = at === null ? text("undefined") : text(isAbove(k) ? "above" : "below", { threshold: limit });
  const finding = readable(SYSTEM.findings[k]);
  const bar = make("span", part("fill", { width: place(value) }), { class: "bar", title: call, "aria-hidden": true });
  for (const point of Object.keys(SYSTEM.operating_points)) {
    const other = threshold(k, point);
    if (other === null || point === $("point").value) continue;
    bar.append(part("mark", { left: place(onBar(other, k)) }));
  }
  if (at !== null) bar.append(part("mark chosen", { left: place(onBar(at, k)) }));
  const content = [
    make("span", finding, { class: "name" }),
    bar,
    make("span", percent(value), { class: "value" }),
    make("span", isAbove(k) ? text("aboveShort") : "", { class: "call", "aria-hidden": true }),
    make("span", call, { class: "hidden" }),
  ];
  const button = make("button", content, {
    type: "button",
    class: isAbove(k) ? "row above" : "row",
    "aria-pressed": k === state.chosen,
    "data-place": k,
    "data-finding": SYSTEM.findings[k],
    "data-score": state.scores.score[k],
    "data-shown": value,
  });
  button.addEventListener("click", () => {
    state.chosen = k;
    showScores();
  });
  return button;
}

// Scores of the members and of the system before calibration, where the threshold applies.
function showDetail(k) {
  const found = state.scores;
  const each = found.members.map((scores) => scores[k]);
  const finding = readable(SYSTEM.findings[k]);
  const at = threshold(k);
  const [low, high] = [Math.min(...each), Math.max(...each)];
  const line = (name, parts, value, kind = "") =>
    make("tr", [make("th", name, { scope: "row" }), make("td", make("div", parts, { class: "bar" })),
      make("td", value.toFixed(4))], { class: kind });
  const several = each.length > 1;
  const dot = (value) => part("dot", { left: place(value) });
  const whole = [part("range", { left: place(low), width: `calc(${place(high)} - ${place(low)})` }), dot(found.score[k])];
  if (at !== null) whole.unshift(part("mark chosen", { left: place(at) }));
  const rows = several ? each.map((value, m) => line(SYSTEM.members[m].name, [dot(value)], value)) : [];
  const parts = [
    make("h3", text("detail", { finding })),
    make("table", make("tbody", [line(text(several ? "system" : "single"), whole, found.score[k], "whole"), ...rows])),
  ];
  const mean = each.reduce((sum, value) => sum + value, 0) / each.length;
  const deviation = Math.sqrt(each.reduce((sum, value) => sum + (value - mean) ** 2, 0) / each.length);
  const exact = (value) => value.toFixed(3);
  const notes = [];
  if (several) notes.push(text("spread", { low: exact(low), high: exact(high), deviation: exact(deviation) }));
  if (at !== null) notes.push(text("threshold", { point: $("point").value, threshold: exact(at) }));
  if (SYSTEM.calibration?.slope[k] < 0) notes.push(text("reversed"));
  const auroc = SYSTEM.auroc?.values[SYSTEM.findings[k]];
  if (auroc != null) notes.push(text("auroc", { split: SYSTEM.auroc.split, value: auroc.toFixed(3) }));
  $("detail").replaceChildren(...parts, make("p", notes.join(" "), { class: "quiet" }));
}

function showAttention() {
  const whose = $("whose").value;
  const all = state.scores.maps.map((map) => attentionOf(map, state.chosen));
  viewer.showMaps((whose === "" ? all : [all[Number(whose)]]).filter(Boolean));
  const finding = readable(SYSTEM.findings[state.chosen]);
  const mapped = SYSTEM.members.filter(({ maps }, m) => maps && (whose === "" || m === Number(whose)));
  const shared = mapped.filter(({ maps }) => maps === "heads");
  let key = shared.length ? "attentionMixed" : "attentionFindings";
  if (shared.length === mapped.length) key = mapped.length ? "attentionHeads" : "noAttention";
  $("attention-note").textContent = text(key, { finding, members: shared.map(({ name }) => name).join(", ") });
}

function readControls() {
  $("level").value = viewer.level;
  $("width").value = viewer.width;
  $("zoom").value = 100 * Math.log2(viewer.zoom);
  $("zoom").setAttribute("aria-valuetext", text("factor", { factor: viewer.zoom.toFixed(1) }));
  $("invert").setAttribute("aria-pressed", viewer.inverted);
}

function change(changes) {
  viewer.set(changes);
  readControls();
}

const zoomBy = (factor) => change({ zoom: Math.max(1, Math.min(8, viewer.zoom * factor)) });

function reset() {
  viewer.reset();
  change({});
}

function prepare() {
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  $("name").textContent = text("title", { name: SYSTEM.name });
  $("about").textContent = text("about", { name: SYSTEM.name, digest: SYSTEM.digest });
  $("local").textContent = text(SYSTEM.served ? "localServed" : "local");
  $("api").hidden = !SYSTEM.served;
  $("canvas").setAttribute("aria-label", text("empty"));
  $("axis-title").textContent = text(SYSTEM.calibration ? "calibratedAxis" : "scoreAxis");
  $("axis").append(...TICKS.map((value) => Object.assign(part("", { left: place(value) }), { textContent: `${100 * value}%` })));
  const options = (id, pairs) => $(id).append(...pairs.map(([value, label]) => make("option", label, { value })));
  const points = Object.keys(SYSTEM.operating_points);
  options("point", points.length ? points.map((name) => [name, name]) : [["", text("noPoint")]]);
  if (points.includes("youden")) $("point").value = "youden";
  options("sex", ["unknown", "male", "female"].map((key) => [key, text(key)]));
  options("view", ["unknown", "pa", "ap"].map((key) => [key, text(key)]));
  $("patient").hidden = !SYSTEM.members.some((member) => member.attributes);
  const mapped = [...SYSTEM.members.entries()].filter(([, { maps }]) => maps);
  options("whose", [...(mapped.length > 1 ? [["", text("allMembers")]] : []), ...mapped.map(([m, { name }]) => [m, name])]);
  $("whose-label").hidden = mapped.length < 2;
  $("opacity").disabled = !mapped.length;
  readControls();
  showScores();
  const networks = SYSTEM.members.map(({ file, sha256 }) => make("li", [make("code", sha256), ` ${file}`]));
  const checksums = [make("h3", text("checksums")), make("p", [text("digest"), make("code", SYSTEM.digest)]), make("ul", networks)];
  $("card").querySelector("article").append(...renderCard(JSON.parse($("card-text").textContent)), ...checksums);
}

function connect() {
  const on = (id, kind, act) => $(id).addEventListener(kind, act);
  on("open", "click", () => $("file").click());
  on("file", "change", (event) => open(event.target.files[0]).then(() => (event.target.value = "")));
  on("theme", "click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark" ||
      (document.documentElement.style.colorScheme === "" && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.style.colorScheme = dark ? "light" : "dark";
  });
  for (const name of ["level", "width"]) on(name, "input", (event) => change({ [name]: Number(event.target.value) }));
  on("zoom", "input", (event) => change({ zoom: 2 ** (event.target.value / 100) }));
  on("opacity", "input", (event) => viewer.set({ opacity: event.target.value / 100 }));
  on("invert", "click", () => change({ inverted: !viewer.inverted }));
  on("reset", "click", reset);
  on("whose", "change", () => state.scores && showScores());
  on("point", "change", () => state.scores && showScoresAndStatus());
  for (const name of ["age", "sex", "view"]) {
    on(name, "change", () => (turn = turn.then(() => state.image && score()).catch((error) => fail(error, state.name))));
  }
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("stage").classList.add("over");
  });
  document.addEventListener("dragleave", () => $("stage").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    const { files } = event.dataTransfer;
    if (files.length > 1) say(text("several", { count: files.length }), true);
    else open(files[0]);
  });
  on("canvas", "wheel", (event) => {
    event.preventDefault();
    zoomBy(2 ** (-event.deltaY / 400));
  });
  on("canvas", "pointerdown", (event) => event.target.setPointerCapture(event.pointerId));
  on("canvas", "pointermove", (event) => {
    if (!event.buttons) return;
    const [right, down] = [event.movementX, event.movementY];
    if (!event.shiftKey) viewer.move(right / event.target.clientWidth, down / event.target.clientHeight);
    else change({ width: Math.max(2, Math.min(512, viewer.width + right)), level: Math.max(0, Math.min(255, viewer.level + down)) });
  });
  const keys = {
    ArrowLeft: () => viewer.move(0.05, 0), ArrowRight: () => viewer.move(-0.05, 0), ArrowUp: () => viewer.move(0, 0.05),
    ArrowDown: () => viewer.move(0, -0.05), "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(0.8),
    0: reset, i: () => change({ inverted: !viewer.inverted }),
  };
  on("canvas", "keydown", (event) => {
    const act = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
}

prepare();
connect();
say(text("loading"));
networks.then(() => state.opened || say(text("ready")), (error) => fail(error, ""));
