import assert from "node:assert/strict";
import { once } from "node:events";
import { test, type TestContext } from "node:test";

import { status } from "@grpc/grpc-js";

import { AlreadyExists, DeadlineExceeded, NotSupported, Refused, type Request } from "../src/index.js";
import { Status } from "../src/generated/google/rpc/status.js";
import { cancelled, type DuplexCall, failure, inForce, Signal } from "./fake.js";
import { caught, joined, turns } from "./help.js";

interface Answered {
  id: bigint;
  result: { $case: string; value: unknown };
}

/** The warnings of a code that a test has caused. */
function warnings(t: TestContext, code: string): string[] {
  const told: string[] = [];
  const listener = (warning: Error & { code?: string }) => {
    if (warning.code === code) {
      told.push(warning.message);
    }
  };
  process.on("warning", listener);
  t.after(() => process.off("warning", listener));
  return told;
}

/** The sidecar's side of serving: its calls, and the answers that came. */
class Desk {
  readonly calls: DuplexCall[] = [];
  readonly protocols: string[][] = [];
  readonly answers: [number, unknown][] = [];
  frames = 0; // with answers
  timeLeft = 2500; // milliseconds
  #wake = () => undefined as unknown;

  readonly serve = (call: DuplexCall) => {
    this.calls.push(call);
    call.on("data", ({ protocols, answers }: { protocols: string[]; answers: Answered[] }) => {
      if (protocols.length > 0) {
        this.protocols.push(protocols);
        inForce(call);
      }
      this.frames += answers.length > 0 ? 1 : 0;
      this.answers.push(...answers.map(({ id, result: { value } }): [number, unknown] => [Number(id), String(value)]));
      this.#wake();
    });
  };

  ask(...requests: [number, string][]): void {
    this.calls.at(-1)?.write({
      requests: requests.map(([id, data]) => ({
        id: BigInt(id),
        peerId: "p",
        protocol: "/x/1",
        data: Buffer.from(data),
        timeLeft: { seconds: BigInt(Math.floor(this.timeLeft / 1000)), nanos: (this.timeLeft % 1000) * 1e6 },
        traceparent: "parent",
      })),
    });
  }

  async answered(count: number): Promise<[number, unknown][]> {
    while (this.answers.length < count) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.answers;
  }
}

test("requests are answered, refused, and refused for a handler that fails", async (t) => {
  const desk = new Desk();
  const { node } = await joined(t, { serve: desk.serve });
  const seen: Omit<Request, "signal">[] = [];
  const warned = once(process, "warning");
  const server = await node.serve(["/x/1", "/x/2"], ({ signal, ...request }) => {
    assert.equal(signal.aborted, false);
    seen.push(request);
    switch (request.data.toString()) {
      case "refuse":
        throw new Refused("nö".repeat(1000));
      case "fail":
        throw new Error("broken");
      default:
        return `answer to ${request.data.toString()}`;
    }
  });
  assert.deepEqual(desk.protocols, [["/x/1", "/x/2"]]);
  desk.ask([1, "one"], [2, "refuse"], [3, "fail"]);
  const answers = (await desk.answered(3)).sort(([one], [other]) => one - other);
  assert.deepEqual(answers[0], [1, "answer to one"]);
  const refusal = String(answers[1]?.[1]); // at most 1024 bytes, in whole characters
  assert.ok("nö".repeat(1000).startsWith(refusal) && Buffer.byteLength(refusal) > 1000, refusal);
  assert.ok(Buffer.byteLength(refusal) <= 1024);
  assert.deepEqual(answers[2], [3, "the app failed to answer"]);
  assert.match(((await warned) as [Error])[0].message, /handler for \/x\/1 failed: Error: broken/);
  assert.deepEqual(seen[0], {
    peerId: "p",
    protocol: "/x/1",
    data: Buffer.from("one"),
    timeLeft: 2500,
    traceparent: "parent",
  });
  await server.close();
  await server.ended;
  await cancelled(desk.calls[0]!);
});

test("however a handler ends, its own request is refused at once and the others are served", async (t) => {
  const desk = new Desk();
  const { node } = await joined(t, { serve: desk.serve });
  const told = warnings(t, "SIDECAR_HANDLER");
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  const broken = new Error("x");
  Object.defineProperty(broken, "stack", {
    get() {
      throw new Error("no stack");
    },
  });
  const nothing: unknown = Object.create(null);
  const thrown = [undefined, null, 5, "text", Symbol("s"), nothing, revoked.proxy, broken, new AggregateError([])];
  const returned = [undefined, null, 5, true, {}, [1], Symbol("s"), nothing, revoked.proxy, () => ""];
  const controller = new AbortController();
  controller.abort();
  const exits: (() => unknown)[] = [
    ...thrown.map((error) => () => {
      throw error;
    }),
    ...thrown.map((error) => () => Promise.reject(error)),
    ...returned.map((value) => () => value),
    ...returned.slice(0, 7).map((value) => () => Promise.resolve(value)),
    () => once(process, "never", { signal: controller.signal }), // a cancellation of its own
    () => ({
      then: () => {
        throw new Error("no promise");
      },
    }),
  ];
  await node.serve("/x/1", ({ data }) => {
    const exit = exits[Number(data.toString())];
    return (exit === undefined ? "well" : exit()) as string;
  });
  desk.ask(...Array.from({ length: exits.length + 1 }, (_, id): [number, string] => [id, String(id)]));
  const answers = new Map(await desk.answered(exits.length + 1));
  for (const id of exits.keys()) {
    assert.equal(answers.get(id), "the app failed to answer", String(exits[id]));
  }
  assert.equal(answers.get(exits.length), "well");
  await turns();
  assert.equal(told.length, exits.length);
  assert.ok(told.some((text) => text.includes("a payload is a string or a Uint8Array, this one is of type undefined")));
});

test("refusals of every kind are sentences that the sidecar takes", async (t) => {
  const desk = new Desk();
  const { node } = await joined(t, { serve: desk.serve });
  const odd = new Refused("");
  Object.defineProperty(odd, "message", { value: 7 });
  const errors = [new Refused(""), odd, new Refused("half \ud800")];
  await node.serve("/x/1", ({ data }) => {
    throw errors[Number(data.toString())]!;
  });
  desk.ask([0, "0"], [1, "1"], [2, "2"]);
  assert.deepEqual(Object.fromEntries(await desk.answered(3)), { 0: "the app refused", 1: "7", 2: "half \ufffd" });
});

test("an answer that was rejected, or that no call could carry, is told and counted; the others go on", async (t) => {
  const desk = new Desk();
  const { sidecar, node } = await joined(t, { serve: desk.serve });
  const told = warnings(t, "SIDECAR_REJECTED");
  const most = (4 << 20) - 4096 - 96;
  const sizes = [most + 1, most];
  const server = await node.serve("/x/1", ({ data }) => Buffer.alloc(sizes[Number(data.toString())] ?? 0));
  assert.equal(server.rejected, 0);
  desk.ask([1, "0"], [2, "1"], [3, "2"]);
  const answers = new Map(await desk.answered(3));
  const what = `response of ${most + 1} bytes, at most ${most}`;
  assert.equal(answers.get(1), `the app there gave an answer that cannot be taken: ${what}`);
  assert.equal(String(answers.get(2)).length, sizes[1]);
  assert.equal(answers.get(3), "");
  desk.calls[0]?.write({ rejected: [{ id: 2n, reason: "answer of 4190112 bytes, at most 1000000" }] });
  desk.ask([4, "2"]);
  await desk.answered(4);
  await turns();
  assert.equal(server.rejected, 2);
  assert.deepEqual(told, [
    `serving /x/1: an answer was not taken: ${what}`,
    "serving /x/1: an answer was not taken: answer of 4190112 bytes, at most 1000000",
  ]);
  assert.equal(sidecar.calls["serve"], 1);
});

test("answers that are large or many together go in requests that the sidecar takes", async (t) => {
  const desk = new Desk();
  const { sidecar, node } = await joined(t, { serve: desk.serve });
  const release = new Signal();
  await node.serve("/x/1", async ({ data }) => {
    await release.promise;
    if (data.toString() === "refuse") {
      throw new Refused("n".repeat(1024));
    }
    return Buffer.alloc(Number(data.toString()));
  });
  const sizes = [1_048_000, 4_000_000, 1, 4_000_000, 4_000_000, 1_048_000, 1_048_000];
  const asked = [...sizes.map(String), ...Array.from({ length: 200 }, () => "refuse")];
  desk.ask(...asked.map((data, id): [number, string] => [id, data]));
  await turns();
  release.set();
  const answers = new Map(await desk.answered(asked.length));
  assert.deepEqual(
    sizes.map((_, id) => String(answers.get(id)).length),
    sizes,
  );
  assert.ok(desk.frames >= 5 && desk.frames < asked.length);
  assert.equal(sidecar.calls["serve"], 1);
});

test("while too much waits for handlers, time and the end of the call are still noticed", async (t) => {
  const desk = new Desk();
  const { sidecar, node } = await joined(t, { serve: desk.serve });
  const begun: Request[] = [];
  let first = new Signal<Request>();
  const server = await node.serve(
    "/x/1",
    async (request) => {
      begun.push(request);
      first.set(request);
      await once(request.signal, "abort"); // without it, it never ends
      return "";
    },
    { concurrency: 1 },
  );
  const large = "x".repeat(600_000);
  desk.timeLeft = 250;
  desk.ask([1, "a"], [2, large], [3, large]);
  desk.calls[0]?.write({ withdrawn: [1n] }); // not read
  const { signal } = await first.promise;
  first = new Signal();
  await once(signal, "abort"); // by its time
  const next = await first.promise;
  sidecar.kill();
  await once(next.signal, "abort");
  await sidecar.start();
  while (desk.protocols.length < 2) {
    await turns(1);
  }
  await server.close();
  assert.deepEqual(
    begun.map(({ data }) => data.length),
    [1, 600_000],
  );
});

test("who waits for an answer is told at once when the serving is closed in the middle", async (t) => {
  const desk = new Desk();
  const { node } = await joined(t, { serve: desk.serve });
  const begun = new Signal<Request>();
  const release = new Signal();
  const server = await node.serve("/x/1", async (request) => {
    begun.set(request);
    await release.promise; // deaf to its signal
    return "";
  });
  desk.ask([1, "one"]);
  const { signal } = await begun.promise;
  const closed = server.close();
  await cancelled(desk.calls[0]!); // upon which the sidecar refuses whoever waits
  assert.ok(signal.aborted);
  release.set();
  await closed;
  assert.deepEqual(desk.answers, []);
});

test("a handler whose asker has gone is cancelled, also when it is at the end of the queue", async (t) => {
  const desk = new Desk();
  const { node } = await joined(t, { serve: desk.serve });
  const begun = new Signal<Request>();
  const asked: string[] = [];
  const release = new Signal();
  await node.serve(
    "/x/1",
    async (request) => {
      asked.push(request.data.toString());
      begun.set(request);
      await (asked.length === 1 ? once(request.signal, "abort") : release.promise);
      return request.data;
    },
    { concurrency: 1 },
  );
  desk.ask([1, "one"], [2, "two"], [3, "three"]);
  const request = await begun.promise;
  desk.calls[0]?.write({ withdrawn: [2n] });
  desk.calls[0]?.write({ withdrawn: [1n] });
  await once(request.signal, "abort");
  release.set();
  assert.deepEqual(await desk.answered(1), [[3, "three"]]);
  assert.deepEqual(asked, ["one", "three"]);
});

test("who closes may let the running handlers answer first, and for how long", async (t) => {
  const desk = new Desk();
  const { node } = await joined(t, { serve: desk.serve });
  const slow = new Signal();
  const release = new Signal();
  const server = await node.serve("/x/1", async ({ data }) => {
    slow.set();
    await release.promise;
    return data;
  });
  desk.ask([1, "slow"]);
  await slow.promise;
  const ended = once(desk.calls[0]!, "end");
  const closed = server.close({ drain: 60_000 });
  desk.ask([2, "new"]);
  assert.deepEqual(await desk.answered(1), [[2, "the app is going away"]]);
  release.set();
  await ended; // all answers have come before
  assert.deepEqual(desk.answers[1], [1, "slow"]);
  desk.calls[0]?.end();
  await closed;
  await server.ended;
  assert.equal(desk.calls.length, 1);

  const stuck = new Signal();
  const impatient = await node.serve("/x/1", async ({ data, signal }) => {
    stuck.set();
    await once(signal, "abort");
    return data;
  });
  desk.ask([1, "for ever"]);
  await stuck.promise;
  await impatient.close({ drain: 1 });
  await cancelled(desk.calls[1]!);
  assert.equal(desk.answers.length, 2);
});

test("as many handlers run as may", async (t) => {
  const desk = new Desk();
  const { node } = await joined(t, { serve: desk.serve });
  let running = 0;
  let most = 0;
  await node.serve(
    "/x/1",
    async () => {
      running += 1;
      most = Math.max(most, running);
      await turns(2);
      running -= 1;
      return "x";
    },
    { concurrency: 3 },
  );
  desk.ask(...Array.from({ length: 20 }, (_, id): [number, string] => [id, "x"]));
  await desk.answered(20);
  assert.equal(most, 3);
});

test("after a lost connection the protocols are served again, and the old requests are forgotten", async (t) => {
  const desk = new Desk();
  const { sidecar, node } = await joined(t, {
    serve: (call: DuplexCall) => {
      if (sidecar.calls["serve"] === 2) {
        throw failure(status.ALREADY_EXISTS, "still served", { reason: "ALREADY_EXISTS" });
      }
      desk.serve(call);
    },
  });
  const begun = new Signal<Request>();
  const server = await node.serve("/x/1", async (request) => {
    if (request.data.toString() === "old") {
      begun.set(request);
      await once(request.signal, "abort");
    }
    return request.data;
  });
  desk.ask([1, "old"]);
  const { signal } = await begun.promise;
  const withdrawn = once(signal, "abort");
  sidecar.kill();
  await sidecar.start();
  await withdrawn;
  while (desk.protocols.length < 2) {
    await turns(1);
  }
  desk.ask([1, "new"]);
  assert.deepEqual(await desk.answered(1), [[1, "new"]]);
  assert.equal(sidecar.calls["serve"], 3);
  await server.close();
});

test("who serves already is told at once, and what ends the serving later is told too", async (t) => {
  const refusal = failure(status.ALREADY_EXISTS, "served", { reason: "ALREADY_EXISTS" });
  const calls: DuplexCall[] = [];
  const { sidecar, node } = await joined(t, {
    serve: (call: DuplexCall) => {
      if (sidecar.calls["serve"] === 1) {
        throw refusal;
      }
      inForce(call);
      calls.push(call);
    },
  });
  assert.ok((await caught(node.serve("/x/1", () => ""))) instanceof AlreadyExists);
  const warned = once(process, "warning");
  await node.serve("/x/1", () => "");
  calls[0]?.emit("error", failure(status.INVALID_ARGUMENT, "no more", { reason: "INVALID_ARGUMENT" }));
  assert.match(((await warned) as [Error])[0].message, /serving has ended: InvalidArgument: no more/);
  const server = await node.serve("/x/1", () => "");
  calls[1]?.emit("error", failure(status.INVALID_ARGUMENT, "no more", { reason: "INVALID_ARGUMENT" }));
  assert.equal((await caught(server.ended)).name, "InvalidArgument");
});

test("requests that are made at the same time share a call, the first goes alone", async (t) => {
  const frames: [string, string, string[]][] = [];
  const parents: string[] = [];
  const { sidecar, node } = await joined(t, {
    request: ({ data, traceparent }: { data: Buffer; traceparent: string }) => {
      parents.push(traceparent);
      return { data: Buffer.concat([Buffer.from("alone "), data]) };
    },
    requestMany: (call: DuplexCall) => {
      inForce(call);
      call.on(
        "data",
        (frame: {
          peerId: string;
          protocol: string;
          requests: { id: bigint; data: Buffer; traceparent: string }[];
        }) => {
          parents.push(...frame.requests.map(({ traceparent }) => traceparent));
          frames.push([frame.peerId, frame.protocol, frame.requests.map(({ data }) => data.toString())]);
          for (const { id, data } of frame.requests.reverse()) {
            const refused = Status.encode({ code: status.UNIMPLEMENTED, message: "nobody", details: [] }).finish();
            const result = data.equals(Buffer.from("c"))
              ? { $case: "status", value: Buffer.from(refused) }
              : { $case: "data", value: data };
            call.write({ results: [{ id, result }] });
          }
        },
      );
      call.on("end", () => {
        call.end();
      });
    },
  });
  const ask = (peer: string, data: string) => node.request(peer, "/x/1", data, { timeout: 5000, traceparent: data });
  const results = await Promise.allSettled([ask("p", "a"), ask("p", "b"), ask("p", "c"), ask("q", "d")]);
  assert.deepEqual(
    results.map((result) =>
      result.status === "fulfilled" ? result.value.toString() : (result.reason as Error).constructor,
    ),
    ["alone a", "b", NotSupported, "d"],
  );
  assert.deepEqual(frames, [
    ["p", "/x/1", ["b", "c"]],
    ["q", "/x/1", ["d"]],
  ]);
  assert.equal((await ask("p", "z")).toString(), "z"); // over the same call
  assert.deepEqual([sidecar.calls["request"], sidecar.calls["requestMany"]], [1, 1]);
  assert.deepEqual(parents, ["a", "b", "c", "d", "z"]);
});

test("who waits no more for an answer withdraws the request; a lost connection fails those that were written", async (t) => {
  const withdrawn = new Signal<bigint[]>();
  const release = new Signal();
  const open: bigint[] = [];
  const { sidecar, node } = await joined(t, {
    request: async () => {
      await release.promise;
      return { data: Buffer.from("alone") };
    },
    requestMany: (call: DuplexCall) => {
      inForce(call);
      call.on("data", (frame: { requests: { id: bigint }[]; withdrawn: bigint[] }) => {
        open.push(...frame.requests.map(({ id }) => id));
        if (frame.withdrawn.length > 0) {
          withdrawn.set(frame.withdrawn);
        }
      });
    },
  });
  const alone = node.request("p", "/x/1", "a");
  const controller = new AbortController();
  const leaving = caught(node.request("p", "/x/1", "b", { signal: controller.signal }));
  const late = caught(node.request("p", "/x/1", "c", { timeout: 300 }));
  const staying = caught(node.request("p", "/x/1", "d"));
  assert.ok((await late) instanceof DeadlineExceeded);
  controller.abort();
  assert.equal((await leaving).name, "AbortError");
  assert.deepEqual(await withdrawn.promise, [open[1]]);
  release.set();
  await alone;
  sidecar.kill();
  assert.ok(["Closed", "SidecarUnavailable"].includes((await staying).name));
});
