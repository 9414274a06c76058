package sidecar

import (
	"strings"
	"time"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// MessageID is how both ends name a durable message, beside sender, receiver and protocol. Sequences begin at 1 and have no
// gaps.
type MessageID struct {
	Incarnation uint64
	Sequence    uint64
}

// DurableOutcome says what became of a durable message.
type DurableOutcome int32

// What can become of a durable message.
const (
	DurableUnspecified = DurableOutcome(sidecarv1.DurableOutcome_DURABLE_OUTCOME_UNSPECIFIED)
	// DurableDone: the peer's app acknowledged it.
	DurableDone = DurableOutcome(sidecarv1.DurableOutcome_DURABLE_OUTCOME_DONE)
	// DurableRejected: the peer's app rejected it.
	DurableRejected = DurableOutcome(sidecarv1.DurableOutcome_DURABLE_OUTCOME_REJECTED)
	// DurableExpired: its time was over before it was settled, or it was withdrawn.
	DurableExpired = DurableOutcome(sidecarv1.DurableOutcome_DURABLE_OUTCOME_EXPIRED)
	// DurableDeadLetter: it was delivered too often without being settled.
	DurableDeadLetter = DurableOutcome(sidecarv1.DurableOutcome_DURABLE_OUTCOME_DEAD_LETTER)
)

// String is the API's name without its prefix: DONE.
func (o DurableOutcome) String() string {
	return strings.TrimPrefix(sidecarv1.DurableOutcome(o).String(), "DURABLE_OUTCOME_")
}

// OutboxEvent says what became of a durable message.
type OutboxEvent struct {
	// Cursor goes on behind this event: see [WithOutboxCursor].
	Cursor    uint64
	PeerID    string
	Protocol  string
	MessageID MessageID
	// RequestID is the one that it was sent with.
	RequestID string
	Outcome   DurableOutcome
	// Reason is a sentence, where there is one.
	Reason string
	// Time is when this sidecar learned it.
	Time time.Time
}

// OutboxMessage is a durable message that waits for its peer.
type OutboxMessage struct {
	PeerID    string
	Protocol  string
	MessageID MessageID
	RequestID string
	// Size is how many bytes its payload has.
	Size    uint64
	Created time.Time
	Expires time.Time
	// Held says that the peer's sidecar has it on its disk.
	Held bool
}

// InboxMessage is a durable message that waits for an app here, or a dead letter.
type InboxMessage struct {
	// ID is its number here: that of [DurableMessage].
	ID        uint64
	PeerID    string
	Protocol  string
	MessageID MessageID
	Size      uint64
	// Attempts is how often it was delivered.
	Attempts uint32
	Received time.Time
	Expires  time.Time
	// Data is the payload, where it was asked for.
	Data []byte
	// Reason says why it is a dead letter.
	Reason string
}

func messageIDOf(message *sidecarv1.MessageId) MessageID {
	return MessageID{message.GetIncarnation(), message.GetSequence()}
}

func outboxEventOf(message *sidecarv1.OutboxEvent) OutboxEvent {
	return OutboxEvent{
		Cursor:    message.GetCursor(),
		PeerID:    message.GetPeerId(),
		Protocol:  message.GetProtocol(),
		MessageID: messageIDOf(message.GetMessageId()),
		RequestID: message.GetRequestId(),
		Outcome:   DurableOutcome(message.GetOutcome()),
		Reason:    message.GetReason(),
		Time:      moment(message.GetTime()),
	}
}

func outboxMessageOf(message *sidecarv1.OutboxMessage) OutboxMessage {
	return OutboxMessage{
		PeerID:    message.GetPeerId(),
		Protocol:  message.GetProtocol(),
		MessageID: messageIDOf(message.GetMessageId()),
		RequestID: message.GetRequestId(),
		Size:      message.GetSize(),
		Created:   moment(message.GetCreated()),
		Expires:   moment(message.GetExpires()),
		Held:      message.GetHeld(),
	}
}

func inboxMessageOf(message *sidecarv1.InboxMessage) InboxMessage {
	return InboxMessage{
		ID:        message.GetId(),
		PeerID:    message.GetPeerId(),
		Protocol:  message.GetProtocol(),
		MessageID: messageIDOf(message.GetMessageId()),
		Size:      message.GetSize(),
		Attempts:  message.GetAttempts(),
		Received:  moment(message.GetReceived()),
		Expires:   moment(message.GetExpires()),
		Data:      message.GetData(),
		Reason:    message.GetReason(),
	}
}
