package main

import (
	"context"
	"fmt"
	"sync"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
)

// post is the deliveries of a stream, numbered from 0.
type post struct {
	mu        sync.Mutex
	delivered []sidecar.DurableMessage
}

func receiveDurable(ctx context.Context, _ *agent, node *sidecar.Client, asked *request) (*feed, error) {
	var options []sidecar.DurableReceiveOption
	if asked.MaxOpen != nil {
		options = append(options, sidecar.WithMaxOpen(*asked.MaxOpen))
	}
	receiver, err := node.ReceiveDurable(ctx, asked.Protocols, options...)
	if err != nil {
		return nil, err
	}
	kept := &post{}
	items := as(receiver.Messages(), func(message sidecar.DurableMessage) any {
		kept.mu.Lock()
		defer kept.mu.Unlock()
		kept.delivered = append(kept.delivered, message)
		return fields{
			"kind": "delivery", "delivery": len(kept.delivered) - 1, "peer_id": message.PeerID, "protocol": message.Protocol,
			"data": shown(message.Data), "attempt": message.Attempt, "message_id": messageID(message.MessageID),
		}
	})
	return &feed{items: items, leave: receiver.Close, post: kept}, nil
}

func (f *feed) settle(ctx context.Context, asked *request) (any, error) {
	if f.post == nil {
		return nil, fault(asked.Stream + " receives nothing durable")
	}
	f.post.mu.Lock()
	count := len(f.post.delivered)
	var message sidecar.DurableMessage
	if asked.Delivery < count {
		message = f.post.delivered[asked.Delivery]
	}
	f.post.mu.Unlock()
	var fresh bool
	var err error
	switch {
	case asked.Delivery >= count:
		err = fault(fmt.Sprintf("there is no delivery %d", asked.Delivery))
	case asked.Reject != nil:
		fresh, err = message.Reject(ctx, *asked.Reject)
	case asked.Delay != nil:
		fresh, err = message.Delay(ctx, milliseconds(*asked.Delay))
	default:
		fresh, err = message.Acknowledge(ctx)
	}
	return fields{"fresh": fresh}, err
}

func watchOutbox(ctx context.Context, _ *agent, node *sidecar.Client, asked *request) (*feed, error) {
	var options []sidecar.WatchOutboxOption
	if asked.FromCursor != nil {
		options = append(options, sidecar.WithOutboxCursor(*asked.FromCursor))
	}
	if asked.PeerID != "" {
		options = append(options, sidecar.WithPeerID(asked.PeerID))
	}
	if asked.Protocol != "" {
		options = append(options, sidecar.WithProtocol(asked.Protocol))
	}
	watch, err := node.WatchOutbox(ctx, options...)
	if err != nil {
		return nil, err
	}
	return &feed{leave: watch.Close, items: as(watch.Events(), func(event sidecar.OutboxEvent) any {
		return fields{
			"kind": "outcome", "cursor": event.Cursor, "peer_id": event.PeerID, "protocol": event.Protocol,
			"message_id": messageID(event.MessageID), "request_id": event.RequestID, "outcome": event.Outcome.String(),
			"reason": event.Reason, "time_ms": moment(event.Time),
		}
	})}, nil
}

// messageID is the name of a durable message; null where there is none.
func messageID(id sidecar.MessageID) any {
	if id == (sidecar.MessageID{}) {
		return nil
	}
	return fields{"incarnation": fmt.Sprint(id.Incarnation), "sequence": id.Sequence}
}
