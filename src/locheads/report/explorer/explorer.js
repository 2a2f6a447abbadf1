"use strict";
/* The page's state and what changes it. Text from data goes through textContent only. */
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const samples = data.samples;
  const PRESETS = ["localization", "best_rec", "best_iou"];
  const SLIDERS = { opacity: 2, sigma: 1, kernel: 0, level: 2 }; // digits
  const state = { sample: 0, heads: [], preset: "localization", ...data.settings };
  let maps = new Map(); // of the sample that is shown
  let address = 0;
  const grid = HeadGrid($("grid"), data, pick, (text) => ($("about").textContent = text));

  /* ---- data: all of it is in this file ---- */

  const bytesOf = (id) => Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));

  function load(index) {
    const sample = samples[index], size = sample.rows * sample.cols;
    maps = new Map();
    if (!sample.heads.length) return sample.error ? "" : "The run kept no maps of this sample.";
    const codes = bytesOf(`maps-${index}`);
    sample.heads.forEach((name, i) =>
      maps.set(name, Ground.decode(codes.subarray(i * size, (i + 1) * size), sample.scales[i])));
    return "";
  }

  /* ---- what the user does ---- */

  function showSample(index) {
    state.sample = Math.min(Math.max(index, 0), samples.length - 1);
    const sample = samples[state.sample], image = $("image");
    if (state.preset) state.heads = presetOf(sample);
    $("sample").value = state.sample;
    $("expression").textContent = sample.expression;
    $("stage").style.aspectRatio = `${sample.width} / ${sample.height}`;
    $("stage").style.width = `calc(var(--tallest) * ${sample.width / sample.height})`;
    image.alt = `Image ${sample.image_id} for “${sample.expression.slice(0, 200)}”`;
    if (sample.image === null) image.removeAttribute("src");
    else image.src = `data:image/webp;base64,${$(`image-${sample.image}`).textContent}`;
    $("truth").hidden = sample.heat === null;
    if (sample.heat !== null) $("truth-image").src = `data:image/webp;base64,${$(`image-${sample.heat}`).textContent}`;
    const problem = load(state.sample);
    const failed = sample.error ? `The run could not ground it: ${sample.error}. ` : "";
    $("problem").textContent = failed + problem;
    $("problem").hidden = !(failed + problem);
    paintGrid();
    update();
  }

  const presetOf = (sample) => [...(state.preset === "localization" ? sample.own : data[state.preset])];

  function setPreset(name) {
    state.preset = name;
    state.heads = name === "none" ? [] : presetOf(samples[state.sample]);
    if (name === "none") state.preset = "";
    update();
  }

  function pick(name, add) {
    const there = state.heads.includes(name);
    if (!add && $("mode-one").checked) state.heads = [name];
    else state.heads = there ? state.heads.filter((other) => other !== name) : [...state.heads, name];
    state.preset = "";
    update();
  }

  const KEYS = {
    p: () => showSample(state.sample - 1),
    n: () => showSample(state.sample + 1),
    l: () => setPreset("localization"),
    e: () => setPreset("best_rec"),
    i: () => setPreset("best_iou"),
    c: () => setPreset("none"),
    m: () => $("show-map").click(),
    k: () => $("show-mask").click(),
    b: () => $("show-boxes").click(),
    r: () => $("reset").click(),
    "/": () => $("sample").focus(),
  };

  function onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    const arrow = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (arrow && event.target === $("stage")) showSample(state.sample + arrow);
    else if (event.target.closest("select, input[type=range], input[type=text]")) return;
    else if (KEYS[event.key.toLowerCase()] && $("letters").checked) KEYS[event.key.toLowerCase()]();
    else return;
    event.preventDefault();
  }

  /* ---- what follows from the state ---- */

  function update() {
    const sample = samples[state.sample];
    const names = state.heads.filter((name) => maps.has(name));
    const result = names.length ? Ground.run(names.map((name) => maps.get(name)), sample, state) : null;
    const show = { opacity: state.opacity };
    for (const key of ["map", "mask", "boxes"]) show[key] = $(`show-${key}`).checked;
    const same = sameBox(sample.box, result && result.box);
    $("stage").classList.toggle("grey", Boolean(result && show.map && show.opacity > 0));
    Draw.stage($("overlay"), $("stage").clientWidth, sample, result, same ? null : sample.box, show);
    const image = $("image").complete && $("image").naturalWidth ? $("image") : null;
    $("thumbs").replaceChildren(
      ...names.slice(0, 8).map((name) => Draw.thumb(name, maps.get(name), sample, image)));
    tell(sample, names, result, same);
    grid.select(state.heads);
    showControls();
  }

  function tell(sample, names, result, same) {
    const readout = $("readout"), box = result && result.box, absent = state.heads.length - names.length;
    readout.dataset.box = box ? box.join(" ") : "";
    readout.dataset.cells = result ? result.cells.join("") : "";
    readout.dataset.sample = sample.sample_id;
    const list = (names.length > 6 ? `${names.length} heads` : names.join(" + ") || "No head selected")
      + (absent ? ` (${absent} more without a map here)` : "");
    const above = result ? result.cells.reduce((sum, cell) => sum + cell, 0) : 0;
    const named = sample.true_boxes ? sample.true_boxes.length : 1; // an IoU is with the one object
    const iou = box && sample.true_box && named === 1 ? `IoU ${Ground.iou(box, sample.true_box).toFixed(2)} with the true box` : "";
    const hit = box && sample.true_box ? iou || `one box, ${named || "no"} objects named` : "no box";
    const parts = result ? `${result.n} ${result.n === 1 ? "component" : "components"}` : "";
    readout.textContent = result ? `${list}: ${hit}; ${above} of ${result.cells.length} cells, ${parts}.` : `${list}.`;
    $("against").textContent = Words.inRun(sample, data.threshold, result, same);
  }

  const sameBox = (a, b) => (a && b ? a.every((value, i) => Math.abs(value - b[i]) < 1e-6) : !a && !b);

  function showControls() {
    for (const [key, digits] of Object.entries(SLIDERS)) {
      $(key).value = state[key];
      $(`${key}-value`).textContent = Number(state[key]).toFixed(digits);
    }
    for (const key of ["border", "component"]) $(key).value = state[key];
    for (const key of PRESETS) $(key).setAttribute("aria-pressed", String(state.preset === key));
    $("previous").disabled = state.sample === 0;
    $("next").disabled = state.sample === samples.length - 1;
    clearTimeout(address); // browsers refuse too many changes in a row
    address = setTimeout(writeAddress, 300);
  }

  function paintGrid() {
    const metric = data.metrics.find((m) => m.key === $("metric").value);
    const [low, high] = grid.paint(metric, (name) => maps.has(name));
    $("low").textContent = low;
    $("high").textContent = metric ? `${high} ${metric.note}` : "";
    $("ramp").style.background = grid.ramp();
  }

  /* ---- the address: what is shown, so that a view can be shared ---- */

  function writeAddress() {
    const view = new URLSearchParams({ sample: samples[state.sample].sample_id });
    if (state.preset) view.set("preset", state.preset);
    else view.set("heads", state.heads.join(","));
    for (const key of Object.keys(data.settings)) if (state[key] !== data.settings[key]) view.set(key, state[key]);
    history.replaceState(null, "", `#${view}`);
  }

  function readAddress() {
    const view = new URLSearchParams(location.hash.slice(1));
    if (!view.has("sample")) return 0; // a link to a section
    state.preset = view.has("heads") ? "" : PRESETS.includes(view.get("preset")) ? view.get("preset") : "localization";
    state.heads = (view.get("heads") || "").split(",").filter((name) => /^L\d+H\d+$/.test(name));
    for (const key of Object.keys(SLIDERS)) {
      if (!view.has(key)) continue;
      $(key).value = view.get(key); // the slider keeps it within its range
      state[key] = Number($(key).value);
    }
    for (const key of ["border", "component"]) {
      if ([...$(key).options].some((option) => option.value === view.get(key))) state[key] = view.get(key);
    }
    return Math.max(samples.findIndex((sample) => sample.sample_id === view.get("sample")), 0);
  }

  /* ---- start ---- */

  function option(value, text) {
    const element = document.createElement("option");
    element.value = value;
    element.textContent = text;
    return element;
  }

  function listen() {
    $("previous").addEventListener("click", KEYS.p);
    $("next").addEventListener("click", KEYS.n);
    $("sample").addEventListener("change", () => showSample(Number($("sample").value)));
    for (const name of [...PRESETS, "none"]) $(name).addEventListener("click", () => setPreset(name));
    for (const key of Object.keys(SLIDERS)) {
      $(key).addEventListener("input", () => { state[key] = Number($(key).value); update(); });
    }
    for (const key of ["border", "component"]) {
      $(key).addEventListener("change", () => { state[key] = $(key).value; update(); });
    }
    for (const key of ["map", "mask", "boxes"]) $(`show-${key}`).addEventListener("change", update);
    $("reset").addEventListener("click", () => { Object.assign(state, data.settings); update(); });
    $("metric").addEventListener("change", paintGrid);
    $("image").addEventListener("load", update);
    grid.dark.addEventListener("change", paintGrid);
    document.addEventListener("keydown", onKey);
    window.addEventListener("resize", update);
    window.addEventListener("hashchange", () => { if (location.hash.includes("sample=")) showSample(readAddress()); });
  }

  $("sample").append(...samples.map((s, i) => option(i, `${i + 1}. ${s.expression.slice(0, 90)}`)));
  $("metric").append(...data.metrics.map((metric) => option(metric.key, metric.label)));
  $("metric").disabled = !data.metrics.length;
  for (const key of ["best_rec", "best_iou"]) $(key).disabled = !data[key].length;
  listen();
  if (samples.length) showSample(readAddress());
})();
