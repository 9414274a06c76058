/** Where the sidecar is, and what is shown to it. */

import { lstatSync, readFileSync, statSync } from "node:fs";
import { userInfo } from "node:os";
import { resolve } from "node:path";

import { ChannelCredentials, experimental } from "@grpc/grpc-js";

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

/** A variable without the end of a line, which files of variables written elsewhere leave there. */
function variable(environment: Environment, name: string): string {
  return (environment[name] ?? "").replace(/[\r\n]+$/, "");
}

/**
 * The target given, else that of `SIDECAR_API`, else the socket of `SIDECAR_API_SOCKET`, which tells a sidecar where to
 * serve, else the default one (docs/clients.md).
 */
export function findTarget(given: string | undefined, environment: Environment = process.env): Target {
  if (given) {
    return parseTarget(given, "the argument of connect", environment);
  }
  const named = variable(environment, "SIDECAR_API");
  if (named) {
    return parseTarget(named, "SIDECAR_API", environment);
  }
  const configured = variable(environment, "SIDECAR_API_SOCKET");
  if (configured) {
    return socketTarget(configured, "SIDECAR_API_SOCKET", environment);
  }
  const directory = defaultDirectory(environment);
  checkOurs(directory);
  return socketTarget(`${directory}/api.sock`, "the default socket", environment);
}

/** Where a sidecar of this user serves when nothing says otherwise; nothing is tried out. */
function defaultDirectory(environment: Environment): string {
  const runtime = variable(environment, "XDG_RUNTIME_DIR");
  if (runtime.startsWith("/")) {
    return `${runtime.replace(/\/+$/, "")}/sidecar`;
  }
  const temporary = variable(environment, "TMPDIR");
  const there = temporary.startsWith("/") && isDirectory(temporary);
  return `${there ? temporary.replace(/\/+$/, "") : "/tmp"}/sidecar-${process.getuid?.() ?? 0}`;
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false; // not there, or not to be looked at
  }
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

function parseTarget(text: string, origin: string, environment: Environment): Target {
  const path = /^unix:(?:\/\/)?(.+)$/s.exec(text)?.[1] ?? (/^(\/|\.\/|\.\.\/|~\/)/.test(text) ? text : undefined);
  if (path !== undefined) {
    return socketTarget(path, origin, environment);
  }
  const [, scheme, host, port] = /^(tls:\/\/)?(\[[0-9a-fA-F:.]+\]|[^:/[\]\s]+):(\d{1,5})$/.exec(text) ?? [];
  if (host === undefined || Number(port) > 65_535 || Number(port) === 0) {
    throw new InvalidArgument(
      `${JSON.stringify(text)} (${origin}) is no target: unix:PATH, a path that begins with / ./ ../ or ~/, HOST:PORT ` +
        "or tls://HOST:PORT",
      { field: "target" },
    );
  }
  const tls = scheme !== undefined;
  const local = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/i.test(host);
  return { text, origin, address: `dns:${host}:${port ?? ""}`, tls, local };
}

/** The socket at a path, which is taken as it is: nothing in it is an escape. */
function socketTarget(given: string, origin: string, environment: Environment): Target {
  const path = wholePath(given, origin, environment);
  if (path.includes("\0")) {
    throw new InvalidArgument(`the path of a Unix socket holds no NUL: ${shown(path)} (${origin})`, {
      field: "target",
    });
  }
  const size = Buffer.byteLength(path);
  if (size > MAX_PATH) {
    // Node would connect to the path cut off.
    throw new InvalidArgument(
      `the path of a Unix socket has at most ${MAX_PATH} bytes, this one has ${size}: ${shown(path)}`,
      { field: "target" },
    );
  }
  return { text: `unix:${shown(path)}`, origin, address: socketAddress(path), tls: false, local: true };
}

/**
 * A path from the root on: a relative one would be another when the app changes its directory. `~` at the beginning is
 * the home directory. `..` stays, for it may lead out of a symbolic link.
 */
function wholePath(given: string, origin: string, environment: Environment): string {
  let path = given;
  if (path === "~" || path.startsWith("~/")) {
    const home = homeDirectory(environment);
    if (home === undefined) {
      throw new InvalidArgument(
        `${shown(path)} (${origin}) is in the home directory: this user has none, and HOME is not set`,
        { field: "target" },
      );
    }
    path = home + path.slice(1);
  } else if (!path.startsWith("/")) {
    path = `${currentDirectory(path, origin)}/${path}`;
  }
  return (
    "/" +
    path
      .split("/")
      .filter((part) => part !== "" && part !== ".")
      .join("/")
  );
}

function currentDirectory(path: string, origin: string): string {
  try {
    return process.cwd();
  } catch (error) {
    const what = `${shown(path)} (${origin}) counts from the current directory, which is gone`;
    throw new InvalidArgument(what, { field: "target", cause: error });
  }
}

/** `HOME`, else that of the system's list of users. */
function homeDirectory(environment: Environment): string | undefined {
  const home = variable(environment, "HOME");
  if (home.startsWith("/")) {
    return home;
  }
  try {
    const { homedir } = userInfo(); // which does not look at HOME, and throws for a user without a name
    return homedir.startsWith("/") ? homedir : undefined;
  } catch {
    return undefined;
  }
}

/** A path for people and logs: one line of text. */
function shown(path: string): string {
  return JSON.stringify(path).slice(1, -1).replaceAll('\\"', '"').replaceAll("\\\\", "\\");
}

const HEX = "sidecar-hex";

/** As gRPC takes it, which reads targets by a pattern that holds no ends of lines. */
function socketAddress(path: string): string {
  return /[\n\r\u2028\u2029]/.test(path) ? `${HEX}:${Buffer.from(path).toString("hex")}` : `unix:${path}`;
}

/** Resolves what `socketAddress` has made of a path with ends of lines. */
class HexResolver implements experimental.Resolver {
  readonly #listener: experimental.ResolverListener;
  readonly #path: string;
  #told = false;

  constructor(target: { path: string }, listener: experimental.ResolverListener) {
    this.#listener = listener;
    this.#path = Buffer.from(target.path, "hex").toString();
  }

  updateResolution(): void {
    if (!this.#told) {
      this.#told = true;
      const value = [{ addresses: [{ path: this.#path }] }];
      process.nextTick(() => this.#listener({ ok: true, value }, {}, null, ""));
    }
  }

  destroy(): void {
    this.#told = false;
  }

  static getDefaultAuthority(): string {
    return "localhost";
  }
}

experimental.registerResolver(HEX, HexResolver);

/**
 * What encrypts connections. The files are read for each; while they are away or do not fit together, as for a moment
 * when certificates are replaced, what was read last counts.
 */
export class Tls {
  readonly #on: boolean;
  readonly #paths: Record<keyof TlsOptions, string>;
  #last: Record<keyof TlsOptions, Buffer | null> | undefined;

  /** @throws InvalidArgument when a file cannot be read or used. */
  constructor(target: Target, options: TlsOptions, environment: Environment = process.env) {
    const path = (option: keyof TlsOptions) => {
      const given = options[option] ?? variable(environment, `SIDECAR_TLS_${option.toUpperCase()}`);
      return given && resolve(given); // the app may change its directory
    };
    this.#on = target.tls;
    this.#paths = target.tls ? { ca: path("ca"), cert: path("cert"), key: path("key") } : { ca: "", cert: "", key: "" };
    this.credentials();
  }

  credentials(): ChannelCredentials {
    if (!this.#on) {
      return ChannelCredentials.createInsecure();
    }
    try {
      const { ca, cert, key } = this.#paths;
      const read = (path: string, field: string) => (path ? readGiven(path, field) : null);
      const files = { ca: read(ca, "tls.ca"), cert: read(cert, "tls.cert"), key: read(key, "tls.key") };
      const made = ChannelCredentials.createSsl(files.ca, files.key, files.cert);
      this.#last = files;
      return made;
    } catch (error) {
      if (this.#last !== undefined) {
        return ChannelCredentials.createSsl(this.#last.ca, this.#last.key, this.#last.cert);
      }
      if (error instanceof InvalidArgument) {
        throw error;
      }
      throw new InvalidArgument(`the TLS files cannot be used: ${String(error)}`, { field: "tls", cause: error });
    }
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
    const text = options ? given.token : variable(environment, "SIDECAR_TOKEN");
    const file = options ? given.tokenFile : variable(environment, "SIDECAR_TOKEN_FILE");
    this.#text = text ? checked(text, "token") : undefined;
    this.#file = file ? resolve(file) : undefined; // the app may change its directory
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
