// The details of one peer, in a dialog.

import { age, clock, delay, element, short } from "./words.js";

const dialog = document.getElementById("details");
const list = document.getElementById("details-list");

export const details = {
  id: null,

  open(id, shown) {
    this.id = id;
    this.update(shown);
    dialog.showModal();
  },

  /** Anew with each snapshot, while it is open. */
  update(shown) {
    if (this.id === null) return;
    const peer = shown.peers[this.id];
    document.getElementById("details-title").textContent = `Peer ${short(this.id)}`;
    document.getElementById("details-id").textContent = this.id;
    const rows = peer ? facts(peer, shown) : [["State", "gone, and forgotten"]];
    const now = JSON.stringify(rows);
    if (list.dataset.shown === now) return; // so that a selection in it survives
    list.dataset.shown = now;
    list.className = "wide";
    list.replaceChildren(
      ...rows.flatMap(([name, value]) => [
        element("dt", { textContent: name }),
        Array.isArray(value)
          ? element("dd", {}, ...value.map((text) => element("code", { textContent: text })))
          : element("dd", { textContent: value }),
      ]),
    );
  },
};

dialog.addEventListener("close", () => {
  details.id = null;
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close(); // on what is behind it
});

// What is thought of a peer in gossip, in words.
const STANDINGS = {
  good: "good",
  no_mesh: "kept out of meshes",
  no_gossip: "no gossip with it",
  no_publish: "nothing is published to it",
  graylisted: "not listened to",
};
// How it is reached, in words.
const PATHS = {
  direct: "direct",
  relayed: "through a relay",
  limited: "through a relay that ends it soon: neither gossip nor the DHT",
};
const score = ({ score, standing, reason }) =>
  `${score.toFixed(1)}, ${STANDINGS[standing] ?? standing}${reason ? `: ${reason}` : ""}`;

function facts(peer, shown) {
  const opened =
    { inbound: "inbound: it dialled", outbound: "outbound: we dialled" }[peer.direction] ?? "not connected";
  const rows = peer.gone
    ? [["State", `gone since ${clock(peer.gone.time)}: ${peer.gone.reason || "in order"}`]]
    : [
        ["Connection", `${opened}${peer.connections > 1 ? `, ${peer.connections} of them` : ""}`],
        ["Path", PATHS[peer.path] ?? "–"],
        ["Connected", peer.since ? `for ${age(shown.time - peer.since)}, since ${clock(peer.since)}` : "–"],
        ["Latency", peer.latency == null ? "not measured yet" : delay(peer.latency)],
        ["Score", peer.score == null ? "none" : score(peer.score)],
        ["In the mesh of", peer.mesh.join(", ") || "no topic"],
      ];
  rows.push(["Agent", peer.agent || "not identified yet"]);
  if (peer.protocol_version) rows.push(["Network", peer.protocol_version]);
  if (peer.remote) rows.push(["Address in use", [peer.remote]]);
  if (peer.addresses.length) rows.push(["Addresses", peer.addresses]);
  if (peer.protocols.length) rows.push(["Protocols", peer.protocols]);
  return rows;
}
