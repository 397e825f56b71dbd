// Script of a report: light or dark, tables that sort, and maps that pan, zoom and step.
// It reads the page alone; without it the page says the same.
"use strict";

const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Light or dark ----------------------------------------------------------------------------------

const root = document.documentElement;
const theme = document.getElementById("theme");
const remembered = (name, value) => {
  try {
    return value ? localStorage.setItem(name, value) : localStorage.getItem(name);
  } catch {
    return null; // a page in a frame may keep nothing
  }
};
const isDark = () =>
  (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "")) === "dark";
const kept = remembered("trajfoundry-theme");
if (kept) root.dataset.theme = kept;
theme.hidden = false;
theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  remembered("trajfoundry-theme", root.dataset.theme);
});

// Tables that sort -------------------------------------------------------------------------------

function valueOf(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replaceAll(",", ""));
  return { text, number: text === "" ? Infinity : number };
}

function sorted(rows, column, sign) {
  return rows.sort((a, b) => {
    const [one, other] = [valueOf(a, column), valueOf(b, column)];
    if (isNaN(one.number) || isNaN(other.number)) return sign * one.text.localeCompare(other.text);
    return one.number === other.number ? 0 : sign * (one.number < other.number ? -1 : 1);
  });
}

for (const table of all("table[data-sortable]")) {
  const heads = all("thead th", table);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const order = head.ariaSort === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => (other.ariaSort = other === head ? order : null));
      const body = table.tBodies[0];
      body.append(...sorted([...body.rows], column, order === "ascending" ? 1 : -1));
    });
  });
}

// Maps -------------------------------------------------------------------------------------------

class View {
  constructor(svg, map) {
    this.svg = svg;
    this.map = map;
    this.whole = svg.getAttribute("viewBox").split(" ").map(Number);
    this.lines = all("polyline", svg).map((line) => ({
      line,
      role: line.dataset.role,
      points: line.getAttribute("points").split(" "),
    }));
    this.paths = this.lines.filter((one) => one.role === "path");
    this.last = this.paths[0].points.length - 1;
    this.fingers = new Map();
    svg.addEventListener("pointerdown", (event) => this.touch(event));
    svg.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel"])
      svg.addEventListener(name, (event) => this.fingers.delete(event.pointerId));
    svg.addEventListener("keydown", (event) => this.key(event));
    svg.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  show(box = this.whole) {
    this.box = box;
    this.svg.setAttribute("viewBox", box.join(" "));
    const { width, height } = this.svg.getBoundingClientRect();
    this.unit = Math.max(box[2] / width, box[3] / height); // kilometres of a pixel
    this.svg.style.setProperty("--unit", this.unit);
    this.placeNames(width * this.unit, height * this.unit);
    this.drawScale();
  }

  // Names of degrees stand where their line enters the view, on the left or at the bottom.
  placeNames(wide, tall) {
    const [west, top] = [this.box[0] - (wide - this.box[2]) / 2, this.box[1] - (tall - this.box[3]) / 2];
    for (const name of all("text", this.svg)) {
      const line = name.previousElementSibling.getAttribute("points").split(" ");
      const places = line.map((pair) => pair.split(",").map(Number));
      const isLat = name.dataset.axis === "lat";
      const [along, edge] = isLat ? [0, west] : [1, top + tall];
      const place = crossing(places, along, edge);
      name.style.display = place ? "" : "none";
      if (!place) continue;
      name.setAttribute("x", isLat ? west + 4 * this.unit : place[0] + 3 * this.unit);
      name.setAttribute("y", isLat ? place[1] - 3 * this.unit : top + tall - 5 * this.unit);
    }
  }

  drawScale() {
    const rough = 90 * this.unit;
    const power = 10 ** Math.floor(Math.log10(rough));
    const km = [5, 2, 1].map((size) => size * power).find((size) => size <= rough);
    const scale = this.map.querySelector(".scale");
    scale.style.width = `${km / this.unit}px`;
    scale.textContent = km < 1 ? `${Math.round(km * 1000)} m` : `${km} km`;
  }

  zoom(factor, about) {
    const [x, y, wide, tall] = this.box;
    const [east, south] = about || [x + wide / 2, y + tall / 2];
    if (factor > 1 && wide > 4 * this.whole[2]) return;
    this.show([east - (east - x) * factor, south - (south - y) * factor, wide * factor, tall * factor]);
  }

  pan(east, south) {
    this.show([this.box[0] + east, this.box[1] + south, this.box[2], this.box[3]]);
  }

  place(event) {
    const { left, top, width, height } = this.svg.getBoundingClientRect();
    const [x, y, wide, tall] = this.box;
    return [
      x + wide / 2 + (event.clientX - left - width / 2) * this.unit,
      y + tall / 2 + (event.clientY - top - height / 2) * this.unit,
    ];
  }

  touch(event) {
    this.svg.focus();
    this.svg.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, event);
  }

  drag(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before) return;
    const others = [...this.fingers.values()].filter((one) => one.pointerId !== event.pointerId);
    this.fingers.set(event.pointerId, event);
    if (others.length) {
      const apart = (one) => Math.hypot(one.clientX - others[0].clientX, one.clientY - others[0].clientY);
      this.zoom(apart(before) / Math.max(apart(event), 1), this.place(others[0]));
    } else {
      this.pan((before.clientX - event.clientX) * this.unit, (before.clientY - event.clientY) * this.unit);
    }
  }

  wheel(event) {
    if (document.activeElement !== this.svg) return; // the page scrolls
    event.preventDefault();
    this.zoom(event.deltaY > 0 ? 1.15 : 0.87, this.place(event));
  }

  key(event) {
    const tenth = this.box[2] / 10;
    const act = {
      ArrowLeft: () => this.pan(-tenth, 0),
      ArrowRight: () => this.pan(tenth, 0),
      ArrowUp: () => this.pan(0, -tenth),
      ArrowDown: () => this.pan(0, tenth),
      "+": () => this.zoom(0.8),
      "=": () => this.zoom(0.8),
      "-": () => this.zoom(1.25),
      0: () => this.show(),
      ",": () => this.map.step(-1),
      ".": () => this.map.step(1),
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  }

  at(step, shown) {
    for (const { line, role, points } of this.lines) {
      if (role === "path" || role === "sample")
        line.setAttribute("points", points.slice(0, step + 1).join(" "));
      if (role === "sample") line.style.display = shown.sample ? "" : "none";
    }
    all("[data-role=dot]", this.svg).forEach((dot, number) =>
      dot.setAttribute("d", `M${this.paths[number].points[step].replace(",", " ")}h0`),
    );
    for (const area of all(".area", this.svg))
      area.style.display = shown.area && Number(area.dataset.step) === step ? "" : "none";
  }
}

// Where a line first crosses an edge along one axis.
function crossing(places, along, edge) {
  for (let number = 1; number < places.length; number++) {
    const [a, b] = [places[number - 1], places[number]];
    const share = (edge - a[along]) / (b[along] - a[along]);
    if (share >= 0 && share <= 1) return [a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])];
  }
  return null;
}

const map = document.getElementById("map");
if (map) {
  const views = all("svg.view", map).map((svg) => new View(svg, map));
  const [choice, range, said] = ["select", "input[type=range]", "output"].map((one) => map.querySelector(one));
  const boxes = all("[data-shows]", map);
  const view = () => views[choice.selectedIndex];
  const draw = () => {
    const step = Number(range.value);
    view().at(step, Object.fromEntries(boxes.map((box) => [box.dataset.shows, box.checked])));
    said.textContent = step ? sentence(all("table", map)[choice.selectedIndex], step) : "The last known point.";
  };
  const sentence = (table, step) => {
    const heads = all("thead th", table).map((head) => head.textContent);
    const told = [...table.tBodies[0].rows[step - 1].cells].map((cell) => cell.textContent);
    return told.flatMap((words, n) => (words ? `${heads[n]} ${words}` : [])).join("; ");
  };
  map.step = (change) => {
    range.value = Number(range.value) + change;
    draw();
  };
  const choose = () => {
    views.forEach((one) => (one.svg.style.display = one === view() ? "" : "none"));
    range.max = view().last;
    range.value = view().last;
    view().show();
    draw();
  };
  all("[hidden]", map).forEach((one) => (one.hidden = false));
  choice.addEventListener("change", choose);
  range.addEventListener("input", draw);
  boxes.forEach((box) => box.addEventListener("change", draw));
  all("[data-step]", map).filter((one) => one.type === "button").forEach((button) =>
    button.addEventListener("click", () => map.step(Number(button.dataset.step))),
  );
  all("[data-zoom]", map).forEach((button) =>
    button.addEventListener("click", () => {
      const factor = Number(button.dataset.zoom);
      return factor ? view().zoom(factor) : view().show();
    }),
  );
  addEventListener("resize", () => view().show(view().box));
  choose();
}
