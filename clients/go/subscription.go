package sidecar

import (
	"bytes"
	"context"
	"iter"
	"strings"
	"sync"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// Subscription gives the messages of topics, in order. It outlives the sidecar's restarts and continues where it was.
//
// One goroutine at a time reads it, by Messages, Events, Batches or Next; a loop may be broken off and taken up again.
// Nothing is read ahead but the batch in hand, so a reader that is slow makes the sidecar queue, then drop by the policy,
// and tell.
type Subscription struct {
	reader  reader[Message]
	request *sidecarv1.SubscribeRequest
	names   topicNames

	mu     sync.Mutex
	given  []byte // the last message that the app has been given, encoded
	cursor []byte // where the stream stands while it has been given none behind that
}

// Subscribe subscribes to topics, 1 to 64. It returns when the subscription is in force at the sidecar: what its apps
// publish from then on arrives, and what others publish once they have heard of it. Nothing older comes without a start
// ([WithCursor], [WithStartTime], [FromBeginning]), nor again after a restart of the sidecar. Messages of one publisher
// come in its order, but for those that were lost on their way and fetched again. ctx holds for its whole life.
func (c *Client) Subscribe(ctx context.Context, topics []string, options ...SubscribeOption) (*Subscription, error) {
	var chosen callSettings
	for _, option := range options {
		option.subscribe(&chosen)
	}
	made := &Subscription{request: &sidecarv1.SubscribeRequest{
		Topics:        topics,
		Cursor:        bytes.Clone(chosen.cursor),
		Policy:        sidecarv1.OverflowPolicy(chosen.policy),
		QueueMessages: chosen.queueMessages,
		QueueBytes:    chosen.queueBytes,
		Signing:       sidecarv1.Signing(chosen.signing),
		SkipLocal:     chosen.skipLocal,
		ExpectedRate:  chosen.expectedRate,
		FromBeginning: chosen.fromBeginning,
	}}
	if !chosen.startTime.IsZero() {
		made.request.StartTime = timestamppb.New(chosen.startTime)
	}
	made.cursor = made.request.Cursor
	made.reader.parse, made.reader.data = made.names.parse, messageData
	made.reader.keep, made.reader.told, made.reader.gave = made.keep, made.stand, made.gave
	made.reader.feed = feed{
		link:    c.link,
		name:    "subscription to " + strings.Join(topics, ", "),
		method:  sidecarv1.PubSubService_Subscribe_FullMethodName,
		desc:    serverStreamCall,
		first:   func() any { return made.request },
		greeted: made.reader.take,
	}
	if err := made.reader.feed.start(ctx); err != nil {
		return nil, err
	}
	return made, nil
}

// Messages gives the messages. What was missed is logged, and counted by Missed. It ends without an error when the
// subscription is closed; an error is the last thing that it gives.
func (s *Subscription) Messages() iter.Seq2[Message, error] { return s.reader.messages() }

// Events gives the messages, and what was missed between them. It ends as Messages does.
func (s *Subscription) Events() iter.Seq2[Event[Message], error] { return s.reader.events() }

// Batches gives whole batches, valid for as long as they are held: the fastest way. It ends as Messages does. Of a batch
// that Messages, Events or Next have begun it gives the rest.
func (s *Subscription) Batches() iter.Seq2[*Batch[Message], error] { return s.reader.batches() }

// Next waits for the next message, or for what was missed before it, until ctx ends. That does not end the subscription, and
// loses nothing: what comes meanwhile is given by whatever reads next. ErrClosed (also net.ErrClosed) once it is closed.
func (s *Subscription) Next(ctx context.Context) (Event[Message], error) { return s.reader.next(ctx) }

// Cursor is behind the last message that has been given, with Batches behind the last batch: [WithCursor] continues there,
// also in another run of the app. So an app that keeps it once it has dealt with what it was given misses nothing, whatever
// it has read ahead. Before the first message it is where the subscription began.
func (s *Subscription) Cursor() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cursor := fieldOf(s.given, messageCursor); len(cursor) > 0 {
		return bytes.Clone(cursor)
	}
	return bytes.Clone(s.cursor)
}

// Missed is how many messages were missed so far, as far as their number is known.
func (s *Subscription) Missed() uint64 { return s.reader.missed.Load() }

// Close ends the subscription; a loop that reads it ends. It may be called at any time, from any goroutine.
func (s *Subscription) Close() error {
	s.reader.feed.close()
	return nil
}

// keep remembers where the call stands, so that a connection lost from now on is continued from here: what has arrived
// and has not been given is in hand.
func (s *Subscription) keep(found *split) {
	cursor := found.cursor
	if found.count > 0 {
		cursor = fieldOf(found.last, messageCursor)
	}
	if len(cursor) > 0 {
		s.request.Cursor = bytes.Clone(cursor) // not to hold the batch
		s.request.StartTime, s.request.FromBeginning = nil, false
	}
	if found.lagged == nil { // else once the app has been told
		s.stand(found.cursor)
	}
}

// stand is told where the stream stands, before the messages that follow.
func (s *Subscription) stand(cursor []byte) {
	if len(cursor) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given, s.cursor = nil, bytes.Clone(cursor)
}

// gave is told which message the app is given now.
func (s *Subscription) gave(message []byte) {
	s.mu.Lock()
	s.given = message
	s.mu.Unlock()
}
