/**
 * Keeps what is gossiped on some topics in an SQLite database, each message exactly once.
 *
 *     node ingest.js DATABASE TOPIC...
 *
 * The subscription's cursor is written in the same transaction as the messages before it: whatever is killed whenever,
 * the next start continues behind the last message that the database has. What the sidecar could not keep meanwhile is
 * written down too, in the table `gaps`. SIDECAR_API says where the sidecar is. The examples in Go and Python keep the
 * same tables: one continues where another was.
 */

import { connect } from "@p2p-sidecar/client";
// What Node has as `node:sqlite` from version 22 on.
import { DatabaseSync } from "@photostructure/sqlite";

const SCHEMA = `
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY,  -- in order of arrival
    topic TEXT NOT NULL,
    message_id BLOB NOT NULL,
    sender TEXT NOT NULL,
    data BLOB NOT NULL,
    receive_time REAL NOT NULL,  -- seconds since 1970
    UNIQUE (topic, message_id)  -- a sidecar that has restarted may bring what its predecessor brought
);
CREATE TABLE IF NOT EXISTS gaps (behind INTEGER NOT NULL, missed INTEGER, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS place (topics TEXT PRIMARY KEY, cursor BLOB NOT NULL);
`;

/** The database. */
class Store {
  #topics;
  #database;
  #message;
  #gap;
  #place;

  constructor(path, topics) {
    this.#topics = topics.join("\n"); // a cursor belongs to what was subscribed to
    this.#database = new DatabaseSync(path);
    this.#database.exec("PRAGMA journal_mode = WAL");
    this.#database.exec(SCHEMA);
    this.#message = this.#database.prepare(
      "INSERT OR IGNORE INTO messages (topic, message_id, sender, data, receive_time) VALUES (?, ?, ?, ?, ?)",
    );
    this.#gap = this.#database.prepare("INSERT INTO gaps SELECT coalesce(max(number), 0), ?, ? FROM messages");
    this.#place = this.#database.prepare("INSERT OR REPLACE INTO place VALUES (?, ?)");
  }

  /** Behind the last message kept; empty in a new database. */
  cursor() {
    const row = this.#database.prepare("SELECT cursor FROM place WHERE topics = ?").get(this.#topics);
    return row?.cursor ?? new Uint8Array();
  }

  /** Write a batch and the place behind it: both or neither. */
  keep({ lagged, messages }, cursor) {
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      if (lagged !== undefined) {
        this.#gap.run(lagged.missed ?? null, lagged.reason);
      }
      for (const { topic, messageId, sender, data, receiveTime } of messages) {
        this.#message.run(topic, messageId, sender, data, receiveTime / 1000);
      }
      this.#place.run(this.#topics, cursor);
      this.#database.exec("COMMIT");
    } catch (error) {
      this.#database.exec("ROLLBACK");
      throw error;
    }
  }

  close() {
    this.#database.close();
  }
}

async function ingest(path, topics, signal) {
  const store = new Store(path, topics);
  try {
    const node = await connect({ signal });
    try {
      const news = await node.subscribe(topics, { cursor: store.cursor(), signal }).open();
      console.log(`keeping ${topics.join(", ")} in ${path}`);
      // While a batch is being written, the next ones wait in the sidecar.
      for await (const batch of news.batches()) {
        store.keep(batch, news.cursor);
      }
    } finally {
      await node.close();
    }
  } finally {
    store.close();
  }
}

const [path, ...topics] = process.argv.slice(2);
if (topics.length === 0) {
  console.error("node ingest.js DATABASE TOPIC...");
  process.exit(1);
}
const ending = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => ending.abort());
}
try {
  await ingest(path, topics, ending.signal);
} catch (error) {
  if (!ending.signal.aborted) {
    console.error(`ingest: ${error.message}`);
    process.exitCode = 1;
  }
}
