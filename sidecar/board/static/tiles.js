// The figures at the top, each with a line of its last two minutes.

import { element, number, say, size, svg } from "./words.js";

const perSecond = (value) => `${number(value)}${value == null ? "" : " /s"}`;
const bytesPerSecond = (value) => (value == null ? "–" : `${size(value)}/s`);

// What it says, the line's name, the figure and what is below it, of the totals and their rates.
const TILES = [
  ["Peers", "peers", (totals) => number(totals.peers), (totals) => `${totals.inbound} in, ${totals.outbound} out`],
  ["Messages in", "received", (_, now) => perSecond(now.received), (_, now) => `${perSecond(now.duplicates)} repeats`],
  ["Messages out", "sent", (_, now) => perSecond(now.sent), (_, now) => `${perSecond(now.published)} published here`],
  ["Bytes in", "bytes_in", (_, now) => bytesPerSecond(now.bytes_in), () => "from all peers"],
  ["Bytes out", "bytes_out", (_, now) => bytesPerSecond(now.bytes_out), () => "to all peers"],
  ["Lost", "lost", (totals) => perSecond(totals.lost), () => "dropped or missed"],
];

const drawn = TILES.map(([what, line, figure, below]) => {
  const value = element("p", { class: "value" });
  const more = element("p", { class: "more" });
  const area = svg("path", { class: "area" });
  const stroke = svg("path", { class: "line" });
  const picture = svg(
    "svg",
    { viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" },
    area,
    stroke,
  );
  const title = element("p", { class: "what", textContent: what });
  const tile = element("li", { class: "tile" }, title, value, more, picture);
  document.getElementById("tiles").append(tile);
  return ({ totals, lines }) => {
    say(value, figure(totals, totals.rates));
    say(more, below(totals, totals.rates));
    tile.classList.toggle("alarm", line === "lost" && totals.lost > 0);
    const points = outline(lines[line] ?? []);
    stroke.setAttribute("d", points);
    area.setAttribute("d", points && `${points} L100 20 L${points.slice(1).split(" ")[0]} 20 Z`);
  };
});

/** The tiles as they are in a snapshot. */
export function showTiles(shown) {
  for (const show of drawn) show(shown);
}

/** A line through the newest values, the last at the right edge; 120 of them fill the width. */
function outline(values) {
  const known = values.map((value, index) => [index, value]).filter(([, value]) => value != null);
  if (known.length < 2) return "";
  const top = Math.max(...known.map(([, value]) => value)) || 1;
  const step = 100 / 119;
  const x = (index) => (100 - (values.length - 1 - index) * step).toFixed(2);
  return "M" + known.map(([index, value]) => `${x(index)} ${(19 - (17 * value) / top).toFixed(2)}`).join(" L");
}
