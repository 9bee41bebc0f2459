/* One view of one image: pictures stacked on each other, described in words. */
"use strict";

(function () {
  const app = window.captumVae;
  const CALLED = "#d55e00", TRUTH = "#0072b2"; // tell each other apart to the colour-blind too
  const TRUTH_LEVEL = 192; // of a mask: 255 anomalous, 128 not counted, 0 normal

  /** Width by height as shown: beyond 50 times as long as wide a picture would be a line. */
  const aspectOf = (size) => Math.min(50, Math.max(1 / 50, size.width / size.height));

  /** Give an element the shape of a picture, at most twice as high as there is room in width. */
  function shape(element, size) {
    const aspect = aspectOf(size);
    element.style.aspectRatio = String(aspect);
    element.style.width = aspect < 0.5 ? `${200 * aspect}%` : "";
  }

  /** The views, with what each needs of an image's entry and of the kind of map. */
  const VIEWS = {
    image: { title: "image", there: () => true },
    reconstruction: { title: "reconstruction", there: (entry) => entry.reconstruction },
    truth: { title: "ground truth", there: (entry) => entry.mask },
    heat: { title: "heat map", there: (entry) => entry.maps.length },
    overlay: { title: "overlay", there: (entry) => entry.maps.length },
    called: { title: "called anomalous", there: (entry, map) => map && !map.perDimension },
  };

  const place = () => (app.data.maps[app.state.now.map]?.perDimension ? app.state.now.dim : 0);

  /** The values at levels 0 and 256 of the map that is looked at, or of another dimension's. */
  function rangeOf(entry, at = place()) {
    const map = entry.maps[app.state.now.map];
    return { low: map.low[at], high: map.high[at] };
  }

  /** The values of the first and the last colour for a map of an image. */
  function scaleOf(entry, at = place()) {
    const { scale, low, high, map } = app.state.now;
    if (scale === "own") {
      const own = rangeOf(entry, at);
      return { low: Math.min(0, own.low), high: own.high };
    }
    const common = app.data.maps[map].scale;
    return { low: low ?? common[0], high: high ?? common[1] };
  }

  /** A whole picture. */
  const whole = (picture) =>
    app.el("img", { class: "layer", src: app.address(picture.file), alt: "", decoding: "async" });

  /** One tile of a sheet, without the border that keeps its neighbours out when it is enlarged. */
  function tile(sheet, at, border) {
    const column = at % sheet.columns, row = Math.floor(at / sheet.columns);
    const rows = sheet.rows || Math.ceil(sheet.low.length / sheet.columns);
    const W = sheet.columns * (sheet.width + 2 * border), H = rows * (sheet.height + 2 * border);
    const share = (offset, size, all) => (all > size ? (100 * offset) / (all - size) : 0);
    const x = share(column * (sheet.width + 2 * border) + border, sheet.width, W);
    const y = share(row * (sheet.height + 2 * border) + border, sheet.height, H);
    const element = app.el("div", { class: "layer" });
    element.style.backgroundImage = `url("${app.address(sheet.file)}")`;
    element.style.backgroundSize = `${(100 * W) / sheet.width}% ${(100 * H) / sheet.height}%`;
    element.style.backgroundPosition = `${x}% ${y}%`;
    return element;
  }

  function mapTile(entry, filter, { at = place(), kind = "" } = {}) {
    const element = tile(entry.maps[app.state.now.map], at, 1);
    element.style.filter = filter;
    if (kind) element.classList.add(kind);
    return element;
  }

  function dimmed(entry) {
    const picture = whole(entry.image);
    picture.classList.add("dimmed");
    return picture;
  }

  function outline(entry) {
    const level = app.colors.levelAt(app.thresholds.value(), rangeOf(entry));
    return level > 255 ? [] : [mapTile(entry, app.colors.outline(level), { kind: "crisp" })];
  }

  const LAYERS = {
    image: (entry) => [whole(entry.image)],
    reconstruction: (entry) => [whole(entry.reconstruction)],
    truth(entry) {
      const mask = whole(entry.mask);
      mask.classList.add("crisp");
      return [mask];
    },
    heat(entry, at) {
      const colors = app.colors.heat(app.state.now.colors, rangeOf(entry, at), scaleOf(entry, at));
      return [mapTile(entry, colors, { at })];
    },
    overlay(entry, at) {
      const filter = app.colors.overlay(app.state.now.colors, rangeOf(entry, at), scaleOf(entry, at));
      const layers = [dimmed(entry), mapTile(entry, filter, { at, kind: "cover" })];
      const drawn = app.state.now.outline && app.thresholds.ofMap();
      return drawn ? [...layers, ...outline(entry)] : layers;
    },
    called(entry) {
      const level = app.colors.levelAt(app.thresholds.value(), rangeOf(entry));
      const group = app.el("div", { class: "layer agreement" });
      if (level < 256) {
        group.append(mapTile(entry, app.colors.mask(level, CALLED), { kind: "crisp" }));
      }
      if (entry.mask) {
        const mask = whole(entry.mask);
        mask.classList.add("crisp", "added");
        mask.style.filter = app.colors.mask(TRUTH_LEVEL, TRUTH);
        group.append(mask);
      }
      return [dimmed(entry), group];
    },
  };

  function words(view, image, at) {
    const map = app.data.maps[app.state.now.map];
    const of = `${VIEWS[view].title} of ${app.data.names[image]}`;
    if (!["heat", "overlay", "called"].includes(view)) return of;
    const which = [map.name, map.layer, map.perDimension ? `dimension ${app.data.dims[at]}` : ""];
    return `${of}: ${which.filter(Boolean).join(", ")}`;
  }

  app.panels = {
    VIEWS, CALLED, TRUTH, aspectOf, rangeOf, scaleOf,

    /** The views that an image has. */
    viewsOf(entry) {
      const map = app.data.maps[app.state.now.map];
      return Object.keys(VIEWS).filter((view) => VIEWS[view].there(entry, map));
    },

    /** Draw a view of an image into an element, which keeps its size while pictures load. */
    draw(element, view, image, entry, at = place()) {
      const shown = VIEWS[view].there(entry, app.data.maps[app.state.now.map]) ? view : "image";
      element.setAttribute("role", "img");
      element.setAttribute("aria-label", words(shown, image, at));
      shape(element, entry.image);
      element.classList.toggle("small", entry.image.width < 100 || shown === "called");
      element.replaceChildren(...LAYERS[shown](entry, at));
      element.classList.toggle("enlargeable-pixels", entry.image.width < 100);
    },

    /** The decoder's images of one dimension, a step each, with what it was set to. */
    traversal(sheet, at, name, size) {
      const steps = Array.from({ length: sheet.columns }, (_, step) => {
        const picture = tile({ ...sheet, low: [] }, at * sheet.columns + step, 0);
        const value = app.data.traversed[step] || "";
        const frame = app.el("div", { class: "stack", role: "img",
          "aria-label": `decoder's image of ${name}, dimension ${app.data.dims[at]} at ${value || step}` }, picture);
        shape(frame, size);
        return app.el("figure", { class: "step" }, frame, app.el("figcaption", {}, value));
      });
      return app.el("div", { class: "traversal" }, ...steps);
    },
  };
})();
