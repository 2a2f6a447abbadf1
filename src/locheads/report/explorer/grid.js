"use strict";
/* The clickable grid of layers x heads. `onPick(name, add)` is told what the user picks. */
function HeadGrid(element, data, onPick, onAbout) {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const cells = new Map();

  const said = (metric, value) =>
    value === null ? "not known" : `${(value * metric.factor).toFixed(metric.digits)}${metric.unit}`;

  function describe(layer, head) {
    const values = data.metrics.map((metric) => `${metric.label} ${said(metric, metric.values[layer][head])}`);
    return [`L${layer}H${head}`, ...values].join(", ");
  }

  /* A share from 0 to 1 -> CSS colour. */
  function colour(share) {
    const stops = dark.matches ? data.ramp.dark : data.ramp.light;
    const at = share * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2);
    const mixed = [0, 1, 2].map((c) => Math.round(stops[i][c] + (at - i) * (stops[i + 1][c] - stops[i][c])));
    return `rgb(${mixed.join(" ")})`;
  }

  function label(text, role) {
    const span = document.createElement("span");
    span.className = "label";
    span.textContent = text;
    span.setAttribute("role", role);
    return span;
  }

  function row(...children) {
    const line = document.createElement("div");
    line.setAttribute("role", "row");
    line.append(...children);
    return line;
  }

  function cellOf(layer, head) {
    const cell = document.createElement("button"), name = `L${layer}H${head}`;
    cell.type = "button";
    cell.tabIndex = -1; // only one cell at a time is in the tab order
    cell.setAttribute("role", "gridcell");
    Object.assign(cell.dataset, { layer, head, name });
    cell.classList.toggle("localization", data.localization.includes(name));
    cell.addEventListener("click", (event) => choose(cell, event.shiftKey || event.ctrlKey || event.metaKey));
    cell.addEventListener("focus", () => onAbout(describe(layer, head)));
    cell.addEventListener("pointerenter", () => onAbout(describe(layer, head)));
    cells.set(name, cell);
    return cell;
  }

  function choose(cell, add) {
    makeCurrent(cell);
    if (cell.getAttribute("aria-disabled") !== "true") onPick(cell.dataset.name, add);
  }

  function makeCurrent(cell) {
    for (const other of cells.values()) other.tabIndex = other === cell ? 0 : -1;
  }

  function move(event) {
    const { layer, head } = event.target.dataset, [row, col] = [Number(layer), Number(head)];
    const last = data.heads_per_layer - 1;
    const to = {
      ArrowLeft: [row, col - 1], ArrowRight: [row, col + 1], ArrowUp: [row - 1, col], ArrowDown: [row + 1, col],
      Home: [row, 0], End: [row, last], PageUp: [0, col], PageDown: [data.layers - 1, col],
    }[event.key];
    if ((event.key === "Enter" || event.key === " ") && layer !== undefined) choose(event.target, event.shiftKey);
    else if (!to || layer === undefined) return;
    event.preventDefault();
    const next = to && cells.get(`L${to[0]}H${to[1]}`);
    if (!next) return;
    makeCurrent(next);
    next.focus();
  }

  function build() {
    const heads = [...Array(data.heads_per_layer).keys()], layers = [...Array(data.layers).keys()];
    const every = heads.length > 16 ? 4 : 1;
    element.style.gridTemplateColumns = `auto repeat(${heads.length}, minmax(var(--cell), 44px))`;
    const top = heads.map((head) => label(head % every ? "" : String(head), "columnheader"));
    const lines = layers.map((l) => row(label(String(l), "rowheader"), ...heads.map((head) => cellOf(l, head))));
    element.append(row(label("", "columnheader"), ...top), ...lines);
    makeCurrent(cells.get(data.localization[0]) || cells.get("L0H0"));
    element.addEventListener("keydown", move);
  }

  /* Colours by the metric; `there(name)`: whether its map can be shown. -> [low, high] as text for the legend. */
  function paint(metric, there) {
    const known = metric ? metric.values.flat().filter((value) => value !== null) : [];
    const low = Math.min(...known), high = Math.max(...known);
    for (const [name, cell] of cells) {
      const { layer, head } = cell.dataset, value = metric ? metric.values[layer][head] : null;
      const share = high > low ? (value - low) / (high - low) : 0;
      cell.style.backgroundColor = value === null ? "transparent" : colour(share);
      cell.setAttribute("aria-disabled", String(!there(name)));
      const absent = there(name) ? "" : ", its map is not on this page";
      cell.setAttribute("aria-label", describe(layer, head) + absent);
    }
    return known.length ? [said(metric, low), said(metric, high)] : ["", ""];
  }

  function select(names) {
    for (const [name, cell] of cells) cell.setAttribute("aria-selected", String(names.includes(name)));
  }

  const ramp = () => `linear-gradient(to right, ${[0, 1 / 3, 2 / 3, 1].map(colour).join(", ")})`;

  build();
  return { paint, select, ramp, dark };
}
