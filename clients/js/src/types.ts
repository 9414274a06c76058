/**
 * What the client gives and takes: plain values. Durations are milliseconds, times milliseconds since 1970, as
 * `Date.now()` gives them.
 *
 * @module
 */

/** A payload: bytes, or a text that is sent as UTF-8. */
export type Payload = Uint8Array | string;

/** A payload in bulk, or one with an id that makes a repeat safe. */
export type OutgoingMessage =
  | Payload
  | {
      /** The payload. */
      data: Payload;
      /** Makes a repeat safe: the sidecar answers it with the first one's receipt. At most 64 bytes. */
      requestId?: string;
    };

/** What every call takes. */
export interface CallOptions {
  /** Milliseconds until the call is given up with `DeadlineExceeded`; it travels as the gRPC deadline. */
  timeout?: number;
  /** Cancels the call, here and in the sidecar; it then rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** How to ask. */
export interface RequestOptions extends CallOptions {
  /** This app's place in a trace, as W3C Trace Context writes it; the app that serves gets its own from it. */
  traceparent?: string;
}

/** What every stream takes. */
export interface StreamOptions {
  /** Ends the stream; reading it then rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Who opened a connection; `UNSPECIFIED` when there is none. */
export type Direction = "UNSPECIFIED" | "INBOUND" | "OUTBOUND";

/**
 * How a peer is reached. RELAYED_LIMITED: through a relay that ends connections soon, so neither gossip nor the DHT go
 * there. UNSPECIFIED: it is not connected, or the sidecar is an earlier one.
 */
export type PeerPath = "UNSPECIFIED" | "DIRECT" | "RELAYED" | "RELAYED_LIMITED";

/**
 * Who told an address of a peer. BOOTSTRAP: the configuration. MDNS, PEER_RECORD (signed) and IDENTIFY: the peer.
 * CONNECTION: this is where one led. RELAY: an address of some other peer, who has this one for a relay. MEMORY: an
 * earlier run.
 */
export type AddressOrigin =
  | "UNSPECIFIED"
  | "BOOTSTRAP"
  | "APP"
  | "MDNS"
  | "PEER_RECORD"
  | "IDENTIFY"
  | "CONNECTION"
  | "PEER_EXCHANGE"
  | "RELAY"
  | "DHT"
  | "MEMORY";

/**
 * What happened to a peer.
 *
 * `PRESENT`: connected already, when watching began. `CURRENT`: the present state has been told in full; this event has
 * no peer. `RECONNECTED` (the connection to the sidecar was lost) and `LAGGED` (this reader was too slow): events were
 * lost, and the present state is told anew behind this event, which has no peer; forget what you knew.
 */
export type PeerEventType =
  | "UNSPECIFIED"
  | "PRESENT"
  | "CURRENT"
  | "CONNECTED"
  | "IDENTIFIED"
  | "UPDATED"
  | "DISCONNECTED"
  | "SCORED"
  | "RECONNECTED"
  | "LAGGED";

/**
 * What became of a direct message.
 *
 * `DELIVERED`: written to the stream of a receiving app there. `TIMED_OUT` (no receipt in time) and `UNKNOWN` (the
 * connection was lost): it was sent and may have arrived. Of durable messages: `STORED`, on the sidecar's disk;
 * `OUTBOX_FULL`, a bound of the outbox is reached; `NOT_STORED`, the sidecar's disk refuses.
 */
export type SendOutcome =
  | "UNSPECIFIED"
  | "DELIVERED"
  | "NO_SUBSCRIBER"
  | "LOCAL_QUEUE_FULL"
  | "REMOTE_QUEUE_FULL"
  | "UNREACHABLE"
  | "REFUSED"
  | "TOO_LARGE"
  | "TIMED_OUT"
  | "UNKNOWN"
  | "STORED"
  | "OUTBOX_FULL"
  | "NOT_STORED";

/**
 * What became of a published message.
 *
 * `SENT`: queued to at least one peer. `NO_PEERS`: only subscribers at this node have got it.
 */
export type PublishOutcome =
  "UNSPECIFIED" | "SENT" | "NO_PEERS" | "QUEUE_FULL" | "TOO_LARGE" | "DUPLICATE" | "REJECTED";

/**
 * What becomes of a message. `ACCEPT`: it is delivered, and passed on to peers. `REJECT`: it is not, and it counts
 * against the peers that sent it. `IGNORE`: it is not, and nobody is to blame.
 */
export type Verdict = "ACCEPT" | "REJECT" | "IGNORE";

/**
 * What becomes of messages for which there is no verdict in time, and of all while no app judges the topic. `HOLD`:
 * they wait for an app, without a deadline, as long as there is room. `UNSPECIFIED`: as before, else as configured.
 */
export type ValidationFallback = "UNSPECIFIED" | "ACCEPT" | "IGNORE" | "HOLD";

/**
 * How messages of a topic prove where they come from; all its nodes must agree. `UNSPECIFIED`: as in force for the
 * topic here, else `STRICT_SIGN`.
 */
export type Signing = "UNSPECIFIED" | "STRICT_SIGN" | "STRICT_NO_SIGN";

/**
 * Whether messages that are published together on a signed topic travel as one, a bundle under one signature; each is
 * judged and delivered by itself all the same. `KNOWN`: while all connected peers of the topic know bundles. `ALWAYS`:
 * in any case; apps of other peers get each bundle as one message. `UNSPECIFIED`: as configured for the topic.
 */
export type Bundling = "UNSPECIFIED" | "OFF" | "KNOWN" | "ALWAYS";

/**
 * Whether a topic's messages are kept on disk. `UNSPECIFIED`: they are not. `REFUSED`: they should be, but the disk
 * refuses or is too slow.
 */
export type HistoryState = "UNSPECIFIED" | "KEPT" | "REFUSED";

/**
 * What becomes of messages when a subscription's queue in the sidecar is full. `UNSPECIFIED`: as `DROP_OLDEST`. With
 * `END_STREAM` reading ends with `SlowReader`.
 */
export type OverflowPolicy = "UNSPECIFIED" | "DROP_OLDEST" | "DROP_NEWEST" | "END_STREAM";

/**
 * Why messages were missed.
 *
 * `SLOW_READER`: this reader was too slow. `HISTORY_EXCEEDED`: the sidecar's history does not reach back so far.
 * `RESTARTED`: the sidecar has restarted. `RECONNECTED`: the connection to the sidecar was lost, and what came
 * meanwhile cannot be had again.
 */
export type LagReason = "UNSPECIFIED" | "SLOW_READER" | "HISTORY_EXCEEDED" | "RESTARTED" | "RECONNECTED";

/** Whether peers reach the node from outside, or an address of it. `UNSPECIFIED`: of a sidecar that does not look. */
export type Reachability = "UNSPECIFIED" | "UNKNOWN" | "CONFIRMED" | "NOT_REACHABLE";

/** An address of the node, and what peers have found of it. */
export interface AddressReachability {
  /** The address. */
  readonly address: string;
  /** Whether peers reach it. */
  readonly reachability: Reachability;
  /** From where it is known: `listening`, `announced`, `mapped` or `observed`. */
  readonly source: string;
  /** When `reachability` became what it is. */
  readonly since: number;
  /** How many networks of peers have reached it. */
  readonly proofs: number;
  /** How many say, later than these, that they do not. */
  readonly failures: number;
}

/** A port of the gateway that leads to a port of the node. */
export interface MappedPort {
  /** The address outside. */
  readonly address: string;
  /** The port of the node. */
  readonly port: number;
  /** When the mapping ends unless it is renewed; undefined where it has no end. */
  readonly expireTime: number | undefined;
}

/** What the gateway of the node's network does for it. */
export interface PortMapping {
  /** `off`, `no gateway`, `asking`, `mapped`, `refused` or `no answer`. */
  readonly state: string;
  /** A sentence, for people. */
  readonly message: string;
  /** What to do about it; empty where nothing is to be done. */
  readonly remedy: string;
  /** The gateway's IP address inside; empty where there is none. */
  readonly gateway: string;
  /** `pcp`, `nat-pmp` or `upnp`; empty where nothing is mapped. */
  readonly protocol: string;
  /** The ports that are mapped. */
  readonly ports: readonly MappedPort[];
}

/** Who the node is and where. */
export interface NodeInfo {
  /** The peer id, base58. */
  readonly peerId: string;
  /** The network's name. */
  readonly network: string;
  /** What it calls itself toward peers. */
  readonly agent: string;
  /** The version of the sidecar. */
  readonly version: string;
  /** What it listens on. */
  readonly listeningAddresses: readonly string[];
  /** What it tells its peers. */
  readonly announcedAddresses: readonly string[];
  /** Under which peers say that they see it. */
  readonly observedAddresses: readonly string[];
  /** When it started. */
  readonly startTime: number;
  /** For how long it has been running. */
  readonly uptime: number;
  /** What speaks gRPC to apps, `http2` or `grpcio`; empty of an earlier sidecar. */
  readonly apiEngine: string;
  /** Whether peers reach the node from outside. */
  readonly reachability: Reachability;
  /** Those of its addresses that peers were asked to dial. */
  readonly addresses: readonly AddressReachability[];
  /** At which it is reached through relays. */
  readonly relayedAddresses: readonly string[];
  /** What the gateway of its network does for it; undefined of an earlier sidecar. */
  readonly portMapping: PortMapping | undefined;
}

/** One of the things that readiness is made of. */
export interface Condition {
  /** Which one: `Listening`, `Bootstrapped` and so on. */
  readonly type: string;
  /** Whether it is met. */
  readonly met: boolean;
  /** One word, for programs. */
  readonly reason: string;
  /** A sentence, for people. */
  readonly message: string;
  /** What to do about it; empty when met. */
  readonly remedy: string;
  /** When `met` changed last. */
  readonly since: number;
}

/** Whether the node is ready, and why not. */
export interface Readiness {
  /** Whether all conditions are met. */
  readonly ready: boolean;
  /** All conditions, the met ones too. */
  readonly conditions: readonly Condition[];
}

/** Observations counted by upper bounds. The schema, `Histogram` in `node.proto`, says what each one measures. */
export interface Histogram {
  /** Ascending; an observation belongs to the first bound that is not below it. */
  readonly upperBounds: readonly number[];
  /** How many for each bound, and at the end those above all bounds. */
  readonly counts: readonly number[];
  /** All observations added up. */
  readonly sum: number;
}

/** What the sidecar counts. */
export interface Statistics {
  /** Counters and gauges by name. */
  readonly values: Readonly<Record<string, number>>;
  /** Histograms by name. */
  readonly histograms: Readonly<Record<string, Histogram>>;
}

/** A key of the sidecar's configuration and its value. */
export interface ConfigurationEntry {
  /** The section and the key in it, such as `gossip.degree`. */
  readonly name: string;
  /** The value as TOML has it. */
  readonly value: string;
  /** Where it was set: `default`, a place in a file (`/etc/sidecar.toml:12`), `$VARIABLE` or `--flag`. */
  readonly source: string;
  /** Whether it changes when the sidecar reads its configuration again; the others take a restart. */
  readonly reloadable: boolean;
}

/** A record of the sidecar's log. */
export interface NodeEvent {
  /** When. */
  readonly time: number;
  /** `debug`, `info`, `warning` or `error`. */
  readonly severity: string;
  /** The part of the sidecar that says so, such as `net`. */
  readonly part: string;
  /** A sentence for people. */
  readonly message: string;
  /** What belongs to it, for programs: `peer` with a peer id, `exception` with a traceback. */
  readonly fields: Readonly<Record<string, string>>;
}

/** What the sidecar's log writes. */
export interface LogLevels {
  /** The level of all parts that have none of their own. */
  readonly level: string;
  /** The levels of parts. */
  readonly parts: Readonly<Record<string, string>>;
}

/** What is known of a peer. */
export interface Peer {
  /** The peer id, base58. */
  readonly peerId: string;
  /** Whether there is a connection. */
  readonly connected: boolean;
  /** Who opened the connection. */
  readonly direction: Direction;
  /** Addresses known of the peer. */
  readonly addresses: readonly string[];
  /** The address of the connection's other end; empty when not connected. */
  readonly remoteAddress: string;
  /** The protocol ids that it speaks. */
  readonly protocols: readonly string[];
  /** What it calls itself. */
  readonly agent: string;
  /** The protocol version that it shows. */
  readonly protocolVersion: string;
  /** Whether agent, protocols and addresses are known from the peer itself. */
  readonly identified: boolean;
  /** The round trip; undefined until measured. */
  readonly latency: number | undefined;
  /** Since when it is connected; undefined when it is not. */
  readonly connectTime: number | undefined;
  /** How many connections there are. */
  readonly connections: number;
  /** Whether its connections are never closed because there are too many. */
  readonly protected: boolean;
  /** What is thought of it in gossip; undefined where nothing is known of it there, or peers are not scored. */
  readonly score: PeerScore | undefined;
  /** How it is reached. */
  readonly path: PeerPath;
  /** Since when it is reached so; undefined when it is not connected. */
  readonly pathTime: number | undefined;
  /** What is known of its addresses, in the order in which they are dialled; only from `peer()`, else empty. */
  readonly knownAddresses: readonly PeerAddress[];
}

/** An address of a peer, and how dials of it went. */
export interface PeerAddress {
  /** The address, without the peer id. */
  readonly address: string;
  /** Who told it; of several, who knows best. */
  readonly origin: AddressOrigin;
  /** When the peer was reached there last; undefined: never. */
  readonly lastSuccess: number | undefined;
  /** When it was not found there last; undefined: never. */
  readonly lastFailure: number | undefined;
}

/**
 * What a peer's score in gossip has come to; each has what those before it have.
 *
 * `NO_MESH`: below 0, it is in no mesh. `NO_GOSSIP`: no IHAVE to it, and its own IHAVE and IWANT are ignored.
 * `NO_PUBLISH`: what apps publish here is not sent to it. `GRAYLISTED`: nothing that it says in gossip is listened to.
 */
export type PeerStanding = "UNSPECIFIED" | "GOOD" | "NO_MESH" | "NO_GOSSIP" | "NO_PUBLISH" | "GRAYLISTED";

/** What is thought of a peer in gossip, in points. */
export interface PeerScore {
  /** The whole. */
  readonly score: number;
  /** What it has come to. */
  readonly standing: PeerStanding;
  /** What costs most, a sentence; empty where nothing does. */
  readonly reason: string;
  /** By topic; together they add no more than the sidecar's cap. */
  readonly topics: readonly TopicScore[];
  /** What `setPeerScore` set. */
  readonly application: number;
  /** Many peers at one address. */
  readonly colocation: number;
  /** Misbehaviour. */
  readonly behaviour: number;
  /** Messages for it are lost, since it takes them too slowly. */
  readonly slow: number;
}

/** What a peer's behaviour in one topic adds to its score, in points. */
export interface TopicScore {
  /** The topic. */
  readonly topic: string;
  /** Time in the mesh. */
  readonly timeInMesh: number;
  /** Messages that it brought before others. */
  readonly firstDeliveries: number;
  /** Too few messages from a mesh peer; only in topics with an expected rate. */
  readonly meshDeliveries: number;
  /** The same of earlier stays in the mesh. */
  readonly meshFailures: number;
  /** Invalid messages. */
  readonly invalidMessages: number;
}

/** A change of a peer. */
export interface PeerEvent {
  /** What happened. */
  readonly type: PeerEventType;
  /** The peer as it is now; undefined for `CURRENT`, `RECONNECTED` and `LAGGED`. */
  readonly peer: Peer | undefined;
  /** Why it disconnected, a sentence; empty when in order. Of `SCORED`, what costs it most. */
  readonly reason: string;
}

/** A topic as this node sees it. */
export interface Topic {
  /** The name. */
  readonly name: string;
  /** Whether this node subscribes to it. */
  readonly subscribed: boolean;
  /** The signing in force here. */
  readonly signing: Signing;
  /** Connected peers that subscribe to it. */
  readonly peers: number;
  /** Peers in this node's mesh for it. */
  readonly meshPeerIds: readonly string[];
  /** Streams of apps here that subscribe to it. */
  readonly subscribers: number;
  /** Messages from which a subscription can continue. */
  readonly historyMessages: number;
  /** New messages handed to this node's apps. It and the next counters begin anew when the topic was forgotten. */
  readonly delivered: number;
  /** Messages published by this node's apps. */
  readonly published: number;
  /** Messages of peers that had come before. */
  readonly duplicates: number;
  /** Messages of peers that are no good. */
  readonly rejected: number;
  /** Copies that a peer did not get since its queue was full. */
  readonly dropped: number;
  /** The payloads of the delivered messages. */
  readonly deliveredBytes: number;
  /** The payloads of the published messages. */
  readonly publishedBytes: number;
  /** How its peers are scored by the expected rate, a sentence; empty: as those of any topic. */
  readonly scoring: string;
  /** Messages of peers that were not passed on, though nobody is to blame. */
  readonly ignored: number;
  /** Apps that judge its messages. */
  readonly validators: number;
  /** Messages that wait for their verdicts. */
  readonly unjudged: number;
  /** Whether its messages are kept on disk. What follows is for topics of which they are. */
  readonly history: HistoryState;
  /** Messages on disk, from which a subscription can continue. */
  readonly storedMessages: number;
  /** Their bytes, as they count: as they travelled, and 160 for each. */
  readonly storedBytes: number;
  /** The `receiveTime` of the oldest of them; undefined where there is none. */
  readonly oldestTime: number | undefined;
  /** Compared with a peer, nothing was missing here of what was received from this time on ... */
  readonly completeSince: number | undefined;
  /** ... until this one; both undefined where no comparison has ended so yet. */
  readonly completeUntil: number | undefined;
  /** What arrived and could not be kept, a sentence; empty: nothing, as far as is known. */
  readonly historyGap: string;
}

/**
 * A message of a topic. Its buffers are parts of the batch that it came in; copy what is kept for long
 * (`Buffer.from(message.data)`), else the whole batch is kept.
 */
export interface Message {
  /** The topic. */
  readonly topic: string;
  /** The payload. */
  readonly data: Buffer;
  /** Who published it, proven by its signature; empty on unsigned topics. */
  readonly sender: string;
  /** The same at every node. */
  readonly messageId: Buffer;
  /** Continues a subscription behind this message. */
  readonly cursor: Buffer;
  /** When this node got it; with `history` about when the first node got it that tells of it. */
  readonly receiveTime: number;
  /** Whether an app of this node published it. */
  readonly local: boolean;
  /** Whether this node had missed it, and a peer brought it later. */
  readonly history: boolean;
}

/** A direct message. The connection proves who sent it. Its data is a part of its batch, as with `Message`. */
export interface DirectMessage {
  /** Who sent it, base58. */
  readonly peerId: string;
  /** The protocol. */
  readonly protocol: string;
  /** The payload. */
  readonly data: Buffer;
}

/** Messages that a stream missed. */
export class Lagged {
  constructor(
    /** How many; undefined where nobody knows. */
    readonly missed: number | undefined,
    /** Why. */
    readonly reason: LagReason,
  ) {}

  /** A sentence for people. */
  toString(): string {
    const count = this.missed === undefined ? "messages (how many is not known)" : `${this.missed} messages`;
    return `missed ${count}: ${WHY[this.reason]}`;
  }
}

const WHY: Record<LagReason, string> = {
  UNSPECIFIED: "not said why",
  SLOW_READER: "this reader was too slow",
  HISTORY_EXCEEDED: "the sidecar's history does not reach back so far",
  RESTARTED: "the sidecar has restarted",
  RECONNECTED: "the connection to the sidecar was lost meanwhile",
};

/** What became of a direct message. */
export interface SendReceipt {
  /** What became of it. */
  readonly outcome: SendOutcome;
  /** A sentence for people, where there is more to say. */
  readonly detail: string;
  /** The name of a durable message that is stored; of several, of the first: the others have the next sequences. */
  readonly messageId?: MessageId;
}

/** How both ends name a durable message, beside sender, receiver and protocol. */
export interface MessageId {
  /** Of the sender's outbox for the peer and protocol; chosen at random. */
  readonly incarnation: bigint;
  /** From 1 on, without gaps. */
  readonly sequence: number;
}

/** That messages are kept on the sidecar's disk until the peer's app has settled them. */
export interface Durable {
  /** Milliseconds for which they are worth delivering; default: the configured time. */
  timeToLive?: number;
}

/** How to receive durable messages. */
export interface ReceiveDurableOptions extends StreamOptions {
  /** Milliseconds after which a delivery that is not settled comes again, 1000 to a day; default: 30,000. */
  settleTimeout?: number;
  /** After so many deliveries without being settled a message is a dead letter; default: as configured. */
  maxDeliveries?: number;
  /** How many deliveries may be open; default: 256. With 1, none is seen before the one ahead of it is settled. */
  maxOpen?: number;
}

/** What to watch of the outbox. */
export interface WatchOutboxOptions extends StreamOptions {
  /** Of the last event that the app has dealt with; 0: from the oldest that is kept; default: only new ones. */
  cursor?: number;
  /** Only of messages to this peer. */
  peerId?: string;
  /** Only of messages by this protocol. */
  protocol?: string;
}

/** What to list of the outbox. */
export interface OutboxOptions extends CallOptions {
  /** Only what is for this peer. */
  peerId?: string;
  /** Only what goes by this protocol. */
  protocol?: string;
}

/** What to withdraw. */
export interface WithdrawOptions extends CallOptions {
  /** Only what goes by this protocol. */
  protocol?: string;
}

/** What to list of the inbox. */
export interface InboxOptions extends CallOptions {
  /** The dead letters in place of what waits for apps. */
  deadLetters?: boolean;
  /** Payloads too. */
  withData?: boolean;
  /** Only of this sender. */
  peerId?: string;
  /** Only what came by this protocol. */
  protocol?: string;
}

/** Which dead letters. */
export interface DeadLettersOptions extends CallOptions {
  /** Only what came by this protocol. */
  protocol?: string;
}

/**
 * What became of a durable message. `EXPIRED`: its time was over before it was settled, or it was withdrawn.
 * `DEAD_LETTER`: it was delivered too often without being settled.
 */
export type DurableOutcome = "UNSPECIFIED" | "DONE" | "REJECTED" | "EXPIRED" | "DEAD_LETTER";

/** What became of a durable message. */
export interface OutboxEvent {
  /** To go on behind it. */
  readonly cursor: number;
  /** To whom it was sent, base58. */
  readonly peerId: string;
  /** The protocol. */
  readonly protocol: string;
  /** Which message. */
  readonly messageId: MessageId;
  /** The request id that it was sent with. */
  readonly requestId: string;
  /** What became of it. */
  readonly outcome: DurableOutcome;
  /** Why, a sentence, where there is one. */
  readonly reason: string;
  /** When this sidecar learned it, in milliseconds since 1970. */
  readonly time: number;
}

/** A durable message that waits for its peer. */
export interface OutboxMessage {
  /** To whom, base58. */
  readonly peerId: string;
  /** The protocol. */
  readonly protocol: string;
  /** Which message. */
  readonly messageId: MessageId;
  /** The request id that it was sent with. */
  readonly requestId: string;
  /** Bytes of its payload. */
  readonly size: number;
  /** When it was stored, in milliseconds since 1970. */
  readonly created: number;
  /** Until when it is worth delivering. */
  readonly expires: number;
  /** Whether the peer's sidecar has it on its disk. */
  readonly held: boolean;
}

/** A durable message that waits for an app here, or a dead letter. */
export interface InboxMessage {
  /** Its number here: that of a `DurableMessage`. */
  readonly id: number;
  /** Who sent it, base58. */
  readonly peerId: string;
  /** The protocol. */
  readonly protocol: string;
  /** The sender's name for it. */
  readonly messageId: MessageId;
  /** Bytes of its payload. */
  readonly size: number;
  /** How often it was delivered. */
  readonly attempts: number;
  /** When it was stored here, in milliseconds since 1970. */
  readonly received: number;
  /** Until when it is worth delivering. */
  readonly expires: number;
  /** The payload, where it was asked for. */
  readonly data: Buffer;
  /** Of a dead letter: why. */
  readonly reason: string;
}

/** The same receipt for some consecutive messages, which are numbered from 0. */
export interface SendReceipts extends SendReceipt {
  /** The number of the first message. */
  readonly first: number;
  /** How many messages. */
  readonly count: number;
}

/** What became of a published message. */
export interface PublishReceipt {
  /** What became of it. */
  readonly outcome: PublishOutcome;
  /** The message's id; empty where it was not published. */
  readonly messageId: Buffer;
  /** To how many peers it was queued. */
  readonly peers: number;
  /** For how many peers it was dropped since their queues were full while others had room. */
  readonly dropped: number;
}

/** The same receipt for some consecutive messages, which are numbered from 0. */
export interface PublishReceipts {
  /** The number of the first message. */
  readonly first: number;
  /** How many messages. */
  readonly count: number;
  /** What became of each. */
  readonly outcome: PublishOutcome;
  /** To how many peers each was queued. */
  readonly peers: number;
  /** For how many peers each was dropped. */
  readonly dropped: number;
  /** Their ids, in order, where they were asked for and published. */
  readonly messageIds: readonly Buffer[];
}

/** A request to be answered. */
export interface Request {
  /** Who asks, base58. The connection proves it. */
  readonly peerId: string;
  /** The protocol. */
  readonly protocol: string;
  /** The request's payload. */
  readonly data: Buffer;
  /** How long the asker still waited when it came; undefined where it did not say. */
  readonly timeLeft: number | undefined;
  /** The parent, in traces, of what is done for it, as W3C Trace Context writes it; empty outside of traces. */
  readonly traceparent: string;
  /** Aborted when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

/** An announcement of an advertised name. */
export interface Announcement {
  /** How many peers hold it. */
  readonly holders: number;
  /** How many were asked to. */
  readonly asked: number;
  /** When it will be announced again. */
  readonly nextAnnouncement: number;
}

/** A receiver got a message of a probe. */
export interface ProbeAnswer {
  /** What tells it from the summary. */
  readonly type: "ANSWER";
  /** The receiver's peer id, base58. */
  readonly peerId: string;
  /** Which message, counted from 0. */
  readonly number: number;
  /** Milliseconds from publishing until it was there. */
  readonly delay: number;
  /** Milliseconds to the receiver and back. Half was taken off for the answer's way: `delay` is off by that at most. */
  readonly roundTrip: number;
  /** Whether the receiver got the message from this node itself. */
  readonly direct: boolean;
}

/** A probe as a whole. */
export interface ProbeSummary {
  /** What tells it from the answers. */
  readonly type: "SUMMARY";
  /** Messages published. */
  readonly published: number;
  /** Messages that could not be. */
  readonly unpublished: number;
  /** The share of the receivers that was asked, 0 to 1. */
  readonly share: number;
  /** Answers that count. */
  readonly answers: number;
  /** Different peers among them. */
  readonly peers: number;
  /** Answers that connected peers of the topic owed. Of other receivers nobody knows who they are. */
  readonly expected: number;
  /** Those of them that came. */
  readonly answered: number;
  /** About how many receivers the answers stand for. */
  readonly receivers: number;
  /** Answers that do not count. */
  readonly ignored: number;
}

/** A peer that advertises a name, or is close to a key. */
export interface FoundPeer {
  /** The peer id, base58. */
  readonly peerId: string;
  /** Its addresses, as others told them; may be empty. */
  readonly addresses: readonly string[];
}

/** What became of a record. */
export interface RecordReceipt {
  /** How many peers took it. */
  readonly stored: number;
  /** How many were asked to. */
  readonly asked: number;
}

/** A record of the DHT. */
export interface DhtRecord {
  /** The value; of a signed record what was signed. */
  readonly value: Buffer;
  /** How many of those asked have this value. */
  readonly holders: number;
  /** When peers will have forgotten it; undefined where they do not say. */
  readonly expiresAt: number | undefined;
  /** Who signed it; empty unless the namespace's rule is `signed`. */
  readonly publisher: string;
  /** By which a later value replaces it; 0 unless the namespace's rule is `signed`. */
  readonly sequence: bigint;
}
