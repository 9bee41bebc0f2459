/* The one global name, small helpers, and the data files, which load when something needs them.

   A page from the file system may not fetch JSON, so data files are scripts that call
   captumVae.index, captumVae.part and captumVae.kl. Every text from outside reaches the page
   through textContent or setAttribute, never as markup. */
"use strict";

(function () {
  const app = (window.captumVae = {});
  const mount = document.getElementById("explorer");
  const folder = mount.dataset.folder;
  const KEPT_PARTS = 64;

  /** The list of images and kinds of map; see ImageIndex.to_dict and KindOfMap.to_dict in Python. */
  app.data = null;
  app.mount = mount;
  app.index = (value) => { app.data = value; };

  /** An element with attributes or properties, then children; strings become text. */
  app.el = function (tag, properties, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name === "class") element.className = value;
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name.startsWith("aria-") || name === "role" || name === "for" || name === "list") {
        element.setAttribute(name, value);
      } else element[name] = value;
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  };

  /** The address of a file of the data folder. Its name was made by Python: digits and words. */
  app.address = (file) => folder + "/" + file;

  /** Load a script once; the promise is rejected when it is not there. */
  const loading = new Map();
  app.load = function (file) {
    if (!loading.has(file)) {
      loading.set(file, new Promise((resolve, reject) => {
        const script = app.el("script", { src: app.address(file), onload: resolve });
        script.addEventListener("error", () => {
          loading.delete(file);
          reject(new Error(file + " is missing; move the page together with its folder"));
        });
        document.head.append(script);
      }).finally(() => document.head.querySelectorAll("script").forEach((s) => s.remove())));
    }
    return loading.get(file);
  };

  /** What is known of single images, by part; the parts used last are kept. */
  const parts = new Map();
  app.part = (number, entries) => { parts.set(number, entries); };
  app.entryIfLoaded = function (image) {
    const entries = parts.get(Math.floor(image / app.data.part));
    return entries ? entries[image % app.data.part] : null;
  };
  app.entry = async function (image) {
    const number = Math.floor(image / app.data.part);
    if (!parts.has(number)) {
      const file = String(number).padStart(4, "0") + "/part.js";
      await app.load(file);
      loading.delete(file);
    }
    const entries = parts.get(number);
    parts.delete(number);
    parts.set(number, entries);
    if (parts.size > KEPT_PARTS) parts.delete(parts.keys().next().value);
    return entries[image % app.data.part];
  };

  /** KL by dimension and image, once it is asked for: kl.of(place, image). */
  let kl = null;
  app.kl = function (text) {
    const values = new Float32Array(app.bytes(text).buffer);
    const count = app.data.names.length;
    kl = { of: (place, image) => values[place * count + image] };
  };
  app.loadKL = async function () {
    if (!kl && app.data.meanKL.length) await app.load("kl.js");
    return kl;
  };
  app.klIfLoaded = () => kl;

  /** The bytes of a base64 text. */
  app.bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  /** A number with so many significant digits, as short as it can be said. */
  app.number = function (value, digits = 4) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) {
      return value.toExponential(Math.max(0, digits - 2));
    }
    return String(Number(value.toPrecision(digits)));
  };
})();
