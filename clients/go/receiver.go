package sidecar

import (
	"context"
	"iter"
	"strings"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// Receiver gives direct messages of some protocols, in order of arrival. It outlives the sidecar's restarts; after a lost
// connection it says so by a Lagged with the reason LagReconnected, since what came meanwhile is lost. It is read as a
// [Subscription] is.
type Receiver struct {
	reader reader[DirectMessage]
	names  directNames
}

// Receive receives direct messages of some protocols, 1 to 64. It returns when it is in force. ctx holds for its whole
// life.
func (c *Client) Receive(ctx context.Context, protocols []string, options ...ReceiveOption) (*Receiver, error) {
	var chosen callSettings
	for _, option := range options {
		option.receive(&chosen)
	}
	request := &sidecarv1.ReceiveRequest{Protocols: protocols, QueueMessages: chosen.queueMessages}
	made := &Receiver{}
	made.reader.parse, made.reader.data = made.names.parse, directData
	made.reader.lost = func() *Lagged { return &Lagged{Reason: LagReconnected} }
	made.reader.feed = feed{
		link:   c.link,
		name:   "receiving " + strings.Join(protocols, ", "),
		method: sidecarv1.DirectService_Receive_FullMethodName,
		desc:   serverStreamCall,
		first:  func() any { return request },
	}
	if err := made.reader.feed.start(ctx); err != nil {
		return nil, err
	}
	return made, nil
}

// Messages gives the messages. What was missed is logged, and counted by Missed. It ends without an error when the
// receiver is closed; an error is the last thing that it gives.
func (r *Receiver) Messages() iter.Seq2[DirectMessage, error] { return r.reader.messages() }

// Events gives the messages, and what was missed between them. It ends as Messages does.
func (r *Receiver) Events() iter.Seq2[Event[DirectMessage], error] { return r.reader.events() }

// Batches gives whole batches, valid for as long as they are held: the fastest way. It ends as Messages does. Of a batch
// that Messages, Events or Next have begun it gives the rest.
func (r *Receiver) Batches() iter.Seq2[*Batch[DirectMessage], error] { return r.reader.batches() }

// Next waits for the next message, or for what was missed before it, until ctx ends. That does not end the receiver, and
// loses nothing: what comes meanwhile is given by whatever reads next. ErrClosed (also net.ErrClosed) once it is closed.
func (r *Receiver) Next(ctx context.Context) (Event[DirectMessage], error) { return r.reader.next(ctx) }

// Missed is how many messages were missed so far, as far as their number is known.
func (r *Receiver) Missed() uint64 { return r.reader.missed.Load() }

// Close ends the receiver; a loop that reads it ends. It may be called at any time, from any goroutine.
func (r *Receiver) Close() error {
	r.reader.feed.close()
	return nil
}
