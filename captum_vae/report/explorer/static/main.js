/* Puts the explorer together once the list of images is there. */
"use strict";

(async function () {
  const app = window.captumVae;
  const { el, mount } = app;

  function failed(error) {
    mount.replaceChildren(el("p", { class: "note" }, `The explorer cannot start: ${error.message}.`));
  }

  try {
    await app.load("index.js");
    app.state.read();
    await app.entry(app.state.now.image);
  } catch (error) {
    failed(error);
    return;
  }

  const images = el("section", { class: "images", "aria-label": "all images" }, app.grid.element);
  mount.append(
    app.controls.build(),
    el("div", { class: "shown" }, app.details.element, app.controls.buildThreshold(), images),
    app.details.dialog);
  document.documentElement.classList.add("explored");
  app.controls.update();
  app.state.watch(app.controls.update);
  await app.grid.start();
  app.details.start();
  window.addEventListener("hashchange", app.state.read);
  mount.dataset.ready = "yes";
})();
