// The mesh as this node sees it: itself in the middle, each peer the further away the longer a ping takes. Drawn on a
// canvas, so that a thousand peers cost no more of the document than three.

import { SPEEDS, age, delay, short, speed } from "./words.js";

const FASTEST = 0.0003; // seconds at the inner edge
const OUTER = [0.02, 0.15, 1.5]; // and at the outer one: the first of these that the slowest peer allows
const RINGS = [0.001, 0.01, 0.1, 1];
const EVEN = 200; // up to so many peers are spread evenly; more have places of their own, by their ids
const ARROWS = 150; // up to so many peers have an arrow each
const LABELS = 28; // up to so many peers are named
const EASING = 0.18; // of the way, each frame
const TOP = -Math.PI / 2; // where the rings are labelled
const GAP = 0.7; // radians there that peers stay away from

export class Graph {
  /** @param picked(id) is called when a peer is clicked. */
  constructor(canvas, tip, picked) {
    this.canvas = canvas;
    this.tip = tip;
    this.context = canvas.getContext("2d");
    this.dots = new Map(); // id -> {peer, angle, distance, x, y}: where it is; goal: where it goes
    this.topic = "";
    this.hovered = null;
    this.waiting = 0;
    this.slowest = OUTER[0];
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.times = []; // of the newest frames, in milliseconds
    new ResizeObserver(() => this.wake()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.restyle());
    matchMedia("(prefers-contrast: more)").addEventListener("change", () => this.restyle());
    canvas.addEventListener("pointermove", (event) => this.hover(event));
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("click", (event) => {
      const id = this.at(event);
      if (id) picked(id);
    });
    this.restyle();
  }

  restyle() {
    const style = getComputedStyle(document.documentElement);
    const names = ["text", "faint", "line", "card", "accent", "accent-soft", "fast", "near", "far", "slow", "unknown"];
    this.colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.wake();
  }

  /** Peers by id, as in the snapshot; a topic whose mesh is shown, or "" for that of any. */
  show(peers, topic, now) {
    this.topic = topic;
    this.now = now;
    const ids = Object.keys(peers).sort();
    const even = ids.length <= EVEN;
    const longest = Math.max(0, ...ids.map((id) => peers[id].latency ?? 0));
    this.slowest = OUTER.find((bound) => longest <= bound) ?? OUTER.at(-1);
    for (const id of this.dots.keys()) if (!(id in peers)) this.dots.delete(id);
    ids.forEach((id, index) => {
      const peer = peers[id];
      const goal = {
        angle: TOP + GAP / 2 + (2 * Math.PI - GAP) * (even ? (index + 0.5) / ids.length : hash(id)),
        distance: this.place(peer.latency) + (even ? 0 : (hash(id + "r") - 0.5) * 0.05),
      };
      const dot = this.dots.get(id) ?? { ...goal, distance: 0 };
      this.dots.set(id, Object.assign(dot, { peer, goal }));
    });
    this.wake();
  }

  wake() {
    this.waiting ||= requestAnimationFrame(() => {
      this.waiting = 0;
      const begun = performance.now();
      const moving = this.draw();
      this.times = [...this.times.slice(-99), performance.now() - begun];
      if (moving) this.wake();
    });
  }

  /** Milliseconds that a frame takes: the median of the newest ones. */
  frame() {
    return [...this.times].sort((a, b) => a - b)[this.times.length >> 1] ?? 0;
  }

  inMesh(peer) {
    return !peer.gone && (this.topic ? peer.mesh.includes(this.topic) : peer.mesh.length > 0);
  }

  draw() {
    const { canvas, context, colours } = this;
    const scale = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return false;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    const names = this.dots.size <= LABELS && width > 300;
    this.centre = { x: width / 2, y: height / 2 };
    this.radius = Math.max(40, Math.min(width / 2 - (names ? 46 : 14), height / 2 - (names ? 26 : 14)));
    const moving = this.move();
    this.rings();
    this.edges();
    this.nodes();
    this.self();
    this.taken = [box(this.centre.x, this.centre.y, 34, 34)];
    this.ringLabels();
    if (names) this.names(width, height);
    if (this.hovered && this.dots.has(this.hovered)) {
      const dot = this.dots.get(this.hovered);
      circle(context, dot.x, dot.y, this.size() + 5);
      context.strokeStyle = colours.text;
      context.lineWidth = 1.5;
      context.stroke();
    }
    return moving;
  }

  /** How far from the middle a latency is drawn, from 0.2 to 1; a logarithm, for 1 ms and 100 ms are both to be seen. */
  place(latency) {
    const bounded = Math.min(this.slowest, Math.max(FASTEST, latency ?? this.slowest));
    return 0.2 + (0.8 * Math.log(bounded / FASTEST)) / Math.log(this.slowest / FASTEST);
  }

  /** One step of every dot toward its goal; whether any is still under way. */
  move() {
    let moving = false;
    const part = this.still.matches ? 1 : EASING;
    for (const dot of this.dots.values()) {
      const turn = ((dot.goal.angle - dot.angle + 3 * Math.PI) % (2 * Math.PI)) - Math.PI;
      const way = dot.goal.distance - dot.distance;
      if (Math.abs(turn) + Math.abs(way) > 0.002) {
        dot.angle += turn * part;
        dot.distance += way * part;
        moving ||= part < 1;
      } else Object.assign(dot, dot.goal);
      const reach = this.radius * dot.distance;
      dot.x = this.centre.x + Math.cos(dot.angle) * reach;
      dot.y = this.centre.y + Math.sin(dot.angle) * reach;
    }
    return moving;
  }

  rings() {
    const { context, colours, centre, radius } = this;
    context.strokeStyle = colours.line;
    context.lineWidth = 1;
    for (const ring of RINGS.filter((each) => each < this.slowest)) {
      circle(context, centre.x, centre.y, radius * this.place(ring));
      context.stroke();
    }
  }

  ringLabels() {
    const { context, colours, centre, radius } = this;
    context.textAlign = "center";
    for (const ring of RINGS.filter((each) => each < this.slowest)) {
      const y = centre.y - radius * this.place(ring);
      const text = delay(ring).replace(".0", "");
      const width = context.measureText(text).width + 8;
      context.globalAlpha = 0.85;
      context.fillStyle = colours.card;
      context.fillRect(centre.x - width / 2, y - 7, width, 14);
      context.globalAlpha = 1;
      context.fillStyle = colours.faint;
      context.fillText(text, centre.x, y);
      this.taken.push(box(centre.x, y, width, 14));
    }
  }

  /** Two paths for all edges, however many: those of the mesh and the others. */
  edges() {
    const { context, colours, centre } = this;
    const many = this.dots.size > ARROWS;
    for (const mesh of [false, true]) {
      context.beginPath();
      for (const dot of this.dots.values()) {
        if (dot.peer.gone || this.inMesh(dot.peer) !== mesh) continue;
        context.moveTo(centre.x, centre.y);
        context.lineTo(dot.x, dot.y);
      }
      context.setLineDash(mesh ? [] : [2, 4]);
      context.strokeStyle = mesh ? colours.accent : colours.unknown;
      context.globalAlpha = mesh ? (many ? 0.5 : 0.8) : many ? 0.12 : 0.55;
      context.lineWidth = mesh ? 1.6 : 1;
      context.stroke();
      context.setLineDash([]);
      context.globalAlpha = 1;
      if (!many) {
        context.beginPath();
        for (const dot of this.dots.values()) {
          if (!dot.peer.gone && this.inMesh(dot.peer) === mesh) this.arrow(dot);
        }
        context.fillStyle = mesh ? colours.accent : colours.unknown;
        context.fill();
      }
    }
  }

  /** A head in the middle of the edge: toward the peer where this node dialled, toward this node where the peer did. */
  arrow(dot) {
    const { context, centre } = this;
    const along = Math.atan2(dot.y - centre.y, dot.x - centre.x) + (dot.peer.direction === "inbound" ? Math.PI : 0);
    const { x, y } = this.along(dot);
    const corner = (turn, length) => [x + Math.cos(along + turn) * length, y + Math.sin(along + turn) * length];
    context.moveTo(...corner(0, 6));
    context.lineTo(...corner(2.5, 6));
    context.lineTo(...corner(-2.5, 6));
    context.closePath();
  }

  /** Where on a peer's edge its arrow is. */
  along(dot) {
    const { centre } = this;
    return { x: centre.x + (dot.x - centre.x) * 0.62, y: centre.y + (dot.y - centre.y) * 0.62 };
  }

  size() {
    return this.dots.size > 300 ? 3 : this.dots.size > 60 ? 4.5 : 7;
  }

  nodes() {
    const { context, colours } = this;
    const size = this.size();
    context.lineWidth = size > 4 ? 2.5 : 1.5;
    for (const name of [...SPEEDS.map(([name]) => name), "unknown"]) {
      for (const inbound of [false, true]) {
        context.beginPath();
        for (const { peer, x, y } of this.dots.values()) {
          if (peer.gone || speed(peer.latency) !== name || (peer.direction === "inbound") !== inbound) continue;
          context.moveTo(x + size, y);
          context.arc(x, y, size, 0, 2 * Math.PI);
        }
        context.strokeStyle = colours[name];
        context.fillStyle = inbound ? colours.card : colours[name];
        context.fill();
        context.stroke();
      }
    }
    context.beginPath();
    for (const { peer, x, y } of this.dots.values()) {
      if (!peer.gone) continue;
      context.moveTo(x - size, y - size);
      context.lineTo(x + size, y + size);
      context.moveTo(x + size, y - size);
      context.lineTo(x - size, y + size);
    }
    context.strokeStyle = colours.unknown;
    context.lineWidth = 2;
    context.stroke();
  }

  self() {
    const { context, colours, centre } = this;
    circle(context, centre.x, centre.y, 13);
    context.fillStyle = colours.accent;
    context.fill();
    context.strokeStyle = colours.card;
    context.lineWidth = 3;
    context.stroke();
    circle(context, centre.x, centre.y, 4);
    context.fillStyle = colours.card;
    context.fill();
  }

  /** Names beside the dots wherever there is room that no other name or dot has taken. */
  names(width, height) {
    const { context, colours } = this;
    for (const dot of this.dots.values()) {
      const arrow = this.along(dot);
      this.taken.push(box(dot.x, dot.y, 20, 20), box(arrow.x, arrow.y, 8, 8));
    }
    const ordered = [...this.dots].sort(([a], [b]) => (b === this.hovered) - (a === this.hovered));
    for (const [id, dot] of ordered) {
      const gone = dot.peer.gone;
      const lines = [short(id), gone ? `gone ${age(this.now - gone.time)}` : delay(dot.peer.latency)];
      const wide = Math.max(...lines.map((line) => context.measureText(line).width)) + 4;
      const outward = Math.cos(dot.angle) >= 0 ? 1 : -1;
      const below = Math.sin(dot.angle) >= 0 ? 1 : -1;
      const places = [
        [dot.x + outward * (13 + wide / 2), dot.y],
        [dot.x, dot.y + below * 25],
        [dot.x - outward * (13 + wide / 2), dot.y],
        [dot.x, dot.y - below * 25],
      ];
      const spot = places
        .map(([x, y]) => box(x, y, wide, 27))
        .find(
          (b) =>
            b.left > 1 &&
            b.right < width - 1 &&
            b.top > 1 &&
            b.bottom < height - 1 &&
            !this.taken.some((t) => meet(b, t)),
        );
      if (!spot) continue;
      this.taken.push(spot);
      const x = (spot.left + spot.right) / 2;
      const y = (spot.top + spot.bottom) / 2;
      context.textAlign = "center";
      context.globalAlpha = 0.8; // the rings go behind the names
      context.fillStyle = colours.card;
      context.fillRect(spot.left, spot.top, wide, 27);
      context.globalAlpha = 1;
      context.fillStyle = gone ? colours.faint : colours.text;
      context.fillText(lines[0], x, y - 6.5);
      context.fillStyle = colours.faint;
      context.fillText(lines[1], x, y + 6.5);
    }
  }

  at(event) {
    const frame = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    let [best, nearest] = [null, 14 ** 2];
    for (const [id, dot] of this.dots) {
      const away = (dot.x - x) ** 2 + (dot.y - y) ** 2;
      if (away < nearest) [best, nearest] = [id, away];
    }
    return best;
  }

  hover(event) {
    const id = event && this.at(event);
    this.canvas.classList.toggle("over", Boolean(id));
    if (id !== this.hovered) {
      this.hovered = id;
      this.wake();
    }
    this.tip.hidden = !id;
    if (!id) return;
    const { peer, x, y } = this.dots.get(id);
    const way = peer.gone ? `gone: ${peer.gone.reason || "in order"}` : `${peer.direction}, ${delay(peer.latency)}`;
    this.tip.textContent = [short(id), peer.agent, way, peer.mesh.join(", ")].filter(Boolean).join("\n");
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.tip.style.left = `${Math.max(4, Math.min(x + 14, width - this.tip.offsetWidth - 4))}px`;
    this.tip.style.top = `${y + this.tip.offsetHeight + 18 > height ? y - this.tip.offsetHeight - 12 : y + 14}px`;
  }
}

/** From 0 to 1, always the same for a text (FNV-1a). */
function hash(text) {
  let value = 2166136261;
  for (let index = 0; index < text.length; index++) value = Math.imul(value ^ text.charCodeAt(index), 16777619);
  value ^= value >>> 15;
  return (Math.imul(value, 2246822519) >>> 0) / 2 ** 32;
}

function circle(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
}

const box = (x, y, width, height) => ({
  left: x - width / 2,
  right: x + width / 2,
  top: y - height / 2,
  bottom: y + height / 2,
});
const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
