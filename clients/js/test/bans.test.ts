import assert from "node:assert/strict";
import { test } from "node:test";

import { status } from "@grpc/grpc-js";

import { NotFound } from "../src/index.js";
import { failure } from "./fake.js";
import { caught, joined } from "./help.js";

const at = (seconds: number) => ({ seconds: BigInt(seconds), nanos: 5e8 });
const MADE = {
  peerId: "",
  network: "",
  reason: "",
  configured: false,
  refused: 0n,
  createTime: at(9),
  expireTime: undefined,
};

test("bans are made, listed page by page, and lifted", async (t) => {
  const { sidecar, node } = await joined(t, {
    banPeer: (request: { peerId: string; network: string; reason: string; duration?: { seconds: bigint } }) => ({
      bans: [
        { ...MADE, peerId: request.peerId, reason: request.reason, expireTime: request.duration && at(69) },
        ...(request.network ? [{ ...MADE, network: request.network, refused: 3n }] : []),
      ],
      connectionsClosed: 2,
      warnings: ["it is a bootstrap peer"],
    }),
    allowPeer: (request: { network: string }) => {
      if (request.network) {
        throw failure(status.NOT_FOUND, "it is not banned", { reason: "NOT_FOUND" });
      }
      return { warnings: ["still refused"] };
    },
    listBans: (request: { pageToken: string }) =>
      request.pageToken
        ? { bans: [{ ...MADE, peerId: "x" }], nextPageToken: "" }
        : { bans: [{ ...MADE, network: "::1", configured: true, createTime: undefined }], nextPageToken: "more" },
  });
  const banned = await node.banPeer("x", { network: "192.0.2.0/24", reason: "spam", duration: 60_000 });
  assert.deepEqual(banned, {
    bans: [
      { ...MADE, peerId: "x", reason: "spam", createTime: 9500, expireTime: 69_500, refused: 0 },
      { ...MADE, network: "192.0.2.0/24", createTime: 9500, refused: 3 },
    ],
    connectionsClosed: 2,
    warnings: ["it is a bootstrap peer"],
  });
  assert.equal((await node.banPeer("x")).bans[0]?.expireTime, undefined);
  assert.deepEqual(await node.allowPeer("x"), ["still refused"]);
  assert.ok((await caught(node.allowPeer("", { network: "192.0.2.7" }))) instanceof NotFound);
  const found = [];
  for await (const ban of node.bans()) {
    found.push([ban.peerId, ban.network, ban.configured, ban.createTime]);
  }
  assert.deepEqual(found, [
    ["", "::1", true, undefined],
    ["x", "", false, 9500],
  ]);
  assert.equal(sidecar.calls["listBans"], 2);
});

test("peers are protected, and no longer", async (t) => {
  const { node } = await joined(t, {
    protectPeer: () => ({ warnings: ["not kept"] }),
    unprotectPeer: () => ({ warnings: ["still protected"] }),
  });
  assert.deepEqual(await node.protectPeer("x"), ["not kept"]);
  assert.deepEqual(await node.unprotectPeer("x"), ["still protected"]);
});
