/** What travels on the lines: payloads, digests, times, errors, and the library's values. */

import { createHash } from "node:crypto";

import { SidecarError } from "../../../../clients/js/dist/index.js";

/** Bytes of a payload that are shown; of a longer one only its digest. */
export const INLINE = 1024;
const TIMES = new Set([
  "uptime",
  "startTime",
  "since",
  "latency",
  "connectTime",
  "pathTime",
  "lastSuccess",
  "lastFailure",
  "createTime",
  "expireTime",
  "receiveTime",
  "nextAnnouncement",
  "expiresAt",
  "timeLeft",
  "time",
  "oldestTime",
  "completeSince",
  "completeUntil",
]);
const TEXTS = new Set(["messageId", "cursor"]);

/** The runner asked for what there is not. */
export class Fault extends Error {}

export function generated(seed, number, size) {
  if (size === 0) {
    return Buffer.alloc(0);
  }
  return createHash("shake128", { outputLength: size }).update(`${seed}/${number}`).digest();
}

/** A payload as the runner gives it. */
export function payload(given) {
  return typeof given === "string" ? Buffer.from(given, "base64") : generated(given.seed, 0, given.size);
}

/** Those of `messages` or `run`, one by one. */
export function* payloads({ run, messages }) {
  if (run === undefined) {
    yield* messages.map(payload);
    return;
  }
  for (let number = 0; number < run.count; number += 1) {
    yield generated(run.seed, number, run.size);
  }
}

/** A payload as the runner wants it. */
export function shown(data) {
  if (data.length <= INLINE) {
    return data.toString("base64");
  }
  return { size: data.length, sha256: createHash("sha256").update(data).digest("hex") };
}

/** The digest of several byte strings. */
export class Digest {
  #hash = createHash("sha256");

  add(data) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(data.length);
    this.#hash.update(length).update(data);
  }

  hex() {
    return this.#hash.digest("hex");
  }
}

/** A value of the library: its fields, times in milliseconds, bytes in base64. */
export function plain(value) {
  if (value === undefined) {
    return null;
  }
  if (typeof value === "bigint") {
    return String(value);
  }
  if (Buffer.isBuffer(value)) {
    return value.toString("base64");
  }
  if (Array.isArray(value)) {
    return value.map(plain);
  }
  if (value === null || typeof value !== "object") {
    return value;
  }
  const found = {};
  for (const [name, field] of Object.entries(value)) {
    const snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    if (field instanceof AbortSignal) {
      continue; // the handler's, not for the runner
    } else if (TIMES.has(name)) {
      found[`${snake}_ms`] = field ?? null;
    } else {
      found[snake] = Buffer.isBuffer(field) && !TEXTS.has(name) ? shown(field) : plain(field);
    }
  }
  return found;
}

/** An error as the runner wants it. */
export function described(error) {
  if (error?.name === "AbortError") {
    return { type: "Cancelled", kinds: ["Cancelled"], message: "" };
  }
  if (!(error instanceof SidecarError)) {
    const name = error instanceof Fault ? "AgentError" : (error?.constructor?.name ?? "Error");
    return { type: name, kinds: [name], message: String(error?.stack ?? error) };
  }
  const kinds = [];
  for (let kind = error.constructor; kind !== Error; kind = Object.getPrototypeOf(kind)) {
    kinds.push(kind.name);
  }
  return {
    type: error.name,
    kinds,
    message: error.message,
    reason: error.reason ?? null,
    field: error.field ?? null,
    retry_after_ms: error.retryAfter ?? null,
    code: error.code ?? null,
  };
}
