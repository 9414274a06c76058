import assert from "node:assert/strict";
import { test } from "node:test";

import { type Client, connect, InvalidArgument } from "../src/index.js";
import { Hub } from "./fake.js";
import { caught, joined } from "./help.js";

const HALF = "half of a pair: \ud83d";

/** What apps without types may give, by the field that is wrong. */
const WRONG: [string, (node: Client) => Promise<unknown>][] = [
  ...[-1, 1.5, NaN, Infinity, 2 ** 32].map((count): [string, (node: Client) => Promise<unknown>] => [
    "queue_messages",
    (node) => node.receive("/x/1", { queueMessages: count }).open(),
  ]),
  ["queue_messages", (node) => node.subscribe("x", { queueMessages: -1 }).open()],
  ["queue_bytes", (node) => node.subscribe("x", { queueBytes: -1 }).open()],
  ["queue_bytes", (node) => node.subscribe("x", { queueBytes: NaN }).open()],
  ["cursor", (node) => node.subscribe("x", { cursor: "text" as never }).open()],
  ["cursor", (node) => node.subscribe("x", { cursor: 5 as never }).open()],
  ["start_time", (node) => node.subscribe("x", { startTime: NaN }).open()],
  ["start_time", (node) => node.subscribe("x", { startTime: 1e18 }).open()],
  ["policy", (node) => node.subscribe("x", { policy: "DROP_ALL" as never }).open()],
  ["policy", (node) => node.subscribe("x", { policy: "toString" as never }).open()],
  ["signing", (node) => node.subscribe("x", { signing: "strict" as never }).open()],
  ["signing", (node) => node.publish("x", "", { signing: "STRICT" as never })],
  ["signing", (node) => node.publishMany("x", [], { signing: 1 as never })],
  ["topics", (node) => node.subscribe(undefined as never).open()],
  ["topics", (node) => node.subscribe(["x", 5 as never]).open()],
  ["topics", (node) => node.subscribe(HALF).open()],
  ["topic", (node) => node.publish(HALF, "")],
  ["topic", (node) => node.publishMany(HALF, [])],
  ["data", (node) => node.publish("x", HALF)],
  ["data", (node) => node.publishMany("x", [null as never])],
  ["request_id", (node) => node.publish("x", "", { requestId: HALF })],
  ["request_id", (node) => node.send("p", "/x/1", "", { requestId: 5 as never })],
  ["minimum_peers", (node) => node.publish("x", "", { minimumPeers: -1 })],
  ["minimum_peers", (node) => node.publishMany("x", [], { minimumPeers: 0.5 })],
  ["bundling", (node) => node.publish("x", "", { bundling: "SOME" as never })],
  ["bundling", (node) => node.publishMany("x", [], { bundling: "some" as never })],
  ["messages", (node) => node.publishMany("x", undefined as never)],
  ["messages", (node) => node.sendMany("p", "/x/1", "text" as never)],
  ["peer_id", (node) => node.send(HALF, "/x/1", "")],
  ["protocol", (node) => node.request("p", HALF, "")],
  ["peer_id", (node) => node.request(undefined as never, "/x/1", "")],
  ["traceparent", (node) => node.request("p", "/x/1", "", { traceparent: HALF })],
  ["timeout", (node) => node.request("p", "/x/1", "", { timeout: NaN })],
  ["timeout", (node) => node.info({ timeout: "5" as never })],
  ["limit", (node) => node.closestPeers("key", { limit: -1 })],
  ["interval", (node) => node.probe("x", { interval: -1 }).next()],
  ["signing", (node) => node.probe("x", { signing: "SOMEHOW" as "STRICT_SIGN" }).next()],
  ["limit", (node) => node.findPeers("x", { limit: NaN }).next()],
  ["key", (node) => node.getRecord(HALF)],
  ["quorum", (node) => node.getRecord("/x/1", { quorum: -1 })],
  ["quorum", (node) => node.putRecord("/x/1", "", { quorum: 1.5 })],
  ["part", (node) => node.setLogLevel(HALF, "")],
  ["duration", (node) => node.banPeer("", { network: "192.0.2.1", duration: NaN })],
  ["ttl", (node) => node.advertise("x", { ttl: -1 })],
  ["name", (node) => node.advertise(HALF)],
  ["concurrency", (node) => node.serve("/x/1", () => "", { concurrency: 0 })],
  ["concurrency", (node) => node.serve("/x/1", () => "", { concurrency: NaN })],
  ["handler", (node) => node.serve("/x/1", undefined as never)],
  ["protocols", (node) => node.openStream("p", 5 as never)],
  ["wait", (node) => connect(node.target, { wait: NaN })],
  ["wait", (node) => connect(node.target, { wait: -1 })],
];

test("what cannot be is refused at once, and the field is named", async (t) => {
  const { node, sidecar } = await joined(t, new Hub().handlers());
  const before = { ...sidecar.calls };
  for (const [field, begin] of WRONG) {
    const error = await caught((async () => await begin(node))());
    if (error instanceof InvalidArgument && error.field === undefined) {
      assert.match(error.message, /invalid uint32: 4294967296/);
      continue;
    }
    assert.ok(error instanceof InvalidArgument, `${field}: ${String(error)}`);
    assert.equal(error.field, field, error.message);
  }
  delete before["publishMany"]; // one was begun before its messages were seen
  delete sidecar.calls["publishMany"];
  delete sidecar.calls["findPeers"];
  assert.deepEqual(sidecar.calls, before);
});
