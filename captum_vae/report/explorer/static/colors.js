/* Colours of maps. A map is a grey picture of 256 levels; SVG filters turn levels into colours,
   into a mask at a threshold, or into its outline. Filters work on pictures from the file system,
   whose pixels a script may not read. */
"use strict";

(function () {
  const app = window.captumVae;
  const SVG = "http://www.w3.org/2000/svg";
  const MOST_FILTERS = 3000;
  const made = new Set();
  let definitions = null;
  let cleared = 0;

  /** How much of a value's colour covers the image, before opacity: faint values are seen too. */
  const COVER = Array.from({ length: 256 }, (_, level) => Math.cbrt(level / 255));

  function svg(tag, attributes, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  /** The filter of that name, made on first use. */
  function filter(name, primitives) {
    if (!made.has(name)) {
      if (!definitions) {
        definitions = svg("svg", { width: 0, height: 0, "aria-hidden": "true", class: "filters" });
        app.mount.append(definitions);
      }
      definitions.append(svg("filter", {
        id: name, x: 0, y: 0, width: 1, height: 1, "color-interpolation-filters": "sRGB",
      }, ...primitives()));
      made.add(name);
    }
    return `url("#${name}")`;
  }

  const everyChannel = (attributes, channels = "RGB") =>
    [...channels].map((channel) => svg("feFunc" + channel, attributes));

  const LEVEL_AS_ALPHA = "0 0 0 0 1  0 0 0 0 1  0 0 0 0 1  1 0 0 0 0";

  /** Levels of the map's own range moved onto the scale; nothing to do where they are the same. */
  function onScale(range, scale) {
    const length = scale.high - scale.low;
    const slope = length > 0 ? (range.high - range.low) / length : 0;
    const start = length > 0 ? (range.low - scale.low) / length : 0;
    if (Math.abs(slope - 1) < 1e-4 && Math.abs(start) < 1e-4) return "";
    const [a, b] = [slope.toPrecision(3), start.toFixed(3)];
    return filter(`on-${a}-${b}`.replaceAll(".", "_").replaceAll("+", "p"), () => [
      svg("feComponentTransfer", {}, ...everyChannel({ type: "linear", slope: a, intercept: b })),
    ]) + " ";
  }

  function table(name, channel) {
    const digits = app.data.colormaps[name];
    const values = [];
    for (let place = 2 * channel; place < digits.length; place += 6) {
      values.push((parseInt(digits.slice(place, place + 2), 16) / 255).toFixed(4));
    }
    return values.join(" ");
  }

  const colored = (name, attributes) => svg("feComponentTransfer", attributes,
    ...[0, 1, 2].map((channel) =>
      svg("feFunc" + "RGB"[channel], { type: "table", tableValues: table(name, channel) })));

  app.svg = svg;
  app.colors = {
    /** CSS filter for a heat map alone: every colour as on the bar. */
    heat(name, range, scale) {
      return onScale(range, scale) + filter("heat-" + name, () => [colored(name, {})]);
    },

    /** CSS filter for an overlay: the larger the value, the more its colour covers the image. */
    overlay(name, range, scale) {
      return onScale(range, scale) + filter("overlay-" + name, () => [
        colored(name, { in: "SourceGraphic", result: "colour" }),
        svg("feColorMatrix", { in: "SourceGraphic", type: "matrix", values: LEVEL_AS_ALPHA }),
        svg("feComponentTransfer", { result: "cover" },
          svg("feFuncA", { type: "table", tableValues: COVER.map((v) => v.toFixed(4)).join(" ") })),
        svg("feComposite", { in: "colour", in2: "cover", operator: "in" }),
      ]);
    },

    /** CSS filter that leaves levels of at least a number, in one colour, and nothing else. */
    mask(level, color) {
      return filter(`mask-${level}-${color.slice(1)}`, () => [
        svg("feComponentTransfer", {}, ...everyChannel(step(level))),
        svg("feColorMatrix", { type: "matrix", values: LEVEL_AS_ALPHA, result: "mask" }),
        svg("feFlood", { "flood-color": color }),
        svg("feComposite", { in2: "mask", operator: "in" }),
      ]);
    },

    /** CSS filter that leaves the outline of what is at or above a level: white beside black. */
    outline(level) {
      return filter("outline-" + level, () => [
        svg("feComponentTransfer", {}, ...everyChannel(step(level))),
        svg("feColorMatrix", { type: "matrix", values: LEVEL_AS_ALPHA, result: "inside" }),
        svg("feMorphology", { in: "inside", operator: "dilate", radius: 1, result: "white" }),
        svg("feMorphology", { in: "inside", operator: "dilate", radius: 2, result: "larger" }),
        svg("feFlood", { "flood-color": "#000000" }),
        svg("feComposite", { in2: "larger", operator: "in", result: "black" }),
        svg("feMerge", { result: "rings" }, svg("feMergeNode", { in: "black" }),
          svg("feMergeNode", { in: "white" })),
        svg("feComposite", { in: "rings", in2: "inside", operator: "out" }),
      ]);
    },

    /** The lowest level of a map in its own range whose values reach the threshold; 256 for none. */
    levelAt(threshold, range) {
      const length = range.high - range.low;
      if (threshold <= range.low) return 0;
      if (threshold > range.high || length <= 0) return 256;
      return Math.min(255, Math.round(((threshold - range.low) / length) * 256));
    },

    /** How often filters were forgotten: what was drawn before has lost its own. */
    cleared: () => cleared,

    /** Forget filters of ranges long scrolled past; who draws next makes what it needs. */
    tidy() {
      if (made.size < MOST_FILTERS) return false;
      definitions.replaceChildren();
      made.clear();
      cleared += 1;
      return true;
    },
  };

  /** 1 from the level on, 0 below: so steep a line that it passes between two levels. */
  function step(level) {
    return { type: "linear", slope: 510, intercept: 1 - 2 * level };
  }
})();
