import assert from "node:assert/strict";
import { test } from "node:test";

import { Lagged, type NodeEvent } from "../src/index.js";
import { inForce, type StreamCall } from "./fake.js";
import { joined, take, turns } from "./help.js";

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
