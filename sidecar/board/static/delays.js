// Histograms of delays: one of them, of the last minute or since the start, as bars.

import { delay, element, number, percent, say } from "./words.js";

const select = document.getElementById("histogram");
const bars = document.getElementById("bars");
const note = document.getElementById("histogram-note");
const target = document.getElementById("objective");
const LEAST = 9; // bars

let newest = {};
select.addEventListener("change", () => showDelays(newest));

/** Histograms by name, as in the snapshot. */
export function showDelays(histograms) {
  newest = histograms;
  const choices = Object.keys(histograms).flatMap((name) => [`${name} recent`, `${name} counts`]);
  if (choices.join() !== [...select.options].map((option) => option.value).join()) {
    const before = select.value;
    select.replaceChildren(...choices.map((value) => new Option(title(value), value)));
    const first = choices.find((value) => value.startsWith("gossip_propagation")) ?? choices[0] ?? "";
    select.value = choices.includes(before) ? before : first;
  }
  select.hidden = !choices.length;
  const [name, part] = select.value.split(" ");
  drawBars(histograms[name], name, part);
}

/** What is wanted of broadcasts (`probe.objective`), and whether it is so; null where nothing is. */
export function showObjective(objective) {
  target.hidden = !objective;
  if (!objective) return;
  const { seconds, wanted, share, met } = objective;
  const had =
    share == null
      ? "Nobody has answered a probe yet."
      : `${percent(share)} of the receivers had the last messages within ${delay(seconds)}.`;
  say(target, `${met ? "" : "Broadcasts are late. "}${had} Wanted: ${percent(wanted)} within ${delay(seconds)}.`);
  target.classList.toggle("unmet", !met);
}

const TITLES = {
  gossip_propagation_seconds: [
    "Propagation",
    "From the first copy of a message here until further neighbours show that they have it too.",
  ],
  gossip_echo_seconds: ["Echo", "From publishing here until a peer shows that it has the message."],
  gossip_probe_seconds: ["Probes", "From publishing a probe's message here until a receiver says that it has it."],
  event_loop_lag_seconds: ["Event loop lag", "How late the sidecar's event loop is."],
};

function title(value) {
  const [name, part] = value.split(" ");
  return `${TITLES[name]?.[0] ?? name}, ${part === "recent" ? "last minute" : "since the start"}`;
}

function drawBars(histogram, name, part) {
  const { bounds = [] } = histogram ?? {};
  const counts = histogram?.[part] ?? histogram?.counts ?? []; // recent ones are not known in the first moment
  const total = counts.reduce((sum, value) => sum + value, 0);
  const within = (share) => delay(quantile(bounds, counts, share));
  const summary = total ? `Half within ${within(0.5)}, 95 % within ${within(0.95)}.` : "Nothing measured yet.";
  say(note, `${TITLES[name]?.[1] ?? ""} ${summary}`);
  bars.setAttribute("aria-label", `${name ? title(select.value) : "Delays"}: ${number(total)} measured. ${summary}`);
  const most = Math.max(1, ...counts);
  const [first, end] = span(counts);
  const every = Math.ceil((end - first) / 6); // bars of which one is named, so that no name runs into the next
  if (bars.children.length !== end - first) {
    const parts = () => [element("i"), element("em"), element("b")];
    bars.replaceChildren(...counts.slice(first, end).map(() => element("div", { class: "bar" }, ...parts())));
  }
  [...bars.children].forEach((bar, at) => {
    const index = first + at;
    const [column, share, bound] = bar.children;
    const value = counts[index];
    const last = index === counts.length - 1;
    column.style.height = `${(100 * value) / most}%`;
    bar.classList.toggle("empty", !value);
    share.style.bottom = `calc(${(100 * value) / most}% + 4px)`;
    say(share, value && value / total >= 0.05 ? `${Math.round((100 * value) / total)}%` : "");
    const named = at < end - first - 1 && at % every === 0;
    say(bound, named ? delay(bounds[index]).replace(".0 ", " ") : "");
    const low = index ? delay(bounds[index - 1]) : "0";
    bar.title = `${last ? `above ${low}` : `${low} to ${delay(bounds[index])}`}: ${number(value)}`;
  });
}

/** From which bucket on, and to which, bars are drawn: those that hold something, and one more at each side. */
function span(counts) {
  const held = counts.map((value, index) => (value ? index : -1)).filter((index) => index >= 0);
  let first = Math.max(0, (held[0] ?? 0) - 1);
  let end = Math.min(counts.length, (held.at(-1) ?? 0) + 2);
  while (end - first < Math.min(LEAST, counts.length)) {
    if (end < counts.length) end += 1;
    if (end - first < LEAST && first > 0) first -= 1;
  }
  return [first, end];
}

/** As `quantile` of snapshot.py. */
function quantile(bounds, counts, share) {
  const wanted = share * counts.reduce((sum, value) => sum + value, 0);
  let below = 0;
  for (let index = 0; index < bounds.length; index++) {
    if (counts[index] && below + counts[index] >= wanted) {
      const low = index ? bounds[index - 1] : 0;
      return low + ((bounds[index] - low) * (wanted - below)) / counts[index];
    }
    below += counts[index];
  }
  return bounds.at(-1);
}
