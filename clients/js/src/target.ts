/** Where the sidecar is, and what is shown to it. */

import { lstatSync, readFileSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";

import { ChannelCredentials } from "@grpc/grpc-js";

import { InvalidArgument, SidecarUnavailable } from "./errors.js";

/** Files in PEM format for a `tls://` target. */
export interface TlsOptions {
  /** The authorities that may have signed the server's certificate; default `SIDECAR_TLS_CA`, else the system's. */
  ca?: string;
  /** The client's own certificate; default `SIDECAR_TLS_CERT`. */
  cert?: string;
  /** Its key; default `SIDECAR_TLS_KEY`. */
  key?: string;
}

/** A place where a sidecar serves. */
export interface Target {
  /** As a person writes it. */
  readonly text: string;
  /** Who named it. */
  readonly origin: string;
  /** As gRPC wants it. */
  readonly address: string;
  readonly tls: boolean;
  /** Whether what is said to it stays on this machine. */
  readonly local: boolean;
}

/** Bytes in the path of a Unix socket: what the kernel's `sun_path` holds beside the final zero. */
const MAX_PATH = process.platform === "linux" ? 107 : 103;

type Environment = Record<string, string | undefined>;

/** The target given, else `SIDECAR_API`, else the default socket. */
export function findTarget(given: string | undefined, environment: Environment = process.env): Target {
  if (given) {
    return parseTarget(given, "the argument of connect");
  }
  const named = environment["SIDECAR_API"];
  if (named) {
    return parseTarget(named, "SIDECAR_API");
  }
  const runtime = environment["XDG_RUNTIME_DIR"] ?? "";
  const directory = isAbsolute(runtime)
    ? join(runtime, "sidecar")
    : join(tmpdir(), `sidecar-${process.getuid?.() ?? 0}`);
  checkOurs(directory);
  return parseTarget(join(directory, "api.sock"), "the default socket");
}

/** Another user must not be able to pose as our sidecar. */
function checkOurs(directory: string): void {
  const found = lstatSync(directory, { throwIfNoEntry: false });
  if (found === undefined) {
    return; // nobody serves there; connecting will say so
  }
  if (!found.isDirectory() || found.uid !== process.getuid?.() || found.mode & 0o022) {
    throw new SidecarUnavailable(`${directory} is not a directory that only this user can write to; it is not trusted`);
  }
}

function parseTarget(text: string, origin: string): Target {
  const path = /^unix:(?:\/\/(?=\/))?(.+)$/s.exec(text)?.[1] ?? (/^(\/|\.\/|\.\.\/)/.test(text) ? text : undefined);
  if (path !== undefined) {
    return { text: `unix:${path}`, origin, address: `unix:${socketPath(path)}`, tls: false, local: true };
  }
  const [, scheme, host, port] = /^(tls:\/\/)?(\[[0-9a-fA-F:.]+\]|[^:/[\]\s]+):(\d{1,5})$/.exec(text) ?? [];
  if (host === undefined || Number(port) > 65_535) {
    throw new InvalidArgument(
      `${JSON.stringify(text)} (${origin}) is no target: unix:PATH, a path, HOST:PORT or tls://HOST:PORT`,
      { field: "target" },
    );
  }
  const tls = scheme !== undefined;
  const local = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/i.test(host);
  return { text, origin, address: `dns:${host}:${port ?? ""}`, tls, local };
}

/** A path that sockets may have, absolute where that is short enough: the app may change its directory. */
function socketPath(path: string): string {
  const absolute = resolve(path);
  if (Buffer.byteLength(absolute) <= MAX_PATH) {
    return absolute;
  }
  const size = Buffer.byteLength(path);
  if (size > MAX_PATH) {
    // Node would connect to the path cut off.
    throw new InvalidArgument(
      `the path of a Unix socket has at most ${MAX_PATH} bytes, this one has ${size}: ${path}`,
      {
        field: "target",
      },
    );
  }
  return path;
}

/** What encrypts the connection; the files are read again for each. */
export function credentials(
  target: Target,
  options: TlsOptions,
  environment: Environment = process.env,
): ChannelCredentials {
  if (!target.tls) {
    return ChannelCredentials.createInsecure();
  }
  const read = (option: keyof TlsOptions) => {
    const path = options[option] ?? environment[`SIDECAR_TLS_${option.toUpperCase()}`];
    return path ? readGiven(path, `tls.${option}`) : null;
  };
  try {
    return ChannelCredentials.createSsl(read("ca"), read("key"), read("cert"));
  } catch (error) {
    if (error instanceof InvalidArgument) {
      throw error;
    }
    throw new InvalidArgument(`the TLS files cannot be used: ${String(error)}`, { field: "tls", cause: error });
  }
}

function readGiven(path: string, field: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new InvalidArgument(`${field} cannot be read: ${String(error)}`, { field, cause: error });
  }
}

/**
 * A token from an option, a file or the environment. A file is read again when it has changed; while it is away, cannot
 * be read or is empty, as it is for a moment when it is written anew, what was read last counts.
 */
export class Token {
  readonly #text: string | undefined;
  readonly #file: string | undefined;
  #seen = "";
  #read: string | undefined;

  constructor(given: { token?: string; tokenFile?: string }, environment: Environment = process.env) {
    const options = given.token !== undefined || given.tokenFile !== undefined;
    const text = options ? given.token : environment["SIDECAR_TOKEN"];
    const file = options ? given.tokenFile : environment["SIDECAR_TOKEN_FILE"];
    this.#text = text ? checked(text, "token") : undefined;
    this.#file = file === "" ? undefined : file;
  }

  /** Whether there is one at all. */
  get given(): boolean {
    return this.#text !== undefined || this.#file !== undefined;
  }

  /** The token as it is now; undefined where none is given. */
  get(): string | undefined {
    if (this.#text !== undefined || this.#file === undefined) {
      return this.#text;
    }
    try {
      const found = statSync(this.#file, { throwIfNoEntry: false });
      const seen = found ? `${found.ino} ${found.size} ${found.mtimeMs}` : "";
      if (this.#read === undefined || seen !== this.#seen) {
        this.#read = checked(readGiven(this.#file, "tokenFile").toString(), "tokenFile");
        this.#seen = seen;
      }
    } catch (error) {
      if (this.#read === undefined) {
        throw error;
      }
    }
    return this.#read;
  }
}

function checked(text: string, field: string): string {
  const token = text.trim();
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new InvalidArgument(`the ${field} is no token: printable ASCII without spaces`, { field });
  }
  return token;
}
