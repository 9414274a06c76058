/**
 * Makes `dist`, where it is not there or older than its sources. npm runs this before it packs the folder, and when
 * another package installs the folder, which is then a link: npm brings nothing that the folder needs, so this does.
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const FOLDER = dirname(dirname(fileURLToPath(import.meta.url)));
const SOURCES = join(FOLDER, "src");
const DIST = join(FOLDER, "dist");
const require = createRequire(join(FOLDER, "package.json"));

/** What the app that called npm has set for itself, and would be wrong in here. */
const NOT_OURS = /^npm_config_(global|location|prefix|local_prefix|dry_run|omit|include|only|production|workspaces?)$/i;

function there(...names) {
  try {
    names.forEach((name) => require.resolve(name));
    return true;
  } catch {
    return false;
  }
}

function run(command, words) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !NOT_OURS.test(name)));
  // npm's standard output may be read by a program (`npm pack --json`).
  const { status, error } = spawnSync(command, words, {
    cwd: FOLDER,
    env,
    stdio: ["ignore", process.stderr, "inherit"],
  });
  if (status !== 0) {
    console.error(`${command} ${words.join(" ")} failed in ${FOLDER}${error ? `: ${error.message}` : ""}`);
    process.exit(1);
  }
}

function npm(...words) {
  const ours = process.env.npm_execpath ?? "";
  if (/npm-cli\.[cm]?js$/.test(ours)) {
    run(process.execPath, [ours, ...words]); // the one that called, which need not be the one of PATH
  } else {
    run("npm", words);
  }
}

function isStale() {
  const built = statSync(join(DIST, "index.js"), { throwIfNoEntry: false });
  const sources = readdirSync(SOURCES, { recursive: true }).map((name) => statSync(join(SOURCES, name)).mtimeMs);
  return built === undefined || built.mtimeMs < Math.max(...sources);
}

function build() {
  // Beside, and then put in its place: what is interrupted leaves no half of a package.
  const made = join(FOLDER, "build", `dist-${process.pid}`);
  const old = `${made}-old`;
  mkdirSync(dirname(made), { recursive: true });
  try {
    run(process.execPath, [require.resolve("typescript/bin/tsc"), "-p", "tsconfig.build.json", "--outDir", made]);
    if (existsSync(DIST)) {
      renameSync(DIST, old);
    }
    renameSync(made, DIST);
  } finally {
    rmSync(made, { recursive: true, force: true });
    rmSync(old, { recursive: true, force: true });
  }
}

if (existsSync(SOURCES)) {
  const stale = isStale();
  const needed = [
    "@grpc/grpc-js",
    "@bufbuild/protobuf/wire",
    ...(stale ? ["typescript", "@types/node/package.json"] : []),
  ];
  if (!there(...needed)) {
    npm("ci", "--include=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error");
  }
  if (stale) {
    build();
  }
}
