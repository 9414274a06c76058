import assert from "node:assert/strict";
import { test } from "node:test";

import { InvalidArgument } from "../src/index.js";
import { caught, joined } from "./help.js";

test("a peer's score is set, for a time or for good, and anything but a number refused", async (t) => {
  const given: object[] = [];
  const { node } = await joined(t, {
    setPeerScore: (request: object) => {
      given.push(request);
      return {};
    },
  });
  await node.setPeerScore("x", -4.5, { duration: 60_000 });
  await node.setPeerScore("x", 0);
  assert.deepEqual(given, [
    { peerId: "x", score: -4.5, duration: { seconds: 60n, nanos: 0 } },
    { peerId: "x", score: 0, duration: undefined },
  ]);
  for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY, "5" as unknown as number]) {
    const error = await caught(node.setPeerScore("x", wrong));
    assert.ok(error instanceof InvalidArgument);
    assert.equal(error.field, "score");
  }
});
