/** Who the sidecar refuses, and whose connections it never closes for their number. */

import { duration, optionalMilliseconds } from "./convert.js";
import { type Ban as BanMessage, PeerServiceDefinition } from "./generated/sidecar/v1/peer.js";
import { type Link, method } from "./link.js";
import type { CallOptions } from "./types.js";

/** A peer, or an IP address or network, that the sidecar refuses; the other of the two is empty. */
export interface Ban {
  /** The peer id, base58. */
  readonly peerId: string;
  /** The IP address or network. */
  readonly network: string;
  /** Why, as given. */
  readonly reason: string;
  /** When it was banned; undefined for entries of deny lists. */
  readonly createTime: number | undefined;
  /** When it ends; undefined: not by itself. */
  readonly expireTime: number | undefined;
  /** Whether it stands in a deny list of the sidecar's configuration. */
  readonly configured: boolean;
  /** How many connections and dials it has refused since the sidecar started. */
  readonly refused: number;
}

/** What came of a ban. */
export interface Banned {
  /** The bans: two where a peer and a network were given. */
  readonly bans: readonly Ban[];
  /** How many connections were closed for it. */
  readonly connectionsClosed: number;
  /** Sentences about what else there is to know, such as that a bootstrap peer is banned. */
  readonly warnings: readonly string[];
}

/** What to refuse beside or instead of a peer, why, and for how long. */
export interface BanOptions extends CallOptions {
  /** An IP address, or a network such as `192.0.2.0/24`. */
  network?: string;
  /** Why, for those who look at the ban later. */
  reason?: string;
  /** Milliseconds until it ends by itself; default: never. */
  duration?: number;
}

/** Whose ban to lift beside or instead of a peer's. */
export interface AllowOptions extends CallOptions {
  /** The IP address or network, as it was banned. */
  network?: string;
}

const PEER = PeerServiceDefinition;
const BAN_PEER = method(PEER, PEER.methods.banPeer);
const ALLOW_PEER = method(PEER, PEER.methods.allowPeer);
const LIST_BANS = method(PEER, PEER.methods.listBans);
const PROTECT_PEER = method(PEER, PEER.methods.protectPeer);
const UNPROTECT_PEER = method(PEER, PEER.methods.unprotectPeer);

const ban = (message: BanMessage): Ban => ({
  peerId: message.peerId,
  network: message.network,
  reason: message.reason,
  createTime: optionalMilliseconds(message.createTime),
  expireTime: optionalMilliseconds(message.expireTime),
  configured: message.configured,
  refused: Number(message.refused),
});

/** The methods of `Client` that are about this. */
export class Bans {
  readonly #link: Link;

  constructor(link: Link) {
    this.#link = link;
  }

  async ban(peerId: string, options: BanOptions): Promise<Banned> {
    const { network = "", reason = "" } = options;
    const lasts = options.duration === undefined ? undefined : duration(options.duration, "duration");
    const response = await this.#link.unary(BAN_PEER, { peerId, network, reason, duration: lasts }, options, true);
    return { ...response, bans: response.bans.map(ban) };
  }

  async allow(peerId: string, options: AllowOptions): Promise<string[]> {
    const { warnings } = await this.#link.unary(ALLOW_PEER, { peerId, network: options.network ?? "" }, options);
    return warnings;
  }

  async *list(options: CallOptions): AsyncGenerator<Ban, void, void> {
    let pageToken = "";
    do {
      const response = await this.#link.unary(LIST_BANS, { pageSize: 0, pageToken }, options, true);
      yield* response.bans.map(ban);
      pageToken = response.nextPageToken;
    } while (pageToken !== "");
  }

  async protect(peerId: string, options: CallOptions): Promise<string[]> {
    return (await this.#link.unary(PROTECT_PEER, { peerId }, options, true)).warnings;
  }

  async unprotect(peerId: string, options: CallOptions): Promise<string[]> {
    return (await this.#link.unary(UNPROTECT_PEER, { peerId }, options, true)).warnings;
  }
}
