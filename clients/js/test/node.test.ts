import assert from "node:assert/strict";
import { test } from "node:test";

import { status } from "@grpc/grpc-js";

import { Direction } from "../src/generated/sidecar/v1/peer.js";
import { Lagged, type NodeEvent, NotFound } from "../src/index.js";
import { failure, inForce, type StreamCall } from "./fake.js";
import { caught, joined, take, turns } from "./help.js";

test("counters, gauges and histograms", async (t) => {
  const histogram = { name: "lag_seconds", upperBounds: [0.1, 1], counts: [3n, 0n, 1n], sum: 4.5 };
  const { node } = await joined(t, {
    getStatistics: () => ({ values: { peers: 2, ratio: 0.5 }, histograms: [histogram] }),
    listTopics: () => ({ topics: [{ name: "news", historyMessages: 1n, delivered: 9n, publishedBytes: 1n << 40n }] }),
  });
  assert.deepEqual(await node.statistics(), {
    values: { peers: 2, ratio: 0.5 },
    histograms: { lag_seconds: { upperBounds: [0.1, 1], counts: [3, 0, 1], sum: 4.5 } },
  });
  const [topic] = await node.topics();
  assert.deepEqual([topic?.delivered, topic?.published, topic?.publishedBytes], [9, 0, 2 ** 40]);
});

test("the sidecar's log: its records, gaps, and anew after a lost connection; its levels", async (t) => {
  const levels: unknown[] = [];
  const { sidecar, node } = await joined(t, {
    watchEvents: (call: StreamCall) => {
      inForce(call);
      const time = { seconds: 1n, nanos: 500_000_000 };
      call.write({ events: [{ time, severity: "info", part: "net", message: "listening", fields: { peer: "p" } }] });
      call.write({ lagged: { missed: 2n, reason: 1 }, events: [{ severity: "error", part: "node", message: "x" }] });
    },
    setLogLevel: (request: unknown) => {
      levels.push(request);
      return { level: "info", parts: { net: "debug" } };
    },
  });
  const watch = node.watchEvents();
  const events = watch[Symbol.asyncIterator]();
  const first: NodeEvent = { time: 1500, severity: "info", part: "net", message: "listening", fields: { peer: "p" } };
  const second = [new Lagged(2, "SLOW_READER"), { time: 0, severity: "error", part: "node", message: "x", fields: {} }];
  assert.deepEqual(await take(events, 3), [first, ...second]);
  sidecar.kill();
  await turns();
  await sidecar.start();
  assert.deepEqual(await take(events, 2), [new Lagged(undefined, "RECONNECTED"), first]);
  watch.close();
  assert.deepEqual(await node.setLogLevel("net", "debug"), { level: "info", parts: { net: "debug" } });
  assert.deepEqual(levels, [{ part: "net", level: "debug" }]);
});

test("the configuration in force", async (t) => {
  const entries = [
    { name: "gossip.degree", value: "6", source: "/etc/sidecar.toml:12", reloadable: true },
    { name: "node.network", value: '"main"', source: "default", reloadable: false },
  ];
  const { node } = await joined(t, { getConfiguration: () => ({ entries }) });
  assert.deepEqual(await node.configuration(), entries);
});

test("what is known of one peer", async (t) => {
  const { node } = await joined(t, {
    getPeer: ({ peerId }: { peerId: string }) => {
      if (peerId !== "somebody") {
        throw failure(status.NOT_FOUND, "not known", { reason: "NOT_FOUND" });
      }
      const latency = { seconds: 0n, nanos: 2_500_000 };
      return { peer: { peerId, connected: true, direction: Direction.OUTBOUND, latency, connections: 1 } };
    },
  });
  const { peerId, connected, direction, latency, connectTime, connections } = await node.peer("somebody");
  assert.deepEqual([peerId, connected, direction, connections], ["somebody", true, "OUTBOUND", 1]);
  assert.deepEqual([latency, connectTime], [2.5, undefined]);
  assert.ok((await caught(node.peer("nobody"))) instanceof NotFound);
});

test("the peers closest to a key, or to a peer", async (t) => {
  const asked: unknown[] = [];
  const closest = [
    { peerId: "near", addresses: ["/ip4/192.0.2.1/tcp/4001"] },
    { peerId: "far", addresses: [] },
  ];
  const { node } = await joined(t, {
    listClosestPeers: (request: { key: Buffer; peerId: string; limit: number }) => {
      asked.push([request.key.toString(), request.peerId, request.limit]);
      return { peers: closest };
    },
  });
  assert.deepEqual(await node.closestPeers("/app/name"), closest);
  await node.closestPeers(Buffer.from("/app/name"), { limit: 3 });
  await node.closestPeers("", { peerId: "near" });
  assert.deepEqual(asked, [
    ["/app/name", "", 0],
    ["/app/name", "", 3],
    ["", "near", 0],
  ]);
});

test("what the gateway maps, and what peers have found of each address", async (t) => {
  const time = { seconds: 9n, nanos: 500_000_000 };
  const port = { address: "/ip4/192.0.2.1/tcp/2", port: 4747 };
  const mapping = { state: "mapped", message: "m", remedy: "", gateway: "192.168.1.1", protocol: "pcp" };
  const address = { address: port.address, reachability: 3, source: "mapped", since: time, proofs: 1, failures: 3 };
  let portMapping: unknown = { ...mapping, ports: [{ ...port, expireTime: time }, port] };
  const { node } = await joined(t, { getNode: () => ({ node: { peerId: "me", addresses: [address], portMapping } }) });
  const info = await node.info();
  assert.deepEqual(info.portMapping, {
    ...mapping,
    ports: [
      { ...port, expireTime: 9500 },
      { ...port, expireTime: undefined },
    ],
  });
  assert.deepEqual(info.addresses, [{ ...address, reachability: "NOT_REACHABLE", since: 9500 }]);
  portMapping = undefined; // an earlier sidecar
  assert.equal((await node.info()).portMapping, undefined);
});
