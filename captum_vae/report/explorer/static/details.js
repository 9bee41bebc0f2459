/* The chosen image: its views side by side, its numbers, its dimensions, and one view enlarged. */
"use strict";

(function () {
  const app = window.captumVae;
  const el = app.el;

  const heading = el("h3", { id: "chosen-name", "aria-live": "polite" });
  const facts = el("dl", { class: "facts" });
  const views = el("div", { class: "views" });
  const bars = el("div", { class: "bars" });
  const note = el("p", { class: "note" });
  const traversal = el("div", { class: "traversal-of" });
  const dims = el("div", { class: "dims", role: "group", "aria-label": "maps of all dimensions" });
  const element = el("section", { class: "details", "aria-labelledby": "chosen-name" },
    el("div", { class: "chosen" }, heading, facts), views, bars, note, traversal, dims);

  const dialog = el("dialog", { class: "enlarged", onclose: () => app.state.now.enlarged && app.state.set({ enlarged: null }) });

  function fact(name, value, full) {
    return [el("div", {}, el("dt", {}, name), el("dd", { title: full === undefined ? "" : String(full) }, value))];
  }

  function drawFacts(image, entry) {
    const kind = app.data.kinds[app.data.kindOf[image]];
    const found = kind ? fact("kind", kind) : [];
    for (const [label, column] of Object.entries(app.data.columns)) {
      found.push(...fact(label, app.number(column[image]), column[image]));
    }
    const map = app.thresholds.ofMap();
    if (map) {
      const now = app.thresholds.at(entry.maps[app.state.now.map].counts, app.thresholds.value());
      found.push(...fact("called", app.number(100 * now.called, 3) + "% of pixels", now.called));
      if (now.anomalous) found.push(...fact("IoU", app.number(now.iou), now.iou));
      if (entry.mask) found.push(...fact("false positive rate", app.number(now.falsePositiveRate), now.falsePositiveRate));
    }
    facts.replaceChildren(...found);
  }

  /** A figure of one view, which a click enlarges. */
  function figure(view, image, entry) {
    const stack = el("div", { class: "stack" });
    app.panels.draw(stack, view, image, entry);
    const title = app.panels.VIEWS[view].title;
    return el("figure", { class: "view view-" + view },
      el("button", { type: "button", class: "frame", "aria-label": `enlarge the ${title}`,
        onclick: () => app.state.set({ enlarged: view }) }, stack),
      el("figcaption", {}, title, view === "called" && entry.mask ? legend() : ""));
  }

  function legend() {
    const chip = (color, words) => {
      const mark = el("i", { class: "chip " + words.replace(" ", "-") });
      mark.style.background = color;
      return el("span", { class: "legend" }, mark, words);
    };
    return el("span", { class: "legends" }, chip("#d5d0b2", "found"),
      chip(app.panels.CALLED, "false alarm"), chip(app.panels.TRUTH, "missed"));
  }

  /** A bar of the colours, as they are alone or over black to light grey, with its numbers. */
  function bar(words, scale, filter, over) {
    const levels = el("div", { class: over ? "levels cover" : "levels" });
    levels.style.filter = filter;
    const strip = el("div", { class: over ? "bar over" : "bar" }, levels);
    const map = app.data.maps[app.state.now.map];
    const more = app.state.now.scale === "common" && Math.max(...map.high) > scale.high ? " or more" : "";
    const less = app.state.now.scale === "common" && Math.min(...map.low) < scale.low ? " or less" : "";
    return el("div", { class: "bar-box" }, el("span", { class: "bar-words" }, words), strip,
      el("div", { class: "ends" }, el("span", {}, app.number(scale.low) + less),
        el("span", {}, app.number((scale.low + scale.high) / 2, 3)), el("span", {}, app.number(scale.high) + more)));
  }

  function drawBars(entry) {
    if (!entry.maps.length) { bars.replaceChildren(); note.textContent = ""; return; }
    const scale = app.panels.scaleOf(entry), colors = app.state.now.colors;
    const which = app.state.now.scale === "own" ? "scale of this map alone" : "one scale for all images";
    bars.replaceChildren(
      bar(`heat map: ${which}`, scale, app.colors.heat(colors, scale, scale), false),
      bar("overlay: the same over black (below) to white (above)", scale,
        app.colors.overlay(colors, scale, scale), true));
    note.textContent = hidden(scale);
  }

  /** Where the common scale hides the dimension: words for the page. */
  function hidden(scale) {
    const map = app.data.maps[app.state.now.map];
    if (!map.perDimension || app.state.now.scale === "own") return "";
    const share = (map.high[app.state.now.dim] - scale.low) / (scale.high - scale.low || 1);
    if (share >= 0.25) return "";
    return `The common scale hides dimension ${app.data.dims[app.state.now.dim]}: over all images it ` +
      `reaches ${app.number(100 * Math.max(0, share), 2)}% of the scale. Choose "own" to see its maps.`;
  }

  function drawDims(image, entry) {
    const map = app.data.maps[app.state.now.map];
    const now = app.state.now.dim;
    const there = map && map.perDimension;
    dims.hidden = !there;
    const decoded = entry.traversal || app.data.traversal;
    traversal.hidden = !(there && decoded);
    traversal.replaceChildren();
    if (!there) return;
    if (decoded) {
      const whose = entry.traversal ? "" : ` of ${app.data.names[decoded.image]}`;
      const stack = el("div", { class: "stack" });
      app.panels.draw(stack, "overlay", image, entry);
      traversal.append(
        el("h4", {}, `Dimension ${app.data.dims[now]}: its map, and what the decoder makes of it${whose}`),
        el("div", { class: "beside" },
          el("figure", { class: "step" }, stack, el("figcaption", {}, "map")),
          app.panels.traversal(decoded, now, app.data.names[entry.traversal ? image : decoded.image], entry.image)));
    }
    const order = app.data.dims.map((_, place) => place);
    const used = app.data.meanKL;
    if (used.length) order.sort((a, b) => used[app.data.dims[b]] - used[app.data.dims[a]] || a - b);
    const focused = dims.contains(document.activeElement);
    // Another dimension is another button, not other maps: 32 of them are slow to draw.
    const { scale, low, high, colors, view } = app.state.now;
    const key = JSON.stringify([image, app.state.now.map, scale, low, high, colors, view === "heat", app.colors.cleared()]);
    if (dims.dataset.key === key) {
      for (const button of dims.children) button.setAttribute("aria-pressed", String(Number(button.value) === now));
    } else dims.replaceChildren(...order.map((place) => {
      const stack = el("div", { class: "stack" });
      app.panels.draw(stack, app.state.now.view === "heat" ? "heat" : "overlay", image, entry, place);
      const words = [`dim ${app.data.dims[place]}`];
      const lines = [];
      if (used.length) lines.push(`${app.number(used[app.data.dims[place]], 2)} nats`);
      if (app.state.now.scale === "own") {
        const own = app.panels.scaleOf(entry, place);
        lines.push(`${app.number(own.low, 2)} … ${app.number(own.high, 2)}`);
      }
      return el("button", { type: "button", class: "dim", value: String(place), "aria-pressed": String(place === now),
        onclick: () => app.state.set({ dim: place }) }, stack,
      el("span", {}, ...words), ...lines.map((line) => el("span", { class: "soft" }, line)));
    }));
    dims.dataset.key = key;
    if (focused) dims.querySelector("[aria-pressed=true]").focus({ preventScroll: true });
  }

  function drawEnlarged(image, entry) {
    const view = app.state.now.enlarged;
    if (!view || !app.panels.viewsOf(entry).includes(view)) {
      if (dialog.open) dialog.close();
      return;
    }
    const stack = el("div", { class: "stack" });
    app.panels.draw(stack, view, image, entry);
    // As large as the window allows, whole.
    stack.style.width = `min(92vw, calc(80vh * ${app.panels.aspectOf(entry.image)}))`;
    dialog.setAttribute("aria-label", `${app.panels.VIEWS[view].title}, enlarged`);
    dialog.replaceChildren(
      el("header", {}, el("strong", {}, app.data.names[image]), ` ${app.panels.VIEWS[view].title}`,
        el("button", { type: "button", class: "close", "aria-label": "close", onclick: () => dialog.close() }, "×")),
      stack);
    if (!dialog.open) dialog.showModal();
  }

  let turn = 0;
  async function draw() {
    const mine = ++turn;
    const image = app.state.now.image;
    const entry = app.entryIfLoaded(image) || (await app.entry(image));
    if (mine !== turn) return; // somebody chose another one meanwhile
    const name = app.data.names[image] || "(no name)";
    if (heading.textContent !== name) heading.textContent = name;
    drawFacts(image, entry);
    const shown = app.panels.viewsOf(entry);
    views.dataset.count = shown.length;
    views.replaceChildren(...shown.map((view) => figure(view, image, entry)));
    drawBars(entry);
    drawDims(image, entry);
    drawEnlarged(image, entry);
  }

  const LEFT_ALONE = ["opacity", "sort", "descending", "name", "kind", "field", "from", "to", "order"];
  let waiting = 0;

  app.details = {
    element, dialog,
    start() {
      draw();
      app.state.watch((changed) => {
        if ([...changed].every((word) => LEFT_ALONE.includes(word))) return;
        cancelAnimationFrame(waiting);
        waiting = requestAnimationFrame(draw);
      });
    },
  };
})();
