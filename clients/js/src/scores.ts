/** What the sidecar thinks of peers in gossip. */

import { duration } from "./convert.js";
import { PeerServiceDefinition } from "./generated/sidecar/v1/peer.js";
import { type Link, method } from "./link.js";
import type { CallOptions } from "./types.js";

/** For how long. */
export interface ScoreOptions extends CallOptions {
  /** Milliseconds; default: as long as the sidecar knows the peer. */
  duration?: number;
}

const SET_PEER_SCORE = method(PeerServiceDefinition, PeerServiceDefinition.methods.setPeerScore);

/** @internal */
export async function setScore(link: Link, peerId: string, score: number, options: ScoreOptions): Promise<void> {
  const lasts = options.duration === undefined ? undefined : duration(options.duration, "duration");
  await link.unary(SET_PEER_SCORE, { peerId, score, duration: lasts }, options, true);
}
