/**
 * The JavaScript client of the p2p sidecar.
 *
 * ```js
 * import { connect } from "@p2p-sidecar/client";
 *
 * const node = await connect(); // SIDECAR_API, else the default Unix socket
 * for await (const message of node.subscribe("news")) {
 *   console.log(message.sender, message.data.toString());
 * }
 * ```
 *
 * @module
 */

export { Advertisement, type AdvertiseOptions } from "./advertisement.js";
export type { AllowOptions, Ban, Banned, BanOptions } from "./bans.js";
export { ByteStream, IncomingByteStream, StreamAcceptor } from "./bytestream.js";
export {
  Client,
  type ClosestPeersOptions,
  connect,
  type Messages,
  type PeersOptions,
  type ProbeOptions,
  type PublishManyOptions,
  type PublishOptions,
  type SendManyOptions,
  type SendOptions,
} from "./client.js";
export { DurableMessage, DurableReceiver, OutboxWatch } from "./durable.js";
export {
  AlreadyExists,
  Closed,
  DeadlineExceeded,
  DialBackoff,
  DialTimeout,
  type ErrorDetail,
  type ErrorFacts,
  FailedPrecondition,
  FrameTooLarge,
  HandshakeError,
  HandshakeTimeout,
  InternalError,
  InvalidArgument,
  InvalidMultiaddr,
  InvalidPeerId,
  KeepAliveTimeout,
  NoAddresses,
  NoQuorum,
  NotFound,
  NotSupported,
  Outdated,
  PeerBanned,
  PermissionDenied,
  ProtocolError,
  QueueFull,
  Refused,
  ResourceExhausted,
  SelfDial,
  SidecarError,
  SidecarUnavailable,
  SlowReader,
  QuotaExceeded,
  StorageError,
  StreamReset,
  TooLarge,
  TooManyConnections,
  TopicOptionsDiffer,
  Unauthenticated,
  Unreachable,
  WriteStalled,
  WorkExceeded,
  WrongNetwork,
  WrongPeer,
  WrongPrivateNetwork,
} from "./errors.js";
export type { ConnectOptions } from "./link.js";
export type { Rule, RuleCount } from "./rules.js";
export type { ScoreOptions } from "./scores.js";
export { type Handler, type ServeOptions, Server } from "./server.js";
export { Stream, Watch } from "./stream.js";
export {
  Batch,
  MessageStream,
  type ReceiveOptions,
  Receiver,
  type SubscribeOptions,
  Subscription,
} from "./subscription.js";
export type { TlsOptions } from "./target.js";
export { type Judge, type ValidateOptions, Validator } from "./validator.js";
export * from "./types.js";
