/** A name that is advertised for as long as it is held. */

import type { ChannelInterface } from "@grpc/grpc-js";

import type { Call } from "./call.js";
import { checkText, checkTime } from "./checks.js";
import { announcement, duration } from "./convert.js";
import { Closed } from "./errors.js";
import { DiscoveryServiceDefinition } from "./generated/sidecar/v1/discovery.js";
import { type Link, method } from "./link.js";
import { Reading } from "./reading.js";
import { request, Stream } from "./stream.js";
import type { Announcement, StreamOptions } from "./types.js";
import { now } from "./waiting.js";

/** How to advertise. */
export interface AdvertiseOptions extends StreamOptions {
  /** Milliseconds after which it ends by itself; default: never. */
  ttl?: number;
}

const ADVERTISE = method(DiscoveryServiceDefinition, DiscoveryServiceDefinition.methods.advertise);

class Announcements extends Stream {
  protected override readonly greets = true;
  readonly #name: string;
  readonly #until: number;
  /** Its time is over. */
  expired = false;

  constructor(link: Link, name: string, options: AdvertiseOptions) {
    super(link, `advertising ${name}`, options);
    this.#name = name;
    checkText(name, "name");
    checkTime(options.ttl ?? 0, "ttl");
    this.#until = options.ttl ? now() + options.ttl : Infinity;
  }

  protected override begin(channel: ChannelInterface): Call {
    const ttl = this.#until === Infinity ? undefined : duration(Math.max(1, this.#until - now()), "ttl");
    return request(this.link, channel, ADVERTISE.path, ADVERTISE.encode({ name: this.#name, ttl }));
  }

  protected override ended(): Error {
    this.expired = true;
    return new Closed("the advertisement's time is over");
  }

  protected override worthAnother(error: unknown): boolean {
    return !this.expired && super.worthAnother(error);
  }

  async read(): Promise<Announcement> {
    for (;;) {
      const response = await this.next();
      if (response !== undefined) {
        return announcement(ADVERTISE.decode(response));
      }
    }
  }

  get finished(): boolean {
    return this.over || this.expired;
  }

  get clientClosed(): boolean {
    return this.link.closed;
  }
}

/** A name that is advertised until this is closed or its `ttl` is over, also over restarts of the sidecar. */
export class Advertisement {
  readonly #stream: Announcements;
  #last: Announcement;
  #ended: { error?: unknown } | undefined;
  #news: (() => void)[] = [];
  #asked = false;

  private constructor(stream: Announcements, first: Announcement) {
    this.#stream = stream;
    this.#last = first;
    void this.#keep();
  }

  /** @internal */
  static async start(link: Link, name: string, options: AdvertiseOptions): Promise<Advertisement> {
    const stream = new Announcements(link, name, options);
    return new Advertisement(stream, await stream.read());
  }

  /** The last announcement. */
  get announcement(): Announcement {
    return this.#last;
  }

  /**
   * The last announcement, then every further one; of those that come too fast the newest. Ends with the advertisement;
   * leaving the loop does not end that.
   */
  announcements(): AsyncIterableIterator<Announcement, undefined> {
    this.#asked = true;
    let told: Announcement | undefined;
    const take = () => {
      const last = this.#last === told ? undefined : this.#last;
      told = this.#last;
      return last;
    };
    const fill = async () => {
      if (this.#ended === undefined) {
        await new Promise<void>((resolve) => this.#news.push(resolve));
        return true;
      }
      if ("error" in this.#ended) {
        throw this.#ended.error;
      }
      return false;
    };
    return new Reading(fill).iterator(take);
  }

  /** End the advertisement. What peers hold goes with its own time. */
  close(): void {
    this.#stream.close();
  }

  /** Ends the advertisement. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Read on, so that a lost stream is opened again. */
  async #keep(): Promise<void> {
    try {
      for (;;) {
        this.#last = await this.#stream.read();
        this.#tell();
      }
    } catch (error) {
      this.#ended = this.#stream.finished ? {} : { error };
      if (!this.#stream.finished && !this.#stream.clientClosed && !this.#asked) {
        const text = `an advertisement has ended: ${String(error)}`;
        process.emitWarning(text, { type: "SidecarWarning", code: "SIDECAR_ENDED" });
      }
      this.#tell();
    }
  }

  #tell(): void {
    for (const resolve of this.#news.splice(0)) {
      resolve();
    }
  }
}
