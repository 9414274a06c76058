/** The client: every method of the sidecar's API, in JavaScript's own idiom. */

import type { ChannelInterface } from "@grpc/grpc-js";

import { Advertisement, type AdvertiseOptions } from "./advertisement.js";
import { Asking } from "./asking.js";
import { type AllowOptions, type Ban, type Banned, type BanOptions, Bans } from "./bans.js";
import { Batcher, type Way } from "./batcher.js";
import { PUBLISH_ITEM, SEND_ITEM, transfer } from "./bulk.js";
import { type ByteStream, openStream, StreamAcceptor } from "./bytestream.js";
import * as convert from "./convert.js";
import { Durability, type DurableReceiver, type OutboxWatch } from "./durable.js";
import { Closed, DeadlineExceeded, ResourceExhausted, SidecarUnavailable, TooLarge } from "./errors.js";
import { DirectServiceDefinition, SendManyRequest } from "./generated/sidecar/v1/direct.js";
import { DiscoveryServiceDefinition } from "./generated/sidecar/v1/discovery.js";
import { NodeServiceDefinition } from "./generated/sidecar/v1/node.js";
import { PeerServiceDefinition } from "./generated/sidecar/v1/peer.js";
import {
  ProbeRequest,
  PublishManyRequest,
  PublishOutcome,
  PubSubServiceDefinition,
} from "./generated/sidecar/v1/pubsub.js";
import { type ConnectOptions, isLost, Link, method } from "./link.js";
import { listRules, type Rule, setRules } from "./rules.js";
import { type ScoreOptions, setScore } from "./scores.js";
import { type Judge, type ValidateOptions, Validator } from "./validator.js";
import { type Handler, type ServeOptions, Server } from "./server.js";
import { SimpleWatch, type Watch } from "./stream.js";
import { type ReceiveOptions, Receiver, type SubscribeOptions, Subscription } from "./subscription.js";
import type {
  Bundling,
  CallOptions,
  ConfigurationEntry,
  DeadLettersOptions,
  DhtRecord,
  Durable,
  FoundPeer,
  InboxMessage,
  InboxOptions,
  LogLevels,
  NodeEvent,
  NodeInfo,
  OutboxMessage,
  OutboxOptions,
  OutgoingMessage,
  Payload,
  Peer,
  PeerEvent,
  ProbeAnswer,
  ProbeSummary,
  PublishReceipt,
  PublishReceipts,
  Readiness,
  ReceiveDurableOptions,
  RecordReceipt,
  RequestOptions,
  SendReceipt,
  SendReceipts,
  Signing,
  Statistics,
  StreamOptions,
  Topic,
  WatchOutboxOptions,
  WithdrawOptions,
} from "./types.js";
import { Lagged } from "./types.js";
import { at, deadline, now, onAbort, PATIENCE, Pauses, sleep } from "./waiting.js";
import { type Outgoing, publishReceipts } from "./wire.js";

const NODE = NodeServiceDefinition;
const PEER = PeerServiceDefinition;
const DIRECT = DirectServiceDefinition;
const PUBSUB = PubSubServiceDefinition;
const DISCOVERY = DiscoveryServiceDefinition;

const GET_NODE = method(NODE, NODE.methods.getNode);
const GET_READINESS = method(NODE, NODE.methods.getReadiness);
const WATCH_READINESS = method(NODE, NODE.methods.watchReadiness);
const GET_STATISTICS = method(NODE, NODE.methods.getStatistics);
const GET_CONFIGURATION = method(NODE, NODE.methods.getConfiguration);
const WATCH_EVENTS = method(NODE, NODE.methods.watchEvents);
const SET_LOG_LEVEL = method(NODE, NODE.methods.setLogLevel);
const LIST_PEERS = method(PEER, PEER.methods.listPeers);
const WATCH_PEERS = method(PEER, PEER.methods.watchPeers);
const GET_PEER = method(PEER, PEER.methods.getPeer);
const FIND_PEER = method(PEER, PEER.methods.findPeer);
const LIST_CLOSEST_PEERS = method(PEER, PEER.methods.listClosestPeers);
const CONNECT_PEER = method(PEER, PEER.methods.connectPeer);
const DISCONNECT_PEER = method(PEER, PEER.methods.disconnectPeer);
const PING_PEER = method(PEER, PEER.methods.pingPeer);
const SEND = method(DIRECT, DIRECT.methods.send);
const SEND_MANY = method(DIRECT, DIRECT.methods.sendMany);
const PUBLISH = method(PUBSUB, PUBSUB.methods.publish);
const PUBLISH_MANY = method(PUBSUB, PUBSUB.methods.publishMany);
const LIST_TOPICS = method(PUBSUB, PUBSUB.methods.listTopics);
const PROBE = method(PUBSUB, PUBSUB.methods.probe);
const FIND_PEERS = method(DISCOVERY, DISCOVERY.methods.findPeers);
const PUT_RECORD = method(DISCOVERY, DISCOVERY.methods.putRecord);
const GET_RECORD = method(DISCOVERY, DISCOVERY.methods.getRecord);

/** How to send one message. */
export interface SendOptions extends CallOptions {
  /** Keep it on the sidecar's disk until the peer's app has settled it. */
  durable?: Durable;
  /** Makes a repeat safe: the sidecar answers it with the first one's receipt. At most 64 bytes. */
  requestId?: string;
}

/** How to publish one message. */
export interface PublishOptions extends CallOptions {
  /** The topic's signing. */
  signing?: Signing;
  /** Wait, within the timeout, until so many peers of the topic are there. */
  minimumPeers?: number;
  /** Whether messages that go together travel as one, under one signature. */
  bundling?: Bundling;
  /** Makes a repeat safe: the sidecar answers it with the first one's receipt. At most 64 bytes. */
  requestId?: string;
}

/** How to probe a topic. */
export interface ProbeOptions extends CallOptions {
  /** How many messages to publish, at most 10,000; default: 20. */
  messages?: number;
  /** Milliseconds between two of them, at least 100; default: 1000. */
  interval?: number;
  /** Of about how many receivers of each message answers are wanted, at most 256; default: 32. */
  answers?: number;
  /** Bytes of each payload, at least. */
  size?: number;
  /** The topic's signing. */
  signing?: Signing;
  /** Probe although there are peers that do not know probes; their apps get to see the messages. */
  exposed?: boolean;
}

/** How to send many messages. */
export interface SendManyOptions extends CallOptions {
  /** Keep them on the sidecar's disk until the peer's app has settled them. */
  durable?: Durable;
  /** Called with receipts as they arrive; they are all that is known where an error ends the call midway. */
  onReceipts?: (receipts: SendReceipts) => void;
}

/** How to publish many messages. */
export interface PublishManyOptions extends CallOptions {
  /** The topic's signing. */
  signing?: Signing;
  /** Wait with each batch until so many peers of the topic are there. */
  minimumPeers?: number;
  /** Whether messages of a batch travel as one, under one signature. */
  bundling?: Bundling;
  /** Put the messages' ids into the receipts. */
  returnMessageIds?: boolean;
  /** Called with receipts as they arrive; they are all that is known where an error ends the call midway. */
  onReceipts?: (receipts: PublishReceipts) => void;
}

/** Which peers to list. */
export interface PeersOptions extends CallOptions {
  /** Only those that are connected. */
  connectedOnly?: boolean;
  /** Only those that speak this protocol. */
  protocol?: string;
}

/** Which peers are wanted: those that are closest to a key, or to a peer. */
export interface ClosestPeersOptions extends CallOptions {
  /** In place of a key: the peer id whose bytes are the key. Its own peer is then the closest, where it answers. */
  peerId?: string;
  /** At most so many; default, and never more: the 20 that a walk ends with. */
  limit?: number;
}

/** Many messages: whatever can be iterated over, which is done as they are sent. */
export type Messages = Iterable<OutgoingMessage> | AsyncIterable<OutgoingMessage>;

/**
 * Connect to a sidecar. Resolves when it has answered.
 *
 * @param target - `unix:PATH`, a path, `HOST:PORT` or `tls://HOST:PORT`; default: `SIDECAR_API`, else the Unix socket
 * that a sidecar serves by default.
 * @throws SidecarUnavailable when no sidecar answers in time; it says what was tried.
 */
export async function connect(target?: string | ConnectOptions, options: ConnectOptions = {}): Promise<Client> {
  const [place, settings] = typeof target === "object" ? [undefined, target] : [target, options];
  const link = new Link(place, settings);
  try {
    await meet(link, settings);
  } catch (error) {
    await link.close();
    throw error;
  }
  return new Client(link);
}

/** Wait for the sidecar's first answer. */
async function meet(link: Link, { wait = PATIENCE, signal }: ConnectOptions): Promise<void> {
  const begun = now();
  const pauses = new Pauses();
  for (let tries = 1; ; tries += 1) {
    const channel = await link.ready(Math.max(0, begun + wait - now()), Infinity, signal);
    try {
      await link.once(channel, GET_NODE, {}, now() + Math.max(1000, wait), signal);
      return;
    } catch (error) {
      const passes = error instanceof DeadlineExceeded || error instanceof ResourceExhausted;
      if (!isLost(error) && !passes) {
        throw error;
      }
      if (now() - begun >= wait) {
        const { text, origin } = link.target;
        const seconds = ((now() - begun) / 1000).toFixed(1);
        throw new SidecarUnavailable(
          `no sidecar answers at ${text} (from ${origin}): tried ${tries} times in ${seconds} s; ` +
            `the last error: ${error.message}`,
          { code: error.code, reason: error.reason, cause: error },
        );
      }
    }
    await sleep(pauses.next(), signal, link.closing.signal);
  }
}

/**
 * A connection to a sidecar; `connect` makes one.
 *
 * Methods reject with the typed errors of this library. `timeout` is milliseconds and travels as the call's deadline; a
 * `signal` cancels the call and its work in the sidecar, and the call rejects with the signal's reason.
 */
export class Client {
  readonly #link: Link;
  readonly #publishing: Batcher<PublishReceipt>;
  readonly #sending: Batcher<SendReceipt>;
  readonly #asking: Asking;
  readonly #bans: Bans;
  readonly #durability: Durability;

  /** @internal */
  constructor(link: Link) {
    this.#link = link;
    this.#publishing = new Batcher(link);
    this.#sending = new Batcher(link);
    this.#asking = new Asking(link);
    this.#bans = new Bans(link);
    this.#durability = new Durability(link);
  }

  /** Where the sidecar is. */
  get target(): string {
    return this.#link.target.text;
  }

  /** End all calls and streams; who waits for them gets `Closed`. Nothing is left over then. */
  async close(): Promise<void> {
    await this.#link.close();
  }

  /** Ends all calls and streams. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // ------------------------------------------------------------ the node

  /** Identity, network, addresses, version and uptime. */
  async info(options: CallOptions = {}): Promise<NodeInfo> {
    const { node } = await this.#link.unary(GET_NODE, {}, options, true);
    return convert.node(node);
  }

  /** Whether the node is ready, and each condition that this is made of. */
  async readiness(options: CallOptions = {}): Promise<Readiness> {
    const { readiness } = await this.#link.unary(GET_READINESS, {}, options, true);
    return convert.readiness(readiness);
  }

  /** The readiness now, then after every change, also over restarts of the sidecar. */
  watchReadiness(options: StreamOptions = {}): Watch<Readiness> {
    return new SimpleWatch(
      this.#link,
      "watching readiness",
      WATCH_READINESS,
      ({ readiness }) => [convert.readiness(readiness)],
      [],
      options,
    );
  }

  /**
   * Wait until the node is ready.
   *
   * @throws DeadlineExceeded when it is not within the timeout.
   */
  async ready(options: CallOptions = {}): Promise<Readiness> {
    const until = deadline(options);
    const late = new AbortController();
    const timer = at(until, () => {
      late.abort(new DeadlineExceeded("the node is not ready in time"));
    });
    const stop = onAbort(options.signal, (reason) => {
      late.abort(reason);
    });
    const watch = this.watchReadiness({ signal: late.signal });
    try {
      for await (const readiness of watch) {
        if (readiness.ready) {
          return readiness;
        }
      }
      throw new Closed("the sidecar ended before it was ready");
    } finally {
      watch.close();
      clearTimeout(timer);
      stop();
    }
  }

  /** Counters, gauges and histograms. */
  async statistics(options: CallOptions = {}): Promise<Statistics> {
    return convert.statistics(await this.#link.unary(GET_STATISTICS, {}, options, true));
  }

  /** The configuration in force, key by key, and where each value was set. It has no secrets. */
  async configuration(options: CallOptions = {}): Promise<ConfigurationEntry[]> {
    const { entries } = await this.#link.unary(GET_CONFIGURATION, {}, options, true);
    return entries.map(convert.configurationEntry);
  }

  /**
   * The newest records of the sidecar's log, at most 1,000, then more as they come. Where records were missed, `Lagged`
   * says so; after a lost connection (`RECONNECTED`) the newest are told anew.
   */
  watchEvents(options: StreamOptions = {}): Watch<NodeEvent | Lagged> {
    const anew = new Lagged(undefined, "RECONNECTED");
    return new SimpleWatch(this.#link, "watching events", WATCH_EVENTS, convert.nodeEvents, [anew], options);
  }

  /**
   * Change what the sidecar's log writes: from `level` on for a part, such as `net`, and all below it. The levels that
   * are in force then.
   *
   * @param part - Empty: all parts without a level of their own.
   * @param level - Empty: the part has none of its own any more.
   * @throws InvalidArgument.
   */
  async setLogLevel(part: string, level: string, options: CallOptions = {}): Promise<LogLevels> {
    const { level: all, parts } = await this.#link.unary(SET_LOG_LEVEL, { part, level }, options, true);
    return { level: all, parts };
  }

  // ------------------------------------------------------------ peers

  /** The peers known, ordered by id; the timeout is that of each page. */
  async *peers(options: PeersOptions = {}): AsyncGenerator<Peer, void, void> {
    let pageToken = "";
    do {
      const { connectedOnly = false, protocol = "" } = options;
      const request = { connectedOnly, protocol, pageSize: 0, pageToken };
      const response = await this.#link.unary(LIST_PEERS, request, options, true);
      for (const peer of response.peers) {
        yield convert.peer(peer);
      }
      pageToken = response.nextPageToken;
    } while (pageToken !== "");
  }

  /** The connected peers (`PRESENT`, then one `CURRENT`), then every change, also over restarts of the sidecar. */
  watchPeers(options: StreamOptions = {}): Watch<PeerEvent> {
    const anew: PeerEvent = { type: "RECONNECTED", peer: undefined, reason: "" };
    return new SimpleWatch(this.#link, "watching peers", WATCH_PEERS, convert.peerEvents, [anew], options);
  }

  /**
   * What the node knows of a peer, without asking anybody.
   *
   * @throws NotFound when it is not connected, known or protected; SelfDial, InvalidPeerId.
   */
  async peer(peerId: string, options: CallOptions = {}): Promise<Peer> {
    const { peer } = await this.#link.unary(GET_PEER, { peerId }, options, true);
    return convert.peer(peer);
  }

  /**
   * A peer's addresses, the likeliest first, through the DHT where needed.
   *
   * @throws NotFound when nobody knows any.
   */
  async findPeer(peerId: string, options: CallOptions = {}): Promise<string[]> {
    const { addresses } = await this.#link.unary(FIND_PEER, { peerId }, options, true);
    return addresses;
  }

  /**
   * Walk the DHT to the peers that are closest to a key, the closest first: to that of a record, such as `/app/name`,
   * or, with an empty key, to the option's peer id. There are none where nobody in the DHT answers.
   *
   * @param key - 1 to 1024 bytes, or empty.
   * @throws InvalidArgument, InvalidPeerId.
   */
  async closestPeers(key: Payload, options: ClosestPeersOptions = {}): Promise<FoundPeer[]> {
    const { peerId = "", limit = 0 } = options;
    const request = { key: convert.bytes(key, "key"), peerId, limit };
    const { peers } = await this.#link.unary(LIST_CLOSEST_PEERS, request, options, true);
    return peers.map(({ peerId, addresses }) => ({ peerId, addresses }));
  }

  /**
   * Connect to a peer: at `addresses`, else at what is known of it or the DHT knows. Without a peer id (an empty one):
   * to whoever answers at the addresses.
   *
   * @throws Unreachable and its kinds, WrongPeer, WrongNetwork, PeerBanned.
   */
  async connectPeer(peerId: string, options: CallOptions & { addresses?: Iterable<string> } = {}): Promise<Peer> {
    const request = { peerId, addresses: [...(options.addresses ?? [])] };
    const { peer } = await this.#link.unary(CONNECT_PEER, request, options);
    return convert.peer(peer);
  }

  /**
   * Close all connections of a peer.
   *
   * @throws NotFound when there is none.
   */
  async disconnectPeer(peerId: string, options: CallOptions = {}): Promise<void> {
    await this.#link.unary(DISCONNECT_PEER, { peerId }, options);
  }

  /** The round trip to a peer, in milliseconds. It is connected to where needed. */
  async pingPeer(peerId: string, options: CallOptions = {}): Promise<number> {
    const { latency } = await this.#link.unary(PING_PEER, { peerId }, options);
    return convert.optionalMilliseconds(latency) ?? 0;
  }

  /**
   * Refuse a peer, an IP address or network, or both, for a time or until it is allowed again; with an empty peer id
   * only the network. Its connections are closed, and the ban outlasts a restart of the sidecar.
   *
   * @throws SelfDial, ResourceExhausted.
   */
  async banPeer(peerId: string, options: BanOptions = {}): Promise<Banned> {
    return this.#bans.ban(peerId, options);
  }

  /**
   * Lift the ban of a peer, of exactly this IP address or network, or both. What else there is to know, such as what
   * still refuses the peer, in sentences.
   *
   * @throws NotFound when there is no such ban.
   */
  async allowPeer(peerId: string, options: AllowOptions = {}): Promise<string[]> {
    return this.#bans.allow(peerId, options);
  }

  /** The entries of the configuration's deny lists, then the bans; the timeout is that of each page. */
  bans(options: CallOptions = {}): AsyncGenerator<Ban, void, void> {
    return this.#bans.list(options);
  }

  /** Never close a peer's connections because there are too many. What else there is to know, in sentences. */
  async protectPeer(peerId: string, options: CallOptions = {}): Promise<string[]> {
    return this.#bans.protect(peerId, options);
  }

  /** Treat a peer as others again. What else there is to know, such as what still protects it, in sentences. */
  async unprotectPeer(peerId: string, options: CallOptions = {}): Promise<string[]> {
    return this.#bans.unprotect(peerId, options);
  }

  /**
   * Add points, from -1e6 to 1e6, to a peer's score in gossip, or take them from it; 0 takes back what was set before.
   *
   * @throws InvalidArgument, InvalidPeerId, SelfDial.
   */
  async setPeerScore(peerId: string, score: number, options: ScoreOptions = {}): Promise<void> {
    return setScore(this.#link, peerId, score, options);
  }

  // ------------------------------------------------------------ direct messages

  /**
   * Send one message and be told what became of it.
   *
   * Many at a time cost little: what is sent while a call is in flight shares the next one. Order is kept for each peer
   * and protocol. With `durable` the receipt says `STORED` as soon as the message is on the sidecar's disk;
   * `watchOutbox` tells what becomes of it.
   *
   * @throws TooLarge; Closed when the connection was lost and it may have been sent.
   */
  send(peerId: string, protocol: string, data: Payload, options: SendOptions = {}): Promise<SendReceipt> {
    const { durable } = options;
    const key = durable === undefined ? peerId : `${peerId}\0${durable.timeToLive ?? ""}`;
    return this.#sending.send(key, protocol, () => this.#sendWay(peerId, protocol, durable), data, options);
  }

  #sendWay(peerId: string, protocol: string, kept: Durable | undefined): Way<SendReceipt> {
    const link = this.#link;
    const durable = kept && convert.durable(kept);
    return {
      done: "sent",
      async one(channel: ChannelInterface, { data, requestId }: Outgoing, until: number, signal: AbortSignal) {
        const request = { peerId, protocol, data, requestId: requestId.toString(), durable };
        const { receipt } = await link.once(channel, SEND, request, until, signal);
        return convert.sendReceipt(receipt);
      },
      path: SEND_MANY.path,
      head: SEND_MANY.encode(SendManyRequest.fromPartial({ peerId, protocol, durable })),
      item: SEND_ITEM,
      parse: (response) =>
        SEND_MANY.decode(response).receipts.map((range) => {
          const receipt = convert.sendReceipt(range.receipt);
          const told =
            receipt.outcome === "TOO_LARGE"
              ? new TooLarge(`message over the bound: ${receipt.detail}`, {
                  reason: "TOO_LARGE",
                  code: "INVALID_ARGUMENT",
                })
              : receipt;
          return {
            first: Number(range.first),
            receipts: Array.from({ length: Number(range.count) }, (_, index) =>
              told instanceof Error ? told : convert.behind(told, index),
            ),
          };
        }),
    };
  }

  /**
   * Send many messages, in batches; the receipts cover all of them, which are numbered from 0. The messages are taken
   * as the peer takes them; what comes of an async iterable while a batch is written joins the next.
   */
  async sendMany(
    peerId: string,
    protocol: string,
    messages: Messages,
    options: SendManyOptions = {},
  ): Promise<SendReceipts[]> {
    const durable = options.durable && convert.durable(options.durable);
    const bulk = {
      path: SEND_MANY.path,
      head: SEND_MANY.encode(SendManyRequest.fromPartial({ peerId, protocol, durable })),
      item: SEND_ITEM,
      parse: (response: Buffer) => SEND_MANY.decode(response).receipts.map(convert.sendReceipts),
      part: (receipts: SendReceipts, offset: number, first: number, count: number) => ({
        ...convert.behind(receipts, offset),
        first,
        count,
      }),
      tooLarge: (first: number, detail: string): SendReceipts => ({ first, count: 1, outcome: "TOO_LARGE", detail }),
      same: convert.sameSendReceipts,
    };
    return await transfer(this.#link, bulk, messages, options);
  }

  /** Direct messages of some protocols: iterate over it, or see `Receiver`. */
  receive(protocols: string | Iterable<string>, options: ReceiveOptions = {}): Receiver {
    return new Receiver(this.#link, protocols, options);
  }

  // ------------------------------------------------------------ durable messages

  /** Durable messages of some protocols, each to be settled: iterate over it, or see `DurableReceiver`. */
  receiveDurable(protocols: string | Iterable<string>, options: ReceiveDurableOptions = {}): DurableReceiver {
    return this.#durability.receive(protocols, options);
  }

  /**
   * What becomes of durable messages that were sent here, from a cursor on, else from now on: see `OutboxWatch`. It
   * ends with `Outdated` where events behind the cursor are not kept any more.
   */
  watchOutbox(options: WatchOutboxOptions = {}): OutboxWatch {
    return this.#durability.watch(options);
  }

  /** The durable messages that wait for their peers, the oldest first, page after page. */
  outbox(options: OutboxOptions = {}): AsyncGenerator<OutboxMessage, void, void> {
    return this.#durability.outbox(options);
  }

  /** Withdraw durable messages that the peer is not known to have; how many. They count as expired. */
  async withdraw(peerId: string, options: WithdrawOptions = {}): Promise<number> {
    return await this.#durability.withdraw(peerId, options);
  }

  /** The durable messages that wait for apps here, or the dead letters, the oldest first, page after page. */
  inbox(options: InboxOptions = {}): AsyncGenerator<InboxMessage, void, void> {
    return this.#durability.inbox(options);
  }

  /** Deliver dead letters again: these, or all; how many. Their senders hear nothing more. */
  async retryDeadLetters(ids: Iterable<number> = [], options: DeadLettersOptions = {}): Promise<number> {
    return await this.#durability.retry(ids, options);
  }

  /** Delete dead letters: these, or all; how many. */
  async purgeDeadLetters(ids: Iterable<number> = [], options: DeadLettersOptions = {}): Promise<number> {
    return await this.#durability.purge(ids, options);
  }

  /**
   * Ask a peer's app, and wait for its response.
   *
   * Many at a time cost little: what is asked while another request is under way shares a call.
   *
   * @throws NotSupported, Refused, Unreachable, DeadlineExceeded, QueueFull, TooLarge.
   */
  async request(peerId: string, protocol: string, data: Payload, options: RequestOptions = {}): Promise<Buffer> {
    return await this.#asking.ask(peerId, protocol, convert.bytes(data), options);
  }

  /**
   * Answer requests. Resolves once they can arrive; `Server` says how to end it.
   *
   * @throws AlreadyExists when somebody else serves one of the protocols.
   */
  async serve(protocols: string | Iterable<string>, handler: Handler, options: ServeOptions = {}): Promise<Server> {
    return await Server.start(this.#link, protocols, handler, options);
  }

  // ------------------------------------------------------------ byte streams

  /**
   * A stream of bytes to a peer, for the first of the protocols that it speaks. The timeout is that of the opening; the
   * signal resets the stream at any time.
   *
   * @throws NotSupported, Unreachable and its kinds, ResourceExhausted.
   */
  async openStream(
    peerId: string,
    protocols: string | Iterable<string>,
    options: CallOptions = {},
  ): Promise<ByteStream> {
    return await openStream(this.#link, peerId, protocols, options);
  }

  /** The streams that peers open for some protocols: iterate over it, and `accept()` each. */
  acceptStreams(protocols: string | Iterable<string>, options: StreamOptions = {}): StreamAcceptor {
    return new StreamAcceptor(this.#link, protocols, options);
  }

  // ------------------------------------------------------------ topics

  /**
   * Publish one message and be told where it went.
   *
   * Many at a time cost little: what is published while a call is in flight shares the next one. Order is kept for each
   * topic. It waits while the queues of all peers are full.
   *
   * @throws TooLarge, TopicOptionsDiffer; Closed when the connection was lost and it may have been published.
   */
  publish(topic: string, data: Payload, options: PublishOptions = {}): Promise<PublishReceipt> {
    const { signing = "", minimumPeers = 0, bundling = "" } = options;
    const how = minimumPeers === 0 && bundling === "" ? signing : `${signing} ${minimumPeers} ${bundling}`;
    const way = () => this.#publishWay(topic, options);
    return this.#publishing.send(topic, how, way, data, options);
  }

  #publishWay(topic: string, options: PublishOptions): Way<PublishReceipt> {
    const link = this.#link;
    const how = { topic, signing: convert.signing(options.signing), minimumPeers: options.minimumPeers ?? 0 };
    const bundling = convert.bundling(options.bundling);
    const empty = Buffer.alloc(0);
    return {
      done: "published",
      async one(channel: ChannelInterface, { data, requestId }: Outgoing, until: number, signal: AbortSignal) {
        const request = { ...how, data, requestId: requestId.toString() };
        const { receipt } = await link.once(channel, PUBLISH, request, until, signal);
        return receipt?.outcome === PublishOutcome.QUEUE_FULL ? undefined : convert.publishReceipt(receipt);
      },
      path: PUBLISH_MANY.path,
      head: PUBLISH_MANY.encode(PublishManyRequest.fromPartial({ ...how, bundling, returnMessageIds: true })),
      item: PUBLISH_ITEM,
      parse: (response) =>
        publishReceipts(response).map(({ first, count, outcome, peers, dropped, messageIds }) => {
          const receipts = new Array<PublishReceipt | Error>(count);
          for (let index = 0; index < count; index += 1) {
            receipts[index] =
              outcome === "TOO_LARGE"
                ? new TooLarge("payload is over the bound on gossip messages", {
                    reason: "TOO_LARGE",
                    code: "INVALID_ARGUMENT",
                  })
                : { outcome, messageId: messageIds[index] ?? empty, peers, dropped };
          }
          return { first, receipts };
        }),
    };
  }

  /**
   * Publish many messages, in batches; the receipts cover all of them, which are numbered from 0. It goes as fast as
   * the peers take them; what comes of an async iterable while a batch is written joins the next.
   */
  async publishMany(topic: string, messages: Messages, options: PublishManyOptions = {}): Promise<PublishReceipts[]> {
    const { minimumPeers = 0, returnMessageIds = false } = options;
    const bundling = convert.bundling(options.bundling);
    const how = { topic, signing: convert.signing(options.signing), minimumPeers, bundling, returnMessageIds };
    const bulk = {
      path: PUBLISH_MANY.path,
      head: PUBLISH_MANY.encode(PublishManyRequest.fromPartial(how)),
      item: PUBLISH_ITEM,
      parse: publishReceipts,
      part: (receipts: PublishReceipts, offset: number, first: number, count: number) => {
        const messageIds = receipts.messageIds.slice(offset, offset + count);
        return { ...receipts, first, count, messageIds };
      },
      tooLarge: (first: number): PublishReceipts => {
        return { first, count: 1, outcome: "TOO_LARGE", peers: 0, dropped: 0, messageIds: [] };
      },
      same: (one: PublishReceipts, other: PublishReceipts) =>
        one.outcome === other.outcome &&
        one.peers === other.peers &&
        one.dropped === other.dropped &&
        other.messageIds.length === 0,
    };
    return await transfer(this.#link, bulk, messages, options);
  }

  /**
   * A subscription to topics: iterate over it, or see `Subscription`. What this node's apps publish once it is in force
   * arrives, and what others publish once they have heard of it. Nothing older comes without a cursor, nor again after
   * a restart of the sidecar. Messages of one publisher come in its order, but for those that were lost on their way
   * and fetched again.
   */
  subscribe(topics: string | Iterable<string>, options: SubscribeOptions = {}): Subscription {
    return new Subscription(this.#link, topics, options);
  }

  /**
   * Judge messages of some topics before anybody gets them. Resolves once they wait for the judge's verdicts;
   * `Validator` says how to end it.
   */
  async validate(topics: string | Iterable<string>, judge: Judge, options: ValidateOptions = {}): Promise<Validator> {
    return await Validator.start(this.#link, topics, judge, options);
  }

  /** The topics that this node or its peers subscribe to. */
  async topics(options: CallOptions = {}): Promise<Topic[]> {
    const { topics } = await this.#link.unary(LIST_TOPICS, {}, options, true);
    return topics.map(convert.topic);
  }

  /** The rules that messages are judged by there, in order, and what each has kept back. */
  async rules(options: CallOptions = {}): Promise<Rule[]> {
    return listRules(this.#link, options);
  }

  /**
   * Replace the rules that were set at run time; those of the node's file stay.
   *
   * @param rules - TOML, as in a file of rules; empty: none
   */
  async setRules(rules: string, options: CallOptions = {}): Promise<void> {
    return setRules(this.#link, rules, options);
  }

  /**
   * Measure how long messages on a topic take to reach the others: answers as they come, and the summary last. Apps
   * get none of its messages.
   *
   * @throws NotFound where nobody is in the topic, Unreachable where no peer of it is connected, NotSupported where
   * such peers do not know probes, ResourceExhausted, InvalidArgument.
   */
  async *probe(topic: string, options: ProbeOptions = {}): AsyncGenerator<ProbeAnswer | ProbeSummary, void, void> {
    const { signal, messages = 0, answers = 0, size = 0, exposed = false } = options;
    const request = ProbeRequest.fromPartial({ topic, messages, answers, size, exposed });
    request.signing = convert.signing(options.signing);
    if (options.interval !== undefined) {
      request.interval = convert.duration(options.interval, "interval");
    }
    const until = deadline(options);
    const channel = await this.#link.ready(this.#link.reconnect ? PATIENCE : 0, until, signal);
    const call = this.#link.stream(channel, PROBE.path, until);
    const stop = onAbort(signal, (reason) => {
      call.cancel(reason);
    });
    try {
      void call.write(PROBE.encode(request));
      call.halfClose();
      for (let response = await call.read(); response !== undefined; response = await call.read()) {
        const told = PROBE.decode(response);
        yield* told.answers.map(convert.probeAnswer);
        if (told.summary !== undefined) {
          yield convert.probeSummary(told.summary);
        }
      }
    } finally {
      stop();
      call.cancel(new Closed("the probe has been given up"));
    }
  }

  // ------------------------------------------------------------ discovery

  /** Advertise a name through the DHT until it is closed. Resolves with the first announcement. */
  async advertise(name: string, options: AdvertiseOptions = {}): Promise<Advertisement> {
    return await Advertisement.start(this.#link, name, options);
  }

  /** The peers that advertise a name, each once, as they are found; ends when the search does. */
  async *findPeers(
    name: string,
    options: CallOptions & { limit?: number } = {},
  ): AsyncGenerator<FoundPeer, void, void> {
    const { signal } = options;
    const until = deadline(options);
    const channel = await this.#link.ready(this.#link.reconnect ? PATIENCE : 0, until, signal);
    const call = this.#link.stream(channel, FIND_PEERS.path, until);
    const stop = onAbort(signal, (reason) => {
      call.cancel(reason);
    });
    try {
      void call.write(FIND_PEERS.encode({ name, limit: options.limit ?? 0 }));
      call.halfClose();
      for (let response = await call.read(); response !== undefined; response = await call.read()) {
        for (const { peerId, addresses } of FIND_PEERS.decode(response).peers) {
          yield { peerId, addresses };
        }
      }
    } finally {
      stop();
      call.cancel(new Closed("the search has been given up"));
    }
  }

  /**
   * Put a record `/namespace/name` into the DHT.
   *
   * @param options - `quorum`: how many other peers must take it; default: any number.
   * @throws InvalidArgument, TooLarge, Outdated, NoQuorum.
   */
  async putRecord(
    key: Payload,
    value: Payload,
    options: CallOptions & { quorum?: number } = {},
  ): Promise<RecordReceipt> {
    const request = {
      key: convert.bytes(key, "key"),
      value: convert.bytes(value, "value"),
      quorum: options.quorum ?? 0,
    };
    const { stored, asked } = await this.#link.unary(PUT_RECORD, request, options);
    return { stored, asked };
  }

  /**
   * Get a record from the DHT: the best value of those that peers have.
   *
   * @param options - `quorum`: how many values end the search early; default 3.
   * @throws NotFound, InvalidArgument.
   */
  async getRecord(key: Payload, options: CallOptions & { quorum?: number } = {}): Promise<DhtRecord> {
    const request = { key: convert.bytes(key, "key"), quorum: options.quorum ?? 0 };
    return convert.record(await this.#link.unary(GET_RECORD, request, options, true));
  }
}
