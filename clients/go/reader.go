package sidecar

import (
	"context"
	"errors"
	"iter"
	"net"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
)

// Event is a message, or what was missed just before the next one.
type Event[M any] struct {
	// Message is set where Lagged is nil.
	Message M
	// Lagged tells what was missed.
	Lagged *Lagged
}

// reader gives the messages of a feed: what subscriptions and receivers have in common.
type reader[M any] struct {
	feed   feed
	parse  func(raw []byte, message *M) error
	data   protowire.Number     // the field of a message's payload
	lost   func() *Lagged       // what to tell when a lost feed is in force again; nil: nothing
	keep   func(found *split)   // told of every response; may be nil
	told   func(cursor []byte)  // of the cursor behind what was missed, when the app is told of that; may be nil
	gave   func(message []byte) // told of each message that the app is given, or the last one of a batch; may be nil
	batch  *Batch[M]            // in hand, not given in full yet
	begun  bool                 // whether it has been given in part: its Lagged at least
	rest   []byte               // its messages that have not been given
	coming chan error           // of a batch that is fetched in the background: what is below feed is its own until it tells
	missed atomic.Uint64
}

func (r *reader[M]) messages() iter.Seq2[M, error] {
	return func(yield func(M, error) bool) {
		for event, err := range r.events() {
			if event.Lagged != nil {
				r.feed.link.logger.Warn(event.Lagged.String(), "stream", r.feed.name)
			} else if !yield(event.Message, err) {
				return
			}
		}
	}
}

func (r *reader[M]) events() iter.Seq2[Event[M], error] {
	return func(yield func(Event[M], error) bool) {
		event := new(Event[M]) // one for all: parse sets every field
		done := r.feed.ctx.Done()
		for {
			if r.coming != nil || r.batch == nil {
				if err := r.await(); err != nil {
					if !errors.Is(err, errFeedClosed) {
						yield(Event[M]{}, err)
					}
					return
				}
			}
			if !r.begun {
				r.begun = true
				if lagged := r.batch.lagged; lagged != nil {
					r.tellOf(r.batch)
					if !yield(Event[M]{Lagged: lagged}, nil) {
						return
					}
				}
			}
			for raw, rest := nextMessage(r.rest); raw != nil; raw, rest = nextMessage(rest) {
				r.rest = rest
				if err := r.parse(raw, &event.Message); err != nil {
					yield(Event[M]{}, err)
					return
				}
				if r.gave != nil {
					r.gave(raw)
				}
				if !yield(*event, nil) {
					return
				}
				select {
				case <-done: // closed or cancelled: the rest is not given
					rest = nil
				default:
				}
			}
			r.batch = nil
		}
	}
}

func (r *reader[M]) batches() iter.Seq2[*Batch[M], error] {
	return func(yield func(*Batch[M], error) bool) {
		for {
			if r.coming != nil || r.batch == nil {
				if err := r.await(); err != nil {
					if !errors.Is(err, errFeedClosed) {
						yield(nil, err)
					}
					return
				}
			}
			batch := r.batch
			r.batch = nil
			if r.begun { // what Messages, Events or Next have left of it
				if batch = batch.from(r.rest); batch.count == 0 {
					continue
				}
			}
			if !r.begun && batch.lagged != nil {
				r.tellOf(batch)
			}
			if r.gave != nil && batch.count > 0 {
				r.gave(batch.last)
			}
			if !yield(batch, nil) {
				return
			}
		}
	}
}

// next gives one event. When ctx ends first nothing is lost: what comes then is given by whoever reads next.
func (r *reader[M]) next(ctx context.Context) (event Event[M], _ error) {
	for {
		if ctx.Err() != nil {
			return event, ofContext(ctx, r.feed.name)
		}
		if r.coming != nil || r.batch == nil {
			if err := r.awaitWithin(ctx); errors.Is(err, errFeedClosed) {
				failure := newError(ErrClosed, "%s was ended here", r.feed.name)
				failure.cause = net.ErrClosed
				return event, failure
			} else if err != nil {
				return event, err
			}
		}
		if !r.begun {
			if r.begun = true; r.batch.lagged != nil {
				r.tellOf(r.batch)
				return Event[M]{Lagged: r.batch.lagged}, nil
			}
		}
		raw, rest := nextMessage(r.rest)
		if raw != nil {
			r.rest = rest
			err := r.parse(raw, &event.Message)
			if err == nil && r.gave != nil {
				r.gave(raw)
			}
			return event, err
		}
		r.batch = nil
	}
}

// tellOf notes that the app is told what was missed before a batch.
func (r *reader[M]) tellOf(batch *Batch[M]) {
	if r.told != nil {
		r.told(batch.cursor)
	}
}

// await has a batch in hand; it takes as long as that takes.
func (r *reader[M]) await() error {
	if r.coming == nil {
		return r.fetch()
	}
	err := <-r.coming
	r.coming = nil
	return err
}

// awaitWithin is await until ctx ends; the batch is fetched all the same.
func (r *reader[M]) awaitWithin(ctx context.Context) error {
	if r.coming == nil {
		coming := make(chan error, 1)
		if !r.feed.link.spawn(func() { coming <- r.fetch() }) {
			return r.feed.link.closedError()
		}
		r.coming = coming
	}
	select {
	case err := <-r.coming:
		r.coming = nil
		return err
	case <-ctx.Done():
		return ofContext(ctx, r.feed.name)
	}
}

// fetch has a batch in hand that says something.
func (r *reader[M]) fetch() error {
	r.batch = nil
	for r.batch == nil {
		var response encoded
		again, err := r.feed.next(&response)
		switch {
		case err != nil:
			return err
		case !again:
			if err := r.take(response); err != nil {
				return err
			}
		case r.lost != nil:
			r.hold(split{lagged: r.lost()})
		} // else the new call's first response may have been taken when it was opened
	}
	return nil
}

// take has a response in hand, unless it says nothing but where the stream stands.
func (r *reader[M]) take(raw encoded) error {
	found, err := splitResponse(raw)
	if err != nil {
		return err
	}
	if r.keep != nil {
		r.keep(&found)
	}
	if found.lagged != nil {
		r.missed.Add(found.lagged.Missed)
	}
	if found.count > 0 || found.lagged != nil {
		r.hold(found)
	}
	return nil
}

func (r *reader[M]) hold(found split) {
	r.batch = &Batch[M]{split: found, parse: r.parse, data: r.data}
	r.begun, r.rest = false, found.raw
}
