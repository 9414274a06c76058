/**
 * A chat for people in terminals: everybody on the topic `chat`, from any language.
 *
 *     node chat.js NAME [TARGET]
 *
 * A message is JSON in UTF-8: {"from": "ann", "text": "hello"}. The end of the input (Ctrl-D) ends it.
 */

import { createInterface } from "node:readline";

import { connect, Lagged } from "@p2p-sidecar/client";

const TOPIC = "chat";

/** Who says what; undefined when it is no chat message. */
function read(message) {
  try {
    const { from, text } = JSON.parse(message.data.toString());
    return from === undefined || text === undefined ? undefined : { from: String(from), text: String(text) };
  } catch {
    return undefined;
  }
}

/** Without what could steer the terminal. */
const printable = (text) => text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");

/** Print what others say, and where something was missed. */
async function listen(news, name, peerId) {
  for await (const event of news.events()) {
    if (event instanceof Lagged) {
      console.log(`(${event})`);
      continue;
    }
    const said = read(event);
    // Our own stands there already.
    if (said !== undefined && !(said.from === name && event.sender === peerId)) {
      console.log(`${printable(said.from)}: ${printable(said.text)}`);
    }
  }
}

const [name, target] = process.argv.slice(2);
if (name === undefined) {
  console.error("node chat.js NAME [TARGET]");
  process.exit(1);
}
const node = await connect(target);
const news = await node.subscribe(TOPIC).open();
const listening = listen(news, name, (await node.info()).peerId);
console.log(`You are ${name}. Type, and end with Ctrl-D.`);
for await (const line of createInterface({ input: process.stdin })) {
  const text = line.trim();
  if (text !== "") {
    const receipt = await node.publish(TOPIC, JSON.stringify({ from: name, text }));
    if (receipt.outcome === "NO_PEERS") {
      console.log("(nobody else is connected yet)");
    }
  }
}
news.close();
await listening;
await node.close();
