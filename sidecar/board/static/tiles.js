// The figures at the top, each with a line of its last two minutes at most, and the scale of the line.

import { element, number, say, size, svg } from "./words.js";

const perSecond = (value) => `${number(value)}${value == null ? "" : " /s"}`;
const bytesPerSecond = (value) => (value == null ? "–" : `${size(value)}/s`);

const lasting = (seconds) => (seconds < 100 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`);

const paths = ({ inbound, outbound, relayed }) =>
  `${inbound} in, ${outbound} out${relayed ? `, ${relayed} relayed` : ""}`;

// What it says, the line's name, how its values are written, the figure and what is below it, of the totals and their rates.
const TILES = [
  ["Peers", "peers", number, (totals) => totals.peers, paths],
  ["Messages in", "received", perSecond, (_, now) => now.received, (_, now) => `${perSecond(now.duplicates)} repeats`],
  ["Messages out", "sent", perSecond, (_, now) => now.sent, (_, now) => `${perSecond(now.published)} published here`],
  ["Bytes in", "bytes_in", bytesPerSecond, (_, now) => now.bytes_in, () => "from all peers"],
  ["Bytes out", "bytes_out", bytesPerSecond, (_, now) => now.bytes_out, () => "to all peers"],
  ["Lost", "lost", perSecond, (totals) => totals.lost, () => "dropped or missed"],
];

const drawn = TILES.map(([what, line, write, figure, below]) => {
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
  const scale = element("p", { class: "scale" });
  const tile = element("li", { class: "tile" }, title, value, more, picture, scale);
  document.getElementById("tiles").append(tile);
  return ({ totals, lines, lines_span: span }) => {
    say(value, write(figure(totals, totals.rates)));
    say(more, below(totals, totals.rates));
    tile.classList.toggle("alarm", line === "lost" && totals.lost > 0);
    const known = (lines[line] ?? []).filter((value) => value != null);
    const top = Math.max(0, ...known);
    say(scale, known.length > 1 ? `last ${lasting(span)}, up to ${write(top)}` : "");
    const points = outline(lines[line] ?? [], top);
    stroke.setAttribute("d", points);
    area.setAttribute("d", points && `${points} L100 20 L${points.slice(1).split(" ")[0]} 20 Z`);
  };
});

/** The tiles as they are in a snapshot. */
export function showTiles(shown) {
  for (const show of drawn) show(shown);
}

/** A line through all values there are, over the whole width: from 0 at the bottom to `top`. */
function outline(values, top) {
  const known = values.map((value, index) => [index, value]).filter(([, value]) => value != null);
  if (known.length < 2) return "";
  const first = known[0][0];
  const x = (index) => ((100 * (index - first)) / (values.length - 1 - first)).toFixed(2);
  return "M" + known.map(([index, value]) => `${x(index)} ${(19 - (17 * value) / (top || 1)).toFixed(2)}`).join(" L");
}
