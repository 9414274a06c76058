import assert from "node:assert/strict";
import { test } from "node:test";

import { ReceiveResponse } from "../src/generated/sidecar/v1/direct.js";
import { PublishManyRequest, SubscribeResponse } from "../src/generated/sidecar/v1/pubsub.js";
import { OpenedStream, OpenStreamRequest, OpenStreamResponse } from "../src/generated/sidecar/v1/stream.js";
import { InternalError } from "../src/errors.js";
import { PUBLISH_ITEM } from "../src/bulk.js";
import { directMessages, encodeBatch, encodeField, Parts, streamResponse, topicMessages } from "../src/wire.js";

const SIZES = [0, 1, 127, 128, 300, 16_383, 16_384, 70_000];

test("subscriptions are read as the generated code reads them", () => {
  const response = SubscribeResponse.fromPartial({
    cursor: Buffer.from("c0"),
    lagged: { missed: 300n, reason: 1 },
    messages: SIZES.map((size, index) => ({
      topic: index % 3 === 0 ? "новости" : "news",
      data: Buffer.alloc(size, index),
      sender: index % 2 === 0 ? "" : `sender ${index % 4}`,
      messageId: Buffer.from(`id ${index}`),
      cursor: Buffer.from(`c${index + 1}`),
      receiveTime: { seconds: 1_800_000_000n + BigInt(index), nanos: 500_000_000 },
      local: index % 2 === 1,
      history: index % 4 === 2,
    })),
  });
  const parts = new Parts(Buffer.from(SubscribeResponse.encode(response).finish()));
  assert.deepEqual(
    topicMessages(parts),
    response.messages.map(({ receiveTime, ...rest }) => ({
      ...rest,
      receiveTime: Number(receiveTime?.seconds) * 1000 + 500,
    })),
  );
  assert.deepEqual(
    parts.fields(2),
    response.messages.map(({ data }) => data),
  );
  assert.deepEqual([parts.cursor, parts.lastField(5)], [Buffer.from("c0"), Buffer.from("c8")]);
  assert.deepEqual([parts.lagged?.missed, parts.lagged?.reason], [300, "SLOW_READER"]);
});

test("direct messages are read as the generated code reads them", () => {
  const messages = SIZES.map((size, index) => ({
    peerId: `peer ${index % 2}`,
    protocol: "/x/1",
    data: Buffer.alloc(size, index),
  }));
  const encoded = ReceiveResponse.encode(ReceiveResponse.fromPartial({ messages })).finish();
  assert.deepEqual(directMessages(new Parts(Buffer.from(encoded))), messages);
});

test("fields that are not known yet are passed over", () => {
  // Field 15 of every wire type, before and inside of a message.
  const unknown = Buffer.from([0x78, 0xac, 0x02, 0x79, 1, 2, 3, 4, 5, 6, 7, 8, 0x7a, 2, 9, 9, 0x7d, 1, 2, 3, 4]);
  const message = Buffer.concat([unknown, encodeField(0x12, Buffer.from("data")), unknown]);
  const [found] = topicMessages(new Parts(Buffer.concat([unknown, encodeField(0x0a, message), unknown])));
  assert.equal(found?.data.toString(), "data");
  const response = streamResponse(Buffer.concat([unknown, encodeField(0x12, Buffer.from("x"))]));
  assert.equal(response.data.toString(), "x");
});

test("what is cut off is an error", () => {
  const whole = Buffer.from(SubscribeResponse.encode(SubscribeResponse.fromPartial({ messages: [{}, {}] })).finish());
  const long = encodeField(0x0a, Buffer.alloc(300));
  for (const cut of [whole.subarray(0, 1), long.subarray(0, 2), long.subarray(0, 100), Buffer.from([0xff, 0xff])]) {
    assert.throws(() => new Parts(cut), InternalError);
  }
});

test("batches are written as the generated code writes them", () => {
  const head = Buffer.from(PublishManyRequest.encode(PublishManyRequest.fromPartial({ topic: "news" })).finish());
  const messages = SIZES.map((size, index) => ({
    data: Buffer.alloc(size, index),
    requestId: Buffer.from(index % 2 === 0 ? "" : `id ${index}`),
  }));
  const { topic, messages: read } = PublishManyRequest.decode(encodeBatch(head, PUBLISH_ITEM, messages));
  assert.equal(topic, "news");
  assert.deepEqual(
    read,
    messages.map(({ data, requestId }) => ({ data, requestId: requestId.toString() })),
  );
});

test("byte streams' messages", () => {
  const data = Buffer.alloc(1000, 7);
  assert.deepEqual(OpenStreamRequest.decode(encodeField(0x1a, data)).data, data);
  const encoded = { opened: { peerId: "p", protocol: "x" }, data, end: true, status: Buffer.from("status") };
  const response = streamResponse(Buffer.from(OpenStreamResponse.encode(encoded).finish()));
  assert.deepEqual([response.data, response.end, response.status], [data, true, encoded.status]);
  assert.deepEqual(OpenedStream.decode(response.opened!), encoded.opened);
  assert.deepEqual(streamResponse(Buffer.from([18, 1, 7])), {
    opened: undefined,
    data: Buffer.from([7]),
    end: false,
    status: undefined,
  });
});
