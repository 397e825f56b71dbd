// Latent view: a cloud of points that turns. It asks no network; arrows, + and -, space, N and P
// do what drag, wheel, button and tap do.
"use strict";

const one = (selector) => document.querySelector(selector);
const { frames, names, colours, labels } = JSON.parse(one("#points").textContent);
const [canvas, button, slider, said] = ["canvas", "button", "input", "output"].map(one);
const pen = canvas.getContext("2d");
const view = { turn: 0.6, tilt: 0.35, zoom: 1, frame: frames.length - 1, chosen: -1 };
let isPlaying = false;

// Points of the frame on the canvas, far ones first.
function placed() {
  const [sin, cos] = [Math.sin(view.turn), Math.cos(view.turn)];
  const [rise, level] = [Math.sin(view.tilt), Math.cos(view.tilt)];
  const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
  const size = Math.min(wide, high) * 0.45 * view.zoom;
  const spot = ([x, y, z], index) => {
    const away = sin * x + cos * y;
    const depth = level * away - rise * z;
    const near = 1 / (1 + 0.25 * depth);
    const right = size * near * (cos * x - sin * y);
    return { index, depth, near, x: wide / 2 + right, y: high / 2 - size * near * (rise * away + level * z) };
  };
  return { spot, spots: frames[view.frame].map(spot).sort((a, b) => b.depth - a.depth) };
}

function path(spots, colour, width) {
  pen.beginPath();
  for (const { x, y } of spots) pen.lineTo(x, y);
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.stroke();
}

function draw() {
  const sharp = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [canvas.clientWidth * sharp, canvas.clientHeight * sharp];
  pen.setTransform(sharp, 0, 0, sharp, 0, 0);
  const { spot, spots } = placed();
  const line = getComputedStyle(canvas).color;
  for (const axis of [[1, 0, 0], [0, 1, 0], [0, 0, 1]]) path([[0, 0, 0], axis].map(spot), line, 1);
  const mates = spots.filter(({ index }) => labels[index] === labels[view.chosen]);
  path([...mates].sort((a, b) => a.index - b.index), colours[view.chosen] ?? line, 2);
  for (const { x, y, near, index } of spots) {
    pen.beginPath();
    pen.arc(x, y, (index === view.chosen ? 8 : 4) * near, 0, 2 * Math.PI);
    pen.fillStyle = colours[index];
    pen.globalAlpha = view.chosen < 0 || labels[index] === labels[view.chosen] ? 1 : 0.3;
    pen.fill();
    pen.globalAlpha = 1;
  }
  const chosen = spots.find(({ index }) => index === view.chosen);
  if (chosen) {
    pen.font = "bold 14px system-ui, sans-serif";
    pen.fillStyle = getComputedStyle(document.body).color;
    pen.textAlign = chosen.x > canvas.clientWidth / 2 ? "right" : "left";
    pen.fillText(labels[chosen.index], chosen.x + (pen.textAlign === "left" ? 12 : -12), chosen.y - 8);
  }
}

function show(change) {
  Object.assign(view, change);
  view.tilt = Math.max(-1.57, Math.min(1.57, view.tilt));
  view.zoom = Math.max(0.3, Math.min(12, view.zoom));
  slider.value = view.frame;
  const told = [frames.length > 1 && names[view.frame], labels[view.chosen]].filter(Boolean);
  if (told.length && !isPlaying) said.textContent = told.join(": ");
  requestAnimationFrame(draw);
}

function play(isOn) {
  isPlaying = isOn;
  button.textContent = isOn ? "Pause" : "Play";
  let last = performance.now();
  if (isOn && view.frame === frames.length - 1) view.frame = 0;
  const step = (now) => {
    if (!isPlaying) return;
    const isDue = now - last > 80;
    const frame = view.frame + (isDue && view.frame < frames.length - 1 ? 1 : 0);
    if (isDue) last = now;
    show({ frame, turn: view.turn + 0.006 });
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function choose(x, y) {
  const away = (spot) => Math.hypot(spot.x - x, spot.y - y);
  const [nearest] = placed().spots.sort((a, b) => away(a) - away(b));
  show({ chosen: nearest && away(nearest) < 20 ? nearest.index : -1 });
}

let held = null;
canvas.addEventListener("pointerdown", (event) => {
  canvas.focus();
  held = { x: event.offsetX, y: event.offsetY, moved: 0 };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!held) return;
  const [right, down] = [event.offsetX - held.x, event.offsetY - held.y];
  held = { x: event.offsetX, y: event.offsetY, moved: held.moved + Math.hypot(right, down) };
  show({ turn: view.turn - right * 0.01, tilt: view.tilt + down * 0.01 });
});
canvas.addEventListener("pointerup", (event) => {
  if (held && held.moved < 4) choose(event.offsetX, event.offsetY);
  held = null;
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  show({ zoom: view.zoom * Math.exp(-event.deltaY * 0.001) });
}, { passive: false });

const next = (by) => ({ chosen: (view.chosen + by + labels.length) % labels.length });
const KEYS = {
  ArrowLeft: () => ({ turn: view.turn + 0.1 }), ArrowRight: () => ({ turn: view.turn - 0.1 }),
  ArrowUp: () => ({ tilt: view.tilt - 0.1 }), ArrowDown: () => ({ tilt: view.tilt + 0.1 }),
  "+": () => ({ zoom: view.zoom * 1.2 }), "-": () => ({ zoom: view.zoom / 1.2 }),
  n: () => next(1), p: () => next(view.chosen < 0 ? 0 : -1), " ": () => (play(!isPlaying), {}),
};
canvas.addEventListener("keydown", (event) => {
  const key = KEYS[event.key];
  if (!key) return;
  event.preventDefault();
  show(key());
});
button.addEventListener("click", () => play(!isPlaying));
slider.max = frames.length - 1;
slider.hidden = frames.length === 1;
slider.addEventListener("input", () => show({ frame: Number(slider.value) }));
addEventListener("resize", () => show({}));
show({});
