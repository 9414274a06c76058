package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
)

// call is an operation that is one call, or many of one kind at the same time.
type call func(context.Context, *sidecar.Client, *request) (any, error)

var calls = map[string]call{
	"info": func(ctx context.Context, node *sidecar.Client, _ *request) (any, error) {
		info, err := node.Info(ctx)
		return fields{
			"peer_id": info.PeerID, "network": info.Network, "agent": info.Agent, "version": info.Version,
			"listening_addresses": list(info.ListeningAddresses), "announced_addresses": list(info.AnnouncedAddresses),
			"observed_addresses": list(info.ObservedAddresses), "start_time_ms": moment(info.StartTime),
			"uptime_ms": inMilliseconds(info.Uptime), "api_engine": info.APIEngine,
		}, err
	},
	"readiness": func(ctx context.Context, node *sidecar.Client, _ *request) (any, error) {
		found, err := node.Readiness(ctx)
		return readiness(found), err
	},
	"ready": func(ctx context.Context, node *sidecar.Client, _ *request) (any, error) {
		found, err := node.Ready(ctx)
		return readiness(found), err
	},
	"statistics": func(ctx context.Context, node *sidecar.Client, _ *request) (any, error) {
		found, err := node.Statistics(ctx)
		histograms := fields{}
		for name, histogram := range found.Histograms {
			histograms[name] = fields{
				"upper_bounds": list(histogram.UpperBounds), "counts": list(histogram.Counts), "sum": histogram.Sum,
			}
		}
		return fields{"values": found.Values, "histograms": histograms}, err
	},
	"configuration": func(ctx context.Context, node *sidecar.Client, _ *request) (any, error) {
		found, err := node.Configuration(ctx)
		entries := []fields{}
		for _, entry := range found {
			entries = append(entries, fields{
				"name": entry.Name, "value": entry.Value, "source": entry.Source, "reloadable": entry.Reloadable,
			})
		}
		return fields{"entries": entries}, err
	},
	"set_log_level": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		levels, err := node.SetLogLevel(ctx, asked.Part, asked.Level)
		if levels.Parts == nil {
			levels.Parts = map[string]string{}
		}
		return fields{"level": levels.Level, "parts": levels.Parts}, err
	},
	"peers": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		var options []sidecar.PeersOption
		if asked.ConnectedOnly {
			options = append(options, sidecar.WithConnectedOnly())
		}
		if asked.Protocol != "" {
			options = append(options, sidecar.WithProtocol(asked.Protocol))
		}
		found := []fields{}
		for known, err := range node.Peers(ctx, options...) {
			if err != nil {
				return nil, err
			}
			found = append(found, peer(known))
		}
		return fields{"peers": found}, nil
	},
	"peer": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		found, err := node.Peer(ctx, asked.PeerID)
		return fields{"peer": peer(found)}, err
	},
	"closest_peers": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		var options []sidecar.ClosestPeersOption
		if asked.Limit != nil {
			options = append(options, sidecar.WithLimit(*asked.Limit))
		}
		if asked.PeerID != "" {
			options = append(options, sidecar.WithPeerID(asked.PeerID))
		}
		var key payload
		if asked.Key != nil {
			key = *asked.Key
		}
		found, err := node.ClosestPeers(ctx, string(key), options...)
		peers := []fields{}
		for _, one := range found {
			peers = append(peers, fields{"peer_id": one.PeerID, "addresses": list(one.Addresses)})
		}
		return fields{"peers": peers}, err
	},
	"find_peer": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		addresses, err := node.FindPeer(ctx, asked.PeerID)
		return fields{"addresses": list(addresses)}, err
	},
	"connect_peer": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		found, err := node.ConnectPeer(ctx, asked.PeerID, asked.Addresses...)
		return fields{"peer": peer(found)}, err
	},
	"disconnect_peer": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		return fields{}, node.DisconnectPeer(ctx, asked.PeerID)
	},
	"ping_peer": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		latency, err := node.PingPeer(ctx, asked.PeerID)
		return fields{"latency_ms": inMilliseconds(latency)}, err
	},
	"ban_peer": banPeer,
	"allow_peer": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		warnings, err := node.AllowPeer(ctx, asked.PeerID, asked.Network)
		return fields{"warnings": list(warnings)}, err
	},
	"bans": func(ctx context.Context, node *sidecar.Client, _ *request) (any, error) {
		found := []fields{}
		for known, err := range node.Bans(ctx) {
			if err != nil {
				return nil, err
			}
			found = append(found, ban(known))
		}
		return fields{"bans": found}, nil
	},
	"protect_peer": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		warnings, err := node.ProtectPeer(ctx, asked.PeerID)
		return fields{"warnings": list(warnings)}, err
	},
	"unprotect_peer": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		warnings, err := node.UnprotectPeer(ctx, asked.PeerID)
		return fields{"warnings": list(warnings)}, err
	},
	"set_peer_score": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		var lasts time.Duration
		if asked.Duration != nil {
			lasts = milliseconds(*asked.Duration)
		}
		return fields{}, node.SetPeerScore(ctx, asked.PeerID, asked.Score, lasts)
	},
	"rules": func(ctx context.Context, node *sidecar.Client, _ *request) (any, error) {
		rules, err := node.Rules(ctx)
		found := []fields{}
		for _, rule := range rules {
			counts := []fields{}
			for _, count := range rule.Counts {
				counts = append(counts, fields{"topic": count.Topic, "limit": count.Limit, "messages": count.Messages})
			}
			found = append(found, fields{
				"name": rule.Name, "topics": list(rule.Topics), "description": rule.Description,
				"configured": rule.Configured, "counts": counts,
			})
		}
		return fields{"rules": found}, err
	},
	"set_rules": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		return fields{}, node.SetRules(ctx, asked.Rules)
	},
	"topics": func(ctx context.Context, node *sidecar.Client, _ *request) (any, error) {
		topics, err := node.Topics(ctx)
		found := []fields{}
		for _, topic := range topics {
			found = append(found, fields{
				"name": topic.Name, "subscribed": topic.Subscribed, "signing": topic.Signing.String(), "peers": topic.Peers,
				"mesh_peer_ids": list(topic.MeshPeerIDs), "subscribers": topic.Subscribers, "history_messages": topic.HistoryMessages,
				"delivered": topic.Delivered, "published": topic.Published, "duplicates": topic.Duplicates,
				"rejected": topic.Rejected, "dropped": topic.Dropped,
				"delivered_bytes": topic.DeliveredBytes, "published_bytes": topic.PublishedBytes,
				"scoring": topic.Scoring, "history": topic.History.String(), "stored_messages": topic.StoredMessages,
				"stored_bytes": topic.StoredBytes, "oldest_time_ms": moment(topic.OldestTime),
				"complete_since_ms": moment(topic.CompleteSince), "complete_until_ms": moment(topic.CompleteUntil),
				"history_gap": topic.HistoryGap,
			})
		}
		return fields{"topics": found}, err
	},
	"put_record": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		receipt, err := node.PutRecord(ctx, string(asked.Key.bytes()), asked.Value.bytes(), quorum(asked)...)
		return fields{"stored": receipt.Stored, "asked": receipt.Asked}, err
	},
	"get_record": func(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
		record, err := node.GetRecord(ctx, string(asked.Key.bytes()), quorum(asked)...)
		return fields{
			"value": shown(record.Value), "holders": record.Holders, "expires_at_ms": moment(record.ExpiresAt),
			"publisher": record.Publisher, "sequence": strconv.FormatUint(record.Sequence, 10),
		}, err
	},
	"send":         send,
	"request":      ask,
	"publish":      publish,
	"send_many":    sendMany,
	"publish_many": publishMany,
}

func quorum(asked *request) []sidecar.RecordOption {
	if asked.Quorum == nil {
		return nil
	}
	return []sidecar.RecordOption{sidecar.WithQuorum(*asked.Quorum)}
}

func banPeer(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
	var options []sidecar.BanOption
	if asked.Reason != "" {
		options = append(options, sidecar.WithReason(asked.Reason))
	}
	if asked.Duration != nil {
		options = append(options, sidecar.WithDuration(time.Duration(*asked.Duration*float64(time.Millisecond))))
	}
	banned, err := node.BanPeer(ctx, asked.PeerID, asked.Network, options...)
	bans := []fields{}
	for _, made := range banned.Bans {
		bans = append(bans, ban(made))
	}
	return fields{"bans": bans, "connections_closed": banned.ConnectionsClosed, "warnings": list(banned.Warnings)}, err
}

func ban(known sidecar.Ban) fields {
	return fields{
		"peer_id": known.PeerID, "network": known.Network, "reason": known.Reason, "create_time_ms": moment(known.CreateTime),
		"expire_time_ms": moment(known.ExpireTime), "configured": known.Configured, "refused": known.Refused,
	}
}

func readiness(found sidecar.Readiness) fields {
	conditions := []fields{}
	for _, condition := range found.Conditions {
		conditions = append(conditions, fields{
			"type": condition.Type, "met": condition.Met, "reason": condition.Reason, "message": condition.Message,
			"remedy": condition.Remedy, "since_ms": moment(condition.Since),
		})
	}
	return fields{"ready": found.Ready, "conditions": conditions}
}

func peer(found sidecar.Peer) fields {
	return fields{
		"peer_id": found.PeerID, "connected": found.Connected, "direction": found.Direction.String(),
		"addresses": list(found.Addresses), "remote_address": found.RemoteAddress, "protocols": list(found.Protocols),
		"agent": found.Agent, "protocol_version": found.ProtocolVersion, "identified": found.Identified,
		"latency_ms":      unless(found.Latency == 0, inMilliseconds(found.Latency)),
		"connect_time_ms": moment(found.ConnectTime), "connections": found.Connections, "protected": found.Protected,
		"score": score(found.Score), "path": found.Path.String(), "path_time_ms": moment(found.PathTime),
		"known_addresses": knownAddresses(found.KnownAddresses),
	}
}

func knownAddresses(found []sidecar.PeerAddress) []fields {
	known := []fields{}
	for _, each := range found {
		known = append(known, fields{
			"address": each.Address, "origin": each.Origin.String(),
			"last_success_ms": moment(each.LastSuccess), "last_failure_ms": moment(each.LastFailure),
		})
	}
	return known
}

func score(found *sidecar.PeerScore) any {
	if found == nil {
		return nil
	}
	topics := []fields{}
	for _, topic := range found.Topics {
		topics = append(topics, fields{
			"topic": topic.Topic, "time_in_mesh": topic.TimeInMesh, "first_deliveries": topic.FirstDeliveries,
			"mesh_deliveries": topic.MeshDeliveries, "mesh_failures": topic.MeshFailures,
			"invalid_messages": topic.InvalidMessages,
		})
	}
	return fields{
		"score": found.Score, "standing": found.Standing.String(), "reason": found.Reason, "topics": topics,
		"application": found.Application, "colocation": found.Colocation, "behaviour": found.Behaviour, "slow": found.Slow,
	}
}

// all waits for the results of calls that were made at the same time: by number, and the errors counted.
func all[R any](count int, wait func(number int) (R, error)) (results []*R, failed map[string]int, cancelled error) {
	results = make([]*R, count)
	failed = map[string]int{}
	for number := range count {
		result, err := wait(number)
		switch {
		case err == nil:
			results[number] = &result
		case errors.Is(err, context.Canceled):
			cancelled = err
		default:
			failed[described(err)["type"].(string)]++
		}
	}
	return results, failed, cancelled
}

// inParallel makes a call for each payload, each in a goroutine of its own, which begin in order as far as Go lets them.
func inParallel[R any](made *run, one func(data []byte) (R, error)) func(number int) (R, error) {
	type outcome struct {
		result R
		err    error
	}
	outcomes := make([]chan outcome, made.Count)
	for number := range made.Count {
		data := made.payload(number)
		outcomes[number] = make(chan outcome, 1)
		begun := make(chan struct{})
		go func() {
			close(begun)
			result, err := one(data)
			outcomes[number] <- outcome{result, err}
		}()
		<-begun
	}
	return func(number int) (R, error) {
		found := <-outcomes[number]
		return found.result, found.err
	}
}

// inOrder makes a call for each payload, one behind the other, by the methods that do not wait.
func inOrder[R any](made *run, one func(data []byte) *sidecar.Pending[R]) func(number int) (R, error) {
	pending := make([]*sidecar.Pending[R], made.Count)
	for number := range made.Count {
		pending[number] = one(made.payload(number))
	}
	return func(number int) (R, error) { return pending[number].Wait() }
}

func send(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
	var options []sidecar.SendOption
	if asked.RequestID != nil {
		options = append(options, sidecar.WithRequestID(*asked.RequestID))
	}
	if asked.Durable {
		options = append(options, sidecar.WithDurable(0))
	}
	if asked.Run == nil {
		receipt, err := node.Send(ctx, asked.PeerID, asked.Protocol, asked.Data.bytes(), options...)
		return fields{
			"outcome": receipt.Outcome.String(), "detail": receipt.Detail, "message_id": messageID(receipt.MessageID),
		}, err
	}
	receipts, failed, err := all(asked.Run.Count, inOrder(asked.Run, func(data []byte) *sidecar.Pending[sidecar.SendReceipt] {
		return node.SendAsync(ctx, asked.PeerID, asked.Protocol, data, options...)
	}))
	outcomes := map[string]int{}
	for _, receipt := range receipts {
		if receipt != nil {
			outcomes[receipt.Outcome.String()]++
		}
	}
	return fields{"outcomes": outcomes, "errors": failed}, err
}

func ask(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
	traced := sidecar.WithTraceparent(asked.Traceparent)
	if asked.Run == nil {
		answer, err := node.Request(ctx, asked.PeerID, asked.Protocol, asked.Data.bytes(), traced)
		return fields{"data": shown(answer)}, err
	}
	results, failed, err := all(asked.Run.Count, inParallel(asked.Run, func(data []byte) (string, error) {
		answer, err := node.Request(ctx, asked.PeerID, asked.Protocol, data, traced)
		if string(answer) == string(data) {
			return "same", err
		}
		return "different", err
	}))
	outcomes := map[string]int{}
	for _, result := range results {
		if result != nil {
			outcomes[*result]++
		}
	}
	return fields{"outcomes": outcomes, "errors": failed}, err
}

func publish(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
	var options []sidecar.PublishOption
	if asked.Signing != nil {
		options = append(options, sidecar.WithSigning(named[sidecar.Signing](*asked.Signing)))
	}
	if asked.MinimumPeers != nil {
		options = append(options, sidecar.WithMinimumPeers(*asked.MinimumPeers))
	}
	if asked.Bundling != nil {
		options = append(options, sidecar.WithBundling(named[sidecar.Bundling](*asked.Bundling)))
	}
	if asked.RequestID != nil {
		options = append(options, sidecar.WithRequestID(*asked.RequestID))
	}
	one := func(data []byte) (sidecar.PublishReceipt, error) {
		return node.Publish(ctx, asked.Topic, data, options...)
	}
	if asked.Run == nil {
		receipt, err := one(asked.Data.bytes())
		return fields{
			"outcome": receipt.Outcome.String(), "message_id": receipt.MessageID, "peers": receipt.Peers, "dropped": receipt.Dropped,
		}, err
	}
	receipts, failed, err := all(asked.Run.Count, inOrder(asked.Run, func(data []byte) *sidecar.Pending[sidecar.PublishReceipt] {
		return node.PublishAsync(ctx, asked.Topic, data, options...)
	}))
	outcomes := map[string]int{}
	ids := newDigest()
	for _, receipt := range receipts {
		if receipt != nil {
			outcomes[receipt.Outcome.String()]++
			ids.add(receipt.MessageID)
		}
	}
	return fields{"outcomes": outcomes, "errors": failed, "ids_digest": ids.hex()}, err
}

// waiting gives payloads by a channel that nobody closes.
func waiting(ctx context.Context, asked *request) <-chan []byte {
	messages := make(chan []byte)
	go func() {
		for data := range asked.payloads() {
			select {
			case messages <- data:
			case <-ctx.Done(): // the operation is over
				return
			}
		}
	}()
	return messages
}

func sendMany(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
	var receipts []sidecar.SendReceipts
	var err error
	if asked.ThenWait {
		receipts, err = node.SendFrom(ctx, asked.PeerID, asked.Protocol, waiting(ctx, asked))
	} else {
		receipts, err = node.SendMany(ctx, asked.PeerID, asked.Protocol, asked.payloads())
	}
	found := []fields{}
	for _, receipt := range receipts {
		found = append(found, fields{
			"first": receipt.First, "count": receipt.Count, "outcome": receipt.Outcome.String(), "detail": receipt.Detail,
		})
	}
	return fields{"receipts": found}, err
}

func publishMany(ctx context.Context, node *sidecar.Client, asked *request) (any, error) {
	var options []sidecar.PublishManyOption
	if asked.Signing != nil {
		options = append(options, sidecar.WithSigning(named[sidecar.Signing](*asked.Signing)))
	}
	if asked.MinimumPeers != nil {
		options = append(options, sidecar.WithMinimumPeers(*asked.MinimumPeers))
	}
	if asked.Bundling != nil {
		options = append(options, sidecar.WithBundling(named[sidecar.Bundling](*asked.Bundling)))
	}
	if asked.MessageIDs {
		options = append(options, sidecar.WithMessageIDs())
	}
	var receipts []sidecar.PublishReceipts
	var err error
	if asked.ThenWait {
		receipts, err = node.PublishFrom(ctx, asked.Topic, waiting(ctx, asked), options...)
	} else {
		receipts, err = node.PublishMany(ctx, asked.Topic, asked.payloads(), options...)
	}
	found := []fields{}
	ids := newDigest()
	for _, receipt := range receipts {
		found = append(found, fields{
			"first": receipt.First, "count": receipt.Count, "outcome": receipt.Outcome.String(), "peers": receipt.Peers,
			"dropped": receipt.Dropped,
		})
		for _, id := range receipt.MessageIDs {
			ids.add(id)
		}
	}
	return fields{"receipts": found, "ids_digest": unless(!asked.MessageIDs, ids.hex())}, err
}
