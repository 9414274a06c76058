import assert from "node:assert/strict";
import { test } from "node:test";

import { InvalidArgument, type Verdict } from "../src/index.js";
import { type DuplexCall, inForce } from "./fake.js";
import { caught, joined } from "./help.js";

interface Ranges {
  first: bigint;
  count: bigint;
  verdict: number;
}

/** The sidecar's side of judging: what it was first told, and the verdicts that came. */
class Court {
  readonly first: Record<string, unknown>[] = [];
  readonly given: [number, number][] = [];
  readonly calls: DuplexCall[] = [];
  ended = 0;
  #wake: () => void = () => undefined;

  readonly validate = (call: DuplexCall) => {
    this.calls.push(call);
    call.on("data", ({ topics, fallback, timeout, maxWaiting, verdicts }: Record<string, unknown>) => {
      if ((topics as string[]).length > 0) {
        this.first.push({ topics, fallback, timeout, maxWaiting });
        inForce(call);
      }
      for (const { first, count, verdict } of verdicts as Ranges[]) {
        for (let number = first; number < first + count; number += 1n) {
          this.given.push([Number(number), verdict]);
        }
      }
      this.#wake();
    });
    call.on("end", () => {
      this.ended += 1;
      call.end();
      this.#wake();
    });
  };

  ask(first: number, ...datas: string[]): void {
    const messages = datas.map((data) => ({ topic: "news", data: Buffer.from(data), sender: "p" }));
    this.calls.at(-1)?.write({ first: BigInt(first), messages });
  }

  async until(done: () => boolean): Promise<void> {
    while (!done()) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async have(count: number): Promise<void> {
    await this.until(() => this.given.length >= count);
  }
}

void test("messages are judged, at once or later, and what a judge throws is ignored", async (t) => {
  const court = new Court();
  const { node } = await joined(t, { validate: court.validate });
  const validator = await node.validate(
    "news",
    ({ topic, data, sender }) => {
      assert.deepEqual([topic, sender], ["news", "p"]);
      const text = data.toString();
      if (text === "throw") {
        throw new Error("odd");
      }
      return text.startsWith("later") ? Promise.resolve("REJECT" as const) : (text as Verdict);
    },
    { fallback: "HOLD", timeout: 1500, maxWaiting: 9 },
  );
  assert.deepEqual(court.first, [
    { topics: ["news"], fallback: 3, timeout: { seconds: 1n, nanos: 500_000_000 }, maxWaiting: 9 },
  ]);
  court.ask(7, "ACCEPT", "ACCEPT", "REJECT", "IGNORE", "throw", "odd", "later");
  await court.have(7);
  assert.deepEqual(
    [...court.given].sort(([one], [other]) => one - other),
    [
      [7, 1],
      [8, 1],
      [9, 2],
      [10, 3],
      [11, 3],
      [12, 3],
      [13, 2],
    ],
  );
  await validator.close();
  await validator.ended;
  assert.equal(court.ended, 1); // in order
});

/** Its text cannot be had, nor anything else of it. */
const SECRET: unknown = new Proxy(
  {},
  {
    get: () => {
      throw new Error("none of your business");
    },
    getPrototypeOf: () => {
      throw new Error("none of your business");
    },
  },
);

void test("whatever a judge throws or gives, only that message is ignored", async (t) => {
  const court = new Court();
  const { node } = await joined(t, { validate: court.validate });
  const odd: unknown[] = [null, undefined, Symbol("odd"), Object.create(null), SECRET, 5, new Error("odd")];
  const ways: ((what: unknown) => unknown)[] = [
    (what) => {
      throw what;
    },
    (what) => Promise.reject(what),
    (what) => what,
    (what) => Promise.resolve(what),
  ];
  const warned: string[] = [];
  const listen = ({ message }: Error) => warned.push(message);
  process.on("warning", listen);
  t.after(() => process.off("warning", listen));
  const validator = await node.validate("news", ({ data }) => {
    const text = data.toString();
    if (text === "ACCEPT") {
      return text;
    }
    const number = Number(text);
    return ways[Math.floor(number / odd.length)]?.(odd[number % odd.length]) as Verdict;
  });
  const count = ways.length * odd.length;
  court.ask(0, ...Array.from({ length: count }, (_, number) => String(number)), "ACCEPT");
  await court.have(count + 1);
  assert.deepEqual(
    new Map(court.given),
    new Map(Array.from({ length: count + 1 }, (_, at) => [at, at < count ? 3 : 1])),
  );
  assert.equal(warned.length, count);
  await validator.close();
  await validator.ended;
});

void test("a verdict may come from anything that has a then", async (t) => {
  const court = new Court();
  const { node } = await joined(t, { validate: court.validate });
  const validator = await node.validate("news", ({ data }) => ({
    then: (told) => {
      told?.(data.toString() as Verdict);
      return undefined as never;
    },
  }));
  court.ask(1, "REJECT", "ACCEPT");
  await court.have(2);
  assert.deepEqual(
    new Map(court.given),
    new Map([
      [1, 2],
      [2, 1],
    ]),
  );
  await validator.close();
});

void test("no more verdicts are open than may, of messages that come together too", async (t) => {
  const court = new Court();
  const { node } = await joined(t, { validate: court.validate });
  const open: ((verdict: Verdict) => void)[] = [];
  let most = 0;
  const validator = await node.validate(
    "news",
    () =>
      new Promise<Verdict>((resolve) => {
        open.push(resolve);
        most = Math.max(most, open.length);
      }),
    { concurrency: 2 },
  );
  court.ask(1, "one", "two", "three", "four", "five");
  for (let given = 1; given <= 5; given += 1) {
    while (open.length === 0) {
      await new Promise(setImmediate);
    }
    open.shift()?.("ACCEPT");
    await court.have(given);
  }
  assert.equal(most, 2);
  court.ask(6, "six", "seven", "eight");
  while (open.length < 2) {
    await new Promise(setImmediate);
  }
  await validator.close(); // though verdicts are open that never come
  await validator.ended;
});

void test("judging goes on after the sidecar was gone", async (t) => {
  const court = new Court();
  const { sidecar, node } = await joined(t, { validate: court.validate });
  const validator = await node.validate(["news"], () => "ACCEPT");
  court.ask(1, "one");
  await court.have(1);
  sidecar.kill();
  await sidecar.start();
  await court.until(() => court.first.length >= 2);
  court.ask(5, "two");
  await court.have(2);
  assert.deepEqual(court.given, [
    [1, 1],
    [5, 1],
  ]);
  await validator.close();
});

void test("what cannot judge", async (t) => {
  const { node } = await joined(t, {});
  for (const bad of [
    node.validate("news", 5 as never),
    node.validate("news", () => "ACCEPT", { concurrency: 0 }),
    node.validate("news", () => "ACCEPT", { maxWaiting: -1 }),
    node.validate("news", () => "ACCEPT", { fallback: "MAYBE" as never }),
  ]) {
    assert.ok((await caught(bad)) instanceof InvalidArgument);
  }
});
