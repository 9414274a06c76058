import assert from "node:assert/strict";
import { test } from "node:test";

import { joined } from "./help.js";

test("rules are set and listed, with what each has kept back", async (t) => {
  const given: object[] = [];
  const counts = [{ topic: "news.eu", limit: "max_payload", messages: 3n }];
  const rule = { name: "size", topics: ["news.*"], description: "short; else ignore", configured: true };
  const { node } = await joined(t, {
    setRules: (request: object) => {
      given.push(request);
      return {};
    },
    listRules: () => ({ rules: [{ ...rule, counts }] }),
  });
  await node.setRules("[[rule]]");
  assert.deepEqual(given, [{ rules: "[[rule]]" }]);
  assert.deepEqual(await node.rules(), [
    { ...rule, counts: [{ topic: "news.eu", limit: "max_payload", messages: 3 }] },
  ]);
});
