/** Between protobuf messages and the client's own values. */

import { checkNumber, checkText, checkTime, shown } from "./checks.js";
import { InternalError, InvalidArgument } from "./errors.js";
import type { Duration } from "./generated/google/protobuf/duration.js";
import type { Timestamp } from "./generated/google/protobuf/timestamp.js";
import * as common from "./generated/sidecar/v1/common.js";
import * as direct from "./generated/sidecar/v1/direct.js";
import * as kept from "./generated/sidecar/v1/durable.js";
import type * as discovery from "./generated/sidecar/v1/discovery.js";
import * as nodes from "./generated/sidecar/v1/node.js";
import * as peers from "./generated/sidecar/v1/peer.js";
import * as pubsub from "./generated/sidecar/v1/pubsub.js";
import type * as types from "./types.js";
import { Lagged } from "./types.js";

/** The bytes of a payload, without a copy where it has some. Throws InvalidArgument: not all apps have types. */
export function bytes(payload: types.Payload, field = "data"): Buffer {
  if (typeof payload === "string") {
    checkText(payload, field);
    return Buffer.from(payload);
  }
  if (Buffer.isBuffer(payload)) {
    return payload;
  }
  if (!ArrayBuffer.isView(payload)) {
    const what = field === "data" ? "a payload" : field;
    throw new InvalidArgument(`${what} is a string or a Uint8Array, this one is ${shown(payload)}`, { field });
  }
  return Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
}

/** A message out of its bytes. Throws InternalError. */
export function decoded<Message>(type: { decode(input: Uint8Array): Message }, encoded: Uint8Array): Message {
  try {
    return type.decode(encoded);
  } catch (error) {
    throw new InternalError(`the sidecar sent a malformed message: ${String(error)}`, { cause: error });
  }
}

const LONGEST = 315_576_000_000_000; // milliseconds; what protobuf's Duration holds

export function milliseconds(value: Duration | Timestamp): number {
  return Number(value.seconds) * 1000 + value.nanos / 1e6;
}

/** Throws InvalidArgument. */
export function duration(value: number, field: string): Duration {
  checkTime(value, field);
  if (value > LONGEST) {
    throw new InvalidArgument(`${field} is ${value} ms, at most ${LONGEST}`, { field });
  }
  const seconds = Math.floor(value / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((value - seconds * 1000) * 1e6) };
}

const LATEST = 253_402_300_799_999; // what protobuf's Timestamp holds, the year 9999
const EARLIEST = -62_135_596_800_000;

/** Of milliseconds since 1970. */
export function moment(value: number, field: string): Timestamp {
  checkNumber(value, field);
  if (value < EARLIEST || value > LATEST) {
    throw new InvalidArgument(`${field} is ${shown(value)}, beyond the years 1 to 9999`, { field });
  }
  const seconds = Math.floor(value / 1000);
  return { seconds: BigInt(seconds), nanos: Math.floor((value - seconds * 1000) * 1e6) };
}

const optional = (value: Duration | Timestamp | undefined) => value && milliseconds(value);

/** One name or several. Throws InvalidArgument. */
export function names(given: string | Iterable<string>, field: string): string[] {
  const iterable: unknown = typeof given === "string" ? [given] : given;
  if (typeof iterable !== "object" || iterable === null || !(Symbol.iterator in iterable)) {
    throw new InvalidArgument(`${field} is ${shown(given)}, and no string nor several`, { field });
  }
  const texts = [...(iterable as Iterable<string>)];
  for (const text of texts) {
    checkText(text, field);
  }
  return texts;
}

/** The name of a value of one of the schemas' enums; one of a later sidecar is not known here. */
function named<Name extends string>(values: Record<number, string> & Record<Name, unknown>, value: number): Name {
  return ((values as Record<number, string>)[value] ?? "UNSPECIFIED") as Name;
}

export function signing(value: types.Signing = "UNSPECIFIED"): pubsub.Signing {
  return valued(pubsub.Signing, value, "signing");
}

export function bundling(value: types.Bundling = "UNSPECIFIED"): pubsub.Bundling {
  return valued(pubsub.Bundling, value, "bundling");
}

export function fallback(value: types.ValidationFallback = "UNSPECIFIED"): pubsub.ValidationFallback {
  return valued(pubsub.ValidationFallback, value, "fallback");
}

export function verdict(value: types.Verdict): pubsub.Verdict {
  const found = valued<types.Verdict | "UNSPECIFIED", pubsub.Verdict>(pubsub.Verdict, value, "verdict");
  if (found === pubsub.Verdict.UNSPECIFIED) {
    throw new InvalidArgument("the verdict is UNSPECIFIED", { field: "verdict" });
  }
  return found;
}

/** A message that is to be judged. */
export function judgedMessage(message: pubsub.TopicMessage): types.Message {
  const { topic, data, sender, messageId, cursor, local, history } = message;
  return { topic, data, sender, messageId, cursor, receiveTime: optional(message.receiveTime) ?? 0, local, history };
}

export function policy(value: types.OverflowPolicy = "UNSPECIFIED"): common.OverflowPolicy {
  return valued(common.OverflowPolicy, value, "policy");
}

/** The value of a name of one of the schemas' enums. Throws InvalidArgument. */
function valued<Name extends string, Value>(values: Record<Name, Value>, name: Name, field: string): Value {
  const known = Object.keys(values).filter((key) => /^[A-Z_]+$/.test(key) && key !== "UNRECOGNIZED");
  if (!known.includes(name)) {
    throw new InvalidArgument(`${field} is ${shown(name)}, one of ${known.join(", ")}`, { field });
  }
  return values[name];
}

export function node(message: nodes.Node | undefined): types.NodeInfo {
  if (message === undefined) {
    throw new InternalError("the sidecar's answer has no node");
  }
  return {
    peerId: message.peerId,
    network: message.network,
    agent: message.agent,
    version: message.version,
    listeningAddresses: message.listeningAddresses,
    announcedAddresses: message.announcedAddresses,
    observedAddresses: message.observedAddresses,
    startTime: optional(message.startTime) ?? 0,
    uptime: optional(message.uptime) ?? 0,
    apiEngine: message.apiEngine,
    reachability: named(nodes.Reachability, message.reachability),
    addresses: message.addresses.map((each) => ({
      address: each.address,
      reachability: named(nodes.Reachability, each.reachability),
      source: each.source,
      since: optional(each.since) ?? 0,
      proofs: each.proofs,
      failures: each.failures,
    })),
    relayedAddresses: message.relayedAddresses,
    portMapping: message.portMapping && portMapping(message.portMapping),
  };
}

function portMapping(message: nodes.PortMapping): types.PortMapping {
  return {
    state: message.state,
    message: message.message,
    remedy: message.remedy,
    gateway: message.gateway,
    protocol: message.protocol,
    ports: message.ports.map((each) => ({
      address: each.address,
      port: each.port,
      expireTime: optional(each.expireTime),
    })),
  };
}

export function readiness(message: nodes.Readiness | undefined): types.Readiness {
  return {
    ready: message?.ready ?? false,
    conditions: (message?.conditions ?? []).map((condition) => ({
      type: condition.type,
      met: condition.met,
      reason: condition.reason,
      message: condition.message,
      remedy: condition.remedy,
      since: optional(condition.since) ?? 0,
    })),
  };
}

export function statistics({ values, histograms }: nodes.GetStatisticsResponse): types.Statistics {
  const named = histograms.map(({ name, upperBounds, counts, sum }): [string, types.Histogram] => [
    name,
    { upperBounds, counts: counts.map(Number), sum },
  ]);
  return { values, histograms: Object.fromEntries(named) };
}

export function configurationEntry(message: nodes.ConfigurationEntry): types.ConfigurationEntry {
  return { name: message.name, value: message.value, source: message.source, reloadable: message.reloadable };
}

export function nodeEvents(response: nodes.WatchEventsResponse): (types.NodeEvent | Lagged)[] {
  const events = response.events.map(({ time, severity, part, message, fields }) => ({
    time: optional(time) ?? 0,
    severity,
    part,
    message,
    fields,
  }));
  return response.lagged === undefined ? events : [lagged(response.lagged), ...events];
}

export function peer(message: peers.Peer | undefined): types.Peer {
  if (message === undefined) {
    throw new InternalError("the sidecar's answer has no peer");
  }
  return {
    peerId: message.peerId,
    connected: message.connected,
    direction: named(peers.Direction, message.direction),
    addresses: message.addresses,
    remoteAddress: message.remoteAddress,
    protocols: message.protocols,
    agent: message.agent,
    protocolVersion: message.protocolVersion,
    identified: message.identified,
    latency: optional(message.latency),
    connectTime: optional(message.connectTime),
    connections: message.connections,
    protected: message.protected,
    score: message.score && { ...message.score, standing: named(peers.PeerStanding, message.score.standing) },
    path: named(peers.PeerPath, message.path),
    pathTime: optional(message.pathTime),
    knownAddresses: message.knownAddresses.map((known) => ({
      address: known.address,
      origin: named(peers.AddressOrigin, known.origin),
      lastSuccess: optional(known.lastSuccess),
      lastFailure: optional(known.lastFailure),
    })),
  };
}

export function peerEvents(response: peers.WatchPeersResponse): types.PeerEvent[] {
  const events: types.PeerEvent[] = response.events.map((event) => ({
    type: named(peers.PeerEventType, event.type),
    peer: event.peer && peer(event.peer),
    reason: event.reason,
  }));
  if (response.lagged) {
    events.unshift({ type: "LAGGED", peer: undefined, reason: "" });
  }
  return events;
}

export function topic(message: pubsub.Topic): types.Topic {
  return {
    name: message.name,
    subscribed: message.subscribed,
    signing: named(pubsub.Signing, message.signing),
    peers: message.peers,
    meshPeerIds: message.meshPeerIds,
    subscribers: message.subscribers,
    historyMessages: Number(message.historyMessages),
    delivered: Number(message.delivered),
    published: Number(message.published),
    duplicates: Number(message.duplicates),
    rejected: Number(message.rejected),
    dropped: Number(message.dropped),
    deliveredBytes: Number(message.deliveredBytes),
    publishedBytes: Number(message.publishedBytes),
    scoring: message.scoring,
    ignored: Number(message.ignored),
    validators: message.validators,
    unjudged: message.unjudged,
    history: named(pubsub.HistoryState, message.history),
    storedMessages: Number(message.storedMessages),
    storedBytes: Number(message.storedBytes),
    oldestTime: optional(message.oldestTime),
    completeSince: optional(message.completeSince),
    completeUntil: optional(message.completeUntil),
    historyGap: message.historyGap,
  };
}

/** An answer to a probe. */
export function probeAnswer(message: pubsub.ProbeAnswer): types.ProbeAnswer {
  return {
    type: "ANSWER",
    peerId: message.peerId,
    number: message.number,
    delay: optional(message.delay) ?? 0,
    roundTrip: optional(message.roundTrip) ?? 0,
    direct: message.direct,
  };
}

/** What a probe ends with. */
export function probeSummary(message: pubsub.ProbeSummary): types.ProbeSummary {
  return {
    type: "SUMMARY",
    published: message.published,
    unpublished: message.unpublished,
    share: message.share,
    answers: Number(message.answers),
    peers: message.peers,
    expected: Number(message.expected),
    answered: Number(message.answered),
    receivers: message.receivers,
    ignored: Number(message.ignored),
  };
}

export function lagged(message: common.Lagged): Lagged {
  const missed = message.missed === undefined ? undefined : Number(message.missed);
  return new Lagged(missed, named(common.LagReason, message.reason));
}

export const publishOutcome = (value: number): types.PublishOutcome => named(pubsub.PublishOutcome, value);

export function publishReceipt(message: pubsub.PublishReceipt | undefined): types.PublishReceipt {
  return {
    outcome: publishOutcome(message?.outcome ?? 0),
    messageId: message?.messageId ?? Buffer.alloc(0),
    peers: message?.peers ?? 0,
    dropped: message?.dropped ?? 0,
  };
}

export function sendReceipt(message: direct.SendReceipt | undefined): types.SendReceipt {
  const receipt = { outcome: named(direct.SendOutcome, message?.outcome ?? 0), detail: message?.detail ?? "" };
  const id = message?.messageId;
  return id === undefined ? receipt : { ...receipt, messageId: messageId(id) };
}

export function messageId(message: direct.MessageId | undefined): types.MessageId {
  return { incarnation: message?.incarnation ?? 0n, sequence: Number(message?.sequence ?? 0n) };
}

/** A receipt's twin for the message that is so many places behind. */
export function behind<Receipt extends types.SendReceipt>(receipt: Receipt, count: number): Receipt {
  const id = receipt.messageId;
  return id === undefined ? receipt : { ...receipt, messageId: { ...id, sequence: id.sequence + count } };
}

/** Whether two ranges of receipts say the same, so that both may be told as one; the other one follows. */
export function sameSendReceipts(one: types.SendReceipts, other: types.SendReceipts): boolean {
  const expected = behind(one, one.count).messageId;
  return (
    one.outcome === other.outcome &&
    one.detail === other.detail &&
    expected?.incarnation === other.messageId?.incarnation &&
    expected?.sequence === other.messageId?.sequence
  );
}

/** Throws InvalidArgument. */
export function durable({ timeToLive }: types.Durable): direct.Durable {
  return { timeToLive: timeToLive === undefined ? undefined : duration(timeToLive, "durable.time_to_live") };
}

export function outboxEvent(message: kept.OutboxEvent): types.OutboxEvent {
  const { peerId, protocol, requestId, reason } = message;
  return {
    cursor: Number(message.cursor),
    peerId,
    protocol,
    messageId: messageId(message.messageId),
    requestId,
    outcome: named(kept.DurableOutcome, message.outcome),
    reason,
    time: optional(message.time) ?? 0,
  };
}

export function outboxMessage(message: kept.OutboxMessage): types.OutboxMessage {
  const { peerId, protocol, requestId, held } = message;
  return {
    peerId,
    protocol,
    messageId: messageId(message.messageId),
    requestId,
    size: Number(message.size),
    created: optional(message.created) ?? 0,
    expires: optional(message.expires) ?? 0,
    held,
  };
}

export function inboxMessage(message: kept.InboxMessage): types.InboxMessage {
  const { peerId, protocol, attempts, data, reason } = message;
  return {
    id: Number(message.id),
    peerId,
    protocol,
    messageId: messageId(message.messageId),
    size: Number(message.size),
    attempts,
    received: optional(message.received) ?? 0,
    expires: optional(message.expires) ?? 0,
    data,
    reason,
  };
}

export function sendReceipts(message: direct.SendReceiptRange): types.SendReceipts {
  return { first: Number(message.first), count: Number(message.count), ...sendReceipt(message.receipt) };
}

export function announcement(message: discovery.AdvertiseResponse): types.Announcement {
  return {
    holders: message.holders,
    asked: message.asked,
    nextAnnouncement: optional(message.nextAnnouncement) ?? 0,
  };
}

export function record(message: discovery.GetRecordResponse): types.DhtRecord {
  return {
    value: message.value,
    holders: message.holders,
    expiresAt: optional(message.expiresAt),
    publisher: message.publisher,
    sequence: message.sequence,
  };
}

export { optional as optionalMilliseconds };
