"use strict";
/* What the canvases show: heat, mask, hull, boxes. `sample` gives the geometry, `factor` goes from original pixels to
   those of the canvas, `ratio` from CSS pixels. */
const Draw = ((heat) => {
  const COLOURS = { box: "#f0e442", truth: "#56b4e9", run: "#cc79a7", mask: "#00c08b", view: "#ffffff" };
  const THUMB = 112;

  /* Clears the canvas and gives it as many pixels as the screen shows of it, `width` in CSS pixels. */
  function prepare(canvas, width, sample) {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    canvas.width = Math.max(Math.round(width * ratio), 1);
    canvas.height = Math.max(Math.round((canvas.width * sample.height) / sample.width), 1);
    return { context: canvas.getContext("2d"), factor: canvas.width / sample.width, ratio, sample };
  }

  /* As in the report: the lowest cell 0, the 98th percentile and all above it 1. */
  function unit(map) {
    const sorted = Float64Array.from(map).sort(), at = 0.98 * (sorted.length - 1), i = Math.floor(at);
    const low = sorted[0], top = sorted[sorted.length - 1];
    let high = sorted[i] + (at - i) * ((sorted[i + 1] ?? top) - sorted[i]);
    if (!(high > low)) high = top;
    return map.map((value) => (high > low ? Math.min(Math.max((value - low) / (high - low), 0), 1) : 0));
  }

  function drawHeat({ context, factor, sample }, map, opacity) {
    const small = document.createElement("canvas");
    small.width = sample.cols;
    small.height = sample.rows;
    const image = small.getContext("2d").createImageData(sample.cols, sample.rows);
    unit(map).forEach((value, i) => {
      const [red, green, blue] = heat[Math.round(value * (heat.length - 1))];
      image.data.set([red, green, blue, Math.round(255 * opacity * value ** 1.2)], 4 * i);
    });
    small.getContext("2d").putImageData(image, 0, 0);
    const [x0, y0, x1, y1] = Ground.toPixels([0, 0, sample.cols, sample.rows], sample).map((v) => v * factor);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(small, x0, y0, x1 - x0, y1 - y0);
  }

  /* A dark edge below the line, so that it shows on any image. */
  function stroke({ context, ratio }, colour, width, dashes) {
    context.setLineDash([]);
    context.lineWidth = (width + 2) * ratio;
    context.strokeStyle = "#000000a0";
    context.stroke();
    context.setLineDash(dashes.map((d) => d * ratio));
    context.lineWidth = width * ratio;
    context.strokeStyle = colour;
    context.stroke();
  }

  function drawBox(target, [x0, y0, x1, y1], colour, dashes, width = 2.5) {
    const { context, factor } = target;
    context.beginPath();
    context.rect(x0 * factor, y0 * factor, (x1 - x0) * factor, (y1 - y0) * factor);
    stroke(target, colour, width, dashes);
  }

  /* Cells above the threshold in outline, those that make the box filled, and their hull dashed. */
  function drawMask(target, result) {
    const { context, factor, sample } = target;
    const corner = (x, y) => Ground.toPixels([x, y], sample).map((v) => v * factor);
    context.fillStyle = `${COLOURS.mask}26`;
    for (const cell of result.chosen.members) {
      const col = cell % sample.cols, row = Math.floor(cell / sample.cols);
      const [x0, y0] = corner(col, row), [x1, y1] = corner(col + 1, row + 1);
      context.fillRect(x0, y0, x1 - x0, y1 - y0);
    }
    context.beginPath();
    for (const [from, to] of edges(result.cells, sample)) {
      context.moveTo(...corner(...from));
      context.lineTo(...corner(...to));
    }
    stroke(target, COLOURS.mask, 1.5, []);
    if (!result.chosen.polygon.length) return;
    context.beginPath();
    result.chosen.polygon.forEach((point, i) => context[i ? "lineTo" : "moveTo"](...corner(...point)));
    context.closePath();
    stroke(target, "#ffffff", 1.5, [3, 3]);
  }

  /* [from, to] in cells, of every side between a cell above the threshold and one below it. */
  function edges(cells, { rows, cols }) {
    const above = (row, col) => row >= 0 && col >= 0 && row < rows && col < cols && cells[row * cols + col];
    const found = [];
    for (let row = 0; row < rows; row++) {
      for (let col = 0; col < cols; col++) {
        if (!above(row, col)) continue;
        if (!above(row - 1, col)) found.push([[col, row], [col + 1, row]]);
        if (!above(row + 1, col)) found.push([[col, row + 1], [col + 1, row + 1]]);
        if (!above(row, col - 1)) found.push([[col, row], [col, row + 1]]);
        if (!above(row, col + 1)) found.push([[col + 1, row], [col + 1, row + 1]]);
      }
    }
    return found;
  }

  /* `show`: {map, mask, boxes, opacity}; `runBox`: the run's own box, null where it need not be drawn. */
  function stage(canvas, width, sample, result, runBox, show) {
    const target = prepare(canvas, width, sample);
    if (result && show.map) drawHeat(target, result.fused, show.opacity);
    if (result && show.mask) drawMask(target, result);
    if (!show.boxes) return;
    for (const view of sample.views) drawBox(target, view, COLOURS.view, [12, 6], 1.25);
    if (!sample.true_box) return; // where the truth is a heat map, no box was asked for
    for (const box of sample.true_boxes ?? [sample.true_box]) drawBox(target, box, COLOURS.truth, [7, 5]);
    for (const box of sample.boxes ?? (runBox ? [runBox] : [])) drawBox(target, box, COLOURS.run, [2, 3]);
    if (result && result.box) drawBox(target, result.box, COLOURS.box, []);
  }

  /* One head's map on the grey image, with its name. */
  function thumb(name, map, sample, image) {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    const target = prepare(canvas, THUMB, sample), { context } = target;
    context.fillStyle = "#30363d";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.filter = "grayscale(1) brightness(0.75)";
    if (image) context.drawImage(image, 0, 0, canvas.width, canvas.height);
    context.filter = "none";
    drawHeat(target, map, 0.8);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Map of ${name} alone`);
    const caption = document.createElement("figcaption");
    caption.textContent = name;
    figure.append(canvas, caption);
    return figure;
  }

  return { stage, thumb };
})(JSON.parse(document.getElementById("data").textContent).heat);
