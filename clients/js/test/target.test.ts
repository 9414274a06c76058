import assert from "node:assert/strict";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import os, { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { connect, InvalidArgument, SidecarUnavailable } from "../src/index.js";
import { findTarget, Tls, Token } from "../src/target.js";
import { FakeSidecar } from "./fake.js";

const GOOD: [string, Partial<ReturnType<typeof findTarget>>][] = [
  ["unix:/run/api.sock", { text: "unix:/run/api.sock", address: "unix:/run/api.sock", local: true, tls: false }],
  ["unix:///run/api.sock", { text: "unix:/run/api.sock", address: "unix:/run/api.sock" }],
  ["/run/api.sock", { text: "unix:/run/api.sock", address: "unix:/run/api.sock" }],
  ["./api.sock", { text: `unix:${join(process.cwd(), "api.sock")}` }],
  ["localhost:4000", { text: "localhost:4000", address: "dns:localhost:4000", local: true, tls: false }],
  ["127.3.2.1:1", { local: true }],
  ["[::1]:4000", { address: "dns:[::1]:4000", local: true }],
  ["10.0.0.1:4000", { local: false, tls: false }],
  ["localhost.example.org:4000", { local: false }],
  [
    "tls://node.example.org:443",
    { text: "tls://node.example.org:443", address: "dns:node.example.org:443", tls: true },
  ],
];

test("targets of every form", () => {
  for (const [text, wanted] of GOOD) {
    const target = findTarget(text);
    for (const [name, value] of Object.entries(wanted)) {
      assert.equal(target[name as keyof typeof target], value, `${text}: ${name}`);
    }
  }
});

test("what is no target is said to be none", () => {
  for (const text of ["nonsense", "host", "host:port", "http://x:1", "host:70000", ":1", "unix:", "a b:1", "::1:2"]) {
    assert.throws(
      () => findTarget(text),
      (error) => error instanceof InvalidArgument && error.field === "target" && error.message.includes(text),
      text,
    );
  }
});

test("a path that is too long for a socket is refused, wherever it comes from", (t) => {
  const most = process.platform === "linux" ? 107 : 103;
  const fits = "/" + "p".repeat(most - 1);
  assert.equal(findTarget(fits).address, `unix:${fits}`);
  const long = "/" + "ü".repeat(most / 2) + "p".repeat(2); // counted in bytes
  const size = Buffer.byteLength(long);
  assert.ok(size > most && long.length < most);
  const refused = (error: unknown) =>
    error instanceof InvalidArgument &&
    error.field === "target" &&
    error.message === `the path of a Unix socket has at most ${most} bytes, this one has ${size}: ${long}`;
  assert.throws(() => findTarget(long), refused);
  assert.throws(() => findTarget(`unix:${long}`), refused);
  assert.throws(() => findTarget(undefined, { SIDECAR_API: `unix:${long}` }), refused);
  assert.throws(() => findTarget(undefined, { XDG_RUNTIME_DIR: "/" + "r".repeat(most) }), InvalidArgument);

  const folder = mkdtempSync(join(tmpdir(), "x".repeat(100)));
  const before = process.cwd();
  t.after(() => {
    process.chdir(before);
    rmSync(folder, { recursive: true });
  });
  process.chdir(folder);
  assert.throws(() => findTarget("./api.sock"), InvalidArgument); // as a whole it is too long
});

test("the environment names the target, else it is the default socket of a directory that is ours", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "target-"));
  t.after(() => {
    rmSync(folder, { recursive: true });
  });
  assert.equal(findTarget(undefined, { SIDECAR_API: "localhost:1" }).origin, "SIDECAR_API");
  const environment = { SIDECAR_API: "", XDG_RUNTIME_DIR: folder };
  const target = findTarget(undefined, environment);
  assert.deepEqual([target.text, target.origin], [`unix:${folder}/sidecar/api.sock`, "the default socket"]);
  mkdirSync(join(folder, "sidecar"), { mode: 0o700 });
  assert.equal(findTarget(undefined, environment).text, target.text);
  chmodSync(join(folder, "sidecar"), 0o777);
  assert.throws(
    () => findTarget(undefined, environment),
    (error) => error instanceof SidecarUnavailable && error.message.includes("not trusted"),
  );
  const elsewhere = findTarget(undefined, { XDG_RUNTIME_DIR: "not/absolute" });
  const ours = `sidecar-${process.getuid?.() ?? 0}/api.sock`;
  assert.equal(elsewhere.text, `unix:/tmp/${ours}`);
  const temporary = (TMPDIR: string) => findTarget(undefined, { TMPDIR, TEMP: folder, TMP: folder }).text;
  assert.equal(temporary(`${folder}//\r\n`), `unix:${folder}/${ours}`);
  for (const odd of ["", "relative", `${folder}/away`, import.meta.filename]) {
    assert.equal(temporary(odd), `unix:/tmp/${ours}`, odd);
  }
  const told = findTarget(undefined, { SIDECAR_API_SOCKET: "~/a.sock\r\n", HOME: "/home/me\n" });
  assert.deepEqual([told.text, told.origin], ["unix:/home/me/a.sock", "SIDECAR_API_SOCKET"]);
  assert.equal(findTarget(undefined, { SIDECAR_API_SOCKET: "host:1" }).text, `unix:${process.cwd()}/host:1`); // a path
  assert.equal(findTarget(undefined, { SIDECAR_API: "localhost:1\r" }).text, "localhost:1");
});

test("a token comes from an option, else from the environment, and a file is read again when it changes", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "token-"));
  t.after(() => {
    rmSync(folder, { recursive: true });
  });
  const file = join(folder, "token");
  writeFileSync(file, "one\n");
  assert.equal(new Token({}, {}).get(), undefined);
  assert.equal(new Token({}, { SIDECAR_TOKEN: "env" }).get(), "env");
  assert.equal(new Token({ token: "given" }, { SIDECAR_TOKEN: "env" }).get(), "given");
  const token = new Token({}, { SIDECAR_TOKEN_FILE: file });
  assert.equal(token.get(), "one");
  writeFileSync(file, "another");
  assert.equal(token.get(), "another");
  writeFileSync(file, ""); // being written anew
  assert.equal(token.get(), "another");
  rmSync(file);
  assert.equal(token.get(), "another");
  assert.throws(() => new Token({ tokenFile: file }, {}).get(), InvalidArgument);
  writeFileSync(file, "third");
  assert.equal(token.get(), "third");
  assert.throws(() => new Token({ token: "two words" }, {}), InvalidArgument);
});

test("TLS files that cannot be read or used are named", () => {
  const target = findTarget("tls://localhost:1");
  assert.throws(
    () => new Tls(target, { ca: "/nowhere/ca.pem" }, {}),
    (error) => error instanceof InvalidArgument && error.field === "tls.ca",
  );
  assert.throws(() => new Tls(target, {}, { SIDECAR_TLS_CERT: import.meta.filename }), InvalidArgument);
});

test("TLS files that are away or broken for a moment count as they were read last", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "tls-"));
  t.after(() => {
    rmSync(folder, { recursive: true });
  });
  const ca = join(folder, "ca.pem");
  copyFileSync(join(import.meta.dirname, "../../test/certificates/ca.pem"), ca);
  const tls = new Tls(findTarget("tls://localhost:1"), { ca }, {});
  rmSync(ca);
  assert.ok(tls.credentials()._isSecure());
  writeFileSync(ca, "no certificate");
  assert.ok(tls.credentials()._isSecure());
});

test("a path that has its home directory from nowhere is refused with a sentence", (t) => {
  t.mock.method(os, "userInfo", () => {
    throw new Error("ENOENT: no such user");
  });
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.reset();
    syncBuiltinESMExports();
  });
  assert.throws(
    () => findTarget("~/a.sock", {}),
    /~\/a\.sock .* is in the home directory: this user has none, and HOME/,
  );
  assert.equal(findTarget("/a.sock", {}).text, "unix:/a.sock");
});

test("every path that a socket can have works", async (t) => {
  for (const name of ["per%41cent", "a?b", "a#b", "a@b:c", "a b", "a\nb", "ü\u2028", "a\\b", '"', "%", "unix:x"]) {
    const sidecar = new FakeSidecar();
    const path = join(sidecar.folder, name);
    await sidecar.start();
    renameSync(sidecar.path, path);
    for (const target of [path, `unix:${path}`]) {
      const node = await connect(target, { wait: 2000 });
      assert.equal((await node.info()).peerId, "me", name);
      await node.close();
    }
    sidecar.close();
  }
  t.diagnostic("connected");
});
