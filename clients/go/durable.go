package sidecar

import (
	"context"
	"iter"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

const (
	mostReason = 1024           // bytes of a rejection, as DurableService has it
	mostDelay  = 24 * time.Hour // as DurableService has it

	directDelivery = 4
)

// DurableMessage is a durable message, to be settled once: by Acknowledge, Reject or Delay. Else it comes again after a
// while. The connection of the two sidecars proves who sent it. Data shares memory as in [Message].
type DurableMessage struct {
	PeerID   string
	Protocol string
	Data     []byte
	// ID is the number of the message in this sidecar's inbox.
	ID uint64
	// Attempt is 1 at the first delivery; above that, one before may have been dealt with.
	Attempt uint32
	// MessageID is the sender's name for it, the same at each attempt.
	MessageID MessageID

	settles *settling
}

// Acknowledge says that the message is dealt with: once this returns it never comes again. False where it has been delivered
// anew since, or is settled already: then nothing happens.
//
// What is settled while a call is under way goes together with the next one. When ctx ends first, it may be settled or not.
func (m DurableMessage) Acknowledge(ctx context.Context) (bool, error) {
	return m.settle(ctx, &sidecarv1.Settlement{Id: m.ID, Attempt: m.Attempt})
}

// Reject refuses the message for good; its sender is told so, and the reason, at most 1024 bytes. False as of Acknowledge.
func (m DurableMessage) Reject(ctx context.Context, reason string) (bool, error) {
	if err := checkText("reject", reason); err != nil {
		return false, err
	}
	if len(reason) > mostReason { // it would be refused with all that go together
		return false, badField("reject", "a reason has at most %d bytes; this one has %d", mostReason, len(reason))
	}
	instead := &sidecarv1.Settlement_Reject{Reject: reason}
	return m.settle(ctx, &sidecarv1.Settlement{Id: m.ID, Attempt: m.Attempt, Instead: instead})
}

// Delay lets the message come again after that time, a day at most, and what is behind it not before. False as of Acknowledge.
func (m DurableMessage) Delay(ctx context.Context, delay time.Duration) (bool, error) {
	if delay < 0 || delay > mostDelay {
		return false, badField("delay", "delay is %s, from 0 to %s", delay, mostDelay)
	}
	instead := &sidecarv1.Settlement_Delay{Delay: durationpb.New(delay)}
	return m.settle(ctx, &sidecarv1.Settlement{Id: m.ID, Attempt: m.Attempt, Instead: instead})
}

func (m DurableMessage) settle(ctx context.Context, settlement *sidecarv1.Settlement) (bool, error) {
	if m.settles == nil {
		return false, badField("id", "this message was not delivered by a DurableReceiver")
	}
	return m.settles.settle(ctx, settlement)
}

// DurableReceiver gives durable messages of some protocols, those of one sender in the order in which they were sent. It
// outlives the sidecar's restarts. What is not settled comes again, also after a lost connection and to the next receiver.
type DurableReceiver struct {
	reader reader[DurableMessage]
}

// ReceiveDurable receives durable messages of some protocols, 1 to 64. It returns when it is in force. ctx holds for its
// whole life. One receiver at a time has a protocol: ErrAlreadyExists.
func (c *Client) ReceiveDurable(
	ctx context.Context, protocols []string, options ...DurableReceiveOption,
) (*DurableReceiver, error) {
	var chosen callSettings
	for _, option := range options {
		option.receiveDurable(&chosen)
	}
	how := &sidecarv1.DurableReceive{MaxDeliveries: chosen.maxDeliveries, MaxOpen: chosen.maxOpen}
	if chosen.settleTimeout != nil {
		if *chosen.settleTimeout < 0 {
			return nil, badField("settle_timeout", "settle_timeout is %s, at least 0", *chosen.settleTimeout)
		}
		how.SettleTimeout = durationpb.New(*chosen.settleTimeout)
	}
	request := &sidecarv1.ReceiveRequest{Protocols: protocols, Durable: how}
	made := &DurableReceiver{}
	var names directNames
	made.reader.parse = func(raw []byte, message *DurableMessage) error {
		return names.parseDurable(raw, message, c.settles)
	}
	made.reader.data = directData
	made.reader.feed = feed{
		link:   c.link,
		name:   "receiving durable " + strings.Join(protocols, ", "),
		method: sidecarv1.DirectService_Receive_FullMethodName,
		desc:   serverStreamCall,
		first:  func() any { return request },
	}
	if err := made.reader.feed.start(ctx); err != nil {
		return nil, err
	}
	return made, nil
}

// Messages gives the messages. It ends without an error when the receiver is closed; an error is the last thing that it gives.
func (r *DurableReceiver) Messages() iter.Seq2[DurableMessage, error] { return r.reader.messages() }

// Next waits for the next message, until ctx ends. That does not end the receiver, and loses nothing. ErrClosed (also
// net.ErrClosed) once it is closed.
func (r *DurableReceiver) Next(ctx context.Context) (DurableMessage, error) {
	event, err := r.reader.next(ctx)
	return event.Message, err
}

// Close ends the receiver; a loop that reads it ends. What it has delivered and the app has not settled comes to the next one.
// It may be called at any time, from any goroutine.
func (r *DurableReceiver) Close() error {
	r.reader.feed.close()
	return nil
}

// parseDurable reads a DirectMessage with its Delivery.
func (n *directNames) parseDurable(raw []byte, message *DurableMessage, settles *settling) error {
	*message = DurableMessage{settles: settles}
	return fields(raw, func(field protowire.Number, data []byte, _ uint64) error {
		switch field {
		case directPeer:
			message.PeerID = n.peers.text(data)
		case directProtocol:
			message.Protocol = n.protocols.text(data)
		case directData:
			message.Data = data[:len(data):len(data)]
		case directDelivery:
			var delivery sidecarv1.Delivery
			if err := proto.Unmarshal(data, &delivery); err != nil {
				return malformed(err)
			}
			message.ID, message.Attempt = delivery.GetId(), delivery.GetAttempt()
			message.MessageID = messageIDOf(delivery.GetMessageId())
		}
		return nil
	})
}

// OutboxWatch tells what becomes of durable messages. It outlives the sidecar's restarts, and goes on where it was. An app that
// keeps the Cursor of the last event that it has dealt with misses none.
type OutboxWatch struct {
	reader reader[OutboxEvent]
}

// WatchOutbox watches what becomes of durable messages that were sent from here: from [WithOutboxCursor] on, else from now on.
// It returns when it is in force. ctx holds for its whole life. ErrOutdated where events behind the cursor are not kept any more.
func (c *Client) WatchOutbox(ctx context.Context, options ...WatchOutboxOption) (*OutboxWatch, error) {
	var chosen callSettings
	for _, option := range options {
		option.watchOutbox(&chosen)
	}
	cursor := chosen.outboxCursor
	made := &OutboxWatch{}
	made.reader.parse = func(raw []byte, event *OutboxEvent) error {
		var message sidecarv1.OutboxEvent
		if err := proto.Unmarshal(raw, &message); err != nil {
			return malformed(err)
		}
		*event = outboxEventOf(&message)
		cursor = &message.Cursor
		return nil
	}
	made.reader.feed = feed{
		link:   c.link,
		name:   "watching the outbox",
		method: sidecarv1.DurableService_WatchOutbox_FullMethodName,
		desc:   serverStreamCall,
		first: func() any {
			return &sidecarv1.WatchOutboxRequest{Cursor: cursor, PeerId: chosen.peerID, Protocol: chosen.protocol}
		},
		greeted: func(raw encoded) error { // noted before there is an event: the call may be lost until then
			var response sidecarv1.WatchOutboxResponse
			if err := proto.Unmarshal(raw, &response); err != nil {
				return malformed(err)
			}
			if response.Cursor != nil {
				cursor = response.Cursor
			}
			return nil
		},
	}
	if err := made.reader.feed.start(ctx); err != nil {
		return nil, err
	}
	return made, nil
}

// Events gives the events. It ends without an error when the watch is closed; an error is the last thing that it gives.
func (w *OutboxWatch) Events() iter.Seq2[OutboxEvent, error] { return w.reader.messages() }

// Next waits for the next event, until ctx ends. That does not end the watch, and loses nothing. ErrClosed (also
// net.ErrClosed) once it is closed.
func (w *OutboxWatch) Next(ctx context.Context) (OutboxEvent, error) {
	event, err := w.reader.next(ctx)
	return event.Message, err
}

// Close ends the watch; a loop that reads it ends. It may be called at any time, from any goroutine.
func (w *OutboxWatch) Close() error {
	w.reader.feed.close()
	return nil
}

// Outbox gives the durable messages that wait for their peers, the oldest first, asking for page after page.
func (c *Client) Outbox(ctx context.Context, options ...OutboxOption) iter.Seq2[OutboxMessage, error] {
	var chosen callSettings
	for _, option := range options {
		option.outbox(&chosen)
	}
	return func(yield func(OutboxMessage, error) bool) {
		request := &sidecarv1.ListOutboxRequest{PeerId: chosen.peerID, Protocol: chosen.protocol, PageSize: 1000}
		for {
			var response sidecarv1.ListOutboxResponse
			err := c.link.unary(ctx, sidecarv1.DurableService_ListOutbox_FullMethodName, request, &response, again)
			if err != nil {
				yield(OutboxMessage{}, err)
				return
			}
			for _, message := range response.GetMessages() {
				if !yield(outboxMessageOf(message), nil) {
					return
				}
			}
			if request.PageToken = response.GetNextPageToken(); request.PageToken == "" {
				return
			}
		}
	}
}

// Withdraw withdraws durable messages that the peer is not known to have; how many. They count as expired.
func (c *Client) Withdraw(ctx context.Context, peerID string, options ...WithdrawOption) (uint64, error) {
	var chosen callSettings
	for _, option := range options {
		option.withdraw(&chosen)
	}
	var response sidecarv1.WithdrawOutboxResponse
	request := &sidecarv1.WithdrawOutboxRequest{PeerId: peerID, Protocol: chosen.protocol}
	err := c.link.unary(ctx, sidecarv1.DurableService_WithdrawOutbox_FullMethodName, request, &response, again)
	return response.GetWithdrawn(), err
}

// Inbox gives the durable messages that wait for apps here, or the dead letters, the oldest first, asking for page after page.
func (c *Client) Inbox(ctx context.Context, options ...InboxOption) iter.Seq2[InboxMessage, error] {
	var chosen callSettings
	for _, option := range options {
		option.inbox(&chosen)
	}
	return func(yield func(InboxMessage, error) bool) {
		request := &sidecarv1.ListInboxRequest{
			DeadLetters: chosen.deadLetters, PeerId: chosen.peerID, Protocol: chosen.protocol, WithData: chosen.withData,
			PageSize: 1000,
		}
		for {
			var response sidecarv1.ListInboxResponse
			err := c.link.unary(ctx, sidecarv1.DurableService_ListInbox_FullMethodName, request, &response, again)
			if err != nil {
				yield(InboxMessage{}, err)
				return
			}
			for _, message := range response.GetMessages() {
				if !yield(inboxMessageOf(message), nil) {
					return
				}
			}
			if request.PageToken = response.GetNextPageToken(); request.PageToken == "" {
				return
			}
		}
	}
}

// RetryDeadLetters delivers dead letters again: those with these ids, or all; how many. Their senders hear nothing more.
func (c *Client) RetryDeadLetters(ctx context.Context, ids []uint64, options ...DeadLettersOption) (uint64, error) {
	var response sidecarv1.RetryDeadLettersResponse
	request := &sidecarv1.RetryDeadLettersRequest{Ids: ids, Protocol: ofDeadLetters(options)}
	err := c.link.unary(ctx, sidecarv1.DurableService_RetryDeadLetters_FullMethodName, request, &response, again)
	return response.GetRetried(), err
}

// PurgeDeadLetters deletes dead letters: those with these ids, or all; how many.
func (c *Client) PurgeDeadLetters(ctx context.Context, ids []uint64, options ...DeadLettersOption) (uint64, error) {
	var response sidecarv1.PurgeDeadLettersResponse
	request := &sidecarv1.PurgeDeadLettersRequest{Ids: ids, Protocol: ofDeadLetters(options)}
	err := c.link.unary(ctx, sidecarv1.DurableService_PurgeDeadLetters_FullMethodName, request, &response, again)
	return response.GetPurged(), err
}

func ofDeadLetters(options []DeadLettersOption) string {
	var chosen callSettings
	for _, option := range options {
		option.deadLetter(&chosen)
	}
	return chosen.protocol
}

// behind is the id of the message that is so many places behind this one.
func (m MessageID) behind(count uint64) MessageID {
	if m.Sequence != 0 && m.Sequence <= math.MaxUint64-count {
		m.Sequence += count
	}
	return m
}
