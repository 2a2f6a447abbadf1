"use strict";
/* What the page says of the run's own answer to a sample. */
const Words = (() => {
  /* Whether it is "none": `threshold` of the score of absence, null where the run always answers. */
  const isNone = ({ absence, error }, threshold) =>
    absence !== null && threshold !== null && !error && absence >= threshold;

  const digits = (value) => Number(value.toPrecision(3)); // thresholds may be tiny

  function answer(sample, threshold) {
    if (isNone(sample, threshold)) {
      return `none (score of absence ${digits(sample.absence)}, threshold ${digits(threshold)})`;
    }
    if (sample.boxes) return `${sample.boxes.length} boxes for ${sample.true_boxes.length} objects`;
    return sample.box ? `IoU ${sample.iou.toFixed(2)} with ${sample.own.join(" + ")}` : "no box";
  }

  /* Where the run's answer came from, if not from the maps of this page. */
  function looked({ length }) {
    if (!length) return "";
    return length === 1 ? ", after a further look at the framed part" : `, after ${length} further looks at the framed parts`;
  }

  /* `here`: what the page found, {box}, or null; `same`: whether its box is the run's. */
  function inRun(sample, threshold, here, same) {
    if (sample.true_box === null) return "The truth is a heat map: no box was asked for.";
    const run = `In the run${looked(sample.views)}: ${answer(sample, threshold)}`;
    if (!here) return `${run}.`;
    if (isNone(sample, threshold)) return `${run}; here, without that score, ${here.box ? "a box" : "no box"}.`;
    return `${run}; here${sample.views.length ? ", by the first look," : ""} ${same ? "the same" : "another"} box.`;
  }

  return { inRun };
})();
