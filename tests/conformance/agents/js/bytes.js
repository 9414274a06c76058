/** Byte streams: the operations on one that is open. */

import { createHash } from "node:crypto";

import { generated, INLINE, payload, shown } from "./values.js";

export class Bytes {
  #stream;
  #abort;

  constructor(stream, abort) {
    this.#stream = stream;
    this.#abort = abort;
    stream.on("error", () => undefined); // each operation is told by itself
  }

  async write(request) {
    const { run } = request;
    if (run === undefined) {
      const data = payload(request.data);
      await this.#write(data);
      return { bytes: data.length };
    }
    for (let number = 0; number < run.count; number += 1) {
      await this.#write(generated(run.seed, number, run.size));
    }
    return { bytes: run.count * run.size };
  }

  #write(data) {
    return new Promise((resolve, reject) => {
      this.#stream.write(data, (error) => (error ? reject(error) : resolve()));
    });
  }

  async read_bytes({ size }) {
    const whole = createHash("sha256");
    const head = [];
    let count = 0;
    while (size === undefined || count < size) {
      const piece = await this.#read(size === undefined ? undefined : size - count);
      if (piece === null) {
        break;
      }
      whole.update(piece);
      count += piece.length;
      if (count <= INLINE) {
        head.push(piece);
      }
    }
    const data = count <= INLINE ? shown(Buffer.concat(head)) : { size: count, sha256: whole.digest("hex") };
    return { data, ended: this.#stream.readableEnded };
  }

  /** Some bytes, at most so many, or null at the end. */
  async #read(size) {
    const stream = this.#stream;
    for (;;) {
      const there = stream.readableLength;
      const piece = stream.read(size === undefined || there === 0 ? undefined : Math.min(size, there));
      if (piece !== null) {
        if (size !== undefined && piece.length > size) {
          stream.unshift(piece.subarray(size));
          return piece.subarray(0, size);
        }
        return piece;
      }
      if (stream.readableEnded) {
        return null;
      }
      if (stream.destroyed) {
        throw stream.failure;
      }
      await new Promise((resolve) => {
        const events = ["readable", "end", "error", "close"];
        const done = () => {
          events.forEach((event) => stream.off(event, done));
          resolve();
        };
        events.forEach((event) => stream.once(event, done));
      });
    }
  }

  async close_write() {
    await new Promise((resolve, reject) => {
      this.#stream.end((error) => (error ? reject(error) : resolve()));
    });
    return {};
  }

  async reset() {
    this.#stream.destroy();
    return {};
  }

  cancel() {
    this.#abort.abort();
  }

  /** Close in order: our end, then what the peer still says is dropped. */
  async close() {
    const stream = this.#stream;
    if (stream.destroyed) {
      return;
    }
    const closed = new Promise((resolve) => stream.once("close", resolve));
    stream.end();
    stream.resume();
    await closed;
  }

  async left() {
    // its client has told the stream
  }
}
