// The page: photograph and words in, label map out. Words come last: a photograph is embedded once for each model.

import * as api from "./api.js";
import { photographs } from "./photographs.js";
import { View } from "./view.js";
import { advice, joined, nameOf, quoted, split } from "./words.js";

const LONGEST = 2048; // pixels of the long side that are sent, unless the full size is asked for
const FIRST = "motorcycle_left.png"; // what a newcomer sees
const PAUSE = 150; // milliseconds after a slider has moved

const $ = (id) => document.getElementById(id);
const [panes, tip, chips, input, status] = ["panes", "tip", "chips", "words", "status"].map($);

const state = {
  served: null, // of /v1/models
  photo: null, // {name, blob, bitmap}
  words: [],
  pressed: null, // the word whose score map is shown
  embedded: new Map(), // model -> promise of {id}
  results: new Map(), // model -> result
};

const views = ["pane-a", "pane-b"].map((id) => new View($(id).querySelector("canvas"), reading));
let running = null; // AbortController of the question that is being answered
let timer = 0;

// what is asked

const chosenModels = () => [$("model").value, $("compare").value].filter(Boolean);

function question() {
  const own = (model) => state.served.models.find((one) => one.name === model)?.own_background;
  const threshold = Number($("threshold").value) / 100;
  return {
    words: state.words.join(", "),
    background: $("rest").checked ? $("background").value.trim() || "auto" : undefined,
    threshold: threshold && !chosenModels().some(own) ? threshold : undefined,
    refine: $("refine").value || undefined,
    prompts: $("prompts").value || undefined,
  };
}

function embedded(model, signal) {
  if (!state.embedded.has(model)) {
    const found = api.embed(state.photo, model, { signal, waiting });
    state.embedded.set(model, found);
    found.catch(() => state.embedded.get(model) === found && state.embedded.delete(model));
  }
  return state.embedded.get(model);
}

/** Calls with the id of the photograph's embedding; once more where the server has forgotten it. */
async function withId(model, signal, call) {
  const { id } = await embedded(model, signal);
  try {
    return await call(id);
  } catch (error) {
    if (error.kind !== "unknown-embedding") throw error;
    state.embedded.delete(model);
    return call((await embedded(model, signal)).id);
  }
}

// answering

function soon() {
  clearTimeout(timer);
  timer = setTimeout(answer, PAUSE);
}

async function answer() {
  clearTimeout(timer);
  remember();
  running?.abort();
  delete document.body.dataset.ready;
  if (!state.photo || !state.words.length || !state.served) {
    state.results.clear();
    views.forEach((view) => view.setMap(null));
    drawChips();
    say(state.photo ? "Type a word to begin." : "Choose a photograph to begin.");
    return;
  }
  const { signal } = (running = new AbortController());
  const models = chosenModels();
  busy(true, state.embedded.has(models[0]) ? "Reading the words …" : "Looking at the photograph …");
  try {
    const asked = question();
    const found = await Promise.all(models.map((model) =>
      withId(model, signal, (id) => api.classify({ id, ...asked }, { signal, waiting }))));
    if (signal.aborted) return;
    state.results = new Map(models.map((model, place) => [model, found[place]]));
    found.forEach((result, place) => views[place].setMap(result));
    describe(models, found);
    if (state.pressed && !state.words.some((word) => nameOf(word) === state.pressed)) state.pressed = null;
    drawChips();
    drawWarnings(found);
    const times = found.map(({ milliseconds: { queue, classify } }) => Math.round(queue + classify));
    const looks = await Promise.all(models.map(async (model) => Math.round((await embedded(model)).milliseconds.embed)));
    const count = `${state.words.length} ${state.words.length === 1 ? "word" : "words"}`;
    say(`Photograph seen in ${looks.join(" and ")} ms, ${count} answered in ${times.join(" and ")} ms`);
    trouble(null);
    if (state.pressed) await heat(signal);
    busy(false);
    document.body.dataset.ready = state.words.map(nameOf).join(",");
  } catch (error) {
    if (error.name !== "AbortError") failed(error);
  }
}

async function heat(signal) {
  const name = state.pressed;
  delete document.body.dataset.heat;
  if (!name) {
    views.forEach((view) => view.setHeat(null));
    return;
  }
  const { threshold, ...asked } = question();
  const models = chosenModels();
  const maps = await Promise.all(models.map((model) =>
    withId(model, signal, (id) => api.scoreMap({ id, ...asked, name }, { signal, waiting }))));
  if (signal?.aborted || state.pressed !== name) return;
  maps.forEach((map, place) => views[place].setHeat(map));
  document.body.dataset.heat = name;
  say(`Score map of “${name}”: bright is certain (at most ${percent(maps[0].highest)}). Press the word again for the label map.`);
}

async function press(name) {
  state.pressed = state.pressed === name ? null : name;
  drawChips();
  if (!state.pressed) say("");
  try {
    await heat();
  } catch (error) {
    if (error.name !== "AbortError") failed(error);
  }
}

function failed(error) {
  busy(false);
  say("");
  $("token-form").hidden = error.kind !== "token";
  if (error.kind === "token") {
    trouble(null);
    $("token").focus();
    return;
  }
  trouble(error.kind ? error.message : `Something went wrong in this page: ${error.message}`);
  if (!error.kind) console.error(error);
}

const waiting = (seconds) => say(`The server is busy; asking again in ${seconds} s …`);

function busy(on, text) {
  $("working").hidden = !on;
  panes.setAttribute("aria-busy", String(on));
  if (on && text) say(text);
}

const say = (text) => { status.textContent = text; };

function trouble(text) {
  $("problem").hidden = !text;
  $("problem").querySelector("p").textContent = sentence(text ?? "");
  if (text) document.body.dataset.problem = text; else delete document.body.dataset.problem;
}

// drawing

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

const percent = (value) => (value > 0 && value < 0.01 ? "< 1 %" : `${Math.round(100 * value)} %`);

function element(kind, properties = {}, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

function drawChips() {
  const focused = document.activeElement?.closest?.("#chips li") && document.activeElement;
  const found = chosenModels().map((model) => state.results.get(model)).filter(Boolean);
  const doubtful = new Set(found.flatMap((result) => result.warnings.map((warning) => advice(warning).about)));
  chips.replaceChildren(...state.words.map((text) => {
    const name = nameOf(text);
    const rows = found.map((result) => result.classes.find((one) => one.name === name)).filter(Boolean);
    const word = element("button", { type: "button", className: "word", title: text },
      element("span", { className: "swatch" }), element("span", { className: "name", textContent: name }));
    if (doubtful.has(name)) word.append(element("span", { className: "mark", textContent: "?", title: "The model has not learned this word" }));
    word.append(element("span", { className: "area", textContent: rows.map((row) => percent(row.area)).join(" · ") }));
    word.setAttribute("aria-pressed", String(state.pressed === name));
    const areas = rows.map((row) => percent(row.area)).join(" and ");
    word.setAttribute("aria-label", `${name}${areas ? `, ${areas} of the picture` : ""}: score map`);
    word.addEventListener("click", () => press(name));
    const remove = element("button", { type: "button", className: "remove", textContent: "×" });
    remove.setAttribute("aria-label", `Remove ${name}`);
    remove.addEventListener("click", () => removeWord(text));
    const row = element("li", { className: state.pressed === name ? "pressed" : "" }, word, remove);
    row.dataset.word = name;
    if (rows.length) {
      row.style.setProperty("--colour", rows[0].colour);
      row.style.setProperty("--share", rows[0].area);
    }
    const label = found[0]?.classes.findIndex((one) => one.name === name) ?? -1;
    const outline = (on) => () => label >= 0 && !state.pressed && views.forEach((view) => view.outline(on ? label : null));
    row.addEventListener("pointerenter", outline(true));
    row.addEventListener("pointerleave", outline(false));
    word.addEventListener("focus", outline(true));
    word.addEventListener("blur", outline(false));
    return row;
  }), ...unlabelled(found));
  for (const button of document.querySelectorAll("[data-file]")) button.disabled = !found.length;
  if (focused) { // the same button of the same word keeps the focus
    const row = [...chips.children].find((one) => one.dataset.word === focused.closest("li").dataset.word);
    row?.querySelector(focused.classList.contains("remove") ? ".remove" : ".word").focus();
  }
}

function unlabelled(found) {
  const areas = found.map((result) => result.unlabelled.area);
  if (!areas.some((area) => area > 0)) return [];
  const word = element("span", { className: "word" }, element("span", { className: "swatch" }),
    element("span", { className: "name", textContent: "unlabelled" }),
    element("span", { className: "area", textContent: areas.map(percent).join(" · ") }));
  const row = element("li", { className: "quiet" }, word);
  row.style.setProperty("--colour", found[0].unlabelled.colour);
  row.style.setProperty("--share", areas[0]);
  return [row];
}

function drawWarnings(found) {
  const texts = [...new Set(found.flatMap((result) => result.warnings))];
  $("warnings").hidden = !texts.length;
  $("warnings").replaceChildren(...texts.map((text) => {
    const line = element("p", { textContent: sentence(text) });
    const { about, instead } = advice(text);
    const place = state.words.findIndex((word) => nameOf(word) === about);
    if (instead && place >= 0) {
      const use = element("button", { type: "button", textContent: `Use “${instead}”` });
      use.addEventListener("click", () => setWords(joined([], state.words.map((word, at) => (at === place ? instead : word)))));
      line.append(use);
    }
    return line;
  }));
}

function describe(models, found) {
  panes.classList.toggle("two", models.length > 1);
  $("pane-b").hidden = models.length < 2;
  models.forEach((model, place) => {
    const { classes } = found[place];
    const shares = [...classes].sort((a, b) => b.area - a.area).filter((one) => one.area).slice(0, 5);
    const text = `${state.photo.about ?? state.photo.name}: ${shares.map((one) => `${one.name} ${percent(one.area)}`).join(", ") || "nothing labelled"}`;
    views[place].canvas.setAttribute("aria-label", text);
    $(place ? "pane-b" : "pane-a").querySelector("figcaption").textContent = models.length > 1 ? model : "";
  });
}

function reading(found) {
  tip.hidden = !found;
  if (!found) {
    $("reading").textContent = "";
    return;
  }
  const text = found.score === null ? found.name : `${found.name}  ${percent(found.score)}`;
  tip.lastElementChild.textContent = text;
  tip.style.setProperty("--colour", found.colour);
  const [box, whole] = [found.view.canvas.getBoundingClientRect(), panes.getBoundingClientRect()];
  const x = box.left - whole.left + found.x * box.width;
  const y = box.top - whole.top + found.y * box.height;
  const left = Math.min(Math.max(6, x + 14), whole.width - tip.offsetWidth - 6);
  const top = y > 52 ? y - 42 : y + 18;
  tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  const others = views.filter((view) => view !== found.view && !view.canvas.parentElement.hidden);
  const beside = others.map((view) => view.at(found.x, found.y)).filter(Boolean).map((one) => `${one.name} ${percent(one.score ?? 0)}`);
  $("reading").textContent = [text, ...beside].join("  |  ");
}

// words

function setWords(words) {
  state.words = words;
  drawChips();
  answer();
}

function addTyped() {
  const more = split(input.value);
  if (!more.length) return;
  input.value = "";
  setWords(joined(state.words, more));
}

function removeWord(text) {
  const place = state.words.indexOf(text);
  setWords(state.words.filter((word) => word !== text));
  (chips.children[Math.min(place, state.words.length - 1)]?.querySelector(".remove") ?? input).focus();
}

// photographs

async function takeFile(file) {
  if (!file) return;
  await take(file, file.name || "pasted.png");
}

async function takeSample(sample, words) {
  if (words) state.words = split(sample.words);
  try {
    const blob = await (await fetch(sample.full)).blob();
    await take(blob, sample.name, sample.about);
  } catch {
    failed(new api.Problem("unreachable", "The server does not answer. Is it running?"));
  }
}

async function take(blob, name, about) {
  running?.abort();
  trouble(null);
  busy(true, "Opening the photograph …");
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    failed(new api.Problem("image", `This browser cannot open ${name}; try a JPEG, PNG or WebP.`));
    return;
  }
  const scale = $("full").checked ? 1 : Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  let sent = blob;
  if (scale < 1) {
    const canvas = element("canvas", { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale) });
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    sent = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.93));
    bitmap.close();
    bitmap = await createImageBitmap(canvas);
  }
  const most = state.served?.limits.request_bytes;
  if (most && sent.size > most - 10_000) {
    failed(new api.Problem("too-large", `${name} is too large for this server (${Math.round(most / 1e6)} MB); send it smaller.`));
    return;
  }
  forget();
  state.photo = { name, blob: sent, bitmap, about };
  views.forEach((view) => view.setPhoto(bitmap));
  for (const button of $("samples").children) button.setAttribute("aria-pressed", String(button.dataset.name === name));
  await answer();
}

/** The server lets go of the photograph before. */
function forget() {
  for (const found of state.embedded.values()) {
    found.then(({ id }) => api.forget(id)).catch(() => {});
  }
  state.embedded.clear();
  state.results.clear();
}

// taking the result away

async function download(kind) {
  const model = $("model").value;
  const stem = (state.photo?.name ?? "photograph").replace(/\.[^.]*$/, "");
  const suffix = { png: ".png", overlay: ".overlay.png", coco: ".coco.json" }[kind];
  try {
    say("Preparing the file …");
    const blob = kind === "overlay"
      ? await api.overlay(state.photo, { ...question(), model }, { waiting })
      : await withId(model, undefined, (id) => api.file({ id, ...question(), format: kind, name: state.photo.name }, { waiting }));
    const link = element("a", { href: URL.createObjectURL(blob), download: stem + suffix });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    say(`${stem}${suffix} is saved.`);
  } catch (error) {
    failed(error);
  }
}

function commandLine() {
  const { words, background, threshold, refine, prompts } = question();
  const options = { words, model: $("model").value, background, threshold, refine, prompts };
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return ["lexiseg segment", quoted(state.photo?.name ?? "photograph.jpg"), ...given.map(([key, value]) => `--${key} ${quoted(String(value))}`)].join(" ");
}

async function copyCommand() {
  const line = commandLine();
  $("command-line").textContent = line;
  $("command-line").hidden = false;
  try {
    await navigator.clipboard.writeText(line);
    say("The command is copied.");
  } catch {
    getSelection().selectAllChildren($("command-line"));
    say("Copy the command below.");
  }
}

// the address remembers words and models, never the photograph

function remember() {
  const kept = new URLSearchParams({ words: state.words.join(", "), model: $("model").value });
  if ($("compare").value) kept.set("compare", $("compare").value);
  const sample = photographs.find(({ name }) => name === state.photo?.name && state.photo?.about);
  if (sample) kept.set("photograph", sample.name);
  history.replaceState(null, "", `#${kept}`);
}

// beginning

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => element("option", { value, textContent: text })));
  if (options.some(([value]) => value === chosen)) select.value = chosen;
}

function modelChanged() {
  const model = state.served.models.find((one) => one.name === $("model").value);
  const others = state.served.models.filter((one) => one !== model).map(({ name }) => [name, name]);
  fill($("compare"), [["", "nothing"], ...others], $("compare").value);
  $("compare").disabled = !others.length;
  const chosen = state.served.models.filter(({ name }) => chosenModels().includes(name));
  const own = chosen.some((one) => one.own_background);
  $("threshold").disabled = own;
  $("threshold-value").textContent = own ? "its own" : thresholdText();
  $("refine").options[0].textContent = model.refine === "none" ? "as they are" : `its own (${model.refine})`;
  $("prompts").options[0].textContent = `its own (${model.prompts})`;
}

const thresholdText = () => (Number($("threshold").value) ? `${$("threshold").value} %` : "off");

async function begin() {
  try {
    state.served = await api.models();
  } catch (error) {
    failed(error);
    return;
  }
  $("token-form").hidden = true;
  trouble(null);
  const { models, prompts, refine, version } = state.served;
  const kept = new URLSearchParams(location.hash.slice(1));
  const names = { crf: "dense CRF", pamr: "PAMR" };
  fill($("model"), models.map(({ name }) => [name, name]), kept.get("model") ?? state.served.default);
  fill($("refine"), [["", ""], ...refine.filter((name) => name !== "none").map((name) => [name, names[name] ?? name])]);
  fill($("prompts"), [["", ""], ...prompts.map((name) => [name, name])]);
  fill($("compare"), [["", "nothing"], ...models.map(({ name }) => [name, name])], kept.get("compare") ?? "");
  modelChanged();
  $("version").textContent = version;
  const sample = photographs.find(({ name }) => name === kept.get("photograph")) ?? photographs.find(({ name }) => name === FIRST) ?? photographs[0];
  state.words = split(kept.get("words") ?? sample.words);
  drawChips();
  await takeSample(sample, false);
}

function wire() {
  $("samples").append(...photographs.map((sample) => {
    const button = element("button", { type: "button", title: sample.about }, element("img", { src: sample.small, alt: sample.about, loading: "lazy" }));
    button.dataset.name = sample.name;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => takeSample(sample, true));
    return button;
  }));
  $("asked").addEventListener("submit", (event) => {
    event.preventDefault();
    addTyped();
  });
  input.addEventListener("input", () => /[,;\n]\s*$/.test(input.value) && addTyped());
  input.addEventListener("keydown", (event) => {
    if (event.key === "Backspace" && !input.value && state.words.length) {
      event.preventDefault();
      setWords(state.words.slice(0, -1));
    }
  });
  input.addEventListener("paste", () => setTimeout(() => /[,;\n]/.test(input.value) && addTyped()));
  $("opacity").addEventListener("input", (event) => views.forEach((view) => view.setOpacity(event.target.value / 100)));
  $("model").addEventListener("change", () => { modelChanged(); answer(); });
  $("compare").addEventListener("change", () => { modelChanged(); answer(); });
  $("refine").addEventListener("change", answer);
  $("prompts").addEventListener("change", answer);
  $("rest").addEventListener("change", (event) => { $("background").disabled = !event.target.checked; answer(); });
  $("background").addEventListener("change", answer);
  $("threshold").addEventListener("input", () => { $("threshold-value").textContent = thresholdText(); soon(); });
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", (event) => {
    takeFile(event.target.files[0]);
    event.target.value = "";
  });
  $("again").addEventListener("click", () => {
    trouble(null);
    return state.served ? answer() : begin();
  });
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    api.useToken($("token").value);
    $("token").value = "";
    begin();
  });
  for (const button of document.querySelectorAll("[data-file]")) button.addEventListener("click", () => download(button.dataset.file));
  $("command").addEventListener("click", copyCommand);

  let depth = 0; // of elements that a dragged file has entered
  const dragging = (by) => {
    depth = Math.max(0, depth + by);
    document.body.classList.toggle("dragging", depth > 0);
  };
  addEventListener("dragenter", (event) => { event.preventDefault(); dragging(1); });
  addEventListener("dragleave", () => dragging(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    dragging(-depth);
    takeFile([...event.dataTransfer.files].find((file) => file.type.startsWith("image/")) ?? event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])].find((file) => file.type.startsWith("image/"));
    if (pasted) takeFile(pasted);
  });
}

wire();
begin();
