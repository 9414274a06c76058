// Figures and texts for people; the same forms as `sidecar top` prints (words.py).

export const number = (value) => {
  if (value == null) return "–";
  if (Math.abs(value) > 0 && Math.abs(value) < 10 && !Number.isInteger(value)) return value.toFixed(1);
  if (Math.abs(value) < 9999.5) return Math.round(value).toLocaleString("en");
  return scaled(value, 1000, ["", " k", " M", " G", " T"]);
};

export const size = (value) => (value == null ? "–" : scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]));

export const count = (value, things) => `${number(value)} ${value === 1 ? things.slice(0, -1) : things}`;

export const amount = (value, unit) => (unit === "bytes" ? size(value) : count(value, unit));

export const delay = (seconds) => {
  if (seconds == null) return "–";
  const milliseconds = seconds * 1000;
  if (milliseconds < 1) return `${milliseconds.toFixed(2)} ms`;
  if (milliseconds < 10) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 999.5) return `${milliseconds.toFixed(0)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
};

export const percent = (share) => `${Math.floor(share * 1000 + 1e-6) / 10} %`; // never 100 of what is less

export const age = (seconds) => {
  const whole = Math.max(0, Math.floor(seconds));
  for (const [name, length] of [
    ["d", 86400],
    ["h", 3600],
    ["min", 60],
  ]) {
    if (whole >= length) return `${Math.floor(whole / length)} ${name}`;
  }
  return `${whole} s`;
};

export const clock = (time) => new Date(time * 1000).toLocaleTimeString("en-GB");

// The end of a peer id: the beginning is the same for all.
export const short = (id) => id.slice(-8);

// A class of latency: of its colour, in the style sheet, and of its words.
export const SPEEDS = [
  ["fast", 0.01, "up to 10 ms"],
  ["near", 0.05, "up to 50 ms"],
  ["far", 0.2, "up to 200 ms"],
  ["slow", Infinity, "slower"],
];
export const speed = (latency) => (latency == null ? "unknown" : SPEEDS.find(([, bound]) => latency <= bound)[0]);

export const element = (name, options = {}, ...children) => {
  const { class: classes, ...properties } = options;
  const made = Object.assign(document.createElement(name), properties);
  if (classes) made.className = classes;
  made.append(...children);
  return made;
};

export const svg = (name, attributes = {}, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

// Sets a text only where it differs: what a screen reader or a selection holds stays as it is.
export const say = (target, text) => {
  if (target.textContent !== text) target.textContent = text;
};

function scaled(value, step, units) {
  let place = 0;
  while (Math.abs(value) >= step - 0.5 && place < units.length - 1) {
    value /= step;
    place += 1;
  }
  return `${place === 0 || Math.abs(value) >= 99.95 ? value.toFixed(0) : value.toFixed(1)}${units[place]}`;
}
