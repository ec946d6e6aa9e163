"use strict";
(() => {
  const NOTHING = "–";
  const THIN = "\u202f";
  const ALL = Number.MAX_SAFE_INTEGER;
  const NULL = 255;
  const LONG_TEXT = 48;
  const PRINTED_ROWS = 2000;
  const MAPS_AT_ONCE = 12;
  const MAP_PX = 640;
  const LARGE_PX = 1600;
  // viridis in 16 steps; Okabe and Ito's eight colours: both can be told apart by colour-blind people.
  const RAMP = ["#440154", "#481a6c", "#472f7d", "#414487", "#39568c", "#31688e", "#2a788e", "#23888e",
    "#1f988b", "#22a884", "#35b779", "#54c568", "#7ad151", "#a5db36", "#d2e21b", "#fde725"];
  const HUES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#7f7f7f"];
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  const make = (name, properties = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key in made && key !== "role") made[key] = value;
      else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  };
  const labelled = (text, control) => make("label", {}, text, control);
  const button = (text, act, properties = {}) => {
    const made = make("button", { type: "button", className: "button", textContent: text, ...properties });
    made.addEventListener("click", act);
    return made;
  };
  const readData = (id) => {
    const holder = document.getElementById(id);
    return holder && JSON.parse(holder.textContent);
  };
  const grouped = (value, digits) => {
    const [whole, part] = Math.abs(value).toFixed(digits).split(".");
    const sign = value < 0 ? "-" : "";
    return sign + whole.replace(/\B(?=(\d{3})+$)/g, THIN) + (part ? `.${part}` : "");
  };
  const sized = (bytes) => {
    for (const [unit, scale] of [["TB", 1e12], ["GB", 1e9], ["MB", 1e6]]) {
      if (bytes >= scale) return `${(bytes / scale).toFixed(1)} ${unit}`;
    }
    return `${(bytes / 1e3).toFixed(1)} kB`;
  };
  const shown = (value, field) => {
    if (value === null) return NOTHING;
    if (typeof value === "boolean") return value ? "yes" : "no";
    if (typeof value === "string" || field.kind === "text") return String(value);
    if (field.kind === "share") return `${(100 * value).toFixed(1)} %`;
    return field.kind === "bytes" ? sized(value) : grouped(value, field.digits);
  };
  const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  const hasAll = (text, wanted) => wanted.every((word) => text.includes(word));

  /** One page of something: a number of it, buttons, and a sentence that screen readers say. */
  class Pager {
    constructor({ what, size, draw }) {
      Object.assign(this, { what, size, draw, at: 0, count: 0, total: 0 });
      this.before = button("Previous", () => this.go(this.at - 1), { "aria-label": `Previous ${what}` });
      this.after = button("Next", () => this.go(this.at + 1), { "aria-label": `Next ${what}` });
      this.buttons = make("div", { className: "pager" }, this.before, this.after);
      this.status = make("p", { className: "status", role: "status" });
    }
    go(at) { this.at = at; this.draw(); }
    window(count, total) {
      const pages = Math.max(1, Math.ceil(count / this.size));
      this.at = Math.min(Math.max(this.at, 0), pages - 1);
      const first = this.at * this.size;
      const end = Math.min(first + this.size, count);
      this.before.disabled = this.at === 0;
      this.after.disabled = this.at >= pages - 1;
      this.buttons.hidden = pages === 1;
      const of = count === total ? `${grouped(total, 0)}` : `${grouped(count, 0)} that fit, of ${grouped(total, 0)}`;
      this.status.textContent = count === 0 ? `No ${this.what} fit, of ${grouped(total, 0)}`
        : `${grouped(first + 1, 0)} to ${grouped(end, 0)} of ${of} ${this.what}`;
      return [first, end];
    }
  }

  /** A table that is sorted, filtered and paged; its data stand beside it. */
  class Listing {
    constructor(holder) {
      this.holder = holder;
      Object.assign(this, readData(`${holder.id}-data`));
      this.texts = this.rows.map((row) => row.map((value, at) => shown(value, this.fields[at])));
      this.folded = this.texts.map((row) => row.join("\n").toLowerCase());
      this.order = this.rows.map((_, at) => at);
      this.body = holder.querySelector("tbody");
      this.sorted = { at: null, ascending: true };
      this.pager = new Pager({ what: "rows", size: 25, draw: () => this.draw() });
      this.heads = [...holder.querySelectorAll("thead th")];
      this.heads.forEach((head, at) => {
        if (this.rows.length < 2) return;
        const sorter = make("button", { type: "button", textContent: head.textContent });
        sorter.addEventListener("click", () => this.sort(at));
        head.replaceChildren(sorter);
        head.setAttribute("aria-sort", "none");
      });
      this.addTools();
      this.filter("");
      window.addEventListener("beforeprint", () => this.draw(PRINTED_ROWS));
      window.addEventListener("afterprint", () => this.draw());
    }
    addTools() {
      if (this.rows.length <= this.pager.size) return;
      const search = make("input", { type: "search", placeholder: "words in any column", autocomplete: "off" });
      search.addEventListener("input", () => this.filter(search.value));
      const size = make("select", {}, ...[25, 50, 100, 500].map((count) => make("option", { value: count, textContent: count })));
      size.addEventListener("change", () => { this.pager.size = Number(size.value); this.pager.go(0); });
      this.holder.prepend(make("div", { className: "tools" }, labelled("Filter rows", search),
        labelled("Rows on a page", size), this.pager.buttons, this.pager.status));
    }
    filter(text) {
      const wanted = words(text);
      this.fitting = this.order.filter((at) => hasAll(this.folded[at], wanted));
      this.wanted = text;
      this.pager.go(0);
    }
    sort(at) {
      const again = this.sorted.at === at;
      const off = again && !this.sorted.ascending;
      this.sorted = { at: off ? null : at, ascending: !again };
      this.order = this.rows.map((_, row) => row);
      if (!off) this.order.sort((one, other) => this.compare(one, other));
      this.heads.forEach((head, place) => {
        const way = this.sorted.ascending ? "ascending" : "descending";
        head.setAttribute("aria-sort", place === this.sorted.at ? way : "none");
      });
      this.filter(this.wanted);
    }
    compare(one, other) {
      const { at, ascending } = this.sorted;
      const [left, right] = [this.rows[one][at], this.rows[other][at]];
      if (left === null || right === null) return (left === null) - (right === null) || one - other;
      const text = typeof left === "string" || typeof right === "string";
      const way = text ? collator.compare(String(left), String(right)) : left - right;
      return (ascending ? way : -way) || one - other;
    }
    draw(most) {
      const [first, end] = this.pager.window(this.fitting.length, this.rows.length);
      const drawn = most ? this.fitting.slice(0, most) : this.fitting.slice(first, end);
      this.body.replaceChildren(...drawn.map((at) => this.row(at)));
    }
    row(at) {
      return make("tr", {}, ...this.fields.map((field, place) => {
        const value = this.rows[at][place];
        const cell = make(place ? "td" : "th", { textContent: this.texts[at][place] });
        const long = this.texts[at][place].length > LONG_TEXT ? " long" : "";
        cell.className = field.kind === "text" ? `text${long}` : `number ${field.kind}`;
        if (!place) cell.scope = "row";
        if (place && field.kind === "share" && value > 0) cell.style.setProperty("--share", Math.min(Math.max(value, 0), 1));
        if (!place && this.link) this.link(cell, this.texts[at][place]);
        return cell;
      }));
    }
  }

  const mixed = (colour, with_, share) => {
    const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return `rgb(${parts.map((part) => Math.round(part * (1 - share) + with_ * share)).join(" ")})`;
  };
  const wordColour = (at) => {
    const hue = HUES[at % HUES.length];
    return [hue, mixed(hue, 0, 0.45), mixed(hue, 255, 0.5)][Math.floor(at / HUES.length) % 3];
  };
  const NO_VALUE = "#6b7280";
  const YES_AND_NO = { no: "#8c96a3", yes: "#d55e00" };
  const figure = (value) => {
    const size = Math.abs(value);
    if (value !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(1);
    return size >= 100 ? grouped(value, 0) : String(Number(value.toPrecision(3)));
  };

  /** One column's colours and what each of its codes means. */
  class Scale {
    constructor(column) {
      Object.assign(this, column);
      this.count = this.kind === "words" ? this.words.length : this.steps;
      this.colours = Array.from({ length: this.count }, (_, at) => this.colour(at));
      this.hidden = new Set();
    }
    colour(at) {
      if (this.kind === "number") return RAMP[at];
      return this.words.every((word) => word in YES_AND_NO) ? YES_AND_NO[this.words[at]] : wordColour(at);
    }
    edge(step) {
      const share = step / this.steps;
      return this.log ? this.low * (this.high / this.low) ** share : this.low + (this.high - this.low) * share;
    }
    meaning(code) {
      if (code === NULL) return "no value";
      if (this.kind === "words") return this.words[code];
      if (code === 0 && !(this.low === 0)) return `below ${figure(this.edge(1))}`;
      if (code === this.steps - 1 && !(this.high === 1)) return `${figure(this.edge(code))} and more`;
      return `${figure(this.edge(code))} to ${figure(this.edge(code + 1))}`;
    }
    summary(codes) {
      const counts = new Array(256).fill(0);
      for (const code of codes) counts[code] += 1;
      const known = codes.length - counts[NULL];
      if (known === 0) return "no value";
      const without = counts[NULL] ? `; ${counts[NULL]} without` : "";
      if (this.kind === "words") {
        const most = counts.slice(0, this.count).map((count, code) => [count, code]).filter(([count]) => count);
        most.sort(([one], [other]) => other - one);
        const said = most.slice(0, 3).map(([count, code]) => `${this.words[code]} ${Math.round((100 * count) / known)} %`);
        return said.join(", ") + (most.length > 3 ? ", …" : "") + without;
      }
      let passed = 0;
      const middle = counts.findIndex((count) => (passed += count) * 2 >= known);
      return `median ${this.meaning(middle)}${without}`;
    }
    toggle(code) {
      if (this.hidden.size === 0) for (let each = 0; each < this.count; each += 1) this.hidden.add(each);
      if (!this.hidden.delete(code)) this.hidden.add(code);
      if (this.hidden.size === this.count) this.hidden.clear();
    }
  }

  const inflated = async (text) => {
    const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  /** The commonest distance of neighbours, at most a side: tiles at an edge may stand closer. */
  const usualStep = (starts, side) => {
    const sorted = [...new Set(starts)].sort((one, other) => one - other);
    const counts = new Map();
    for (let at = 1; at < sorted.length; at += 1) {
      const step = sorted[at] - sorted[at - 1];
      counts.set(step, (counts.get(step) || 0) + 1);
    }
    const [usual] = [...counts].sort(([one, many], [other, more]) => more - many || one - other)[0] || [side];
    return Math.min(usual, side);
  };

  /** A slide's tiles, unpacked when it is looked at. */
  class SlideTiles {
    constructor(slide) { Object.assign(this, slide); }
    async load() {
      if (this.boxes) return;
      const bytes = await inflated(this.tiles);
      const planes = new Int32Array(bytes.buffer, 0, 4 * this.count);
      this.boxes = [0, 1, 2, 3].map((axis) => {
        const plane = planes.slice(axis * this.count, (axis + 1) * this.count);
        for (let at = 1; at < plane.length; at += 1) plane[at] += plane[at - 1];
        return plane;
      });
      this.codes = (column) => bytes.subarray(16 * this.count + column * this.count, 16 * this.count + (column + 1) * this.count);
      const [x, y, width, height] = this.boxes;
      this.cell = this.count ? [usualStep(x, width[0]), usualStep(y, height[0])] : [1, 1];
      if (this.picture) {
        this.image = make("img", { src: this.picture });
        await this.image.decode().catch(() => { this.image = null; });
      }
    }
    /** Where tile `at` is drawn, in canvas pixels: the part of it that it does not share with the next one. */
    place(at, canvas) {
      const [left, top, width, height] = this.frame;
      const [x, y, wide, high] = this.boxes.map((plane) => plane[at]);
      const [cellX, cellY] = [Math.min(this.cell[0], wide), Math.min(this.cell[1], high)];
      const [scaleX, scaleY] = [canvas.width / width, canvas.height / height];
      const x0 = Math.round((x + (wide - cellX) / 2 - left) * scaleX);
      const y0 = Math.round((y + (high - cellY) / 2 - top) * scaleY);
      const x1 = Math.max(x0 + 1, Math.round((x + (wide + cellX) / 2 - left) * scaleX));
      const y1 = Math.max(y0 + 1, Math.round((y + (high + cellY) / 2 - top) * scaleY));
      return [x0, y0, x1 - x0, y1 - y0];
    }
    fit(canvas, side) {
      const [, , width, height] = this.frame;
      const scale = side / Math.max(width, height, 1);
      canvas.width = Math.max(1, Math.round(width * scale));
      canvas.height = Math.max(1, Math.round(height * scale));
    }
    draw(canvas, scale, column, strength) {
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, canvas.width, canvas.height);
      if (this.image) context.drawImage(this.image, 0, 0, canvas.width, canvas.height);
      const layer = make("canvas", { width: canvas.width, height: canvas.height });
      const paint = layer.getContext("2d");
      const codes = this.codes(column);
      paint.strokeStyle = NO_VALUE;
      for (let at = 0; at < this.count; at += 1) {
        if (scale.hidden.has(codes[at])) continue;
        const [x, y, width, height] = this.place(at, canvas);
        if (codes[at] === NULL) {
          if (width > 4 && scale.hidden.size === 0) paint.strokeRect(x + 0.5, y + 0.5, width - 2, height - 2);
          continue;
        }
        const gap = Math.min(width, height) > 7 ? 1 : 0;
        paint.fillStyle = scale.colours[codes[at]];
        paint.fillRect(x, y, width - gap, height - gap);
      }
      context.globalAlpha = this.image ? strength : 1;
      context.drawImage(layer, 0, 0);
      context.globalAlpha = 1;
    }
    tileAt(canvas, event) {
      const box = canvas.getBoundingClientRect();
      const shrink = Math.min(box.width / canvas.width, box.height / canvas.height);
      const x = (event.clientX - box.left - (box.width - canvas.width * shrink) / 2) / shrink;
      const y = (event.clientY - box.top - (box.height - canvas.height * shrink) / 2) / shrink;
      for (let at = this.count - 1; at >= 0; at -= 1) {
        const [left, top, width, height] = this.place(at, canvas);
        if (x >= left && x < left + width && y >= top && y < top + height) return at;
      }
      return null;
    }
  }

  /** All slides, a page of them at a time, coloured by one column. */
  class Maps {
    constructor(holder, data) {
      this.scales = data.columns.map((column) => new Scale(column));
      this.slides = data.slides.map((slide) => new SlideTiles(slide));
      this.folded = this.slides.map((slide) => `${slide.id}\n${slide.about}`.toLowerCase());
      this.column = 0;
      this.strength = 0.7;
      this.fitting = this.slides;
      this.pager = new Pager({ what: "slides", size: MAPS_AT_ONCE, draw: () => this.draw() });
      this.legend = make("ul", { className: "legend", "aria-label": "Colours" });
      this.list = make("ul", { className: "maps" });
      this.dialog = make("dialog", { "aria-label": "Slide, enlarged" });
      holder.append(this.tools(), this.legend, this.list, this.dialog);
      this.drawLegend();
      this.draw();
    }
    get scale() { return this.scales[this.column]; }
    tools() {
      const names = this.scales.map((scale, at) => make("option", { value: at, textContent: scale.name }));
      const column = make("select", { id: "map-column" }, ...names);
      column.addEventListener("change", () => { this.column = Number(column.value); this.drawLegend(); this.repaint(); });
      const strength = make("input", { type: "range", min: "0", max: "100", value: "70", id: "map-strength" });
      strength.addEventListener("input", () => { this.strength = strength.value / 100; this.repaint(); });
      const search = make("input", { type: "search", placeholder: "name, patient, scanner", autocomplete: "off", id: "map-filter" });
      search.addEventListener("input", () => this.filter(search.value));
      this.search = search;
      return make("div", { className: "tools" }, labelled("Colour by", column), labelled("Strength of colour", strength),
        labelled("Filter slides", search), this.pager.buttons, this.pager.status);
    }
    filter(text) {
      const wanted = words(text);
      this.fitting = this.slides.filter((_, at) => hasAll(this.folded[at], wanted));
      this.pager.go(0);
    }
    has(id) { return this.slides.some((slide) => slide.id === id); }
    async show(id) {
      this.search.value = "";
      this.fitting = this.slides;
      this.pager.at = Math.floor(this.slides.findIndex((slide) => slide.id === id) / this.pager.size);
      await this.draw();
      const shownSlide = this.shown.find((each) => each.slide.id === id);
      shownSlide.canvas.scrollIntoView({ block: "center" });
      shownSlide.enlarge.focus({ preventScroll: true });
    }
    drawLegend() {
      const { scale } = this;
      if (scale.kind === "words") {
        this.legend.replaceChildren(...scale.words.map((word, code) => {
          const swatch = make("span", { className: "swatch" });
          swatch.style.background = scale.colours[code];
          const act = () => { scale.toggle(code); this.drawLegend(); this.repaint(); this.legend.children[code].firstChild.focus(); };
          const pressed = String(!scale.hidden.has(code));
          const item = button("", act, { "aria-pressed": pressed, title: "Show only these tiles, or add them" });
          item.append(swatch, word);
          return make("li", {}, item);
        }), make("li", { className: "quiet", textContent: "outlined: no value" }));
        return;
      }
      const ramp = make("div", { className: "ramp", role: "img",
        "aria-label": `from dark for ${figure(scale.low)} to bright for ${figure(scale.high)}` });
      ramp.append(...scale.colours.map((colour) => { const step = make("span"); step.style.background = colour; return step; }));
      const beyond = scale.low === 0 && scale.high === 1 ? "" : "; what lies beyond has the last colour";
      const steps = (scale.log ? "steps of equal ratio" : "equal steps") + beyond;
      this.legend.replaceChildren(make("li", {}, figure(scale.low)), make("li", {}, ramp), make("li", {}, figure(scale.high)),
        make("li", { className: "quiet" }, steps));
    }
    async draw() {
      const [first, end] = this.pager.window(this.fitting.length, this.slides.length);
      this.shown = this.fitting.slice(first, end).map((slide) => this.figure(slide));
      this.list.replaceChildren(...this.shown.map((each) => each.item));
      await Promise.all(this.shown.map(async (each) => { await each.slide.load(); this.paint(each); }));
    }
    figure(slide) {
      const canvas = make("canvas", { role: "img" });
      slide.fit(canvas, MAP_PX);
      const readout = make("span", { className: "readout quiet" });
      const enlarge = button("Enlarge", () => this.enlarge(slide), { "aria-label": `Enlarge ${slide.id}` });
      enlarge.classList.add("enlarge");
      const name = make("span", { className: "name" }, make("span", { textContent: slide.id }), enlarge);
      const about = make("span", { className: "quiet", textContent: slide.about });
      canvas.addEventListener("pointermove", (event) => {
        const at = slide.boxes && slide.tileAt(canvas, event);
        readout.textContent = at === null ? this.summary(slide)
          : `tile ${at}: ${this.scale.name} ${this.scale.meaning(slide.codes(this.column)[at])}`;
      });
      canvas.addEventListener("pointerleave", () => { readout.textContent = this.summary(slide); });
      const item = make("li", {}, make("figure", {}, canvas, make("figcaption", {}, name, about, readout)));
      return { slide, canvas, readout, enlarge, item };
    }
    summary(slide) {
      return slide.count && slide.boxes ? `${this.scale.name}: ${this.scale.summary(slide.codes(this.column))}` : "no tiles";
    }
    paint({ slide, canvas, readout }) {
      slide.draw(canvas, this.scale, this.column, this.strength);
      readout.textContent = this.summary(slide);
      canvas.setAttribute("aria-label", `${slide.id}, ${slide.count} tiles. ${this.summary(slide)}`);
    }
    repaint() { for (const each of this.shown) if (each.slide.boxes) this.paint(each); }
    enlarge(slide) {
      const canvas = make("canvas", { role: "img", "aria-label": `${slide.id}. ${this.summary(slide)}` });
      slide.fit(canvas, LARGE_PX);
      slide.draw(canvas, this.scale, this.column, this.strength);
      const close = button("Close", () => this.dialog.close());
      this.dialog.replaceChildren(make("div", { className: "name" }, make("span", { textContent: slide.id }), close), canvas);
      this.dialog.showModal();
    }
  }

  const listings = [...document.querySelectorAll(".listing")].map((holder) => new Listing(holder));
  const data = readData("maps-data");
  if (data && data.slides.length && data.columns.length) {
    const maps = new Maps(document.getElementById("maps"), data);
    const cohort = listings.find((listing) => listing.holder.id === "cohort");
    if (cohort) {
      cohort.link = (cell, id) => {
        if (!maps.has(id)) return;
        const link = make("a", { href: "#tiles", textContent: id });
        link.addEventListener("click", (event) => { event.preventDefault(); maps.show(id); });
        cell.replaceChildren(link);
      };
      cohort.draw();
    }
  }
  document.documentElement.dataset.ready = "yes";
})();
