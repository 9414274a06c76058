import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import { Closed, DeadlineExceeded } from "../src/index.js";
import { costOf, type Guest, Room } from "../src/room.js";
import { Hub, inForce, Signal } from "./fake.js";
import { caught, joined, turns } from "./help.js";

const MOST = 65_536; // empty messages that wait
const SIXTY_FOURTH = Buffer.alloc((512 << 10) - 512); // of all the room

/** A sidecar that hangs in all unary methods until it is let go. */
async function hanging(t: TestContext) {
  const hub = new Hub();
  const handlers = hub.handlers();
  const [begun, release] = [new Signal(), new Signal()];
  const hang = (answer: (request: unknown) => unknown) => async (request: unknown) => {
    begun.set();
    await release.promise;
    return answer(request);
  };
  const { node } = await joined(t, {
    ...handlers,
    publish: hang(handlers["publish"] as (request: unknown) => unknown),
    send: hang(() => ({ receipt: { outcome: 1 } })),
    request: hang(() => ({ data: Buffer.from("answer") })),
    requestMany: inForce, // and never reads
  });
  return { hub, node, begun, release };
}

/** What has been settled of some promises. */
function settled(promises: Promise<unknown>[]): { count: number } {
  const seen = { count: 0 };
  const count = () => {
    seen.count += 1;
  };
  for (const promise of promises) {
    promise.then(count, count);
  }
  return seen;
}

test("who comes when there is no room waits in order, until there is or it gives up", () => {
  const room = new Room();
  const inside: string[] = [];
  const come = (name: string, size: number): Guest => {
    const guest: Guest = {
      cost: costOf(Buffer.alloc(size)),
      settled: false,
      admitted: () => {
        inside.push(name);
      },
    };
    if (room.enter(guest)) {
      inside.push(name);
    }
    return guest;
  };
  const leave = (guest: Guest) => {
    guest.settled = true;
    room.leave(guest);
  };
  const huge = come("huge", 40 << 20); // takes all there is, and is not shut out for ever
  const [a, b, c, d] = [come("a", 20 << 20), come("b", 20 << 20), come("c", 0), come("d", 1)];
  assert.deepEqual(inside, ["huge"]);
  leave(huge);
  assert.deepEqual(inside, ["huge", "a"]); // c has room, and comes after b
  leave(c);
  leave(b);
  assert.deepEqual(inside, ["huge", "a", "d"]);
  leave(a);
  leave(d);
  const guests = Array.from({ length: 2 * MOST }, () => come("", 0));
  assert.equal(inside.length, 3 + MOST);
  guests.slice(MOST).forEach(leave); // all that wait
  const last = come("last", 0);
  leave(guests[0]!);
  assert.equal(inside.at(-1), "last");
  leave(last);
  guests.slice(1, MOST).forEach(leave);
  come("huge", 40 << 20); // all is free
  assert.equal(inside.at(-1), "huge");
});

test("when the sidecar hangs, publishing takes so much and then waits for room", async (t) => {
  const { hub, node, begun, release } = await hanging(t);
  const first = node.publish("news", SIXTY_FOURTH);
  await begun.promise;
  const inside = Array.from({ length: 63 }, () => node.publish("news", SIXTY_FOURTH));
  const controller = new AbortController();
  const leaving = caught(node.publish("news", "left", { signal: controller.signal }));
  const late = caught(node.publish("news", "late", { timeout: 1 }));
  const last = [node.publish("news", "last"), node.publish("sport", "another topic")];
  const seen = settled(last);
  controller.abort();
  assert.equal((await leaving).name, "AbortError");
  assert.ok((await late) instanceof DeadlineExceeded);
  assert.equal(seen.count, 0);
  assert.equal(hub.singles.length, 0); // nor has that of another topic been written
  release.set();
  const receipts = await Promise.all([first, ...inside, ...last]);
  assert.ok(receipts.every(({ outcome }) => outcome === "SENT"));
  assert.equal(hub.history.length, 66);
});

test("bytes count as well, and closing ends those that wait for room", async (t) => {
  const { node, begun } = await hanging(t);
  const data = Buffer.alloc((1 << 20) - 512);
  const inside = [node.send("p", "/x/1", data)];
  await begun.promise;
  inside.push(...Array.from({ length: 31 }, () => node.send("p", "/x/1", data)));
  const crowd = Array.from({ length: 100 }, () => node.send("q", "/x/1", data));
  const seen = settled(crowd);
  await turns();
  assert.equal(seen.count, 0);
  const errors = Promise.all([...inside, ...crowd].map(caught));
  await node.close();
  assert.ok((await errors).every((error) => error instanceof Closed));
});

test("requests are bounded too", async (t) => {
  const { node, begun, release } = await hanging(t);
  const first = node.request("p", "/x/1", "");
  await begun.promise;
  const ask = (options = {}) => node.request("p", "/x/1", Buffer.alloc(999_488), options);
  const inside = Array.from({ length: 33 }, () => caught(ask())); // in the call that hangs, or on their way there
  assert.ok((await caught(ask({ timeout: 1 }))) instanceof DeadlineExceeded);
  assert.equal((await caught(ask({ signal: AbortSignal.timeout(1) }))).name, "TimeoutError");
  const [waiting, behind] = [caught(ask()), node.request("p", "/x/1", "")];
  const seen = settled([behind]);
  release.set();
  assert.equal((await first).toString(), "answer");
  await turns();
  assert.equal(seen.count, 0); // though there were room for it: the other came before
  const errors = Promise.all([...inside, waiting, caught(behind)]);
  await node.close();
  assert.ok((await errors).every((error) => error instanceof Closed));
});

test("callers that come and go while the sidecar hangs leave nothing behind", async (t) => {
  const { hub, node, begun, release } = await hanging(t);
  const first = node.publish("news", "first");
  await begun.promise;
  for (let number = 0; number < 100; number += 1) {
    const leaving = caught(node.publish("news", Buffer.alloc(1 << 20), { signal: AbortSignal.timeout(0) }));
    assert.equal((await leaving).name, "TimeoutError");
  }
  const staying = node.publish("news", "stays"); // has room
  release.set();
  await Promise.all([first, staying]);
  assert.deepEqual(
    hub.history.map(({ data }) => data.toString()),
    ["first", "stays"],
  );
});
