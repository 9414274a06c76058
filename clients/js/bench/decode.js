/**
 * What a message of a subscription costs to read: by the generated code, and by hand. `npm run build` first.
 *
 *     node bench/decode.js
 */

import { SubscribeResponse } from "../dist/generated/sidecar/v1/pubsub.js";
import { Parts, topicMessages } from "../dist/wire.js";

const COUNT = 1000; // messages in a batch
const ROUNDS = 500;

const messages = Array.from({ length: COUNT }, (_, number) => ({
  topic: "news",
  data: Buffer.alloc(100, number),
  sender: "12D3KooWFT64F3tEukJMyVrggBUkoUgb9LjBezBWsFF8ttaHUbxc",
  messageId: Buffer.alloc(46, number),
  cursor: Buffer.alloc(16, number),
  receiveTime: { seconds: 1_700_000_000n, nanos: 123_456_789 },
  local: false,
}));
const batch = Buffer.from(SubscribeResponse.encode(SubscribeResponse.fromPartial({ messages })).finish());

const WAYS = {
  "generated code": () => SubscribeResponse.decode(batch).messages.length,
  "by hand, messages": () => topicMessages(new Parts(batch)).length,
  "by hand, payloads": () => new Parts(batch).fields(2).length,
};

for (const [name, way] of Object.entries(WAYS)) {
  for (let round = 0; round < ROUNDS / 5; round += 1) {
    way(); // until it is compiled
  }
  const begun = process.hrtime.bigint();
  for (let round = 0; round < ROUNDS; round += 1) {
    way();
  }
  const each = Number(process.hrtime.bigint() - begun) / ROUNDS / COUNT;
  console.log(`${name}: ${(each / 1000).toFixed(2)} us a message`);
}
