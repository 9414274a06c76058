/**
 * Typed errors, one for each reason that the sidecar gives. The names are the same in all client libraries.
 *
 * ```text
 * SidecarError
 * ├── SidecarUnavailable      no sidecar answers at the target
 * ├── InvalidArgument         malformed input; `field` names it
 * │   ├── InvalidPeerId
 * │   ├── InvalidMultiaddr
 * │   ├── SelfDial            the peer named is this node itself
 * │   └── TooLarge
 * ├── NotFound
 * ├── AlreadyExists
 * ├── NotSupported            nobody serves that protocol there
 * ├── Unreachable             the peer did not answer
 * │   ├── NoAddresses
 * │   ├── DialTimeout
 * │   ├── DialBackoff
 * │   └── NoQuorum            fewer peers than asked for took a record
 * ├── Closed                  the connection ended, or the sidecar stops
 * │   └── StreamReset
 * ├── ProtocolError           the peer broke a protocol
 * │   ├── FrameTooLarge
 * │   ├── HandshakeError
 * │   │   ├── HandshakeTimeout
 * │   │   └── WrongPrivateNetwork
 * │   ├── KeepAliveTimeout
 * │   └── WriteStalled
 * ├── WrongPeer               another key answered
 * ├── WrongNetwork            the peer belongs to another network
 * ├── PeerBanned              the sidecar refuses the peer or its address
 * ├── Unauthenticated         the token is missing or wrong
 * ├── PermissionDenied        the token does not allow the call
 * ├── Outdated                a better value of the record is known already
 * ├── Refused                 the app there refused; its reason is the message
 * ├── TopicOptionsDiffer      the topic is in use with another signing
 * ├── ResourceExhausted       a bound is reached
 * │   ├── QueueFull
 * │   ├── TooManyConnections
 * │   ├── SlowReader          a subscription ended, as its policy wants
 * │   ├── WorkExceeded        the peer was sent away for needless work
 * │   └── QuotaExceeded       the token has used up one of its quotas
 * ├── DeadlineExceeded
 * ├── FailedPrecondition      any other state that forbids the call
 * └── InternalError           the sidecar failed; its log says more
 *     └── StorageError
 * ```
 *
 * @module
 */

import { Metadata, status, type StatusObject } from "@grpc/grpc-js";

import { BadRequest, ErrorInfo, RetryInfo } from "./generated/google/rpc/error_details.js";
import { Status } from "./generated/google/rpc/status.js";

/** A detail of a gRPC status that this library does not read itself. */
export interface ErrorDetail {
  /** Its type, such as `type.googleapis.com/google.rpc.ErrorInfo`. */
  readonly typeUrl: string;
  /** The encoded message. */
  readonly value: Buffer;
}

/** What an error knows beside its message. */
export interface ErrorFacts {
  /** The sidecar's word for it, such as `QUEUE_FULL`. */
  reason?: string | undefined;
  /** The malformed field's name. */
  field?: string | undefined;
  /** Milliseconds after which trying again makes sense. */
  retryAfter?: number | undefined;
  /** The name of the gRPC status, such as `UNAVAILABLE`. */
  code?: string | undefined;
  /** All details of the gRPC status. */
  details?: readonly ErrorDetail[];
  /** What lies behind it. */
  cause?: unknown;
}

/** Any error of the client. Its message is a sentence for a person. */
export class SidecarError extends Error {
  /** The sidecar's word for it, such as `QUEUE_FULL`; undefined where it did not say one. */
  readonly reason: string | undefined;
  /** The malformed field's name, where one is. */
  readonly field: string | undefined;
  /** Milliseconds after which trying again makes sense, where that is known. */
  readonly retryAfter: number | undefined;
  /** The name of the gRPC status, such as `UNAVAILABLE`; undefined where the error came from no call. */
  readonly code: string | undefined;
  /** All details of the gRPC status, as they came. */
  readonly details: readonly ErrorDetail[];

  constructor(message: string, facts: ErrorFacts = {}) {
    super(message, "cause" in facts ? { cause: facts.cause } : undefined);
    this.reason = facts.reason;
    this.field = facts.field;
    this.retryAfter = facts.retryAfter;
    this.code = facts.code;
    this.details = facts.details ?? [];
  }

  /** The class's name. */
  override get name(): string {
    return this.constructor.name;
  }
}

/** No sidecar answers at the target. */
export class SidecarUnavailable extends SidecarError {}

/** Malformed input; `field` names it. */
export class InvalidArgument extends SidecarError {}

/** A text that is no peer id. */
export class InvalidPeerId extends InvalidArgument {}

/** A text that is no multiaddr. */
export class InvalidMultiaddr extends InvalidArgument {}

/** The peer named is this node itself. */
export class SelfDial extends InvalidArgument {}

/** A payload over its limit. */
export class TooLarge extends InvalidArgument {}

/** No such peer or record. */
export class NotFound extends SidecarError {}

/** Somebody else serves it already. */
export class AlreadyExists extends SidecarError {}

/** Nobody serves that protocol there, or the sidecar does not have that method. */
export class NotSupported extends SidecarError {}

/** The peer did not answer. */
export class Unreachable extends SidecarError {}

/** No address of the peer is known. */
export class NoAddresses extends Unreachable {}

/** No address of the peer answered in time. */
export class DialTimeout extends Unreachable {}

/** The peer failed a moment ago and is not tried again yet. */
export class DialBackoff extends Unreachable {}

/** Fewer peers than asked for took a record. */
export class NoQuorum extends Unreachable {}

/** The connection ended, or the sidecar or this client is closing. */
export class Closed extends SidecarError {}

/** The peer reset the stream. */
export class StreamReset extends Closed {}

/** The peer broke a protocol. */
export class ProtocolError extends SidecarError {}

/** A frame over its limit. */
export class FrameTooLarge extends ProtocolError {}

/** Securing the connection failed. */
export class HandshakeError extends ProtocolError {}

/** The peer did not finish the handshake in time. */
export class HandshakeTimeout extends HandshakeError {}

/** The peer does not seem to have the key of the sidecar's private network. */
export class WrongPrivateNetwork extends HandshakeError {}

/** The peer stopped answering. */
export class KeepAliveTimeout extends ProtocolError {}

/** The peer stopped reading. */
export class WriteStalled extends ProtocolError {}

/** Another key answered than the one that was dialled. */
export class WrongPeer extends SidecarError {}

/** The peer belongs to another network. */
export class WrongNetwork extends SidecarError {}

/** The sidecar refuses the peer or its address: banned, on a deny list, or not on an allow list. */
export class PeerBanned extends SidecarError {}

/** The token is missing or wrong. */
export class Unauthenticated extends SidecarError {}

/** The token does not allow the call. */
export class PermissionDenied extends SidecarError {}

/** A better value of the record, by its namespace's rule, is known already. */
export class Outdated extends SidecarError {}

/** The app at the peer refused; its reason is the message. A serving handler throws it to refuse. */
export class Refused extends SidecarError {}

/** The topic is in use at this node with another signing. */
export class TopicOptionsDiffer extends SidecarError {}

/** A bound is reached. */
export class ResourceExhausted extends SidecarError {}

/** A bounded queue is full. */
export class QueueFull extends ResourceExhausted {}

/** A bound on connections is reached. */
export class TooManyConnections extends ResourceExhausted {}

/** A subscription ended, as its policy wants, since its reader was too slow. */
export class SlowReader extends ResourceExhausted {}

/** The peer was sent away for needless work, and is refused for a while. */
export class WorkExceeded extends ResourceExhausted {}

/** The token has used up one of its quotas. */
export class QuotaExceeded extends ResourceExhausted {}

/** It was not done in time. */
export class DeadlineExceeded extends SidecarError {}

/** The state of something forbids the call. */
export class FailedPrecondition extends SidecarError {}

/** The sidecar failed; its log says more. */
export class InternalError extends SidecarError {}

/** The sidecar's disk refused. */
export class StorageError extends InternalError {}

type ErrorClass = new (message: string, facts?: ErrorFacts) => SidecarError;

const BY_REASON = new Map<string, ErrorClass>(
  Object.entries({
    SidecarUnavailable,
    InvalidArgument,
    InvalidPeerId,
    InvalidMultiaddr,
    SelfDial,
    TooLarge,
    NotFound,
    AlreadyExists,
    NotSupported,
    Unreachable,
    NoAddresses,
    DialTimeout,
    DialBackoff,
    NoQuorum,
    Closed,
    StreamReset,
    ProtocolError,
    FrameTooLarge,
    HandshakeError,
    HandshakeTimeout,
    WrongPrivateNetwork,
    KeepAliveTimeout,
    WriteStalled,
    WrongPeer,
    WrongNetwork,
    PeerBanned,
    Unauthenticated,
    PermissionDenied,
    Outdated,
    Refused,
    TopicOptionsDiffer,
    ResourceExhausted,
    QueueFull,
    TooManyConnections,
    WorkExceeded,
    SlowReader,
    QuotaExceeded,
    DeadlineExceeded,
    FailedPrecondition,
    InternalError,
    StorageError,
  }).map(([name, kind]) => [name.replace(/(?<!^)(?=[A-Z])/g, "_").toUpperCase(), kind]),
);

const BY_CODE = new Map<status, ErrorClass>([
  [status.INVALID_ARGUMENT, InvalidArgument],
  [status.NOT_FOUND, NotFound],
  [status.ALREADY_EXISTS, AlreadyExists],
  [status.UNIMPLEMENTED, NotSupported],
  [status.UNAVAILABLE, SidecarUnavailable],
  [status.FAILED_PRECONDITION, FailedPrecondition],
  [status.UNAUTHENTICATED, Unauthenticated],
  [status.PERMISSION_DENIED, PermissionDenied],
  [status.RESOURCE_EXHAUSTED, ResourceExhausted],
  [status.DEADLINE_EXCEEDED, DeadlineExceeded],
  [status.CANCELLED, Closed],
]);

/**
 * The typed error of a call that ended with a status.
 *
 * @internal
 */
export function fromStatus(ended: StatusObject, target: string): SidecarError {
  const facts: ErrorFacts = { code: status[ended.code], ...readDetails(ended) };
  let kind = BY_REASON.get(facts.reason ?? "") ?? BY_CODE.get(ended.code) ?? InternalError;
  let message = ended.details || (facts.code ?? "the call failed");
  if (facts.reason === undefined) {
    if (kind === ResourceExhausted && message.includes("larger than max")) {
      kind = TooLarge; // gRPC itself refuses what is over the sidecar's bound on calls
    } else if (neverLeft(ended)) {
      kind = SidecarUnavailable;
    }
    if (kind === SidecarUnavailable) {
      message = `no sidecar answers at ${target}: ${message}`;
    }
  }
  return new kind(message, facts);
}

/**
 * Whether a call that failed so cannot have reached the sidecar. gRPC says that in its words only.
 *
 * @internal
 */
export function neverLeft(ended: StatusObject): boolean {
  return NEVER_LEFT.some((beginning) => ended.details.startsWith(beginning));
}

const NEVER_LEFT = [
  "No connection established",
  "Name resolution failed",
  "Failed to start HTTP/2 stream",
  "Stream refused by server",
  "Channel closed before call started",
];

/**
 * The typed error of an encoded `google.rpc.Status`.
 *
 * @internal
 */
export function fromEncoded(packed: Buffer, target: string): SidecarError {
  let code: number;
  let message: string;
  try {
    ({ code, message } = Status.decode(packed));
  } catch (error) {
    return new InternalError("the sidecar sent a malformed status", { cause: error });
  }
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", packed);
  const name = status[code] as keyof typeof status | undefined;
  return fromStatus({ code: name === undefined ? status.UNKNOWN : status[name], details: message, metadata }, target);
}

function readDetails(ended: StatusObject): ErrorFacts {
  const facts: ErrorFacts = {};
  const packed = ended.metadata.get("grpc-status-details-bin")[0];
  if (!Buffer.isBuffer(packed)) {
    return facts;
  }
  try {
    const { details } = Status.decode(packed);
    facts.details = details.map(({ typeUrl, value }) => ({ typeUrl, value }));
    for (const { typeUrl, value } of details) {
      switch (typeUrl.slice(typeUrl.lastIndexOf("/") + 1)) {
        case "google.rpc.ErrorInfo":
          facts.reason = ErrorInfo.decode(value).reason;
          break;
        case "google.rpc.BadRequest":
          facts.field = BadRequest.decode(value).fieldViolations[0]?.field;
          break;
        case "google.rpc.RetryInfo": {
          const delay = RetryInfo.decode(value).retryDelay;
          facts.retryAfter = delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6;
          break;
        }
      }
    }
  } catch {
    // Not ours; the code and text are enough.
  }
  return facts;
}
