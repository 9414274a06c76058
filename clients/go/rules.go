package sidecar

import (
	"context"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// Rule is one that messages are judged by there before anybody gets them.
type Rule struct {
	Name   string
	Topics []string
	// Description says what it asks for, a sentence.
	Description string
	// Configured: it is of the node's file; else it was set at run time.
	Configured bool
	Counts     []RuleCount
}

// RuleCount is how many messages broke a rule on a topic, and what of it: max_payload, rate, ...
type RuleCount struct {
	Topic    string
	Limit    string
	Messages uint64
}

// Rules gives the rules that messages are judged by there, in order, and what each has kept back.
func (c *Client) Rules(ctx context.Context) ([]Rule, error) {
	var response sidecarv1.ListRulesResponse
	request := &sidecarv1.ListRulesRequest{}
	err := c.link.unary(ctx, sidecarv1.PubSubService_ListRules_FullMethodName, request, &response, again)
	if err != nil {
		return nil, err
	}
	rules := make([]Rule, 0, len(response.GetRules()))
	for _, rule := range response.GetRules() {
		counts := make([]RuleCount, 0, len(rule.GetCounts()))
		for _, count := range rule.GetCounts() {
			counts = append(counts, RuleCount{count.GetTopic(), count.GetLimit(), count.GetMessages()})
		}
		rules = append(rules, Rule{
			rule.GetName(), rule.GetTopics(), rule.GetDescription(), rule.GetConfigured(), counts,
		})
	}
	return rules, nil
}

// SetRules replaces the rules that were set at run time; those of the node's file stay. rules is TOML, as in a file of
// rules; empty: none. ErrInvalidArgument, which names the line, ErrAlreadyExists, ErrResourceExhausted.
func (c *Client) SetRules(ctx context.Context, rules string) error {
	if err := checkText("rules", rules); err != nil {
		return err
	}
	request := &sidecarv1.SetRulesRequest{Rules: rules}
	return c.link.unary(
		ctx, sidecarv1.PubSubService_SetRules_FullMethodName, request, &sidecarv1.SetRulesResponse{}, again,
	)
}
