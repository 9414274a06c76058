// The page: each part of the snapshot has one function that draws it, called when that part has changed.

import { showDelays, showObjective } from "./delays.js";
import { details } from "./details.js";
import { follow } from "./feed.js";
import { Graph } from "./graph.js";
import { Table } from "./table.js";
import { showTiles } from "./tiles.js";
import { SPEEDS, age, amount, clock, count, delay, element, number, say, short, speed, svg } from "./words.js";

const EVENTS = 200; // newest ones in the document
const TOPICS = 200; // to choose from for the graph
const $ = (id) => document.getElementById(id);
let shown = null;

const graph = new Graph($("graph"), $("graph-tip"), (id) => details.open(id, shown));
globalThis.dashboard = {
  graph,
  get shown() {
    return shown;
  },
}; // for tests, and for who measures: dashboard.graph.frame()

// ------------------------------------------------------------ tables

const peers = new Table(
  $("peers"),
  [
    { title: "Peer", value: (peer) => peer.id.slice(-8), show: showPeerLink },
    { title: "Latency", right: true, value: (peer) => peer.latency, show: showLatency },
    {
      title: "Direction",
      level: "l2",
      solid: true,
      value: (peer) => peer.direction,
      show: (cell, peer) => say(cell, opened(peer)),
    },
    {
      title: "Path",
      level: "l3",
      solid: true,
      value: (peer) => peer.path,
      show: (cell, peer) => say(cell, (!peer.gone && peer.path) || "–"),
    },
    {
      title: "Score",
      right: true,
      level: "l2",
      value: (peer) => peer.score?.score,
      show: (cell, peer) => say(cell, peer.gone || !peer.score ? "" : peer.score.score.toFixed(1)),
    },
    {
      title: "Mesh of",
      clip: true,
      value: (peer) => -peer.mesh.length,
      show: (cell, peer) => clip(cell, meshOf(peer)),
    },
    {
      title: "Agent",
      level: "l3",
      solid: true,
      value: (peer) => peer.agent,
      show: (cell, peer) => say(cell, peer.agent || "–"),
    },
    {
      title: "For",
      right: true,
      level: "l2",
      value: (peer) => -peer.since,
      show: (cell, peer) => say(cell, lasting(peer)),
    },
  ],
  {
    caption: "The peers. Choose one for its details.",
    page: 12,
    sort: 1,
    nothing: "No peers are connected. Readiness, below, says whether that is as it should be.",
    text: (peer) => [peer.id, peer.agent, peer.remote, ...peer.addresses, ...peer.mesh].join(" "),
    of: (peer) => (peer.gone ? "gone" : ""),
    last: (peer) => Number(Boolean(peer.gone)),
  },
);

const topics = new Table(
  $("topics"),
  [
    { title: "Topic", clip: true, value: (topic) => topic.id, show: showTopicLink },
    { title: "Delivered/s", right: true, first: -1, value: (topic) => topic.rates.delivered, show: rate("delivered") },
    {
      title: "Published/s",
      right: true,
      level: "l2",
      first: -1,
      value: (topic) => topic.rates.published,
      show: rate("published"),
    },
    {
      title: "Repeats/s",
      right: true,
      level: "l2",
      first: -1,
      value: (topic) => topic.rates.duplicates,
      show: rate("duplicates"),
    },
    { title: "Dropped", right: true, first: -1, value: (topic) => topic.dropped, show: total("dropped") },
    {
      title: "Rejected",
      right: true,
      level: "l2",
      first: -1,
      value: (topic) => topic.rejected,
      show: total("rejected"),
    },
    { title: "Mesh", right: true, first: -1, value: (topic) => topic.mesh.length, show: showMesh },
    {
      title: "Apps",
      right: true,
      level: "l2",
      first: -1,
      value: (topic) => topic.subscribers,
      show: total("subscribers"),
    },
  ],
  {
    caption: "The topics. Choose one to see its mesh in the graph.",
    page: 10,
    sort: 1,
    nothing: "No topics: nobody here or at a peer subscribes to any.",
    text: (topic) => topic.id,
  },
);

function showPeerLink(cell, peer) {
  const button = link(cell, () => details.open(peer.id, shown));
  say(button, short(peer.id));
  button.title = peer.id;
}

function showTopicLink(cell, topic) {
  const button = link(cell, () => {
    offer(topic.id);
    draw.graph();
    $("graph").scrollIntoView({ block: "nearest" });
  });
  button.classList.add("text");
  say(button, topic.id);
  cell.title = `${topic.id}: ${topic.signed ? "signed" : "unsigned"}, ${topic.subscribed ? "subscribed" : "not subscribed"} here`;
}

/** The topics to choose from for the graph, and the one chosen: the first ones by name, and that one. */
function offer(chosen) {
  const names = new Set(Object.keys(shown.topics).sort().slice(0, TOPICS));
  if (chosen in shown.topics) names.add(chosen);
  const select = $("graph-topic");
  const offered = ["", ...names];
  if (offered.join("\n") !== [...select.options].map((option) => option.value).join("\n")) {
    select.replaceChildren(...offered.map((name) => new Option(name || "any", name)));
  }
  select.value = names.has(chosen) ? chosen : "";
}

function link(cell, chosen) {
  if (cell.firstChild) return cell.firstChild;
  const button = element("button", { type: "button", class: "link" });
  button.addEventListener("click", chosen);
  cell.append(button);
  return button;
}

function showLatency(cell, peer) {
  if (!cell.firstChild) cell.append(element("span", { class: "mark" }), element("span"));
  cell.firstChild.className = `mark ${peer.gone ? "unknown" : speed(peer.latency)}`;
  say(cell.lastChild, peer.gone ? "gone" : delay(peer.latency));
}

function showMesh(cell, topic) {
  say(cell, `${topic.mesh.length} of ${topic.peers}`);
  cell.title = `${topic.mesh.length} peers in the mesh, of ${topic.peers} that subscribe`;
}

function clip(cell, text) {
  say(cell, text);
  if (cell.title !== text) cell.title = text;
}

function rate(name) {
  return (cell, topic) => say(cell, number(topic.rates[name]));
}

function total(name) {
  return (cell, topic) => say(cell, number(topic[name]));
}

// Of the badge: its colour, and what it says.
const REACH = {
  confirmed: ["good", "reachable"],
  "not reachable": ["warn", "not reachable"],
  unknown: ["", "reachability unknown"],
};

const opened = (peer) => ({ inbound: "← inbound", outbound: "→ outbound" })[peer.direction] ?? "–";
const meshOf = (peer) => (peer.gone ? peer.gone.reason || "left in order" : peer.mesh.join(", ") || "–");
const lasting = (peer) => age(shown.time - (peer.gone ? peer.gone.time : (peer.since ?? shown.time)));
const listed = (entries) => Object.entries(entries).map(([id, entry]) => ({ id, ...entry }));

// ------------------------------------------------------------ the parts

const draw = {
  node() {
    const { node } = shown;
    say($("network"), node.network);
    say($("me"), node.peer_id);
    say($("version"), `version ${node.version}`);
    $("reach").className = `badge ${REACH[node.reachability]?.[0] ?? ""}`;
    say($("reach"), REACH[node.reachability]?.[1] ?? node.reachability);
    const kinds = [
      ["Listens at", node.listening],
      ["Announces", node.announced],
      ["Seen as", node.observed],
      ["Through relays", node.relayed],
      ["Tried by peers", node.tried.map((each) => `${each.address}: ${each.reachability}`)],
    ];
    $("addresses").className = "wide";
    fill(
      $("addresses"),
      kinds.filter(([, list]) => list.length).map(([name, list]) => [name, list.join("\n")]),
    );
  },

  time() {
    say($("uptime"), `up ${age(shown.uptime)}`);
    peers.draw(); // how long each has been there
  },

  readiness() {
    const { ready, conditions } = shown.readiness;
    $("ready").className = `badge ${ready ? "good" : "bad"}`;
    say($("ready"), ready ? "ready" : "not ready");
    $("conditions").replaceChildren(
      ...conditions.map((condition) => {
        const about = element("p", {}, element("strong", { textContent: condition.type }), `: ${condition.message}`);
        const text = element("div", {}, about);
        if (condition.remedy) text.append(element("p", { class: "remedy", textContent: condition.remedy }));
        const tick = element("span", { class: "tick", textContent: condition.met ? "✓" : "✗" });
        tick.setAttribute("aria-label", condition.met ? "met:" : "not met:");
        tick.setAttribute("role", "img");
        return element("li", { class: condition.met ? "" : "unmet" }, tick, text);
      }),
    );
  },

  totals() {
    say($("peers-count"), number(shown.totals.peers));
    document.title = `${shown.readiness.ready ? "" : "not ready · "}${count(shown.totals.peers, "peers")} · sidecar`;
  },

  lines() {
    showTiles(shown);
  },

  peers() {
    peers.show(listed(shown.peers));
    details.update(shown);
    draw.graph();
  },

  graph() {
    const topic = $("graph-topic").value;
    graph.show(shown.peers, topic, shown.time);
    const connected = Object.values(shown.peers).filter((peer) => !peer.gone);
    const members = connected.filter((peer) => graph.inMesh(peer)).length;
    const whose = topic ? `the mesh of ${topic}` : "a mesh";
    const median = shown.totals.latency == null ? "" : ` Median latency ${delay(shown.totals.latency)}.`;
    const { inbound, outbound } = shown.totals;
    const text = connected.length
      ? `${count(connected.length, "peers")}: ${number(inbound)} inbound, ${number(outbound)} outbound; ${number(members)} in ${whose}.${median}`
      : "No peers are connected.";
    say($("graph-note"), text);
    $("graph").setAttribute("aria-label", `The mesh as a graph: ${text}`);
  },

  topics() {
    topics.show(listed(shown.topics));
    say($("topics-count"), number(Object.keys(shown.topics).length));
    offer($("graph-topic").value);
  },

  queues() {
    fill(
      $("queues"),
      shown.queues.map((queue) => [queue.what, amount(queue.value, queue.unit), queue.value > 0]),
    );
  },

  kept() {
    for (const part of [$("kept-title"), $("kept")]) {
      part.hidden = !shown.kept.length;
    }
    fill(
      $("kept"),
      shown.kept.map((one) => [one.what, amount(one.value, one.unit), one.name === "durable_dead_letters"]),
    );
  },

  losses() {
    const rows = shown.losses.map((loss) => [
      loss.what,
      number(loss.count) + (loss.rate ? ` (${number(loss.rate)} /s)` : ""),
      loss.rate > 0,
    ]);
    fill($("losses"), rows.length ? rows : [["Nothing", ""]]);
  },

  histograms() {
    showDelays(shown.histograms);
  },

  objective() {
    showObjective(shown.objective);
  },

  events() {
    const least = Number($("severity").value);
    const query = $("events-filter").value.trim().toLowerCase();
    const wanted = Object.entries(shown.events)
      .sort(([a], [b]) => b - a)
      .filter(([, event]) => rank(event) >= least && `${event.part} ${event.message}`.toLowerCase().includes(query))
      .slice(0, EVENTS);
    const kept = new Map([...$("events").children].map((line) => [line.dataset.number, line]));
    const lines = wanted.map(([name, event]) => kept.get(name) ?? eventLine(name, event));
    if (lines.length !== kept.size || lines.some((line, index) => $("events").children[index] !== line)) {
      $("events").replaceChildren(...lines);
    }
    if (!lines.length) $("events").append(element("li", { class: "nothing", textContent: "None of that kind" }));
  },

  link() {
    connection();
  },
};

const rank = (event) => ({ warning: 1, error: 2 })[event.severity] ?? 0;

function eventLine(name, event) {
  const line = element(
    "li",
    { class: event.severity },
    element("time", { textContent: clock(event.time), dateTime: new Date(event.time * 1000).toISOString() }),
    element("span", { class: "severity", textContent: event.severity }),
    element("span", { class: "part", textContent: event.part }),
    element("span", { class: "text", textContent: event.message }),
  );
  line.dataset.number = name;
  return line;
}

/** Names and values into a definition list. */
function fill(list, rows) {
  const texts = rows.map(([name, value, lots]) => [name, value, lots ? "lots" : ""]);
  const same = list.children.length === 2 * texts.length;
  if (!same) list.replaceChildren(...texts.flatMap(() => [element("dt"), element("dd")]));
  texts.forEach(([name, value, kind], index) => {
    say(list.children[2 * index], name);
    say(list.children[2 * index + 1], value);
    list.children[2 * index + 1].className = kind;
  });
}

// ------------------------------------------------------------ the connection, and what people choose

let feed = ["connecting", "Connecting…"];

function connection() {
  const [state, text] = feed;
  const gone = state === "live" && shown?.link && !shown.link.reachable;
  const since = gone ? clock(shown.link.since) : "";
  document.body.dataset.state = gone ? "gone" : state === "live" && !shown ? "connecting" : state;
  say(
    $("banner"),
    gone
      ? `The sidecar has not answered since ${since}; what is below is from then. Trying again… (${shown.link.trouble})`
      : text,
  );
  if (gone) {
    $("ready").className = "badge bad";
    say($("ready"), "gone");
  } else if (shown) draw.readiness();
}

for (const [name, , words] of SPEEDS) {
  const dot = svg("circle", { class: "dot", cx: 9, cy: 6, r: 4 });
  $("legend").append(element("li", { class: name }, svg("svg", { "aria-hidden": "true" }, dot), words));
}
for (const [shape, words] of [
  [svg("circle", { class: "full", cx: 9, cy: 6, r: 4 }), "outbound: we dialled"],
  [svg("circle", { class: "ring", cx: 9, cy: 6, r: 4 }), "inbound"],
  [svg("path", { class: "mesh-line", d: "M0 6H18" }), "in the mesh"],
  [svg("path", { class: "other-line", d: "M0 6H18" }), "connected only"],
]) {
  $("legend").append(element("li", {}, svg("svg", { "aria-hidden": "true" }, shape), words));
}

$("graph-topic").addEventListener("change", draw.graph);
$("severity").addEventListener("change", draw.events);
$("events-filter").addEventListener("input", draw.events);
$("peers-filter").addEventListener("input", (event) => peers.filter(event.target.value));
$("topics-filter").addEventListener("input", (event) => topics.filter(event.target.value));

follow(
  (snapshot, parts) => {
    shown = snapshot;
    for (const part of parts) draw[part]?.();
  },
  (state, text) => {
    feed = [state, text];
    connection();
  },
);
