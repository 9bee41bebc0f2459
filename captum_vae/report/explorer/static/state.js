/* What is being looked at: one object, kept in the address so that a link restores the view. */
"use strict";

(function () {
  const app = window.captumVae;

  const WORDS = { // how each setting is read from the address; what does not fit is left out
    image: (text) => whole(text, app.data.names.length),
    map: (text) => whole(text, app.data.maps.length),
    dim: (text) => whole(text, Math.max(1, app.data.dims.length)),
    scale: (text) => (["common", "own"].includes(text) ? text : undefined),
    low: (text) => finite(text),
    high: (text) => finite(text),
    colors: (text) => (Object.hasOwn(app.data.colormaps, text) ? text : undefined),
    opacity: (text) => within(finite(text), 0, 1),
    threshold: (text) => finite(text),
    outline: (text) => (text === "1" ? true : text === "0" ? false : undefined),
    view: (text) => (Object.hasOwn(app.panels.VIEWS, text) ? text : undefined),
    sort: (text) => (sortable().includes(text) ? text : undefined),
    descending: (text) => (text === "1" ? true : text === "0" ? false : undefined),
    name: (text) => text,
    kind: (text) => (app.data.kinds.includes(text) ? text : undefined),
    field: (text) => (sortable().includes(text) ? text : undefined),
    from: (text) => finite(text),
    to: (text) => finite(text),
    enlarged: (text) => (Object.hasOwn(app.panels.VIEWS, text) ? text : undefined),
  };

  function whole(text, count) {
    const value = Number(text);
    return Number.isInteger(value) && value >= 0 && value < count ? value : undefined;
  }
  function finite(text) {
    const value = Number(text);
    return text.trim() !== "" && Number.isFinite(value) ? value : undefined;
  }
  const within = (value, low, high) =>
    value === undefined ? value : Math.min(high, Math.max(low, value));

  /** By what images can be sorted; the numbers among them can be filtered by. */
  function sortable() {
    const fields = ["order", "name"];
    if (app.data.kinds.length > 1) fields.push("kind");
    fields.push(...Object.keys(app.data.columns));
    if (app.data.meanKL.length) fields.push("KL of the dimension");
    return fields;
  }

  /** What a page shows before anybody chose anything. */
  function defaults() {
    const scored = "score" in app.data.columns;
    const state = {
      map: 0, dim: 0, scale: app.data.ownScale ? "own" : "common", low: null, high: null, colors: "inferno", opacity: 0.8,
      outline: true, view: app.data.maps.length ? "overlay" : "image",
      sort: scored ? "score" : "order", descending: scored, name: "", kind: null,
      field: Object.keys(app.data.columns)[0] || "order", from: null, to: null,
      image: 0, threshold: null, enlarged: null,
    };
    const used = app.data.meanKL;
    if (used.length) {
      state.dim = app.data.dims.reduce(
        (best, dim, place) => (used[dim] > used[app.data.dims[best]] ? place : best), 0);
    }
    state.image = select(state)[0];
    return state;
  }

  /** The value of a field of an image, by which it is sorted or filtered. */
  function valueOf(field, image, state) {
    if (field === "order") return image;
    if (field === "name") return app.data.names[image];
    if (field === "kind") return app.data.kinds[app.data.kindOf[image]];
    if (field === "KL of the dimension") {
      const kl = app.klIfLoaded();
      return kl ? kl.of(app.data.dims[state.dim], image) : null;
    }
    return app.data.columns[field][image];
  }

  /** Images that pass the filters, in order; what is unknown comes last. */
  function select(state) {
    const wanted = state.name.toLowerCase();
    const kind = state.kind === null ? -1 : app.data.kinds.indexOf(state.kind);
    const limited = state.from !== null || state.to !== null;
    const found = [];
    app.data.names.forEach((name, image) => {
      if (wanted && !name.toLowerCase().includes(wanted)) return;
      if (kind >= 0 && app.data.kindOf[image] !== kind) return;
      if (limited) {
        const value = valueOf(state.field, image, state);
        if (value === null || Number.isNaN(value)) return;
        if (state.from !== null && value < state.from) return;
        if (state.to !== null && value > state.to) return;
      }
      found.push(image);
    });
    if (state.sort === "order") return state.descending ? found.reverse() : found;
    const keys = new Map(found.map((image) => [image, valueOf(state.sort, image, state)]));
    const turn = state.descending ? -1 : 1;
    const texts = new Intl.Collator(undefined, { numeric: true }); // made once: comparing 5,000 names is slow
    const unknown = (value) => value === null || Number.isNaN(value);
    return found.sort((a, b) => {
      const x = keys.get(a), y = keys.get(b);
      if (unknown(x) || unknown(y)) return unknown(x) - unknown(y) || a - b;
      if (typeof x === "string") return turn * texts.compare(x, y) || a - b;
      return turn * (x - y) || a - b;
    });
  }

  const watchers = [];
  let first = null;

  /* Browsers refuse more than 100 new addresses in 30 seconds (Safari) or 200 in 10 (Firefox), and a
     slider that is dragged gives 60 settings a second. */
  const ADDRESS_EVERY = 350;
  let writing = 0, written = -ADDRESS_EVERY;

  /** Bring the address to the settings, so that it restores the view. */
  function writeAddress() {
    clearTimeout(writing);
    writing = 0;
    written = performance.now();
    const words = new URLSearchParams();
    for (const [word, value] of Object.entries(app.state.now)) {
      if (value === first[word] || value === null) continue;
      words.set(word, typeof value === "boolean" ? Number(value) : value);
    }
    history.replaceState(null, "", "#" + words);
  }
  window.addEventListener("pagehide", () => writing && writeAddress());

  app.state = {
    now: null,
    sortable,
    valueOf,
    /** The images that pass the filters, in order. */
    order: [],

    /** Read the address; called once, and when it changes. */
    read() {
      first = first || defaults();
      const state = { ...first };
      for (const [word, text] of new URLSearchParams(location.hash.slice(1))) {
        const value = Object.hasOwn(WORDS, word) ? WORDS[word](text) : undefined;
        if (value !== undefined) state[word] = value;
      }
      apply(state);
    },

    /** Change some settings; everybody who watches is told which. */
    set(changes) {
      apply({ ...app.state.now, ...changes });
      const wait = written + ADDRESS_EVERY - performance.now();
      if (wait <= 0) writeAddress();
      else if (!writing) writing = setTimeout(writeAddress, wait);
    },

    /** Call a function with the names of the settings that changed. */
    watch(function_) { watchers.push(function_); },

    /** Tell everybody that data came which a setting waited for. */
    refresh(...names) {
      app.state.order = select(app.state.now);
      watchers.forEach((watcher) => watcher(new Set(names)));
    },
  };

  const FILTERS = ["sort", "descending", "name", "kind", "field", "from", "to"];

  function apply(state) {
    const before = app.state.now;
    const changed = new Set(
      Object.keys(state).filter((word) => !before || before[word] !== state[word]));
    if (changed.has("map") && before) { // another map has another scale and threshold
      if (!changed.has("low")) state.low = null;
      if (!changed.has("high")) state.high = null;
      if (!changed.has("threshold")) state.threshold = null;
    }
    app.state.now = state;
    const byDimension = state.sort === "KL of the dimension" || state.field === "KL of the dimension";
    if (byDimension && !app.klIfLoaded()) app.loadKL().then(() => app.state.refresh("sort"));
    if (FILTERS.some((word) => changed.has(word)) || (byDimension && changed.has("dim"))) {
      app.state.order = select(state);
      changed.add("order");
    }
    if (changed.size) watchers.forEach((watcher) => watcher(changed));
  }
})();
