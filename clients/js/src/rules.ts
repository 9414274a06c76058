/** The rules that messages are judged by in the sidecar before anybody gets them. */

import { PubSubServiceDefinition } from "./generated/sidecar/v1/pubsub.js";
import { type Link, method } from "./link.js";
import type { CallOptions } from "./types.js";

/** How many messages broke a rule on a topic. */
export interface RuleCount {
  /** The topic. */
  topic: string;
  /** What of the rule they broke: `max_payload`, `rate`, ... */
  limit: string;
  /** How many. */
  messages: number;
}

/** A rule. */
export interface Rule {
  /** Its name. */
  name: string;
  /** With `*` for any text. */
  topics: string[];
  /** What it asks for, a sentence. */
  description: string;
  /** Whether it is of the node's file; else it was set at run time. */
  configured: boolean;
  /** What broke it. */
  counts: RuleCount[];
}

const LIST_RULES = method(PubSubServiceDefinition, PubSubServiceDefinition.methods.listRules);
const SET_RULES = method(PubSubServiceDefinition, PubSubServiceDefinition.methods.setRules);

/** @internal */
export async function listRules(link: Link, options: CallOptions): Promise<Rule[]> {
  const { rules } = await link.unary(LIST_RULES, {}, options, true);
  return rules.map((rule) => ({
    name: rule.name,
    topics: rule.topics,
    description: rule.description,
    configured: rule.configured,
    counts: rule.counts.map(({ topic, limit, messages }) => ({ topic, limit, messages: Number(messages) })),
  }));
}

/** @internal */
export async function setRules(link: Link, rules: string, options: CallOptions): Promise<void> {
  await link.unary(SET_RULES, { rules }, options, true);
}
