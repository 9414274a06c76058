import assert from "node:assert/strict";
import { test } from "node:test";

import { type Client, InternalError } from "../src/index.js";
import { PublishOutcome } from "../src/generated/sidecar/v1/pubsub.js";
import { type DuplexCall, inForce, type StreamCall } from "./fake.js";
import { caught, joined } from "./help.js";

const MALFORMED = Buffer.from([0x0a, 0xff, 0xff, 0xff, 0x7f, 1, 2]); // ends before its field does

const streaming = (call: StreamCall) => {
  inForce(call);
  call.write(MALFORMED);
};
const answering = (call: DuplexCall) => {
  inForce(call);
  call.on("data", () => {
    call.write(MALFORMED);
  });
};

const CALLS: [string, (node: Client) => Promise<unknown>][] = [
  ["unary", (node) => node.info()],
  ["subscribe", (node) => node.subscribe("x").events().next()],
  ["receive", (node) => node.receive("/x/1").events().next()],
  ["one message", (node) => node.publish("x", "a")],
  ["bulk", (node) => node.publishMany("x", ["a"])],
  ["request", (node) => Promise.race([node.request("p", "/x/1", "a"), node.request("p", "/x/1", "b")])],
  ["serve", async (node) => (await node.serve("/x/1", () => "")).ended],
  ["watch", (node) => node.watchPeers()[Symbol.asyncIterator]().next()],
  ["open", (node) => node.openStream("p", "/x/1")],
  ["accept", (node) => node.acceptStreams("/x/1")[Symbol.asyncIterator]().next()],
  ["advertise", (node) => node.advertise("x")],
  ["probe", (node) => node.probe("x").next()],
  ["find", (node) => node.findPeers("x").next()],
];

test("a malformed message ends what it belongs to by a typed error, and nobody waits for ever", async (t) => {
  const { node, sidecar } = await joined(t, {
    subscribe: streaming,
    receive: streaming,
    publish: () => ({ receipt: { outcome: PublishOutcome.QUEUE_FULL } }), // so that the call that waits is made
    publishMany: answering,
    request: () => new Promise(() => undefined),
    requestMany: answering,
    serve: answering,
    watchPeers: streaming,
    openStream: answering,
    acceptStreams: streaming,
    advertise: streaming,
    probe: streaming,
    findPeers: streaming,
  });
  sidecar.handlers["getNode"] = () => MALFORMED;
  for (const [name, call] of CALLS) {
    const error = await caught(call(node));
    assert.ok(error instanceof InternalError, `${name}: ${String(error)}`);
    assert.match(error.message, /malformed/, name);
  }
});
