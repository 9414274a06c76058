/** What one request holds. */

import { TooLarge } from "./errors.js";

const MAX_REQUEST = 4 << 20; // bytes of a request, of a sidecar that does not say
const LEAST_REQUEST = 65_536; // that every sidecar takes
const BATCH_BYTES = 262_144;
const BATCH_MESSAGES = 4096;
const HEAD = 4096; // bytes left for what a request says beside its messages: a topic of 1024 bytes, a peer, a protocol
const EACH = 96; // bytes that a message takes beside its data, with a request id of 64 bytes
const ALONE_BYTES = 1_000_000;

/** The bounds of one request. */
export interface Frames {
  /** Bytes of data. */
  readonly size: number;
  /** Messages. */
  readonly messages: number;
  /** Bytes of a message that has a request of its own. */
  readonly largest: number;
  /** Larger messages go by a call of their own, so that one which the sidecar does not take harms no others. */
  readonly alone: number;
}

/** For requests of at most so many bytes: three quarters of it are for data, one for what goes around it. */
export function within(maxRequest: number): Frames {
  const room = Math.max(maxRequest - HEAD, 1024);
  const largest = room - EACH;
  return {
    size: Math.min(BATCH_BYTES, Math.floor((room * 3) / 4)),
    messages: Math.min(BATCH_MESSAGES, Math.max(Math.floor(room / 4 / EACH), 1)),
    largest,
    alone: Math.min(ALONE_BYTES, largest),
  };
}

/** For a sidecar that has not said yet what it takes. */
export const USUAL = within(MAX_REQUEST);
const least = within(LEAST_REQUEST);
/** For one that says nothing at all: batches that every sidecar takes, and what is larger by itself. */
export const CAUTIOUS: Frames = { ...least, largest: USUAL.largest, alone: least.size };

/** The words about a message that no request can hold. */
export function overBound(size: number, { largest }: Frames): string {
  return `message of ${size} bytes, and a request to this sidecar holds one of at most ${largest}`;
}

/** Their error. */
export function tooLarge(size: number, frames: Frames): TooLarge {
  return new TooLarge(overBound(size, frames), { reason: "TOO_LARGE", code: "INVALID_ARGUMENT" });
}
