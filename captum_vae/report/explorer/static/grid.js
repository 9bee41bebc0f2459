/* All images as cards, of which only those in sight exist. */
"use strict";

(function () {
  const app = window.captumVae;
  const GAP = 10, NAME = 24, WORDS = 20, LEAST_WIDTH = 128, ROWS_BESIDE = 2;

  const inner = app.el("div", { class: "cards" });
  const box = app.el("div", {
    class: "grid", tabIndex: 0, role: "listbox", "aria-label": "images", id: "images",
  }, inner);
  const cards = new Map(); // by image
  let layout = { columns: 1, width: LEAST_WIDTH, height: LEAST_WIDTH + NAME };
  let aspect = 1;

  function measure() {
    const room = box.clientWidth - 2 * GAP;
    const columns = Math.max(2, Math.floor((room + GAP) / (LEAST_WIDTH + GAP)));
    const width = (room - (columns - 1) * GAP) / columns;
    const worded = app.data.kinds.length > 1 || fieldShown() || app.state.now.scale === "own";
    const picture = width / Math.max(aspect, 0.5);
    layout = { columns, width, height: picture + NAME + (worded ? WORDS : 0) };
    const height = Math.ceil(app.state.order.length / columns) * (layout.height + GAP);
    inner.style.height = height + "px";
    box.style.setProperty("--content", height + 2 * GAP + 4 + "px");
  }

  /** Make the cards in sight and drop the others. */
  function place() {
    const { columns, width, height } = layout;
    const order = app.state.order;
    const from = Math.max(0, Math.floor(box.scrollTop / (height + GAP)) - ROWS_BESIDE);
    const to = Math.ceil((box.scrollTop + box.clientHeight) / (height + GAP)) + ROWS_BESIDE;
    const wanted = new Map();
    const room = JSON.stringify([columns, width, height, order.length]);
    for (let at = from * columns; at < Math.min(order.length, to * columns); at++) wanted.set(order[at], at);
    for (const [image, card] of cards) {
      if (!wanted.has(image)) {
        card.remove();
        cards.delete(image);
      }
    }
    const chosen = app.state.now.image;
    for (const [image, at] of wanted) {
      let card = cards.get(image);
      if (!card) {
        card = make(image);
        cards.set(image, card);
        inner.append(card);
        draw(image, card);
      }
      const selected = String(image === chosen);
      if (card.getAttribute("aria-selected") !== selected) card.setAttribute("aria-selected", selected);
      const where = at + room; // while the page is scrolled, cards stay where they are
      if (card.dataset.where === where) continue;
      card.dataset.where = where;
      const row = Math.floor(at / columns), column = at % columns;
      card.style.width = width + "px";
      card.style.height = height + "px";
      card.style.transform = `translate(${column * (width + GAP)}px, ${row * (height + GAP)}px)`;
      card.setAttribute("aria-setsize", order.length);
      card.setAttribute("aria-posinset", at + 1);
    }
    if (cards.has(chosen)) box.setAttribute("aria-activedescendant", cards.get(chosen).id);
    else box.removeAttribute("aria-activedescendant");
  }

  function make(image) {
    const name = app.data.names[image];
    return app.el("div", {
      class: "card", role: "option", id: "card-" + image, title: name,
      onclick: () => app.state.set({ image }),
      ondblclick: () => app.state.set({ image, enlarged: app.state.now.view }),
    },
    app.el("div", { class: "stack" }),
    app.el("div", { class: "card-name" }, name.split("/").pop() || name || "(no name)"),
    app.el("div", { class: "card-words" }));
  }

  async function draw(image, card) {
    const entry = app.entryIfLoaded(image) || (await app.entry(image));
    if (cards.get(image) !== card) return; // scrolled past meanwhile
    app.panels.draw(card.firstChild, app.state.now.view, image, entry);
    card.lastChild.replaceChildren(wordsOf(image, entry));
  }

  /** The number under each card: what they are sorted by, else the score. */
  function fieldShown() {
    const sort = app.state.now.sort;
    const field = ["order", "name", "kind"].includes(sort) ? "score" : sort;
    return field === "KL of the dimension" || Object.hasOwn(app.data.columns, field) ? field : null;
  }

  /** What stands under a card: kind, the number it is sorted by, and the range of its own scale. */
  function wordsOf(image, entry) {
    const { scale, view } = app.state.now;
    const words = [];
    const field = fieldShown();
    if (field) words.push(app.number(app.state.valueOf(field, image, app.state.now), 3));
    words.push(app.data.kinds[app.data.kindOf[image]]);
    if (scale === "own" && entry.maps.length && ["heat", "overlay"].includes(view)) {
      const own = app.panels.scaleOf(entry);
      words.push(`${app.number(own.low, 2)} … ${app.number(own.high, 2)}`);
    }
    return words.filter(Boolean).join(" · ");
  }

  const redraw = () => cards.forEach((card, image) => draw(image, card));

  /** Bring the chosen image into sight. */
  function reveal() {
    const at = app.state.order.indexOf(app.state.now.image);
    if (at < 0) return;
    const top = Math.floor(at / layout.columns) * (layout.height + GAP);
    if (top < box.scrollTop) box.scrollTop = top;
    const bottom = top + layout.height + GAP;
    if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
  }

  /** Choose another image by its place among those shown. */
  function step(places) {
    const order = app.state.order;
    if (!order.length) return;
    const at = order.indexOf(app.state.now.image);
    const next = at < 0 ? 0 : Math.min(order.length - 1, Math.max(0, at + places));
    app.state.set({ image: order[next] });
  }

  const PAGE = () => layout.columns * Math.max(1, Math.floor(box.clientHeight / (layout.height + GAP)));
  const KEYS = {
    ArrowRight: () => step(1), ArrowLeft: () => step(-1),
    ArrowDown: () => step(layout.columns), ArrowUp: () => step(-layout.columns),
    PageDown: () => step(PAGE()), PageUp: () => step(-PAGE()),
    Home: () => step(-Infinity), End: () => step(Infinity),
    Enter: () => app.state.set({ enlarged: app.state.now.view }),
  };

  let waiting = 0;
  const soon = (work) => { // at most once per picture of the screen
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(work);
  };

  const OF_PICTURES = ["map", "scale", "low", "high", "colors", "threshold", "outline", "view", "sort"];

  app.grid = {
    element: box, step, cards,
    async start() {
      const entry = await app.entry(app.state.now.image);
      aspect = app.panels.aspectOf(entry.image);
      box.addEventListener("scroll", () => soon(place), { passive: true });
      box.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
        event.preventDefault();
        KEYS[event.key]();
      });
      new ResizeObserver(() => { measure(); place(); }).observe(box);
      measure();
      reveal();
      place();
      app.state.watch((changed) => {
        if (changed.has("order")) box.scrollTop = 0;
        if (changed.has("order") || changed.has("scale")) measure();
        if (changed.has("image")) reveal();
        if (changed.has("image") || changed.has("order")) place();
        const dim = changed.has("dim") && app.data.maps[app.state.now.map]?.perDimension;
        if (dim || OF_PICTURES.some((word) => changed.has(word))) {
          app.colors.tidy();
          soon(() => { place(); redraw(); });
        }
      });
    },
  };
})();
