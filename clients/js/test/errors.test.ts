import assert from "node:assert/strict";
import { test } from "node:test";

import { status } from "@grpc/grpc-js";

import * as sidecar from "../src/index.js";
import { failure } from "./fake.js";
import { caught, joined } from "./help.js";

type Kind = new (message: string) => sidecar.SidecarError;

/** Code, reason, and the classes that the error is of, itself first. */
const TABLE: [keyof typeof status, string | undefined, ...Kind[]][] = [
  ["INVALID_ARGUMENT", "INVALID_ARGUMENT", sidecar.InvalidArgument],
  ["INVALID_ARGUMENT", "INVALID_PEER_ID", sidecar.InvalidPeerId, sidecar.InvalidArgument],
  ["INVALID_ARGUMENT", "INVALID_MULTIADDR", sidecar.InvalidMultiaddr, sidecar.InvalidArgument],
  ["INVALID_ARGUMENT", "SELF_DIAL", sidecar.SelfDial, sidecar.InvalidArgument],
  ["INVALID_ARGUMENT", "TOO_LARGE", sidecar.TooLarge, sidecar.InvalidArgument],
  ["NOT_FOUND", "NOT_FOUND", sidecar.NotFound],
  ["ALREADY_EXISTS", "ALREADY_EXISTS", sidecar.AlreadyExists],
  ["UNIMPLEMENTED", "NOT_SUPPORTED", sidecar.NotSupported],
  ["FAILED_PRECONDITION", "WRONG_PEER", sidecar.WrongPeer],
  ["FAILED_PRECONDITION", "WRONG_NETWORK", sidecar.WrongNetwork],
  ["FAILED_PRECONDITION", "PEER_BANNED", sidecar.PeerBanned],
  [
    "FAILED_PRECONDITION",
    "WRONG_PRIVATE_NETWORK",
    sidecar.WrongPrivateNetwork,
    sidecar.HandshakeError,
    sidecar.ProtocolError,
  ],
  ["FAILED_PRECONDITION", "REFUSED", sidecar.Refused],
  ["FAILED_PRECONDITION", "TOPIC_OPTIONS_DIFFER", sidecar.TopicOptionsDiffer],
  ["FAILED_PRECONDITION", "OUTDATED", sidecar.Outdated],
  ["FAILED_PRECONDITION", "STATE_LOCKED", sidecar.FailedPrecondition],
  ["RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", sidecar.ResourceExhausted],
  ["RESOURCE_EXHAUSTED", "QUEUE_FULL", sidecar.QueueFull, sidecar.ResourceExhausted],
  ["RESOURCE_EXHAUSTED", "TOO_MANY_CONNECTIONS", sidecar.TooManyConnections, sidecar.ResourceExhausted],
  ["RESOURCE_EXHAUSTED", "SLOW_READER", sidecar.SlowReader, sidecar.ResourceExhausted],
  ["RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", sidecar.QuotaExceeded, sidecar.ResourceExhausted],
  ["UNAVAILABLE", "UNREACHABLE", sidecar.Unreachable],
  ["UNAVAILABLE", "NO_ADDRESSES", sidecar.NoAddresses, sidecar.Unreachable],
  ["UNAVAILABLE", "DIAL_TIMEOUT", sidecar.DialTimeout, sidecar.Unreachable],
  ["UNAVAILABLE", "DIAL_BACKOFF", sidecar.DialBackoff, sidecar.Unreachable],
  ["UNAVAILABLE", "NO_QUORUM", sidecar.NoQuorum, sidecar.Unreachable],
  ["UNAVAILABLE", "CLOSED", sidecar.Closed],
  ["ABORTED", "STREAM_RESET", sidecar.StreamReset, sidecar.Closed],
  ["UNAVAILABLE", "PROTOCOL_ERROR", sidecar.ProtocolError],
  ["UNAVAILABLE", "FRAME_TOO_LARGE", sidecar.FrameTooLarge, sidecar.ProtocolError],
  ["UNAVAILABLE", "HANDSHAKE_TIMEOUT", sidecar.HandshakeTimeout, sidecar.HandshakeError, sidecar.ProtocolError],
  ["UNAVAILABLE", "KEEP_ALIVE_TIMEOUT", sidecar.KeepAliveTimeout, sidecar.ProtocolError],
  ["UNAVAILABLE", "WRITE_STALLED", sidecar.WriteStalled, sidecar.ProtocolError],
  ["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", sidecar.DeadlineExceeded],
  ["INTERNAL", "INTERNAL_ERROR", sidecar.InternalError],
  ["INTERNAL", "STORAGE_ERROR", sidecar.StorageError, sidecar.InternalError],
  // Without a reason of the sidecar, or with one that is not known yet, the code decides.
  ["NOT_FOUND", undefined, sidecar.NotFound],
  ["FAILED_PRECONDITION", "SOMETHING_NEW", sidecar.FailedPrecondition],
  ["UNAUTHENTICATED", undefined, sidecar.Unauthenticated],
  ["PERMISSION_DENIED", undefined, sidecar.PermissionDenied],
  ["CANCELLED", undefined, sidecar.Closed],
  ["DATA_LOSS", undefined, sidecar.InternalError],
];

test("every status and reason has its class", async (t) => {
  let told = new Error();
  const { node } = await joined(t, {
    disconnectPeer: () => {
      throw told;
    },
  });
  for (const [code, reason, ...kinds] of TABLE) {
    told = failure(status[code], "as told", { ...(reason !== undefined && { reason }) });
    const error = await caught(node.disconnectPeer("x"));
    assert.equal(error.constructor, kinds[0], `${code} ${reason ?? ""}`);
    for (const kind of kinds) {
      assert.ok(error instanceof kind);
    }
    assert.ok(error instanceof sidecar.SidecarError);
    assert.deepEqual([error.name, error.code, error.reason], [kinds[0]?.name, code, reason]);
    assert.match(error.message, /as told/);
  }
});

test("an error has the field, when to try again, and all details", async (t) => {
  const { node } = await joined(t, {
    findPeer: () => {
      throw failure(status.RESOURCE_EXHAUSTED, "full", { reason: "QUEUE_FULL", field: "peer_id", retry: 250 });
    },
  });
  const error = await caught(node.findPeer("x"));
  assert.ok(error instanceof sidecar.QueueFull);
  assert.deepEqual([error.field, error.retryAfter], ["peer_id", 250]);
  assert.deepEqual(
    error.details.map(({ typeUrl }) => typeUrl.replace(/.*\./, "")),
    ["ErrorInfo", "BadRequest", "RetryInfo"],
  );
});

test("details that are none do not hide the error", async (t) => {
  const { node } = await joined(t, {
    findPeer: () => {
      const error = failure(status.NOT_FOUND, "nobody");
      error.metadata?.set("grpc-status-details-bin", Buffer.from([0xff, 0xff, 0xff]));
      throw error;
    },
  });
  assert.ok((await caught(node.findPeer("x"))) instanceof sidecar.NotFound);
});

test("a request over the sidecar's bound on messages is too large", async (t) => {
  const { node } = await joined(t, { putRecord: () => ({}) });
  const error = await caught(node.putRecord("/x/y", Buffer.alloc(5 << 20)));
  assert.ok(error instanceof sidecar.TooLarge, String(error));
  assert.equal(error.code, "RESOURCE_EXHAUSTED");
});
