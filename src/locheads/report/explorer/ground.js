"use strict";
/* From maps to a box, as locheads/grounding does it in Python (which is the truth; a test compares the two).
   Maps are Float64Arrays, row by row; `grid` is {rows, cols}. */
const Ground = (() => {
  /* scipy.ndimage.gaussian_filter: exp(-x^2 / 2 sigma^2) from -radius to radius, of sum 1. */
  function window1d(sigma, radius) {
    const weights = new Float64Array(2 * radius + 1);
    let total = 0;
    for (let x = -radius; x <= radius; x++) total += weights[x + radius] = Math.exp((-0.5 / (sigma * sigma)) * x * x);
    return weights.map((w) => w / total);
  }

  /* Which cell of n stands at position i beyond the border; -1: none, its value is 0. */
  function beyond(i, n, border) {
    if (i >= 0 && i < n) return i;
    if (border === "constant") return -1;
    if (border === "nearest") return i < 0 ? 0 : n - 1;
    if (border === "mirror" && n === 1) return 0;
    const period = border === "mirror" ? 2 * (n - 1) : 2 * n;
    const j = ((i % period) + period) % period;
    if (j < n) return j;
    return border === "mirror" ? period - j : period - 1 - j;
  }

  /* One axis: `n` cells per line, `step` apart; `lines` lines, `jump` apart. */
  function smoothAxis(map, n, step, lines, jump, weights, border) {
    const radius = (weights.length - 1) / 2;
    const out = new Float64Array(map.length);
    for (let line = 0; line < lines; line++) {
      const value = (i) => {
        const j = beyond(i, n, border);
        return j < 0 ? 0 : map[line * jump + j * step];
      };
      for (let i = 0; i < n; i++) {
        let sum = value(i) * weights[radius];
        for (let d = radius; d >= 1; d--) sum += (value(i - d) + value(i + d)) * weights[radius - d];
        out[line * jump + i * step] = sum;
      }
    }
    return out;
  }

  function smooth(map, grid, settings) {
    const scale = settings.smoothing_scale === "grid" ? Math.max(grid.rows, grid.cols) / 24 : 1;
    const reach = Math.floor(((settings.kernel - 1) / 2) * scale + 0.5);
    if (settings.sigma === 0 || reach === 0) return map;
    const weights = window1d(settings.sigma * scale, reach);
    const down = smoothAxis(map, grid.rows, grid.cols, grid.cols, 1, weights, settings.border);
    return smoothAxis(down, grid.cols, 1, grid.rows, grid.cols, weights, settings.border);
  }

  function fuse(maps, grid, settings) {
    const sum = new Float64Array(grid.rows * grid.cols);
    for (const map of maps) smooth(map, grid, settings).forEach((value, i) => (sum[i] += value));
    return sum;
  }

  /* Cells above level x mean; a constant map has none. */
  function binarise(map, level) {
    let total = 0, low = Infinity, high = -Infinity;
    for (const value of map) {
      total += value;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    const threshold = (level * total) / map.length;
    return Uint8Array.from(map, (value) => (value > threshold && high > low ? 1 : 0));
  }

  /* 8-connected components in reading order, each a list of cell numbers. */
  function components(cells, grid) {
    const seen = new Uint8Array(cells.length), found = [];
    for (let start = 0; start < cells.length; start++) {
      if (!cells[start] || seen[start]) continue;
      const members = [start];
      seen[start] = 1;
      for (let k = 0; k < members.length; k++) {
        const row = Math.floor(members[k] / grid.cols), col = members[k] % grid.cols;
        for (let r = Math.max(row - 1, 0); r <= Math.min(row + 1, grid.rows - 1); r++) {
          for (let c = Math.max(col - 1, 0); c <= Math.min(col + 1, grid.cols - 1); c++) {
            const next = r * grid.cols + c;
            if (!cells[next] || seen[next]) continue;
            seen[next] = 1;
            members.push(next);
          }
        }
      }
      found.push(members);
    }
    return found;
  }

  /* Convex hull of the cells as unit squares: corners [x, y] in cells (Andrew's monotone chain). */
  function hull(members, grid) {
    const points = [];
    for (const cell of members) {
      const row = Math.floor(cell / grid.cols), col = cell % grid.cols;
      for (const dx of [0, 1]) for (const dy of [0, 1]) points.push([col + dx, row + dy]);
    }
    points.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const chain = (ordered) => {
      const out = [];
      for (const p of ordered) {
        while (out.length > 1 && turn(out[out.length - 2], out[out.length - 1], p) <= 0) out.pop();
        out.push(p);
      }
      return out.slice(0, -1);
    };
    return [...chain(points), ...chain(points.reverse())];
  }

  const turn = (a, b, c) => (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);

  function area(polygon) {
    let twice = 0;
    polygon.forEach(([x, y], i) => {
      const [u, v] = polygon[(i + 1) % polygon.length];
      twice += x * v - u * y;
    });
    return Math.abs(twice) / 2;
  }

  /* The component with the largest hull; of equals the first in reading order. */
  function largestHull(found, grid) {
    let best = { area: 0, members: [], polygon: [] };
    for (const members of found) {
      const polygon = hull(members, grid), size = area(polygon);
      if (size > best.area) best = { area: size, members, polygon };
    }
    return best;
  }

  function tightBox(members, grid) {
    if (!members.length) return null;
    const rows = members.map((cell) => Math.floor(cell / grid.cols)), cols = members.map((cell) => cell % grid.cols);
    return [Math.min(...cols), Math.min(...rows), Math.max(...cols) + 1, Math.max(...rows) + 1];
  }

  /* xyxy in cells -> in original pixels, the exact inverse of pixel * scale + offset. */
  const toPixels = (box, g) => box.map((value, i) => (value - g.offset[i % 2]) / g.scale[i % 2]);

  /* null without cells, or where all of them lie on padding bars. */
  function pixelBox(box, g, settings) {
    if (!box) return null;
    const limits = [g.width, g.height], cells = [g.cols, g.rows];
    const whole = (value, i) => value * (limits[i % 2] / cells[i % 2]); // as if the grid were the whole image
    const found = settings.padding === "ignored" ? box.map(whole) : toPixels(box, g);
    const truncated = (value, i) => Math.trunc(value - (i > 1)) + (i > 1); // the last pixel belongs to the box
    const [x0, y0, x1, y1] = found
      .map((value, i) => Math.min(Math.max(value, 0), limits[i % 2]))
      .map((value, i) => (settings.rounding === "truncated" ? truncated(value, i) : value));
    return x1 > x0 && y1 > y0 ? [x0, y0, x1, y1] : null;
  }

  /* Everything in between, too. `g`: the sample (grid and geometry); `settings`: kernel, sigma, border, smoothing_scale,
     level, component, padding, rounding. */
  function run(maps, g, settings) {
    const fused = fuse(maps, g, settings);
    const cells = binarise(fused, settings.level);
    const found = components(cells, g);
    const all = { members: found.flat(), polygon: [] };
    const chosen = settings.component === "all_cells" ? all : largestHull(found, g);
    return { fused, cells, n: found.length, chosen, box: pixelBox(tightBox(chosen.members, g), g, settings) };
  }

  function iou(a, b) {
    const [x0, y0, x1, y1] = [0, 1, 2, 3].map((i) => (i < 2 ? Math.max : Math.min)(a[i], b[i]));
    const shared = Math.max(x1 - x0, 0) * Math.max(y1 - y0, 0);
    const size = (box) => (box[2] - box[0]) * (box[3] - box[1]);
    const union = size(a) + size(b) - shared;
    return union > 0 ? shared / union : 0;
  }

  /* 8 bits -> weights: scale * (code / 255)^2, see codes.py. */
  function decode(codes, scale) {
    return Float64Array.from(codes, (code) => scale * ((code / 255) * (code / 255)));
  }

  return { run, iou, decode, toPixels };
})();
