/** Calls that stay open for what is called for next: single messages and requests ride them, also one at a time. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { status } from "@grpc/grpc-js";

import { type Client, DeadlineExceeded } from "../src/index.js";
import { PublishOutcome } from "../src/generated/sidecar/v1/pubsub.js";
import { type DuplexCall, failure, type Handlers, inForce } from "./fake.js";
import { joined } from "./help.js";

const ONE = { outcome: PublishOutcome.SENT, peers: 1 };

/** Answers every request and message, alone and together. */
const ANSWERING: Handlers = {
  request: ({ data }: { data: Buffer }) => ({ data }),
  requestMany: (call: DuplexCall) => {
    inForce(call);
    call.on("data", ({ requests }: { requests: { id: bigint; data: Buffer }[] }) => {
      const answered = requests.filter(({ data }) => data.toString() !== "silence");
      if (answered.length > 0) {
        call.write({ results: answered.map(({ id, data }) => ({ id, result: { $case: "data", value: data } })) });
      }
    });
    call.on("end", () => {
      call.end();
    });
  },
  publish: () => ({ receipt: ONE }),
  publishMany: (call: DuplexCall) => {
    inForce(call);
    let first = 0;
    call.on("data", ({ messages }: { messages: unknown[] }) => {
      call.write({ receipts: [{ first, count: messages.length, ...ONE }] });
      first += messages.length;
    });
    call.on("end", () => {
      call.end();
    });
  },
};

async function each(node: Client, text: string): Promise<void> {
  assert.equal((await node.request("p", "/x/1", text)).toString(), text);
  assert.equal((await node.publish("news", text)).outcome, "SENT");
}

test("the first is a single call, and all that follow ride one", async (t) => {
  const { sidecar, node } = await joined(t, ANSWERING);
  for (const text of ["a", "b", "c", "d"]) {
    await each(node, text);
  }
  const { request, requestMany, publish, publishMany } = sidecar.calls;
  assert.deepEqual([request, requestMany, publish, publishMany], [1, 1, 1, 1]);
});

test("many topics in turn open no calls", async (t) => {
  const { sidecar, node } = await joined(t, ANSWERING);
  for (let round = 0; round < 3; round += 1) {
    for (let topic = 0; topic < 20; topic += 1) {
      await node.publish(`topic ${topic}`, "");
    }
  }
  assert.deepEqual([sidecar.calls["publish"], sidecar.calls["publishMany"]], [60, undefined]);
});

test("a sidecar without the calls is asked one by one", async (t) => {
  const older = (call: DuplexCall) => {
    call.emit("error", failure(status.UNIMPLEMENTED, "unknown method"));
  };
  const { sidecar, node } = await joined(t, { ...ANSWERING, requestMany: older, publishMany: older });
  for (const text of ["a", "b", "c", "d"]) {
    await each(node, text);
  }
  const { request, requestMany, publish, publishMany } = sidecar.calls;
  assert.deepEqual([request, requestMany, publish, publishMany], [4, 1, 4, 1]);
});

test("with a token a message that is alone stays a single call", async (t) => {
  const { sidecar, node } = await joined(t, ANSWERING, { token: "one" });
  for (const text of ["a", "b", "c"]) {
    await each(node, text);
  }
  const { request, requestMany, publish, publishMany } = sidecar.calls;
  assert.deepEqual([request, requestMany, publish, publishMany], [3, undefined, 3, undefined]);
});

test("a deadline that passes leaves the next one alone", async (t) => {
  const { sidecar, node } = await joined(t, ANSWERING);
  await each(node, "a");
  await each(node, "b");
  await assert.rejects(node.request("p", "/x/1", "silence", { timeout: 20 }), DeadlineExceeded);
  await each(node, "c");
  assert.equal(sidecar.calls["requestMany"], 1);
});

test("a sidecar that has the calls, in the place of one without, is asked together", async (t) => {
  const { sidecar, node } = await joined(t, ANSWERING);
  const older = (call: DuplexCall) => {
    call.emit("error", failure(status.UNIMPLEMENTED, "unknown method"));
  };
  Object.assign(sidecar.handlers, { requestMany: older, publishMany: older });
  for (const text of ["a", "b", "c"]) {
    await each(node, text);
  }
  sidecar.kill();
  Object.assign(sidecar.handlers, ANSWERING);
  await sidecar.start();
  await node.statistics().catch(() => undefined); // the end of the connection may only now be noticed
  for (const text of ["a", "b", "c"]) {
    await each(node, text);
  }
  const { requestMany, publishMany } = sidecar.calls;
  assert.deepEqual([requestMany, publishMany], [2, 2]);
});
