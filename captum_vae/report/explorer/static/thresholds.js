/* What a threshold does to the pixels: exact counts that Python made (see counting.py), summed up
   from the threshold on, and the curves that they draw. A pixel is called anomalous when its score
   is at or above the threshold. */
"use strict";

(function () {
  const app = window.captumVae;
  const PRO_LIMIT = 0.3;
  const memory = new WeakMap();

  const bits = new DataView(new ArrayBuffer(4));

  /** The float32 whose key has these upper 16 bits; see keys.py. */
  function edgeOf(key) {
    let word = (key << 16) | 0;
    word ^= (word >> 31) & 0x7fffffff;
    bits.setInt32(0, word);
    return bits.getFloat32(0);
  }

  /** The highest threshold that is offered at or below a value. */
  function floorToStep(value) {
    let single = Math.fround(value);
    bits.setFloat32(0, single + 0);
    let word = bits.getInt32(0);
    word ^= (word >> 31) & 0x7fffffff;
    if (single > value) word -= 1; // rounding went over it
    return edgeOf(word >> 16);
  }

  const floats = (text) => Array.from(new Float64Array(app.bytes(text).buffer));

  /** Counts as suffix sums: at place p, the pixels at or above edges[p]. */
  function read(entry) {
    if (memory.has(entry)) return memory.get(entry);
    let key = 0;
    const none = (array) => array.map(() => 0);
    const rows = [];
    const add = (edges, normal, anomalous, overlap) =>
      edges.forEach((edge, p) => rows.push([edge, normal[p], anomalous[p], overlap[p]]));
    add(entry.steps.map((difference) => edgeOf((key += difference))), entry.normal,
      entry.anomalous || none(entry.normal),
      entry.overlap ? floats(entry.overlap) : none(entry.normal));
    if (entry.edges) {
      add(entry.edges, entry.normalAtEdges, entry.anomalousAtEdges || none(entry.edges),
        entry.overlapAtEdges ? floats(entry.overlapAtEdges) : none(entry.edges));
    }
    rows.sort((a, b) => a[0] - b[0]);
    for (let p = rows.length - 2; p >= 0; p--) {
      for (let column = 1; column < 4; column++) rows[p][column] += rows[p + 1][column];
    }
    const counts = { rows, regions: entry.regions || 0 };
    memory.set(entry, counts);
    return counts;
  }

  /** Numbers at a threshold; NaN where pixels of a class are missing. */
  function at(entry, threshold) {
    const { rows, regions } = read(entry);
    let low = 0, high = rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle][0] >= threshold) high = middle;
      else low = middle + 1;
    }
    const none = [0, 0, 0, 0];
    return numbers(rows[low] || none, rows[0] || none, regions);
  }

  function numbers(reached, all, regions) {
    const [, falsePositives, truePositives, overlap] = reached;
    const [, normal, anomalous] = all;
    const undefined_ = !anomalous || !normal;
    const ratio = (part, whole) => (whole ? part / whole : NaN);
    return {
      falsePositives, truePositives, normal, anomalous,
      called: ratio(falsePositives + truePositives, normal + anomalous),
      falsePositiveRate: ratio(falsePositives, normal),
      recall: ratio(truePositives, anomalous),
      iou: undefined_ && !anomalous ? NaN : ratio(truePositives, anomalous + falsePositives),
      f1: undefined_ && !anomalous ? NaN
        : ratio(2 * truePositives, anomalous + truePositives + falsePositives),
      regionOverlap: regions ? overlap / regions : NaN,
    };
  }

  /** Corners of both curves from (0, 0) on; few enough to draw. */
  function curves(entry) {
    const { rows, regions } = read(entry);
    const every = Math.max(1, Math.floor(rows.length / 600));
    const points = [[0, 0, 0]];
    for (let p = rows.length - 1; p >= 0; p--) {
      if (p % every && p !== 0) continue;
      const found = numbers(rows[p], rows[0], regions);
      points.push([found.falsePositiveRate, found.recall, found.regionOverlap]);
    }
    return points;
  }

  /** A curve as SVG, with the point of the threshold in numbers beside it. */
  function drawCurve(points, column, limit, title, label, point) {
    const W = 240, H = 200, left = 40, top = 12, right = 12, bottom = 38;
    const width = W - left - right, height = H - top - bottom;
    const x = (value) => left + (Math.min(value, limit) / limit) * width;
    const y = (value) => top + (1 - value) * height;
    const text = (words, attributes) => {
      const element = app.svg("text", attributes);
      element.textContent = words;
      return element;
    };
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const across = { class: "gridline", x1: left, x2: W - right, y1: y(share), y2: y(share) };
      const up = { class: "gridline", x1: x(share * limit), x2: x(share * limit), y1: top, y2: top + height };
      parts.push(app.svg("line", across), app.svg("line", up));
      parts.push(text(String(share), { x: left - 6, y: y(share) + 4, "text-anchor": "end" }));
      parts.push(text(String(share * limit), { x: x(share * limit), y: top + height + 15, "text-anchor": "middle" }));
    }
    const inside = [];
    for (let p = 0; p < points.length; p++) { // the piece that leaves the plot is cut at its border
      const [fpr, value] = [points[p][0], points[p][column]];
      if (fpr <= limit) { inside.push([fpr, value]); continue; }
      const [before, start] = [points[p - 1][0], points[p - 1][column]];
      inside.push([limit, start + ((value - start) * (limit - before)) / (fpr - before)]);
      break;
    }
    const d = inside.map(([a, b], p) => (p ? "L" : "M") + x(a).toFixed(1) + " " + y(b).toFixed(1)).join("");
    parts.push(app.svg("path", { class: "curve", d }));
    const [fpr, value] = point;
    if (!Number.isNaN(fpr) && !Number.isNaN(value)) {
      const outside = fpr > limit;
      parts.push(app.svg("circle", {
        class: outside ? "point outside" : "point", cx: x(fpr), cy: y(value), r: 5.5 }));
    }
    parts.push(text("false positive rate", { x: left + width / 2, y: H - 6, "text-anchor": "middle" }));
    const words = `${title}: at the threshold, false positive rate ${app.number(fpr)}, ${label} ${app.number(value)}`;
    const drawing = app.svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": words, class: "chart" }, ...parts);
    return app.el("figure", { class: "curve-figure" }, drawing,
      app.el("figcaption", {}, app.el("strong", {}, title), " " + label));
  }

  app.thresholds = {
    PRO_LIMIT, at, floorToStep,

    /** The kind of map that is looked at, if it has thresholds. */
    ofMap() {
      const map = app.data.maps[app.state.now.map];
      return map && !map.perDimension ? map : null;
    },

    /** The threshold in use: the chosen one, else the first named one, else a high value. */
    value() {
      const map = app.thresholds.ofMap();
      if (!map) return null;
      if (app.state.now.threshold !== null) return app.state.now.threshold;
      if (map.named.length) return map.named[0][1];
      return floorToStep(map.scale[0] + 0.5 * (map.scale[1] - map.scale[0]));
    },

    /** The nearest threshold that counts are exact at: a named one, or a step. */
    snapped(value) {
      const map = app.thresholds.ofMap();
      for (const [, named] of map.named) if (value === named) return named;
      if (Math.abs(value) < map.least) return value > 0 ? map.least : -map.least;
      return floorToStep(value);
    },

    /** The counts of the images of known truth that the kind filter leaves. */
    counted() {
      const map = app.thresholds.ofMap();
      const kind = app.state.now.kind;
      return kind !== null && Object.hasOwn(map.countsByKind, kind) ? map.countsByKind[kind] : map.counts;
    },

    /** ROC and PRO curve of these counts, with the threshold's point on them. */
    drawCurves(entry, threshold) {
      const points = curves(entry), now = at(entry, threshold);
      return [
        drawCurve(points, 1, 1, "ROC", "share of anomalous pixels found", [now.falsePositiveRate, now.recall]),
        drawCurve(points, 2, PRO_LIMIT, "PRO", "mean share of a region found", [now.falsePositiveRate, now.regionOverlap]),
      ];
    },
  };
})();
