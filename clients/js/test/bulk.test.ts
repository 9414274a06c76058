import assert from "node:assert/strict";
import { test } from "node:test";

import { status } from "@grpc/grpc-js";

import { InvalidArgument, type PublishReceipts, QueueFull } from "../src/index.js";
import { PublishOutcome } from "../src/generated/sidecar/v1/pubsub.js";
import { cancelled, type DuplexCall, failure, Hub, inForce, Signal } from "./fake.js";
import { caught, joined, turns } from "./help.js";

test("many messages go in full frames, and their receipts are as few ranges as say it", async (t) => {
  const hub = new Hub();
  hub.outcome = (data) => (data.length === 0 ? PublishOutcome.DUPLICATE : PublishOutcome.SENT);
  const { node } = await joined(t, hub.handlers());
  function* messages() {
    for (let number = 0; number < 5000; number += 1) {
      yield number === 4500 ? "" : `${number}`;
    }
  }
  const told: PublishReceipts[] = [];
  const receipts = await node.publishMany("news", messages(), {
    onReceipts: (range) => {
      told.push(range);
    },
  });
  assert.deepEqual(
    receipts.map(({ first, count, outcome }) => [first, count, outcome]),
    [
      [0, 4500, "SENT"],
      [4500, 1, "DUPLICATE"],
      [4501, 499, "SENT"],
    ],
  );
  assert.equal(
    told.reduce((sum, { count }) => sum + count, 0),
    5000,
  );
  assert.deepEqual(
    hub.frames.map(({ length }) => length),
    [4096, 904],
  );
});

test("frames have a bound in bytes, and what is larger goes alone", async (t) => {
  const hub = new Hub();
  const { node } = await joined(t, hub.handlers());
  await node.publishMany(
    "news",
    [100_000, 100_000, 100_000, 500_000, 1].map((size) => Buffer.alloc(size)),
  );
  assert.deepEqual(
    hub.frames.map((frame) => frame.map(({ data }) => data.length)),
    [[100_000, 100_000], [100_000], [500_000], [1]],
  );
});

test("message ids and request ids", async (t) => {
  const hub = new Hub();
  const { node } = await joined(t, hub.handlers());
  const receipts = await node.publishMany("news", ["a", { data: "b", requestId: "safe" }], { returnMessageIds: true });
  assert.deepEqual(
    receipts.flatMap(({ messageIds }) => messageIds.map(String)),
    ["id of a", "id of b"],
  );
  assert.deepEqual(
    hub.frames.flat().map(({ requestId }) => requestId),
    ["", "safe"],
  );
  const long = [{ data: "a", requestId: "x".repeat(65) }];
  assert.ok((await caught(node.publishMany("news", long))) instanceof InvalidArgument);
});

test("no messages at all", async (t) => {
  const { node } = await joined(t, new Hub().handlers());
  assert.deepEqual(await node.publishMany("news", []), []);
});

test("messages are taken as they are written: nothing is gathered without bound", async (t) => {
  const stuck = new Signal<DuplexCall>();
  const { node } = await joined(t, {
    publishMany: (call: DuplexCall) => {
      inForce(call);
      stuck.set(call); // and does not read
    },
  });
  let taken = 0;
  function* messages() {
    for (;;) {
      taken += 1;
      yield Buffer.alloc(10_000);
    }
  }
  const controller = new AbortController();
  const publishing = caught(node.publishMany("news", messages(), { signal: controller.signal }));
  const call = await stuck.promise;
  await turns(50);
  const before = taken;
  await turns(50);
  assert.equal(taken, before);
  assert.ok(taken < 100, `${taken} of 10,000 bytes`); // a window, and the frame in hand
  controller.abort();
  assert.equal((await publishing).name, "AbortError");
  await cancelled(call);
});

test("what comes of an async iterable while a frame is written joins the next", async (t) => {
  const hub = new Hub();
  const { node } = await joined(t, hub.handlers());
  const pause = new Signal();
  async function* messages() {
    yield "a";
    await pause.promise;
    for (let number = 0; number < 1000; number += 1) {
      yield `${number}`;
    }
  }
  const publishing = node.publishMany("news", messages());
  while (hub.history.length === 0) {
    await turns(1); // the first one does not wait for others
  }
  pause.set();
  const receipts = await publishing;
  assert.deepEqual([receipts.length, receipts[0]?.count], [1, 1001]);
  assert.ok(hub.frames.length < 20, `${hub.frames.length} frames`);
});

test("an iterable that waits is let go when the call is over", async (t) => {
  const begun = new Signal<DuplexCall>();
  const { node } = await joined(t, {
    publishMany: (call: DuplexCall) => {
      inForce(call);
      call.once("data", () => {
        begun.set(call);
      });
    },
  });
  async function* messages() {
    yield "a";
    await new Promise(() => undefined);
  }
  const controller = new AbortController();
  const publishing = caught(node.publishMany("news", messages(), { signal: controller.signal }));
  const call = await begun.promise;
  controller.abort();
  assert.equal((await publishing).name, "AbortError");
  await cancelled(call);
});

test("the iterable's own error ends the call, and its iterator is closed in any case", async (t) => {
  const hub = new Hub();
  const { node } = await joined(t, {
    ...hub.handlers(),
    sendMany: () => {
      throw failure(status.RESOURCE_EXHAUSTED, "full", { reason: "QUEUE_FULL" });
    },
  });
  function* broken() {
    yield "a";
    throw new Error("no more paper");
  }
  assert.equal((await caught(node.publishMany("news", broken()))).message, "no more paper");
  const closed = new Signal();
  function* endless() {
    try {
      for (;;) {
        yield Buffer.alloc(100_000);
      }
    } finally {
      closed.set();
    }
  }
  assert.ok((await caught(node.sendMany("p", "/x/1", endless()))) instanceof QueueFull);
  await closed.promise;
});

test("what an async iterable throws when it is let go does not hide why it is", async (t) => {
  const { node } = await joined(t, new Hub().handlers());
  const iterable = (next: () => Promise<IteratorResult<string>>) => ({
    [Symbol.asyncIterator]: () => ({
      next,
      return: () => {
        throw new Error("in return");
      },
    }),
  });
  const failing = iterable(() => Promise.reject(new Error("no more paper")));
  assert.equal((await caught(node.publishMany("news", failing))).message, "no more paper");
  const controller = new AbortController();
  const waiting = iterable(() => {
    setImmediate(() => {
      controller.abort(new Error("enough"));
    });
    return new Promise(() => undefined);
  });
  const publishing = node.publishMany("news", waiting, { signal: controller.signal });
  assert.equal((await caught(publishing)).message, "enough");
  const malformed = iterable(() => Promise.resolve({ done: false, value: null as never }));
  assert.ok((await caught(node.publishMany("news", malformed))) instanceof InvalidArgument);
});
