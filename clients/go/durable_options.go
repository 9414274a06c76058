package sidecar

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// durable is whether messages are kept, and for how long.
type durable struct {
	on         bool
	timeToLive time.Duration // 0: as configured
}

func (d durable) check() error {
	if d.timeToLive < 0 {
		return badField("durable.time_to_live", "durable.time_to_live is %s, at least 0", d.timeToLive)
	}
	return nil
}

// append adds a Durable as the given field, where messages are to be kept.
func (d durable) append(buffer []byte, field protowire.Number) []byte {
	if !d.on {
		return buffer
	}
	var span []byte
	if d.timeToLive > 0 {
		span = appendNumber(span, 1, uint64(d.timeToLive/time.Second))
		span = appendNumber(span, 2, uint64(d.timeToLive%time.Second))
	}
	inner := appendBytes(nil, 1, span)
	return protowire.AppendBytes(protowire.AppendTag(buffer, field, protowire.BytesType), inner)
}

type (
	// DurableReceiveOption is an option of [Client.ReceiveDurable]: [WithSettleTimeout], [WithMaxDeliveries], [WithMaxOpen].
	DurableReceiveOption interface{ receiveDurable(*callSettings) }
	// WatchOutboxOption is an option of [Client.WatchOutbox]: [WithOutboxCursor], [WithPeerID], [WithProtocol].
	WatchOutboxOption interface{ watchOutbox(*callSettings) }
	// OutboxOption is an option of [Client.Outbox]: [WithPeerID], [WithProtocol].
	OutboxOption interface{ outbox(*callSettings) }
	// WithdrawOption is an option of [Client.Withdraw]: [WithProtocol].
	WithdrawOption interface{ withdraw(*callSettings) }
	// InboxOption is an option of [Client.Inbox]: [WithDeadLetters], [WithData], [WithPeerID], [WithProtocol].
	InboxOption interface{ inbox(*callSettings) }
	// DeadLettersOption is an option of [Client.RetryDeadLetters] and [Client.PurgeDeadLetters]: [WithProtocol].
	DeadLettersOption interface{ deadLetter(*callSettings) }

	// SendingOption goes with sending, one message or many.
	SendingOption interface {
		SendOption
		SendManyOption
	}
	// PeerIDOption goes with what is about one peer.
	PeerIDOption interface {
		ClosestPeersOption
		WatchOutboxOption
		OutboxOption
		InboxOption
	}
	// ProtocolOption goes with what is about one protocol.
	ProtocolOption interface {
		PeersOption
		WatchOutboxOption
		OutboxOption
		WithdrawOption
		InboxOption
		DeadLettersOption
	}
)

func (s setting) receiveDurable(c *callSettings) { s(c) }
func (s setting) watchOutbox(c *callSettings)    { s(c) }
func (s setting) outbox(c *callSettings)         { s(c) }
func (s setting) withdraw(c *callSettings)       { s(c) }
func (s setting) inbox(c *callSettings)          { s(c) }
func (s setting) deadLetter(c *callSettings)     { s(c) }

// WithDurable keeps messages on the sidecar's disk until the peer's app has settled them. The receipt is [SendStored] as soon
// as they are there. timeToLive says how long they are worth delivering; 0: as configured. With [WithRequestID] a repeat
// makes no second message, also after a restart of app and sidecar.
func WithDurable(timeToLive time.Duration) SendingOption {
	return setting(func(c *callSettings) { c.durable = durable{true, timeToLive} })
}

// WithSettleTimeout says after which time a delivery that is not settled comes again, 1 s to a day; by default 30 s.
func WithSettleTimeout(timeout time.Duration) DurableReceiveOption {
	return setting(func(c *callSettings) { c.settleTimeout = &timeout })
}

// WithMaxDeliveries says after how many deliveries without being settled a message is a dead letter; 0: as configured.
func WithMaxDeliveries(deliveries uint32) DurableReceiveOption {
	return setting(func(c *callSettings) { c.maxDeliveries = deliveries })
}

// WithMaxOpen says how many deliveries may be open at once, at most 65,536; 0: 256. With 1, a message is never seen before the
// one ahead of it is settled.
func WithMaxOpen(deliveries uint32) DurableReceiveOption {
	return setting(func(c *callSettings) { c.maxOpen = deliveries })
}

// WithOutboxCursor goes on behind the event with this cursor; 0: from the oldest event that is kept. Without it only new
// events come.
func WithOutboxCursor(cursor uint64) WatchOutboxOption {
	return setting(func(c *callSettings) { c.outboxCursor = &cursor })
}

// WithDeadLetters lists the dead letters in place of what waits for apps.
func WithDeadLetters() InboxOption {
	return setting(func(c *callSettings) { c.deadLetters = true })
}

// WithData lists payloads too.
func WithData() InboxOption {
	return setting(func(c *callSettings) { c.withData = true })
}
