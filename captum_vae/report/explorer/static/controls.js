/* The controls: what is chosen, how it is coloured, the threshold, and the keyboard. */
"use strict";

(function () {
  const app = window.captumVae;
  const el = app.el;
  const set = (changes) => app.state.set(changes);
  const updates = []; // each brings one control to the state

  const labelled = (words, control) => el("label", { class: "control" }, el("span", {}, words), control);

  /** A choice among [value, words] pairs; it hides where there is nothing to choose. */
  function choice(words, id, options, read, write) {
    const select = el("select", { id, onchange: () => write(select.value) });
    const whole = labelled(words, select);
    updates.push(() => {
      const pairs = options();
      const now = JSON.stringify(pairs);
      if (select.dataset.pairs !== now) {
        select.replaceChildren(...pairs.map(([value, text]) => el("option", { value }, text)));
        select.dataset.pairs = now;
      }
      select.value = read();
      whole.hidden = pairs.length < 2;
    });
    return whole;
  }

  /** A field for a number, empty for none. */
  function numberField(words, id, read, write) {
    const input = el("input", { id, type: "number", step: "any", onchange: () =>
      write(input.value.trim() === "" || !Number.isFinite(Number(input.value)) ? null : Number(input.value)) });
    updates.push(() => {
      const value = read();
      if (document.activeElement !== input) input.value = value === null ? "" : Number(value.toPrecision(6));
    });
    return labelled(words, input);
  }

  function slider(words, id, options, read, write, said) {
    const input = el("input", { id, type: "range", ...options, oninput: () => write(Number(input.value)) });
    const output = el("output", { for: id });
    updates.push(() => {
      input.value = read();
      output.textContent = said();
      input.setAttribute("aria-valuetext", said());
    });
    return el("label", { class: "control slider" }, el("span", {}, words, " ", output), input);
  }

  function flag(words, id, key) {
    const input = el("input", { id, type: "checkbox", onchange: () => set({ [key]: input.checked }) });
    updates.push(() => { input.checked = app.state.now[key]; });
    return el("label", { class: "control check" }, input, el("span", {}, words));
  }

  // Which images -------------------------------------------------------------------------------

  const FIELD = { order: "order", name: "name", kind: "kind", KL: "KL (nats)" };
  const fieldWords = (field) => (Object.hasOwn(FIELD, field) ? FIELD[field] : field);
  const fields = () => app.state.sortable().map((field) => [field, fieldWords(field)]);

  function filters() {
    const search = el("input", { id: "name", type: "search", placeholder: "any", oninput: () => set({ name: search.value }) });
    updates.push(() => { if (search.value !== app.state.now.name) search.value = app.state.now.name; });
    const kinds = () => app.data.kinds.length < 2 ? [] : [["", "all"], ...app.data.kinds.map((kind, place) => [String(place), kind || "(none)"])];
    const turned = el("button", { type: "button", id: "descending", class: "turn",
      onclick: () => set({ descending: !app.state.now.descending }) });
    updates.push(() => {
      turned.textContent = app.state.now.descending ? "↓ highest first" : "↑ lowest first";
    });
    const numeric = () => fields().filter(([field]) => !["order", "name", "kind"].includes(field));
    const count = el("p", { class: "count", id: "count", role: "status" });
    updates.push(() => {
      const all = app.data.names.length, shown = app.state.order.length;
      count.textContent = shown === all ? (all === 1 ? "1 image" : `all ${all} images`) : `${shown} of ${all} images`;
    });
    const range = el("div", { class: "control-row" },
      choice("only where", "field", numeric, () => app.state.now.field, (field) => set({ field })),
      numberField("from", "from", () => app.state.now.from, (from) => set({ from })),
      numberField("to", "to", () => app.state.now.to, (to) => set({ to })));
    updates.push(() => { range.hidden = !numeric().length; });
    return group("Images",
      labelled("name contains", search),
      choice("kind", "kind", kinds,
        () => (app.state.now.kind === null ? "" : String(app.data.kinds.indexOf(app.state.now.kind))),
        (place) => set({ kind: place === "" ? null : app.data.kinds[Number(place)] })),
      el("div", { class: "control-row" },
        choice("sorted by", "sort", fields, () => app.state.now.sort, (sort) => set({ sort })), turned),
      range, count);
  }

  // Which map, in which colours ------------------------------------------------------------------

  const mapNames = () => [...new Set(app.data.maps.map((map) => map.name))];
  const mapNow = () => app.data.maps[app.state.now.map];
  const layersOf = (name) => app.data.maps.flatMap((map, place) => (map.name === name ? [[String(place), map.layer || "(none)"]] : []));

  function mapControls() {
    if (!app.data.maps.length) return null;
    const dims = () => app.data.dims.map((dim, place) => {
      const used = app.data.meanKL[dim];
      return [String(place), used === undefined || used === null ? `${dim}` : `${dim} (${app.number(used, 3)} nats)`];
    });
    const dim = choice("dimension", "dim", () => (mapNow().perDimension ? dims() : []),
      () => String(app.state.now.dim), (value) => set({ dim: Number(value) }));
    const views = () => Object.entries(app.panels.VIEWS).filter(([view]) =>
      view !== "called" || app.thresholds.ofMap()).map(([view, { title }]) => [view, title]);
    return group("Map",
      choice("map", "map", () => mapNames().map((name) => [name, name || "(no name)"]), () => mapNow().name,
        (name) => set({ map: sameLayer(name) })),
      choice("layer", "layer", () => layersOf(mapNow().name), () => String(app.state.now.map),
        (value) => set({ map: Number(value) })),
      dim,
      choice("cards show", "view", views, () => app.state.now.view, (view) => set({ view })),
      choice("colours", "colors", () => Object.keys(app.data.colormaps).map((name) => [name, name]),
        () => app.state.now.colors, (colors) => set({ colors })),
      scaleControl(),
      slider("opacity of overlays", "opacity", { min: 0, max: 1, step: 0.05 }, () => app.state.now.opacity,
        (opacity) => set({ opacity }), () => Math.round(100 * app.state.now.opacity) + "%"));
  }

  /** The map of that name at the layer that is looked at, or at its first one. */
  function sameLayer(name) {
    const layer = mapNow().layer;
    const places = app.data.maps.flatMap((map, place) => (map.name === name ? [place] : []));
    return places.find((place) => app.data.maps[place].layer === layer) ?? places[0];
  }

  function scaleControl() {
    const radio = (value, words) => {
      const input = el("input", { type: "radio", name: "scale", id: "scale-" + value, value,
        onchange: () => set({ scale: value }) });
      updates.push(() => { input.checked = app.state.now.scale === value; });
      return el("label", { class: "control check" }, input, el("span", {}, words));
    };
    const end = (words, key, place) => numberField(words, key,
      () => app.state.now[key] ?? mapNow().scale[place], (value) => set({ [key]: value }));
    const ends = el("div", { class: "control-row ends-row" }, end("lowest", "low", 0), end("highest", "high", 1));
    updates.push(() => { ends.hidden = app.state.now.scale === "own"; });
    return el("div", { class: "scale" },
      el("fieldset", { class: "scale" }, el("legend", {}, "colour scale"),
        radio("common", "common to all images"), radio("own", "own for each map")), ends);
  }

  // All overlays and their bar take it from here, so that nothing need be drawn again.
  updates.push(() => app.mount.style.setProperty("--opacity", app.state.now.opacity));

  // The threshold ------------------------------------------------------------------------------

  const STEPS = 1000;

  function thresholdControls() {
    if (!app.data.maps.some((map) => !map.perDimension)) return null;
    const span = () => {
      const map = app.thresholds.ofMap();
      return map ? [map.low[0], Math.max(map.high[0], ...map.named.map(([, value]) => value))] : [0, 1];
    };
    const value = () => app.thresholds.value() ?? 0;
    const at = () => {
      const [low, high] = span();
      return high > low ? Math.round((STEPS * (value() - low)) / (high - low)) : 0;
    };
    const move = (place) => {
      const [low, high] = span();
      set({ threshold: app.thresholds.snapped(low + (place / STEPS) * (high - low)) });
    };
    const named = choice("named", "named", () => {
      const map = app.thresholds.ofMap();
      return map ? [["", "another"], ...map.named.map(([label], place) => [String(place), label])] : [];
    }, () => {
      const place = app.thresholds.ofMap()?.named.findIndex(([, named_]) => named_ === value()) ?? -1;
      return place < 0 ? "" : String(place);
    }, (place) => place !== "" && set({ threshold: app.thresholds.ofMap().named[Number(place)][1] }));
    const table = el("dl", { class: "facts", id: "counted" });
    const title = el("p", { class: "soft", id: "counted-over" });
    const curves = el("div", { class: "curves" });
    let drawn = null;
    updates.push(() => {
      const map = app.thresholds.ofMap();
      if (!map) return;
      const known = map.truthKnown > 0;
      const entry = known ? app.thresholds.counted() : map.countsUnknown;
      const now = app.thresholds.at(entry, value());
      const kind = app.state.now.kind;
      const of = known && entry !== map.counts ? ` of kind ${kind || "(none)"}` : "";
      title.textContent = known ? `Pixels of all images${of} with ground truth:` : "Pixels of all images:";
      const rows = known
        ? [["IoU", now.iou], ["false positive rate", now.falsePositiveRate], ["recall", now.recall],
          ["F1", now.f1], ["mean share of a region", now.regionOverlap]]
        : [["called anomalous", now.called]];
      table.replaceChildren(...rows.flatMap(([name, number]) => [el("dt", {}, name),
        el("dd", { title: String(number), id: "counted-" + name.replaceAll(" ", "-") }, app.number(number))]));
      const key = known && now.anomalous && now.normal ? [app.state.now.map, kind, value()].join() : null;
      if (key !== drawn) curves.replaceChildren(...(key ? app.thresholds.drawCurves(entry, value()) : []));
      drawn = key;
    });
    const left = el("div", { class: "threshold-left" },
      slider("called anomalous from", "threshold", { min: 0, max: STEPS, step: 1 }, at, move, () => app.number(value())),
      el("div", { class: "control-row" },
        numberField("exactly", "threshold-number", value, (number) => number !== null && set({ threshold: app.thresholds.snapped(number) })),
        named),
      flag("outline it on overlays", "outline", "outline"), title, table,
      el("p", { class: "soft small-print" }, "Numbers are exact counts of pixels at or above the threshold, made by Python on the " +
        "maps as compared; pictures have 256 levels and may be smaller."));
    const box = group("Threshold", left, curves);
    box.classList.add("threshold");
    updates.push(() => { box.hidden = !app.thresholds.ofMap(); });
    return box;
  }

  // The keyboard -------------------------------------------------------------------------------

  const turn = (key, count) => (by) => set({ [key]: (app.state.now[key] + by + count()) % count() });
  const dimBy = turn("dim", () => app.data.dims.length);
  const thresholdBy = (by) => {
    const slide = document.getElementById("threshold");
    if (!slide || !app.thresholds.ofMap()) return;
    slide.value = Number(slide.value) + 5 * by;
    slide.dispatchEvent(new Event("input"));
  };
  const KEYS = {
    j: ["next image", () => app.grid.step(1)],
    k: ["image before", () => app.grid.step(-1)],
    d: ["next dimension", () => mapNow()?.perDimension && dimBy(1)],
    D: ["dimension before", () => mapNow()?.perDimension && dimBy(-1)],
    m: ["next map", () => app.data.maps.length && turn("map", () => app.data.maps.length)(1)],
    s: ["scale common or own", () => set({ scale: app.state.now.scale === "own" ? "common" : "own" })],
    v: ["what cards show", nextView],
    ".": ["higher threshold", () => thresholdBy(1)],
    ",": ["lower threshold", () => thresholdBy(-1)],
    e: ["enlarge, or close", () => set({ enlarged: app.state.now.enlarged ? null : app.state.now.view })],
    "/": ["search a name", () => document.getElementById("name").focus()],
  };

  function nextView() {
    const options = [...document.getElementById("view").options].map((option) => option.value);
    set({ view: options[(options.indexOf(app.state.now.view) + 1) % options.length] });
  }

  function keyboard() {
    const on = el("input", { type: "checkbox", id: "keys", checked: true });
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest?.("input:not([type=checkbox], [type=radio], [type=range]), select, textarea");
      if (!on.checked || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (!Object.hasOwn(KEYS, event.key)) return;
      event.preventDefault();
      KEYS[event.key][1]();
    });
    return el("details", { class: "keys" }, el("summary", {}, "Keyboard and links"),
      el("label", { class: "control check" }, on, el("span", {}, "keys of one letter work")),
      el("dl", { class: "facts" }, ...Object.entries(KEYS).flatMap(([key, [words]]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, words)]),
        el("dt", {}, "arrows"), el("dd", {}, "among the images, when they have the focus")),
      el("p", { class: "soft" }, "The address of this page holds what you see: copy it to come back to this view."));
  }

  function group(title, ...children) {
    return el("fieldset", { class: "group" }, el("legend", {}, title), ...children);
  }

  app.controls = {
    build: () => el("form", { class: "controls", "aria-label": "what is shown", onsubmit: (event) => event.preventDefault() },
      filters(), mapControls(), keyboard()),
    buildThreshold: thresholdControls,
    update: () => updates.forEach((update) => update()),
  };
})();
