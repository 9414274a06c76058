import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import { Refused, TooLarge } from "../src/index.js";
import { CAUTIOUS, USUAL, within } from "../src/frames.js";
import { PublishOutcome } from "../src/generated/sidecar/v1/pubsub.js";
import { TIMES } from "../src/link.js";
import { cancelled, type DuplexCall, Hub, inForce, Signal } from "./fake.js";
import { caught, joined } from "./help.js";

const MOST = 65_536;
const { largest } = within(MOST);

/** A hub that takes so much, and ends the call of whoever sends more. */
async function small(t: TestContext, handlers = {}) {
  const hub = new Hub();
  hub.most = MOST;
  return { hub, ...(await joined(t, { ...hub.handlers(), ...handlers }, {}, MOST)) };
}

test("bounds are made of what a sidecar says, and of what every one takes", () => {
  assert.deepEqual(USUAL, { size: 262_144, messages: 4096, largest: 4_190_112, alone: 1_000_000 });
  assert.deepEqual(within(MOST), { size: 46_080, messages: 160, largest: 61_344, alone: 61_344 });
  assert.deepEqual(CAUTIOUS, { size: 46_080, messages: 160, largest: 4_190_112, alone: 46_080 });
});

test("messages made at the same time go in requests that the sidecar takes, and one too large harms no others", async (t) => {
  const { hub, node, sidecar } = await small(t);
  const sizes = [1, 40_000, 40_000, largest, largest + 1, 30_000, 5 << 20, ...Array.from({ length: 500 }, () => 0)];
  const results = await Promise.allSettled(
    sizes.map((size) => node.publish("news", Buffer.alloc(size), { requestId: "x".repeat(64) })),
  );
  results.forEach((result, index) => {
    if (sizes[index]! > largest) {
      assert.ok(result.status === "rejected" && result.reason instanceof TooLarge, String(index));
    } else {
      assert.ok(result.status === "fulfilled" && result.value.outcome === "SENT", String(index));
    }
  });
  assert.equal(hub.history.length, sizes.length - 2);
  assert.ok(hub.frames.every(({ length }) => length <= 160));
  assert.ok((sidecar.calls["publishMany"] ?? 0) >= 1);
});

test("in bulk what is too large has its receipt, and all others go", async (t) => {
  const { hub, node, sidecar } = await small(t);
  hub.outcome = (data) => (data.length === 7 ? PublishOutcome.DUPLICATE : PublishOutcome.SENT);
  const sizes = [
    largest + 1,
    1,
    2,
    largest,
    5 << 20,
    1 << 20,
    7,
    40_000,
    40_000,
    ...Array.from({ length: 300 }, () => 3),
  ];
  sizes.push(largest + 1);
  const wanted = sizes.map((size) => (size > largest ? "TOO_LARGE" : size === 7 ? "DUPLICATE" : "SENT"));
  async function* slowly(messages: Buffer[]) {
    for (const message of messages) {
      yield await Promise.resolve(message);
    }
  }
  const messages = sizes.map((size) => Buffer.alloc(size));
  for (const given of [messages, slowly(messages)]) {
    let told = 0;
    const onReceipts = ({ count }: { count: number }) => {
      told += count;
    };
    const receipts = await node.publishMany("news", given, { returnMessageIds: true, onReceipts });
    const outcomes = receipts.flatMap(({ first, count, outcome, messageIds }) => {
      assert.deepEqual(
        messageIds.map(({ length }) => length - "id of ".length),
        outcome === "TOO_LARGE" ? [] : sizes.slice(first, first + count),
      );
      return Array.from({ length: count }, () => outcome);
    });
    assert.deepEqual(outcomes, wanted);
    assert.equal(receipts.at(-1)!.first + receipts.at(-1)!.count, sizes.length);
    assert.equal(told, sizes.length);
  }
  assert.ok(hub.frames.every(({ length }) => length <= 160));
  assert.equal(sidecar.calls["publishMany"], 2);
});

test("what is sent in bulk says why it was not", async (t) => {
  const { node } = await small(t, {
    sendMany: (call: DuplexCall) => {
      inForce(call, MOST);
      call.on("data", ({ messages }: { messages: [] }) => {
        call.write({ receipts: [{ first: 0n, count: BigInt(messages.length), receipt: { outcome: 1 } }] });
      });
      call.on("end", () => {
        call.end();
      });
    },
  });
  assert.deepEqual(await node.sendMany("p", "/x/1", ["a", Buffer.alloc(largest + 1), "b"]), [
    { first: 0, count: 1, outcome: "DELIVERED", detail: "" },
    {
      first: 1,
      count: 1,
      outcome: "TOO_LARGE",
      detail: `message of ${largest + 1} bytes, and a request to this sidecar holds one of at most ${largest}`,
    },
    { first: 2, count: 1, outcome: "DELIVERED", detail: "" },
  ]);
});

test("an iterable of nothing but what is too large ends with the call", async (t) => {
  const begun = new Signal<DuplexCall>();
  const { node } = await small(t, {
    publishMany: (call: DuplexCall) => {
      inForce(call, MOST);
      begun.set(call);
    },
  });
  const large = Buffer.alloc(largest + 1);
  function* endless() {
    for (;;) {
      yield large;
    }
  }
  const controller = new AbortController();
  const publishing = caught(node.publishMany("news", endless(), { signal: controller.signal }));
  const call = await begun.promise;
  controller.abort();
  assert.equal((await publishing).name, "AbortError");
  await cancelled(call);
});

test("requests and answers stay below the bound", async (t) => {
  const answers = new Map<bigint, string>();
  const all = new Signal();
  const { node, sidecar } = await small(t, {
    request: ({ data }: { data: Buffer }) => ({ data }),
    requestMany: (call: DuplexCall) => {
      inForce(call, MOST);
      call.on("data", ({ requests }: { requests: { id: bigint; data: Buffer }[] }) => {
        call.write({ results: requests.map(({ id, data }) => ({ id, result: { $case: "data", value: data } })) });
      });
    },
    serve: (call: DuplexCall) => {
      inForce(call, MOST);
      call.on("data", (said: { protocols: string[]; answers: { id: bigint; result: { value: unknown } }[] }) => {
        if (said.protocols.length > 0) {
          const asked = ["61344", "61345", "40000", "40000", ...Array.from({ length: 300 }, () => "refuse")];
          call.write({ requests: asked.map((data, id) => ({ id: BigInt(id), data: Buffer.from(data) })) });
        }
        for (const { id, result } of said.answers) {
          answers.set(id, String(result.value));
        }
        if (answers.size === 304) {
          all.set();
        }
      });
    },
  });
  const sizes = [1, 40_000, 40_000, largest, largest + 1, 1, 5 << 20, ...Array.from({ length: 300 }, () => 0)];
  const results = await Promise.allSettled(sizes.map((size) => node.request("p", "/x/1", Buffer.alloc(size))));
  results.forEach((result, index) => {
    if (sizes[index]! > largest) {
      assert.ok(result.status === "rejected" && result.reason instanceof TooLarge, String(index));
    } else {
      assert.ok(result.status === "fulfilled" && result.value.length === sizes[index], String(index));
    }
  });
  const server = await node.serve("/x/1", ({ data }) => {
    if (data.toString() === "refuse") {
      throw new Refused("n".repeat(1024));
    }
    return Buffer.alloc(Number(data.toString()));
  });
  await all.promise;
  assert.equal(answers.get(0n)?.length, largest);
  assert.match(answers.get(1n) ?? "", /response of 61345 bytes, at most 61344/);
  assert.equal(server.rejected, 1);
  assert.equal(sidecar.calls["serve"], 1);
});

test("pieces of byte streams are such that the sidecar takes them", async (t) => {
  const { node } = await small(t, {
    openStream: (call: DuplexCall) => {
      inForce(call, MOST);
      let opened = false;
      call.on("data", ({ data, closeWrite }: { data: Buffer; closeWrite: boolean }) => {
        call.write(opened ? { data, end: closeWrite } : { opened: { peerId: "p", protocol: "/x/1" } });
        opened = true;
        if (closeWrite) {
          call.end();
        }
      });
    },
  });
  const stream = await node.openStream("p", "/x/1");
  stream.end(Buffer.alloc(300_000, "x"));
  let size = 0;
  for await (const piece of stream) {
    size += piece.length;
  }
  assert.equal(size, 300_000);
});

test("what is known holds for one connection: the next sidecar may take less", async (t) => {
  const { hub, node, sidecar } = await small(t);
  hub.most = undefined;
  await node.publishMany("news", ["a"]); // says nothing: 4 MiB
  sidecar.kill();
  hub.most = MOST;
  await sidecar.start();
  await node.info();
  const outcomes = await Promise.allSettled(
    [1, 40_000, 40_000, 40_000].map((size) => node.publish("news", Buffer.alloc(size))),
  );
  assert.ok(outcomes.every(({ status }) => status === "fulfilled"));
});

test("a server that is silent gets batches that every sidecar takes, and what is larger by itself", async (t) => {
  const { headers } = TIMES;
  t.after(() => {
    TIMES.headers = headers;
  });
  TIMES.headers = 1;
  const frames: number[][] = [];
  const { hub, node } = await small(t, {
    publishMany: (call: DuplexCall) => {
      let number = 0;
      call.on("data", ({ messages }: { messages: { data: Buffer }[] }) => {
        frames.push(messages.map(({ data }) => data.length));
        call.write({ receipts: [{ first: number, count: messages.length, outcome: PublishOutcome.SENT }] });
        number += messages.length;
      });
      call.on("end", () => {
        call.end();
      });
    },
  });
  const sizes = [1, 40_000, 40_000, 50_000, 1];
  await node.publishMany(
    "news",
    sizes.map((size) => Buffer.alloc(size)),
  );
  assert.deepEqual(frames.splice(0), [[1, 40_000], [40_000], [50_000], [1]]);
  await Promise.all(sizes.map((size) => node.publish("news", Buffer.alloc(size))));
  assert.deepEqual(frames, [[40_000], [40_000], [1]]);
  assert.deepEqual(
    hub.singles.map(({ data }) => data.length),
    [1, 50_000],
  );
});
